// SPDX-License-Identifier: MIT
//
// Rows become columns. See spans.h.

#include "analysis/trace/spans_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct numbered {
    struct trace_lane lane;
    uint32_t was;
    uint8_t kind;
};

static int by_kind_and_id(const void *x, const void *y)
{
    const struct numbered *a = x, *b = y;
    if (a->kind != b->kind)
        return a->kind < b->kind ? -1 : 1;
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

static int logs_by_lane_and_time(const void *x, const void *y)
{
    const struct trace_log_mark *a = x, *b = y;
    if (a->lane != b->lane)
        return a->lane < b->lane ? -1 : 1;
    if (a->time_ns != b->time_ns)
        return a->time_ns < b->time_ns ? -1 : 1;
    return strcmp(a->message, b->message);
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
    const struct spans_state *st = s->state_of_build;
    struct numbered *all = calloc(s->lane_count + 1ull, sizeof *all);
    if (!all)
        return -ENOMEM;
    for (uint32_t i = 0; i < s->lane_count; i++)
        all[i] = (struct numbered){s->lanes[i], i, st->lane_kinds[i]};
    qsort(all, s->lane_count, sizeof *all, by_kind_and_id);
    for (uint32_t i = 0; i < s->lane_count; i++) {
        bool fiber = all[i].kind == TRACE_RESOURCE_GOROUTINE;
        uint32_t *first = fiber ? &s->span_count : &s->run_count;
        now[all[i].was] = i;
        s->lanes[i] = all[i].lane;
        s->lanes[i].first = *first;
        *first += s->lanes[i].count;
        for (uint32_t k = all[i].kind + 1u; k < 5; k++)
            s->kind_first[k] = i + 1;
    }
    for (uint32_t i = 0; i < s->lane_count; i++)
        s->lanes[i].creator = mapped(now, s->lanes[i].creator);
    free(all);
    return 0;
}

static int make_columns(struct trace_spans *s)
{
    size_t n = s->span_count + 1ull;
    s->begin_low = malloc(n * sizeof *s->begin_low);
    s->begin_high = malloc(n * sizeof *s->begin_high);
    s->kind = malloc(n * sizeof *s->kind);
    s->stack = malloc(n * sizeof *s->stack);
    s->peer = malloc(n * sizeof *s->peer);
    s->runs = malloc((s->run_count + 1ull) * sizeof *s->runs);
    return s->begin_low && s->begin_high && s->kind && s->stack && s->peer && s->runs ? 0 : -ENOMEM;
}

struct filler {
    struct trace_spans *s;
    const uint32_t *now;
    uint32_t *next; // by lane: where its next span or run goes
    uint32_t lost;  // of st->lost
};

static void add_run(struct filler *x, uint32_t lane, uint32_t span)
{
    if (lane != TRACE_NO_LANE)
        x->s->runs[x->next[lane]++] = span;
}

// Row `i` becomes a span. A lane's rows were added in order of time.
static void fill_row(struct filler *x, const struct row *row, uint32_t thread, uint32_t i)
{
    struct trace_spans *s = x->s;
    struct spans_state *st = s->state_of_build;
    uint32_t at = x->next[x->now[row->lane]]++, peer = mapped(x->now, row->peer);
    uint8_t state = s->kinds[row->kind].state;
    s->begin_low[at] = row->begin_low;
    s->begin_high[at] = row->begin_high;
    s->kind[at] = row->kind;
    s->stack[at] = row->stack;
    s->peer[at] = peer;
    bool on = state == TRACE_GO_RUNNING || state == TRACE_GO_SYSCALL, has_proc = true;
    if (!on || !spans_keeps(st, TRACE_KEEP_RUNS))
        return;
    if (x->lost < st->lost_count && st->lost[x->lost].span == i) {
        struct trace_lost_proc *l = &st->lost[x->lost++];
        has_proc = l->time_ns > trace_span_begin_ns(s, at);
        l->span = at;
    }
    add_run(x, mapped(x->now, thread), at);
    if (has_proc)
        add_run(x, peer, at);
}

static void fill(struct filler *x)
{
    struct spans_state *st = x->s->state_of_build;
    for (size_t first = 0; first < st->row_count; first += SPANS_BLOCK_ROWS) {
        struct row_block **b = &st->blocks[first / SPANS_BLOCK_ROWS];
        bool runs = spans_keeps(st, TRACE_KEEP_RUNS);
        for (size_t i = 0; i < SPANS_BLOCK_ROWS && first + i < st->row_count; i++)
            fill_row(x, &(*b)->rows[i], runs ? (*b)->threads[i] : TRACE_NO_LANE,
                     (uint32_t)(first + i));
        if (first / SPANS_BLOCK_ROWS >= st->borrowed)
            munmap(*b, sizeof **b);
        *b = NULL;
    }
}

static int by_begin(const void *x, const void *y, void *spans)
{
    int64_t a = trace_span_begin_ns(spans, *(const uint32_t *)x);
    int64_t b = trace_span_begin_ns(spans, *(const uint32_t *)y);
    return (a > b) - (a < b);
}

static int by_span(const void *x, const void *y)
{
    const struct trace_lost_proc *a = x, *b = y;
    return (a->span > b->span) - (a->span < b->span);
}

// Runs are in order of their end; a Proc that was taken away in a system call had others meanwhile.
static void order_runs(struct trace_spans *s)
{
    struct spans_state *st = s->state_of_build;
    s->lost = st->lost;
    s->lost_count = st->lost_count;
    st->lost = NULL;
    if (s->lost_count)
        qsort(s->lost, s->lost_count, sizeof *s->lost, by_span);
    for (uint32_t i = s->kind_first[TRACE_RESOURCE_PROC]; i < s->lane_count; i++) {
        uint32_t *runs = &s->runs[s->lanes[i].first], n = s->lanes[i].count, k = 1;
        while (k < n && by_begin(&runs[k - 1], &runs[k], s) <= 0)
            k++;
        if (k < n)
            qsort_r(runs, n, sizeof *runs, by_begin, s);
    }
}

// What ends before from_ns is not kept; what begins before it has no begin.
static void clip_marks(struct trace_spans *s)
{
    int64_t from_ns = s->state_of_build->from_ns;
    uint32_t regions = 0, tasks = 0;
    for (uint32_t i = 0; i < s->region_count; i++) {
        struct trace_region_span *r = &s->regions[i];
        if (r->begin_ns < from_ns) {
            r->begins = false;
            r->begin_ns = s->begin_ns;
        }
        if (r->end_ns >= from_ns)
            s->regions[regions++] = *r;
    }
    for (uint32_t i = 0; i < s->task_count; i++) {
        struct trace_task_span *t = &s->tasks[i];
        if (t->begin_ns < from_ns) {
            t->begins = false;
            t->begin_ns = s->begin_ns;
        }
        if (t->end_ns >= from_ns)
            s->tasks[tasks++] = *t;
    }
    s->region_count = regions;
    s->task_count = tasks;
}

static void order_marks(struct trace_spans *s, const uint32_t *now)
{
    clip_marks(s);
    for (uint32_t i = 0; i < s->sample_count; i++)
        s->samples[i].lane = mapped(now, s->samples[i].lane);
    for (uint32_t i = 0; i < s->region_count; i++) {
        struct trace_region_span *r = &s->regions[i];
        if (r->end_ns == INT64_MAX)
            r->end_ns = s->end_ns;
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
    if (s->log_count)
        qsort(s->logs, s->log_count, sizeof *s->logs, logs_by_lane_and_time);
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
        rc = make_columns(s);
    if (!rc) {
        for (uint32_t i = 0; i < s->lane_count; i++)
            next[i] = s->lanes[i].first;
        fill(&(struct filler){.s = s, .now = now, .next = next});
        order_runs(s);
        order_marks(s, now);
    }
    free(now);
    free(next);
    return rc;
}
