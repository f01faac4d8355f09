// SPDX-License-Identifier: MIT
//
// All stacks of a report as one tree: what flame graphs and folded stacks show.
//
// Invariant: nodes[0] is the root (everything); a parent stands before its children; total is self
// plus the children's totals; siblings are ordered by name, so that two graphs of one program can be
// laid side by side.

#ifndef FIBERSCOPE_ANALYSIS_STACKS_H
#define FIBERSCOPE_ANALYSIS_STACKS_H

#include "analysis/report.h"

struct stacks_node {
    const char *name;   // never empty, but for the root
    const char *module; // file of the mapping, "" if unknown
    const char *file;
    int64_t self, total;
    uint32_t parent, first_child, next, depth;
    uint32_t child_count;
    bool is_inline, is_kernel;
};

struct stacks {
    struct stacks_node *nodes; // [count]
    uint32_t count, capacity;
    uint32_t depth;    // of the deepest node
    uint32_t *table;   // internal
    size_t table_size; // internal
    uint64_t negative; // samples left out because their value is below 0
};

// Builds the tree from a prepared report (report_prepare); inverted: leaves first, so that callers
// stand above what they call. Negative values have no width and are left out, counted. 0 or -errno;
// stacks_finish in any case.
int stacks_build(struct stacks *s, const struct report *r, bool inverted, struct fscope_error *err);
void stacks_finish(struct stacks *s);

#endif
