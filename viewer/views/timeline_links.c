// SPDX-License-Identifier: MIT
//
// From the chosen span to others: the same on other lanes, who woke it, whom it woke.

#include "viewer/views/timeline_internal.h"

#include <stdlib.h>

enum { HEAD = 7, ARROWS = 24 };

static bool in_lane(const struct trace_spans *s, uint32_t lane, uint32_t span)
{
    return span - s->lanes[lane].first < s->lanes[lane].count;
}

// What the fiber did at the moment when it woke somebody: it ran, where two spans meet in it.
static uint32_t span_at(const struct trace_spans *s, uint32_t lane, int64_t time_ns)
{
    uint32_t span = trace_spans_before(s, lane, time_ns + 1);
    if (span != TRACE_NO_SPAN && trace_span_state(s, span) == TRACE_GO_RUNNING)
        return span;
    uint32_t before = trace_spans_before(s, lane, time_ns);
    return before == TRACE_NO_SPAN ? span : before;
}

bool timeline_woken_by(const struct trace_spans *s, uint32_t span, struct timeline_wake *w)
{
    uint32_t fiber = trace_spans_fiber(s, span), woken = span;
    *w = (struct timeline_wake){.woken = TRACE_NO_SPAN};
    switch (trace_span_state(s, span)) {
    case TRACE_GO_WAITING: woken = span + 1; break;
    case TRACE_GO_RUNNING: woken = span - 1; break;
    case TRACE_GO_RUNNABLE: break;
    default: return false;
    }
    if (!in_lane(s, fiber, woken) || trace_span_state(s, woken) != TRACE_GO_RUNNABLE)
        return false;
    uint32_t by = s->peer[woken];
    if (by == TRACE_NO_LANE || by == fiber)
        return false; // it yielded, or nobody of the trace did it
    int64_t time_ns = trace_span_begin_ns(s, woken);
    uint32_t waker = span_at(s, by, time_ns);
    *w = (struct timeline_wake){time_ns, woken, fiber, waker, by};
    return waker != TRACE_NO_SPAN;
}

static int by_time(const void *a, const void *b)
{
    const struct timeline_wake *x = a, *y = b;
    if (x->time_ns != y->time_ns)
        return x->time_ns < y->time_ns ? -1 : 1;
    return x->woken < y->woken ? -1 : x->woken > y->woken;
}

// Everyone who became runnable by the fiber while it was in the span: by a search in each lane.
static void find_wakes(const struct trace_spans *s, uint32_t span, struct timeline_links *k)
{
    uint32_t fiber = trace_spans_fiber(s, span);
    int64_t begin_ns = trace_span_begin_ns(s, span), end_ns = trace_span_end_ns(s, fiber, span);
    k->wake_count = 0;
    for (uint32_t lane = 0; lane < s->kind_first[TRACE_RESOURCE_PROC]; lane++) {
        uint32_t i = trace_spans_before(s, lane, begin_ns);
        i = i == TRACE_NO_SPAN ? s->lanes[lane].first : i + 1;
        for (; in_lane(s, lane, i) && trace_span_begin_ns(s, i) <= end_ns; i++) {
            struct timeline_wake w;
            if (k->wake_count == TIMELINE_WAKES)
                break;
            if (trace_span_state(s, i) == TRACE_GO_RUNNABLE && lane != fiber &&
                s->peer[i] == fiber && timeline_woken_by(s, i, &w) && w.waker == span)
                k->wakes[k->wake_count++] = w;
        }
    }
    if (k->wake_count)
        qsort(k->wakes, k->wake_count, sizeof *k->wakes, by_time);
}

void timeline_link(struct timeline *t)
{
    const struct trace_spans *s = t->model->spans;
    struct timeline_links *k = &t->links;
    if (k->span == t->span)
        return;
    *k = (struct timeline_links){
        .span = t->span, .proc = TRACE_NO_LANE, .thread = TRACE_NO_LANE, .by.woken = TRACE_NO_SPAN};
    if (t->span == TRACE_NO_SPAN)
        return;
    timeline_woken_by(s, t->span, &k->by);
    uint8_t state = trace_span_state(s, t->span);
    if (state != TRACE_GO_RUNNING && state != TRACE_GO_SYSCALL)
        return;
    k->proc = s->peer[t->span];
    for (uint32_t i = s->kind_first[TRACE_RESOURCE_THREAD]; i < s->lane_count; i++)
        if (lanes_index(s, i, t->span) != UINT32_MAX)
            k->thread = i;
    find_wakes(s, t->span, k);
}

// --- Moving the choice.

void timeline_scroll_to(struct timeline *t, uint32_t lane, int height)
{
    const struct lanes_row *row = lanes_reveal(&t->rows, lane);
    t->reveal = true; // once more, when it is known how much room the words about it leave
    if (!row)
        return;
    // Not beneath the head that stays in sight.
    bool is_headed = row->head != (uint32_t)LANES_NO_HEAD;
    int top = is_headed ? row->y - t->rows.rows[row->head].height : row->y;
    if (top < t->scroll)
        t->scroll = top;
    if (row->y + row->height > t->scroll + height)
        t->scroll = row->y + row->height - height;
}

// The time of the span, moving no more than needed.
static void show_time(struct timeline *t, uint32_t span)
{
    const struct trace_spans *s = t->model->spans;
    int64_t end_ns = trace_span_end_ns(s, trace_spans_fiber(s, span), span);
    double begin = (double)(trace_span_begin_ns(s, span) - t->model->begin_ns);
    double end = (double)(end_ns - t->model->begin_ns), length = t->shown.end - t->shown.begin;
    if (begin < t->shown.end && end > t->shown.begin && begin >= t->shown.begin)
        return;
    timeline_keep(t);
    t->shown = timeline_fit(t, begin - length / 2, begin + length / 2);
}

void timeline_choose(struct timeline *t, uint32_t span, uint32_t lane)
{
    t->span = span;
    t->lane = span == TRACE_NO_SPAN ? TRACE_NO_LANE : lane;
    t->kernel.lane = KERNEL_NO_LANE;
    timeline_link(t);
    if (span == TRACE_NO_SPAN)
        return;
    timeline_scroll_to(t, lane, t->lanes.h);
    show_time(t, span);
}

void timeline_jump(struct timeline *t)
{
    if (t->span == TRACE_NO_SPAN || timeline_piece_jump(t))
        return;
    const struct timeline_links *k = &t->links;
    uint32_t to[] = {trace_spans_fiber(t->model->spans, t->span), k->proc, k->thread};
    int at = t->kernel.lane == KERNEL_NO_LANE ? 0 : 2; // from a CPU to the fiber
    while (at < 2 && to[at] != t->lane)
        at++;
    for (int i = 1; i <= 3; i++) {
        uint32_t lane = to[(at + i) % 3];
        if (lane == TRACE_NO_LANE || !lanes_reveal(&t->rows, lane))
            continue;
        timeline_choose(t, t->span, lane);
        return;
    }
}

void timeline_walk(struct timeline *t, bool forward)
{
    const struct trace_spans *s = t->model->spans;
    const struct timeline_links *k = &t->links;
    if (t->span == TRACE_NO_SPAN)
        return;
    if (!forward && k->by.woken != TRACE_NO_SPAN) {
        timeline_choose(t, k->by.waker, k->by.lane);
        return;
    }
    if (forward && k->wake_count) {
        uint32_t ran = k->wakes[0].woken + 1, lane = k->wakes[0].woken_lane;
        timeline_choose(t, in_lane(s, lane, ran) ? ran : k->wakes[0].woken, lane);
        return;
    }
    // Nobody at this span: what the same fiber did before or after may have a wakeup.
    uint32_t fiber = trace_spans_fiber(s, t->span), next = forward ? t->span + 1 : t->span - 1;
    if (in_lane(s, fiber, next) && t->model->state_of[s->kind[next]] != LOD_NONE)
        timeline_choose(t, next, fiber);
}

void timeline_next_wake(struct timeline *t)
{
    const struct trace_spans *s = t->model->spans;
    struct timeline_wake w;
    if (t->span == TRACE_NO_SPAN || !timeline_woken_by(s, t->span, &w))
        return;
    struct timeline_links *k = calloc(1, sizeof *k);
    if (!k)
        return;
    find_wakes(s, w.waker, k);
    for (uint32_t i = 0; i < k->wake_count; i++) {
        if (k->wakes[i].woken != w.woken)
            continue;
        const struct timeline_wake *next = &k->wakes[(i + 1) % k->wake_count];
        uint32_t ran = next->woken + 1, lane = next->woken_lane;
        timeline_choose(t, in_lane(s, lane, ran) ? ran : next->woken, lane);
        break;
    }
    free(k);
}

void timeline_step(struct timeline *t, bool forward)
{
    const struct trace_spans *s = t->model->spans;
    if (timeline_piece_step(t, forward) || t->span == TRACE_NO_SPAN)
        return;
    uint32_t lane = t->lane, at = lanes_index(s, lane, t->span);
    bool is_fiber = trace_spans_lane_kind(s, lane) == TRACE_RESOURCE_GOROUTINE;
    while (at != UINT32_MAX) {
        at += forward ? 1 : UINT32_MAX;
        if (at >= s->lanes[lane].count)
            return;
        uint32_t span = lanes_span(s, lane, at);
        if (is_fiber && t->model->state_of[s->kind[span]] == LOD_NONE)
            continue; // it is not there
        timeline_choose(t, span, lane);
        return;
    }
}

void timeline_neighbour(struct timeline *t, bool down)
{
    const struct trace_spans *s = t->model->spans;
    bool is_cpu = t->kernel.lane != KERNEL_NO_LANE && t->kernel.lane < t->kernel.model->cpu_count;
    if (is_cpu && timeline_piece_neighbour(t, down, 0))
        return;
    const struct lanes_row *row =
        t->span == TRACE_NO_SPAN || is_cpu ? NULL : lanes_find(&t->rows, t->lane);
    uint32_t i = row ? (uint32_t)(row - t->rows.rows) : down ? UINT32_MAX : t->rows.count;
    int64_t middle = llabs((int64_t)(t->shown.begin + t->shown.end)) / 2;
    int64_t at_ns =
        t->span == TRACE_NO_SPAN ? t->model->begin_ns + middle : trace_span_begin_ns(s, t->span);
    for (i += down ? 1 : UINT32_MAX; i < t->rows.count; i += down ? 1 : UINT32_MAX) {
        uint32_t lane = lanes_of_row(&t->rows, &t->rows.rows[i]);
        const struct lod *l = lane == TRACE_NO_LANE ? NULL : lanes_lod(&t->rows, lane);
        if (!l || !l->count)
            continue;
        uint32_t at = lod_at(l, at_ns);
        at = at < l->count ? at : l->count - 1;
        if (lod_class(l, at) == LOD_NONE)
            at += at + 1 < l->count ? 1 : UINT32_MAX; // before it was made, after it ended
        if (at >= l->count || lod_class(l, at) == LOD_NONE)
            continue;
        timeline_choose(t, lanes_span(s, lane, at), lane);
        return;
    }
    if (down)
        timeline_piece_neighbour(t, true, at_ns);
}

// --- Arrows.

static bool in_sight(const struct timeline *t, const struct lanes_row *row)
{
    return row && row->y + row->height > t->scroll + t->sticky && row->y < t->scroll + t->lanes.h;
}

// Where a fiber is seen: on its own lane, else on the Proc's where it runs in the span.
static const struct lanes_row *place(const struct timeline *t, uint32_t fiber, uint32_t runs,
                                     int *y)
{
    const struct trace_spans *s = t->model->spans;
    const struct lanes_row *row = lanes_find(&t->rows, fiber), *proc = NULL;
    if (!in_sight(t, row) && in_lane(s, fiber, runs) &&
        trace_span_state(s, runs) == TRACE_GO_RUNNING)
        proc = lanes_find(&t->rows, s->peer[runs]);
    if (proc && (!row || in_sight(t, proc)))
        row = proc;
    if (row) {
        int below = row->depth * t->rows.sizes.region + row->frames * t->rows.sizes.frame;
        *y = t->lanes.y + row->y - t->scroll + (row->height - below) / 2;
    }
    return row;
}

// On lanes of fibers it goes straight up or down: both are there at that moment. To a Proc's it
// goes to where the woken one begins to run.
static void arrow(struct timeline *t, struct ui *u, const struct timeline_wake *w, uint32_t color)
{
    const struct trace_spans *s = t->model->spans;
    uint32_t ran = w->woken + 1;
    int from, to, x = timeline_x_of(t, w->time_ns), right = x;
    if (!place(t, w->lane, w->waker, &from))
        return;
    const struct lanes_row *row = place(t, w->woken_lane, ran, &to);
    if (!row)
        return;
    if (row->kind != LANES_FIBER && in_lane(s, w->woken_lane, ran))
        right = timeline_x_of(t, trace_span_begin_ns(s, ran));
    draw_rect(u->list, rect_make(x - 3, from - 3, 6, 6), color);
    if (from == to) {
        draw_line(u->list, x, from, right, to, 2, color);
        return;
    }
    int down = to > from ? 1 : -1, neck = to - down * HEAD;
    if (right - x < 2 * HEAD) {
        draw_line(u->list, x, from, right, neck, 2, color);
        draw_triangle(u->list, right - 5, neck, right + 5, neck, right, to, color);
    } else {
        draw_line(u->list, x, from, right - HEAD, to, 2, color);
        draw_triangle(u->list, right - HEAD, to - 5, right - HEAD, to + 5, right, to, color);
    }
}

void timeline_arrows(struct timeline *t, struct ui *u, struct rect body)
{
    const struct timeline_links *k = &t->links;
    draw_clip_push(u->list, body);
    for (uint32_t i = 0; i < k->wake_count && i < ARROWS; i++)
        arrow(t, u, &k->wakes[i], u->theme.text);
    if (k->by.woken != TRACE_NO_SPAN)
        arrow(t, u, &k->by, u->theme.accent);
    draw_clip_pop(u->list);
}
