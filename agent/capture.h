// SPDX-License-Identifier: MIT
//
// Where a hook was called from, in normal context: the thread's slot, its stack and its labels. The
// SIGPROF handler has a walker of its own, so it may interrupt a capture anywhere.
//
// What always holds
//   - One capture per thread at a time: capture_begin fails inside another one, which happens when a
//     signal handler of the target's allocates or locks while a hook is at work. The caller then
//     counts without a stack, so that totals stay exact.
//   - Between capture_begin and capture_end nothing is called that could allocate, lock or throw.
//   - A forked child begins its own recording at its first capture.
//
// [any thread] [not async-signal-safe, but safe when a signal handler does it all the same]

#ifndef FIBERSCOPE_AGENT_CAPTURE_H
#define FIBERSCOPE_AGENT_CAPTURE_H

#include "agent/agent.h"
#include "agent/fork.h"
#include "agent/fibers.h"

// What a thread's hooks need at once; all of the agent's thread-local storage. Initial-exec, and small:
// a library that is dlopened gets its static TLS out of a surplus that all share.
struct agent_tls {
    struct agent_slot *slot; // NULL: not yet, or left
    uint32_t left;           // the tid that has left: no slot for it any more
    uint32_t forbid;         // fscope_forbid: what must not happen now
    uint64_t heap_countdown; // bytes until the next sampled allocation; 0: each one is looked at
    uint64_t alloc_objects, alloc_bytes; // of this thread, ever
    uint64_t last_pointer; // exact: its latest allocation; freed next, it was temporary
    uint32_t labels;       // label set in force, an id of the segment; 0: none
    uint32_t capturing;    // a hook is at work
    uint32_t resolving;    // hooks_resolve is at work
    uint32_t heap_random;  // state of its sampling; 0: no distance drawn yet
};

_Static_assert(sizeof(struct agent_tls) <= 64, "static TLS is scarce");

extern _Thread_local struct agent_tls agent_tls;

// The registers of the caller of the function that this stands in, at its call; that function keeps
// a frame pointer (all of agent/ is compiled so). The walk then starts in the caller: no frame of ours.
#define CAPTURE_CALLER(regs) CAPTURE_CALLER_OF(regs, __builtin_frame_address(0))
// The same for a function that was handed the hook's frame address.
#define CAPTURE_CALLER_OF(regs, frame)                                                             \
    do {                                                                                           \
        const uint64_t *frame_ = (const uint64_t *)(frame);                                        \
        *(regs) = (struct unwind_registers){                                                       \
            .rip = frame_[1] - 1, .rbp = frame_[0], .rsp = (uint64_t)(frame_ + 2)};                \
    } while (0)

struct capture {
    struct agent_slot *slot;
    uint32_t stack;  // id, 0: none (counted)
    uint32_t epoch;  // in which it was taken
    uint32_t labels; // id; a fiber's are known after the walk
};

// Claims the thread's capture: 0; -EBUSY: one is at work in this thread (counted as reentered);
// -ENOENT: nothing records here, or the thread has no slot (on its way out).
static inline int capture_begin(struct capture *c);

// Walks from regs; the stack is c->slot->hook_pcs. The depth, at least 1. *flags: enum seg_record_flag.
uint32_t capture_walk(struct capture *c, const struct unwind_registers *regs, uint32_t *flags);

// The same, but for capture_cover, which whoever records the stack for the first time calls: it sees
// to it that the segment has the modules of these pcs.
static inline uint32_t capture_walk_only(struct capture *c, const struct unwind_registers *regs,
                                         uint32_t *flags);
void capture_cover(struct capture *c, uint32_t depth);

// The same, interned: fills c->stack.
void capture_stack(struct capture *c, const struct unwind_registers *regs);

void capture_end(struct capture *c);

// Around what needs no capture, but must find the segment to the end although a handler forks meanwhile.
static inline uint32_t capture_hold(void)
{
    uint32_t was = agent_tls.capturing;
    if (!was)
        agent_tls.capturing = 1;
    atomic_signal_fence(memory_order_seq_cst);
    return was;
}

static inline void capture_release(uint32_t was)
{
    if (was)
        return;
    atomic_signal_fence(memory_order_seq_cst);
    agent_tls.capturing = 0; // first: a fork from here on finds no capture
    atomic_signal_fence(memory_order_seq_cst);
    if (__builtin_expect(agent.is_ghost, 0))
        fork_try_end();
}

// --- What is hot.

int capture_begin_slow(struct capture *c);

// Before a walk from rsp, where there may be fibers: whose stack it is, and the labels that hold there.
void capture_enter_stack(struct capture *c, uint64_t rsp);

// The capture of a thread that has had one. False, and nothing has happened: capture_begin_slow knows why.
static inline bool capture_begin_again(struct capture *c)
{
    struct agent_tls *t = &agent_tls;
    struct agent_slot *s = t->slot;
    if (__builtin_expect(t->capturing || !s, 0))
        return false;
    t->capturing = 1;
    atomic_signal_fence(memory_order_seq_cst);
    // A forked child finds its slots wiped.
    if (__builtin_expect(!atomic_load_explicit(&s->tid, memory_order_relaxed) || !agent_live(),
                         0)) {
        t->capturing = 0;
        return false;
    }
    *c = (struct capture){.slot = s, .labels = t->labels};
    return true;
}

static inline int capture_begin(struct capture *c)
{
    return __builtin_expect(capture_begin_again(c), 1) ? 0 : capture_begin_slow(c);
}

static inline uint32_t capture_walk_only(struct capture *c, const struct unwind_registers *regs,
                                         uint32_t *flags)
{
    struct agent_slot *s = c->slot;
    enum unwind_end end = UNWIND_END_ROOT;
    if (fibers_exist())
        capture_enter_stack(c, regs->rsp);
    c->epoch = seg_epoch(&agent.space->seg); // before the walk: what it finds is not older
    uint32_t depth = unwind_walk(slot_hook_unwind(s), regs, &s->hook_pcs, UNWIND_DEPTH_MAX, &end);
    if (__builtin_expect(!depth, 0)) {
        s->hook_leaf = regs->rip;
        s->hook_pcs = &s->hook_leaf;
        depth = 1;
        end = UNWIND_END_BAD_MEMORY;
    }
    if (fibers_exist())
        depth = fibers_strip(s->hook_pcs, depth);
    *flags = end == UNWIND_END_ROOT    ? 0
             : end == UNWIND_END_DEPTH ? SEG_FLAG_TRUNCATED
                                       : SEG_FLAG_BROKEN;
    return depth;
}

// How many waits of the calling thread signals of ours alone have ended; see io_hooks.c.
static inline uint32_t waits_ended(void)
{
    const struct agent_slot *s = agent_tls.slot;
    return s ? s->waits_ended : 0;
}

#endif
