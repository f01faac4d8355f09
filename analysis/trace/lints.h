// SPDX-License-Identifier: MIT
//
// What in a trace is worth a second look: rules with a threshold each (the summary's limits), per
// start function, with the number of its fibers for which it holds and the worst of them.
//
//   DEADLOCK all fibers wait for each other when the trace ends (the summary's `deadlocked`)
//   HOGS     a fiber ran for longer than `run_ns` without a break: others waited behind it
//   SPINS    more than half of what makes the function's fibers runnable are they themselves: they
//            yield in a loop instead of waiting for something
//   STARVED  a fiber was runnable for longer than `runnable_ns` before it ran
//   STUCK    a fiber waits to the end of the trace on a lock, channel or condition, for at least
//            `stuck_ns` and ten times longer than any of at least ten such waits of its function
//            that ended: its wake-up may be lost
//   WAITS    the same for at least `stuck_ns` and half of the trace, with nothing to compare it to:
//            nobody woke it. Waiting for others to end (joins, wait groups) is not meant. Nor is
//            it said of a deadlock, which says more

#ifndef FIBERSCOPE_ANALYSIS_TRACE_LINTS_H
#define FIBERSCOPE_ANALYSIS_TRACE_LINTS_H

#include "analysis/trace/summary.h"

enum trace_lint_kind {
    TRACE_LINT_DEADLOCK,
    TRACE_LINT_HOGS,
    TRACE_LINT_SPINS,
    TRACE_LINT_STARVED,
    TRACE_LINT_STUCK,
    TRACE_LINT_WAITS,
};

struct trace_lint {
    enum trace_lint_kind kind;
    uint32_t function, reason; // names
    uint32_t in;               // name, WAITS: the function that waits; 0: not known
    uint64_t fibers;           // for which it holds; SPINS: all of the function
    uint64_t fibers_all;       // of the function
    int64_t fiber, ns, at_ns;  // the worst case
    struct trace_place place;  // of that: as of a trace_longest; of a wait: where
    int64_t limit_ns;          // HOGS, STARVED: beyond which it is one
    uint64_t count, of;        // SPINS: own wake-ups, all; STUCK: waits that ended
};

// Of a finished summary; the caller frees *out. Their number, or -ENOMEM.
int trace_lints(const struct trace_summary *s, struct trace_lint **out);

const char *trace_lint_name(enum trace_lint_kind kind); // "hogs"

#endif
