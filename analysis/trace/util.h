// SPDX-License-Identifier: MIT
//
// How well the Procs are used: a share as a function of time, and the least it is over any window
// of a length.
//
//   RUNNING  fibers that run, of the Procs there are (GOMAXPROCS). The trace says how many only after
//            it has begun: what is before that counts with the first number. A fiber that is first
//            heard of as it runs has done so since the last Sync, as its own times have it, so that
//            the whole is the sum of the fibers' running times
//   MUTATOR  Procs not taken by Go's garbage collector: stop-the-world, background marking, assists,
//            as in go tool trace's /mmu. That one (Go 1.26) counts a background worker twice each
//            time it starts after the first and never takes that back, so it ends at 0 after some
//            collections; and it forgets the time after the last change if that was to 0.
//
// Invariant: the function is constant between two points and ends with the last, whose value has no
// meaning. Memory: one point for each change; of RUNNING with only_mean two, whatever the length.
// One owner.

#ifndef FIBERSCOPE_ANALYSIS_TRACE_UTIL_H
#define FIBERSCOPE_ANALYSIS_TRACE_UTIL_H

#include "formats/trace/trace.h"

enum trace_util_kind { TRACE_UTIL_RUNNING, TRACE_UTIL_MUTATOR };

struct trace_util_point {
    int64_t at_ns;
    double share;    // from here on
    double integral; // of the share, up to here, in ns; after trace_util_finish
};

struct trace_util {
    enum trace_util_kind kind;
    bool
        only_mean; // set before the first event: no curve, only what trace_util_mean says of it all
    int64_t from_ns, to_ns;          // 0: no limit
    struct trace_util_point *points; // [count]
    size_t count, capacity;
    struct util_state *state; // internal
};

// 0 or -ENOMEM.
int trace_util_new(struct trace_util **out, enum trace_util_kind kind, int64_t from_ns,
                   int64_t to_ns);
int trace_util_event(struct trace_util *u, const struct trace_reader *r,
                     const struct trace_event *ev);
int trace_util_finish(struct trace_util *u);
uint64_t trace_util_procs(const struct trace_util *u); // GOMAXPROCS at the end; 0: never said
void trace_util_free(struct trace_util *u);            // accepts NULL

// What share of the Procs `running` fibers have at one moment: plain threads are more at times.
static inline double trace_util_share(uint64_t running, uint64_t procs)
{
    return running < procs ? (double)running / (double)procs : procs ? 1 : 0;
}

// Puts a point by hand, times ascending, before trace_util_finish: for tests. 0 or -ENOMEM.
int trace_util_point(struct trace_util *u, int64_t at_ns, double share);

// The mean share of [begin_ns, end_ns), both held inside the function's bounds; 0 if that is empty.
double trace_util_mean(const struct trace_util *u, int64_t begin_ns, int64_t end_ns);

// The least mean over a window of this length (of everything, if that is shorter); *at_ns is where
// such a window begins. 0 for a function without length.
double trace_util_minimum(const struct trace_util *u, int64_t window_ns, int64_t *at_ns);

#endif
