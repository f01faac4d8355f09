// SPDX-License-Identifier: MIT
//
// The tables of the latency panel: names, and instances.

#ifndef FIBERSCOPE_VIEWER_PANELS_PANEL_SPANS_H
#define FIBERSCOPE_VIEWER_PANELS_PANEL_SPANS_H

#include "viewer/panels/panel_latency.h"

enum panel_names_column {
    PANEL_NAMES_NAME,
    PANEL_NAMES_COUNT,
    PANEL_NAMES_COMPLETE,
    PANEL_NAMES_LONGEST,
    PANEL_NAMES_TOTAL,
    PANEL_NAMES_COLUMNS,
};

enum panel_spans_column {
    PANEL_SPANS_FIBER,
    PANEL_SPANS_BEGIN,
    PANEL_SPANS_LENGTH,
    PANEL_SPANS_RUNNING,
    PANEL_SPANS_RUNNABLE,
    PANEL_SPANS_BLOCKED,
    PANEL_SPANS_SYSCALL,
    PANEL_SPANS_COLUMNS,
};

// Puts the names in their table's order.
void panel_names_order(struct panel_names *n, const struct trace_model *m);

// Puts all instances in the table's order; then what the brush leaves of them is to be found.
// 0 or -ENOMEM.
int panel_spans_order(struct panel_latency *x, const struct trace_model *m);
void panel_spans_filter(struct panel_latency *x);

void panel_spans_frame(struct panel_latency *x, const struct panel_context *c, struct ui *u,
                       struct rect r, bool has_keys, struct panel_goal *goal);

#endif
