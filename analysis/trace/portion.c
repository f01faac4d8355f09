// SPDX-License-Identifier: MIT
//
// See portion.h.

#include "analysis/trace/portion.h"
#include "analysis/trace/portion_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct portion_state {
    const struct trace_spans *s;
    uint32_t lane;          // the next
    uint32_t *by_name;      // [names.count]: of functions, + 1
    uint32_t capacity;      // of functions
    struct trace_times own; // of one fiber
    double proc_ns;         // GOMAXPROCS over time
    struct portion_busy busy;
};

static int64_t later(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

// --- One fiber.

static int add_wait(const struct trace_spans *s, uint32_t lane, uint32_t span, int64_t begin_ns,
                    int64_t end_ns, struct trace_times *t)
{
    const struct trace_lane *l = &s->lanes[lane];
    int64_t from = later(trace_span_begin_ns(s, span), begin_ns);
    int64_t to = earlier(trace_span_end_ns(s, lane, span), end_ns);
    uint32_t reason = trace_span_reason(s, span);
    // What a fiber does when it is first heard of began before.
    bool was_there = span == l->first && l->creator == TRACE_NO_LANE;
    bool begins = !was_there && trace_span_begin_ns(s, span) >= begin_ns;
    bool ends = trace_span_end_ns(s, lane, span) <= end_ns &&
                (span + 1 < l->first + l->count || l->end_ns < s->end_ns);
    int rc = trace_times_block(t, reason, begins, to - from);
    if (!rc && ends)
        trace_times_longest(t, reason, to - from);
    else if (!rc)
        trace_times_open(t, reason, to - from);
    return rc;
}

static int add_span(const struct trace_spans *s, uint32_t lane, uint32_t span, int64_t begin_ns,
                    int64_t end_ns, struct trace_times *t)
{
    int64_t from = later(trace_span_begin_ns(s, span), begin_ns);
    int64_t to = earlier(trace_span_end_ns(s, lane, span), end_ns);
    switch (trace_span_state(s, span)) {
    case TRACE_GO_RUNNING: t->running_ns += to - from; break;
    case TRACE_GO_RUNNABLE: t->runnable_ns += to - from; break;
    case TRACE_GO_WAITING: return add_wait(s, lane, span, begin_ns, end_ns, t);
    case TRACE_GO_SYSCALL: {
        int64_t lost = later(earlier(trace_span_lost_ns(s, span), to), from);
        t->syscall_ns += lost - from;
        t->syscall_blocked_ns += to - lost;
        break;
    }
    default: break;
    }
    return 0;
}

// The first span of a lane that ends after, or begins at, begin_ns.
static uint32_t first_span(const struct trace_spans *s, uint32_t lane, int64_t begin_ns)
{
    uint32_t span = trace_spans_before(s, lane, begin_ns);
    if (span == TRACE_NO_SPAN)
        return s->lanes[lane].first;
    return trace_span_end_ns(s, lane, span) > begin_ns ? span : span + 1;
}

int trace_lane_times(const struct trace_spans *s, uint32_t lane, int64_t begin_ns, int64_t end_ns,
                     struct trace_times *t)
{
    const struct trace_lane *l = &s->lanes[lane];
    int rc = 0;
    int64_t born = l->count ? trace_span_begin_ns(s, l->first) : l->end_ns;
    int64_t from = later(born, begin_ns), to = earlier(l->end_ns, end_ns);
    t->total_ns += to > from ? to - from : 0;
    for (uint32_t i = first_span(s, lane, begin_ns); i < l->first + l->count && !rc; i++) {
        if (trace_span_begin_ns(s, i) > end_ns)
            break;
        rc = add_span(s, lane, i, begin_ns, end_ns, t);
    }
    return rc;
}

// --- All fibers.

static void clear(struct trace_times *t)
{
    *t = (struct trace_times){.waits = t->waits, .wait_capacity = t->wait_capacity};
}

static struct trace_portion_function *function_of(struct trace_portion *p, uint32_t name)
{
    struct portion_state *st = p->state;
    if (st->by_name[name])
        return &p->functions[st->by_name[name] - 1];
    if (p->function_count == st->capacity) {
        uint32_t capacity = st->capacity ? 2 * st->capacity : 16;
        struct trace_portion_function *more =
            reallocarray(p->functions, capacity, sizeof *p->functions);
        if (!more)
            return NULL;
        p->functions = more;
        st->capacity = capacity;
    }
    struct trace_portion_function *f = &p->functions[p->function_count++];
    *f = (struct trace_portion_function){.name = name};
    st->by_name[name] = p->function_count;
    return f;
}

static void keep_top(struct trace_portion_fiber *top, uint32_t *count, uint32_t lane, int64_t ns)
{
    uint32_t i = *count;
    while (i > 0 && top[i - 1].ns < ns)
        i--;
    if (i == TRACE_PORTION_TOP || ns <= 0)
        return;
    *count += *count < TRACE_PORTION_TOP;
    memmove(&top[i + 1], &top[i], (*count - 1 - i) * sizeof *top);
    top[i] = (struct trace_portion_fiber){lane, ns};
}

// When the fiber waits for ever, which is as good as its end; else that of its lane.
static int64_t life_ends(const struct trace_spans *s, uint32_t lane)
{
    const struct trace_lane *l = &s->lanes[lane];
    uint32_t last = l->first + l->count - 1;
    bool forever = l->count && trace_span_state(s, last) == TRACE_GO_WAITING &&
                   !strcmp(trace_names_text(&s->names, trace_span_reason(s, last)), "forever");
    return forever ? trace_span_begin_ns(s, last) : l->end_ns;
}

// When a fiber ran, if that is kept.
static int add_busy(struct trace_portion *p, uint32_t lane)
{
    struct portion_state *st = p->state;
    const struct trace_spans *s = st->s;
    const struct trace_lane *l = &s->lanes[lane];
    int rc = 0;
    if (!st->busy.is_kept)
        return 0;
    for (uint32_t i = first_span(s, lane, p->begin_ns); i < l->first + l->count && !rc; i++) {
        if (trace_span_begin_ns(s, i) > p->end_ns)
            break;
        if (trace_span_state(s, i) == TRACE_GO_RUNNING)
            rc = portion_busy_add(&st->busy, later(trace_span_begin_ns(s, i), p->begin_ns),
                                  earlier(trace_span_end_ns(s, lane, i), p->end_ns));
    }
    return rc;
}

static int add_lane(struct trace_portion *p, uint32_t lane)
{
    struct portion_state *st = p->state;
    const struct trace_spans *s = st->s;
    const struct trace_lane *l = &s->lanes[lane];
    int64_t born = l->count ? trace_span_begin_ns(s, l->first) : l->end_ns;
    int64_t ends = life_ends(s, lane);
    bool ended = ends < s->end_ns && ends <= p->end_ns;
    if (born > p->end_ns || (ended && ends < p->begin_ns))
        return 0;
    struct trace_portion_function *f = function_of(p, l->name);
    if (!f)
        return -ENOMEM;
    clear(&st->own);
    int rc = trace_lane_times(s, lane, p->begin_ns, earlier(ends, p->end_ns), &st->own);
    if (!rc)
        rc = trace_times_add(&f->times, &st->own);
    f->fibers++;
    f->alive += !ended;
    p->fibers++;
    p->alive += !ended;
    p->all_running_ns += st->own.running_ns;
    rc = rc ? rc : add_busy(p, lane);
    if (rc || trace_name_is_system(trace_names_text(&s->names, l->name)))
        return rc;
    keep_top(p->running, &p->running_count, lane, st->own.running_ns);
    keep_top(p->blocked, &p->blocked_count, lane, st->own.blocked_ns);
    return trace_times_add(&p->totals, &st->own);
}

// GOMAXPROCS over the portion. What is before the first that is said counts with it.
static void add_procs(struct trace_portion *p)
{
    const struct trace_spans *s = p->state->s;
    for (uint32_t i = 0; i < s->gomaxprocs_count; i++) {
        const struct trace_gomaxprocs *g = &s->gomaxprocs[i];
        if (i && g->time_ns > p->end_ns)
            break;
        int64_t from = i ? later(g->time_ns, p->begin_ns) : p->begin_ns, to = p->end_ns;
        if (i + 1 < s->gomaxprocs_count)
            to = earlier(s->gomaxprocs[i + 1].time_ns, to);
        p->procs = g->procs;
        if (to > from)
            p->state->proc_ns += (double)g->procs * (double)(to - from);
    }
}

int trace_portion_begin(struct trace_portion *p, const struct trace_spans *s, int64_t begin_ns,
                        int64_t end_ns)
{
    *p = (struct trace_portion){.begin_ns = later(begin_ns, s->begin_ns),
                                .end_ns = earlier(end_ns, s->end_ns)};
    p->end_ns = later(p->end_ns, p->begin_ns);
    p->state = calloc(1, sizeof *p->state);
    if (!p->state)
        return -ENOMEM;
    p->state->s = s;
    p->state->by_name = calloc(s->names.count + 1ull, sizeof *p->state->by_name);
    if (!p->state->by_name)
        return -ENOMEM;
    add_procs(p);
    portion_busy_begin(&p->state->busy, s);
    return 0;
}

static int by_running(const void *x, const void *y, void *names)
{
    const struct trace_portion_function *a = x, *b = y;
    if (a->times.running_ns != b->times.running_ns)
        return a->times.running_ns < b->times.running_ns ? 1 : -1;
    return strcmp(trace_names_text(names, a->name), trace_names_text(names, b->name));
}

static void free_state(struct portion_state *st)
{
    if (!st)
        return;
    trace_times_finish(&st->own);
    portion_busy_finish(&st->busy);
    free(st->by_name);
    free(st);
}

static double busy_of(struct trace_portion *p)
{
    struct portion_state *st = p->state;
    if (st->busy.is_kept)
        return portion_busy_share(&st->busy, st->s, p->begin_ns, p->end_ns);
    double share = st->proc_ns > 0 ? (double)p->all_running_ns / st->proc_ns : 0;
    return share < 1 ? share : 1;
}

static void finish(struct trace_portion *p)
{
    const struct trace_spans *s = p->state->s;
    p->busy = busy_of(p);
    for (uint32_t i = 0; i < p->function_count; i++)
        trace_times_sort(&p->functions[i].times);
    trace_times_sort(&p->totals);
    if (p->function_count)
        qsort_r(p->functions, p->function_count, sizeof *p->functions, by_running,
                (void *)(uintptr_t)&s->names);
    free_state(p->state);
    p->state = NULL;
}

int trace_portion_step(struct trace_portion *p, uint64_t spans)
{
    struct portion_state *st = p->state;
    if (!st)
        return 0;
    uint32_t end = st->s->kind_first[TRACE_RESOURCE_PROC];
    for (uint64_t done = 0; st->lane < end && done < spans; st->lane++) {
        int rc = add_lane(p, st->lane);
        if (rc)
            return rc;
        done += 1 + st->s->lanes[st->lane].count; // at most: what lies outside is skipped
    }
    if (st->lane < end)
        return 1;
    finish(p);
    return 0;
}

void trace_portion_free(struct trace_portion *p)
{
    for (uint32_t i = 0; i < p->function_count; i++)
        trace_times_finish(&p->functions[i].times);
    free(p->functions);
    trace_times_finish(&p->totals);
    free_state(p->state);
    *p = (struct trace_portion){0};
}

double trace_portion_utilisation(const struct trace_portion *p)
{
    return p->busy;
}
