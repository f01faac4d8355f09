// SPDX-License-Identifier: MIT
//
// What a thread must not do now (fscope_forbid): the hooks of the malloc family and of waits ask
// forbid_is_on before, or just after, they do it, and say so by forbid_hit.
//
// What always holds
//   - While a violation is told, nothing is forbidden in that thread: whom it is told may allocate and lock.
//   - A thread that forbids nothing pays nothing: see forbid_set, and LOCK_FORBID for waits.
//   - No recording is needed: the stack is walked with a walker made for the occasion.

#ifndef FIBERSCOPE_AGENT_FORBID_H
#define FIBERSCOPE_AGENT_FORBID_H

#include "agent/capture.h"
#include "segment/layout.h"
#include "unwind/unwind.h"

#include <stdbool.h>
#include <stddef.h>

enum { FORBID_ALLOC = 1, FORBID_BLOCK = 2 }; // as FSCOPE_ALLOC and FSCOPE_BLOCK

static inline bool forbid_is_on(uint32_t what)
{
    return __builtin_expect(agent_tls.forbid & what, 0);
}

// Where allocations are forbidden, each takes the slow path, which asks.
static inline void forbid_set(uint32_t what)
{
    agent_tls.forbid = what;
    if (what & FORBID_ALLOC)
        agent_tls.heap_countdown = 0;
}

// The thread does what is forbidden; regs: of the hook's caller. Returns only if the program's function
// did; keeps errno. bytes: asked for.
void forbid_hit(uint32_t what, size_t bytes, const struct unwind_registers *regs);

// The same for a wait. object: of which address, NULL: none.
void forbid_wait(enum seg_lock_type type, const void *object, const struct unwind_registers *regs);

// names.c: writes one line a frame to fd, "#0 parse+0x1d (libparse.so+0x4f1d)". The file's own symbol
// tables are read, mapped for the time: nothing is allocated, and what cannot be read shows as offset.
// pcs as unwind_walk hands them out. [any thread] [not async-signal-safe]
void names_print(int fd, const uint64_t *pcs, uint32_t depth);

#endif
