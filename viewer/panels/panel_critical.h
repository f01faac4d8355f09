// SPDX-License-Identifier: MIT
//
// The critical path of a range: what its end had to wait for. As `fiberscope trace critical` says
// of the same range; of an instance that was jumped to, it is the path to the end of its fiber
// there, as with --region.

#ifndef FIBERSCOPE_VIEWER_PANELS_PANEL_CRITICAL_H
#define FIBERSCOPE_VIEWER_PANELS_PANEL_CRITICAL_H

#include "analysis/trace/critical.h"
#include "viewer/panels/panel.h"

struct panel_critical {
    struct panel_goal of; // the instance that was jumped to; its lane counts while it is the range
    // Facts.
    bool has;
    int64_t begin_ns, end_ns;
    uint32_t of_lane, lane; // lane: whose end it is; TRACE_NO_LANE: no fiber ran
    struct trace_step *steps;
    uint32_t count;
    int64_t sums_ns[TRACE_PARTS], whole_ns, longest_ns;
    uint32_t *order; // [count]
    int order_column;
    bool order_ascending;
    struct panel_table table;
};

void panel_critical_init(struct panel_critical *x);
void panel_critical_finish(struct panel_critical *x);
bool panel_critical_due(const struct panel_critical *x, const struct panel_context *c);
int panel_critical_work(struct panel_critical *x, const struct panel_context *c);
void panel_critical_frame(struct panel_critical *x, const struct panel_context *c, struct ui *u,
                          struct rect r, struct panel_goal *goal);

#endif
