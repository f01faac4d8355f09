// SPDX-License-Identifier: MIT
//
// What keys and the mouse do on the timeline. See timeline.h.

#include "viewer/views/timeline_internal.h"

#include "viewer/bindings.h"

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
    double begin, end;
    if (t->range.end > t->range.begin)
        timeline_show(t, t->range.begin, t->range.end);
    else if (timeline_chosen(t, &begin, &end))
        timeline_show(t, begin - (end - begin) / 2, end + (end - begin) / 2);
    else
        timeline_show(t, 0, 1e300);
}

// The chosen span as the range.
static void span_to_range(struct timeline *t)
{
    double begin, end;
    if (timeline_chosen(t, &begin, &end))
        t->range = (struct timeline_window){begin, end};
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

// One level at a time: what is chosen, then the filter.
static void cancel(struct timeline *t)
{
    double begin, end;
    if (!timeline_chosen(t, &begin, &end) && t->range.end <= t->range.begin && *t->rows.filter) {
        t->rows.filter[0] = 0;
        t->rows.is_stale = true;
        t->hit_at = 0;
    }
    timeline_choose(t, TRACE_NO_SPAN, TRACE_NO_LANE);
    t->range = (struct timeline_window){0};
}

// The next place where the filter's text is: chosen and shown; a region or task becomes the range.
static void timeline_found(struct timeline *t, bool forward)
{
    const struct trace_spans *s = t->model->spans;
    // At first from the left edge of what is shown on.
    struct lanes_hit from =
        t->hit_at ? t->hit
                  : (struct lanes_hit){.begin_ns = t->model->begin_ns + llround(t->shown.begin)};
    struct lanes_hit hit;
    uint64_t at, all;
    if (!t->hit_at && from.begin_ns > INT64_MIN)
        from.begin_ns--;
    if (!lanes_found(&t->rows, &from, forward, &hit, &at, &all))
        return;
    if (hit.lane >= s->lane_count)
        timeline_piece_go(t, hit.lane - s->lane_count, (uint32_t)hit.place);
    else
        timeline_choose(t, trace_spans_before(s, hit.lane, hit.begin_ns + 1), hit.lane);
    double moment = (double)(hit.begin_ns - t->model->begin_ns);
    double half = (t->shown.end - t->shown.begin) / 2;
    if (moment < t->shown.begin || moment > t->shown.end) // in the middle of a long span
        timeline_show(t, moment - half, moment + half);
    t->hit = hit;
    t->hit_at = at;
    t->range = (struct timeline_window){0};
    if (hit.end_ns > hit.begin_ns && hit.lane < s->lane_count)
        t->range = (struct timeline_window){(double)(hit.begin_ns - t->model->begin_ns),
                                            (double)(hit.end_ns - t->model->begin_ns)};
}

static void to_filter(struct timeline *t, struct ui *u)
{
    set_moment(t);
    u->focus = ui_id("timeline filter", 0);
    u->caret = UINT32_MAX;
}

static void time_keys(struct timeline *t, struct ui *u)
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
    if (command_given(u, COMMAND_TO_RANGE))
        span_to_range(t);
    if (command_given(u, COMMAND_MARK))
        timeline_mark(t, timeline_time(t, at));
    if (command_given(u, COMMAND_MARK_NEXT))
        timeline_next_mark(t);
    for (int i = 0; i < TIMELINE_MARKS; i++)
        if (u->command && command_given(u, (enum command_id)(COMMAND_TO_MARK_A + i)))
            timeline_to_mark(t, i);
    if (command_given(u, COMMAND_MARKS_CLEAR))
        t->mark_count = 0;
    if (t->history.undo_count && command_given(u, COMMAND_UNDO))
        timeline_undo(t);
    if (t->history.redo_count && command_given(u, COMMAND_REDO))
        timeline_redo(t);
}

static void lane_keys(struct timeline *t, struct ui *u)
{
    if (command_given(u, COMMAND_SPAN_BEFORE))
        timeline_step(t, false);
    if (command_given(u, COMMAND_SPAN_AFTER))
        timeline_step(t, true);
    if (command_given(u, COMMAND_LANE_ABOVE))
        timeline_neighbour(t, false);
    if (command_given(u, COMMAND_LANE_BELOW))
        timeline_neighbour(t, true);
    if (command_given(u, COMMAND_LANE_JUMP))
        timeline_jump(t);
    if (command_given(u, COMMAND_WAKER))
        timeline_walk(t, false);
    if (command_given(u, COMMAND_WOKEN))
        timeline_walk(t, true);
    if (command_given(u, COMMAND_FOUND_NEXT))
        timeline_found(t, true);
    if (command_given(u, COMMAND_FOUND_BEFORE))
        timeline_found(t, false);
    if (command_given(u, COMMAND_WOKEN_NEXT))
        timeline_next_wake(t);
    if (command_given(u, COMMAND_FILTER))
        to_filter(t, u);
    if (command_given(u, COMMAND_SORT))
        timeline_sort(t);
    if (command_given(u, COMMAND_GROUPS))
        lanes_toggle_all(&t->rows);
    if (command_given(u, COMMAND_STACKS))
        timeline_toggle_stacks(t);
    if (t->kernel.model && command_given(u, COMMAND_KERNEL)) {
        t->rows.strips = !t->rows.strips;
        t->rows.is_stale = true;
    }
    if (t->kernel.model && command_given(u, COMMAND_DELAY_NEXT))
        timeline_next_delay(t, true);
    if (t->kernel.model && command_given(u, COMMAND_DELAY_BEFORE))
        timeline_next_delay(t, false);
    if (command_given(u, COMMAND_LANES_TOP))
        t->scroll = 0;
    if (command_given(u, COMMAND_LANES_BOTTOM))
        t->scroll = t->rows.content; // the bar keeps it within
    if (command_given(u, COMMAND_CANCEL))
        cancel(t);
}

static void keys(struct timeline *t, struct ui *u)
{
    if (u->event.kind != UI_KEY && !u->command)
        return;
    u->again = true;
    time_keys(t, u);
    lane_keys(t, u);
}

// --- The mouse.

static void wheel(struct timeline *t, struct ui *u)
{
    const struct ui_event *ev = &u->event;
    if (ev->kind != UI_WHEEL || !ui_inside(u, t->area))
        return;
    if (ev->mods & UI_CTRL)
        zoom(t, u->mouse_x, ev->dy > 0 ? 1 / 1.25 : 1.25);
    else if (ev->mods & UI_SHIFT)
        pan(t, -ev->dy / 120.0 / 10);
    else
        pan(t, ev->dx / 120.0 / 10);
    u->event.kind = UI_NONE;
}

// Its beginning is a moment and no pixel: the picture may have moved since.
static void choose_range(struct timeline *t, const struct ui *u)
{
    double a = t->drag_ns, b = timeline_time(t, u->mouse_x);
    double all = (double)(t->model->end_ns - t->model->begin_ns);
    t->range = (struct timeline_window){a < b ? a : b, a < b ? b : a};
    t->range.begin = t->range.begin > 0 ? t->range.begin : 0;
    t->range.end = t->range.end < all ? t->range.end : all;
}

// A click chooses a span, a drag a range; with Shift, or another button, a drag moves the picture.
static void mouse(struct timeline *t, struct ui *u)
{
    bool other = u->event.kind == UI_PRESS && u->event.button != UI_LEFT && ui_inside(u, t->area);
    bool shift = u->event.mods & UI_SHIFT;
    unsigned hit = ui_hit(u, ui_id("timeline", 0), t->area);
    if (hit & UI_PRESSED || other) {
        t->drag = other || shift ? TIMELINE_PAN : TIMELINE_MAYBE;
        t->drag_x = u->mouse_x;
        t->drag_ns = timeline_time(t, u->mouse_x);
        t->history.moving = false;
        double begin, end;
        if (hit & UI_DOUBLE && timeline_chosen(t, &begin, &end))
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
        t->kernel.lane = KERNEL_NO_LANE;
        if (t->kernel.under_lane != KERNEL_NO_LANE)
            timeline_piece_choose(t, t->kernel.under_lane, t->kernel.under_index);
        else if (t->span == TRACE_NO_SPAN) // a click on a span looks at it within the range
            t->range = (struct timeline_window){0};
    }
    if (!u->down)
        t->drag = TIMELINE_NO_DRAG;
}

void timeline_input(struct timeline *t, struct ui *u)
{
    struct timeline_window was = t->shown, was_range = t->range;
    uint32_t was_lane = t->lane, was_span = t->span, was_piece = t->kernel.index;
    struct timeline_kernel *k = &t->kernel;
    uint8_t was_drag = t->drag;
    bool still = t->drag != TIMELINE_PAN && t->drag != TIMELINE_CHOOSE;
    if (t->under_span != TRACE_NO_SPAN && still && !u->tip[0])
        timeline_tip(t, u, t->under_lane, t->under_span);
    if (k->under_lane != KERNEL_NO_LANE && still && !u->tip[0])
        timeline_piece_tip(t, u, k->under_lane, k->under_index);
    keys(t, u);
    wheel(t, u);
    mouse(t, u);
    // What was drawn in this frame is how it was before the event.
    u->again |= was.begin != t->shown.begin || was.end != t->shown.end ||
                t->hot_span != t->under_span || t->hot_lane != t->under_lane ||
                was_lane != t->lane || was_span != t->span || was_drag != t->drag ||
                was_range.begin != t->range.begin || was_range.end != t->range.end ||
                was_piece != k->index || k->hot_lane != k->under_lane ||
                (k->hot_lane != KERNEL_NO_LANE && k->hot_index != k->under_index);
    k->hot_lane = k->under_lane;
    k->hot_index = k->under_index;
    if (k->hot_lane != KERNEL_NO_LANE)
        kernel_piece_get(k->model, k->hot_lane, k->hot_index, &k->hot);
    t->hot_span = t->under_span;
    t->hot_lane = t->under_lane;
    t->hot_fiber =
        t->hot_span == TRACE_NO_SPAN ? UINT32_MAX : trace_spans_fiber(t->model->spans, t->hot_span);
}
