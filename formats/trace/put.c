// SPDX-License-Identifier: MIT
//
// Events of a reader, written again. The reader's order is total, so it is enough to follow what
// each resource is, to announce it on the stream of the thread that mentions it first, just before
// it does, and to count sequence numbers anew.
//
// A thread's Goroutine may not be in the result while its Proc is. Then the Proc just runs: its
// system calls are not written, and where it is stolen in one, it stops instead.

#include "formats/trace/put.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t go_statuses[] = {
    [TRACE_GO_RUNNABLE] = TRACE_GO_STATUS_RUNNABLE,
    [TRACE_GO_RUNNING] = TRACE_GO_STATUS_RUNNING,
    [TRACE_GO_SYSCALL] = TRACE_GO_STATUS_SYSCALL,
    [TRACE_GO_WAITING] = TRACE_GO_STATUS_WAITING,
};

uint64_t put_ticks(const struct trace_writer *w, int64_t ns)
{
    uint64_t f = w->options.frequency;
    return f == 1000000000 ? (uint64_t)ns : (uint64_t)((double)ns * ((double)f / 1e9));
}

static void say_at(struct trace_writer *w, int64_t thread, uint8_t wire, uint64_t time,
                   const uint64_t *args)
{
    struct put_state *s = w->put;
    if (thread == TRACE_NONE) {
        time = time > s->none_time ? time : s->none_time;
        s->none_time = time;
    }
    put_note_time(s, time);
    if (thread == TRACE_NONE)
        s->gap_size = 0;
    trace_writer_event(w, thread, wire, time, args);
}

void put_say(struct trace_writer *w, int64_t thread, uint8_t wire, const uint64_t *args)
{
    say_at(w, thread, wire, w->put->now, args);
}

void put_say_early(struct trace_writer *w, int64_t thread, uint8_t wire, const uint64_t *args)
{
    struct put_state *s = w->put;
    uint64_t time = s->last < s->now ? s->last + 1 : s->now;
    if (thread == TRACE_NONE && s->gap_size) {
        s->none_time = ++s->gap_after;
        s->gap_size--;
        trace_writer_event(w, thread, wire, s->none_time, args);
        return;
    }
    uint64_t thread_time = thread == TRACE_NONE ? 0 : writer_thread_time(w, thread);
    say_at(w, thread, wire, time > thread_time ? time : thread_time, args);
}

// --- Announcements.

static int64_t thread_id(const struct put_state *s, uint32_t slot)
{
    return slot < s->thread_count ? s->threads[slot].id : TRACE_NONE;
}

// What is not on a thread is told on nobody's stream, which may lag behind those of threads.
void put_announce_proc(struct trace_writer *w, struct put_proc *p)
{
    struct put_state *s = w->put;
    int64_t thread = p->state == TRACE_PROC_RUNNING ? thread_id(s, p->thread) : TRACE_NONE;
    if (p->stamp == s->stamp)
        return;
    p->stamp = s->stamp;
    p->seq = 0;
    uint64_t status =
        p->state == TRACE_PROC_IDLE
            ? (p->is_lost ? TRACE_PROC_STATUS_SYSCALL_ABANDONED : TRACE_PROC_STATUS_IDLE)
        : p->in_syscall ? TRACE_PROC_STATUS_SYSCALL
                        : TRACE_PROC_STATUS_RUNNING;
    SAY_EARLY(w, thread, TRACE_EV_PROC_STATUS, (uint64_t)p->id, status);
    if (p->sweeps)
        SAY_EARLY(w, thread, TRACE_EV_GC_SWEEP_ACTIVE, (uint64_t)p->id);
}

void put_announce_go(struct trace_writer *w, struct put_go *g)
{
    struct put_state *s = w->put;
    if (!g->is_kept || g->stamp == s->stamp)
        return;
    g->stamp = s->stamp;
    g->seq = 0;
    bool is_bound = g->state == TRACE_GO_RUNNING || g->state == TRACE_GO_SYSCALL;
    int64_t thread = is_bound ? thread_id(s, g->thread) : TRACE_NONE;
    uint64_t stack = w->options.version >= 23 ? put_stack(w, s->reader, g->stack) : 0;
    SAY_EARLY(w, thread, stack ? TRACE_EV_GO_STATUS_STACK : TRACE_EV_GO_STATUS, (uint64_t)g->id,
              (uint64_t)thread, go_statuses[g->state], stack);
    if (g->assists)
        SAY_EARLY(w, thread, TRACE_EV_GC_ASSIST_ACTIVE, (uint64_t)g->id);
}

void put_announce_thread(struct trace_writer *w, uint32_t slot)
{
    struct put_state *s = w->put;
    if (slot >= s->thread_count)
        return;
    const struct put_thread *t = &s->threads[slot];
    if (t->proc != TRACE_NO_SLOT)
        put_announce_proc(w, &s->procs[t->proc]);
    if (t->go != TRACE_NO_SLOT)
        put_announce_go(w, &s->gos[t->go]);
}

// --- Following.

static void bind_proc(struct put_state *s, struct put_proc *p, uint32_t slot, uint32_t thread)
{
    p->thread = thread;
    if (thread != TRACE_NO_SLOT)
        s->threads[thread].proc = slot;
}

static void proc_leave(struct put_state *s, struct put_proc *p)
{
    if (p->thread != TRACE_NO_SLOT)
        s->threads[p->thread].proc = TRACE_NO_SLOT;
    p->thread = TRACE_NO_SLOT;
}

static void go_leave(struct put_state *s, struct put_go *g)
{
    if (g->thread != TRACE_NO_SLOT)
        s->threads[g->thread].go = TRACE_NO_SLOT;
    g->thread = TRACE_NO_SLOT;
}

static void go_note(struct put_state *s, const struct trace_event *ev, struct put_go *g)
{
    uint8_t to = ev->transition.to;
    if (ev->transition.stack && !(ev->transition.stack & TRACE_ID_TRANSIENT))
        g->stack = ev->transition.stack;
    if (to == TRACE_GO_RUNNING || to == TRACE_GO_SYSCALL) {
        g->thread = ev->thread_slot;
        if (g->thread != TRACE_NO_SLOT)
            s->threads[g->thread].go = ev->transition.slot;
    } else {
        go_leave(s, g);
    }
    g->state = to == TRACE_GO_NOT_EXIST ? 0 : to;
}

bool put_is_status(const struct trace_event *ev)
{
    return ev->wire == TRACE_EV_GO_STATUS || ev->wire == TRACE_EV_GO_STATUS_STACK ||
           ev->wire == TRACE_EV_PROC_STATUS;
}

// It is announced when it is mentioned.
static void put_proc_status(struct trace_writer *w, const struct trace_event *ev)
{
    struct put_proc *p = put_proc_at(w, ev->transition.slot);
    if (!p || p->state)
        return;
    *p = (struct put_proc){.id = ev->transition.id, .thread = TRACE_NO_SLOT};
    p->state = ev->transition.to;
    p->in_syscall = p->state == TRACE_PROC_RUNNING && ev->flags & TRACE_FLAG_SYSCALL;
    p->is_lost = p->state == TRACE_PROC_IDLE && ev->flags & TRACE_FLAG_SYSCALL;
    if (p->state == TRACE_PROC_RUNNING)
        bind_proc(w->put, p, ev->transition.slot, ev->thread_slot);
}

static void go_begin(struct trace_writer *w, const struct trace_event *ev, struct put_go *g)
{
    const struct trace_writer_options *o = &w->options;
    *g = (struct put_go){.id = ev->transition.id, .thread = TRACE_NO_SLOT};
    g->is_kept = !o->keeps_goroutine || o->keeps_goroutine(o->context, g->id);
}

// Something that was there at the end of the result, announced after it. Nothing that has happened
// since then is known; its slot may have been another's, which is announced now. What is said of
// their threads no longer counts: nothing is written there any more.
static void put_late(struct trace_writer *w, const struct trace_event *ev)
{
    if (ev->kind != TRACE_TRANSITION || !put_is_status(ev) || !w->generation)
        return;
    struct put_go *g = put_go_at(w, ev->transition.slot);
    if (ev->what == TRACE_RESOURCE_PROC) {
        if (ev->transition.from == TRACE_PROC_UNDETERMINED)
            put_proc_status(w, ev);
    } else if (g && ev->transition.from == TRACE_GO_UNDETERMINED) {
        if (g->state)
            put_announce_go(w, g);
        go_begin(w, ev, g);
        go_note(w->put, ev, g);
    }
}

// --- Transitions.

static void proc_steal(struct trace_writer *w, const struct trace_event *ev, struct put_proc *p)
{
    const struct put_state *s = w->put;
    if (ev->transition.from == TRACE_PROC_RUNNING && !p->in_syscall) {
        int64_t victim =
            p->thread == TRACE_NO_SLOT ? ev->transition.peer : s->threads[p->thread].id;
        SAY(w, victim, TRACE_EV_PROC_STOP, 0);
    } else if (p->in_syscall || p->is_lost) {
        SAY(w, ev->thread, TRACE_EV_PROC_STEAL, (uint64_t)p->id, ++p->seq,
            (uint64_t)ev->transition.peer);
    }
}

// The Proc of a Goroutine that ends in a system call: the event is derived, and it will be again.
static bool proc_is_lost(const struct put_state *s, const struct trace_event *ev,
                         const struct put_proc *p)
{
    return ev->flags & TRACE_FLAG_DERIVED && p->in_syscall && ev->goroutine_slot < s->go_count &&
           s->gos[ev->goroutine_slot].is_kept;
}

static void put_proc_event(struct trace_writer *w, const struct trace_event *ev, bool writes)
{
    struct put_state *s = w->put;
    struct put_proc *p = put_proc_at(w, ev->transition.slot);
    if (!p)
        return;
    if (put_is_status(ev)) {
        put_proc_status(w, ev);
        return;
    }
    bool gets_lost = proc_is_lost(s, ev, p);
    if (writes) {
        put_announce_thread(w, ev->thread_slot);
        put_announce_proc(w, p);
    }
    if (writes && !gets_lost) {
        if (ev->wire == TRACE_EV_PROC_START)
            SAY(w, ev->thread, TRACE_EV_PROC_START, (uint64_t)p->id, ++p->seq);
        else if (ev->wire == TRACE_EV_PROC_STOP || ev->flags & TRACE_FLAG_DERIVED)
            SAY(w, ev->thread, TRACE_EV_PROC_STOP, 0);
        else
            proc_steal(w, ev, p);
    }
    p->state = ev->transition.to;
    p->in_syscall = false;
    p->is_lost = gets_lost;
    if (p->state == TRACE_PROC_RUNNING)
        bind_proc(s, p, ev->transition.slot, ev->thread_slot);
    else if (!gets_lost)
        proc_leave(s, p);
}

static void go_write(struct trace_writer *w, const struct trace_event *ev, struct put_go *g)
{
    struct put_state *s = w->put;
    struct put_proc *p = ev->proc_slot < s->proc_count ? &s->procs[ev->proc_slot] : NULL;
    uint64_t stack = put_stack(w, s->reader, ev->stack), id = (uint64_t)g->id;
    uint64_t reason = put_string(w, s->reader, ev->transition.reason);
    uint8_t from = ev->transition.from, to = ev->transition.to;
    if (from == TRACE_GO_NOT_EXIST && to == TRACE_GO_SYSCALL)
        SAY(w, ev->thread, TRACE_EV_GO_CREATE_SYSCALL, id);
    else if (from == TRACE_GO_NOT_EXIST)
        SAY(w, ev->thread, to == TRACE_GO_WAITING ? TRACE_EV_GO_CREATE_BLOCKED : TRACE_EV_GO_CREATE,
            id, put_stack(w, s->reader, ev->transition.stack), stack);
    else if (to == TRACE_GO_NOT_EXIST)
        SAY(w, ev->thread,
            from == TRACE_GO_SYSCALL ? TRACE_EV_GO_DESTROY_SYSCALL : TRACE_EV_GO_DESTROY, 0);
    else if (from == TRACE_GO_RUNNABLE && to == TRACE_GO_RUNNING)
        SAY(w, ev->thread, TRACE_EV_GO_START, id, ++g->seq);
    else if (from == TRACE_GO_WAITING && to == TRACE_GO_RUNNABLE)
        SAY(w, ev->thread, TRACE_EV_GO_UNBLOCK, id, ++g->seq, stack);
    else if (from == TRACE_GO_RUNNING && to == TRACE_GO_SYSCALL && p) {
        SAY(w, ev->thread, TRACE_EV_GO_SYSCALL_BEGIN, ++p->seq, stack);
        p->in_syscall = true;
    } else if (from == TRACE_GO_RUNNING)
        SAY(w, ev->thread, to == TRACE_GO_WAITING ? TRACE_EV_GO_BLOCK : TRACE_EV_GO_STOP, reason,
            stack);
    else if (from == TRACE_GO_SYSCALL && to == TRACE_GO_RUNNING && p) {
        SAY(w, ev->thread, TRACE_EV_GO_SYSCALL_END, 0);
        p->in_syscall = false;
    } else if (from == TRACE_GO_SYSCALL)
        SAY(w, ev->thread, TRACE_EV_GO_SYSCALL_END_BLOCKED, 0);
}

// Said to be in a system call, but with a Goroutine that is not in the result.
static void proc_just_runs(struct put_state *s, uint32_t thread)
{
    uint32_t proc = thread < s->thread_count ? s->threads[thread].proc : TRACE_NO_SLOT;
    if (proc != TRACE_NO_SLOT && s->procs[proc].stamp != s->stamp)
        s->procs[proc].in_syscall = false;
}

static void put_go_event(struct trace_writer *w, const struct trace_event *ev, bool writes)
{
    struct put_state *s = w->put;
    struct put_go *g = put_go_at(w, ev->transition.slot);
    if (!g)
        return;
    if (put_is_status(ev)) {
        if (g->state)
            return;
        go_begin(w, ev, g);
        go_note(s, ev, g);
        if (!g->is_kept && g->state == TRACE_GO_SYSCALL)
            proc_just_runs(s, g->thread);
        if (writes && g->is_kept && g->thread != TRACE_NO_SLOT)
            put_announce_thread(w, g->thread); // it runs from now on
        return;
    }
    bool is_new = ev->transition.from == TRACE_GO_NOT_EXIST;
    if (is_new)
        go_begin(w, ev, g);
    if (writes && g->is_kept) {
        put_announce_thread(w, ev->thread_slot);
        if (!is_new)
            put_announce_go(w, g);
        go_write(w, ev, g);
        g->stamp = s->stamp;
    } else if (g->is_kept && ev->proc_slot < s->proc_count) {
        // Not written, but the Proc is in a system call with it when it will be announced.
        struct put_proc *p = &s->procs[ev->proc_slot];
        if (ev->transition.to == TRACE_GO_SYSCALL && ev->transition.from == TRACE_GO_RUNNING)
            p->in_syscall = true;
        if (ev->wire == TRACE_EV_GO_SYSCALL_END)
            p->in_syscall = false;
    }
    go_note(s, ev, g);
    if (!g->state && ev->wire == TRACE_EV_GO_DESTROY_SYSCALL && ev->thread_slot < s->thread_count) {
        uint32_t proc = s->threads[ev->thread_slot].proc;
        if (proc != TRACE_NO_SLOT && s->procs[proc].is_lost)
            proc_leave(s, &s->procs[proc]);
    }
}

// --- The rest.

static void put_event(struct trace_writer *w, const struct trace_event *ev, bool writes)
{
    switch (ev->kind) {
    case TRACE_TRANSITION:
        if (ev->what == TRACE_RESOURCE_PROC)
            put_proc_event(w, ev, writes);
        else
            put_go_event(w, ev, writes);
        break;
    case TRACE_METRIC: put_metric(w, ev, writes); break;
    case TRACE_RANGE_BEGIN:
    case TRACE_RANGE_ACTIVE:
    case TRACE_RANGE_END: put_range(w, ev, writes); break;
    case TRACE_STACK_SAMPLE:
        if (writes)
            put_sample(w, ev);
        break;
    case TRACE_EXPERIMENTAL: break;
    default:
        if (writes)
            put_annotation(w, ev);
        break;
    }
}

int trace_writer_put(struct trace_writer *w, const struct trace_reader *r,
                     const struct trace_event *ev)
{
    int64_t from_ns = w->options.from_ns, to_ns = w->options.to_ns;
    if (trace_reader_version(r) < 22 && !w->error)
        w->error = -ENOTSUP;
    if (w->error || put_prepare(w, r, ev))
        return w->error;
    struct put_state *s = w->put;
    bool is_late = to_ns && ev->time_ns > to_ns;
    if (s->is_over)
        return 0;
    s->now = put_ticks(w, is_late ? to_ns : ev->time_ns);
    if (ev->kind == TRACE_SYNC)
        put_note_clock(w);
    bool is_end = ev->kind == TRACE_SYNC && !ev->sync.generation;
    if (!w->generation && ev->time_ns >= from_ns && (from_ns || !is_end))
        put_begin(w, from_ns ? put_ticks(w, from_ns) : s->now);
    if (ev->kind == TRACE_SYNC)
        put_sync(w, ev, is_late);
    else if (is_late)
        put_late(w, ev);
    else {
        if (w->generation)
            put_debts(w, ev);
        put_event(w, ev, w->generation != 0);
    }
    return w->error;
}
