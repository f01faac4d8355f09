// SPDX-License-Identifier: MIT
//
// What prints many fibers shares: one at a time, and the buffers that this allows.

#ifndef FIBERSCOPE_RUNTIME_DUMP_H
#define FIBERSCOPE_RUNTIME_DUMP_H

#include "runtime/types.h"

enum { DUMP_DEPTH = 8192 };

// Only one thread prints at a time, and is not preempted meanwhile; it may nest (a fault in a dump). Waits at most two
// seconds: then who holds it has died. [async-signal-safe]
void dump_lock(void);
void dump_unlock(void);
extern uintptr_t dump_pcs[DUMP_DEPTH]; // of who holds the lock

// The stack of any living fiber, into dump_pcs: the caller's own, a parked one's, or a running one's by signal. The
// depth; negative as backtrace_parked. dump_lock is held.
int dump_stack(struct g *g, uint64_t id);

// All fibers and the plain threads that wait.
struct print;
void dump_all(struct print *p);

// The handler of SIGURG when m->stack_wanted is set. [signal handler]
void stack_wanted(struct m *m, const void *context);

const char *g_name(const struct g *g); // ""

// The owner of a lock that a fiber waits for, from its live->wait_owner; 0: none. The word lies in the lock, which is
// there as long as it waits; the page is asked for first, as it may have been woken since.
uint64_t owner_read(_Atomic uint64_t *at);

#endif
