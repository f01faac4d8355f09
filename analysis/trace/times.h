// SPDX-License-Identifier: MIT
//
// Where the time of a fiber goes: the states of a fiber over some period, and what it waited for.
//
// Invariant: blocked_ns is the sum of waits[]; running, runnable, syscall, syscall_blocked and
// blocked do not overlap and add up to at most total. Ranges overlap with all of them.

#ifndef FIBERSCOPE_ANALYSIS_TRACE_TIMES_H
#define FIBERSCOPE_ANALYSIS_TRACE_TIMES_H

#include <stdint.h>

enum { TRACE_RANGES = 5 };      // enum trace_range, one more than its last
enum { TRACE_WAITS_MAX = 256 }; // more reasons than anybody has: the last one takes the rest

struct trace_wait {
    uint32_t reason; // name
    uint64_t count;
    int64_t ns, max_ns; // max_ns: the longest that came to its end
    int64_t open_ns;    // the longest whose end is not seen, so far; 0: none
};

struct trace_times {
    int64_t total_ns;
    int64_t running_ns;
    int64_t runnable_ns;        // scheduling wait
    int64_t syscall_ns;         // with its Proc
    int64_t syscall_blocked_ns; // after it lost its Proc
    int64_t blocked_ns;
    int64_t range_ns[TRACE_RANGES];
    struct trace_wait *waits; // [wait_count], malloc'd
    uint32_t wait_count, wait_capacity;
};

// A zeroed struct trace_times is an empty one. 0 or -ENOMEM.
int trace_times_block(struct trace_times *t, uint32_t reason, uint64_t count, int64_t ns);
void trace_times_longest(struct trace_times *t, uint32_t reason, int64_t ns); // one that has ended
void trace_times_open(struct trace_times *t, uint32_t reason, int64_t ns);    // one that has not
int trace_times_add(struct trace_times *t, const struct trace_times *more);
int trace_times_subtract(struct trace_times *t, const struct trace_times *less); // t: no longest
int trace_times_copy(struct trace_times *t, const struct trace_times *from);     // keeps t's memory
void trace_times_finish(struct trace_times *t);

// What of the total is in no state.
int64_t trace_times_unknown_ns(const struct trace_times *t);

// Longest wait first; equal ones by reason.
void trace_times_sort(struct trace_times *t);

#endif
