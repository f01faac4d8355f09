// SPDX-License-Identifier: MIT
//
// The tree of stacks as rows that open and close, the heaviest first: what each call has with all
// beneath it, and of its own. Of an inverted model: callers beneath what they call.

#ifndef FIBERSCOPE_VIEWER_VIEWS_TREE_H
#define FIBERSCOPE_VIEWER_VIEWS_TREE_H

#include "viewer/profile_model.h"
#include "viewer/views/table.h"

enum { TREE_TOTAL, TREE_TOTAL_SHARE, TREE_SELF, TREE_NAME, TREE_COLUMNS };

struct tree {
    const struct profile_model *model;
    struct table table;
    uint8_t *open;  // [stacks.count]
    uint32_t *rows; // [row_count], nodes that are shown
    uint32_t row_count, row_capacity;
    bool failed; // out of memory: some rows are missing
};

int tree_init(struct tree *t, const struct profile_model *m); // 0 or -ENOMEM
void tree_finish(struct tree *t);                             // accepts a zeroed one

unsigned tree_frame(struct tree *t, struct ui *u, struct rect r);

const char *tree_chosen(const struct tree *t);       // its name; NULL: nothing
void tree_choose(struct tree *t, const char *label); // opens what leads to its widest call

#endif
