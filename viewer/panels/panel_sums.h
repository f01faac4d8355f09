// SPDX-License-Identifier: MIT
//
// Two panels from the sums of a range: its statistics, and a table of its start functions.
//
// With a kernel trace the statistics have what fibers lost to the kernel, too, as `fiberscope trace lost` of that range.
//
// Invariant: figures are those of `fiberscope trace --from --to` and `trace fibers` of the same
// range (portion.h says where a few nanoseconds differ).

#ifndef FIBERSCOPE_VIEWER_PANELS_PANEL_SUMS_H
#define FIBERSCOPE_VIEWER_PANELS_PANEL_SUMS_H

#include "analysis/trace/portion.h"
#include "viewer/panels/panel.h"

enum { PANEL_SUMS_REASONS = 3 }; // columns of their own in the table

struct panel_sums {
    struct trace_portion portion; // the facts, of begin_ns to end_ns
    struct kernel_times lost; // where there is a kernel trace: what fibers lost to the kernel then
    int64_t begin_ns, end_ns;
    bool has; // facts
    uint32_t reasons[PANEL_SUMS_REASONS], reason_count;
    uint32_t *order; // [function_count], of portion.functions
    int order_column;
    bool order_ascending;
    struct panel_table table;
};

void panel_sums_init(struct panel_sums *x);
void panel_sums_finish(struct panel_sums *x);
bool panel_sums_due(const struct panel_sums *x, const struct panel_context *c);
int panel_sums_work(struct panel_sums *x, const struct panel_context *c); // 0 or -ENOMEM

void panel_statistics_frame(struct panel_sums *x, const struct panel_context *c, struct ui *u,
                            struct rect r);
void panel_fibers_frame(struct panel_sums *x, const struct panel_context *c, struct ui *u,
                        struct rect r);

#endif
