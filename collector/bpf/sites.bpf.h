// SPDX-License-Identifier: MIT
//
// What the USDT sites of the agent and of the fiber runtime tell (docs/usdt.md), with the stack there. Part of
// profile.bpf.c. libbpf attaches these programs, by the notes of the files, and counts their semaphores up.
//
// The agent has weighed what it tells of: it says for how many waits and bytes a call stands. The runtime tells of all, which
// are weighed here as the agent would (agent/lock_weigh.c).

#ifndef FIBERSCOPE_COLLECTOR_BPF_SITES_BPF_H
#define FIBERSCOPE_COLLECTOR_BPF_SITES_BPF_H

// Of all files' sites together; each call of an inlined one is a spec of its own. Which address has which spec libbpf tells by
// cookies, and its map for that stays empty.
#define BPF_USDT_MAX_SPEC_CNT BPF_SITE_SPECS_MAX
#define BPF_USDT_MAX_IP_CNT   1

#include <bpf/usdt.bpf.h>

uint64_t site_heap_bytes; // the agent's rate, as it said last

static __always_inline uint64_t site_argument(struct pt_regs *ctx, uint64_t number)
{
    long value = 0;
    bpf_usdt_arg(ctx, number, &value);
    return (uint64_t)value;
}

static __always_inline void count_site(void *ctx, struct sample *m, uint32_t slot)
{
    m->ctx = ctx;
    struct scratch *s = scratch_take();
    if (!s)
        return;
    take(s, m, slot);
    scratch_give(s);
}

// The runtime tells both of fibers; of its threads, which wait for work, nobody is told.
static __always_inline void told_of_contention(void *ctx, const struct task_struct *task,
                                               enum bpf_told what)
{
    uint64_t site = bpf_usdt_cookie(ctx);
    if (config.futex_locks)
        told_now(task, site == BPF_SITE_BLOCK || site == BPF_SITE_MUTEX
                           ? BPF_TOLD_BLOCK | BPF_TOLD_MUTEX
                           : what);
}

// Of a wait of *ns, for how many it stands; 0: it is left out.
static __always_inline uint64_t weigh_wait(uint64_t *ns)
{
    uint64_t rate = config.block_ns, n = *ns ? *ns : 1;
    if (n >= rate)
        return 1;
    if (bpf_get_prandom_u32() % rate >= n)
        return 0;
    *ns = rate;
    return rate / n + (bpf_get_prandom_u32() % n < rate % n);
}

SEC("usdt")
int site_block(struct pt_regs *ctx)
{
    struct sample m = {.kind = BPF_SAMPLE_SITE_BLOCK, .task = bpf_get_current_task_btf()};
    uint32_t slot;
    if (!is_watched(m.task, &slot))
        return 0;
    told_of_contention(ctx, m.task, BPF_TOLD_BLOCK);
    m.sum.ns = site_argument(ctx, 1);
    m.object = site_argument(ctx, 2);
    m.sum.count = site_argument(ctx, 3);
    if (bpf_usdt_cookie(ctx) == BPF_SITE_BLOCK)
        m.sum.count = weigh_wait(&m.sum.ns);
    if (m.sum.count)
        count_site(ctx, &m, slot);
    return 0;
}

SEC("usdt")
int site_mutex(struct pt_regs *ctx)
{
    struct sample m = {.kind = BPF_SAMPLE_SITE_MUTEX, .task = bpf_get_current_task_btf()};
    uint32_t fraction = config.mutex_fraction;
    uint32_t slot;
    if (!is_watched(m.task, &slot))
        return 0;
    told_of_contention(ctx, m.task, BPF_TOLD_MUTEX);
    m.sum.ns = site_argument(ctx, 1);
    m.object = site_argument(ctx, 2);
    m.sum.count = site_argument(ctx, 3);
    if (bpf_usdt_cookie(ctx) == BPF_SITE_MUTEX && fraction > 1) {
        if (bpf_get_prandom_u32() % fraction)
            return 0;
        m.sum.ns *= fraction;
        m.sum.count *= fraction;
    }
    count_site(ctx, &m, slot);
    return 0;
}

SEC("usdt")
int site_heap_alloc(struct pt_regs *ctx)
{
    struct task_struct *task = bpf_get_current_task_btf();
    uint32_t slot;
    if (!is_watched(task, &slot))
        return 0;
    uint64_t address = site_argument(ctx, 0), bytes = site_argument(ctx, 1);
    uint64_t rate = site_argument(ctx, 3);
    site_heap_bytes = rate;
    told_now(task, BPF_TOLD_HEAP);
    uint64_t key = stack_of(ctx, task, slot, rate > 1 ? size_class(bytes) : 0,
                            rate >> 32 ? ~0u : (uint32_t)rate);
    if (key)
        heap_allocated(task, address, bytes, key);
    return 0;
}

SEC("usdt")
int site_heap_free(struct pt_regs *ctx)
{
    struct live was = heap_take(bpf_get_current_task_btf(), site_argument(ctx, 0));
    count_freed(&was);
    return 0;
}

// What happens to fibers: the cookie says which site it is.
SEC("usdt")
int site_fiber(struct pt_regs *ctx)
{
    struct sample m = {.kind = BPF_SAMPLE_FIBER, .task = bpf_get_current_task_btf()};
    uint32_t slot;
    if (!is_watched(m.task, &slot) ||
        (config.fiber_fraction > 1 && bpf_get_prandom_u32() % config.fiber_fraction))
        return 0;
    m.sum.count = config.fiber_fraction;
    m.object = (uint32_t)bpf_usdt_cookie(ctx); // enum bpf_site
    if (m.object == BPF_SITE_PARK)
        m.object |= site_argument(ctx, 1) << 32;
    count_site(ctx, &m, slot);
    return 0;
}

#endif
