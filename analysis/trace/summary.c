// SPDX-License-Identifier: MIT
//
// The summary's life, and what becomes of each kind of event. See summary.h.

#include "analysis/trace/summary_internal.h"
#include "formats/trace/notes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { EDGE_BYTES = sizeof(struct trace_edge) + 4 * sizeof(struct ptrtab_slot) };

int summary_reserve(struct summary_state *st, void *array, uint32_t *capacity, uint32_t index)
{
    void ***items = array;
    if (index < *capacity)
        return 0;
    if (index >= UINT32_MAX / 2)
        return -ENOMEM;
    uint32_t more = 2 * index + 16;
    int rc = summary_charge(st, (more - *capacity) * sizeof(void *));
    if (rc)
        return rc;
    void **grown = realloc(*items, more * sizeof(void *));
    if (!grown)
        return -ENOMEM;
    memset(grown + *capacity, 0, (more - *capacity) * sizeof(void *));
    *items = grown;
    *capacity = more;
    return 0;
}

uint64_t trace_summary_bytes(const struct trace_summary *s, uint64_t *fibers)
{
    *fibers = s->state->living;
    return s->state->bytes_used + s->names.arena.used_bytes;
}

int trace_summary_new(struct trace_summary **out, const struct trace_summary_options *opts)
{
    struct trace_summary *s = calloc(1, sizeof *s);
    *out = NULL;
    if (!s)
        return -ENOMEM;
    s->state = calloc(1, sizeof *s->state);
    if (!s->state) {
        free(s);
        return -ENOMEM;
    }
    s->state->names = &s->names;
    if (opts)
        s->state->options = *opts;
    if (!s->state->options.bytes_max)
        s->state->options.bytes_max = TRACE_SUMMARY_BYTES_MAX;
    const struct trace_summary_options *o = &s->state->options;
    s->limits = (struct trace_limits){
        .run_ns = o->limits.run_ns ? o->limits.run_ns : 1000000000,
        .runnable_ns = o->limits.runnable_ns ? o->limits.runnable_ns : 100000000,
        .stuck_ns = o->limits.stuck_ns ? o->limits.stuck_ns : 1000000000,
    };
    if (trace_util_new(&s->state->util, TRACE_UTIL_RUNNING, o->from_ns, o->to_ns)) {
        trace_summary_free(s);
        return -ENOMEM;
    }
    s->state->util->only_mean = true;
    s->state->exact_left = TRACE_EXACT_MAX;
    if (!s->state->options.to_ns)
        s->state->options.to_ns = INT64_MAX;
    if (!s->state->options.from_ns)
        s->state->options.from_ns = INT64_MIN + 1;
    s->state->name_preempted = trace_names_add(&s->names, "preempted", 9);
    s->state->name_more = trace_names_add(&s->names, "(more names)", 12);
    s->state->name_forever = trace_names_add(&s->names, "forever", 7);
    *out = s;
    return 0;
}

struct trace_function *summary_function(struct trace_summary *s, uint32_t name)
{
    struct summary_state *st = s->state;
    st->rc =
        st->rc ? st->rc
               : summary_reserve(st, &st->functions_by_name, &st->functions_by_name_capacity, name);
    if (st->rc)
        return NULL;
    struct trace_function **at = &st->functions_by_name[name];
    if (*at)
        return *at;
    st->rc = summary_charge(st, sizeof **at + sizeof *at);
    if (st->rc)
        return NULL;
    struct trace_function **list =
        realloc(s->functions, (s->function_count + 1) * sizeof(struct trace_function *));
    if (!list)
        return NULL;
    s->functions = list;
    *at = calloc(1, sizeof **at);
    if (!*at)
        return NULL;
    (*at)->name = name;
    (*at)->run.fiber = (*at)->wait.fiber = (*at)->stuck.fiber = TRACE_NONE;
    (*at)->longest_waiting.fiber = TRACE_NONE;
    s->functions[s->function_count++] = *at;
    return *at;
}

static bool same_edge(const void *item, const void *key)
{
    const struct trace_edge *a = item, *b = key;
    return a->from == b->from && a->to == b->to && a->waker == b->waker;
}

struct trace_edge *summary_edge(struct trace_summary *s, uint32_t from, uint32_t to,
                                enum trace_waker waker)
{
    struct trace_edge key = {.from = from, .to = to, .waker = waker};
    uint64_t hash = ptrtab_mix(ptrtab_mix(ptrtab_mix(ptrtab_seed(), from), to), waker);
    const struct trace_edge *found = ptrtab_find(&s->state->edges, hash, same_edge, &key);
    if (found)
        return (struct trace_edge *)(uintptr_t)found;
    struct trace_edge **list = s->edges;
    if (!(s->edge_count & (s->edge_count - 1))) { // a power of two is full, or there is nothing
        list = realloc(list, (s->edge_count ? 2 * s->edge_count : 1) * sizeof(struct trace_edge *));
        if (!list)
            return NULL;
        s->edges = list;
    }
    s->state->rc = s->state->rc ? s->state->rc : summary_charge(s->state, EDGE_BYTES);
    struct trace_edge *e = s->state->rc ? NULL : malloc(sizeof *e);
    if (!e)
        return NULL;
    *e = key;
    if (ptrtab_add(&s->state->edges, hash, e)) {
        free(e);
        return NULL;
    }
    s->edges[s->edge_count++] = e;
    return e;
}

static void count_metric(struct trace_summary *s, const struct trace_event *ev)
{
    struct summary_state *st = s->state;
    uint64_t value = ev->metric.value;
    if (ev->what == TRACE_METRIC_GOMAXPROCS) {
        s->totals.proc_ns += (double)s->totals.gomaxprocs * (double)(st->now - st->procs_since);
        // The first one is heard of after the beginning and held before.
        if (!s->totals.gomaxprocs)
            s->totals.proc_ns = (double)value * (double)(st->now - s->totals.begin_ns);
        s->totals.gomaxprocs = value;
        st->procs_since = st->now;
    } else if (ev->what == TRACE_METRIC_HEAP_BYTES && st->counts &&
               value > s->totals.heap_max_bytes) {
        s->totals.heap_max_bytes = value;
    }
}

// Those of which a part lies in the range.
static void count_generation(struct trace_summary *s, const struct trace_event *ev)
{
    struct summary_state *st = s->state;
    if (st->counts && st->before_range)
        s->totals.generations++;
    st->before_range = st->before_range && !st->counts;
    if (ev->kind != TRACE_SYNC || !ev->sync.generation)
        return;
    if (st->counts)
        s->totals.generations++;
    else
        st->before_range = true;
}

static void begin_event(struct trace_summary *s, const struct trace_event *ev)
{
    struct summary_state *st = s->state;
    int64_t from = st->options.from_ns;
    st->now = ev->time_ns > from ? ev->time_ns : from;
    st->counts = ev->time_ns >= from;
    st->last_ns = st->now;
    if (!st->started || ev->kind == TRACE_SYNC) {
        st->sync_ns = ev->time_ns;
        st->sync_now = st->now;
        memset(st->places, 0, sizeof st->places); // of stacks by numbers of a generation
    }
    if (!st->started) {
        st->started = true;
        st->first_ns = ev->time_ns;
        s->totals.begin_ns = st->procs_since = st->now;
    }
    count_generation(s, ev);
    if (st->counts) {
        s->totals.events++;
        if (ev->kind <= TRACE_EXPERIMENTAL)
            s->totals.by_kind[ev->kind]++;
        s->totals.samples += ev->kind == TRACE_STACK_SAMPLE;
    }
    if (ev->thread_slot != TRACE_NO_SLOT && ev->thread_slot >= s->totals.threads)
        s->totals.threads = ev->thread_slot + 1ull;
}

static void look_for_parts(struct summary_state *st, const struct trace_reader *r)
{
    uint32_t count;
    const struct trace_note *notes = trace_reader_notes(r, &count);
    for (uint32_t i = 0; i < count; i++)
        st->is_part |= !strcmp(notes[i].kind, TRACE_NOTE_PART);
}

int trace_summary_event(struct trace_summary *s, const struct trace_reader *r,
                        const struct trace_event *ev)
{
    struct summary_state *st = s->state;
    int rc = 0;
    if (!st->rc)
        st->rc = trace_util_event(st->util, r, ev);
    if (st->rc)
        return st->rc;
    if (ev->time_ns > st->options.to_ns) {
        st->now = st->last_ns = st->options.to_ns;
        st->counts = false;
        _Static_assert((int)TRACE_GO_UNDETERMINED == (int)TRACE_PROC_UNDETERMINED, "one test");
        if (ev->kind == TRACE_TRANSITION && ev->transition.from == TRACE_GO_UNDETERMINED)
            st->rc = summary_transition(s, r, ev);
        return st->rc;
    }
    begin_event(s, ev);
    if (ev->kind == TRACE_SYNC)
        look_for_parts(st, r);
    switch (ev->kind) {
    case TRACE_TRANSITION: rc = summary_transition(s, r, ev); break;
    case TRACE_METRIC: count_metric(s, ev); break;
    case TRACE_RANGE_BEGIN:
    case TRACE_RANGE_ACTIVE:
    case TRACE_RANGE_END: rc = summary_range(s, ev); break;
    case TRACE_REGION_BEGIN:
    case TRACE_REGION_END: rc = summary_region(s, r, ev); break;
    case TRACE_TASK_BEGIN:
    case TRACE_TASK_END:
    case TRACE_LOG: rc = summary_task(s, r, ev); break;
    default: break;
    }
    if (!rc && s->names.failed)
        rc = -ENOMEM;
    if (!rc && !summary_has_room(st, 0))
        rc = -EFBIG;
    st->rc = st->rc ? st->rc : rc; // why there was no memory, if that was not the system's
    return st->rc;
}

static int by_running(const void *x, const void *y)
{
    const struct trace_function *a = *(const struct trace_function *const *)x;
    const struct trace_function *b = *(const struct trace_function *const *)y;
    if (a->times.running_ns != b->times.running_ns)
        return a->times.running_ns < b->times.running_ns ? 1 : -1;
    return (a->name > b->name) - (a->name < b->name);
}

static int by_wakes(const void *x, const void *y)
{
    const struct trace_edge *a = *(const struct trace_edge *const *)x;
    const struct trace_edge *b = *(const struct trace_edge *const *)y;
    if (a->wakes != b->wakes)
        return a->wakes < b->wakes ? 1 : -1;
    if (a->from != b->from)
        return a->from < b->from ? -1 : 1;
    if (a->waker != b->waker)
        return a->waker < b->waker ? -1 : 1;
    return (a->to > b->to) - (a->to < b->to);
}

static int by_time(const void *x, const void *y)
{
    const struct trace_type *a = *(const struct trace_type *const *)x;
    const struct trace_type *b = *(const struct trace_type *const *)y;
    if (a->latency.sum_ns != b->latency.sum_ns)
        return a->latency.sum_ns < b->latency.sum_ns ? 1 : -1;
    return (a->name > b->name) - (a->name < b->name);
}

static int by_proc(const void *x, const void *y)
{
    const struct trace_proc *a = *(const struct trace_proc *const *)x;
    const struct trace_proc *b = *(const struct trace_proc *const *)y;
    return (a->id > b->id) - (a->id < b->id);
}

static void sort(void *items, uint32_t count, int (*order)(const void *, const void *))
{
    if (count)
        qsort(items, count, sizeof(void *), order);
}

static int list_procs(struct trace_summary *s)
{
    struct summary_state *st = s->state;
    s->procs = calloc(st->proc_capacity + 1, sizeof(struct trace_proc *));
    if (!s->procs)
        return -ENOMEM;
    for (uint32_t i = 0; i < st->proc_capacity; i++) {
        struct proc *p = st->procs[i];
        if (!p || p->state == TRACE_PROC_UNDETERMINED)
            continue;
        int64_t ns = st->now - p->since;
        *(p->state == TRACE_PROC_RUNNING ? &p->running_ns : &p->pub.idle_ns) += ns;
        int64_t other = p->running_ns - p->pub.running_ns - p->pub.syscall_ns;
        p->pub.other_ns = other > 0 ? other : 0;
        s->procs[s->proc_count++] = &p->pub;
    }
    return 0;
}

// A row without fibers has but waits of such as were named later than SUMMARY_EARLY_WAITS.
static void drop_empty_functions(struct trace_summary *s)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < s->function_count; i++) {
        struct trace_function *f = s->functions[i];
        if (f->fibers) {
            s->functions[kept++] = f;
            continue;
        }
        s->state->functions_by_name[f->name] = NULL;
        trace_times_finish(&f->times);
        free(f);
    }
    s->function_count = kept;
}

int trace_summary_finish(struct trace_summary *s)
{
    struct summary_state *st = s->state;
    int rc = st->rc;
    st->now = st->last_ns;
    st->counts = true;
    s->totals.end_ns = st->now;
    s->totals.generations += st->before_range; // all of the range lies in one, and has no event
    s->totals.proc_ns += (double)s->totals.gomaxprocs * (double)(st->now - st->procs_since);
    for (uint32_t i = 0; i < st->fiber_capacity && !rc; i++) {
        struct fiber *f = summary_fiber_at(st, i);
        if (f && f->since != SUMMARY_NEVER)
            rc = summary_fiber_end(s, f, NULL);
        if (f)
            summary_fiber_give(st, f);
        st->fibers[i] = NULL;
        rc = st->rc ? st->rc : rc;
    }
    if (!rc)
        rc = summary_tasks_finish(s);
    if (!rc)
        rc = list_procs(s);
    rc = st->rc ? st->rc : rc;
    if (!rc)
        rc = trace_util_finish(st->util);
    s->totals.running_share = trace_util_mean(st->util, INT64_MIN, INT64_MAX);
    summary_end(s);
    drop_empty_functions(s);
    sort(s->functions, s->function_count, by_running);
    sort(s->edges, s->edge_count, by_wakes);
    sort(s->region_types, s->region_type_count, by_time);
    sort(s->task_types, s->task_type_count, by_time);
    sort(s->procs, s->proc_count, by_proc);
    for (uint32_t i = 0; i < s->function_count; i++)
        trace_times_sort(&s->functions[i]->times);
    for (uint32_t i = 0; i < s->region_type_count; i++)
        summary_type_finish(s->region_types[i]);
    for (uint32_t i = 0; i < s->task_type_count; i++)
        summary_type_finish(s->task_types[i]);
    trace_times_sort(&s->totals.times);
    return rc;
}

static void free_types(struct trace_type **types, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        trace_times_finish(&types[i]->times);
        trace_exact_finish(&types[i]->exact);
        free(types[i]->slowest);
        free(types[i]);
    }
    free(types);
}

static void free_state(struct summary_state *st)
{
    summary_fibers_drop(st);
    for (struct open_region *o = st->free_regions, *next; o; o = next) {
        next = o->outer;
        trace_times_finish(&o->pub.times);
        free(o);
    }
    for (uint32_t i = 0; i < st->proc_capacity; i++)
        free(st->procs[i]);
    summary_tasks_drop(st);
    trace_util_free(st->util);
    ptrtab_finish(&st->tasks);
    ptrtab_finish(&st->edges);
    free(st->procs);
    free(st->functions_by_name);
    free(st->types_by_name[0]);
    free(st->types_by_name[1]);
    free(st);
}

void trace_summary_free(struct trace_summary *s)
{
    if (!s)
        return;
    for (uint32_t i = 0; i < s->function_count; i++) {
        trace_times_finish(&s->functions[i]->times);
        free(s->functions[i]);
    }
    for (uint32_t i = 0; i < s->edge_count; i++)
        free(s->edges[i]);
    free_types(s->region_types, s->region_type_count);
    free_types(s->task_types, s->task_type_count);
    free(s->functions);
    free(s->edges);
    free(s->procs);
    trace_times_finish(&s->totals.times);
    trace_names_finish(&s->names);
    free_state(s->state);
    free(s);
}
