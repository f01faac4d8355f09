// SPDX-License-Identifier: MIT
//
// Allocations that are seen from outside, and what becomes of them: sampled, with their stacks, until they are freed. Part of
// profile.bpf.c. Two ways lead here: uprobes on the functions of malloc (--malloc), which see all, so that the choice
// is made here; and the sites of an agent that chooses itself (sites.bpf.h).
//
// What always holds
//   - An allocation counts when it is known to have succeeded; its stack is that of the call.
//   - A free adds to the sum of its allocation's stack under another key (BPF_KEY_FREED): who counts holds the allocation's.
//   - realloc is a free and an allocation. The old one is taken out of `lives` before, as another thread may get its address
//     at once, and put back if it fails.
//   - What `lives` has no room for is in what was allocated, and counts as freed at once.
//   - What the process has at its end is taken out by the collector (bpf_programs_forget): here it would hold up the exit.
//   - What it has as it executes another image is freed: the new one's blocks may come at once, at the same addresses.

#ifndef FIBERSCOPE_COLLECTOR_BPF_HEAP_BPF_H
#define FIBERSCOPE_COLLECTOR_BPF_HEAP_BPF_H

struct live_key {
    uint64_t address;
    uint32_t pid, reserved; // thread group id
};

struct live {
    uint64_t bytes, key; // of the sample
};

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 1); // programs.c
    __type(key, struct live_key);
    __type(value, struct live);
} lives SEC(".maps");

struct allocation {           // that has been called, and not returned
    uint64_t bytes, key;      // key 0: it is not sampled
    uint64_t old;             // realloc's
    struct live was;          // what was known of that; key 0: nothing
    uint64_t out;             // posix_memalign's
    uint32_t inner, reserved; // calls within it that have not returned
};

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 1); // programs.c
    __type(key, uint32_t);  // thread id
    __type(value, struct allocation);
} allocations SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, uint32_t);
    __type(value, uint64_t); // bytes up to the next sample
} countdowns SEC(".maps");

// --- What is sampled.

// The exponential distance to the next sampled byte, mean config.heap_bytes: -ln(u), of a u of 32 bits in fixed point.
static __always_inline uint64_t draw_distance(void)
{
    uint32_t u = bpf_get_prandom_u32() | 1;
    uint32_t top = 31;
    uint32_t v = u;
    for (int step = 16; step; step /= 2) { // the leading bit
        if (!(v >> (32 - step))) {
            v <<= step;
            top -= (uint32_t)step;
        }
    }
    uint64_t m = (uint64_t)(v & 0x7fffffff) >> 15; // the fraction behind it, 16 bits
    // log2(1 + m), within 0.001
    uint64_t log = m * (93249 - (m * (38148 - (m * 10435 >> 16)) >> 16)) >> 16;
    uint64_t bits = ((uint64_t)(32 - top) << 16) - log; // -log2(u / 2^32)
    uint64_t part = bits * 45426 >> 16;                 // times ln 2: -ln
    return (config.heap_bytes * part >> 16) + 1;
}

// An allocation is sampled if it holds a sampled byte, which a Poisson process chooses, as the agent does.
static __always_inline bool is_sampled(uint64_t bytes)
{
    uint32_t zero = 0;
    if (config.heap_bytes <= 1)
        return true;
    uint64_t *left = bpf_map_lookup_elem(&countdowns, &zero);
    if (!left)
        return false;
    if (!*left)
        *left = draw_distance();
    if (bytes < *left) {
        *left -= bytes;
        return false;
    }
    *left = draw_distance();
    return true;
}

// The lower bound of the size's class, an eighth of an octave, as the agent has it: samples of one entry are
// unsampled by their mean.
static __always_inline uint64_t size_class(uint64_t bytes)
{
    uint32_t shift = 0;
    uint64_t v = bytes;
    for (int step = 32; step; step /= 2)
        if (v >> (step + 4)) {
            v >>= step;
            shift += (uint32_t)step;
        }
    if (v >> 4)
        shift++;
    return bytes >> shift << shift;
}

// --- Counting.

static __always_inline bool count_heap(uint64_t key, uint64_t bytes)
{
    struct bpf_sum sum = {.count = 1, .ns = bytes};
    return bank ? add_wait(&sums_1, key, &sum) : add_wait(&sums_0, key, &sum);
}

// The stack at hand, told but not counted yet; 0: there is none.
static __always_inline uint64_t stack_of(void *ctx, struct task_struct *task, uint32_t slot,
                                         uint64_t object, uint32_t rate)
{
    struct sample m = {
        .ctx = ctx, .task = task, .kind = BPF_SAMPLE_ALLOCATED, .object = object, .hint = rate};
    struct scratch *s = scratch_take();
    if (!s)
        return 0;
    uint64_t key = take(s, &m, slot);
    scratch_give(s);
    return key;
}

// Takes it out of `lives`; key 0: it was not there.
static __always_inline struct live heap_take(const struct task_struct *task, uint64_t address)
{
    struct live_key at = {.address = address, .pid = (uint32_t)task->tgid};
    struct live *known = bpf_map_lookup_elem(&lives, &at), was = {0};
    if (!known)
        return was;
    was = *known;
    if (bpf_map_delete_elem(&lives, &at))
        was.key = 0; // another one was faster
    return was;
}

static __always_inline void count_freed(const struct live *was)
{
    if (was->key && !count_heap(was->key ^ BPF_KEY_FREED, was->bytes))
        COUNT_LOSS(calls);
}

static __always_inline void heap_allocated(const struct task_struct *task, uint64_t address,
                                           uint64_t bytes, uint64_t key)
{
    struct live_key at = {.address = address, .pid = (uint32_t)task->tgid};
    struct live live = {.bytes = bytes, .key = key};
    struct live was = heap_take(task, address);
    count_freed(&was); // whose free was not seen
    if (!count_heap(key, bytes)) {
        COUNT_LOSS(calls);
        return;
    }
    if (bpf_map_update_elem(&lives, &at, &live, BPF_NOEXIST_)) {
        COUNT_LOSS(lives);
        count_freed(&live);
    }
}

static long live_ends(const void *map, const struct live_key *at, const struct live *live,
                      const uint32_t *pid)
{
    struct live_key key = *at;
    struct live was = *live;
    if (key.pid == *pid && !bpf_map_delete_elem(&lives, &key))
        count_freed(&was);
    return 0;
}

static __always_inline void heap_executes(struct task_struct *task)
{
    uint32_t pid = (uint32_t)task->tgid, tid = (uint32_t)task->pid, slot;
    if (!config.heap_bytes && !(told_by_sites(task) & BPF_TOLD_HEAP))
        return;
    bpf_map_delete_elem(&allocations, &tid);
    if (is_watched(task, &slot))
        bpf_for_each_map_elem(&lives, live_ends, &pid, 0);
}

// --- The functions of malloc.

SEC("uprobe")
int allocation_begins(struct pt_regs *ctx)
{
    struct task_struct *task = bpf_get_current_task_btf();
    struct allocation a = {0};
    uint32_t slot, tid = (uint32_t)task->pid;
    if (!is_watched(task, &slot))
        return 0;
    // One that another one of them calls (realloc of nothing: malloc) is no allocation of the program's, and its
    // return address is no longer to be seen.
    struct allocation *outer = bpf_map_lookup_elem(&allocations, &tid);
    if (outer) {
        outer->inner++;
        return 0;
    }
    const struct pt_regs *regs = (const struct pt_regs *)bpf_task_pt_regs(task);
    uint64_t which = bpf_get_attach_cookie(ctx); // enum bpf_allocator
    switch (which) {
    case BPF_CALLOC: a.bytes = regs->di * regs->si; break;
    case BPF_REALLOC:
        a.bytes = regs->si;
        a.old = regs->di;
        a.was = heap_take(task, a.old);
        break;
    case BPF_ALIGNED: a.bytes = regs->si; break;
    case BPF_POSIX_MEMALIGN:
        a.bytes = regs->dx;
        a.out = regs->di;
        break;
    default: a.bytes = regs->di; break;
    }
    if ((!a.old || a.bytes) && is_sampled(a.bytes))
        a.key = stack_of(ctx, task, slot, config.heap_bytes > 1 ? size_class(a.bytes) : 0, 0);
    if (bpf_map_update_elem(&allocations, &tid, &a, 0)) {
        COUNT_LOSS(calls);
        count_freed(&a.was); // where realloc puts it nobody will see
    }
    return 0;
}

SEC("uretprobe")
int allocation_ends(struct pt_regs *ctx)
{
    struct task_struct *task = bpf_get_current_task_btf();
    uint32_t tid = (uint32_t)task->pid;
    struct allocation *known = bpf_map_lookup_elem(&allocations, &tid);
    if (!known)
        return 0;
    if (known->inner) {
        known->inner--;
        return 0;
    }
    struct allocation a = *known;
    bpf_map_delete_elem(&allocations, &tid);
    uint64_t address = ((const struct pt_regs *)bpf_task_pt_regs(task))->ax;
    if (a.out)
        address = (uint32_t)address ? 0 : user_word(a.out);
    if (address || !a.bytes) { // realloc to nothing frees
        count_freed(&a.was);
    } else if (a.was.key) {
        struct live_key at = {.address = a.old, .pid = (uint32_t)task->tgid};
        bpf_map_update_elem(&lives, &at, &a.was, BPF_NOEXIST_);
    }
    if (address && a.key)
        heap_allocated(task, address, a.bytes, a.key);
    return 0;
}

SEC("uprobe")
int free_begins(struct pt_regs *ctx)
{
    struct task_struct *task = bpf_get_current_task_btf();
    struct live was = heap_take(task, ((const struct pt_regs *)bpf_task_pt_regs(task))->di);
    count_freed(&was);
    return 0;
}

#endif
