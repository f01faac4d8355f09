// SPDX-License-Identifier: MIT
//
// Ranges, metrics, annotations and samples, written again. See put.c.

#include "formats/trace/put.h"

// The Goroutine that emits an event, if it is in the result and bound to its thread.
static struct put_go *emitter(struct trace_writer *w, const struct trace_event *ev)
{
    struct put_state *s = w->put;
    if (ev->goroutine_slot >= s->go_count || ev->thread_slot >= s->thread_count)
        return NULL;
    struct put_go *g = &s->gos[ev->goroutine_slot];
    const struct put_thread *t = &s->threads[ev->thread_slot];
    bool is_bound = t->go == ev->goroutine_slot && t->proc != TRACE_NO_SLOT &&
                    s->procs[t->proc].state == TRACE_PROC_RUNNING;
    return is_bound && g->state && g->is_kept ? g : NULL;
}

static void put_mark(struct trace_writer *w, const struct trace_event *ev, bool writes)
{
    static const uint8_t wires[] = {
        [TRACE_RANGE_BEGIN] = TRACE_EV_GC_BEGIN,
        [TRACE_RANGE_ACTIVE] = TRACE_EV_GC_ACTIVE,
        [TRACE_RANGE_END] = TRACE_EV_GC_END,
    };
    struct put_state *s = w->put;
    if (w->options.keeps_goroutine)
        return;
    bool was_marking = s->is_marking;
    s->is_marking = ev->kind != TRACE_RANGE_END;
    // Being active is news only where nothing was known; a begin needs its emitter but the first.
    if (!writes || was_marking == s->is_marking)
        return;
    if (ev->kind != TRACE_RANGE_ACTIVE)
        put_announce_thread(w, ev->thread_slot);
    SAY(w, ev->kind == TRACE_RANGE_ACTIVE ? TRACE_NONE : ev->thread, wires[ev->kind], ++s->mark_seq,
        put_stack(w, s->reader, ev->stack));
}

static void put_sweep(struct trace_writer *w, const struct trace_event *ev, bool writes)
{
    struct put_proc *p = put_proc_at(w, ev->range.slot);
    if (!p || p->sweeps == (ev->kind != TRACE_RANGE_END))
        return;
    if (writes && ev->kind == TRACE_RANGE_ACTIVE) {
        p->sweeps = p->stamp != w->put->stamp; // then it is announced with the Proc
        put_announce_proc(w, p);
        if (!p->sweeps)
            SAY(w, ev->thread, TRACE_EV_GC_SWEEP_ACTIVE, (uint64_t)p->id);
    } else if (writes) {
        put_announce_thread(w, ev->thread_slot);
        if (ev->kind == TRACE_RANGE_BEGIN)
            SAY(w, ev->thread, TRACE_EV_GC_SWEEP_BEGIN, put_stack(w, w->put->reader, ev->stack));
        else
            SAY(w, ev->thread, TRACE_EV_GC_SWEEP_END, ev->range.swept_bytes,
                ev->range.reclaimed_bytes);
    }
    p->sweeps = ev->kind != TRACE_RANGE_END;
}

// Mark assists and STW: of a Goroutine.
static void put_go_range(struct trace_writer *w, const struct trace_event *ev, bool writes)
{
    struct put_state *s = w->put;
    struct put_go *g = put_go_at(w, ev->range.slot);
    bool is_stw = ev->what == TRACE_RANGE_STW, begins = ev->kind != TRACE_RANGE_END;
    if (!g || !g->is_kept)
        return;
    bool *is_open = is_stw ? &g->stops : &g->assists;
    bool has_begun = is_stw ? *is_open : *is_open == !begins;
    if (writes && ev->kind == TRACE_RANGE_ACTIVE && has_begun) {
        g->assists = g->stamp != s->stamp;
        put_announce_go(w, g);
        if (!g->assists)
            SAY(w, ev->thread, TRACE_EV_GC_ASSIST_ACTIVE, (uint64_t)g->id);
    } else if (writes && (begins || has_begun) && ev->kind != TRACE_RANGE_ACTIVE &&
               emitter(w, ev)) {
        uint64_t reason = put_string(w, s->reader, ev->range.reason);
        uint64_t stack = put_stack(w, s->reader, ev->stack);
        put_announce_thread(w, ev->thread_slot);
        if (is_stw)
            SAY(w, ev->thread, begins ? TRACE_EV_STW_BEGIN : TRACE_EV_STW_END, reason, stack);
        else
            SAY(w, ev->thread, begins ? TRACE_EV_GC_ASSIST_BEGIN : TRACE_EV_GC_ASSIST_END, stack);
    }
    *is_open = begins && (writes || !is_stw); // a STW cannot be announced as active
}

void put_metric(struct trace_writer *w, const struct trace_event *ev, bool writes)
{
    struct put_state *s = w->put;
    uint64_t stack = put_stack(w, s->reader, writes ? ev->stack : 0);
    if (ev->what == TRACE_METRIC_GOMAXPROCS) {
        s->procs_value = ev->metric.value;
        s->has_procs = true;
        s->owes_procs = writes && !emitter(w, ev);
        if (!writes || s->owes_procs)
            return;
    } else if (ev->what == TRACE_METRIC_HEAP_GOAL_BYTES) {
        s->goal_value = ev->metric.value;
        s->has_goal = true;
        s->owes_goal = false;
    }
    static const uint8_t wires[] = {
        [TRACE_METRIC_GOMAXPROCS] = TRACE_EV_PROCS_CHANGE,
        [TRACE_METRIC_HEAP_BYTES] = TRACE_EV_HEAP_ALLOC,
        [TRACE_METRIC_HEAP_GOAL_BYTES] = TRACE_EV_HEAP_GOAL,
    };
    if (!writes)
        return;
    put_announce_thread(w, ev->thread_slot);
    SAY(w, ev->thread, wires[ev->what], ev->metric.value, stack);
}

void put_pay(struct trace_writer *w, int64_t thread)
{
    struct put_state *s = w->put;
    if (s->owes_procs)
        SAY_EARLY(w, thread, TRACE_EV_PROCS_CHANGE, s->procs_value, 0);
    if (s->owes_goal)
        SAY_EARLY(w, thread, TRACE_EV_HEAP_GOAL, s->goal_value);
    s->owes_procs = s->owes_goal = false;
}

void put_debts(struct trace_writer *w, const struct trace_event *ev)
{
    const struct put_state *s = w->put;
    bool is_room = s->last + 2 < s->now;
    if ((!s->owes_procs && !s->owes_goal) || !is_room || ev->kind == TRACE_METRIC ||
        put_is_status(ev) || !emitter(w, ev))
        return;
    put_announce_thread(w, ev->thread_slot);
    put_pay(w, ev->thread);
}

void put_annotation(struct trace_writer *w, const struct trace_event *ev)
{
    const struct trace_reader *r = w->put->reader;
    uint64_t stack = put_stack(w, r, ev->stack);
    if (!emitter(w, ev))
        return;
    put_announce_thread(w, ev->thread_slot);
    switch (ev->kind) {
    case TRACE_LABEL:
        SAY(w, ev->thread, TRACE_EV_GO_LABEL, put_string(w, r, ev->label.text));
        break;
    case TRACE_TASK_BEGIN:
        SAY(w, ev->thread, TRACE_EV_TASK_BEGIN, ev->task.id,
            ev->task.parent == TRACE_NO_TASK ? 0 : ev->task.parent, put_string(w, r, ev->task.type),
            stack);
        break;
    case TRACE_TASK_END: SAY(w, ev->thread, TRACE_EV_TASK_END, ev->task.id, stack); break;
    case TRACE_LOG:
        SAY(w, ev->thread, TRACE_EV_LOG, ev->log.task, put_string(w, r, ev->log.category),
            put_string(w, r, ev->log.message), stack);
        break;
    default:
        SAY(w, ev->thread,
            ev->kind == TRACE_REGION_BEGIN ? TRACE_EV_REGION_BEGIN : TRACE_EV_REGION_END,
            ev->region.task, put_string(w, r, ev->region.type), stack);
        break;
    }
}

void put_sample(struct trace_writer *w, const struct trace_event *ev)
{
    struct put_state *s = w->put;
    bool is_kept = !w->options.keeps_goroutine ||
                   (ev->goroutine_slot < s->go_count && s->gos[ev->goroutine_slot].is_kept);
    if (!is_kept)
        return;
    put_note_time(s, s->now);
    trace_writer_cpu_sample(w, s->now, ev->thread, ev->proc, ev->goroutine,
                            put_stack(w, s->reader, ev->stack));
}

void put_range(struct trace_writer *w, const struct trace_event *ev, bool writes)
{
    switch (ev->what) {
    case TRACE_RANGE_GC_MARK: put_mark(w, ev, writes); break;
    case TRACE_RANGE_GC_SWEEP: put_sweep(w, ev, writes); break;
    default: put_go_range(w, ev, writes); break;
    }
}
