// SPDX-License-Identifier: MIT
//
// Rows become columns, and are found in them. See spans.h.

#include "analysis/trace/spans_internal.h"

#include <errno.h>
#include <stdlib.h>

struct numbered {
    struct trace_lane lane;
    uint32_t was;
};

static int by_kind_and_id(const void *x, const void *y)
{
    const struct numbered *a = x, *b = y;
    if (a->lane.kind != b->lane.kind)
        return a->lane.kind < b->lane.kind ? -1 : 1;
    if (a->lane.id != b->lane.id)
        return a->lane.id < b->lane.id ? -1 : 1;
    return (a->was > b->was) - (a->was < b->was);
}

static int by_lane_and_time(const void *x, const void *y)
{
    const struct trace_sample *a = x, *b = y;
    if (a->lane != b->lane)
        return a->lane < b->lane ? -1 : 1;
    return (a->time_ns > b->time_ns) - (a->time_ns < b->time_ns);
}

static int by_lane_and_begin(const void *x, const void *y)
{
    const struct trace_region_span *a = x, *b = y;
    if (a->lane != b->lane)
        return a->lane < b->lane ? -1 : 1;
    if (a->begin_ns != b->begin_ns)
        return a->begin_ns < b->begin_ns ? -1 : 1;
    return (a->end_ns < b->end_ns) - (a->end_ns > b->end_ns); // the outer one first
}

static int by_task(const void *x, const void *y)
{
    const struct trace_task_span *a = x, *b = y;
    if (a->id != b->id)
        return a->id < b->id ? -1 : 1;
    return (a->begin_ns > b->begin_ns) - (a->begin_ns < b->begin_ns);
}

static uint32_t mapped(const uint32_t *now, uint32_t lane)
{
    return lane == TRACE_NO_LANE ? lane : now[lane];
}

// Orders the lanes, gives each its place in the columns; now[old number] is the new one.
static int order_lanes(struct trace_spans *s, uint32_t *now)
{
    struct numbered *all = calloc(s->lane_count + 1, sizeof *all);
    if (!all)
        return -ENOMEM;
    for (uint32_t i = 0; i < s->lane_count; i++)
        all[i] = (struct numbered){s->lanes[i], i};
    qsort(all, s->lane_count, sizeof *all, by_kind_and_id);
    uint32_t first = 0;
    for (uint32_t i = 0; i < s->lane_count; i++) {
        now[all[i].was] = i;
        s->lanes[i] = all[i].lane;
        s->lanes[i].first = first;
        first += s->lanes[i].count;
    }
    s->span_count = first;
    for (uint32_t i = 0; i < s->lane_count; i++)
        s->lanes[i].creator = mapped(now, s->lanes[i].creator);
    free(all);
    return 0;
}

static int fill(struct trace_spans *s, const uint32_t *now, uint32_t *next)
{
    const struct spans_state *st = s->state_of_build;
    size_t n = s->span_count + 1ull;
    s->span_begin_ns = malloc(n * sizeof *s->span_begin_ns);
    s->span_end_ns = malloc(n * sizeof *s->span_end_ns);
    s->reason = malloc(n * sizeof *s->reason);
    s->stack = malloc(n * sizeof *s->stack);
    s->end_stack = malloc(n * sizeof *s->end_stack);
    s->peer = malloc(n * sizeof *s->peer);
    s->state = malloc(n * sizeof *s->state);
    if (!s->span_begin_ns || !s->span_end_ns || !s->reason || !s->stack || !s->end_stack ||
        !s->peer || !s->state)
        return -ENOMEM;
    for (uint32_t i = 0; i < s->lane_count; i++)
        next[i] = s->lanes[i].first;
    // A lane's rows were added in the order in which they end, which is that of their begins.
    for (size_t i = 0; i < st->row_count; i++) {
        const struct span *row = &st->rows[i];
        uint32_t at = next[now[row->lane]]++;
        s->span_begin_ns[at] = row->begin_ns;
        s->span_end_ns[at] = row->end_ns;
        s->reason[at] = row->reason;
        s->stack[at] = row->stack;
        s->end_stack[at] = row->end_stack;
        s->peer[at] = mapped(now, row->peer);
        s->state[at] = row->state;
    }
    return 0;
}

// Gives a lane its share of a table that is sorted by lane.
static void share(struct trace_spans *s)
{
    for (uint32_t i = s->sample_count; i-- > 0;) {
        s->lanes[s->samples[i].lane].first_sample = i;
        s->lanes[s->samples[i].lane].sample_count++;
    }
    for (uint32_t i = s->region_count; i-- > 0;) {
        s->lanes[s->regions[i].lane].first_region = i;
        s->lanes[s->regions[i].lane].region_count++;
    }
}

static void order_marks(struct trace_spans *s, const uint32_t *now)
{
    for (uint32_t i = 0; i < s->sample_count; i++)
        s->samples[i].lane = now[s->samples[i].lane];
    for (uint32_t i = 0; i < s->region_count; i++) {
        struct trace_region_span *r = &s->regions[i];
        if (!r->ends) // with its fiber, or the trace
            r->end_ns = s->lanes[now[r->lane]].end_ns;
        r->lane = now[r->lane];
    }
    for (uint32_t i = 0; i < s->task_count; i++) {
        struct trace_task_span *t = &s->tasks[i];
        t->end_ns = t->ends ? t->end_ns : s->end_ns;
        t->begin_lane = mapped(now, t->begin_lane);
        t->end_lane = mapped(now, t->end_lane);
    }
    for (uint32_t i = 0; i < s->log_count; i++)
        s->logs[i].lane = mapped(now, s->logs[i].lane);
    if (s->sample_count)
        qsort(s->samples, s->sample_count, sizeof *s->samples, by_lane_and_time);
    if (s->region_count)
        qsort(s->regions, s->region_count, sizeof *s->regions, by_lane_and_begin);
    if (s->task_count)
        qsort(s->tasks, s->task_count, sizeof *s->tasks, by_task);
}

int spans_columns(struct trace_spans *s)
{
    uint32_t *now = calloc(s->lane_count + 1ull, sizeof *now);
    uint32_t *next = calloc(s->lane_count + 1ull, sizeof *next);
    int rc = now && next ? order_lanes(s, now) : -ENOMEM;
    if (!rc)
        rc = fill(s, now, next);
    if (!rc) {
        order_marks(s, now);
        share(s);
    }
    free(now);
    free(next);
    return rc;
}

uint32_t trace_spans_lane(const struct trace_spans *s, uint8_t kind, int64_t id)
{
    uint32_t low = 0, high = s->lane_count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        const struct trace_lane *l = &s->lanes[mid];
        if (l->kind < kind || (l->kind == kind && l->id < id))
            low = mid + 1;
        else
            high = mid;
    }
    bool found = low < s->lane_count && s->lanes[low].kind == kind && s->lanes[low].id == id;
    return found ? low : TRACE_NO_LANE;
}

uint32_t trace_spans_before(const struct trace_spans *s, uint32_t lane, int64_t time_ns)
{
    const struct trace_lane *l = &s->lanes[lane];
    uint32_t low = l->first, high = l->first + l->count; // first with begin >= time
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (s->span_begin_ns[mid] < time_ns)
            low = mid + 1;
        else
            high = mid;
    }
    return low > l->first ? low - 1 : TRACE_NO_SPAN;
}

uint32_t trace_spans_samples(const struct trace_spans *s, uint32_t lane, int64_t begin_ns,
                             int64_t end_ns, uint32_t *count)
{
    const struct trace_lane *l = &s->lanes[lane];
    uint32_t low = l->first_sample, high = low + l->sample_count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (s->samples[mid].time_ns < begin_ns)
            low = mid + 1;
        else
            high = mid;
    }
    uint32_t end = low, last = l->first_sample + l->sample_count;
    while (end < last && s->samples[end].time_ns < end_ns)
        end++;
    *count = end - low;
    return low;
}
