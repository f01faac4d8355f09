// SPDX-License-Identifier: MIT
//
// What Go's v1 reader enforces on ordered events, rule by rule, neither more nor less; and what
// follows from the whole: nanoseconds, which system calls block, the made-up Ps that timers, the
// network, ends of system calls and the GC are shown on.

#include "formats/trace/v1.h"

#include <errno.h>

struct check {
    struct trace_reader *r;
    struct trace_v1 *v;
    bool in_gc, in_stw;
};

#define BAD_STATE(c, ev, g, is_not)                                                                \
    v1_fail((c)->r, ev, TRACE_RULE_STATUS, "of Goroutine %lld, which is not " is_not,              \
            (long long)(g))

// The event is of the Goroutine that runs on its P.
static int running(const struct check *c, const struct v1_event *ev, const struct v1_proc *p,
                   const struct v1_go *g, bool allows_none)
{
    if (g->state != V1_RUNNING)
        return BAD_STATE(c, ev, ev->g, "running");
    if (p->g != ev->g)
        return v1_fail(c->r, ev, TRACE_RULE_CONTEXT, "of Goroutine %lld, but P %d runs %lld",
                       (long long)ev->g, ev->p, (long long)p->g);
    if (!allows_none && ev->g == 0)
        return v1_fail(c->r, ev, TRACE_RULE_CONTEXT, "needs a Goroutine, its P %d runs none",
                       ev->p);
    return 0;
}

static int stops(struct check *c, const struct v1_event *ev, struct v1_proc *p, struct v1_go *g,
                 enum v1_state next)
{
    int rc = running(c, ev, p, g, false);
    if (rc)
        return rc;
    g->state = next;
    g->waits_for_network = ev->type == V1_GO_BLOCK_NET;
    p->g = 0;
    if (ev->type == V1_GO_END) {
        while (g->regions) { // they end with it
            uint32_t region = g->regions;
            g->regions = c->v->regions[region - 1].outer;
            c->v->regions[region - 1].outer = c->v->region_free;
            c->v->region_free = region;
        }
    }
    return 0;
}

static int check_proc(struct check *c, const struct v1_event *ev, struct v1_proc *p)
{
    bool starts = ev->type == V1_PROC_START;
    if (p->runs == starts)
        return v1_fail(c->r, ev, TRACE_RULE_STATUS, "of P %d, which is %s already", ev->p,
                       starts ? "running" : "idle");
    if (!starts && p->g != 0)
        return v1_fail(c->r, ev, TRACE_RULE_STATUS, "of P %d, which runs Goroutine %lld", ev->p,
                       (long long)p->g);
    p->runs = starts;
    return 0;
}

static int check_flag(struct check *c, const struct v1_event *ev, bool *is_open, bool begins,
                      enum trace_rule rule)
{
    if (*is_open == begins)
        return v1_fail(c->r, ev, rule,
                       begins ? "begins before the last one has ended" : "ends what has not begun");
    *is_open = begins;
    return 0;
}

static int check_create(struct check *c, const struct v1_event *ev, struct v1_proc *p,
                        const struct v1_go *g)
{
    int rc = running(c, ev, p, g, true);
    if (rc)
        return rc;
    struct v1_go *made = v1_go_of(c->r, ev->args[0]);
    if (!made)
        return c->r->error.code;
    if (made->is_known)
        return v1_fail(c->r, ev, TRACE_RULE_EXISTS, "of Goroutine %lld, which exists already",
                       (long long)ev->args[0]);
    made->is_known = true;
    made->state = V1_RUNNABLE;
    return 0;
}

static int check_start(struct check *c, const struct v1_event *ev, struct v1_proc *p,
                       struct v1_go *g)
{
    if (g->state != V1_RUNNABLE)
        return BAD_STATE(c, ev, ev->g, "runnable");
    if (p->g != 0)
        return v1_fail(c->r, ev, TRACE_RULE_CONTEXT, "of Goroutine %lld, but P %d runs %lld",
                       (long long)ev->g, ev->p, (long long)p->g);
    g->state = V1_RUNNING;
    g->waits_for_network = false;
    p->g = ev->g;
    return 0;
}

static int check_unblock(struct check *c, struct v1_event *ev, const struct v1_proc *p,
                         const struct v1_go *g)
{
    if (g->state != V1_RUNNING)
        return BAD_STATE(c, ev, ev->g, "running");
    if (ev->p != V1_PROC_TIMER && p->g != ev->g)
        return v1_fail(c->r, ev, TRACE_RULE_CONTEXT, "of Goroutine %lld, but P %d runs %lld",
                       (long long)ev->g, ev->p, (long long)p->g);
    struct v1_go *woken = v1_go_of(c->r, ev->args[0]);
    if (!woken)
        return c->r->error.code;
    if (woken->state != V1_WAITING)
        return v1_fail(c->r, ev, TRACE_RULE_STATUS, "of Goroutine %lld, which does not wait",
                       (long long)ev->args[0]);
    if (woken->waits_for_network)
        ev->p = V1_PROC_NETWORK;
    woken->state = V1_RUNNABLE;
    woken->waits_for_network = false;
    return 0;
}

static int check_task(struct check *c, const struct v1_event *ev)
{
    struct v1_task *t = v1_task_of(c->r, ev->args[0]);
    if (!t)
        return c->r->error.code;
    if (ev->type == V1_TASK_CREATE && t->is_open)
        return v1_fail(c->r, ev, TRACE_RULE_TASK, "of task %llu, which has begun already",
                       (unsigned long long)ev->args[0]);
    t->is_open = ev->type == V1_TASK_CREATE;
    return 0;
}

static int region_open(struct check *c, const struct v1_event *ev, struct v1_go *g)
{
    struct trace_v1 *v = c->v;
    uint32_t region = v->region_free;
    if (region) {
        v->region_free = v->regions[region - 1].outer;
    } else {
        struct v1_region *items =
            generation_room(c->r, v->regions, v->region_count, &v->region_capacity, sizeof *items);
        if (!items)
            return c->r->error.code;
        v->regions = items;
        region = ++v->region_count;
    }
    v->regions[region - 1] = (struct v1_region){ev->args[0], ev->args[2], g->regions};
    g->regions = region;
    return 0;
}

static int check_region(struct check *c, const struct v1_event *ev, struct v1_go *g)
{
    struct trace_v1 *v = c->v;
    if (ev->args[1] == 0)
        return region_open(c, ev, g);
    if (ev->args[1] != 1)
        return v1_fail(c->r, ev, TRACE_RULE_EVENT, "neither begins nor ends");
    uint32_t region = g->regions;
    if (!region)
        return 0; // begun before the trace
    struct v1_region *last = &v->regions[region - 1];
    if (last->task != ev->args[0] || last->type != ev->args[2])
        return v1_fail(c->r, ev, TRACE_RULE_REGION,
                       "of Goroutine %lld ends string %llu of task %llu, the innermost is string "
                       "%llu of task %llu",
                       (long long)ev->g, (unsigned long long)ev->args[2],
                       (unsigned long long)ev->args[0], (unsigned long long)last->type,
                       (unsigned long long)last->task);
    g->regions = last->outer;
    last->outer = v->region_free;
    v->region_free = region;
    return 0;
}

static int check_go(struct check *c, struct v1_event *ev, struct v1_proc *p, struct v1_go *g)
{
    switch (ev->type) {
    case V1_GO_CREATE: return check_create(c, ev, p, g);
    case V1_GO_START:
    case V1_GO_START_LABEL: return check_start(c, ev, p, g);
    case V1_GO_END:
    case V1_GO_STOP: return stops(c, ev, p, g, V1_DEAD);
    case V1_GO_SCHED:
    case V1_GO_PREEMPT: return stops(c, ev, p, g, V1_RUNNABLE);
    case V1_GO_UNBLOCK: return check_unblock(c, ev, p, g);
    case V1_GO_SYSCALL: return running(c, ev, p, g, false);
    case V1_GO_WAITING:
    case V1_GO_IN_SYSCALL:
        if (g->state != V1_RUNNABLE)
            return BAD_STATE(c, ev, ev->g, "runnable");
        g->state = V1_WAITING;
        g->waits_for_network = false;
        return 0;
    case V1_GO_SYS_EXIT:
        if (g->state != V1_WAITING)
            return BAD_STATE(c, ev, ev->g, "waiting");
        g->state = V1_RUNNABLE;
        g->waits_for_network = false;
        return 0;
    default: return stops(c, ev, p, g, V1_WAITING);
    }
}

static int check_event(struct check *c, struct v1_event *ev, struct v1_proc *p, struct v1_go *g)
{
    switch (ev->type) {
    case V1_PROC_START:
    case V1_PROC_STOP: return check_proc(c, ev, p);
    case V1_GC_START: ev->p = V1_PROC_GC; return check_flag(c, ev, &c->in_gc, true, TRACE_RULE_GC);
    case V1_GC_DONE: return check_flag(c, ev, &c->in_gc, false, TRACE_RULE_GC);
    case V1_STW_START: return check_flag(c, ev, &c->in_stw, true, TRACE_RULE_RANGE);
    case V1_STW_DONE: return check_flag(c, ev, &c->in_stw, false, TRACE_RULE_RANGE);
    case V1_SWEEP_START: return check_flag(c, ev, &p->sweeps, true, TRACE_RULE_RANGE);
    case V1_SWEEP_DONE: return check_flag(c, ev, &p->sweeps, false, TRACE_RULE_RANGE);
    case V1_ASSIST_START:
        g->is_known = true;
        return check_flag(c, ev, &g->assists, true, TRACE_RULE_RANGE);
    case V1_ASSIST_DONE: // it may have begun before the trace
        g->is_known = true;
        g->assists = false;
        return 0;
    case V1_TASK_CREATE:
    case V1_TASK_END: return check_task(c, ev);
    case V1_REGION: return check_region(c, ev, g);
    case V1_GOMAXPROCS:
    case V1_HEAP_ALLOC:
    case V1_HEAP_GOAL:
    case V1_FUTILE_WAKEUP:
    case V1_LOG:
    case V1_CPU_SAMPLE: return 0;
    default: return check_go(c, ev, p, g);
    }
}

// As Go does on amd64, where what is too large becomes the smallest number.
static int64_t to_ns(int64_t time, int64_t first, double ns_per_tick)
{
    double ns = (double)(int64_t)((uint64_t)time - (uint64_t)first) * ns_per_tick;
    bool fits = ns >= -9223372036854775808.0 && ns < 9223372036854775808.0;
    return fits ? (int64_t)ns : INT64_MIN;
}

// Going backwards: whether what comes next of a Goroutine in a system call is that it blocks.
static void find_blocking(struct trace_reader *r)
{
    struct trace_v1 *v = r->v1;
    for (uint32_t i = v->order_count; i > 0; i--) {
        struct v1_event *ev = v1_event_at(v, v->order[i - 1]);
        struct v1_go *g = v1_go_look(r, ev->g);
        if (!g)
            continue; // a sample of a Goroutine that does nothing
        ev->blocks = ev->type == V1_GO_SYSCALL && g->next_type == V1_GO_SYS_BLOCK;
        g->next_type = ev->type;
    }
}

int v1_check(struct trace_reader *r)
{
    struct trace_v1 *v = r->v1;
    struct check c = {.r = r, .v = v};
    if (v->frequency == 0)
        return reader_fail(r, -EINVAL, TRACE_RULE_GENERATION, "a trace without a frequency");
    r->gen.ns_per_tick = 1e9 / (double)v->frequency;
    struct v1_go *none = v1_go_of(r, 0);
    if (!none)
        return r->error.code;
    none->state = V1_RUNNING; // what a P does without a Goroutine
    none->is_known = true;
    int64_t first = v->order_count ? v1_event_at(v, v->order[0])->time : 0;
    for (uint32_t i = 0; i < v->order_count; i++) {
        struct v1_event *ev = v1_event_at(v, v->order[i]);
        ev->time = to_ns(ev->time, first, r->gen.ns_per_tick);
        if (ev->type == V1_CPU_SAMPLE)
            continue;
        struct v1_go *g = v1_go_of(r, ev->g);
        struct v1_proc *p = &v->procs[v->batches[ev->batch].proc];
        if (!g)
            return r->error.code;
        if (ev->type == V1_GO_UNBLOCK && g->is_timer)
            ev->p = V1_PROC_TIMER;
        if (ev->type == V1_GO_SYS_EXIT)
            ev->p = V1_PROC_SYSCALL;
        int rc = check_event(&c, ev, p, g);
        if (rc)
            return rc;
    }
    find_blocking(r);
    return 0;
}
