// SPDX-License-Identifier: MIT
//
// Transitions of fibers and Procs, and ranges, as times. See summary.h.

#include "analysis/trace/summary_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct fiber *summary_fiber(const struct trace_summary *s, int64_t id, uint32_t slot)
{
    struct fiber *f = summary_fiber_at(s->state, slot);
    return f && f->pub.id == id ? f : NULL;
}

int summary_settle(const struct summary_state *st, const struct fiber *f, struct trace_times *t)
{
    int64_t ns = st->now - f->since;
    if (f->since == SUMMARY_NEVER)
        return 0;
    switch (f->state) {
    case TRACE_GO_RUNNING: t->running_ns += ns; break;
    case TRACE_GO_RUNNABLE: t->runnable_ns += ns; break;
    case TRACE_GO_WAITING: return trace_times_block(t, f->pub.reason, 0, ns);
    case TRACE_GO_SYSCALL:
        if (f->proc_lost_at == SUMMARY_NEVER) {
            t->syscall_ns += ns;
        } else {
            t->syscall_ns += f->proc_lost_at - f->since;
            t->syscall_blocked_ns += st->now - f->proc_lost_at;
        }
        break;
    default: break;
    }
    return 0;
}

// The waits that were counted before the fiber's name was known go to its function.
static int count_early_waits(struct trace_summary *s, struct fiber *f)
{
    if (!f->early_wait_count)
        return 0;
    struct trace_function *fn = summary_function(s, f->pub.name);
    if (!fn)
        return -ENOMEM;
    for (uint32_t i = 0; i < f->early_wait_count; i++)
        trace_hist_add(&fn->runnable, f->early_waits_ns[i]);
    f->early_wait_count = 0;
    return 0;
}

static uint32_t own_stack(const struct trace_event *ev)
{
    return ev->transition.stack ? ev->transition.stack : ev->stack;
}

static int count_wait(struct trace_summary *s, struct fiber *f, int64_t ns)
{
    int rc = 0;
    trace_hist_add(&s->totals.runnable, ns);
    if (f->early_wait_count == SUMMARY_EARLY_WAITS)
        rc = count_early_waits(s, f);
    f->early_waits_ns[f->early_wait_count++] = ns;
    return rc || !f->pub.name ? rc : count_early_waits(s, f);
}

// The fiber leaves its state; r, ev: NULL if only the trace is over.
static int leave(struct trace_summary *s, struct fiber *f, const struct trace_reader *r,
                 const struct trace_event *ev)
{
    struct summary_state *st = s->state;
    int64_t ns = st->now - f->since;
    if (f->since == SUMMARY_NEVER)
        return 0;
    struct proc *p = f->proc_slot < st->proc_capacity ? st->procs[f->proc_slot] : NULL;
    bool over = ev != NULL;
    if (f->state == TRACE_GO_RUNNING) {
        struct trace_place none = {0};
        bool is_hog = over && ns > s->limits.run_ns && ns > f->pub.run.ns;
        summary_longest(&f->pub.run, ns, f->since, f,
                        is_hog ? summary_place(s, r, own_stack(ev))->place : none);
        if (p)
            p->pub.running_ns += ns;
    } else if (f->state == TRACE_GO_RUNNABLE) {
        summary_longest(&f->pub.wait, ns, f->since, f, f->place);
        if (f->edge)
            f->edge->runnable_ns += ns;
        f->edge = NULL;
        if (over && st->counts && count_wait(s, f, ns))
            return -ENOMEM;
    } else if (f->state == TRACE_GO_SYSCALL && p) {
        p->pub.syscall_ns += f->proc_lost_at == SUMMARY_NEVER ? ns : f->proc_lost_at - f->since;
        // As Go does, even where the Proc is by now in another fiber's system call.
        if (over)
            p->syscall_slot = TRACE_NO_SLOT;
    }
    uint32_t had = f->pub.times.wait_capacity;
    int rc = summary_settle(st, f, &f->pub.times);
    if (!rc)
        rc = summary_charge_waits(st, &f->pub.times, had);
    if (!rc && f->state == TRACE_GO_WAITING && over)
        trace_times_longest(&f->pub.times, f->pub.reason, ns);
    else if (!rc && f->state == TRACE_GO_WAITING)
        trace_times_open(&f->pub.times, f->pub.reason, ns);
    return rc;
}

static struct fiber *new_fiber(struct trace_summary *s, const struct trace_event *ev)
{
    struct summary_state *st = s->state;
    uint32_t slot = ev->transition.slot;
    if (slot == TRACE_NO_SLOT)
        return NULL;
    st->rc = st->rc ? st->rc : summary_reserve(st, &st->fibers, &st->fiber_capacity, slot);
    struct fiber *old = st->rc ? NULL : st->fibers[slot]; // it was asked for: not asleep
    if (old)
        summary_regions_drop(st, old);
    struct fiber *f = old ? old : summary_fiber_take(st);
    if (!f || st->rc)
        return NULL;
    st->living += !old;
    summary_fiber_begin(f, ev->transition.id, st->now);
    f->pub.created_ns = ev->time_ns;
    f->pub.creator = ev->goroutine;
    st->fibers[slot] = f;
    return f;
}

static void add_moments(struct trace_moments *m, const struct trace_moments *a)
{
    m->runs += a->runs;
    m->yields += a->yields;
    m->preemptions += a->preemptions;
    m->blocks += a->blocks;
    m->syscalls += a->syscalls;
    m->wakes += a->wakes;
    m->creates += a->creates;
}

// Adds a fiber that is over, or outlives the trace, to its function; tells who wants to know.
static int fold(struct trace_summary *s, struct fiber *f)
{
    struct summary_state *st = s->state;
    if (f->pub.ended_ns != SUMMARY_NEVER && f->pub.ended_ns < st->options.from_ns)
        return 0;
    struct trace_function *fn = summary_function(s, f->pub.name);
    if (!fn)
        return -ENOMEM;
    fn->fibers++;
    s->totals.fibers++;
    if (f->pub.ended_ns == SUMMARY_NEVER) {
        fn->alive++;
        s->totals.alive++;
    }
    add_moments(&fn->moments, &f->pub.moments);
    summary_longest(&fn->run, f->pub.run.ns, f->pub.run.at_ns, f, f->pub.run.place);
    summary_longest(&fn->wait, f->pub.wait.ns, f->pub.wait.at_ns, f, f->pub.wait.place);
    if (f->pub.moments.yields > fn->yields_most) {
        fn->yields_most = f->pub.moments.yields;
        fn->yields_fiber = f->pub.id;
        fn->yields_in = f->yielded_in;
    }
    fn->hogs += f->pub.run.ns > s->limits.run_ns;
    fn->starved += f->pub.wait.ns > s->limits.runnable_ns;
    if (f->pub.ended_ns == SUMMARY_NEVER)
        summary_fold_end(s, fn, f);
    uint32_t had = fn->times.wait_capacity;
    int rc = count_early_waits(s, f);
    if (!rc)
        rc = trace_times_add(&fn->times, &f->pub.times);
    if (!rc)
        rc = summary_charge_waits(st, &fn->times, had);
    if (!rc && !trace_name_is_system(trace_names_text(&s->names, f->pub.name)))
        rc = trace_times_add(&s->totals.times, &f->pub.times);
    trace_times_sort(&f->pub.times);
    if (st->options.fiber)
        st->options.fiber(st->options.context, &f->pub);
    return rc;
}

int summary_fiber_end(struct trace_summary *s, struct fiber *f, const struct trace_event *ev)
{
    struct summary_state *st = s->state;
    int rc = ev ? 0 : leave(s, f, NULL, NULL);
    if (ev)
        f->pub.ended_ns = ev->time_ns;
    f->pub.times.total_ns = st->now - f->total_from;
    for (int i = 0; i < TRACE_RANGES; i++) {
        if (f->range_since[i] != SUMMARY_NEVER)
            f->pub.times.range_ns[i] += st->now - f->range_since[i];
        f->range_since[i] = SUMMARY_NEVER;
    }
    f->pub.state_ns = f->since == SUMMARY_NEVER ? 0 : st->now - f->since;
    f->since = SUMMARY_NEVER;
    f->pub.state = f->state;
    bool system = trace_name_is_system(trace_names_text(&s->names, f->pub.name));
    while (f->regions && !rc && !system)
        rc = summary_region_close(s, f, ev ? ev->time_ns : SUMMARY_NEVER);
    summary_regions_drop(st, f);
    return rc ? rc : fold(s, f);
}

static int woken(struct trace_summary *s, struct fiber *f, const struct trace_event *ev)
{
    struct summary_state *st = s->state;
    struct fiber *waker = summary_fiber(s, ev->goroutine, ev->goroutine_slot);
    bool is_creation = ev->transition.from == TRACE_GO_NOT_EXIST;
    if (!st->counts ||
        (is_creation &&
         !waker)) // a thread that came in from outside was made by nobody that is known
        return 0;
    const char *reason = trace_names_text(&s->names, f->pub.reason);
    const struct trace_text had = {reason, (uint32_t)strlen(reason)};
    struct trace_edge *e = waker ? summary_edge(s, waker->pub.name, f->pub.name, TRACE_WAKER_FIBER)
                                 : summary_edge(s, 0, f->pub.name, trace_waker_without_fiber(had));
    if (!e)
        return -ENOMEM;
    if (is_creation) {
        e->creates++;
    } else {
        f->woken_outside |= !waker;
        e->wakes++;
        e->blocked_ns += f->since == SUMMARY_NEVER ? 0 : st->now - f->since;
        f->edge = e;
    }
    if (waker)
        *(ev->transition.from == TRACE_GO_NOT_EXIST ? &waker->pub.moments.creates
                                                    : &waker->pub.moments.wakes) += 1;
    return 0;
}

static int count_moment(struct trace_summary *s, struct fiber *f, const struct trace_event *ev,
                        uint32_t reason)
{
    struct trace_moments *m = &f->pub.moments;
    uint8_t from = ev->transition.from, to = ev->transition.to;
    if (!s->state->counts || from == TRACE_GO_UNDETERMINED)
        return 0;
    m->runs += to == TRACE_GO_RUNNING && from != TRACE_GO_SYSCALL;
    m->syscalls += to == TRACE_GO_SYSCALL;
    if (from == TRACE_GO_RUNNING && to == TRACE_GO_RUNNABLE && reason != s->state->name_preempted)
        f->yielded_in = f->place;
    if (from == TRACE_GO_RUNNING && to == TRACE_GO_RUNNABLE)
        ++*(reason == s->state->name_preempted ? &m->preemptions : &m->yields);
    if (to != TRACE_GO_WAITING)
        return 0;
    m->blocks++;
    uint32_t had = f->pub.times.wait_capacity;
    int rc = trace_times_block(&f->pub.times, reason, 1, 0);
    return rc ? rc : summary_charge_waits(s->state, &f->pub.times, had);
}

// A Proc, which a trace of v1 may name before it says what it is: UNDETERMINED until then.
static struct proc *proc_of(struct summary_state *st, int64_t id, uint32_t slot)
{
    if (slot == TRACE_NO_SLOT || summary_reserve(st, &st->procs, &st->proc_capacity, slot))
        return NULL;
    struct proc *p = st->procs[slot];
    if (!p) {
        st->rc = st->rc ? st->rc : summary_charge(st, sizeof *p);
        p = st->procs[slot] = st->rc ? NULL : calloc(1, sizeof *p);
        if (!p)
            return NULL;
        p->pub.id = id;
        p->syscall_slot = TRACE_NO_SLOT;
        p->sweep_fiber = TRACE_NONE;
    }
    return p;
}

static int enter(struct trace_summary *s, struct fiber *f, const struct trace_event *ev,
                 uint32_t reason)
{
    struct summary_state *st = s->state;
    struct proc *p;
    f->state = ev->transition.to;
    if (ev->transition.from != TRACE_GO_UNDETERMINED || f->state == TRACE_GO_SYSCALL)
        f->since = st->now;
    f->proc_lost_at = SUMMARY_NEVER;
    f->pub.reason = f->state == TRACE_GO_WAITING ? reason : 0;
    switch (f->state) {
    case TRACE_GO_RUNNING:
        f->proc_slot = ev->proc_slot;
        if (f->pub.first_run_ns == SUMMARY_NEVER)
            f->pub.first_run_ns = ev->time_ns;
        if (st->counts && f->proc_slot < st->proc_capacity && st->procs[f->proc_slot])
            st->procs[f->proc_slot]->pub.runs++;
        return 0;
    case TRACE_GO_SYSCALL:
        f->proc_slot = ev->proc_slot;
        if (f->proc_slot == TRACE_NO_SLOT)
            return 0;
        p = proc_of(st, ev->proc, ev->proc_slot);
        if (!p)
            return -ENOMEM;
        p->syscall_slot = ev->transition.slot;
        return 0;
    case TRACE_GO_WAITING:
        if (reason != st->name_forever)
            return 0;
        return summary_fiber_end(s, f, ev); // as good as dead
    default: return 0;
    }
}

static int first_seen(struct trace_summary *s, struct fiber **out, const struct trace_event *ev,
                      uint32_t reason)
{
    struct summary_state *st = s->state;
    // After to_ns the end of the slot's last fiber went unseen: it lived on, so far.
    uint32_t slot = ev->transition.slot;
    struct fiber *last = summary_fiber_at(st, slot);
    if (st->rc)
        return st->rc;
    int rc = last && last->since != SUMMARY_NEVER ? summary_fiber_end(s, last, NULL) : 0;
    struct fiber *f = *out = rc ? NULL : new_fiber(s, ev);
    if (!f)
        return rc ? rc : -ENOMEM;
    if (ev->transition.from == TRACE_GO_NOT_EXIST)
        return summary_inherit(s, f, summary_fiber(s, ev->goroutine, ev->goroutine_slot));
    // It was there: what it is now, it has been since the Sync.
    f->pub.created_ns = st->sync_ns;
    f->pub.creator = TRACE_NONE;
    f->since = f->total_from = st->sync_now;
    f->state = ev->transition.to;
    f->pub.reason = reason;
    f->proc_slot = ev->proc_slot;
    if (f->state == TRACE_GO_SYSCALL && ev->proc == TRACE_NONE)
        f->proc_lost_at = f->since;
    // What lasts is counted from the Sync when it ends. As in Go, what is known about a system call
    // changes with this event, and a fiber that waits for ever ends with it.
    bool now = f->state == TRACE_GO_SYSCALL ||
               (f->state == TRACE_GO_WAITING && reason == st->name_forever);
    return now ? leave(s, f, NULL, NULL) : 0;
}

static int fiber_transition(struct trace_summary *s, const struct trace_reader *r,
                            const struct trace_event *ev)
{
    struct summary_state *st = s->state;
    uint8_t from = ev->transition.from, to = ev->transition.to;
    uint32_t reason = trace_names_of(&s->names, r, ev->transition.reason);
    if (from == to)
        return 0; // announced again, at the beginning of a generation
    struct fiber *f = summary_fiber(s, ev->transition.id, ev->transition.slot);
    int rc = 0;
    bool is_first = from == TRACE_GO_UNDETERMINED || from == TRACE_GO_NOT_EXIST || !f;
    if (is_first)
        rc = first_seen(s, &f, ev, reason);
    else
        rc = leave(s, f, r, ev);
    if (!rc && !f->pub.name && ev->transition.stack) {
        const struct trace_frame *frames;
        uint32_t n = trace_reader_stack(r, ev->transition.stack, &frames);
        f->pub.name = trace_names_root(&s->names, r, ev->transition.stack);
        f->pub.pc = n ? frames[n - 1].pc : 0;
        rc = f->pub.name ? count_early_waits(s, f) : 0;
    }
    if (!rc && (to == TRACE_GO_WAITING || to == TRACE_GO_RUNNABLE)) { // else f may be NULL
        bool waits = to == TRACE_GO_WAITING;
        const struct stack_place *p = summary_place(s, r, waits ? own_stack(ev) : ev->stack);
        f->blocked_in = waits ? p->leaf : f->blocked_in;
        f->place = p->place;
    }
    if (!rc && (from == TRACE_GO_WAITING || from == TRACE_GO_NOT_EXIST) && to != TRACE_GO_NOT_EXIST)
        rc = woken(s, f, ev);
    if (!rc)
        rc = count_moment(s, f, ev, reason);
    if (rc)
        return rc;
    if (to != TRACE_GO_NOT_EXIST) {
        rc = enter(s, f, ev, reason);
        return rc || !is_first ? rc : summary_fiber_sleep(st, ev->transition.slot);
    }
    f->state = TRACE_GO_NOT_EXIST;
    if (f->since != SUMMARY_NEVER) // else it has ended already, waiting for ever
        rc = summary_fiber_end(s, f, ev);
    st->fibers[ev->transition.slot] = NULL;
    st->living--;
    summary_fiber_give(st, f);
    return rc;
}

static int proc_transition(struct trace_summary *s, const struct trace_event *ev)
{
    struct summary_state *st = s->state;
    uint32_t slot = ev->transition.slot;
    uint8_t from = ev->transition.from, to = ev->transition.to;
    struct proc *p = proc_of(st, ev->transition.id, slot);
    if (!p)
        return -ENOMEM;
    if (p->state == TRACE_PROC_UNDETERMINED) {
        p->since = from == TRACE_PROC_UNDETERMINED ? st->sync_now : st->now;
        p->state = to;
    }
    if (from == to)
        return 0;
    *(p->state == TRACE_PROC_RUNNING ? &p->running_ns : &p->pub.idle_ns) += st->now - p->since;
    p->since = st->now;
    p->state = to;
    p->pub.steals += st->counts && ev->wire == TRACE_EV_PROC_STEAL;
    if (to == TRACE_PROC_IDLE && p->syscall_slot < st->fiber_capacity) {
        struct fiber *f = summary_fiber_at(st, p->syscall_slot);
        if (f && f->state == TRACE_GO_SYSCALL && f->proc_slot == slot)
            f->proc_lost_at = st->now;
        p->syscall_slot = TRACE_NO_SLOT;
    }
    return 0;
}

int summary_transition(struct trace_summary *s, const struct trace_reader *r,
                       const struct trace_event *ev)
{
    if (ev->what == TRACE_RESOURCE_GOROUTINE)
        return fiber_transition(s, r, ev);
    return ev->what == TRACE_RESOURCE_PROC ? proc_transition(s, ev) : 0;
}

// Whose time a range is: its fiber's, or, of a Proc's, that of the fiber that begins and ends it.
static struct fiber *range_fiber(struct trace_summary *s, const struct trace_event *ev)
{
    struct summary_state *st = s->state;
    if (ev->what == TRACE_RANGE_STW || ev->what == TRACE_RANGE_GC_ASSIST)
        return summary_fiber(s, ev->range.id, ev->range.slot);
    if (ev->what != TRACE_RANGE_GC_SWEEP || ev->range.slot >= st->proc_capacity)
        return NULL;
    struct proc *p = st->procs[ev->range.slot];
    struct fiber *f = summary_fiber(s, ev->goroutine, ev->goroutine_slot);
    if (!p)
        return NULL;
    if (ev->kind != TRACE_RANGE_END) {
        p->sweep_fiber = f ? f->pub.id : p->sweep_fiber;
        return f;
    }
    bool same = f && p->sweep_fiber == f->pub.id;
    p->sweep_fiber = TRACE_NONE;
    return same ? f : NULL;
}

int summary_range(struct trace_summary *s, const struct trace_event *ev)
{
    struct summary_state *st = s->state;
    struct fiber *f = range_fiber(s, ev);
    if (!f || ev->what >= TRACE_RANGES || f->since == SUMMARY_NEVER)
        return 0;
    int64_t *since = &f->range_since[ev->what], *ns = &f->pub.times.range_ns[ev->what];
    if (ev->kind == TRACE_RANGE_BEGIN) {
        *since = st->now;
    } else if (ev->kind == TRACE_RANGE_ACTIVE) {
        if (*since != SUMMARY_NEVER)
            *ns += st->sync_now - *since;
        *since = st->sync_now;
    } else if (*since != SUMMARY_NEVER) {
        *ns += st->now - *since;
        *since = SUMMARY_NEVER;
    }
    return 0;
}
