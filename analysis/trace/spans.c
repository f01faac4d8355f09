// SPDX-License-Identifier: MIT
//
// Events become rows. See spans.h; spans_marks.c has regions, tasks, samples and logs,
// spans_columns.c makes the columns.

#include "analysis/trace/spans_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int spans_reserve(void *array, uint32_t *capacity, uint32_t index, size_t size)
{
    void **items = array;
    if (index < *capacity)
        return 0;
    if (index >= UINT32_MAX / 2)
        return -EFBIG;
    uint32_t more = index + index / 2 + 64;
    char *grown = realloc(*items, more * size);
    if (!grown)
        return -ENOMEM;
    memset(grown + *capacity * size, 0, (more - *capacity) * size);
    *items = grown;
    *capacity = more;
    return 0;
}

int trace_spans_new(struct trace_spans **out, int64_t from_ns, int64_t to_ns)
{
    struct trace_spans *s = calloc(1, sizeof *s);
    *out = NULL;
    if (!s)
        return -ENOMEM;
    s->state_of_build = calloc(1, sizeof *s->state_of_build);
    if (!s->state_of_build) {
        free(s);
        return -ENOMEM;
    }
    s->state_of_build->from_ns = from_ns ? from_ns : INT64_MIN;
    s->state_of_build->to_ns = to_ns ? to_ns : INT64_MAX;
    *out = s;
    return 0;
}

static int new_lane(struct trace_spans *s, uint8_t kind, int64_t id, int64_t begin_ns,
                    uint32_t *lane)
{
    struct spans_state *st = s->state_of_build;
    int rc = spans_reserve(&s->lanes, &st->lane_capacity, s->lane_count, sizeof *s->lanes);
    if (rc)
        return rc;
    s->lanes[s->lane_count] = (struct trace_lane){
        .id = id, .kind = kind, .begin_ns = begin_ns, .end_ns = begin_ns, .creator = TRACE_NO_LANE};
    *lane = s->lane_count++;
    return 0;
}

// The lane of a Proc or thread, made when it is first named.
static int slot_lane(struct trace_spans *s, uint8_t kind, int64_t id, uint32_t slot, uint32_t *lane)
{
    struct spans_state *st = s->state_of_build;
    bool proc = kind == TRACE_RESOURCE_PROC;
    uint32_t **lanes = proc ? &st->proc_lanes : &st->thread_lanes;
    *lane = TRACE_NO_LANE;
    if (slot == TRACE_NO_SLOT)
        return 0;
    int rc = spans_reserve(lanes, proc ? &st->proc_capacity : &st->thread_capacity, slot,
                           sizeof **lanes);
    if (rc)
        return rc;
    if (!(*lanes)[slot]) {
        rc = new_lane(s, kind, id, s->begin_ns, lane);
        (*lanes)[slot] = rc ? 0 : *lane + 1;
    }
    *lane = (*lanes)[slot] - 1;
    return rc;
}

uint32_t spans_fiber_lane(const struct trace_spans *s, const struct trace_event *ev)
{
    const struct spans_state *st = s->state_of_build;
    if (ev->goroutine_slot >= st->fiber_capacity || !st->fibers[ev->goroutine_slot].known)
        return TRACE_NO_LANE;
    return st->fibers[ev->goroutine_slot].span.lane;
}

static int add_row(struct trace_spans *s, const struct span *row)
{
    struct spans_state *st = s->state_of_build;
    if (row->lane == TRACE_NO_LANE || row->end_ns <= st->from_ns || row->begin_ns >= st->to_ns)
        return 0;
    if (st->row_count == st->row_capacity) {
        size_t capacity = st->row_capacity ? st->row_capacity + st->row_capacity / 2 : 1024;
        if (capacity >= UINT32_MAX)
            return -EFBIG;
        struct span *rows = realloc(st->rows, capacity * sizeof *rows);
        if (!rows)
            return -ENOMEM;
        st->rows = rows;
        st->row_capacity = capacity;
    }
    st->rows[st->row_count++] = *row;
    s->lanes[row->lane].count++;
    s->lanes[row->lane].end_ns = row->end_ns;
    return 0;
}

// The fiber's state is over: its row, and those of the Proc and the thread that it was on.
static int close_span(struct trace_spans *s, struct open_fiber *f, int64_t end_ns)
{
    struct span row = f->span;
    row.end_ns = end_ns;
    int rc = add_row(s, &row);
    bool on = row.state == TRACE_GO_RUNNING || row.state == TRACE_GO_SYSCALL;
    if (rc || !on)
        return rc;
    struct span other = {row.begin_ns, end_ns, f->thread_lane, 0,
                         row.stack,    0,      row.lane,       row.state};
    rc = add_row(s, &other);
    other.lane = row.peer;
    other.end_ns = f->proc_lost_ns < end_ns ? f->proc_lost_ns : end_ns;
    if (!rc && other.lane != TRACE_NO_LANE && other.end_ns > other.begin_ns)
        rc = add_row(s, &other);
    return rc;
}

static int open_span(struct trace_spans *s, struct open_fiber *f, const struct trace_reader *r,
                     const struct trace_event *ev, int64_t begin_ns)
{
    struct spans_state *st = s->state_of_build;
    struct span *o = &f->span;
    uint32_t lane = o->lane;
    int rc = 0;
    *o = (struct span){.begin_ns = begin_ns,
                       .lane = lane,
                       .peer = TRACE_NO_LANE,
                       .state = ev->transition.to,
                       .reason = trace_names_of(&s->names, r, ev->transition.reason),
                       .stack = trace_stacks_of(&s->stacks, &s->names, r, ev->transition.stack)};
    f->proc_lost_ns = INT64_MAX;
    f->thread_lane = TRACE_NO_LANE;
    f->proc_slot = TRACE_NO_SLOT;
    if (o->state == TRACE_GO_RUNNABLE && ev->transition.from != TRACE_GO_UNDETERMINED)
        o->peer = ev->transition.from == TRACE_GO_RUNNING || ev->transition.from == TRACE_GO_SYSCALL
                      ? lane
                      : spans_fiber_lane(s, ev);
    if (o->state == TRACE_GO_RUNNING || o->state == TRACE_GO_SYSCALL) {
        rc = slot_lane(s, TRACE_RESOURCE_THREAD, ev->thread, ev->thread_slot, &f->thread_lane);
        if (!rc)
            rc = slot_lane(s, TRACE_RESOURCE_PROC, ev->proc, ev->proc_slot, &o->peer);
        f->proc_slot = ev->proc_slot;
    }
    if (!rc && o->state == TRACE_GO_SYSCALL && f->proc_slot != TRACE_NO_SLOT) {
        rc =
            spans_reserve(&st->syscalls, &st->syscall_capacity, f->proc_slot, sizeof *st->syscalls);
        if (!rc)
            st->syscalls[f->proc_slot] = ev->transition.slot + 1;
    }
    return rc;
}

static int new_fiber(struct trace_spans *s, struct open_fiber *f, const struct trace_event *ev)
{
    struct spans_state *st = s->state_of_build;
    bool there = ev->transition.from == TRACE_GO_UNDETERMINED;
    uint32_t creator = there ? TRACE_NO_LANE : spans_fiber_lane(s, ev);
    int64_t begin = there ? st->sync_ns : ev->time_ns;
    *f = (struct open_fiber){.known = true};
    int rc = new_lane(s, TRACE_RESOURCE_GOROUTINE, ev->transition.id, begin, &f->span.lane);
    if (!rc)
        s->lanes[f->span.lane].creator = creator;
    return rc;
}

static int fiber_transition(struct trace_spans *s, const struct trace_reader *r,
                            const struct trace_event *ev)
{
    struct spans_state *st = s->state_of_build;
    uint8_t from = ev->transition.from, to = ev->transition.to;
    if (from == to)
        return 0;
    int rc =
        spans_reserve(&st->fibers, &st->fiber_capacity, ev->transition.slot, sizeof *st->fibers);
    if (rc)
        return rc;
    struct open_fiber *f = &st->fibers[ev->transition.slot];
    int64_t begin = ev->time_ns;
    if (!f->known) {
        rc = new_fiber(s, f, ev);
        if (!rc && from == TRACE_GO_UNDETERMINED)
            begin = st->sync_ns;
    } else {
        f->span.end_stack = trace_stacks_of(&s->stacks, &s->names, r, ev->stack);
        if (f->span.state == TRACE_GO_WAITING)
            f->span.peer = spans_fiber_lane(s, ev);
        rc = close_span(s, f, ev->time_ns);
        if (f->proc_slot < st->syscall_capacity && f->span.state == TRACE_GO_SYSCALL)
            st->syscalls[f->proc_slot] = 0;
    }
    struct trace_lane *lane = rc ? NULL : &s->lanes[f->span.lane];
    if (lane && !lane->name && ev->transition.stack)
        lane->name = trace_names_root(&s->names, r, ev->transition.stack);
    if (to == TRACE_GO_NOT_EXIST) {
        f->known = false;
        return rc;
    }
    return rc ? rc : open_span(s, f, r, ev, begin);
}

static int proc_transition(struct trace_spans *s, const struct trace_event *ev)
{
    struct spans_state *st = s->state_of_build;
    uint32_t lane, slot = ev->transition.slot;
    int rc = slot_lane(s, TRACE_RESOURCE_PROC, ev->transition.id, slot, &lane);
    bool idle = ev->transition.from != ev->transition.to && ev->transition.to == TRACE_PROC_IDLE;
    if (rc || !idle || slot >= st->syscall_capacity || !st->syscalls[slot])
        return rc;
    struct open_fiber *f = &st->fibers[st->syscalls[slot] - 1];
    st->syscalls[slot] = 0;
    if (f->known && f->span.state == TRACE_GO_SYSCALL && f->proc_slot == slot)
        f->proc_lost_ns = ev->time_ns;
    return 0;
}

// What is first heard of after to_ns and was there before: its state has lasted since the Sync.
static int late(struct trace_spans *s, const struct trace_reader *r, const struct trace_event *ev)
{
    struct spans_state *st = s->state_of_build;
    struct open_fiber *f;
    s->end_ns = st->to_ns;
    if (ev->kind != TRACE_TRANSITION || ev->what != TRACE_RESOURCE_GOROUTINE ||
        ev->transition.from != TRACE_GO_UNDETERMINED)
        return 0;
    int rc =
        spans_reserve(&st->fibers, &st->fiber_capacity, ev->transition.slot, sizeof *st->fibers);
    if (rc)
        return rc;
    f = &st->fibers[ev->transition.slot];
    // The slot may have been that of a fiber that has ended in the meantime, after to_ns.
    if (f->known)
        rc = close_span(s, f, st->to_ns);
    if (!rc)
        rc = new_fiber(s, f, ev);
    if (!rc && ev->transition.stack)
        s->lanes[f->span.lane].name = trace_names_root(&s->names, r, ev->transition.stack);
    return rc ? rc : open_span(s, f, r, ev, st->sync_ns);
}

int trace_spans_event(struct trace_spans *s, const struct trace_reader *r,
                      const struct trace_event *ev)
{
    struct spans_state *st = s->state_of_build;
    int rc = 0;
    if (ev->time_ns > st->to_ns)
        return late(s, r, ev);
    if (!st->started || ev->kind == TRACE_SYNC)
        st->sync_ns = ev->time_ns;
    if (!st->started)
        s->begin_ns = ev->time_ns > st->from_ns ? ev->time_ns : st->from_ns;
    st->started = true;
    s->end_ns = st->now_ns = ev->time_ns;
    if (ev->kind == TRACE_TRANSITION && ev->what == TRACE_RESOURCE_GOROUTINE)
        rc = fiber_transition(s, r, ev);
    else if (ev->kind == TRACE_TRANSITION && ev->what == TRACE_RESOURCE_PROC)
        rc = proc_transition(s, ev);
    else
        rc = spans_mark(s, r, ev);
    if (!rc && (s->names.failed || s->stacks.failed))
        rc = -ENOMEM;
    return rc;
}

static void free_state(struct spans_state *st)
{
    if (!st)
        return;
    free(st->rows);
    free(st->fibers);
    free(st->proc_lanes);
    free(st->thread_lanes);
    free(st->syscalls);
    free(st->open_regions);
    free(st->region_outer);
    ptrtab_finish(&st->tasks);
    free(st);
}

int trace_spans_finish(struct trace_spans *s)
{
    struct spans_state *st = s->state_of_build;
    int rc = 0;
    for (uint32_t i = 0; i < st->fiber_capacity && !rc; i++) {
        if (st->fibers[i].known && s->end_ns > st->fibers[i].span.begin_ns)
            rc = close_span(s, &st->fibers[i], s->end_ns);
    }
    if (!rc)
        rc = spans_columns(s);
    free_state(st);
    s->state_of_build = NULL;
    return rc;
}

void trace_spans_free(struct trace_spans *s)
{
    if (!s)
        return;
    free_state(s->state_of_build);
    free(s->lanes);
    free(s->span_begin_ns);
    free(s->span_end_ns);
    free(s->reason);
    free(s->stack);
    free(s->end_stack);
    free(s->peer);
    free(s->state);
    free(s->samples);
    free(s->regions);
    free(s->tasks);
    free(s->logs);
    arena_finish(&s->arena);
    trace_stacks_finish(&s->stacks);
    trace_names_finish(&s->names);
    free(s);
}
