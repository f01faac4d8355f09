// SPDX-License-Identifier: MIT
//
// Captures in normal context; see capture.h.

#include "agent/capture.h"

#include "agent/hooks_got.h"

#include <errno.h>

_Thread_local struct agent_tls agent_tls;

// The slot of a thread that has hooks before it has samples, and a forked child's own recording.
static struct agent_slot *find_slot(void)
{
    if (!agent_here())
        return NULL;
    if (!atomic_load_explicit(&agent.space->running, memory_order_relaxed))
        return NULL;
    return slot_self();
}

int capture_begin_slow(struct capture *c)
{
    *c = (struct capture){0};
    if (agent_tls.capturing) {
        if (agent_live())
            atomic_fetch_add_explicit(&agent.space->seg.header->losses.reentered, 1,
                                      memory_order_relaxed);
        return -EBUSY;
    }
    agent_tls.capturing = 1; // first: beginning a child's recording comes back here
    atomic_signal_fence(memory_order_seq_cst);
    struct agent_slot *s = agent_tls.slot;
    // A forked child finds its slots wiped.
    if (!s || !atomic_load_explicit(&s->tid, memory_order_relaxed) || !agent_live())
        s = find_slot();
    if (!s) {
        agent_tls.capturing = 0;
        return -ENOENT;
    }
    c->slot = s;
    c->labels = agent_tls.labels;
    return 0;
}

void capture_enter_stack(struct capture *c, uint64_t rsp)
{
    struct fiber_here fiber;
    fibers_begin_walk(c->slot, slot_hook_unwind(c->slot), rsp, false, &fiber, &c->labels);
}

void capture_cover(struct capture *c, uint32_t depth)
{
    modules_cover(&c->slot->hook_pages, c->slot->hook_pcs, depth);
    if (atomic_load_explicit(&hooks_got_on, memory_order_relaxed))
        hooks_got_cover(c->slot->hook_pcs, depth);
}

uint32_t capture_walk(struct capture *c, const struct unwind_registers *regs, uint32_t *flags)
{
    uint32_t depth = capture_walk_only(c, regs, flags);
    capture_cover(c, depth);
    return depth;
}

void capture_stack(struct capture *c, const struct unwind_registers *regs)
{
    uint32_t flags;
    uint32_t depth = capture_walk(c, regs, &flags);
    c->stack = seg_stack(&agent.space->seg, c->slot->hook_pcs, depth, 0, flags);
}

void capture_end(struct capture *c)
{
    (void)c;
    atomic_signal_fence(memory_order_seq_cst);
    capture_release(0);
}
