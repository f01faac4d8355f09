// SPDX-License-Identifier: MIT
//
// The agent's part in execution traces: starting the recorder (emit/), and the program's own events.

#ifndef FIBERSCOPE_AGENT_TRACE_H
#define FIBERSCOPE_AGENT_TRACE_H

#include "segment/layout.h"

#include <stdbool.h>
#include <stdint.h>

// Into the segment of this address space, which has begun. 0 or -errno.
int trace_begin(bool is_flight, uint64_t flight_ns);
// The same at the next occasion. [async-signal-safe]
int trace_begin_soon(bool is_flight);

// Around a plain thread's wait for a lock. They do nothing where it runs fibers, and while no trace is recorded.
void trace_wait_begin(enum seg_lock_type type, const void *object);
void trace_wait_end(void);

// Before a plain thread unlocks what others may wait for, or signals one or all of those that do. Keep errno.
void trace_unlock(const void *object);
void trace_signal(const void *object, bool all); // also in a signal handler

// The heap has so many bytes now. [normal context]
void trace_heap(uint64_t live_bytes);

#endif
