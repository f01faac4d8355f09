// SPDX-License-Identifier: MIT
//
// See instances.h.

#include "analysis/trace/instances.h"

#include "analysis/trace/critical.h"
#include "analysis/trace/portion.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

struct portion {
    const struct trace_spans *s;
    int64_t begin_ns, end_ns;
};

// Fills in what is known without the fiber's spans; false: no part of it lies in the portion.
static bool take(const struct portion *p, int64_t begin_ns, int64_t end_ns, bool begins, bool ends,
                 struct trace_instance_span *out)
{
    // Open ones last to the end of the trace, and are in every portion after their begin.
    bool over = ends && end_ns <= p->end_ns;
    if (begin_ns > p->end_ns || (ends && end_ns < p->begin_ns))
        return false;
    *out = (struct trace_instance_span){
        .begin_ns = begin_ns > p->begin_ns ? begin_ns : p->begin_ns,
        .end_ns = end_ns < p->end_ns ? end_ns : p->end_ns,
        .complete = begins && over && begin_ns >= p->begin_ns,
    };
    return true;
}

static bool take_region(const struct portion *p, uint32_t i, struct trace_instance_span *out)
{
    const struct trace_region_span *r = &p->s->regions[i];
    const struct trace_lane *l = &p->s->lanes[r->lane];
    bool with_fiber = r->end_ns == l->end_ns && l->end_ns < p->s->end_ns;
    // Of the runtime's own fibers what is open at the end does not count.
    bool over = r->ends && r->end_ns <= p->end_ns;
    if (!over && trace_name_is_system(trace_names_text(&p->s->names, l->name)))
        return false;
    if (!take(p, r->begin_ns, r->end_ns, r->begins, r->ends || with_fiber, out))
        return false;
    out->lane = r->lane;
    out->index = i;
    return true;
}

static bool take_task(const struct portion *p, uint32_t i, struct trace_instance_span *out)
{
    const struct trace_task_span *t = &p->s->tasks[i];
    if (!take(p, t->begin_ns, t->end_ns, t->begins, t->ends, out))
        return false;
    out->lane = t->end_lane != TRACE_NO_LANE ? t->end_lane : t->begin_lane;
    out->index = i;
    return true;
}

// --- Names.

static int by_sum(const void *x, const void *y)
{
    const struct trace_instance_name *a = x, *b = y;
    if (a->is_task != b->is_task)
        return a->is_task - b->is_task;
    if (a->sum_ns != b->sum_ns)
        return a->sum_ns < b->sum_ns ? 1 : -1;
    return (a->name > b->name) - (a->name < b->name);
}

static void add(struct trace_instance_name *n, const struct trace_instance_span *i)
{
    int64_t ns = i->end_ns - i->begin_ns;
    n->count++;
    if (!i->complete)
        return;
    n->complete++;
    n->sum_ns += ns;
    n->max_ns = ns > n->max_ns ? ns : n->max_ns;
}

int trace_instance_names(const struct trace_spans *s, int64_t begin_ns, int64_t end_ns,
                         struct trace_instance_name **out)
{
    const struct portion p = {s, begin_ns, end_ns};
    uint32_t names = s->names.count + 1, kept = 0; // a name of both is two
    struct trace_instance_name *all = calloc(2ull * names + 1, sizeof *all);
    struct trace_instance_span one;
    *out = NULL;
    if (!all)
        return -ENOMEM;
    for (uint32_t i = 0; i < s->region_count; i++)
        if (take_region(&p, i, &one))
            add(&all[s->regions[i].type], &one);
    for (uint32_t i = 0; i < s->task_count; i++)
        if (take_task(&p, i, &one))
            add(&all[names + s->tasks[i].type], &one);
    for (uint32_t i = 0; i < 2 * names; i++) {
        if (!all[i].count)
            continue;
        all[i].is_task = i >= names;
        all[i].name = all[i].is_task ? i - names : i;
        all[kept++] = all[i];
    }
    if (kept)
        qsort(all, kept, sizeof *all, by_sum);
    struct trace_instance_name *less = realloc(all, (kept + 1ull) * sizeof *all);
    *out = less ? less : all;
    return (int)kept;
}

// --- Instances.

static int divide(const struct trace_spans *s, struct trace_instance_span *i, struct trace_times *t)
{
    *t = (struct trace_times){.waits = t->waits, .wait_capacity = t->wait_capacity};
    int rc = trace_lane_times(s, i->lane, i->begin_ns, i->end_ns, t);
    i->running_ns = t->running_ns;
    i->runnable_ns = t->runnable_ns;
    i->blocked_ns = t->blocked_ns;
    i->syscall_ns = t->syscall_ns + t->syscall_blocked_ns;
    i->has_parts = !rc;
    return rc;
}

static int divide_task(const struct trace_spans *s, struct trace_instance_span *i, int64_t *left)
{
    struct trace_step *steps = NULL;
    if (!i->complete || i->lane == TRACE_NO_LANE || *left <= 0)
        return 0;
    int n = trace_critical(s, i->lane, i->begin_ns, i->end_ns, TRACE_CRITICAL_LOCKS, &steps);
    for (int k = 0; k < n; k++) {
        int64_t ns = steps[k].end_ns - steps[k].begin_ns;
        switch (steps[k].part) {
        case TRACE_PART_RUNNING: i->running_ns += ns; break;
        case TRACE_PART_RUNNABLE: i->runnable_ns += ns; break;
        case TRACE_PART_SYSCALL: i->syscall_ns += ns; break;
        case TRACE_PART_UNKNOWN: break;
        default: i->blocked_ns += ns; break;
        }
    }
    free(steps);
    i->has_parts = n >= 0;
    *left -= n;
    return n < 0 ? n : 0;
}

int trace_instances(const struct trace_spans *s, uint32_t name, bool is_task, int64_t begin_ns,
                    int64_t end_ns, struct trace_instance_span **out)
{
    const struct portion p = {s, begin_ns, end_ns};
    struct trace_instance_span *list = NULL, one;
    struct trace_times own = {0};
    uint32_t all = is_task ? s->task_count : s->region_count;
    size_t n = 0, capacity = 0;
    int64_t left = TRACE_INSTANCE_STEPS_MAX;
    int rc = 0;
    *out = NULL;
    for (uint32_t i = 0; i < all && !rc; i++) {
        bool is = is_task ? s->tasks[i].type == name && take_task(&p, i, &one)
                          : s->regions[i].type == name && take_region(&p, i, &one);
        if (!is)
            continue;
        if (n == capacity) {
            size_t more = capacity ? 2 * capacity : 64;
            struct trace_instance_span *grown = reallocarray(list, more, sizeof *list);
            rc = n >= INT_MAX ? -EFBIG : grown ? 0 : -ENOMEM;
            list = grown ? grown : list;
            capacity = grown ? more : capacity;
        }
        if (!rc)
            rc = is_task ? divide_task(s, &one, &left) : divide(s, &one, &own);
        if (!rc)
            list[n++] = one;
    }
    trace_times_finish(&own);
    if (rc) {
        free(list);
        return rc;
    }
    *out = list;
    return (int)n;
}
