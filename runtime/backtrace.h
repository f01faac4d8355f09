// SPDX-License-Identifier: MIT
//
// Stacks of fibers as lists of pcs, for dumps and readers: of one that is parked, from its saved registers; of
// the caller; of what a signal interrupted.
//
// All pcs are like return addresses: to be looked up at pc - 1. The root, fib_root_, is left out. Memory outside
// the fiber's stack is not read; without bounds each page is asked for first. Nothing here
// locks or allocates.

#ifndef FIBERSCOPE_RUNTIME_BACKTRACE_H
#define FIBERSCOPE_RUNTIME_BACKTRACE_H

#include "runtime/types.h"

#include "unwind/unwind.h"

// From registers; is_exact: rip is where execution stands, not a return address. [low, high) may be read;
// high 0: unknown. The depth.
uint32_t backtrace_from(const struct unwind_registers *regs, bool is_exact, uint64_t low,
                        uint64_t high, uintptr_t *pcs, uint32_t max);

// Of fiber g with this id. -EBUSY: it runs, or changed meanwhile; -ESRCH: has ended.
int backtrace_parked(struct g *g, uint64_t id, uintptr_t *pcs, uint32_t max);

// What a signal interrupted in thread m (NULL: a plain one), from its ucontext_t.
uint32_t backtrace_context(const struct m *m, const void *context, uintptr_t *pcs, uint32_t max);

// How many frames at the start are the runtime's own, but for the function that the program called.
uint32_t backtrace_skip(const uintptr_t *pcs, uint32_t depth);

void backtrace_init(void); // [fib_init]

#endif
