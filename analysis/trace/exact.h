// SPDX-License-Identifier: MIT
//
// Exact quantiles of lengths, for as long as all of them fit in what memory there is for it.
//
// Invariant: either every value that was added is there, or `lost` is set and none is. How much
// memory there is, several share: `*left` is the number of values for which there is room.

#ifndef FIBERSCOPE_ANALYSIS_TRACE_EXACT_H
#define FIBERSCOPE_ANALYSIS_TRACE_EXACT_H

#include <stdbool.h>
#include <stdint.h>

struct trace_exact { // a zeroed one is empty
    int64_t *values; // [count], malloc'd; in order after trace_exact_sort
    uint32_t count, capacity;
    bool lost;
};

void trace_exact_add(struct trace_exact *e, uint32_t *left, int64_t value_ns);
void trace_exact_lose(struct trace_exact *e, uint32_t *left); // gives its room back
void trace_exact_sort(struct trace_exact *e);
void trace_exact_finish(struct trace_exact *e);

// The value below which a share q of all lies, as of `trace explain`: in order of length the one of
// index q * count. Sorted ones only. -1: it is empty or lost.
int64_t trace_exact_quantile_ns(const struct trace_exact *e, double q);

#endif
