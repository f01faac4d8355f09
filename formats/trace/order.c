// SPDX-License-Identifier: MIT
//
// The orderer: Go's scheduler as a state machine, for the events that are many. It says whether a
// thread may go on with its next event; sequence numbers of Procs and Goroutines, not timestamps,
// decide between threads.

#include "formats/trace/order.h"

enum { TRIES_FREE = 1 << 20, TRIES_PER_BYTE = 16 };

static int proc_start(struct trace_reader *r, struct cursor *c)
{
    const unsigned char *at;
    uint64_t v[2]; // p, seq
    if (!cursor_args(c, &at, v, 2))
        return order_bad_args(r, c);
    struct state_thread *t = c->thread;
    struct state_proc *p = state_find_proc(&r->state, v[0]);
    // With a Proc still bound it is in a system call, and that it was stolen is not yet seen.
    if (!p || p->status != TRACE_PROC_STATUS_IDLE || !order_follows(r, v[1], &p->seq) ||
        t->proc_id != TRACE_NONE)
        return 0;
    int rc = order_need(r, c, STATE_HAS_THREAD, STATE_HAS_PROC);
    if (rc)
        return rc;
    p->status = TRACE_PROC_STATUS_RUNNING;
    p->seq.seq = v[1];
    order_proc_event(r, c, p, TRACE_PROC_IDLE, TRACE_PROC_RUNNING);
    state_bind_proc(t, p);
    return order_done(c, at);
}

static int proc_stop(struct trace_reader *r, struct cursor *c)
{
    struct state_thread *t = c->thread;
    int rc = order_need(r, c, STATE_HAS_THREAD | STATE_HAS_PROC, 0);
    if (rc)
        return rc;
    struct state_proc *p = t->proc;
    if (p->status != TRACE_PROC_STATUS_RUNNING && p->status != TRACE_PROC_STATUS_SYSCALL)
        return cursor_fail(r, c, -EINVAL, TRACE_RULE_STATUS,
                           "Proc %lld is neither running nor in a system call", (long long)p->id);
    p->status = TRACE_PROC_STATUS_IDLE;
    order_proc_event(r, c, p, TRACE_PROC_RUNNING, TRACE_PROC_IDLE);
    state_bind_proc(t, NULL);
    return 1;
}

static int go_create(struct trace_reader *r, struct cursor *c)
{
    const unsigned char *at;
    uint64_t v[3]; // g, its stack, stack
    uint32_t start, stack;
    if (!cursor_args(c, &at, v, 3))
        return order_bad_args(r, c);
    int rc = order_need(r, c, STATE_HAS_THREAD | STATE_HAS_PROC, 0);
    if (!rc)
        rc = order_stack(r, c, v[1], &start);
    if (!rc)
        rc = order_stack(r, c, v[2], &stack);
    if (rc)
        return rc;
    const struct state_go *by = state_go_of(&r->state, c->thread);
    if (by && by->status != TRACE_GO_STATUS_RUNNING)
        return order_bad_status(r, c, by, "running");
    if (state_find_go(&r->state, v[0]))
        return cursor_fail(r, c, -EINVAL, TRACE_RULE_EXISTS, "Goroutine %lld exists already",
                           (long long)v[0]);
    bool is_blocked = c->wire == TRACE_EV_GO_CREATE_BLOCKED;
    struct state_go *g;
    rc = state_add_go(&r->state, v[0],
                      is_blocked ? TRACE_GO_STATUS_WAITING : TRACE_GO_STATUS_RUNNABLE, &g);
    if (rc)
        return order_no_memory(r, c, rc);
    g->seq = order_seq(r, 0);
    struct trace_event *ev = order_go_event(r, c, g, TRACE_GO_NOT_EXIST,
                                            is_blocked ? TRACE_GO_WAITING : TRACE_GO_RUNNABLE);
    ev->stack = stack;
    ev->transition.stack = start;
    return order_done(c, at);
}

static int go_start(struct trace_reader *r, struct cursor *c)
{
    const unsigned char *at;
    uint64_t v[2]; // g, seq
    if (!cursor_args(c, &at, v, 2))
        return order_bad_args(r, c);
    struct state_go *g = state_find_go(&r->state, v[0]);
    if (!g || g->status != TRACE_GO_STATUS_RUNNABLE || !order_follows(r, v[1], &g->seq))
        return 0;
    int rc = order_need(r, c, STATE_HAS_THREAD | STATE_HAS_PROC, STATE_HAS_GO);
    if (rc)
        return rc;
    g->status = TRACE_GO_STATUS_RUNNING;
    g->seq.seq = v[1];
    order_go_event(r, c, g, TRACE_GO_RUNNABLE, TRACE_GO_RUNNING);
    state_bind_go(c->thread, g);
    return order_done(c, at);
}

// The running Goroutine of the thread; NULL with *rc set.
static struct state_go *running(struct trace_reader *r, const struct cursor *c, int *rc)
{
    *rc = order_need(r, c, STATE_HAS_ALL, 0);
    if (*rc)
        return NULL;
    struct state_go *g = state_go_of(&r->state, c->thread);
    if (__builtin_expect(g && g->status == TRACE_GO_STATUS_RUNNING, 1))
        return g;
    *rc = order_bad_status(r, c, g, "running");
    return NULL;
}

// GoStop and GoBlock.
static int go_stop(struct trace_reader *r, struct cursor *c, uint8_t status, uint8_t to)
{
    const unsigned char *at;
    uint64_t v[2]; // reason, stack
    uint32_t reason, stack;
    int rc;
    if (!cursor_args(c, &at, v, 2))
        return order_bad_args(r, c);
    struct state_go *g = running(r, c, &rc);
    if (!g)
        return rc;
    rc = order_string(r, c, v[0], &reason);
    if (!rc)
        rc = order_stack(r, c, v[1], &stack);
    if (rc)
        return rc;
    g->status = status;
    struct trace_event *ev = order_go_event(r, c, g, TRACE_GO_RUNNING, to);
    ev->stack = ev->transition.stack = stack;
    ev->transition.reason = reason;
    state_bind_go(c->thread, NULL);
    return order_done(c, at);
}

static int go_destroy(struct trace_reader *r, struct cursor *c)
{
    int rc;
    struct state_go *g = running(r, c, &rc);
    if (!g)
        return rc;
    order_go_event(r, c, g, TRACE_GO_RUNNING, TRACE_GO_NOT_EXIST);
    state_bind_go(c->thread, NULL);
    state_remove_go(&r->state, g);
    return 1;
}

static int go_unblock(struct trace_reader *r, struct cursor *c)
{
    const unsigned char *at;
    uint64_t v[3]; // g, seq, stack
    uint32_t stack;
    if (!cursor_args(c, &at, v, 3))
        return order_bad_args(r, c);
    struct state_go *g = state_find_go(&r->state, v[0]);
    if (!g || g->status != TRACE_GO_STATUS_WAITING || !order_follows(r, v[1], &g->seq))
        return 0;
    int rc = order_stack(r, c, v[2], &stack);
    if (rc)
        return rc;
    g->status = TRACE_GO_STATUS_RUNNABLE;
    g->seq.seq = v[1];
    struct trace_event *ev = order_go_event(r, c, g, TRACE_GO_WAITING, TRACE_GO_RUNNABLE);
    ev->stack = stack;
    return order_done(c, at);
}

// Three events of one: the other is unblocked, this one blocks or ends, the other starts.
static int go_switch(struct trace_reader *r, struct cursor *c)
{
    const unsigned char *at;
    uint64_t v[2]; // g, seq
    int rc;
    if (!cursor_args(c, &at, v, 2))
        return order_bad_args(r, c);
    struct state_go *g = running(r, c, &rc);
    if (!g)
        return rc;
    struct state_go *next = state_find_go(&r->state, v[0]);
    if (!next || next->status != TRACE_GO_STATUS_WAITING || !order_follows(r, v[1], &next->seq))
        return 0;
    order_go_event(r, c, next, TRACE_GO_WAITING, TRACE_GO_RUNNABLE);
    bool ends = c->wire == TRACE_EV_GO_SWITCH_DESTROY;
    order_go_event(r, c, g, TRACE_GO_RUNNING, ends ? TRACE_GO_NOT_EXIST : TRACE_GO_WAITING)->flags =
        TRACE_FLAG_DERIVED;
    state_bind_go(c->thread, NULL);
    if (ends)
        state_remove_go(&r->state, g);
    else
        g->status = TRACE_GO_STATUS_WAITING;
    next->status = TRACE_GO_STATUS_RUNNING;
    next->seq.seq = v[1];
    order_go_event(r, c, next, TRACE_GO_RUNNABLE, TRACE_GO_RUNNING)->flags = TRACE_FLAG_DERIVED;
    state_bind_go(c->thread, next);
    return order_done(c, at);
}

static int go_syscall_begin(struct trace_reader *r, struct cursor *c)
{
    const unsigned char *at;
    uint64_t v[2]; // Proc's seq, stack
    uint32_t stack;
    int rc;
    if (!cursor_args(c, &at, v, 2))
        return order_bad_args(r, c);
    struct state_go *g = running(r, c, &rc);
    if (!g)
        return rc;
    struct state_proc *p = c->thread->proc;
    if (!order_follows(r, v[0], &p->seq))
        return cursor_fail(r, c, -EINVAL, TRACE_RULE_SEQUENCE,
                           "number %llu of Proc %lld, whose last one is %llu of generation %llu",
                           (unsigned long long)v[0], (long long)p->id,
                           (unsigned long long)p->seq.seq, (unsigned long long)p->seq.generation);
    rc = order_stack(r, c, v[1], &stack);
    if (rc)
        return rc;
    g->status = TRACE_GO_STATUS_SYSCALL;
    p->status = TRACE_PROC_STATUS_SYSCALL;
    p->seq.seq = v[0];
    struct trace_event *ev = order_go_event(r, c, g, TRACE_GO_RUNNING, TRACE_GO_SYSCALL);
    ev->stack = ev->transition.stack = stack;
    return order_done(c, at);
}

static int go_syscall_end(struct trace_reader *r, struct cursor *c)
{
    int rc = order_need(r, c, STATE_HAS_ALL, 0);
    if (rc)
        return rc;
    struct state_go *g = state_go_of(&r->state, c->thread);
    if (!g || g->status != TRACE_GO_STATUS_SYSCALL)
        return order_bad_status(r, c, g, "in a system call");
    struct state_proc *p = c->thread->proc;
    if (p->status != TRACE_PROC_STATUS_SYSCALL)
        return cursor_fail(r, c, -EINVAL, TRACE_RULE_STATUS,
                           "Proc %lld is not in a system call with its Goroutine",
                           (long long)p->id);
    g->status = TRACE_GO_STATUS_RUNNING;
    p->status = TRACE_PROC_STATUS_RUNNING;
    order_go_event(r, c, g, TRACE_GO_SYSCALL, TRACE_GO_RUNNING);
    return 1;
}

static int go_syscall_end_blocked(struct trace_reader *r, struct cursor *c)
{
    struct state_thread *t = c->thread;
    // It is known to lose its Proc; until that is seen others go first.
    if (t->proc_id != TRACE_NONE && t->proc->status == TRACE_PROC_STATUS_SYSCALL)
        return 0;
    int rc = order_need(r, c, STATE_HAS_THREAD | STATE_HAS_GO, 0);
    if (rc)
        return rc;
    struct state_go *g = state_go_of(&r->state, t);
    if (!g || g->status != TRACE_GO_STATUS_SYSCALL)
        return order_bad_status(r, c, g, "in a system call");
    g->status = TRACE_GO_STATUS_RUNNABLE;
    order_go_event(r, c, g, TRACE_GO_SYSCALL, TRACE_GO_RUNNABLE);
    state_bind_go(t, NULL);
    return 1;
}

static int metric(struct trace_reader *r, struct cursor *c, uint8_t which)
{
    const unsigned char *at;
    uint64_t v[2];
    uint32_t stack = 0;
    bool is_procs = which == TRACE_METRIC_GOMAXPROCS;
    if (!cursor_args(c, &at, v, is_procs ? 2 : 1))
        return order_bad_args(r, c);
    int rc = order_need(r, c, is_procs ? STATE_HAS_ALL : STATE_HAS_THREAD | STATE_HAS_PROC, 0);
    if (!rc && is_procs)
        rc = order_stack(r, c, v[1], &stack);
    if (rc)
        return rc;
    struct trace_event *ev = order_emit(r, c, c->thread, TRACE_METRIC, which);
    ev->stack = stack;
    ev->metric.value = v[0];
    return order_done(c, at);
}

int order_advance(struct trace_reader *r, struct cursor *c)
{
    switch (c->wire) {
    case TRACE_EV_PROCS_CHANGE: return metric(r, c, TRACE_METRIC_GOMAXPROCS);
    case TRACE_EV_PROC_START: return proc_start(r, c);
    case TRACE_EV_PROC_STOP: return proc_stop(r, c);
    case TRACE_EV_GO_CREATE:
    case TRACE_EV_GO_CREATE_BLOCKED: return go_create(r, c);
    case TRACE_EV_GO_START: return go_start(r, c);
    case TRACE_EV_GO_DESTROY: return go_destroy(r, c);
    case TRACE_EV_GO_STOP: return go_stop(r, c, TRACE_GO_STATUS_RUNNABLE, TRACE_GO_RUNNABLE);
    case TRACE_EV_GO_BLOCK: return go_stop(r, c, TRACE_GO_STATUS_WAITING, TRACE_GO_WAITING);
    case TRACE_EV_GO_UNBLOCK: return go_unblock(r, c);
    case TRACE_EV_GO_SYSCALL_BEGIN: return go_syscall_begin(r, c);
    case TRACE_EV_GO_SYSCALL_END: return go_syscall_end(r, c);
    case TRACE_EV_GO_SYSCALL_END_BLOCKED: return go_syscall_end_blocked(r, c);
    case TRACE_EV_HEAP_ALLOC: return metric(r, c, TRACE_METRIC_HEAP_BYTES);
    case TRACE_EV_HEAP_GOAL: return metric(r, c, TRACE_METRIC_HEAP_GOAL_BYTES);
    case TRACE_EV_GO_SWITCH:
    case TRACE_EV_GO_SWITCH_DESTROY: return go_switch(r, c);
    default: return order_rare(r, c);
    }
}

static __attribute__((noinline)) int advance_at(struct trace_reader *r, uint32_t i)
{
    struct cursor *c = r->frontier[i].cursor;
    c->thread->is_seen = true;
    int rc = order_advance(r, c);
    if (rc <= 0)
        return rc;
    rc = cursor_next(r, c);
    if (rc > 0)
        frontier_update(r, i);
    else if (rc == 0)
        frontier_remove(r, i);
    return rc < 0 ? rc : 1;
}

int order_nobody(struct trace_reader *r, const struct cursor *c, uint32_t count)
{
    return cursor_fail(r, c, -EINVAL, TRACE_RULE_SEQUENCE,
                       "cannot go on, nor can any other of %u threads: a number is missing or "
                       "twice, or what it names does not exist",
                       count);
}

// The first of the threads behind the head that can go on. All of that in one file together may
// cost so many steps for each of its bytes; beyond, and for this generation, order_parked.c does it.
static int advance_another(struct trace_reader *r)
{
    uint64_t limit = TRIES_FREE + TRIES_PER_BYTE * r->input.offset;
    if (r->tries >= limit || !frontier_sort(r, limit)) // sorted it still is a heap
        return order_park_head(r);
    for (uint32_t i = 1; i < r->frontier_count; i++) {
        int rc = advance_at(r, i);
        r->tries++;
        if (rc)
            return rc;
    }
    return order_nobody(r, r->frontier[0].cursor, r->frontier_count);
}

// 1, 0: the head cannot go on, -errno.
static int run_head(struct trace_reader *r)
{
    bool is_pending = order_fast(r);
    struct cursor *c = r->frontier[0].cursor;
    if (is_pending) {
        if (r->ring_count > RING_EVENTS - EVENTS_PER_STEP || r->sample_ns < r->frontier[0].time_ns)
            return 1;
        c->thread->is_seen = true;
        int rc = order_advance(r, c);
        if (rc <= 0)
            return rc;
    }
    int rc = cursor_next(r, c);
    if (rc > 0)
        frontier_update(r, 0);
    else if (rc == 0)
        frontier_remove(r, 0);
    return rc < 0 ? rc : 1;
}

int order_run(struct trace_reader *r)
{
    while (r->ring_count <= RING_EVENTS - EVENTS_PER_STEP) {
        int rc;
        if (r->last_ns > INT64_MAX - RING_EVENTS)
            return reader_fail(r, -EINVAL, TRACE_RULE_EVENT, "the clock is beyond its range");
        if (order_is_over(r))
            return 0;
        if (r->parked.count) {
            rc = order_parked_step(r);
        } else if (r->frontier_count == 0 || r->sample_ns < r->frontier[0].time_ns) {
            rc = sample_emit(r);
        } else {
            rc = run_head(r);
            if (rc == 0)
                rc = advance_another(r);
        }
        if (rc < 0)
            return rc;
    }
    return 0;
}
