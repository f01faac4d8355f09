// SPDX-License-Identifier: MIT
//
// From the timeline of a part of a trace to that of more of it: what the user chose stays chosen.

#include "viewer/views/timeline_internal.h"

#include <string.h>

// The lane of the same fiber, Proc or thread.
static uint32_t lane_of(const struct trace_spans *to, const struct trace_spans *from, uint32_t lane)
{
    if (lane >= from->lane_count)
        return TRACE_NO_LANE;
    return trace_spans_lane(to, trace_spans_lane_kind(from, lane), from->lanes[lane].id);
}

// The span of the same fiber that begins at the same time.
static uint32_t span_of(const struct trace_spans *to, const struct trace_spans *from, uint32_t span)
{
    if (span >= from->span_count)
        return TRACE_NO_SPAN;
    int64_t begin_ns = trace_span_begin_ns(from, span);
    uint32_t lane = lane_of(to, from, trace_spans_fiber(from, span));
    uint32_t at =
        lane == TRACE_NO_LANE ? TRACE_NO_SPAN : trace_spans_before(to, lane, begin_ns + 1);
    return at != TRACE_NO_SPAN && trace_span_begin_ns(to, at) == begin_ns ? at : TRACE_NO_SPAN;
}

static bool same_name(const struct trace_model *a, uint32_t name, const struct trace_model *b,
                      uint32_t other)
{
    return !strcmp(trace_names_text(&a->spans->names, name),
                   trace_names_text(&b->spans->names, other));
}

// Groups and heads that are not as they are at first.
static void carry_rows(struct lanes *to, const struct lanes *from)
{
    const struct trace_model *m = to->model, *old = from->model;
    to->sort = from->sort;
    to->sort_at_ns = from->sort_at_ns;
    memcpy(to->filter, from->filter, sizeof to->filter);
    to->threads_open = from->threads_open || (to->kernel && !from->kernel && to->threads_open);
    to->stacks = from->stacks;
    if (from->tasks_open != lanes_tasks_at_first(from))
        to->tasks_open = from->tasks_open;
    for (uint32_t i = 0, shown = 0; i < old->group_count; i++) {
        if (from->open[i] == lanes_open_at_first(old, i, &shown))
            continue;
        for (uint32_t k = 0; k < m->group_count; k++)
            if (same_name(m, m->groups[k].name, old, old->groups[i].name))
                to->open[k] = from->open[i];
    }
    to->is_stale = true;
}

void timeline_carry(struct timeline *to, const struct timeline *from,
                    struct timeline_window at_first)
{
    const struct trace_spans *s = to->model->spans, *old = from->model->spans;
    bool moved = from->shown.begin != at_first.begin || from->shown.end != at_first.end;
    if (moved)
        to->shown = timeline_fit(to, from->shown.begin, from->shown.end);
    if (moved || from->history.undo_count > to->history.undo_count)
        to->history = from->history;
    to->range = from->range;
    memcpy(to->marks, from->marks, sizeof to->marks);
    to->mark_count = from->mark_count;
    to->mark_at = from->mark_at;
    to->scroll = from->scroll;
    to->drag = from->drag;
    to->drag_x = from->drag_x;
    to->drag_ns = from->drag_ns;
    to->span = span_of(s, old, from->span);
    to->lane = to->span == TRACE_NO_SPAN ? TRACE_NO_LANE : lane_of(s, old, from->lane);
    if (to->lane == TRACE_NO_LANE)
        to->span = TRACE_NO_SPAN;
    carry_rows(&to->rows, &from->rows);
}
