// SPDX-License-Identifier: MIT
//
// Levels of detail of lanes, made when they are looked at. See lanes.h.

#include "viewer/views/lanes.h"

#include <stdlib.h>

enum { KEPT_BYTES = 4 << 20 };

static const struct lod *proc_lod(const struct trace_model *m, uint32_t lane)
{
    uint32_t first = m->lane_count ? m->lanes[0].lane : 0; // they stand together
    return lane - first < m->lane_count ? &m->lanes[lane - first].lod : NULL;
}

static int build(const struct trace_model *m, uint32_t lane, struct lod *lod)
{
    const struct trace_spans *s = m->spans;
    if (trace_spans_lane_kind(s, lane) != TRACE_RESOURCE_GOROUTINE)
        return trace_model_runs(m, lane, lod);
    const struct trace_lane *l = &s->lanes[lane];
    lod_borrow(lod, s->base_ns, s->begin_low + l->first, s->begin_high + l->first,
               s->kind + l->first, m->state_of, l->count, l->end_ns);
    return lod_finish(lod);
}

const struct lod *lanes_lod(struct lanes *l, uint32_t lane)
{
    const struct lod *eager = proc_lod(l->model, lane);
    struct lanes_held *h = l->held[lane];
    if (eager || h) {
        if (h)
            h->frame = l->frame;
        return eager ? eager : &h->lod;
    }
    if (l->live_count == l->live_capacity) {
        uint32_t n = l->live_capacity ? l->live_capacity * 2 : 64;
        uint32_t *live = reallocarray(l->live, n, sizeof *live);
        if (!live)
            return NULL;
        l->live = live;
        l->live_capacity = n;
    }
    h = calloc(1, sizeof *h);
    if (!h || build(l->model, lane, &h->lod)) {
        if (h)
            lod_free(&h->lod);
        free(h);
        return NULL;
    }
    h->frame = l->frame;
    h->lane = lane;
    l->held[lane] = h;
    l->live[l->live_count++] = lane;
    l->bytes += sizeof *h + lod_bytes(&h->lod);
    return &h->lod;
}

static void drop(struct lanes *l, uint32_t i)
{
    struct lanes_held *h = l->held[l->live[i]];
    l->bytes -= sizeof *h + lod_bytes(&h->lod);
    l->held[h->lane] = NULL;
    lod_free(&h->lod);
    free(h);
    l->live[i] = l->live[--l->live_count];
}

void lanes_frame(struct lanes *l)
{
    size_t room = KEPT_BYTES + (size_t)l->model->spans->span_count;
    for (uint32_t i = 0; l->bytes > room && i < l->live_count;)
        if (l->held[l->live[i]]->frame < l->frame)
            drop(l, i);
        else
            i++;
    l->frame++;
}

uint32_t lanes_span(const struct trace_spans *s, uint32_t lane, uint32_t index)
{
    uint32_t at = s->lanes[lane].first + index;
    return trace_spans_lane_kind(s, lane) == TRACE_RESOURCE_GOROUTINE ? at : s->runs[at];
}

uint32_t lanes_index(const struct trace_spans *s, uint32_t lane, uint32_t span)
{
    const struct trace_lane *l = &s->lanes[lane];
    if (trace_spans_lane_kind(s, lane) == TRACE_RESOURCE_GOROUTINE)
        return span - l->first < l->count ? span - l->first : UINT32_MAX;
    int64_t begin_ns = trace_span_begin_ns(s, span);
    uint32_t low = l->first, end = l->first + l->count, high = end;
    while (low < high) { // runs are in order of time
        uint32_t mid = low + (high - low) / 2;
        if (trace_span_begin_ns(s, s->runs[mid]) < begin_ns)
            low = mid + 1;
        else
            high = mid;
    }
    for (; low < end && trace_span_begin_ns(s, s->runs[low]) == begin_ns; low++)
        if (s->runs[low] == span)
            return low - l->first;
    return UINT32_MAX;
}
