// SPDX-License-Identifier: MIT
//
// The rows of the reports sched, sync, syscall and net: a profile's stacks as a reader sees them.
//
// Invariant: no two rows have the same functions and lines (of files that are known); the rows' counts and times are the profile's, in other
// portions. Longest first.

#ifndef FIBERSCOPE_ANALYSIS_TRACE_WAIT_ROWS_H
#define FIBERSCOPE_ANALYSIS_TRACE_WAIT_ROWS_H

#include "analysis/trace/profile.h"

struct trace_wait_row {
    const struct pprof_sample *stack; // one with its frames; borrowed from the profile
    bool has_waker;                   // then it has no frames
    enum trace_waker waker;
    uint64_t count;
    int64_t ns;
};

// wakers: what divides the sample without frames, as trace_profile_wakers has it; NULL: it stays one row. The caller
// owns *rows (free). 0 or -ENOMEM.
int trace_wait_rows(const struct pprof_profile *p, const struct trace_waits *wakers,
                    struct trace_wait_row **rows, size_t *count);

#endif
