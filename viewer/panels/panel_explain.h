// SPDX-License-Identifier: MIT
//
// Why the slow instances of a region or task are slow: what `fiberscope trace explain` says.
//
// The name is that of the latency panel, and so is the time that instances are of: all of the trace
// or the range. Slow is from p99 on or, where the histogram has a brush, from its lower end on.

#ifndef FIBERSCOPE_VIEWER_PANELS_PANEL_EXPLAIN_H
#define FIBERSCOPE_VIEWER_PANELS_PANEL_EXPLAIN_H

#include "analysis/trace/explain.h"
#include "viewer/panels/panel_latency.h"

struct panel_explain {
    // Facts.
    bool has;
    uint32_t name;
    bool is_task;
    int64_t begin_ns, end_ns; // what instances are of
    int64_t brush_ns;         // where the brush begins; 0: there is none
    struct trace_explained explained;
    int rc;          // 0, -EAGAIN (none is slow), -ENOENT (none has both ends)
    uint32_t *order; // [piece_count]
    int order_column;
    bool order_ascending;
    struct panel_table table;
};

void panel_explain_init(struct panel_explain *x);
void panel_explain_finish(struct panel_explain *x);
bool panel_explain_due(const struct panel_explain *x, const struct panel_latency *names);
int panel_explain_work(struct panel_explain *x, const struct panel_context *c,
                       const struct panel_latency *names); // 0 or -ENOMEM

// The names stand beside it: part 0; the pieces are part 1.
void panel_explain_frame(struct panel_explain *x, struct panel_context *c,
                         struct panel_latency *names, struct ui *u, struct rect r);

#endif
