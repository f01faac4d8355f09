// SPDX-License-Identifier: MIT
//
// The functions of a profile as a table: what `fiberscope top` and `go tool pprof -top` say of all
// of them, sorted by any column.

#ifndef FIBERSCOPE_VIEWER_VIEWS_TOP_H
#define FIBERSCOPE_VIEWER_VIEWS_TOP_H

#include "viewer/profile_model.h"
#include "viewer/views/table.h"

enum { TOP_FLAT, TOP_FLAT_SHARE, TOP_SUM, TOP_CUM, TOP_CUM_SHARE, TOP_NAME, TOP_COLUMNS };

struct top {
    const struct profile_model *model;
    struct table table;
    uint32_t *order; // of report.nodes
    int64_t *sums;   // of flat, in this order, up to and with the row
};

int top_init(struct top *t, const struct profile_model *m); // 0 or -ENOMEM; m has functions
void top_finish(struct top *t);                             // accepts a zeroed one

// A frame; what the user did (table.h).
unsigned top_frame(struct top *t, struct ui *u, struct rect r);

const char *top_chosen(const struct top *t); // its label; NULL: there are none
void top_choose(struct top *t, const char *label);
void top_sort(struct top *t); // as table.sort and table.reversed say

#endif
