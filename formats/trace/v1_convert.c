// SPDX-License-Identifier: MIT
//
// Events of v1 as those of trace.h, with the emitters, states and reasons that Go's reader gives
// them. What v1 does not say, it makes up: what a Goroutine or P was when the trace began, from its
// first event; that a system call which nobody saw block took 1 ns.

#include "formats/trace/v1.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

// An event on its way: where it comes from, and what of it was looked up.
struct conversion {
    struct trace_reader *r;
    struct trace_v1 *v;
    const struct v1_event *ev;
    int64_t thread, proc, go; // who emits it
    uint32_t stack;
};

// --- What is looked up. 0 or -errno, error set.

static int string_of(const struct conversion *c, uint64_t file_id, uint32_t *id)
{
    struct trace_generation *g = &c->r->gen;
    uint32_t place = id_find(&g->string_index, file_id);
    *id = 0;
    if (!file_id)
        return 0;
    if (!place)
        return v1_fail(c->r, c->ev, TRACE_RULE_ID, "names string %llu, which the trace has not",
                       (unsigned long long)file_id);
    *id = generation_string_id(c->r, &g->strings[place - 1]);
    return c->r->error.code;
}

static int stack_of(const struct conversion *c, uint64_t file_id, uint32_t *id)
{
    *id = id_find(&c->r->gen.stack_index, file_id);
    if (*id != TRACE_ID_MISSING)
        return 0;
    return v1_fail(c->r, c->ev, TRACE_RULE_ID,
                   "names stack %llu, of which a frame names a string that the trace has not",
                   (unsigned long long)file_id);
}

static int no_memory(const struct conversion *c, int rc)
{
    return reader_fail(c->r, rc, TRACE_RULE_SYSTEM,
                       rc == -EFBIG ? "more lives at one time than %llu bytes of memory can hold"
                                    : "out of memory (of the limit of %llu bytes)",
                       (unsigned long long)c->r->state.bytes_max);
}

// The slot of what changes; it gets one when it is first heard of.
static int go_slot(const struct conversion *c, int64_t id, uint32_t *slot)
{
    struct trace_state *s = &c->r->state;
    struct state_go *g = state_find_go(s, (uint64_t)id);
    int rc = g ? 0 : state_add_go(s, (uint64_t)id, TRACE_GO_STATUS_RUNNABLE, &g);
    if (rc)
        return no_memory(c, rc);
    *slot = g->slot;
    return 0;
}

static int proc_slot(const struct conversion *c, int64_t id, uint32_t *slot)
{
    struct trace_state *s = &c->r->state;
    struct state_proc *p = state_find_proc(s, (uint64_t)id);
    int rc = p ? 0 : state_add_proc(s, (uint64_t)id, TRACE_PROC_STATUS_IDLE, &p);
    if (rc)
        return no_memory(c, rc);
    *slot = p->slot;
    return 0;
}

// --- What is emitted. Nothing fails from here on.

static struct trace_event *emit(const struct conversion *c, uint8_t kind, uint8_t what,
                                uint8_t wire)
{
    struct trace_reader *r = c->r;
    const struct state_thread *t = state_find_thread(&r->state, c->thread);
    const struct state_proc *p = state_find_proc(&r->state, (uint64_t)c->proc);
    const struct state_go *g = state_find_go(&r->state, (uint64_t)c->go);
    struct trace_event *e = &r->ring[r->ring_count++];
    r->last_ns = c->ev->time > r->last_ns ? c->ev->time : r->last_ns + 1;
    *e = (struct trace_event){
        .time_ns = r->last_ns,
        .thread = c->thread,
        .proc = c->proc,
        .goroutine = c->go,
        .offset = c->ev->offset,
        .batch = c->ev->batch,
        .stack = c->stack,
        .thread_slot = t ? t->slot : TRACE_NO_SLOT,
        .proc_slot = p ? p->slot : TRACE_NO_SLOT,
        .goroutine_slot = g ? g->slot : TRACE_NO_SLOT,
        .kind = kind,
        .what = what,
        .wire = wire,
    };
    return e;
}

// A Goroutine goes from one state to another. *out may be NULL.
static int go_event(const struct conversion *c, uint8_t wire, int64_t id, uint8_t from, uint8_t to,
                    struct trace_event **out)
{
    uint32_t slot = TRACE_NO_SLOT;
    int rc = go_slot(c, id, &slot);
    if (rc)
        return rc;
    struct trace_event *e = emit(c, TRACE_TRANSITION, TRACE_RESOURCE_GOROUTINE, wire);
    e->transition.id = id;
    e->transition.slot = slot;
    e->transition.from = from;
    e->transition.to = to;
    e->transition.peer = TRACE_NONE;
    if (out)
        *out = e;
    return 0;
}

static int proc_event(const struct conversion *c, struct v1_proc *p)
{
    bool starts = c->ev->type == V1_PROC_START;
    uint8_t from = starts ? TRACE_PROC_IDLE : TRACE_PROC_RUNNING;
    uint8_t to = starts ? TRACE_PROC_RUNNING : TRACE_PROC_IDLE;
    uint8_t wire = starts ? TRACE_EV_PROC_START : TRACE_EV_PROC_STOP;
    uint32_t slot = TRACE_NO_SLOT;
    int rc = proc_slot(c, c->proc, &slot);
    if (rc)
        return rc;
    if (!p->is_seen) {
        from = TRACE_PROC_UNDETERMINED;
        wire = TRACE_EV_PROC_STATUS;
    }
    p->is_seen = true;
    p->has_thread = starts;
    struct trace_event *e = emit(c, TRACE_TRANSITION, TRACE_RESOURCE_PROC, wire);
    e->transition.id = c->proc;
    e->transition.slot = slot;
    e->transition.from = from;
    e->transition.to = to;
    e->transition.peer = TRACE_NONE;
    return 0;
}

static int metric(const struct conversion *c, uint8_t which, uint8_t wire)
{
    emit(c, TRACE_METRIC, which, wire)->metric.value = c->ev->args[0];
    return 0;
}

static int stop(const struct conversion *c, enum v1_text reason, uint8_t to)
{
    struct trace_event *e;
    uint32_t id;
    uint8_t wire = to == TRACE_GO_WAITING ? TRACE_EV_GO_BLOCK : TRACE_EV_GO_STOP;
    int rc = v1_text(c->r, reason, &id);
    if (!rc)
        rc = go_event(c, wire, c->go, TRACE_GO_RUNNING, to, &e);
    if (rc)
        return rc;
    e->transition.reason = id;
    e->transition.stack = c->stack;
    return 0;
}

static struct trace_event *range(const struct conversion *c, uint8_t kind, uint8_t which,
                                 uint8_t wire)
{
    struct trace_event *e = emit(c, kind, which, wire);
    e->range.id = which == TRACE_RANGE_GC_MARK    ? TRACE_NONE
                  : which == TRACE_RANGE_GC_SWEEP ? c->proc
                                                  : c->go;
    e->range.slot = which == TRACE_RANGE_GC_MARK    ? TRACE_NO_SLOT
                    : which == TRACE_RANGE_GC_SWEEP ? e->proc_slot
                                                    : e->goroutine_slot;
    return e;
}

static int stw(const struct conversion *c)
{
    struct trace_v1 *v = c->v;
    uint64_t kind = c->ev->args[0];
    bool begins = c->ev->type == V1_STW_START;
    if (begins) {
        // Until 1.20 there were two kinds, numbered from 0.
        enum v1_text which = c->r->version < 21
                                 ? (kind < 2 ? V1_TEXT_STW_MARK + (unsigned)kind : V1_TEXT_STW)
                                 : (kind < 17 ? V1_TEXT_STW + (unsigned)kind : V1_TEXT_STW);
        int rc = v1_text(c->r, which, &v->stw_reason);
        if (rc)
            return rc;
    }
    range(c, begins ? TRACE_RANGE_BEGIN : TRACE_RANGE_END, TRACE_RANGE_STW,
          begins ? TRACE_EV_STW_BEGIN : TRACE_EV_STW_END)
        ->range.reason = v->stw_reason;
    return 0;
}

static int sweep_done(const struct conversion *c)
{
    struct trace_event *e = range(c, TRACE_RANGE_END, TRACE_RANGE_GC_SWEEP, TRACE_EV_GC_SWEEP_END);
    e->range.swept_bytes = c->ev->args[0];
    e->range.reclaimed_bytes = c->ev->args[1];
    return 0;
}

static int create(struct conversion *c)
{
    uint64_t id = c->ev->args[0];
    struct trace_event *e;
    uint32_t start;
    if (!c->v->is_initialized) {
        struct v1_go *g = v1_go_of(c->r, id);
        if (g)
            g->was_mentioned = true;
        return c->r->error.code;
    }
    int rc = stack_of(c, c->ev->args[1], &start);
    if (!rc && !start && c->ev->args[1])
        rc = v1_fail(c->r, c->ev, TRACE_RULE_ID, "names stack %llu, which the trace has not",
                     (unsigned long long)c->ev->args[1]);
    if (!rc)
        rc =
            go_event(c, TRACE_EV_GO_CREATE, (int64_t)id, TRACE_GO_NOT_EXIST, TRACE_GO_RUNNABLE, &e);
    if (!rc)
        e->transition.stack = start;
    return rc;
}

// It was there before the trace began.
static int status(const struct conversion *c, uint8_t to)
{
    uint64_t id = c->ev->args[0];
    struct v1_go *g = v1_go_look(c->r, id);
    if (g)
        g->was_mentioned = false;
    return go_event(c, TRACE_EV_GO_STATUS, (int64_t)id, TRACE_GO_UNDETERMINED, to, NULL);
}

static int start(const struct conversion *c)
{
    if (!c->v->is_initialized)
        return status(c, TRACE_GO_RUNNING);
    return go_event(c, TRACE_EV_GO_START, (int64_t)c->ev->args[0], TRACE_GO_RUNNABLE,
                    TRACE_GO_RUNNING, NULL);
}

// Go gives these two and system calls to thread 0 if that of the P is not known.
static void thread_or_0(struct conversion *c, const struct v1_proc *p)
{
    c->thread = p->has_thread ? p->thread : 0;
    c->go = (int64_t)c->ev->g;
}

static int start_label(struct conversion *c, const struct v1_proc *p)
{
    uint32_t label;
    int rc = string_of(c, c->ev->args[2], &label);
    if (rc)
        return rc;
    thread_or_0(c, p);
    rc = go_event(c, TRACE_EV_GO_START, (int64_t)c->ev->args[0], TRACE_GO_RUNNABLE,
                  TRACE_GO_RUNNING, NULL);
    if (rc)
        return rc;
    struct trace_event *e = emit(c, TRACE_LABEL, 0, TRACE_EV_GO_LABEL);
    e->flags = TRACE_FLAG_DERIVED;
    e->label.text = label;
    return 0;
}

static int end(const struct conversion *c)
{
    int rc = go_event(c, TRACE_EV_GO_DESTROY, c->go, TRACE_GO_RUNNING, TRACE_GO_NOT_EXIST, NULL);
    struct state_go *g = rc ? NULL : state_find_go(&c->r->state, (uint64_t)c->go);
    if (g)
        state_remove_go(&c->r->state, g);
    return rc;
}

static int syscall_begin(struct conversion *c, const struct v1_proc *p)
{
    struct trace_event *e;
    if (!c->ev->blocks)
        thread_or_0(c, p);
    int rc = go_event(c, TRACE_EV_GO_SYSCALL_BEGIN, c->go, TRACE_GO_RUNNING, TRACE_GO_SYSCALL, &e);
    if (rc)
        return rc;
    e->transition.stack = c->stack;
    if (c->ev->blocks)
        return 0;
    struct v1_event over = *c->ev;
    over.time = over.time < INT64_MAX ? over.time + 1 : over.time;
    struct conversion then = *c;
    then.ev = &over;
    then.stack = 0;
    rc = go_event(&then, TRACE_EV_GO_SYSCALL_END, c->go, TRACE_GO_SYSCALL, TRACE_GO_RUNNING, &e);
    if (!rc)
        e->flags = TRACE_FLAG_DERIVED;
    return rc;
}

static int task_begin(const struct conversion *c)
{
    uint32_t type;
    int rc = string_of(c, c->ev->args[2], &type);
    struct v1_task *t = rc ? NULL : v1_task_of(c->r, c->ev->args[0]);
    if (!t)
        return c->r->error.code;
    t->parent = c->ev->args[1];
    t->type = type;
    t->is_told = true;
    struct trace_event *e = emit(c, TRACE_TASK_BEGIN, 0, TRACE_EV_TASK_BEGIN);
    e->task.id = t->id;
    e->task.parent = t->parent ? t->parent : TRACE_NO_TASK;
    e->task.type = type;
    return 0;
}

static int task_end(const struct conversion *c)
{
    struct v1_task *t = v1_task_of(c->r, c->ev->args[0]);
    if (!t)
        return c->r->error.code;
    struct trace_event *e = emit(c, TRACE_TASK_END, 0, TRACE_EV_TASK_END);
    e->task.id = t->id;
    e->task.parent = t->is_told ? t->parent : TRACE_NO_TASK; // 0, as Go has it, if it has none
    e->task.type = t->is_told ? t->type : 0;
    t->is_told = false;
    return 0;
}

static int region(const struct conversion *c)
{
    bool begins = c->ev->args[1] == 0;
    uint32_t type;
    int rc = string_of(c, c->ev->args[2], &type);
    if (rc)
        return rc;
    struct trace_event *e = emit(c, begins ? TRACE_REGION_BEGIN : TRACE_REGION_END, 0,
                                 begins ? TRACE_EV_REGION_BEGIN : TRACE_EV_REGION_END);
    e->region.task = c->ev->args[0];
    e->region.type = type;
    return 0;
}

static int log_event(const struct conversion *c)
{
    struct trace_generation *g = &c->r->gen;
    uint32_t category, message = 0;
    uint64_t text = c->ev->args[2], size = text & ((1u << V1_LOG_SIZE_BITS) - 1);
    int rc = string_of(c, c->ev->args[1], &category);
    if (rc)
        return rc;
    if (size) {
        struct generation_string *items =
            generation_room(c->r, g->strings, g->string_count, &g->string_capacity, sizeof *items);
        if (!items)
            return c->r->error.code;
        g->strings = items;
        message = TRACE_ID_TRANSIENT | g->string_count;
        items[g->string_count++] = (struct generation_string){
            .bytes = (const char *)c->v->data + (text >> V1_LOG_SIZE_BITS),
            .size_bytes = (uint32_t)size,
        };
    }
    struct trace_event *e = emit(c, TRACE_LOG, 0, TRACE_EV_LOG);
    e->log.task = c->ev->args[0];
    e->log.category = category;
    e->log.message = message;
    return 0;
}

static int by_number(const void *x, const void *y)
{
    uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;
    return (a > b) - (a < b);
}

// The first GOMAXPROCS: all that was there has been said, and what is left is runnable.
static int initialized(struct trace_reader *r)
{
    struct trace_v1 *v = r->v1;
    uint32_t count = 0;
    for (uint32_t i = 0; i < v->go_count; i++)
        count += v->gos[i].was_mentioned;
    v->told = v1_alloc(r, count, sizeof *v->told);
    if (!v->told)
        return r->error.code;
    for (uint32_t i = 0; i < v->go_count; i++)
        if (v->gos[i].was_mentioned)
            v->told[v->told_count++] = v->gos[i].id;
    qsort(v->told, v->told_count, sizeof *v->told, by_number);
    v->is_initialized = true;
    return 0;
}

static int tell_next(struct trace_reader *r)
{
    struct trace_v1 *v = r->v1;
    struct conversion c = {
        .r = r,
        .v = v,
        .ev = v1_event_at(v, v->order[v->at - 1]),
        .thread = TRACE_NONE,
        .proc = TRACE_NONE,
        .go = TRACE_NONE,
    };
    struct trace_event *e;
    int rc = go_event(&c, TRACE_EV_GO_STATUS, (int64_t)v->told[v->told_at++], TRACE_GO_UNDETERMINED,
                      TRACE_GO_RUNNABLE, &e);
    if (!rc)
        e->flags = TRACE_FLAG_DERIVED;
    return rc;
}

static int convert_go(struct conversion *c, const struct v1_proc *p)
{
    switch (c->ev->type) {
    case V1_GO_CREATE: return create(c);
    case V1_GO_START: return start(c);
    case V1_GO_START_LABEL: return start_label(c, p);
    case V1_GO_END: return end(c);
    case V1_GO_STOP: return stop(c, V1_TEXT_FOREVER, TRACE_GO_WAITING);
    case V1_GO_SCHED: return stop(c, V1_TEXT_GOSCHED, TRACE_GO_RUNNABLE);
    case V1_GO_PREEMPT: return stop(c, V1_TEXT_PREEMPTED, TRACE_GO_RUNNABLE);
    case V1_GO_SLEEP: return stop(c, V1_TEXT_SLEEP, TRACE_GO_WAITING);
    case V1_GO_BLOCK: return stop(c, V1_TEXT_EMPTY, TRACE_GO_WAITING);
    case V1_GO_BLOCK_SEND: return stop(c, V1_TEXT_SEND, TRACE_GO_WAITING);
    case V1_GO_BLOCK_RECV: return stop(c, V1_TEXT_RECEIVE, TRACE_GO_WAITING);
    case V1_GO_BLOCK_SELECT: return stop(c, V1_TEXT_SELECT, TRACE_GO_WAITING);
    case V1_GO_BLOCK_SYNC: return stop(c, V1_TEXT_SYNC, TRACE_GO_WAITING);
    case V1_GO_BLOCK_COND: return stop(c, V1_TEXT_COND, TRACE_GO_WAITING);
    case V1_GO_BLOCK_NET: return stop(c, V1_TEXT_NETWORK, TRACE_GO_WAITING);
    case V1_GO_BLOCK_GC: return stop(c, V1_TEXT_ASSIST, TRACE_GO_WAITING);
    case V1_GO_UNBLOCK:
        return go_event(c, TRACE_EV_GO_UNBLOCK, (int64_t)c->ev->args[0], TRACE_GO_WAITING,
                        TRACE_GO_RUNNABLE, NULL);
    case V1_GO_SYSCALL: return syscall_begin(c, p);
    case V1_GO_SYS_EXIT:
        return go_event(c, TRACE_EV_GO_SYSCALL_END_BLOCKED, c->go, TRACE_GO_SYSCALL,
                        TRACE_GO_RUNNABLE, NULL);
    case V1_GO_WAITING: return status(c, TRACE_GO_WAITING);
    case V1_GO_IN_SYSCALL: return status(c, TRACE_GO_SYSCALL);
    case V1_GO_SYS_BLOCK: return 0; // said by how the call begins and ends
    default:
        return v1_fail(c->r, c->ev, TRACE_RULE_EVENT,
                       "has no meaning for Go's reader any more, which refuses it");
    }
}

static int convert(struct conversion *c, struct v1_proc *p)
{
    switch (c->ev->type) {
    case V1_GOMAXPROCS:
        if (!c->v->is_initialized)
            return initialized(c->r);
        return metric(c, TRACE_METRIC_GOMAXPROCS, TRACE_EV_PROCS_CHANGE);
    case V1_HEAP_ALLOC: return metric(c, TRACE_METRIC_HEAP_BYTES, TRACE_EV_HEAP_ALLOC);
    case V1_HEAP_GOAL: return metric(c, TRACE_METRIC_HEAP_GOAL_BYTES, TRACE_EV_HEAP_GOAL);
    case V1_PROC_START:
    case V1_PROC_STOP: return proc_event(c, p);
    case V1_GC_START: range(c, TRACE_RANGE_BEGIN, TRACE_RANGE_GC_MARK, TRACE_EV_GC_BEGIN); return 0;
    case V1_GC_DONE: range(c, TRACE_RANGE_END, TRACE_RANGE_GC_MARK, TRACE_EV_GC_END); return 0;
    case V1_STW_START:
    case V1_STW_DONE: return stw(c);
    case V1_SWEEP_START:
        range(c, TRACE_RANGE_BEGIN, TRACE_RANGE_GC_SWEEP, TRACE_EV_GC_SWEEP_BEGIN);
        return 0;
    case V1_SWEEP_DONE: return sweep_done(c);
    case V1_ASSIST_START:
        range(c, TRACE_RANGE_BEGIN, TRACE_RANGE_GC_ASSIST, TRACE_EV_GC_ASSIST_BEGIN);
        return 0;
    case V1_ASSIST_DONE:
        range(c, TRACE_RANGE_END, TRACE_RANGE_GC_ASSIST, TRACE_EV_GC_ASSIST_END);
        return 0;
    case V1_TASK_CREATE: return task_begin(c);
    case V1_TASK_END: return task_end(c);
    case V1_REGION: return region(c);
    case V1_LOG: return log_event(c);
    case V1_CPU_SAMPLE: emit(c, TRACE_STACK_SAMPLE, 0, TRACE_EV_CPU_SAMPLE); return 0;
    default: return convert_go(c, p);
    }
}

// What of the stack field Go's reader gives: GoSysBlock and others have one that says nothing.
static int own_stack(struct conversion *c)
{
    bool skipped =
        !c->v->is_initialized && (c->ev->type == V1_GO_CREATE || c->ev->type == V1_GOMAXPROCS);
    return skipped || !c->ev->stack ? 0 : stack_of(c, c->ev->stack, &c->stack);
}

static int convert_next(struct trace_reader *r)
{
    struct trace_v1 *v = r->v1;
    const struct v1_event *ev = v1_event_at(v, v->order[v->at++]);
    struct conversion c = {
        .r = r,
        .v = v,
        .ev = ev,
        .thread = TRACE_NONE,
        .proc = ev->p,
        .go = ev->g ? (int64_t)ev->g : TRACE_NONE,
    };
    int rc = own_stack(&c);
    if (rc)
        return rc;
    if (ev->type == V1_CPU_SAMPLE)
        return convert(&c, NULL);
    struct v1_proc *p = v1_proc_of(v, ev->p); // not of what is shown on a made-up P
    if (ev->type == V1_PROC_START) {
        struct state_thread *t;
        p->thread = (int64_t)ev->args[0];
        p->has_thread = true;
        if (p->thread != TRACE_NONE && !state_find_thread(&r->state, p->thread))
            rc = state_add_thread(&r->state, p->thread, &t);
        if (rc)
            return no_memory(&c, rc);
    }
    uint32_t slot;
    if (!rc && p && ev->p != -1 && !p->has_slot)
        rc = proc_slot(&c, ev->p, &slot); // others are shown on it before it is said to be anything
    if (rc)
        return rc;
    if (p)
        p->has_slot = true;
    if (p && p->has_thread && ev->p != -1)
        c.thread = p->thread;
    return convert(&c, p);
}

int v1_run(struct trace_reader *r)
{
    int rc = 0;
    if (!r->v1) {
        rc = v1_read(r);
        if (rc)
            return rc;
        r->last_ns = -2; // the first event is at 0, and the Sync before it at -1
        if (r->v1->order_count) {
            r->gen.number = 1;
            r->gen.offset = r->v1->base;
            reader_sync(r, -1);
        } else {
            r->last_ns = -1;
        }
    }
    struct trace_v1 *v = r->v1;
    while (!rc && r->ring_count <= RING_EVENTS - EVENTS_PER_STEP) {
        if (r->last_ns > INT64_MAX - RING_EVENTS)
            return reader_fail(r, -EINVAL, TRACE_RULE_EVENT, "the clock is beyond its range");
        if (v->told_at < v->told_count) {
            rc = tell_next(r);
        } else if (v->at < v->order_count) {
            rc = convert_next(r);
        } else {
            r->batch_next = v->batch_count;
            reader_sync_last(r);
            r->is_over = true;
            break;
        }
    }
    return rc;
}
