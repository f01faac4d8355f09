// SPDX-License-Identifier: MIT
//
// What is on because a collector asked for it (seg_control.held) goes off with the last collector that holds it, also
// where that was killed. See enum seg_held in segment/layout.h, and docs/segment.md.
//
// What always holds
//   - All changes are made under agent.api_lock; what the program wished itself has no bit, and is left alone.
//   - While there is a bit there is a keeper: a timer of this process that brings SIGPROF every KEEPER_NS to one
//     thread, the one that took the call, as the caller has chosen it for being disturbed least. Its handler asks the
//     kernel who holds what. Without a bit there is no timer and no signal.
//   - An injected agent whose call came on a borrowed thread must not end that thread's wait (inject.h): its keeper counts
//     that thread's CPU time, and so comes only while it runs. What is left on in one that sleeps costs nothing
//     meanwhile; but for wall time, whose signals come anyhow, and with which the keeper goes by the clock. So it does once
//     the thread has run: its later waits pass by our hooks, which make them go on.
//   - A forked child records what its parent records for a collector only if that follows it.

#ifndef FIBERSCOPE_AGENT_HELD_H
#define FIBERSCOPE_AGENT_HELD_H

#include <stdbool.h>
#include <stdint.h>

// All: agent.api_lock held, the segment is there, [async-signal-safe], unless something else is said. kinds: 1 << enum
// seg_held.

void held_add(uint32_t kinds);  // a collector's from now on
void held_own(uint32_t kinds);  // the program's own, or off
void held_stop(uint32_t kinds); // switches off those of them that are held

// Starts the keeper, if there is something to keep, or ends it. is_borrowed: the calling thread is.
void held_watch(bool is_borrowed);

// In the handler, at the keeper's signal. Takes the lock by itself.
void held_look(void);

// The calling thread ends: the keeper needs another one. No lock.
void held_thread_leaves(uint32_t tid);

// In the child of a fork, before it records. No lock, no segment.
void held_fork_child(void);

#endif
