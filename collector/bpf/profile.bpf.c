// SPDX-License-Identifier: MIT
//
// Samples of what runs, from outside: user and kernel stacks, the fiber, and who begins and ends. layout.h says how
// stacks are found and how samples are counted; programs.c loads this.

#include "collector/bpf/fiber.bpf.h"

// For bpf_tracing.h: whose registers, and that they have the kernel's names (kernel_types.h).
#define __TARGET_ARCH_x86 // NOLINT(bugprone-reserved-identifier)
#define __VMLINUX_H__     // NOLINT(bugprone-reserved-identifier)

#include <bpf/bpf_tracing.h>

#define BPF_NOEXIST_ 1 // BPF_NOEXIST, whose enum is 64 bits wide
#define SUMS_MAX     65536

// Of each CPU: programs of uprobes may give way to other threads', and all to an interrupt's.
enum { SCRATCHES = 3 };

const volatile struct bpf_config config;
uint32_t bank; // which of the two sums is filled
// What is counted: from then on (all bits: nothing yet), and until then (0: no end).
uint64_t counted_since_ns, counted_until_ns;

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 4 * BPF_SLOTS_MAX);
    __type(key, uint32_t); // thread group id
    __type(value, uint32_t);
} targets SEC(".maps");

struct sums {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, SUMS_MAX);
    __type(key, uint64_t);
    __type(value, struct bpf_sum);
} sums_0 SEC(".maps"), sums_1 SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 1 << 22);
} ring SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, uint32_t);
    __type(value, struct bpf_losses);
} losses SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, SCRATCHES);
    __type(key, uint32_t);
    __type(value, struct scratch);
} scratches SEC(".maps");

struct copy_scratch {
    struct bpf_copy copy;
    // The kernel's pcs, then the stack; read a page at a time.
    uint8_t bytes[8 * BPF_KERNEL_DEPTH_MAX + BPF_STACK_COPY_MAX + UNWIND_PAGE_BYTES];
};

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, SCRATCHES);
    __type(key, uint32_t);
    __type(value, struct copy_scratch);
} copies SEC(".maps");

struct sample { // one that is being taken
    void *ctx;
    struct task_struct *task;
    const struct bpf_slot *slot;
    struct fiber fiber;
    struct bpf_sum sum;
    uint64_t object;                 // struct bpf_stack's
    const struct task_struct *woken; // of BPF_SAMPLE_WAKEUP
    uint32_t kind, hint;
    bool in_kernel, is_interrupt;
};

// --- Odds and ends.

// Keeps the compiler from knowing a number, so that the comparison that the verifier must see stays, on the very register
// that is used.
#define SEEN_BY_VERIFIER(x) __asm__ volatile("" : "+r"(x))

static __always_inline uint64_t mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * WALK_MIX;
    return hash ^ hash >> 32;
}

static __always_inline bool is_counting(void)
{
    return counted_since_ns != ~0ull && !counted_until_ns;
}

// How much of the time from `from` to `to` counts.
static __always_inline uint64_t counted_ns(uint64_t from, uint64_t to)
{
    uint64_t since = counted_since_ns, until = counted_until_ns;
    from = from > since ? from : since;
    to = until && to > until ? until : to;
    return to > from ? to - from : 0;
}

static __always_inline struct bpf_losses *losses_here(void)
{
    uint32_t zero = 0;
    return bpf_map_lookup_elem(&losses, &zero);
}

#define COUNT_LOSS(what)                                                                           \
    do {                                                                                           \
        struct bpf_losses *l_ = losses_here();                                                     \
        if (l_)                                                                                    \
            l_->what++;                                                                            \
    } while (0)

static __always_inline void count_lost_bytes(uint32_t kind, uint64_t bytes)
{
    struct bpf_losses *l = losses_here();
    if (l && kind == BPF_SAMPLE_RESIDENT)
        l->resident_bytes += bytes;
    else if (l && kind == BPF_SAMPLE_MAPPED)
        l->mapped_bytes += bytes;
}

static __always_inline struct scratch *scratch_take(void)
{
    for (uint32_t i = 0; i < SCRATCHES; i++) {
        uint32_t index = i;
        struct scratch *s = bpf_map_lookup_elem(&scratches, &index);
        if (s && !__sync_lock_test_and_set(&s->is_busy, 1)) {
            s->index = i;
            return s;
        }
    }
    COUNT_LOSS(busy);
    return 0;
}

static __always_inline void scratch_give(struct scratch *s)
{
    *(volatile uint32_t *)&s->is_busy = 0;
}

static __always_inline bool is_watched(const struct task_struct *task, uint32_t *slot)
{
    uint32_t pid = (uint32_t)task->tgid;
    if (!task->mm || pid == config.self)
        return false;
    uint32_t *known = bpf_map_lookup_elem(&targets, &pid);
    *slot = known ? *known : 0;
    if (config.filter == BPF_FILTER_TARGETS)
        return known != 0;
    return config.filter != BPF_FILTER_CGROUP ||
           bpf_get_current_ancestor_cgroup_id((int)config.cgroup_level) == config.cgroup_id;
}

static __always_inline void fill_head(struct bpf_head *head, uint32_t type,
                                      const struct task_struct *task)
{
    head->type = type;
    head->pid = (uint32_t)task->tgid;
    head->tid = (uint32_t)task->pid;
    head->time_ns = bpf_ktime_get_ns();
}

// The collector looks now and then; it is woken when the ring fills up.
static __always_inline int send(const void *record, uint32_t size, bool at_once)
{
    uint64_t flags = 0;
    if (!at_once)
        flags = bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) >
                        bpf_ringbuf_query(&ring, BPF_RB_RING_SIZE) / 4
                    ? BPF_RB_FORCE_WAKEUP
                    : BPF_RB_NO_WAKEUP;
    return (int)bpf_ringbuf_output(&ring, (void *)record, size, flags);
}

static __always_inline uint32_t kernel_stack(const struct sample *m, void *pcs)
{
    if (!m->in_kernel || !config.kernel_stacks)
        return 0;
    // A tracepoint's first two frames are this program and what runs it.
    uint64_t skip = m->kind == BPF_SAMPLE_CPU ? 0 : 2;
    long bytes = bpf_get_stack(m->ctx, pcs, 8 * BPF_KERNEL_DEPTH_MAX, skip);
    return bytes < 0 || bytes > 8 * BPF_KERNEL_DEPTH_MAX ? 0 : (uint32_t)bytes / 8;
}

// A wait's stack comes when it begins, an allocation's when it is called; what they count, when they are over.
static __always_inline bool is_told_early(uint32_t kind)
{
    return kind == BPF_SAMPLE_OFFCPU || kind == BPF_SAMPLE_PREEMPTED ||
           kind == BPF_SAMPLE_ALLOCATED;
}

// Contention is told apart by locks, and not by threads and fibers, memory by sizes: as the agent has it.
static __always_inline bool is_of_process(uint32_t kind)
{
    return kind >= BPF_SAMPLE_BLOCK;
}

static __always_inline void fill_peer(struct bpf_peer *peer, const struct task_struct *task)
{
    *peer = (struct bpf_peer){0};
    if (!task)
        return;
    peer->pid = (uint32_t)task->tgid;
    peer->tid = (uint32_t)task->pid;
    bpf_probe_read_kernel(peer->comm, sizeof peer->comm, task->comm);
}

// --- Copies.

static __always_inline void copy_registers(struct bpf_copy *c, const struct pt_regs *r)
{
    c->rip = r->ip;
    c->rbp = c->registers[6] = r->bp;
    c->rsp = c->registers[7] = r->sp;
    c->registers[0] = r->ax;
    c->registers[1] = r->dx;
    c->registers[2] = r->cx;
    c->registers[3] = r->bx;
    c->registers[4] = r->si;
    c->registers[5] = r->di;
    c->registers[8] = r->r8;
    c->registers[9] = r->r9;
    c->registers[10] = r->r10;
    c->registers[11] = r->r11;
    c->registers[12] = r->r12;
    c->registers[13] = r->r13;
    c->registers[14] = r->r14;
    c->registers[15] = r->r15;
    c->valid = 0xffff;
}

// The stack's bytes from rsp up, behind the kernel's pcs; how many. A page that is not there ends it.
__attribute__((noinline)) uint32_t copy_stack(struct copy_scratch *c, uint64_t rsp)
{
    uint32_t done = 0, want = config.stack_copy;
    if (!c)
        return 0;
    uint32_t at = 8 * c->copy.kernel_depth;
    for (int i = 0; i <= BPF_STACK_COPY_MAX / UNWIND_PAGE_BYTES && done < want; i++) {
        uint32_t n = UNWIND_PAGE_BYTES - (uint32_t)(rsp + done) % UNWIND_PAGE_BYTES;
        uint32_t to = at + done;
        n = n > want - done ? want - done : n;
        SEEN_BY_VERIFIER(n);
        SEEN_BY_VERIFIER(to);
        if (n > UNWIND_PAGE_BYTES || to > 8 * BPF_KERNEL_DEPTH_MAX + BPF_STACK_COPY_MAX ||
            bpf_probe_read_user(c->bytes + to, n, (const void *)(rsp + done)))
            break;
        done += n;
    }
    return done;
}

static __always_inline uint64_t send_copy(const struct scratch *s, const struct sample *m,
                                          const struct pt_regs *regs)
{
    uint32_t index = s->index;
    struct copy_scratch *c = bpf_map_lookup_elem(&copies, &index);
    if (!c)
        return 0;
    fill_head(&c->copy.head, BPF_RECORD_COPY, m->task);
    c->copy.key = is_told_early(m->kind) ? mix(c->copy.head.time_ns, c->copy.head.tid) | 1 : 0;
    c->copy.sum = m->sum;
    c->copy.object = m->object;
    fill_peer(&c->copy.peer, m->woken);
    c->copy.kind = m->kind;
    c->copy.hint = m->hint;
    bpf_get_current_comm(c->copy.comm, sizeof c->copy.comm);
    fiber_describe(&c->copy.fiber, &m->fiber, &m->slot->fibers);
    copy_registers(&c->copy, regs);
    uint32_t depth = kernel_stack(m, c->bytes);
    c->copy.kernel_depth = depth;
    uint32_t bytes = copy_stack(c, regs->sp);
    c->copy.stack_bytes = bytes;
    uint32_t size = sizeof c->copy + 8 * depth + bytes;
    c->copy.head.size = size;
    COUNT_LOSS(copies);
    SEEN_BY_VERIFIER(size);
    if (size > sizeof *c || send(c, size, true)) {
        COUNT_LOSS(ring);
        count_lost_bytes(m->kind, m->sum.ns);
        return 0;
    }
    return c->copy.key;
}

// --- Stacks.

// A function for the verifier, which would follow what comes after once for each depth.
__attribute__((noinline)) uint64_t mix_kernel(struct scratch *s, uint64_t hash, uint32_t depth)
{
    if (!s)
        return 0;
    for (uint32_t i = 0; i < BPF_KERNEL_DEPTH_MAX; i++) {
        uint32_t next = s->walk.depth + i;
        SEEN_BY_VERIFIER(next);
        if (i >= depth || next >= BPF_DEPTH_MAX + BPF_KERNEL_DEPTH_MAX)
            break;
        hash = mix(hash, s->pcs[next]);
    }
    return hash;
}

static __always_inline uint64_t key_of(struct scratch *s, const struct sample *m,
                                       uint32_t kernel_depth)
{
    uint64_t h = mix(config.seed ^ m->kind, s->walk.hash);
    if (!m->is_interrupt)
        h = mix(h, (uint64_t)(uint32_t)m->task->tgid << 32 |
                       (is_of_process(m->kind) ? 0 : (uint32_t)m->task->pid));
    h = mix(h, s->walk.generation | (uint64_t)(uint32_t)m->fiber.labels << 32);
    h = mix(h, is_of_process(m->kind) ? 0 : m->fiber.id);
    h = mix(h, m->object);
    if (kernel_depth)
        h = mix_kernel(s, h, kernel_depth);
    return h ? h : 1;
}

static __always_inline int send_stack(struct scratch *s, const struct sample *m, uint64_t key,
                                      uint32_t kernel_depth)
{
    struct bpf_stack *r = &s->stack;
    uint32_t depth = s->walk.depth;
    fill_head(&r->head, BPF_RECORD_STACK, m->task);
    r->key = key;
    r->sum = m->sum;
    fill_peer(&r->peer, m->woken);
    r->kind = m->kind;
    r->object = m->object;
    r->hint = m->hint;
    r->end = s->walk.why;
    r->user_depth = depth;
    r->kernel_depth = kernel_depth;
    bpf_get_current_comm(r->comm, sizeof r->comm);
    if (m->is_interrupt)
        r->head.pid = r->head.tid = 0;
    fiber_describe(&r->fiber, &m->fiber, &m->slot->fibers);
    uint32_t at = depth + kernel_depth;
    SEEN_BY_VERIFIER(at); // Linux 6.1 has lost what it knew of the two
    if (at > BPF_DEPTH_MAX + BPF_KERNEL_DEPTH_MAX)
        return -1;
    r->fiber.label_bytes = fiber_labels((uint8_t *)&s->pcs[at], &m->fiber, &m->slot->fibers);
    uint32_t size = sizeof *r + 8 * at + r->fiber.label_bytes;
    r->head.size = size;
    SEEN_BY_VERIFIER(size);
    if (size > sizeof *r + sizeof s->pcs + sizeof s->labels)
        return -1;
    return send(r, size, false);
}

static __always_inline bool add_to(void *sums, uint64_t key, const struct bpf_sum *more)
{
    struct bpf_sum *sum = bpf_map_lookup_elem(sums, &key);
    if (!sum)
        return false;
    __sync_fetch_and_add(&sum->count, more->count);
    __sync_fetch_and_add(&sum->ns, more->ns);
    if (more->runnable_ns)
        __sync_fetch_and_add(&sum->runnable_ns, more->runnable_ns);
    return true;
}

// Told before it is counted, so that no sum is without its record. Whether the key stands for it now.
static __always_inline bool add_new(struct scratch *s, void *sums, uint64_t key,
                                    const struct sample *m, uint32_t kernel_depth)
{
    if (send_stack(s, m, key, kernel_depth)) {
        COUNT_LOSS(ring);
        count_lost_bytes(m->kind, m->sum.ns);
        return false;
    }
    if (!key || !bpf_map_update_elem(sums, &key, &m->sum, BPF_NOEXIST_) ||
        add_to(sums, key, &m->sum))
        return key;
    if (!m->sum.count && !m->sum.ns) { // of a wait that begins there is nothing to be sent
        if (m->kind == BPF_SAMPLE_ALLOCATED)
            COUNT_LOSS(calls);
        else
            COUNT_LOSS(waits);
        return false;
    }
    COUNT_LOSS(sums);
    if (send_stack(s, m, 0, kernel_depth)) {
        COUNT_LOSS(ring);
        count_lost_bytes(m->kind, m->sum.ns);
    }
    return false;
}

static __always_inline uint64_t count(struct scratch *s, const struct sample *m,
                                      uint32_t kernel_depth)
{
    uint64_t key = config.compare ? 0 : key_of(s, m, kernel_depth);
    bool is_in;
    if (bank)
        is_in = (key && add_to(&sums_1, key, &m->sum)) || add_new(s, &sums_1, key, m, kernel_depth);
    else
        is_in = (key && add_to(&sums_0, key, &m->sum)) || add_new(s, &sums_0, key, m, kernel_depth);
    return is_in ? key : 0;
}

// Uprobes are in the first instruction of malloc's functions; a site's sample has the agent's rate.
static __always_inline bool is_at_entry(const struct sample *m)
{
    return m->kind == BPF_SAMPLE_ALLOCATED && !m->hint;
}

// Counts and tells, if it must be. The sample's key; 0: it has none.
static __always_inline uint64_t take(struct scratch *s, struct sample *m, uint32_t slot)
{
    const struct pt_regs *regs = (const struct pt_regs *)bpf_task_pt_regs(m->task);
    m->slot = slot_at(slot);
    // Who waits is known before: what of a wait counts is found when it is over.
    if (!m->slot ||
        (!is_counting() && m->kind != BPF_SAMPLE_OFFCPU && m->kind != BPF_SAMPLE_PREEMPTED))
        return 0;
    fiber_look(&m->fiber, m->task, &m->slot->fibers);
    s->walk.is_entry = is_at_entry(m);
    if (walk_user(s, regs, slot)) {
        COUNT_LOSS(torn);
        return send_copy(s, m, regs);
    }
    uint32_t depth = s->walk.depth;
    if (s->walk.why == BPF_END_UNKNOWN_CODE || depth > BPF_DEPTH_MAX)
        return send_copy(s, m, regs);
    if (config.compare)
        send_copy(s, m, regs);
    // Linux 6.1 has lost what it knew of it, where it had to be put away.
    uint32_t at = s->walk.depth;
    SEEN_BY_VERIFIER(at);
    if (at > BPF_DEPTH_MAX)
        return 0;
    return count(s, m, kernel_stack(m, &s->pcs[at]));
}

SEC("perf_event")
int sample_cpu(struct bpf_perf_event_data *ctx)
{
    struct sample m = {.ctx = ctx, .kind = BPF_SAMPLE_CPU, .sum.count = 1};
    uint32_t slot;
    m.task = bpf_get_current_task_btf();
    if (!is_watched(m.task, &slot))
        return 0;
    struct scratch *s = scratch_take();
    if (!s)
        return 0;
    m.sum.ns = config.cpu_ns;
    m.in_kernel = (int64_t)ctx->regs.ip < 0;
    take(s, &m, slot);
    scratch_give(s);
    return 0;
}

#include "collector/bpf/told.bpf.h"
#include "collector/bpf/waits.bpf.h"

#include "collector/bpf/futex.bpf.h"
#include "collector/bpf/memory.bpf.h"
#include "collector/bpf/heap.bpf.h"
#include "collector/bpf/sites.bpf.h"

// --- Processes.

static __always_inline void send_event(uint32_t type, const struct task_struct *task,
                                       uint32_t parent)
{
    struct bpf_task_event *e = bpf_ringbuf_reserve(&ring, sizeof *e, 0);
    if (!e) {
        COUNT_LOSS(events);
        return;
    }
    fill_head(&e->head, type, task);
    e->head.size = sizeof *e;
    e->parent = parent;
    e->reserved = 0;
    bpf_ringbuf_submit(e, 0);
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(process_fork, struct task_struct *parent, struct task_struct *child)
{
    uint32_t from = (uint32_t)parent->tgid, to = (uint32_t)child->tgid;
    uint32_t *slot = bpf_map_lookup_elem(&targets, &from);
    if (from != to) {
        told_no_longer(to); // what an earlier one of this number has left
        break_forks(from, to);
    }
    if (from == to || !slot || !config.inherit)
        return 0;
    uint32_t same = *slot;
    if (bpf_map_update_elem(&targets, &to, &same, 0))
        COUNT_LOSS(events);
    send_event(BPF_RECORD_FORK, child, from);
    return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(process_exec, struct task_struct *task, int old_tid)
{
    uint32_t pid = (uint32_t)task->tgid, none = 0, old = (uint32_t)old_tid;
    if (config.offcpu && old != pid)
        bpf_map_delete_elem(&waiting, &old);
    if (config.futex_locks && old != pid)
        futex_thread_ends(old);
    heap_executes(task);
    told_executes(pid);
    break_ends(pid);
    uint32_t *slot = bpf_map_lookup_elem(&targets, &pid);
    if (!slot)
        return 0;
    bpf_map_update_elem(&targets, &pid, &none, 0);
    send_event(BPF_RECORD_EXEC, task, 0);
    return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(process_exit, struct task_struct *task)
{
    uint32_t pid = (uint32_t)task->tgid, tid = (uint32_t)task->pid;
    if (config.offcpu)
        bpf_map_delete_elem(&waiting, &tid);
    if (config.futex_locks)
        futex_thread_ends(tid);
    if (config.heap_bytes)
        bpf_map_delete_elem(&allocations, &tid); // it ended in malloc
    if (task->signal->live.counter == 0) {
        told_no_longer(pid);
        break_ends(pid);
    }
    // The last two threads of a process may both see none left: who takes it out of `targets` tells.
    if (task->signal->live.counter == 0 && !bpf_map_delete_elem(&targets, &pid))
        send_event(BPF_RECORD_EXIT, task, 0);
    return 0;
}

char program_license[] SEC("license") = "Dual MIT/GPL";
