// SPDX-License-Identifier: MIT
//
// What portion.c has of portion_busy.c.

#ifndef FIBERSCOPE_ANALYSIS_TRACE_PORTION_INTERNAL_H
#define FIBERSCOPE_ANALYSIS_TRACE_PORTION_INTERNAL_H

#include "analysis/trace/spans.h"

struct portion_busy {
    bool is_kept;           // more Procs are there than GOMAXPROCS says
    int64_t *begins, *ends; // [count], of what runs
    size_t count, capacity;
};

void portion_busy_begin(struct portion_busy *b, const struct trace_spans *s);
int portion_busy_add(struct portion_busy *b, int64_t begin_ns, int64_t end_ns); // 0 or -ENOMEM
void portion_busy_finish(struct portion_busy *b); // accepts a zeroed one

// The mean of trace_util_share over [begin_ns, end_ns), of what was kept.
double portion_busy_share(struct portion_busy *b, const struct trace_spans *s, int64_t begin_ns,
                          int64_t end_ns);

#endif
