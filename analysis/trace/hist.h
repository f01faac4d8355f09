// SPDX-License-Identifier: MIT
//
// Latency histogram: log-linear buckets, eight to each power of two, fixed size, no allocation.
//
// Invariant: count == sum of buckets[], sum_ns is exact, and a quantile is at most 12.5 % above the
// true one and never above the largest value. One owner.

#ifndef FIBERSCOPE_ANALYSIS_TRACE_HIST_H
#define FIBERSCOPE_ANALYSIS_TRACE_HIST_H

#include <stdint.h>

enum { TRACE_HIST_BUCKETS = 488 }; // 61 powers of two x 8 steps: all of int64_t

struct trace_hist {
    uint64_t count;
    int64_t sum_ns, max_ns;
    uint64_t buckets[TRACE_HIST_BUCKETS];
};

// A zeroed struct trace_hist is an empty one. Below 0 counts as 0.
void trace_hist_add(struct trace_hist *h, int64_t value_ns);

// A value that a share q of the observations does not exceed, in ns; 0 if h is empty.
int64_t trace_hist_quantile_ns(const struct trace_hist *h, double q);

// The smallest value of bucket i; bucket i ends where the next begins.
int64_t trace_hist_bucket_ns(unsigned i);

#endif
