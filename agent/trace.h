// SPDX-License-Identifier: MIT
//
// The agent's part in execution traces: starting the recorder (emit/), and the program's own events.

#ifndef FIBERSCOPE_AGENT_TRACE_H
#define FIBERSCOPE_AGENT_TRACE_H

#include "emit/emit.h"
#include "segment/layout.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

// Of CPU time, after which a forked child begins that never waits and has nothing to tell.
#define TRACE_CHILD_PERIOD_NS UINT64_C(10000000)

// Into the segment of this address space, which has begun. 0 or -errno.
int trace_begin(bool is_flight, uint64_t flight_ns);
// The same at the next occasion. [async-signal-safe]
int trace_begin_soon(bool is_flight);

// A forked child of a traced process is traced from when it first has something to tell, so that one that executes
// another program at once costs nothing: until then its trace is due.
extern _Atomic uint32_t trace_due;
void trace_fork_child(void);  // before emit_forget [async-signal-safe]
void trace_begin_child(void); // its segment is there [async-signal-safe]
void trace_begin_due(void);   // with its segment. Keeps errno. [normal context]

static inline bool trace_is_due(void)
{
    return __builtin_expect(atomic_load_explicit(&trace_due, memory_order_relaxed) != 0, 0);
}

// Around a plain thread's wait for a lock. They do nothing where it runs fibers, and while no trace is recorded.
// again: of a condition, its mutex.
void trace_wait_begin(enum seg_lock_type type, const void *object, const void *again, uint64_t at);
void trace_wait_end(uint64_t at);

// A personality routine (of the C++ ABI for exceptions): the frame that has it is unwound.
int trace_unwinds(int version, int actions, uint64_t kind, void *exception, void *context)
    __attribute__((visibility("hidden"), used));

// What tells calls apart (emit.h): where the frame of the hook's caller ends. In the hook.
#define TOLD_AT ((uint64_t)__builtin_frame_address(0) + 16)
// In a hook around a told call: what unwinds its frame (a thread that is cancelled) calls this.
#define TOLD_UNWINDS() __asm__ volatile(".cfi_personality 0x1b, trace_unwinds")
// Within the wait for a condition: it has timed out late_ns ago, and since then waited for its mutex. Keeps errno.
void trace_timed_out(const void *mutex, uint64_t late_ns);
// After a wait that began untraced: should there be a trace by now, it is told to be over.
void trace_came(void); // keeps errno
static inline void trace_here(void)
{
    if (emit_is_on())
        trace_came();
}
// A mutex was got without waiting. Keeps errno.
void trace_took(const void *mutex);

// Before a plain thread unlocks what others may wait for, or signals one or all of those that do. Keep errno.
void trace_unlock(const void *object);
void trace_signal(const void *object, bool all); // also in a signal handler

// The heap has so many bytes now. [normal context]
void trace_heap(uint64_t live_bytes);

#endif
