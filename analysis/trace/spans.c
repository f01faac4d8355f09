// SPDX-License-Identifier: MIT
//
// Events become rows. See spans.h; spans_marks.c has regions, tasks, samples and logs, spans_rows.c
// keeps the rows, spans_columns.c makes the columns.

#include "analysis/trace/spans_internal.h"

#include <errno.h>
#include <stdlib.h>

static int first_kinds(struct trace_spans *s)
{
    uint16_t kind;
    int rc = 0;
    for (uint8_t state = 0; state <= TRACE_GO_SYSCALL && !rc; state++) {
        rc = spans_kind(s, state, 0, false, &kind);
        if (!rc)
            rc = spans_kind(s, state, 0, true, &kind);
    }
    return rc;
}

int trace_spans_new(struct trace_spans **out, const struct trace_spans_options *opts)
{
    struct trace_spans *s = calloc(1, sizeof *s);
    struct spans_state *st = calloc(1, sizeof *st);
    *out = NULL;
    if (!s || !st) {
        free(s);
        free(st);
        return -ENOMEM;
    }
    s->state_of_build = st;
    if (opts)
        st->options = *opts;
    st->from_ns = st->options.from_ns ? st->options.from_ns : INT64_MIN;
    st->to_ns = st->options.to_ns ? st->options.to_ns : INT64_MAX;
    int rc = spans_take_intervals(st);
    if (!rc)
        rc = first_kinds(s);
    if (rc)
        trace_spans_free(s);
    else
        *out = s;
    return rc;
}

static int new_lane(struct trace_spans *s, uint8_t kind, const struct trace_lane *like,
                    uint32_t *lane)
{
    struct spans_state *st = s->state_of_build;
    int rc = spans_reserve(&s->lanes, &st->lane_capacity, s->lane_count, sizeof *s->lanes);
    if (!rc)
        rc = spans_reserve(&st->lane_kinds, &st->lane_kind_capacity, s->lane_count,
                           sizeof *st->lane_kinds);
    if (rc)
        return rc;
    s->lanes[s->lane_count] = *like;
    st->lane_kinds[s->lane_count] = kind;
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
        const struct trace_lane like = {.id = id, .end_ns = s->end_ns, .creator = TRACE_NO_LANE};
        rc = new_lane(s, kind, &like, lane);
        (*lanes)[slot] = rc ? 0 : *lane + 1;
    }
    *lane = (*lanes)[slot] - 1;
    return rc;
}

struct open_fiber *spans_emitter(const struct trace_spans *s, const struct trace_event *ev)
{
    const struct spans_state *st = s->state_of_build;
    if (ev->goroutine_slot >= st->fiber_capacity || !st->fibers[ev->goroutine_slot].known)
        return NULL;
    return &st->fibers[ev->goroutine_slot];
}

int spans_fiber_lane(struct trace_spans *s, struct open_fiber *f, uint32_t *lane)
{
    *lane = TRACE_NO_LANE;
    if (!f)
        return 0;
    if (f->lane == TRACE_NO_LANE) {
        const struct trace_lane like = {
            .id = f->id, .end_ns = f->begin_ns, .name = f->name, .creator = f->creator};
        int rc = new_lane(s, TRACE_RESOURCE_GOROUTINE, &like, &f->lane);
        if (rc)
            return rc;
    }
    *lane = f->lane;
    return 0;
}

static int close_span(struct trace_spans *s, struct open_fiber *f, int64_t end_ns)
{
    bool wanted = f->opened && spans_wants(s->state_of_build, f, f->begin_ns, end_ns);
    f->opened = false;
    return wanted ? spans_add_row(s, f, end_ns) : 0;
}

// Who made a fiber RUNNABLE: itself, if it yields or comes from a system call.
static int find_peer(struct trace_spans *s, struct open_fiber *f, const struct trace_event *ev)
{
    uint8_t from = ev->transition.from;
    if (from == TRACE_GO_UNDETERMINED)
        return 0;
    bool itself = from == TRACE_GO_RUNNING || from == TRACE_GO_SYSCALL;
    return spans_fiber_lane(s, itself ? f : spans_emitter(s, ev), &f->peer);
}

static int find_proc(struct trace_spans *s, struct open_fiber *f, const struct trace_event *ev)
{
    struct spans_state *st = s->state_of_build;
    int rc = 0;
    if (spans_keeps(st, TRACE_KEEP_RUNS))
        rc = slot_lane(s, TRACE_RESOURCE_THREAD, ev->thread, ev->thread_slot, &f->thread_lane);
    if (!rc)
        rc = slot_lane(s, TRACE_RESOURCE_PROC, ev->proc, ev->proc_slot, &f->peer);
    f->proc_slot = ev->proc_slot;
    if (rc || f->state != TRACE_GO_SYSCALL || f->proc_slot == TRACE_NO_SLOT)
        return rc;
    rc = spans_reserve(&st->syscalls, &st->syscall_capacity, f->proc_slot, sizeof *st->syscalls);
    if (!rc)
        st->syscalls[f->proc_slot] = ev->transition.slot + 1;
    return rc;
}

static int open_span(struct trace_spans *s, struct open_fiber *f, const struct trace_reader *r,
                     const struct trace_event *ev, int64_t begin_ns)
{
    struct spans_state *st = s->state_of_build;
    bool woken = ev->transition.from == TRACE_GO_WAITING && ev->transition.to == TRACE_GO_RUNNABLE;
    f->begin_ns = begin_ns;
    f->state = ev->transition.to;
    f->proc_lost_ns = INT64_MAX;
    f->peer = f->thread_lane = TRACE_NO_LANE;
    f->proc_slot = TRACE_NO_SLOT;
    f->opened = spans_keeps(st, TRACE_KEEP_SPANS) && spans_wants(st, f, begin_ns, INT64_MAX);
    if (!f->opened)
        return 0;
    f->stack = trace_stacks_of(&s->stacks, &s->names, r, woken ? ev->stack : ev->transition.stack);
    int rc = spans_kind(s, f->state, trace_names_of(&s->names, r, ev->transition.reason), woken,
                        &f->kind);
    if (!rc && f->state == TRACE_GO_RUNNABLE)
        rc = find_peer(s, f, ev);
    else if (!rc && (f->state == TRACE_GO_RUNNING || f->state == TRACE_GO_SYSCALL))
        rc = find_proc(s, f, ev);
    return rc;
}

static int new_fiber(struct trace_spans *s, struct open_fiber *f, const struct trace_event *ev)
{
    struct spans_state *st = s->state_of_build;
    bool there = ev->transition.from == TRACE_GO_UNDETERMINED;
    struct open_fiber *creator = there ? NULL : spans_emitter(s, ev);
    uint32_t lane = TRACE_NO_LANE;
    int rc = 0;
    *f = (struct open_fiber){.known = true,
                             .id = ev->transition.id,
                             .begin_ns = there ? st->sync_ns : ev->time_ns,
                             .lane = TRACE_NO_LANE,
                             .proc_slot = TRACE_NO_SLOT};
    spans_find_intervals(st, f);
    // Where only some fibers are wanted, not every creator becomes a lane.
    bool all = !st->intervals && spans_keeps(st, TRACE_KEEP_SPANS);
    if (all || (f->interval_count && !st->all_fibers))
        rc = spans_fiber_lane(s, creator, &lane);
    else if (creator)
        lane = creator->lane;
    f->creator = lane;
    return rc || !all ? rc : spans_fiber_lane(s, f, &lane);
}

static void find_name(struct trace_spans *s, struct open_fiber *f, const struct trace_reader *r,
                      const struct trace_event *ev)
{
    if (f->name || !ev->transition.stack)
        return;
    f->name = trace_names_root(&s->names, r, ev->transition.stack);
    if (f->lane != TRACE_NO_LANE)
        s->lanes[f->lane].name = f->name;
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
        if (from == TRACE_GO_UNDETERMINED)
            begin = st->sync_ns;
    } else {
        if (f->proc_slot < st->syscall_capacity && f->state == TRACE_GO_SYSCALL)
            st->syscalls[f->proc_slot] = 0;
        rc = close_span(s, f, ev->time_ns);
    }
    find_name(s, f, r, ev);
    f->known = to != TRACE_GO_NOT_EXIST;
    if (!f->known && f->lane != TRACE_NO_LANE)
        spans_end_regions(s, f->lane, ev->time_ns);
    return rc || !f->known ? rc : open_span(s, f, r, ev, begin);
}

static int proc_transition(struct trace_spans *s, const struct trace_event *ev)
{
    struct spans_state *st = s->state_of_build;
    uint32_t lane, slot = ev->transition.slot;
    int rc = 0;
    if (spans_keeps(st, TRACE_KEEP_RUNS))
        rc = slot_lane(s, TRACE_RESOURCE_PROC, ev->transition.id, slot, &lane);
    bool idle = ev->transition.from != ev->transition.to && ev->transition.to == TRACE_PROC_IDLE;
    if (rc || !idle || slot >= st->syscall_capacity || !st->syscalls[slot])
        return rc;
    struct open_fiber *f = &st->fibers[st->syscalls[slot] - 1];
    st->syscalls[slot] = 0;
    if (f->known && f->state == TRACE_GO_SYSCALL && f->proc_slot == slot)
        f->proc_lost_ns = ev->time_ns;
    return 0;
}

// What is first heard of after to_ns and was there before: its state has lasted since the Sync.
static int late(struct trace_spans *s, const struct trace_reader *r, const struct trace_event *ev)
{
    struct spans_state *st = s->state_of_build;
    if (st->started)
        s->end_ns = st->to_ns;
    if (!st->started || ev->kind != TRACE_TRANSITION || ev->what != TRACE_RESOURCE_GOROUTINE ||
        ev->transition.from != TRACE_GO_UNDETERMINED)
        return 0;
    int rc =
        spans_reserve(&st->fibers, &st->fiber_capacity, ev->transition.slot, sizeof *st->fibers);
    if (rc)
        return rc;
    struct open_fiber *f = &st->fibers[ev->transition.slot];
    // The slot may have been that of a fiber that has ended in the meantime, after to_ns.
    if (f->known)
        rc = close_span(s, f, st->to_ns);
    if (!rc)
        rc = new_fiber(s, f, ev);
    if (rc)
        return rc;
    find_name(s, f, r, ev);
    return open_span(s, f, r, ev, st->sync_ns);
}

int trace_spans_event(struct trace_spans *s, const struct trace_reader *r,
                      const struct trace_event *ev)
{
    struct spans_state *st = s->state_of_build;
    int rc = 0;
    if (!st->started)
        s->base_ns = ev->time_ns;
    if (ev->time_ns > st->to_ns)
        return late(s, r, ev);
    if (!st->started || ev->kind == TRACE_SYNC)
        st->sync_ns = ev->time_ns;
    if (!st->started)
        s->begin_ns = ev->time_ns > st->from_ns ? ev->time_ns : st->from_ns;
    st->started = true;
    s->end_ns = ev->time_ns;
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
    spans_drop_blocks(st);
    free(st->intervals);
    free(st->fibers);
    free(st->lane_kinds);
    free(st->kind_numbers);
    free(st->proc_lanes);
    free(st->thread_lanes);
    free(st->syscalls);
    free(st->lost);
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
        if (st->fibers[i].known && s->end_ns > st->fibers[i].begin_ns)
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
    free(s->begin_low);
    free(s->begin_high);
    free(s->kind);
    free(s->stack);
    free(s->peer);
    free(s->kinds);
    free(s->runs);
    free(s->lost);
    free(s->samples);
    free(s->regions);
    free(s->tasks);
    free(s->logs);
    free(s->gomaxprocs);
    arena_finish(&s->arena);
    trace_stacks_finish(&s->stacks);
    trace_names_finish(&s->names);
    free(s);
}
