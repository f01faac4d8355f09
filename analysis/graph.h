// SPDX-License-Identifier: MIT
//
// What the parts of the report share. Internal to analysis/.

#ifndef FIBERSCOPE_ANALYSIS_GRAPH_H
#define FIBERSCOPE_ANALYSIS_GRAPH_H

#include "analysis/report.h"

int graph_start(struct report *r); // nodes of all locations, no counts. 0 or -ENOMEM
int graph_nodes(struct report *r); // part of graph_start
int graph_count(struct report *r); // counts all samples into kept nodes, lists those not zero

// Address, name, file:line, as far as the granularity leaves them; never empty. NULL: no memory.
char *graph_node_label(struct arena *a, const struct report_node *n);

// Drops light edges, orders nodes and edges for the report. 0 or -ENOMEM.
void graph_sort_nodes(struct report *r);
int graph_link_edges(struct report *r, int64_t cutoff);

static inline int64_t graph_abs(int64_t v)
{
    return v >= 0 ? v : v == INT64_MIN ? INT64_MAX : -v;
}

static inline int64_t graph_add(int64_t a, int64_t b) // saturates
{
    int64_t sum;
    if (__builtin_add_overflow(a, b, &sum))
        return a < 0 ? INT64_MIN : INT64_MAX;
    return sum;
}

#endif
