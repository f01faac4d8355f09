// SPDX-License-Identifier: MIT
//
// What fibers did in a portion of the time, from spans: the figures of summary.h without reading
// the file again, so that a viewer has them for any range at once.
//
// Figures equal those of trace_summary with the same from_ns and to_ns, but for these: ranges
// (garbage collection) are none; a fiber that is there at the beginning in a system call without
// a Proc has that time as syscall_ns; one that is there and waits "forever" ends at the beginning;
// what runs at the beginning counts for the utilisation from the Sync on, there from where it is
// announced, some nanoseconds later.
//
// Invariant: the times of a function are the sums over its fibers; the totals are those of all
// functions that are not the runtime's own. Names are those of the spans. One owner; the spans are
// only read.

#ifndef FIBERSCOPE_ANALYSIS_TRACE_PORTION_H
#define FIBERSCOPE_ANALYSIS_TRACE_PORTION_H

#include "analysis/trace/spans.h"
#include "analysis/trace/times.h"

enum { TRACE_PORTION_TOP = 12 };

struct trace_portion_function {
    uint32_t name;
    uint64_t fibers, alive; // alive: at the end of the portion
    struct trace_times times;
};

struct trace_portion_fiber {
    uint32_t lane;
    int64_t ns;
};

struct trace_portion {
    int64_t begin_ns, end_ns;
    uint64_t fibers, alive;
    struct trace_times totals;
    struct trace_portion_function *functions; // most running first, once it is done
    uint32_t function_count;
    struct trace_portion_fiber running[TRACE_PORTION_TOP], blocked[TRACE_PORTION_TOP]; // most first
    uint32_t running_count, blocked_count; // the runtime's own are not among them
    int64_t all_running_ns;                // with those of the runtime
    uint64_t procs;                        // GOMAXPROCS at the end; 0: the trace does not say
    double busy;                           // see trace_portion_utilisation, once it is done
    struct portion_state *state;           // internal; NULL when done
};

// begin_ns, end_ns: held inside the spans'; both ends count, as --from and --to. 0 or -ENOMEM;
// trace_portion_free in any case.
int trace_portion_begin(struct trace_portion *p, const struct trace_spans *s, int64_t begin_ns,
                        int64_t end_ns);

// Goes on for about that many spans. 1: there is more; 0: it is done; -ENOMEM.
int trace_portion_step(struct trace_portion *p, uint64_t spans);
void trace_portion_free(struct trace_portion *p); // accepts a zeroed one

// What share of the Procs' time fibers ran, at each moment at most all of it, as trace_util has it; 0
// if the trace does not say how many there are.
double trace_portion_utilisation(const struct trace_portion *p);

// A fiber's time between two moments, which are clipped to its life; waits count where they begin
// inside. Adds to t. 0 or -ENOMEM.
int trace_lane_times(const struct trace_spans *s, uint32_t lane, int64_t begin_ns, int64_t end_ns,
                     struct trace_times *t);

#endif
