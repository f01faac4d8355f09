// SPDX-License-Identifier: MIT
//
// Regions, tasks, CPU samples and logs of a trace. See spans.h.

#include "analysis/trace/spans_internal.h"

#include <errno.h>
#include <string.h>

// Whether regions and tasks of this name are kept.
static bool kept_type(const struct trace_spans *s, const struct trace_reader *r, uint32_t type)
{
    const char *wanted = s->state_of_build->options.type;
    struct trace_text t = trace_reader_string(r, type);
    return !wanted || (t.size_bytes == strlen(wanted) && !memcmp(t.bytes, wanted, t.size_bytes));
}

static int region_begin(struct trace_spans *s, const struct trace_reader *r,
                        const struct trace_event *ev, uint32_t lane, bool begins)
{
    struct spans_state *st = s->state_of_build;
    uint32_t i = s->region_count;
    int rc = spans_reserve(&s->regions, &st->region_capacity, i, sizeof *s->regions);
    if (!rc)
        rc = spans_reserve(&st->region_outer, &st->region_outer_capacity, i,
                           sizeof *st->region_outer);
    if (!rc)
        rc = spans_reserve(&st->open_regions, &st->open_region_capacity, lane,
                           sizeof *st->open_regions);
    if (rc)
        return rc;
    s->regions[i] = (struct trace_region_span){
        .begin_ns = begins ? ev->time_ns : s->begin_ns,
        .end_ns = begins ? INT64_MAX : ev->time_ns, // until it is known
        .task = ev->region.task,
        .lane = lane,
        .type = trace_names_of(&s->names, r, ev->region.type),
        .stack = begins ? trace_stacks_of(&s->stacks, &s->names, r, ev->stack) : 0,
        .begins = begins,
        .ends = !begins};
    s->region_count++;
    if (!begins)
        return 0;
    st->region_outer[i] = st->open_regions[lane];
    st->open_regions[lane] = i + 1;
    return 0;
}

static int region(struct trace_spans *s, const struct trace_reader *r, const struct trace_event *ev)
{
    struct spans_state *st = s->state_of_build;
    uint32_t lane;
    if (!spans_keeps(st, TRACE_KEEP_REGIONS) || !kept_type(s, r, ev->region.type))
        return 0;
    int rc = spans_fiber_lane(s, spans_emitter(s, ev), &lane);
    if (rc || lane == TRACE_NO_LANE)
        return rc;
    uint32_t open = lane < st->open_region_capacity ? st->open_regions[lane] : 0;
    if (ev->kind == TRACE_REGION_BEGIN || !open)
        return region_begin(s, r, ev, lane, ev->kind == TRACE_REGION_BEGIN);
    s->regions[open - 1].end_ns = ev->time_ns;
    s->regions[open - 1].ends = true;
    st->open_regions[lane] = st->region_outer[open - 1];
    return 0;
}

void spans_end_regions(struct trace_spans *s, uint32_t lane, int64_t time_ns)
{
    struct spans_state *st = s->state_of_build;
    if (lane >= st->open_region_capacity)
        return;
    for (uint32_t i = st->open_regions[lane]; i; i = st->region_outer[i - 1])
        s->regions[i - 1].end_ns = time_ns;
    st->open_regions[lane] = 0;
}

struct known_task {
    uint64_t id;
    uint32_t index;
};

static bool same_task(const void *item, const void *key)
{
    return ((const struct known_task *)item)->id == *(const uint64_t *)key;
}

static int task(struct trace_spans *s, const struct trace_reader *r, const struct trace_event *ev)
{
    struct spans_state *st = s->state_of_build;
    if (!spans_keeps(st, TRACE_KEEP_TASKS) || !kept_type(s, r, ev->task.type))
        return 0;
    uint64_t id = ev->task.id, hash = ptrtab_mix(ptrtab_seed(), id);
    const struct known_task *found = ptrtab_find(&st->tasks, hash, same_task, &id);
    if (!found) {
        struct known_task *k = arena_alloc(&s->arena, sizeof *k);
        if (!k)
            return -ENOMEM;
        *k = (struct known_task){id, s->task_count};
        int rc = spans_reserve(&s->tasks, &st->task_capacity, s->task_count, sizeof *s->tasks);
        if (!rc)
            rc = ptrtab_add(&st->tasks, hash, k);
        if (rc)
            return rc;
        s->tasks[s->task_count++] = (struct trace_task_span){.id = id,
                                                             .parent = TRACE_NO_TASK,
                                                             .begin_ns = s->begin_ns,
                                                             .end_ns = INT64_MAX,
                                                             .begin_lane = TRACE_NO_LANE,
                                                             .end_lane = TRACE_NO_LANE};
        found = k;
    }
    uint32_t lane;
    int rc = spans_fiber_lane(s, spans_emitter(s, ev), &lane);
    if (rc)
        return rc;
    struct trace_task_span *t = &s->tasks[found->index];
    uint32_t type = trace_names_of(&s->names, r, ev->task.type);
    t->type = type ? type : t->type;
    if (ev->task.parent != TRACE_NO_TASK)
        t->parent = ev->task.parent;
    if (ev->kind == TRACE_TASK_BEGIN) {
        t->begins = true;
        t->begin_ns = ev->time_ns;
        t->begin_lane = lane;
        return 0;
    }
    t->ends = true;
    t->end_ns = ev->time_ns;
    t->end_lane = lane;
    ptrtab_remove(&st->tasks, hash, found); // the id may come again
    return 0;
}

// Also one of a fiber that is not there yet, or no more, when the sample's time comes: it counts, on no lane.
static int sample(struct trace_spans *s, const struct trace_reader *r, const struct trace_event *ev)
{
    static const struct open_fiber elsewhere;
    struct spans_state *st = s->state_of_build;
    struct open_fiber *f = spans_emitter(s, ev);
    uint32_t lane;
    if (ev->goroutine == TRACE_NONE || !spans_keeps(st, TRACE_KEEP_SAMPLES) ||
        !spans_wants(st, f ? f : &elsewhere, ev->time_ns, ev->time_ns + 1))
        return 0;
    int rc = spans_fiber_lane(s, f, &lane);
    if (!rc)
        rc = spans_reserve(&s->samples, &st->sample_capacity, s->sample_count, sizeof *s->samples);
    if (rc)
        return rc;
    s->samples[s->sample_count++] = (struct trace_sample){
        ev->time_ns, lane, trace_stacks_of(&s->stacks, &s->names, r, ev->stack)};
    return 0;
}

static int log_mark(struct trace_spans *s, const struct trace_reader *r,
                    const struct trace_event *ev)
{
    struct spans_state *st = s->state_of_build;
    uint32_t lane;
    if (ev->time_ns < st->from_ns || !spans_keeps(st, TRACE_KEEP_LOGS))
        return 0;
    int rc = spans_fiber_lane(s, spans_emitter(s, ev), &lane);
    if (!rc)
        rc = spans_reserve(&s->logs, &st->log_capacity, s->log_count, sizeof *s->logs);
    if (rc)
        return rc;
    struct trace_text t = trace_reader_string(r, ev->log.message);
    const char *message = arena_strndup(&s->arena, t.size_bytes ? t.bytes : "", t.size_bytes);
    if (!message)
        return -ENOMEM;
    s->logs[s->log_count++] = (struct trace_log_mark){
        ev->time_ns, ev->log.task, lane, trace_names_of(&s->names, r, ev->log.category), message};
    return 0;
}

static int gomaxprocs(struct trace_spans *s, const struct trace_event *ev)
{
    struct spans_state *st = s->state_of_build;
    uint32_t n = s->gomaxprocs_count;
    if (n && s->gomaxprocs[n - 1].procs == ev->metric.value)
        return 0;
    int rc = spans_reserve(&s->gomaxprocs, &st->gomaxprocs_capacity, n, sizeof *s->gomaxprocs);
    if (!rc)
        s->gomaxprocs[s->gomaxprocs_count++] =
            (struct trace_gomaxprocs){ev->time_ns, ev->metric.value};
    return rc;
}

int spans_mark(struct trace_spans *s, const struct trace_reader *r, const struct trace_event *ev)
{
    switch (ev->kind) {
    case TRACE_REGION_BEGIN:
    case TRACE_REGION_END: return region(s, r, ev);
    case TRACE_TASK_BEGIN:
    case TRACE_TASK_END: return task(s, r, ev);
    case TRACE_STACK_SAMPLE: return sample(s, r, ev);
    case TRACE_LOG: return log_mark(s, r, ev);
    case TRACE_METRIC: return ev->what == TRACE_METRIC_GOMAXPROCS ? gomaxprocs(s, ev) : 0;
    default: return 0;
    }
}
