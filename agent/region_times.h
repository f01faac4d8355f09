// SPDX-License-Identifier: MIT
//
// Regions (include/fiberscope/trace.h) counted and timed whether or not a trace is recorded, for who asks now and then:
// /metrics. In the segment as state, by name and power of two of the time.
//
// Names are hostile to tables if they are made up by the program as it goes: the first REGION_NAMES are told apart, all
// others are one.

#ifndef FIBERSCOPE_AGENT_REGION_TIMES_H
#define FIBERSCOPE_AGENT_REGION_TIMES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { REGION_NAMES = 64, REGION_NAME_BYTES = 255 };

struct region_names { // of the process' segment; zeroed: none yet
    struct {
        _Atomic uint64_t hash; // 0: free
        _Atomic uint32_t id;   // of the string; 0: its owner is still at it
    } places[REGION_NAMES];
};

extern _Atomic uint32_t region_times_on;

static inline bool region_times_wanted(void)
{
    return __builtin_expect(atomic_load_explicit(&region_times_on, memory_order_relaxed) != 0, 0);
}

// Looks at the control word. [async-signal-safe]
void region_times_update(void);

// A region of that name has ended after so long. [any thread]
void region_times_add(const char *name, uint64_t ns, bool has_error);

#endif
