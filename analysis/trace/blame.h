// SPDX-License-Identifier: MIT
//
// Whom a fiber waits for: who holds the lock, who has the Proc.
//
// Invariant: the parts that a function gives for a step are in no order, do not overlap, and add up to the step.

#ifndef FIBERSCOPE_ANALYSIS_TRACE_BLAME_H
#define FIBERSCOPE_ANALYSIS_TRACE_BLAME_H

#include "analysis/trace/critical.h"

struct trace_blame {
    int64_t begin_ns, end_ns;
    uint32_t lane;  // a fiber; TRACE_NO_LANE: nobody, or it is not in the trace
    uint32_t stack; // where it let go: unlocked; stopped running (0: it ended)
};

typedef int trace_blame_fn(void *arg, const struct trace_blame *part); // what is not 0 ends it

// Of a step that waits for a lock (TRACE_PART_LOCK): who held it, from when to when. A trace says who woke the waiting
// fiber: the last holder. If that one had itself waited for a lock meanwhile, until somebody let go of it, that
// somebody was in the way until then, and so on: of a queue each has its part, and so has the holder of a second lock
// that the first one's waits for. Conditions, wait groups and joins are not held: they are all the waker's.
int trace_holders(const struct trace_spans *s, const struct trace_step *step, trace_blame_fn *fn,
                  void *arg);

// Of a step that is runnable: who had the Proc that it then ran on. The spans need runs.
int trace_occupants(const struct trace_spans *s, const struct trace_step *step, trace_blame_fn *fn,
                    void *arg);

#endif
