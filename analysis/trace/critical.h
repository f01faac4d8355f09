// SPDX-License-Identifier: MIT
//
// The critical path: walking back from an end, what had to be over before it.
//
// From the end back in time: while the fiber ran, was in a system call, or waited to run, that is
// on the path. Where it had been blocked and another fiber woke it, the path goes on in that other
// fiber, at that moment: it was what the first one waited for. The same where it was started. Where
// nobody in the trace woke it (network, timer) the wait itself is on the path.
//
// Invariant: the steps are in order of time, without gaps and overlaps, from begin_ns to end_ns:
// their lengths add up to the whole.

#ifndef FIBERSCOPE_ANALYSIS_TRACE_CRITICAL_H
#define FIBERSCOPE_ANALYSIS_TRACE_CRITICAL_H

#include "analysis/trace/spans.h"

enum trace_part {
    TRACE_PART_RUNNING,
    TRACE_PART_RUNNABLE,
    TRACE_PART_SYSCALL,
    TRACE_PART_LOCK,    // lock, condition, wait group
    TRACE_PART_CHANNEL, // channel, select
    TRACE_PART_IO,
    TRACE_PART_SLEEP,
    TRACE_PART_OTHER,   // another reason to wait
    TRACE_PART_UNKNOWN, // "untraced": before the fiber's first event, or left out of the spans
    TRACE_PARTS,
};

struct trace_step {
    int64_t begin_ns, end_ns;
    uint32_t lane, span; // span: TRACE_NO_SPAN for UNKNOWN
    enum trace_part part;
};

enum {
    TRACE_CRITICAL_LOCKS = 1, // a wait for a lock is a step and is not followed to its holder
};

// The path to end_ns on a fiber's lane, back to begin_ns. The caller frees *steps. Their number, or
// -ENOMEM, -EFBIG (beyond INT_MAX).
int trace_critical(const struct trace_spans *s, uint32_t lane, int64_t begin_ns, int64_t end_ns,
                   unsigned flags, struct trace_step **steps);

// A fiber's own time between the two, likewise.
int trace_own_time(const struct trace_spans *s, uint32_t lane, int64_t begin_ns, int64_t end_ns,
                   struct trace_step **steps);

// The fiber, not one of the runtime's own, that was the last to run in this time: whose end a path
// through all of it leads to. *until_ns becomes when that path ends: with the fiber, at the latest
// at end_ns. A thread that only waits for the runtime to end counts if no other ran. TRACE_NO_LANE: none.
uint32_t trace_last_to_run(const struct trace_spans *s, int64_t begin_ns, int64_t end_ns,
                           int64_t *until_ns);

enum trace_part trace_part_of(const struct trace_spans *s, uint32_t span);

// Whether it waits for a lock that somebody holds, and not for others' work to be done.
bool trace_is_held(const struct trace_spans *s, uint32_t span);

const char *trace_part_name(enum trace_part part); // "running"

#endif
