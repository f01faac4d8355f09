// SPDX-License-Identifier: MIT
//
// Which fiber of libfiberscope-rt the calling thread runs, read through the runtime's descriptor alone.
//
// What always holds
//   - A thread runs a fiber where its rsp lies in that fiber's stack; on the scheduler's own stack, in a
//     plain thread and in the instructions that switch stacks it runs none. On a signal stack it runs the one
//     that was interrupted.
//   - Stacks of fibers end in the runtime's root frame, which fibers_strip takes away: what is left ends at
//     the start function and is complete.
//   - In a program without the runtime each question costs one load and a test.
//   - A fiber's labels are the runtime's own, not the thread's: agent_tls.labels says nothing in a fiber.
//
// [any thread] [async-signal-safe]

#ifndef FIBERSCOPE_AGENT_FIBERS_H
#define FIBERSCOPE_AGENT_FIBERS_H

#include "runtime/descriptor.h"

#include "agent/agent.h"

extern struct fib_descriptor fib_descriptor __attribute__((weak));

struct fiber_here {
    uint64_t id;        // 0: no fiber
    uint64_t low, high; // its stack
    int32_t set;        // index of its label set in the runtime's table; 0: none
};

// Whether the program has the runtime, started or not.
static inline bool fibers_exist(void)
{
    return __builtin_expect(&fib_descriptor != NULL, 0);
}

// What the calling thread runs, with its stack pointer there; on a signal stack the fiber is the one that
// was interrupted. False: no fiber, *out is zero.
bool fibers_look(struct fiber_here *out, uint64_t rsp, bool is_on_signal_stack);

// The segment's id for a label set of the runtime's; 0: none, or no room (counted).
uint32_t fibers_labels(int32_t set);

// In a forked child, before its recording begins: ids are the parent's.
void fibers_forget_labels(void);

// The bounds of the stack that rsp lies in, for the coming walk; and the labels in force, a fiber's if it
// is one's. True: *f is that fiber.
bool fibers_begin_walk(struct agent_slot *s, struct unwind_thread *t, uint64_t rsp,
                       bool is_on_signal_stack, struct fiber_here *f, uint32_t *labels);

// Frames at the leaf that are the runtime's own, but for the function of it that was called.
uint32_t fibers_skip(const uint64_t *pcs, uint32_t depth);

// Whom the runtime is to tell of waits and of unlocks that end them, from now on; NULL: nobody.
void fibers_tell(void (*on_wait)(const void *object, uint64_t ns),
                 void (*on_unlock)(const void *object, uint64_t ns));
// The same of each lock that is taken or released.
void fibers_tell_locks(void (*on_lock)(const void *object, uint32_t what));

// The depth without the runtime's root frame.
uint32_t fibers_strip(const uint64_t *pcs, uint32_t depth);

#endif
