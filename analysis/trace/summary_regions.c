// SPDX-License-Identifier: MIT
//
// Regions and tasks. See summary.h.
//
// A fiber's open regions are a stack. As in Go's summary a fiber that is started inside a region
// begins with an entry for that region's task (inherited), which an end without a begin takes off.

#include "analysis/trace/summary_internal.h"

#include <errno.h>
#include <stdlib.h>

enum { TASK_BYTES = sizeof(struct task) + 4 * sizeof(struct ptrtab_slot) };

static struct open_region *push(struct summary_state *st, struct fiber *f)
{
    struct open_region *o = st->free_regions;
    if (o)
        st->free_regions = o->outer;
    else if (!(st->rc = st->rc ? st->rc : summary_charge(st, sizeof *o)))
        o = calloc(1, sizeof *o);
    if (!o)
        return NULL;
    struct trace_times times = o->pub.times;
    *o = (struct open_region){.outer = f->regions};
    o->pub.times = (struct trace_times){.waits = times.waits, .wait_capacity = times.wait_capacity};
    o->pub.fiber = f->pub.id;
    o->pub.begin_ns = o->pub.end_ns = SUMMARY_NEVER;
    f->regions = o;
    return o;
}

static void pop(struct summary_state *st, struct fiber *f)
{
    struct open_region *o = f->regions;
    f->regions = o->outer;
    o->outer = st->free_regions;
    st->free_regions = o;
}

void summary_regions_drop(struct summary_state *st, struct fiber *f)
{
    while (f->regions)
        pop(st, f);
}

int summary_inherit(struct trace_summary *s, struct fiber *f, const struct fiber *creator)
{
    if (!creator || !creator->regions)
        return 0;
    struct open_region *o = push(s->state, f);
    if (!o)
        return -ENOMEM;
    o->pub.task = creator->regions->pub.task;
    o->pub.begin_ns = f->pub.created_ns;
    o->pub.inherited = true;
    return 0;
}

// All of the fiber's time up to now.
static int snapshot(const struct summary_state *st, const struct fiber *f, struct trace_times *t)
{
    int rc = trace_times_copy(t, &f->pub.times);
    if (f->since == SUMMARY_NEVER)
        return rc;
    t->total_ns = st->now - f->total_from;
    for (int i = 0; i < TRACE_RANGES; i++) {
        if (f->range_since[i] != SUMMARY_NEVER)
            t->range_ns[i] += st->now - f->range_since[i];
    }
    return rc ? rc : summary_settle(st, f, t);
}

// The type of this name. Programs may put a number into every name: from a count on they share one.
static struct trace_type *type_of(struct trace_summary *s, bool tasks, uint32_t name)
{
    struct summary_state *st = s->state;
    struct trace_type ***types = tasks ? &s->task_types : &s->region_types;
    uint32_t *count = tasks ? &s->task_type_count : &s->region_type_count;
    struct trace_type ***by_name = &st->types_by_name[tasks];
    st->rc =
        st->rc ? st->rc : summary_reserve(st, by_name, &st->types_by_name_capacity[tasks], name);
    if (st->rc)
        return NULL;
    if (!(*by_name)[name] && *count >= TRACE_TYPES_MAX && name != st->name_more)
        return type_of(s, tasks, st->name_more);
    struct trace_type *t = (*by_name)[name];
    if (t)
        return t;
    struct trace_type **more = realloc(*types, (*count + 1) * sizeof(struct trace_type *));
    if (!more)
        return NULL;
    *types = more;
    st->rc = summary_charge(st, sizeof *t);
    t = st->rc ? NULL : calloc(1, sizeof *t);
    if (!t)
        return NULL;
    t->name = name;
    (*by_name)[name] = t;
    more[(*count)++] = t;
    return t;
}

// The name of a type. Where there are TRACE_TYPES_MAX already, a new one is not kept: a program that
// numbers its requests would let the table grow with the trace.
static uint32_t type_name(struct trace_summary *s, bool tasks, const struct trace_reader *r,
                          uint32_t id)
{
    uint32_t count = tasks ? s->task_type_count : s->region_type_count;
    if (!id || count < TRACE_TYPES_MAX)
        return trace_names_of(&s->names, r, id);
    uint32_t name = trace_names_find(&s->names, r, id);
    return name ? name : s->state->name_more;
}

// --- The slowest: a heap whose root is the fastest of those kept.

static int by_slowness(const void *x, const void *y)
{
    const struct trace_instance *a = x, *b = y;
    if (a->ns != b->ns)
        return a->ns < b->ns ? 1 : -1;
    if (a->begin_ns != b->begin_ns)
        return a->begin_ns < b->begin_ns ? -1 : 1;
    return (a->fiber > b->fiber) - (a->fiber < b->fiber);
}

static bool is_faster(const struct trace_instance *a, const struct trace_instance *b)
{
    return by_slowness(a, b) > 0;
}

static void sink(struct trace_instance *heap, uint32_t count, struct trace_instance instance)
{
    uint32_t i = 0;
    for (uint32_t child = 1; child < count; child = 2 * i + 1) {
        if (child + 1 < count && is_faster(&heap[child + 1], &heap[child]))
            child++;
        if (!is_faster(&heap[child], &instance))
            break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = instance;
}

static int add_slow(struct trace_type *t, const struct trace_instance *instance, uint32_t most)
{
    if (t->slowest_count == most) {
        if (is_faster(&t->slowest[0], instance))
            sink(t->slowest, most, *instance);
        return 0;
    }
    if (t->slowest_count == t->slowest_capacity) {
        uint32_t capacity = t->slowest_capacity ? 2 * t->slowest_capacity : TRACE_SLOWEST;
        struct trace_instance *more = reallocarray(t->slowest, capacity, sizeof *more);
        if (!more)
            return -ENOMEM;
        t->slowest = more;
        t->slowest_capacity = capacity;
    }
    uint32_t i = t->slowest_count++;
    for (; i && is_faster(instance, &t->slowest[(i - 1) / 2]); i = (i - 1) / 2)
        t->slowest[i] = t->slowest[(i - 1) / 2];
    t->slowest[i] = *instance;
    return 0;
}

void summary_type_finish(struct trace_type *t)
{
    trace_exact_sort(&t->exact);
    if (t->slowest_count)
        qsort(t->slowest, t->slowest_count, sizeof *t->slowest, by_slowness);
}

// Counts one; its length only where both ends lie in the range.
static int add_instance(struct trace_type *t, struct summary_state *st, int64_t begin_ns,
                        int64_t end_ns, int64_t fiber, uint64_t task)
{
    t->count++;
    if (begin_ns == SUMMARY_NEVER || end_ns == SUMMARY_NEVER || begin_ns < st->options.from_ns)
        return 0;
    struct trace_instance instance = {end_ns - begin_ns, begin_ns, fiber, task};
    t->complete++;
    trace_hist_add(&t->latency, instance.ns);
    if (t->name != st->name_more)
        trace_exact_add(&t->exact, &st->exact_left, instance.ns);
    else
        t->exact.lost = true;
    uint32_t most = st->options.slowest_max ? st->options.slowest_max : TRACE_SLOWEST;
    return add_slow(t, &instance, most);
}

bool trace_type_is_rest(const struct trace_summary *s, const struct trace_type *t)
{
    return t->name == s->state->name_more;
}

int64_t trace_type_quantile_ns(const struct trace_type *t, double q, bool *is_exact)
{
    int64_t ns = trace_exact_quantile_ns(&t->exact, q);
    *is_exact = ns >= 0;
    return ns >= 0 ? ns : trace_hist_quantile_ns(&t->latency, q);
}

static int region_over(struct trace_summary *s, const struct trace_region *r)
{
    struct summary_state *st = s->state;
    int rc = 0;
    if (!st->counts)
        return 0;
    if (!r->inherited) {
        struct trace_type *t = type_of(s, false, r->type);
        if (!t)
            return -ENOMEM;
        rc = add_instance(t, st, r->begin_ns, r->end_ns, r->fiber, r->task);
        uint32_t had = t->times.wait_capacity;
        rc = rc ? rc : trace_times_add(&t->times, &r->times);
        rc = rc ? rc : summary_charge_waits(st, &t->times, had);
    }
    if (st->options.region)
        st->options.region(st->options.context, r);
    return rc;
}

int summary_region_close(struct trace_summary *s, struct fiber *f, int64_t end_ns)
{
    struct summary_state *st = s->state;
    struct trace_region *r = &f->regions->pub;
    struct trace_times begun = r->times, whole = {0};
    r->function = f->pub.name;
    r->end_ns = end_ns;
    int rc = snapshot(st, f, &whole);
    if (!rc)
        rc = trace_times_subtract(&whole, &begun);
    r->times = whole;
    if (!rc)
        rc = region_over(s, r);
    r->times = begun;
    trace_times_finish(&whole);
    pop(st, f);
    return rc;
}

static struct task *task_of(struct trace_summary *s, uint64_t id, bool make);

int summary_region(struct trace_summary *s, const struct trace_reader *r,
                   const struct trace_event *ev)
{
    struct summary_state *st = s->state;
    struct fiber *f = summary_fiber(s, ev->goroutine, ev->goroutine_slot);
    if (!f)
        return 0; // cannot be: the reader knows every emitter
    uint32_t type = type_name(s, false, r, ev->region.type);
    if (ev->kind == TRACE_REGION_END && f->regions)
        return summary_region_close(s, f, ev->time_ns);
    struct task *t = task_of(s, ev->region.task, false);
    struct open_region *o = push(st, f);
    if (!o)
        return -ENOMEM;
    o->pub.type = type;
    o->pub.task = ev->region.task;
    if (t)
        t->pub.regions++;
    if (ev->kind == TRACE_REGION_END)
        return summary_region_close(s, f, ev->time_ns);
    o->pub.begin_ns = ev->time_ns;
    uint32_t had = o->pub.times.wait_capacity;
    int rc = snapshot(st, f, &o->pub.times);
    return rc ? rc : summary_charge_waits(st, &o->pub.times, had);
}

// --- Tasks.

static bool same_task(const void *item, const void *key)
{
    return ((const struct task *)item)->pub.id == *(const uint64_t *)key;
}

static struct task *task_of(struct trace_summary *s, uint64_t id, bool make)
{
    struct summary_state *st = s->state;
    uint64_t hash = ptrtab_mix(ptrtab_seed(), id);
    const void *found = ptrtab_find(&st->tasks, hash, same_task, &id);
    if (found || !make)
        return (struct task *)(uintptr_t)found;
    st->rc = st->rc ? st->rc : summary_charge(st, TASK_BYTES);
    struct task *t = st->rc ? NULL : calloc(1, sizeof *t);
    if (!t)
        return NULL;
    t->hash = hash;
    t->pub = (struct trace_task){.id = id,
                                 .parent = TRACE_NO_TASK,
                                 .begin_ns = SUMMARY_NEVER,
                                 .end_ns = SUMMARY_NEVER,
                                 .fiber = TRACE_NONE};
    if (ptrtab_add(&st->tasks, hash, t)) {
        free(t);
        return NULL;
    }
    t->next = st->open_tasks;
    t->link = &st->open_tasks;
    if (t->next)
        t->next->link = &t->next;
    st->open_tasks = t;
    return t;
}

static void forget_task(struct summary_state *st, struct task *t)
{
    ptrtab_remove(&st->tasks, t->hash, t);
    *t->link = t->next;
    if (t->next)
        t->next->link = t->link;
    st->bytes_used -= TASK_BYTES;
    free(t);
}

static int task_over(struct trace_summary *s, const struct trace_task *t)
{
    struct summary_state *st = s->state;
    struct trace_type *type = type_of(s, true, t->type);
    if (!type)
        return -ENOMEM;
    s->totals.tasks++;
    int rc = add_instance(type, st, t->begin_ns, t->end_ns, t->fiber, t->id);
    if (st->options.task)
        st->options.task(st->options.context, t);
    return rc;
}

int summary_task(struct trace_summary *s, const struct trace_reader *r,
                 const struct trace_event *ev)
{
    struct summary_state *st = s->state;
    struct task *task =
        task_of(s, ev->kind == TRACE_LOG ? ev->log.task : ev->task.id, ev->kind != TRACE_LOG);
    if (ev->kind == TRACE_LOG) {
        if (task)
            task->pub.logs++;
        return 0;
    }
    if (!task)
        return -ENOMEM;
    struct trace_task *t = &task->pub;
    uint32_t type = type_name(s, true, r, ev->task.type);
    t->type = type ? type : t->type;
    t->parent = ev->task.parent != TRACE_NO_TASK ? ev->task.parent : t->parent;
    if (ev->kind == TRACE_TASK_BEGIN) {
        t->begin_ns = ev->time_ns;
        t->fiber = ev->goroutine;
        return 0;
    }
    t->end_ns = ev->time_ns;
    t->fiber = t->begin_ns == SUMMARY_NEVER ? ev->goroutine : t->fiber;
    int rc = st->counts ? task_over(s, t) : 0;
    forget_task(st, task);
    return rc;
}

int summary_tasks_finish(struct trace_summary *s)
{
    int rc = 0;
    for (const struct task *t = s->state->open_tasks; t && !rc; t = t->next)
        rc = task_over(s, &t->pub);
    return rc;
}

void summary_tasks_drop(struct summary_state *st)
{
    while (st->open_tasks)
        forget_task(st, st->open_tasks);
}
