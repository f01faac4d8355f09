// SPDX-License-Identifier: MIT
//
// All stacks of a report as one tree: what flame graphs and folded stacks show.
//
// Invariant: nodes[0] is the root (everything); a parent stands before its children; total is self
// plus the children's totals; siblings are ordered by name, so that two graphs of one program can be
// laid side by side.
//
// Two profiles in one tree (STACKS_COMPARED) keep both sets of samples. The value of a frame is then
// what it has of either: self is the larger of base's and now's, and total sums that up. So
//   total = now.total + what disappeared below it = base.total + what is new below it,
// nothing is negative, children fit into their parents, and a frame that only the base has is there.

#ifndef FIBERSCOPE_ANALYSIS_STACKS_H
#define FIBERSCOPE_ANALYSIS_STACKS_H

#include "analysis/report.h"

enum stacks_values {
    STACKS_POSITIVE, // negative values have no width and are left out, counted
    STACKS_SIGNED,   // values as they are
    STACKS_COMPARED, // positive values are now's, negative ones the base's (see pprof_subtract)
};

struct stacks_share {
    int64_t self, total;
};

struct stacks_node {
    const char *name;   // never empty, but for the root
    const char *module; // file of the mapping, "" if unknown
    const char *file;
    int64_t self, total;
    struct stacks_share base, now; // STACKS_COMPARED only, else 0
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
    enum stacks_values values;
    uint64_t negative; // samples left out because their value is below 0
};

// How a frame of two profiles changed, in steps: gone, to half or less, to 1/1.25, to 1/1.05, the same,
// x 1.05, x 1.25, x 2 or more, new.
enum { STACKS_GONE, STACKS_SAME = 4, STACKS_NEW = 8, STACKS_STEPS };
unsigned stacks_step(const struct stacks_node *n);
int64_t stacks_gone(const struct stacks_node *n); // what of its own width is gone, at its right end

// "cpu: base 1.20s -> 1.80s (+0.60s, +50.0%). Width: what either has" into buf.
void stacks_difference(char *buf, size_t size, const struct report *r, const struct stacks *s);

// Builds the tree from a prepared report (report_prepare); inverted: leaves first, so that callers
// stand above what they call. Samples whose values would make the sum overflow are left out. 0 or
// -errno; stacks_finish in any case.
int stacks_build(struct stacks *s, const struct report *r, enum stacks_values values, bool inverted,
                 struct fscope_error *err);

// What is around one function (a label of the report's nodes), callers or callees, nearest first. nodes[0]
// is the function itself. A sample counts once, by the function's outermost call in it, so that the root's
// total is the function's cum.
int stacks_around(struct stacks *s, const struct report *r, enum stacks_values values,
                  const char *label, bool callers, struct fscope_error *err);
void stacks_finish(struct stacks *s);

#endif
