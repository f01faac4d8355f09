// SPDX-License-Identifier: MIT
//
// Choosing pieces of a kernel trace, and walking among them. What the program did then is chosen with them.

#include "viewer/views/timeline_internal.h"

#include <math.h>
#include <stdlib.h>

bool timeline_chosen(const struct timeline *t, double *begin, double *end)
{
    const struct trace_spans *s = t->model->spans;
    int64_t begin_ns, end_ns, base = t->model->begin_ns;
    if (t->kernel.lane != KERNEL_NO_LANE) {
        begin_ns = t->kernel.chosen.begin_ns;
        end_ns = t->kernel.chosen.end_ns;
    } else if (t->span != TRACE_NO_SPAN) {
        begin_ns = trace_span_begin_ns(s, t->span);
        end_ns = trace_span_end_ns(s, trace_spans_fiber(s, t->span), t->span);
    } else {
        return false;
    }
    *begin = (double)(begin_ns - base);
    *end = (double)(end_ns - base);
    return true;
}

// The fiber's span that had the piece's thread.
static uint32_t span_of(const struct timeline *t, const struct kernel_piece *p, uint32_t *lane)
{
    const struct kernel_model *k = t->kernel.model;
    *lane = p->thread == KERNEL_NO_LANE ? TRACE_NO_LANE : k->lanes[p->thread].trace_lane;
    if (*lane == TRACE_NO_LANE)
        return TRACE_NO_SPAN;
    uint32_t span = kernel_span_at(t->model->spans, *lane, p->begin_ns);
    return span != TRACE_NO_SPAN ? span
                                 : kernel_span_at(t->model->spans, *lane,
                                                  p->begin_ns + (p->end_ns - p->begin_ns) / 2);
}

void timeline_piece_choose(struct timeline *t, uint32_t lane, uint32_t index)
{
    struct timeline_kernel *k = &t->kernel;
    kernel_piece_get(k->model, lane, index, &k->chosen);
    k->lane = lane;
    k->index = index;
    t->span = span_of(t, &k->chosen, &t->lane);
    t->lane = t->span == TRACE_NO_SPAN ? TRACE_NO_LANE : t->lane;
    timeline_link(t);
}

static void show_cpu(struct timeline *t)
{
    struct timeline_kernel *k = &t->kernel;
    int row = t->rows.sizes.lane, y = (int)k->lane * row;
    if (k->lane >= k->model->cpu_count)
        return;
    k->is_closed = false;
    t->rows.strips = true;
    k->scroll = y < k->scroll                     ? y
                : y + row > k->scroll + k->cpus.h ? y + row - k->cpus.h
                                                  : k->scroll;
}

// Moves no more than needed.
static void show(struct timeline *t)
{
    double begin, end, length = t->shown.end - t->shown.begin;
    show_cpu(t);
    if (t->kernel.lane >= t->kernel.model->cpu_count && t->lane != TRACE_NO_LANE)
        timeline_scroll_to(t, t->lane, t->lanes.h);
    if (!timeline_chosen(t, &begin, &end) ||
        (begin < t->shown.end && end > t->shown.begin && begin >= t->shown.begin))
        return;
    timeline_keep(t);
    t->shown = timeline_fit(t, begin - length / 2, begin + length / 2);
}

void timeline_piece_go(struct timeline *t, uint32_t lane, uint32_t index)
{
    timeline_piece_choose(t, lane, index);
    show(t);
}

// A piece without a length was never there.
static bool is_seen(const struct lod *l, uint32_t i)
{
    return lod_end_ns(l, i) > lod_begin_ns(l, i);
}

bool timeline_piece_step(struct timeline *t, bool forward)
{
    struct timeline_kernel *k = &t->kernel;
    if (k->lane == KERNEL_NO_LANE)
        return false;
    const struct lod *l = &k->model->lanes[k->lane].lod;
    uint32_t i = k->index;
    do
        i += forward ? 1 : UINT32_MAX;
    while (i < l->count && !is_seen(l, i));
    if (i < l->count)
        timeline_piece_go(t, k->lane, i);
    return true;
}

static bool choose_near(struct timeline *t, uint32_t lane, int64_t at_ns)
{
    const struct lod *l = &t->kernel.model->lanes[lane].lod;
    if (!l->count)
        return false;
    uint32_t i = lod_at(l, at_ns);
    timeline_piece_go(t, lane, i < l->count ? i : l->count - 1);
    return true;
}

bool timeline_piece_neighbour(struct timeline *t, bool down, int64_t at_ns)
{
    struct timeline_kernel *k = &t->kernel;
    if (!k->model || !t->rows.strips || !k->model->cpu_count)
        return false;
    if (k->lane == KERNEL_NO_LANE || k->lane >= k->model->cpu_count) // from the last lane down
        return down && choose_near(t, 0, at_ns);
    for (uint32_t i = k->lane + (down ? 1 : UINT32_MAX); i < k->model->cpu_count;
         i += down ? 1 : UINT32_MAX)
        if (choose_near(t, i, k->chosen.begin_ns))
            return true;
    return down;
}

// From the thread's lane to the CPU that it had then.
bool timeline_piece_jump(struct timeline *t)
{
    struct timeline_kernel *k = &t->kernel;
    if (!k->model || t->span == TRACE_NO_SPAN || t->lane != t->links.thread ||
        k->lane != KERNEL_NO_LANE)
        return false;
    uint32_t thread = kernel_lane_of(k->model, t->lane);
    int64_t at_ns = trace_span_begin_ns(t->model->spans, t->span);
    uint32_t index =
        thread == KERNEL_NO_LANE ? UINT32_MAX : kernel_piece_at(k->model, thread, at_ns);
    struct kernel_piece p;
    if (index == UINT32_MAX)
        return false;
    kernel_piece_get(k->model, thread, index, &p);
    for (uint32_t i = 0; i < k->model->cpu_count; i++)
        if (k->model->lanes[i].id == p.cpu)
            return choose_near(t, i, at_ns);
    return false;
}

// The next piece of a thread in which a fiber that had it was kept from working, of those that are seen at this zoom.
static uint32_t next_delay(const struct timeline *t, uint32_t lane, int64_t from_ns,
                           int64_t least_ns, bool forward)
{
    const struct kernel_lane *l = &t->kernel.model->lanes[lane];
    uint32_t i = l->lod.count ? lod_at(&l->lod, from_ns) : 0;
    i = i < l->lod.count || forward ? i : l->lod.count - 1;
    for (; i < l->lod.count; i += forward ? 1 : UINT32_MAX) {
        int64_t begin_ns = lod_begin_ns(&l->lod, i);
        if (lod_class(&l->lod, i) == KERNEL_DELAYED &&
            lod_end_ns(&l->lod, i) - begin_ns >= least_ns &&
            (forward ? begin_ns > from_ns : begin_ns < from_ns) &&
            kernel_span_at(t->model->spans, l->trace_lane, begin_ns) != TRACE_NO_SPAN)
            break;
    }
    return i;
}

void timeline_next_delay(struct timeline *t, bool forward)
{
    const struct kernel_model *k = t->kernel.model;
    double begin, end,
        pixel_ns = (t->shown.end - t->shown.begin) / (t->lanes.w > 0 ? t->lanes.w : 1);
    int64_t from_ns = t->model->begin_ns + llround(t->shown.begin) - 1, best_ns = 0;
    uint32_t best = KERNEL_NO_LANE, at = 0;
    if (timeline_chosen(t, &begin, &end))
        from_ns = t->model->begin_ns + llround(begin);
    for (uint32_t lane = k ? k->cpu_count : 0; k && lane < k->lane_count; lane++) {
        if (k->lanes[lane].trace_lane == TRACE_NO_LANE)
            continue;
        uint32_t i = next_delay(t, lane, from_ns, llround(2 * pixel_ns), forward);
        int64_t ns = i < k->lanes[lane].lod.count ? lod_begin_ns(&k->lanes[lane].lod, i) : 0;
        if (i >= k->lanes[lane].lod.count ||
            (best != KERNEL_NO_LANE && (forward ? ns >= best_ns : ns <= best_ns)))
            continue;
        best = lane;
        best_ns = ns;
        at = i;
    }
    if (best != KERNEL_NO_LANE)
        timeline_piece_go(t, best, at);
}
