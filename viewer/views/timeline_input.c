// SPDX-License-Identifier: MIT
//
// What keys and the mouse do on the timeline. See timeline.h.

#include "viewer/views/timeline_internal.h"

#include "viewer/bindings.h"

#include <math.h>
#include <stdlib.h>

static const double LEAST_NS = 200; // shown at once

// Cut to the trace and to what can be shown, keeping its length where possible.
static struct timeline_window fit(const struct timeline *t, double begin, double end)
{
    double all = (double)(t->model->end_ns - t->model->begin_ns);
    double least = all < LEAST_NS ? all : LEAST_NS, length = end - begin;
    if (!(length > least)) {
        begin -= (least - length) / 2;
        length = least;
    }
    length = length < all ? length : all;
    begin = begin > 0 ? begin : 0;
    begin = begin + length > all ? all - length : begin;
    return (struct timeline_window){begin, begin + length};
}

static void keep(struct timeline *t)
{
    if (t->undo_count == TIMELINE_UNDO) {
        for (int i = 1; i < TIMELINE_UNDO; i++)
            t->undo[i - 1] = t->undo[i];
        t->undo_count--;
    }
    t->undo[t->undo_count++] = t->shown;
}

void timeline_show(struct timeline *t, double begin, double end)
{
    keep(t);
    t->shown = fit(t, begin, end);
}

// By a factor, so that the moment at x stays where it is.
static void zoom(struct timeline *t, int x, double factor)
{
    double at = timeline_time(t, x);
    struct timeline_window w = t->shown;
    t->shown = fit(t, at - (at - w.begin) * factor, at + (w.end - at) * factor);
}

static void pan(struct timeline *t, double part)
{
    double by = (t->shown.end - t->shown.begin) * part;
    t->shown = fit(t, t->shown.begin + by, t->shown.end + by);
}

// The chosen span, else the range, else all.
static void show_chosen(struct timeline *t)
{
    if (t->lane != UINT32_MAX) {
        const struct lod *l = &t->model->lanes[t->lane].lod;
        double begin = (double)(l->begin_ns[t->span] - t->model->begin_ns);
        double end = (double)(l->end_ns[t->span] - t->model->begin_ns);
        timeline_show(t, begin - (end - begin) / 2, end + (end - begin) / 2);
    } else if (t->range.end > t->range.begin) {
        timeline_show(t, t->range.begin, t->range.end);
    } else {
        timeline_show(t, 0, 1e300);
    }
}

// The next span of the lane, shown if it was not.
static void step(struct timeline *t, bool forward)
{
    if (t->lane == UINT32_MAX)
        return;
    const struct lod *l = &t->model->lanes[t->lane].lod;
    if (forward ? t->span + 1 >= l->count : !t->span)
        return;
    t->span += forward ? 1 : UINT32_MAX;
    double begin = (double)(l->begin_ns[t->span] - t->model->begin_ns);
    double length = t->shown.end - t->shown.begin;
    if (begin < t->shown.begin || begin > t->shown.end)
        t->shown = fit(t, begin - length / 2, begin + length / 2);
}

static void keys(struct timeline *t, struct ui *u)
{
    int middle = t->lanes.x + t->lanes.w / 2;
    int at = ui_inside(u, t->lanes) ? u->mouse_x : middle;
    if (command_given(u, COMMAND_ZOOM_IN))
        zoom(t, at, pow(1.5, -u->stride));
    if (command_given(u, COMMAND_ZOOM_OUT))
        zoom(t, at, pow(1.5, u->stride));
    if (command_given(u, COMMAND_PAN_LEFT))
        pan(t, -u->stride / 4);
    if (command_given(u, COMMAND_PAN_RIGHT))
        pan(t, u->stride / 4);
    if (command_given(u, COMMAND_ZOOM_IN_MIDDLE))
        zoom(t, middle, 0.5);
    if (command_given(u, COMMAND_ZOOM_OUT_MIDDLE))
        zoom(t, middle, 2);
    if (command_given(u, COMMAND_WHOLE))
        timeline_show(t, 0, 1e300);
    if (command_given(u, COMMAND_FIT))
        show_chosen(t);
    if (command_given(u, COMMAND_SPAN_BEFORE))
        step(t, false);
    if (command_given(u, COMMAND_SPAN_AFTER))
        step(t, true);
    if (t->undo_count && command_given(u, COMMAND_UNDO))
        t->shown = t->undo[--t->undo_count];
    if (command_given(u, COMMAND_CANCEL)) {
        t->lane = UINT32_MAX;
        t->range = (struct timeline_window){0};
    }
}

static void wheel(struct timeline *t, struct ui *u)
{
    const struct ui_event *ev = &u->event;
    if (ev->kind != UI_WHEEL || !ui_inside(u, t->lanes))
        return;
    if (ev->mods & UI_CTRL)
        zoom(t, u->mouse_x, ev->dy > 0 ? 1 / 1.25 : 1.25);
    else if (ev->mods & UI_SHIFT)
        pan(t, -ev->dy / 120.0 / 10);
    else
        pan(t, ev->dx / 120.0 / 10);
    u->event.kind = UI_NONE;
}

// A click chooses a span, a drag a range; with Shift, or another button, a drag moves the picture.
static void mouse(struct timeline *t, struct ui *u, uint32_t hot_lane, uint32_t hot_span)
{
    bool other = u->event.kind == UI_PRESS && u->event.button != UI_LEFT && ui_inside(u, t->lanes);
    bool shift = u->event.mods & UI_SHIFT;
    unsigned hit = ui_hit(u, ui_id("timeline", 0), t->lanes);
    if (hit & UI_PRESSED || other) {
        t->drag = other || shift ? TIMELINE_PAN : TIMELINE_MAYBE;
        t->drag_x = u->mouse_x;
        if (hit & UI_DOUBLE && t->lane != UINT32_MAX)
            show_chosen(t);
    }
    if (t->drag == TIMELINE_MAYBE && hit & UI_HELD && abs(u->mouse_x - u->press_x) > 3)
        t->drag = TIMELINE_CHOOSE;
    if (t->drag == TIMELINE_CHOOSE) {
        double a = timeline_time(t, u->press_x), b = timeline_time(t, u->mouse_x);
        double all = (double)(t->model->end_ns - t->model->begin_ns);
        t->range = (struct timeline_window){a < b ? a : b, a < b ? b : a};
        t->range.begin = t->range.begin > 0 ? t->range.begin : 0;
        t->range.end = t->range.end < all ? t->range.end : all;
    }
    if (t->drag == TIMELINE_PAN && u->mouse_x != t->drag_x) {
        pan(t, (double)(t->drag_x - u->mouse_x) / t->lanes.w);
        t->drag_x = u->mouse_x;
    }
    if (hit & UI_CLICKED && t->drag == TIMELINE_MAYBE) {
        t->lane = hot_lane;
        t->span = hot_span;
        t->range = (struct timeline_window){0};
    }
    if (!u->down)
        t->drag = TIMELINE_NO_DRAG;
}

void timeline_input(struct timeline *t, struct ui *u, uint32_t hot_lane, uint32_t hot_span)
{
    struct timeline_window was = t->shown;
    uint32_t was_lane = t->lane, was_span = t->span, fiber = UINT32_MAX;
    uint8_t was_drag = t->drag;
    struct timeline_window was_range = t->range;
    if (hot_lane != UINT32_MAX)
        fiber = trace_spans_fiber(t->model->spans, t->model->lanes[hot_lane].span[hot_span]);
    if (hot_lane != UINT32_MAX && t->drag != TIMELINE_PAN && t->drag != TIMELINE_CHOOSE)
        timeline_tip(t, u, hot_lane, hot_span);
    keys(t, u);
    wheel(t, u);
    mouse(t, u, hot_lane, hot_span);
    // What was drawn in this frame is how it was before the event.
    u->again |= was.begin != t->shown.begin || was.end != t->shown.end || t->hot_fiber != fiber ||
                was_lane != t->lane || was_span != t->span || was_drag != t->drag ||
                was_range.begin != t->range.begin || was_range.end != t->range.end;
    t->hot_fiber = fiber;
}
