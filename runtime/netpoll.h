// SPDX-License-Identifier: MIT
//
// The netpoller: one edge-triggered epoll for all descriptors that fibers wait for.
//
// The scheduler asks it whenever it finds nothing to do, and the last idle M waits in it.
// Nothing here is called with sched.lock held.

#ifndef FIBERSCOPE_RUNTIME_NETPOLL_H
#define FIBERSCOPE_RUNTIME_NETPOLL_H

#include "runtime/types.h"

// Makes the epoll at first use. 0 or -errno. [any thread]
int netpoll_init(void);

// Whether some fiber waits for a descriptor (or ever registered one): else the scheduler need not ask.
bool netpoll_is_used(void);
uint32_t netpoll_waiters(void); // fibers parked on descriptors now

// Those that have become ready, appended to *out with status G_RUNNABLE still to be set by the caller
// (g_ready_list). timeout_ns: 0 does not wait; < 0 without end. The number. At most one M waits at a time.
uint32_t netpoll_poll(int64_t timeout_ns, struct g_queue *out);

// Ends a wait in netpoll_poll early: an earlier timer, or work. [any thread] [async-signal-safe]
void netpoll_break(void);

#endif
