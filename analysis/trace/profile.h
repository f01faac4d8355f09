// SPDX-License-Identifier: MIT
//
// Where fibers wait, as pprof profiles: the four of `go tool trace -pprof=net|sync|syscall|sched`,
// figure for figure.
//
//   net      waits with the reason "network"
//   sync     waits on channels, locks, conditions, select
//   syscall  system calls, until the fiber has a Proc again
//   sched    runnable, until it runs
//
// A wait counts under the stack of whoever began it: the fiber's own when it blocks, the waker's
// when it becomes runnable. As in Go, what a fiber waits before it runs for the first time in the
// trace does not count (it is not known what went before) unless it never runs; nor does a wait
// that the trace does not see the end of.
//
// Memory: live fibers and distinct stacks. One owner.

#ifndef FIBERSCOPE_ANALYSIS_TRACE_PROFILE_H
#define FIBERSCOPE_ANALYSIS_TRACE_PROFILE_H

#include "analysis/trace/stacks.h"
#include "analysis/trace/waker.h"
#include "formats/pprof.h"

enum trace_profile_kind {
    TRACE_PROFILE_NET,
    TRACE_PROFILE_SYNC,
    TRACE_PROFILE_SYSCALL,
    TRACE_PROFILE_SCHED,
};

struct trace_profile;

struct trace_waits {
    uint64_t count;
    int64_t ns;
};

// Only what lies between the two times counts; 0, 0: all. 0 or -ENOMEM.
int trace_profile_new(struct trace_profile **out, enum trace_profile_kind kind, int64_t from_ns,
                      int64_t to_ns);

// The next event of the reader; 0 or -ENOMEM.
int trace_profile_event(struct trace_profile *p, const struct trace_reader *r,
                        const struct trace_event *ev);

// Whether any wait of the kind was seen so far, ended or not.
bool trace_profile_any(const struct trace_profile *p);

// The trace is over. Sample types contentions/count and delay/nanoseconds; the caller owns *out
// (pprof_free). 0 or -ENOMEM.
int trace_profile_finish(struct trace_profile *p, struct pprof_profile **out);
void trace_profile_free(struct trace_profile *p); // accepts NULL

// Of sched: the waits before a fiber's first run, which, as in Go's, are in no sample.
struct trace_waits trace_profile_first_waits(const struct trace_profile *p);

// Once it is over, of sched: the sample without a stack, divided. [TRACE_WAKER_COUNT], valid until trace_profile_free.
const struct trace_waits *trace_profile_wakers(const struct trace_profile *p);

// A profile with these two values per stack of a table: counts and times are [stack_count].
int trace_profile_build(struct pprof_profile **out, const struct trace_names *n,
                        const struct trace_stacks *s, const uint64_t *counts,
                        const int64_t *times_ns, uint32_t stack_count);

#endif
