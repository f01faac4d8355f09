// SPDX-License-Identifier: MIT
//
// Latencies: the names of regions and tasks, a histogram of one, its instances in a table.
//
// A brush on the histogram leaves in the table what is as long as that. The name that is chosen
// here is what `explain` explains.
//
// Invariant: counts, quantiles and buckets are those of `fiberscope trace regions` and `tasks` of
// the same time: all of the trace, or the range with `in_range`.

#ifndef FIBERSCOPE_VIEWER_PANELS_PANEL_LATENCY_H
#define FIBERSCOPE_VIEWER_PANELS_PANEL_LATENCY_H

#include "analysis/trace/hist.h"
#include "analysis/trace/instances.h"
#include "viewer/panels/panel.h"

enum panel_latency_part { PANEL_NAMES, PANEL_HISTOGRAM, PANEL_SPANS, PANEL_LATENCY_PARTS };

struct panel_names {                   // regions and tasks to choose from
    struct trace_instance_name *names; // [count]; regions first
    uint32_t count;
    int64_t begin_ns, end_ns; // what they are of
    bool has;
    struct panel_table table; // its chosen row is the chosen name
    uint32_t wanted;          // by panel_latency_choose, name + 1, when they are known
    bool wanted_is_task;
};

struct panel_latency {
    struct panel_names names;
    bool in_range;

    // Facts of the chosen name.
    bool has;
    uint32_t name;
    bool is_task;
    int64_t begin_ns, end_ns;
    struct trace_instance_span *spans; // [count]
    uint32_t count;
    struct trace_hist hist;             // of the complete ones
    int64_t p50_ns, p90_ns, p99_ns;     // exact
    unsigned first_bucket, last_bucket; // that have something; last is the one behind

    // Of the table.
    uint32_t *sorted;  // [count], of spans: all of them in the table's order
    uint16_t *buckets; // [count], of those, in that order: of their length; UINT16_MAX: not known
    uint32_t *order;   // [shown], of spans: what the brush leaves of `sorted`
    uint32_t shown;
    int order_column;
    bool order_ascending, order_stale, filter_stale;
    struct panel_table table;

    // The brush: buckets [brush_first, brush_last); none if empty.
    unsigned brush_first, brush_last, drag_from;
    bool is_dragged;
    struct rect bars; // of the last frame
};

// What the user has chosen, without what was made of it.
struct panel_latency_choice {
    bool has; // a name
    uint32_t name;
    bool is_task, in_range;
    unsigned brush_first, brush_last;
};

void panel_latency_init(struct panel_latency *x);
void panel_latency_finish(struct panel_latency *x);
bool panel_latency_due(const struct panel_latency *x, const struct panel_context *c);
int panel_latency_work(struct panel_latency *x, const struct panel_context *c); // 0 or -ENOMEM

// Whether only the brush has changed: that is quickly done, however many instances there are.
bool panel_latency_is_quick(const struct panel_latency *x, const struct panel_context *c);
void panel_latency_frame(struct panel_latency *x, struct panel_context *c, struct ui *u,
                         struct rect r, struct panel_goal *goal);

// Whether the trace has such regions or tasks at all.
bool panel_latency_has(const struct trace_model *m, const char *name, bool is_task);

// Takes a name, when the names are known. 0 or -ENOENT: the trace has none of that.
int panel_latency_choose(struct panel_latency *x, const struct trace_model *m, const char *name,
                         bool is_task);

// The chosen name; NULL: none.
const struct trace_instance_name *panel_latency_name(const struct panel_latency *x);

// R: of all of the trace, or of the range; in this panel and in explain.
void panel_latency_keys(struct panel_latency *x, const struct panel_context *c, struct ui *u);

// Leaves only what is as long as the buckets from first up to last; 0, 0: all.
void panel_latency_brush(struct panel_latency *x, unsigned first, unsigned last);

// What is chosen, or will be when the names are known; and the same into the panel of another model, where the name is
// this text. Where it has no such name, only in_range.
struct panel_latency_choice panel_latency_chosen(const struct panel_latency *x);
void panel_latency_restore(struct panel_latency *x, const struct trace_model *m, const char *name,
                           const struct panel_latency_choice *c);

// The names as a table, which other panels have, too.
void panel_names_frame(struct panel_latency *x, const struct panel_context *c, struct ui *u,
                       struct rect r, bool has_keys);

// The bars, with the brush.
void panel_histogram_frame(struct panel_latency *x, const struct panel_context *c, struct ui *u,
                           struct rect r, bool has_keys);

#endif
