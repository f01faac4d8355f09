// SPDX-License-Identifier: MIT
//
// See util.h.

#include "analysis/trace/util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { PROCS_MAX = 1 << 16 };

struct fiber {
    uint8_t state;
    bool in_assist, marks; // works for the collector whenever it executes
    bool counted;          // on `proc`
    int64_t proc;
};

struct util_late { // that a fiber ran, said only at its end
    int64_t from_ns, to_ns;
    double share;
};

struct util_state {
    uint32_t running; // fibers
    uint64_t procs;   // GOMAXPROCS; 0: not known yet
    uint32_t *gc;     // [procs], by id: how many fibers work for the collector on it
    uint32_t gc_procs, stw;
    struct fiber *fibers; // by slot
    uint32_t fiber_capacity;
    uint32_t syncs;
    int64_t last_ns;
    bool started;
    int64_t begin_ns, early_at_ns; // RUNNING: of the trace; up to here early_ns counts
    double early_ns;               // fibers' running time until the Procs are known
    int64_t sync_ns;               // of the last Sync, held inside the range
    struct util_late *late;        // [late_count], of RUNNING; both ends ascend
    size_t late_count, late_capacity;
    double late_ns; // only_mean: what they add to the integral
};

int trace_util_new(struct trace_util **out, enum trace_util_kind kind, int64_t from_ns,
                   int64_t to_ns)
{
    struct trace_util *u = *out = calloc(1, sizeof *u);
    if (!u)
        return -ENOMEM;
    *u = (struct trace_util){.kind = kind, .from_ns = from_ns, .to_ns = to_ns};
    u->state = calloc(1, sizeof *u->state);
    if (u->state)
        return 0;
    free(u);
    *out = NULL;
    return -ENOMEM;
}

// Two points, of which the first has the mean of all up to the second.
static void melt(struct trace_util *u, int64_t at_ns, double share)
{
    struct trace_util_point *first = &u->points[0], *last = &u->points[1];
    first->integral = first->share * (double)(last->at_ns - first->at_ns) +
                      last->share * (double)(at_ns - last->at_ns);
    first->share = first->integral / (double)(at_ns - first->at_ns);
    *last = (struct trace_util_point){.at_ns = at_ns, .share = share};
}

int trace_util_point(struct trace_util *u, int64_t at_ns, double share)
{
    struct trace_util_point *last = u->count ? &u->points[u->count - 1] : NULL;
    if (u->from_ns && at_ns < u->from_ns)
        at_ns = u->from_ns;
    if (last && last->share == share)
        return 0;
    if (last && last->at_ns == at_ns) {
        last->share = share;
        return 0;
    }
    if (u->only_mean && u->count == 2) {
        melt(u, at_ns, share);
        return 0;
    }
    if (u->count == u->capacity) {
        size_t capacity = u->capacity ? 2 * u->capacity : u->only_mean ? 2 : 256;
        struct trace_util_point *more = realloc(u->points, capacity * sizeof *more);
        if (!more)
            return -ENOMEM;
        u->points = more;
        u->capacity = capacity;
    }
    u->points[u->count++] = (struct trace_util_point){.at_ns = at_ns, .share = share};
    return 0;
}

static int set_procs(struct trace_util *u, uint64_t n)
{
    struct util_state *st = u->state;
    if (!n || n > PROCS_MAX)
        return 0;
    uint32_t *gc = realloc(st->gc, n * sizeof *gc);
    if (!gc)
        return -ENOMEM;
    for (uint64_t i = st->procs; i < n; i++)
        gc[i] = 0;
    st->gc = gc;
    st->procs = n;
    st->gc_procs = 0;
    for (uint64_t i = 0; i < n; i++)
        st->gc_procs += gc[i] > 0;
    return 0;
}

static bool executes(uint8_t state)
{
    return state == TRACE_GO_RUNNING || state == TRACE_GO_SYSCALL;
}

// Counts the fiber on its Proc while it executes for the collector.
static void recount(struct util_state *st, struct fiber *f, int64_t proc)
{
    bool should = executes(f->state) && (f->in_assist || f->marks);
    if (should == f->counted)
        return;
    if (should)
        f->proc = proc;
    f->counted = should;
    if (f->proc < 0 || (uint64_t)f->proc >= st->procs)
        return;
    uint32_t *n = &st->gc[f->proc];
    if (!should && !*n)
        return; // GOMAXPROCS has been less meanwhile
    *n += should ? 1 : UINT32_MAX;
    if (should ? *n == 1 : *n == 0)
        st->gc_procs += should ? 1 : UINT32_MAX;
}

static struct fiber *fiber_of(struct util_state *st, uint32_t slot)
{
    if (slot >= UINT32_MAX / 2)
        return NULL;
    if (slot >= st->fiber_capacity) {
        uint32_t capacity = 2 * slot + 64;
        struct fiber *more = realloc(st->fibers, capacity * sizeof *more);
        if (!more)
            return NULL;
        memset(more + st->fiber_capacity, 0, (capacity - st->fiber_capacity) * sizeof *more);
        st->fibers = more;
        st->fiber_capacity = capacity;
    }
    return &st->fibers[slot];
}

// A fiber that is first heard of as one that runs has done so since the last Sync.
static int has_run(struct trace_util *u, int64_t to_ns)
{
    struct util_state *st = u->state;
    struct util_late late = {.from_ns = st->sync_ns, .to_ns = to_ns};
    if (to_ns <= late.from_ns || !st->started)
        return 0;
    if (!st->procs) {
        st->early_ns += (double)(to_ns - late.from_ns);
        return 0;
    }
    late.share = 1 / (double)st->procs;
    if (u->only_mean) {
        st->late_ns += late.share * (double)(to_ns - late.from_ns);
        return 0;
    }
    if (st->late_count == st->late_capacity) {
        size_t capacity = st->late_capacity ? 2 * st->late_capacity : 16;
        struct util_late *more = realloc(st->late, capacity * sizeof *more);
        if (!more)
            return -ENOMEM;
        st->late = more;
        st->late_capacity = capacity;
    }
    st->late[st->late_count++] = late;
    return 0;
}

static bool is_heard_running(const struct trace_util *u, const struct trace_event *ev)
{
    return u->kind == TRACE_UTIL_RUNNING && ev->kind == TRACE_TRANSITION &&
           ev->what == TRACE_RESOURCE_GOROUTINE && ev->transition.from == TRACE_GO_UNDETERMINED &&
           ev->transition.to == TRACE_GO_RUNNING;
}

static int transition(struct trace_util *u, const struct trace_event *ev)
{
    struct util_state *st = u->state;
    uint8_t from = ev->transition.from, to = ev->transition.to;
    st->running += to == TRACE_GO_RUNNING && from != TRACE_GO_RUNNING;
    st->running -= from == TRACE_GO_RUNNING && to != TRACE_GO_RUNNING;
    if (u->kind == TRACE_UTIL_RUNNING)
        return is_heard_running(u, ev) ? has_run(u, ev->time_ns) : 0;
    struct fiber *f = fiber_of(st, ev->transition.slot);
    if (!f)
        return -ENOMEM;
    f->state = to;
    recount(st, f, ev->proc);
    if (to == TRACE_GO_NOT_EXIST)
        *f = (struct fiber){0};
    return 0;
}

// A range heard of at the beginning has lasted since then: what was said until now was too much.
static void correct(struct trace_util *u)
{
    for (size_t i = 0; i < u->count; i++) {
        double less = u->points[i].share - 1 / (double)u->state->procs;
        u->points[i].share = less > 0 ? less : 0;
    }
}

static int range(struct trace_util *u, const struct trace_reader *r, const struct trace_event *ev)
{
    struct util_state *st = u->state;
    int by = ev->kind == TRACE_RANGE_END ? -1 : 1;
    if (ev->kind == TRACE_RANGE_ACTIVE && st->syncs > 1)
        return 0;
    if (ev->what == TRACE_RANGE_STW) {
        struct trace_text t = trace_reader_string(r, ev->range.reason);
        if (!t.size_bytes || !memmem(t.bytes, t.size_bytes, "GC", 2))
            return 0; // a stop for something else
        st->stw = by < 0 && !st->stw ? 0 : st->stw + (uint32_t)by;
        return 0;
    }
    if (ev->what != TRACE_RANGE_GC_ASSIST)
        return 0;
    struct fiber *f = fiber_of(st, ev->range.slot);
    if (!f)
        return -ENOMEM;
    if (ev->kind == TRACE_RANGE_ACTIVE && executes(f->state) && u->kind == TRACE_UTIL_MUTATOR)
        correct(u);
    f->in_assist = by > 0;
    recount(st, f, ev->proc);
    return 0;
}

// Go's background workers say by a label, each time they start, what they are about to do.
static int label(struct util_state *st, const struct trace_reader *r, const struct trace_event *ev)
{
    struct trace_text t = trace_reader_string(r, ev->label.text);
    bool idle = t.size_bytes == 9 && !memcmp(t.bytes, "GC (idle)", 9);
    if (t.size_bytes < 3 || memcmp(t.bytes, "GC ", 3) != 0)
        return 0;
    struct fiber *f = fiber_of(st, ev->goroutine_slot);
    if (!f)
        return -ENOMEM;
    f->marks = !idle;
    recount(st, f, ev->proc);
    return 0;
}

static double share_now(const struct trace_util *u)
{
    const struct util_state *st = u->state;
    double n = (double)st->procs;
    if (u->kind == TRACE_UTIL_RUNNING)
        return trace_util_share(st->running, st->procs);
    return st->stw ? 0 : 1 - st->gc_procs / n;
}

static int procs_changed(struct trace_util *u, const struct trace_event *ev)
{
    struct util_state *st = u->state;
    bool first = !st->procs;
    int rc = set_procs(u, ev->metric.value);
    if (rc || !first || !st->procs)
        return rc;
    if (u->kind == TRACE_UTIL_MUTATOR)
        return trace_util_point(u, ev->time_ns, 1);
    double before_ns = (double)(st->early_at_ns - st->begin_ns);
    double share = before_ns > 0 ? st->early_ns / before_ns / (double)st->procs : 0;
    return trace_util_point(u, st->begin_ns, share < 1 ? share : 1);
}

// RUNNING, before the Procs are known.
static void count_early(struct trace_util *u, int64_t now_ns)
{
    struct util_state *st = u->state;
    int64_t now = u->from_ns && now_ns < u->from_ns ? u->from_ns : now_ns;
    if (!st->started)
        st->begin_ns = st->early_at_ns = now;
    st->started = true;
    st->early_ns += st->running * (double)(now - st->early_at_ns);
    st->early_at_ns = now;
}

int trace_util_event(struct trace_util *u, const struct trace_reader *r,
                     const struct trace_event *ev)
{
    struct util_state *st = u->state;
    int rc = 0;
    if (u->to_ns && ev->time_ns > u->to_ns) {
        st->last_ns = u->to_ns;
        return is_heard_running(u, ev) ? has_run(u, u->to_ns) : 0;
    }
    st->last_ns = ev->time_ns;
    if (!st->started || ev->kind == TRACE_SYNC)
        st->sync_ns = ev->time_ns > u->from_ns ? ev->time_ns : u->from_ns;
    bool collects = u->kind == TRACE_UTIL_MUTATOR && st->procs;
    if (!st->procs)
        count_early(u, ev->time_ns);
    switch (ev->kind) {
    case TRACE_SYNC: st->syncs++; break;
    case TRACE_METRIC:
        if (ev->what == TRACE_METRIC_GOMAXPROCS)
            rc = procs_changed(u, ev);
        break;
    case TRACE_RANGE_BEGIN:
    case TRACE_RANGE_ACTIVE:
    case TRACE_RANGE_END: rc = collects ? range(u, r, ev) : 0; break;
    case TRACE_LABEL: rc = collects ? label(st, r, ev) : 0; break;
    case TRACE_TRANSITION:
        if (ev->what == TRACE_RESOURCE_GOROUTINE)
            rc = transition(u, ev);
        break;
    default: break;
    }
    return rc || !st->procs ? rc : trace_util_point(u, ev->time_ns, share_now(u));
}

static int64_t earlier(int64_t a_ns, bool has_b, int64_t b_ns)
{
    return has_b && b_ns < a_ns ? b_ns : a_ns;
}

// The curve again, with what was said late. It begins and ends with the first and the last point.
static int put_late(struct trace_util *u)
{
    const struct util_late *late = u->state->late;
    size_t n = u->state->late_count, capacity = u->count + 2 * n;
    size_t count = 0, i = 0, began = 0, ended = 0;
    double share = 0, more = 0;
    struct trace_util_point *points = calloc(capacity, sizeof *points);
    if (!points)
        return -ENOMEM;
    while (i < u->count || ended < n) {
        int64_t at_ns = i < u->count ? u->points[i].at_ns : INT64_MAX;
        at_ns = earlier(at_ns, began < n, began < n ? late[began].from_ns : 0);
        at_ns = earlier(at_ns, ended < n, ended < n ? late[ended].to_ns : 0);
        while (i < u->count && u->points[i].at_ns == at_ns)
            share = u->points[i++].share;
        while (began < n && late[began].from_ns == at_ns)
            more += late[began++].share;
        while (ended < n && late[ended].to_ns == at_ns)
            more -= late[ended++].share;
        more = began == ended ? 0 : more; // of rounding, too
        double all = share + more < 1 ? share + more : 1;
        if (!count || points[count - 1].share != all)
            points[count++] = (struct trace_util_point){.at_ns = at_ns, .share = all};
    }
    free(u->points);
    u->points = points;
    u->count = count;
    u->capacity = capacity;
    return 0;
}

static int add_late(struct trace_util *u)
{
    struct util_state *st = u->state;
    if (u->count < 2)
        return 0;
    struct trace_util_point *first = &u->points[0], *last = &u->points[u->count - 1];
    if (st->late_ns > 0) {
        first->share += st->late_ns / (double)(last->at_ns - first->at_ns);
        first->share = first->share < 1 ? first->share : 1;
    }
    return st->late_count ? put_late(u) : 0;
}

int trace_util_finish(struct trace_util *u)
{
    double sum = 0;
    int rc = 0;
    if (u->count && u->state->last_ns > u->points[u->count - 1].at_ns)
        rc = trace_util_point(u, u->state->last_ns, -1);
    if (!rc)
        rc = add_late(u);
    if (rc)
        return rc;
    for (size_t i = 0; i < u->count; i++) {
        u->points[i].integral = sum;
        if (i + 1 < u->count)
            sum += u->points[i].share * (double)(u->points[i + 1].at_ns - u->points[i].at_ns);
    }
    if (u->count)
        u->points[u->count - 1].share = 0;
    return 0;
}

uint64_t trace_util_procs(const struct trace_util *u)
{
    return u->state->procs;
}

void trace_util_free(struct trace_util *u)
{
    if (!u)
        return;
    free(u->state->gc);
    free(u->state->fibers);
    free(u->state->late);
    free(u->state);
    free(u->points);
    free(u);
}

// The integral up to at_ns; the point at or before it is looked for from *i on.
static double integral_from(const struct trace_util *u, size_t *i, int64_t at_ns)
{
    while (*i + 1 < u->count && u->points[*i + 1].at_ns <= at_ns)
        ++*i;
    const struct trace_util_point *p = &u->points[*i];
    return p->integral + p->share * (double)(at_ns - p->at_ns);
}

static size_t find(const struct trace_util *u, int64_t at_ns)
{
    size_t low = 0, high = u->count; // the first after at_ns
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (u->points[mid].at_ns <= at_ns)
            low = mid + 1;
        else
            high = mid;
    }
    return low ? low - 1 : 0;
}

double trace_util_mean(const struct trace_util *u, int64_t begin_ns, int64_t end_ns)
{
    if (u->count < 2)
        return 0;
    int64_t first = u->points[0].at_ns, last = u->points[u->count - 1].at_ns;
    begin_ns = begin_ns > first ? begin_ns : first;
    end_ns = end_ns < last ? end_ns : last;
    if (end_ns <= begin_ns)
        return 0;
    size_t i = find(u, begin_ns), k = find(u, end_ns);
    return (integral_from(u, &k, end_ns) - integral_from(u, &i, begin_ns)) /
           (double)(end_ns - begin_ns);
}

// The mean over a moving window is linear between the moments where one of its ends meets a point,
// so its minimum is at one of those.
double trace_util_minimum(const struct trace_util *u, int64_t window_ns, int64_t *at_ns)
{
    if (u->count < 2)
        return 0;
    int64_t first = u->points[0].at_ns, last = u->points[u->count - 1].at_ns;
    if (window_ns > last - first)
        window_ns = last - first;
    if (window_ns <= 0)
        return 0;
    double least = 2;
    size_t a = 0, b = 0, c = 0, d = 0; // where the ends are: both kinds of moments ascend
    for (size_t i = 0; i < u->count; i++) {
        int64_t left = u->points[i].at_ns, right = u->points[i].at_ns;
        if (left + window_ns <= last) {
            double begin = integral_from(u, &a, left);
            double mean = (integral_from(u, &b, left + window_ns) - begin) / (double)window_ns;
            if (mean < least) {
                least = mean;
                *at_ns = left;
            }
        }
        if (right - window_ns >= first) {
            double begin = integral_from(u, &c, right - window_ns);
            double mean = (integral_from(u, &d, right) - begin) / (double)window_ns;
            if (mean < least) {
                least = mean;
                *at_ns = right - window_ns;
            }
        }
    }
    return least < 0 ? 0 : least; // rounding
}
