// SPDX-License-Identifier: MIT
//
// Waits: threads that do not run. A part of profile.bpf.c, which includes it once it has `take`.

#ifndef FIBERSCOPE_COLLECTOR_BPF_WAITS_BPF_H
#define FIBERSCOPE_COLLECTOR_BPF_WAITS_BPF_H

struct wait {                // a thread's
    uint64_t since;          // 0: it runs
    uint64_t runnable_since; // 0: it waits
    uint64_t key;            // 0: not counted
};

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 1); // programs.c
    __type(key, uint32_t);  // thread id
    __type(value, struct wait);
} waiting SEC(".maps");

#define TASK_EXITING 0x4 // PF_EXITING

// A thread leaves its processor: its stack is that of the wait, which counts when it is over.
static __always_inline void wait_begins(void *ctx, struct task_struct *task, bool could_run,
                                        uint64_t now)
{
    struct sample m = {.ctx = ctx, .task = task, .in_kernel = true};
    struct wait wait = {.since = now, .runnable_since = could_run ? now : 0};
    uint32_t slot, tid = (uint32_t)task->pid;
    // One that ends does not come back.
    if (counted_until_ns || !is_watched(task, &slot) || task->flags & TASK_EXITING ||
        (config.offcpu > 1 && bpf_get_prandom_u32() % config.offcpu))
        return;
    // It may be woken while its stack is walked.
    struct wait *w = bpf_map_lookup_elem(&waiting, &tid);
    if (w) {
        *w = wait;
    } else if (bpf_map_update_elem(&waiting, &tid, &wait, 0) ||
               !(w = bpf_map_lookup_elem(&waiting, &tid))) {
        COUNT_LOSS(waits);
        return;
    }
    struct scratch *s = scratch_take();
    if (!s)
        return;
    m.kind = could_run ? BPF_SAMPLE_PREEMPTED : BPF_SAMPLE_OFFCPU;
    w->key = take(s, &m, slot);
    scratch_give(s);
}

static __always_inline bool add_wait(void *sums, uint64_t key, const struct bpf_sum *sum)
{
    return add_to(sums, key, sum) || !bpf_map_update_elem(sums, &key, sum, BPF_NOEXIST_) ||
           add_to(sums, key, sum);
}

static __always_inline void wait_ends(const struct task_struct *task, uint64_t now)
{
    uint32_t tid = (uint32_t)task->pid;
    struct wait *w = bpf_map_lookup_elem(&waiting, &tid);
    if (!w || !w->since)
        return;
    uint64_t key = w->key, runnable = w->runnable_since;
    struct bpf_sum sum = {
        .count = config.offcpu,
        .ns = counted_ns(w->since, now) * config.offcpu,
        .runnable_ns = runnable ? counted_ns(runnable, now) * config.offcpu : 0,
    };
    *w = (struct wait){0};
    if (key && sum.ns && !(bank ? add_wait(&sums_1, key, &sum) : add_wait(&sums_0, key, &sum)))
        COUNT_LOSS(waits);
}

SEC("tp_btf/sched_switch")
int BPF_PROG(switch_tasks, bool preempt, struct task_struct *prev, struct task_struct *next)
{
    uint64_t now = bpf_ktime_get_ns();
    wait_ends(next, now);
    wait_begins(ctx, prev, preempt || prev->__state == 0, now);
    return 0;
}

// --- Who wakes.

// How many of the frames are the interrupt's that woke; 0: it was none.
__attribute__((noinline)) uint32_t interrupt_depth(struct scratch *s, uint32_t depth)
{
    if (!s)
        return 0;
    for (uint32_t i = 0; i < BPF_KERNEL_DEPTH_MAX; i++) {
        uint32_t at = i;
        SEEN_BY_VERIFIER(at);
        if (i >= depth || at >= BPF_KERNEL_DEPTH_MAX)
            break;
        if (s->pcs[at] - config.interrupts < config.interrupts_end - config.interrupts)
            return at + 1;
    }
    return 0;
}

static __always_inline void take_waker(void *ctx, const struct task_struct *woken, uint64_t ns)
{
    struct sample m = {.ctx = ctx, .kind = BPF_SAMPLE_WAKEUP, .in_kernel = true};
    uint32_t slot = 0;
    m.task = bpf_get_current_task_btf();
    m.slot = slot_at(0);
    if (!m.slot)
        return;
    m.sum.count = 1;
    m.sum.ns = ns;
    m.object = (uint32_t)woken->pid;
    m.woken = woken;
    struct scratch *s = scratch_take();
    if (!s)
        return;
    uint32_t depth = kernel_stack(&m, s->pcs), interrupt = interrupt_depth(s, depth);
    m.is_interrupt = interrupt != 0;
    if (!interrupt && is_watched(m.task, &slot)) {
        take(s, &m, slot);
    } else { // whoever was interrupted has nothing to do with it
        s->walk.depth = s->walk.generation = 0;
        s->walk.hash = 0;
        s->walk.why = BPF_END_ROOT;
        count(s, &m, interrupt ? interrupt : depth);
    }
    scratch_give(s);
}

// From now on it waits for a processor alone. Who is woken may be about to leave its own, or be there: then it does not wait.
SEC("tp_btf/sched_waking")
int BPF_PROG(wake, struct task_struct *task)
{
    uint32_t tid = (uint32_t)task->pid;
    struct wait *w = bpf_map_lookup_elem(&waiting, &tid);
    if (!w || !w->since || w->runnable_since)
        return 0;
    uint64_t now = bpf_ktime_get_ns();
    w->runnable_since = now;
    if (config.wakeups && is_counting())
        take_waker(ctx, task, counted_ns(w->since, now));
    return 0;
}

// --- Who waits already.

struct bpf_iter_meta {
    struct seq_file *seq;
} __attribute__((preserve_access_index));

struct bpf_iter__task {
    struct bpf_iter_meta *meta;
    struct task_struct *task;
} __attribute__((preserve_access_index));

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, uint32_t);
    __type(value, struct copy_scratch);
} early SEC(".maps");

static __always_inline bool is_watched_other(const struct task_struct *task)
{
    uint32_t pid = (uint32_t)task->tgid;
    return task->mm && pid != config.self && !(task->flags & TASK_EXITING) && task->__state &&
           (config.filter == BPF_FILTER_ALL || bpf_map_lookup_elem(&targets, &pid));
}

static __always_inline uint32_t copy_stack_of(struct copy_scratch *c, uint64_t rsp,
                                              struct task_struct *task)
{
    uint32_t done = 0, want = config.stack_copy, at = 8 * c->copy.kernel_depth;
    for (int i = 0; i <= BPF_STACK_COPY_MAX / UNWIND_PAGE_BYTES && done < want; i++) {
        uint32_t n = UNWIND_PAGE_BYTES - (uint32_t)(rsp + done) % UNWIND_PAGE_BYTES;
        uint32_t to = at + done;
        n = n > want - done ? want - done : n;
        SEEN_BY_VERIFIER(n);
        SEEN_BY_VERIFIER(to);
        if (n > UNWIND_PAGE_BYTES || to > 8 * BPF_KERNEL_DEPTH_MAX + BPF_STACK_COPY_MAX ||
            bpf_copy_from_user_task(c->bytes + to, n, (const void *)(rsp + done), task, 0))
            break;
        done += n;
    }
    return done;
}

static __always_inline uint32_t fill_early(struct copy_scratch *c, struct task_struct *task)
{
    const struct pt_regs *regs = (const struct pt_regs *)bpf_task_pt_regs(task);
    fill_head(&c->copy.head, BPF_RECORD_WAITING, task);
    c->copy.key = mix(c->copy.head.time_ns, c->copy.head.tid) | 1;
    c->copy.sum = (struct bpf_sum){0};
    c->copy.kind = BPF_SAMPLE_OFFCPU;
    bpf_probe_read_kernel(c->copy.comm, sizeof c->copy.comm, task->comm);
    copy_registers(&c->copy, regs);
    long kernel = bpf_get_task_stack(task, c->bytes, 8 * BPF_KERNEL_DEPTH_MAX, 0);
    uint32_t depth = kernel < 0 || kernel > 8 * BPF_KERNEL_DEPTH_MAX ? 0 : (uint32_t)kernel / 8;
    c->copy.kernel_depth = depth;
    uint32_t bytes = copy_stack_of(c, regs->sp, task);
    c->copy.stack_bytes = bytes;
    uint32_t size = sizeof c->copy + 8 * depth + bytes;
    c->copy.head.size = size;
    return size;
}

// Each thread that waits as recording begins: nobody saw it leave its processor. Read as a file (programs.c).
SEC("iter.s/task")
int waiting_tasks(struct bpf_iter__task *ctx)
{
    struct task_struct *task = ctx->task;
    uint32_t zero = 0;
    struct wait wait = {.since = bpf_ktime_get_ns()};
    struct copy_scratch *c = bpf_map_lookup_elem(&early, &zero);
    if (!task || !c || !is_watched_other(task) ||
        (config.offcpu > 1 && bpf_get_prandom_u32() % config.offcpu))
        return 0;
    uint32_t tid = (uint32_t)task->pid;
    if (bpf_map_update_elem(&waiting, &tid, &wait, BPF_NOEXIST_))
        return 0; // seen since, or no room: then the next one to wait says so
    uint32_t size = fill_early(c, task);
    SEEN_BY_VERIFIER(size);
    if (size > sizeof *c || bpf_seq_write(ctx->meta->seq, c, size)) {
        bpf_map_delete_elem(
            &waiting, &tid); // the reader takes what there is, and then it is this one's turn again
        return 0;
    }
    struct wait *w = bpf_map_lookup_elem(&waiting, &tid);
    if (w && w->since == wait.since) // else it ran meanwhile
        w->key = c->copy.key;
    return 0;
}

#endif
