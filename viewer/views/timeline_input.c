// SPDX-License-Identifier: MIT
//
// What keys and the mouse do on the timeline. See timeline.h.

#include "viewer/views/timeline_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double LEAST_NS = 200; // shown at once

// --- What is shown.

struct timeline_window timeline_fit(const struct timeline *t, double begin, double end)
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

static void push(struct timeline_window *stack, int *count, struct timeline_window w)
{
    if (*count == TIMELINE_UNDO)
        memmove(stack, stack + 1, (size_t)-- * count * sizeof *stack);
    stack[(*count)++] = w;
}

void timeline_keep(struct timeline *t)
{
    push(t->history.undo, &t->history.undo_count, t->shown);
    t->history.redo_count = 0;
    t->history.moving = false;
}

void timeline_undo(struct timeline *t)
{
    struct timeline_history *h = &t->history;
    if (!h->undo_count)
        return;
    push(h->redo, &h->redo_count, t->shown);
    t->shown = h->undo[--h->undo_count];
    h->moving = false;
}

void timeline_redo(struct timeline *t)
{
    struct timeline_history *h = &t->history;
    if (!h->redo_count)
        return;
    push(h->undo, &h->undo_count, t->shown);
    t->shown = h->redo[--h->redo_count];
    h->moving = false;
}

void timeline_show(struct timeline *t, double begin, double end)
{
    struct timeline_window to = timeline_fit(t, begin, end);
    if (to.begin == t->shown.begin && to.end == t->shown.end)
        return; // nothing to undo
    timeline_keep(t);
    t->shown = to;
}

// Zooming and panning in a row is one thing to undo.
static void move_to(struct timeline *t, double begin, double end)
{
    struct timeline_window to = timeline_fit(t, begin, end);
    if (to.begin == t->shown.begin && to.end == t->shown.end)
        return;
    if (!t->history.moving)
        timeline_keep(t);
    t->history.moving = true;
    t->shown = to;
}

// By a factor, so that the moment at x stays where it is.
static void zoom(struct timeline *t, int x, double factor)
{
    double at = timeline_time(t, x);
    struct timeline_window w = t->shown;
    move_to(t, at - (at - w.begin) * factor, at + (w.end - at) * factor);
}

static void pan(struct timeline *t, double part)
{
    double by = (t->shown.end - t->shown.begin) * part;
    move_to(t, t->shown.begin + by, t->shown.end + by);
}

// The range, else the chosen span, else all.
static void show_chosen(struct timeline *t)
{
    const struct trace_spans *s = t->model->spans;
    if (t->range.end > t->range.begin) {
        timeline_show(t, t->range.begin, t->range.end);
    } else if (t->span != TRACE_NO_SPAN) {
        int64_t end_ns = trace_span_end_ns(s, trace_spans_fiber(s, t->span), t->span);
        double begin = (double)(trace_span_begin_ns(s, t->span) - t->model->begin_ns);
        double end = (double)(end_ns - t->model->begin_ns);
        timeline_show(t, begin - (end - begin) / 2, end + (end - begin) / 2);
    } else {
        timeline_show(t, 0, 1e300);
    }
}

// The chosen span as the range.
static void span_to_range(struct timeline *t)
{
    const struct trace_spans *s = t->model->spans;
    if (t->span == TRACE_NO_SPAN)
        return;
    int64_t end_ns = trace_span_end_ns(s, trace_spans_fiber(s, t->span), t->span);
    t->range.begin = (double)(trace_span_begin_ns(s, t->span) - t->model->begin_ns);
    t->range.end = (double)(end_ns - t->model->begin_ns);
}

// "At the cursor": where the chosen span begins, else the middle of what is shown.
static void set_moment(struct timeline *t)
{
    double middle = (t->shown.begin + t->shown.end) / 2;
    t->rows.sort_at_ns = t->span == TRACE_NO_SPAN ? t->model->begin_ns + llround(middle)
                                                  : trace_span_begin_ns(t->model->spans, t->span);
    t->rows.is_stale = true;
}

void timeline_sort(struct timeline *t)
{
    t->rows.sort = (uint8_t)((t->rows.sort + 1) % LANES_SORTS);
    if (t->rows.sort == LANES_BY_LABEL && !t->model->labels)
        t->rows.sort++;
    set_moment(t);
}

// --- Keys.

enum command {
    ZOOM_IN = 1,
    ZOOM_OUT,
    ZOOM_IN_MIDDLE,
    ZOOM_OUT_MIDDLE,
    EARLIER,
    LATER,
    SHOW_ALL,
    SHOW_CHOSEN,
    TO_RANGE,
    BEFORE,
    AFTER,
    LANE_UP,
    LANE_DOWN,
    JUMP,
    WAKER,
    WOKEN,
    NEXT_WOKEN,
    MARK,
    NEXT_MARK,
    NO_MARKS,
    FILTER,
    SORT,
    GROUPS,
    TOP,
    BOTTOM,
    UNDO,
    REDO,
    NOTHING,
};

struct binding {
    uint32_t key;
    unsigned mods;
    enum command command;
};

static const struct binding bindings[] = {
    {'+', 0, ZOOM_IN_MIDDLE},
    {'=', 0, ZOOM_IN_MIDDLE},
    {'-', 0, ZOOM_OUT_MIDDLE},
    {'0', 0, SHOW_ALL},
    {'f', 0, SHOW_CHOSEN},
    {'r', 0, TO_RANGE},
    {',', 0, BEFORE},
    {'.', 0, AFTER},
    {'k', 0, LANE_UP},
    {'j', 0, LANE_DOWN},
    {'v', 0, JUMP},
    {'[', 0, WAKER},
    {']', 0, WOKEN},
    {']', UI_ALT, NEXT_WOKEN},
    {'n', 0, NEXT_WOKEN},
    {'m', 0, MARK},
    {'m', UI_SHIFT, NO_MARKS},
    {'\'', 0, NEXT_MARK},
    {'/', 0, FILTER},
    {'o', 0, SORT},
    {'c', 0, GROUPS},
    {UI_KEY_HOME, 0, TOP},
    {UI_KEY_END, 0, BOTTOM},
    {'z', UI_CTRL, UNDO},
    {UI_KEY_BACKSPACE, 0, UNDO},
    {'y', UI_CTRL, REDO},
    {'z', UI_CTRL | UI_SHIFT, REDO},
    {UI_KEY_ESCAPE, 0, NOTHING},
};

static const struct binding strides[] = {
    // with Shift four times as far, with Ctrl a quarter
    {'w', 0, ZOOM_IN}, {UI_KEY_UP, 0, ZOOM_IN},    {'s', 0, ZOOM_OUT},
    {'a', 0, EARLIER}, {UI_KEY_DOWN, 0, ZOOM_OUT}, {UI_KEY_LEFT, 0, EARLIER},
    {'d', 0, LATER},   {UI_KEY_RIGHT, 0, LATER},
};

// One level at a time: the filter, then what is chosen.
static void escape(struct timeline *t)
{
    if (t->span == TRACE_NO_SPAN && t->range.end <= t->range.begin && *t->rows.filter) {
        t->rows.filter[0] = 0;
        t->rows.is_stale = true;
    }
    timeline_choose(t, TRACE_NO_SPAN, TRACE_NO_LANE);
    t->range = (struct timeline_window){0};
}

static void obey(struct timeline *t, struct ui *u, enum command command)
{
    int middle = t->lanes.x + t->lanes.w / 2;
    int at = ui_inside(u, t->lanes) ? u->mouse_x : middle;
    switch (command) {
    case ZOOM_IN_MIDDLE: zoom(t, middle, 0.5); break;
    case ZOOM_OUT_MIDDLE: zoom(t, middle, 2); break;
    case SHOW_ALL: timeline_show(t, 0, 1e300); break;
    case SHOW_CHOSEN: show_chosen(t); break;
    case TO_RANGE: span_to_range(t); break;
    case BEFORE: timeline_step(t, false); break;
    case AFTER: timeline_step(t, true); break;
    case LANE_UP: timeline_neighbour(t, false); break;
    case LANE_DOWN: timeline_neighbour(t, true); break;
    case JUMP: timeline_jump(t); break;
    case WAKER: timeline_walk(t, false); break;
    case WOKEN: timeline_walk(t, true); break;
    case NEXT_WOKEN: timeline_next_wake(t); break;
    case MARK: timeline_mark(t, timeline_time(t, at)); break;
    case NEXT_MARK: timeline_next_mark(t); break;
    case NO_MARKS: t->mark_count = 0; break;
    case FILTER:
        set_moment(t);
        u->focus = ui_id("timeline filter", 0);
        u->caret = UINT32_MAX;
        break;
    case SORT: timeline_sort(t); break;
    case GROUPS: lanes_toggle_all(&t->rows); break;
    case TOP: t->scroll = 0; break;
    case BOTTOM: t->scroll = t->rows.content; break; // the bar keeps it within
    case UNDO: timeline_undo(t); break;
    case REDO: timeline_redo(t); break;
    case NOTHING: escape(t); break;
    default: break;
    }
}

static void stride(struct timeline *t, struct ui *u, enum command command, double factor,
                   double part)
{
    int at = ui_inside(u, t->lanes) ? u->mouse_x : t->lanes.x + t->lanes.w / 2;
    switch (command) {
    case ZOOM_IN: zoom(t, at, 1 / factor); break;
    case ZOOM_OUT: zoom(t, at, factor); break;
    case EARLIER: pan(t, -part); break;
    default: pan(t, part); break;
    }
}

static void keys(struct timeline *t, struct ui *u)
{
    static const struct {
        unsigned mods;
        double factor, part;
    } far[] = {{0, 1.5, 0.25}, {UI_SHIFT, 5, 1}, {UI_CTRL, 1.1, 0.0625}};
    if (u->event.kind != UI_KEY || u->focus)
        return;
    for (size_t i = 0; i < sizeof strides / sizeof strides[0]; i++)
        for (int k = 0; k < 3; k++)
            if (ui_key(u, strides[i].key, far[k].mods))
                stride(t, u, strides[i].command, far[k].factor, far[k].part);
    for (size_t i = 0; i < sizeof bindings / sizeof bindings[0]; i++) {
        if (!ui_key(u, bindings[i].key, bindings[i].mods))
            continue;
        obey(t, u, bindings[i].command);
        u->again = true;
        return;
    }
}

// --- The mouse.

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

static void choose_range(struct timeline *t, const struct ui *u)
{
    double a = timeline_time(t, u->press_x), b = timeline_time(t, u->mouse_x);
    double all = (double)(t->model->end_ns - t->model->begin_ns);
    t->range = (struct timeline_window){a < b ? a : b, a < b ? b : a};
    t->range.begin = t->range.begin > 0 ? t->range.begin : 0;
    t->range.end = t->range.end < all ? t->range.end : all;
}

// A click chooses a span, a drag a range; with Shift, or another button, a drag moves the picture.
static void mouse(struct timeline *t, struct ui *u)
{
    bool other = u->event.kind == UI_PRESS && u->event.button != UI_LEFT && ui_inside(u, t->lanes);
    bool shift = u->event.mods & UI_SHIFT;
    unsigned hit = ui_hit(u, ui_id("timeline", 0), t->lanes);
    if (hit & UI_PRESSED || other) {
        t->drag = other || shift ? TIMELINE_PAN : TIMELINE_MAYBE;
        t->drag_x = u->mouse_x;
        t->history.moving = false;
        if (hit & UI_DOUBLE && t->span != TRACE_NO_SPAN)
            show_chosen(t);
    }
    if (t->drag == TIMELINE_MAYBE && hit & UI_HELD && abs(u->mouse_x - u->press_x) > 3)
        t->drag = TIMELINE_CHOOSE;
    if (t->drag == TIMELINE_CHOOSE)
        choose_range(t, u);
    if (t->drag == TIMELINE_PAN && u->mouse_x != t->drag_x) {
        pan(t, (double)(t->drag_x - u->mouse_x) / t->lanes.w);
        t->drag_x = u->mouse_x;
    }
    if (hit & UI_CLICKED && t->drag == TIMELINE_MAYBE) {
        t->span = t->under_span; // not timeline_choose: it is in sight, nothing moves
        t->lane = t->under_lane;
        t->range = (struct timeline_window){0};
    }
    if (!u->down)
        t->drag = TIMELINE_NO_DRAG;
}

void timeline_input(struct timeline *t, struct ui *u)
{
    struct timeline_window was = t->shown, was_range = t->range;
    uint32_t was_lane = t->lane, was_span = t->span;
    uint8_t was_drag = t->drag;
    bool still = t->drag != TIMELINE_PAN && t->drag != TIMELINE_CHOOSE;
    if (t->under_span != TRACE_NO_SPAN && still && !u->tip[0])
        timeline_tip(t, u, t->under_lane, t->under_span);
    keys(t, u);
    wheel(t, u);
    mouse(t, u);
    // What was drawn in this frame is how it was before the event.
    u->again |= was.begin != t->shown.begin || was.end != t->shown.end ||
                t->hot_span != t->under_span || t->hot_lane != t->under_lane ||
                was_lane != t->lane || was_span != t->span || was_drag != t->drag ||
                was_range.begin != t->range.begin || was_range.end != t->range.end;
    t->hot_span = t->under_span;
    t->hot_lane = t->under_lane;
    t->hot_fiber =
        t->hot_span == TRACE_NO_SPAN ? UINT32_MAX : trace_spans_fiber(t->model->spans, t->hot_span);
}
