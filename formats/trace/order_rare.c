// SPDX-License-Identifier: MIT
//
// The orderer, for what happens once per generation or in system calls that block: statuses, stolen
// Procs, Goroutines of foreign threads; and what needs no order of its own: labels, logs,
// experiments.

#include "formats/trace/order.h"
#include "formats/trace/order_ranges.h"

int order_bad_args(struct trace_reader *r, const struct cursor *c)
{
    return cursor_fail(r, c, -EINVAL, TRACE_RULE_EVENT,
                       "its arguments do not end within the batch, or are no numbers");
}

int order_bad_context(struct trace_reader *r, const struct cursor *c, unsigned must, unsigned not )
{
    static const char *const names[] = {"thread", "Proc", "Goroutine"};
    unsigned has = c->thread->has;
    for (unsigned i = 0; i < 3; i++) {
        if (must & ~has & 1u << i)
            return cursor_fail(r, c, -EINVAL, TRACE_RULE_CONTEXT, "needs a %s, its thread has none",
                               names[i]);
        if (not &has & 1u << i)
            return cursor_fail(r, c, -EINVAL, TRACE_RULE_CONTEXT,
                               "must not have a %s, its thread has one", names[i]);
    }
    return -EINVAL;
}

int order_bad_id(struct trace_reader *r, const struct cursor *c, const char *what, uint64_t id)
{
    if (reader_may_lack(r))
        return 0;
    return cursor_fail(r, c, -EINVAL, TRACE_RULE_ID, "names %s %llu, which its generation has not",
                       what, (unsigned long long)id);
}

int order_no_memory(struct trace_reader *r, const struct cursor *c, int rc)
{
    return cursor_fail(r, c, rc, TRACE_RULE_SYSTEM,
                       rc == -EFBIG ? "more lives at one time than %llu bytes of memory can hold"
                                    : "out of memory (of the limit of %llu bytes)",
                       (unsigned long long)r->state.bytes_max);
}

int order_bad_status(struct trace_reader *r, const struct cursor *c, const struct state_go *g,
                     const char *wanted)
{
    if (!g)
        return cursor_fail(r, c, -EINVAL, TRACE_RULE_EXISTS,
                           "the Goroutine of its thread does not exist");
    return cursor_fail(r, c, -EINVAL, TRACE_RULE_STATUS, "Goroutine %lld is not %s",
                       (long long)g->id, wanted);
}

static const uint8_t go_states[] = {
    [TRACE_GO_STATUS_RUNNABLE] = TRACE_GO_RUNNABLE,
    [TRACE_GO_STATUS_RUNNING] = TRACE_GO_RUNNING,
    [TRACE_GO_STATUS_SYSCALL] = TRACE_GO_SYSCALL,
    [TRACE_GO_STATUS_WAITING] = TRACE_GO_WAITING,
};

static const uint8_t proc_states[] = {
    [TRACE_PROC_STATUS_RUNNING] = TRACE_PROC_RUNNING,
    [TRACE_PROC_STATUS_IDLE] = TRACE_PROC_IDLE,
    [TRACE_PROC_STATUS_SYSCALL] = TRACE_PROC_RUNNING,
    [TRACE_PROC_STATUS_SYSCALL_ABANDONED] = TRACE_PROC_IDLE,
};

// A Proc's first mention: from is what it was, to what it is. The state struct in *out.
static int proc_announce(struct trace_reader *r, struct cursor *c, uint64_t id, uint8_t status,
                         uint8_t *from, struct state_proc **out)
{
    struct state_proc *p = state_find_proc(&r->state, id);
    if (!p) {
        int rc = state_add_proc(&r->state, id, status, &p);
        if (rc)
            return order_no_memory(r, c, rc);
        *from =
            r->gen.number == r->generation_first ? TRACE_PROC_UNDETERMINED : TRACE_PROC_NOT_EXIST;
    } else if (status == TRACE_PROC_STATUS_SYSCALL_ABANDONED &&
               p->status == TRACE_PROC_STATUS_SYSCALL) {
        *from = TRACE_PROC_RUNNING; // we know the thread that it will be stolen from
    } else if (p->status != status) {
        return cursor_fail(r, c, -EINVAL, TRACE_RULE_STATUS,
                           "Proc %lld is said to be %u, but is %u", (long long)id, status,
                           p->status);
    } else {
        *from = proc_states[status];
    }
    p->seq = order_seq(r, 0);
    *out = p;
    return 0;
}

static int proc_status(struct trace_reader *r, struct cursor *c)
{
    const unsigned char *at;
    uint64_t v[2]; // p, status
    if (!cursor_args(c, &at, v, 2))
        return order_bad_args(r, c);
    if (v[1] < TRACE_PROC_STATUS_RUNNING || v[1] > TRACE_PROC_STATUS_SYSCALL_ABANDONED)
        return cursor_fail(r, c, -EINVAL, TRACE_RULE_EVENT, "%llu is no status of a Proc",
                           (unsigned long long)v[1]);
    uint8_t status = (uint8_t)v[1], from = TRACE_PROC_UNDETERMINED;
    struct state_proc *p = NULL;
    int rc = proc_announce(r, c, v[0], status, &from, &p);
    if (rc)
        return rc;
    struct state_thread *t = c->thread;
    bool binds = status == TRACE_PROC_STATUS_RUNNING || status == TRACE_PROC_STATUS_SYSCALL;
    if (binds && p->owner && p->owner != t && !r->lenient)
        return cursor_fail(r, c, -EINVAL, TRACE_RULE_PROC_TWICE,
                           "Proc %lld runs on thread %lld already", (long long)p->id,
                           (long long)p->owner->id);
    if (status == TRACE_PROC_STATUS_SYSCALL_ABANDONED && from == TRACE_PROC_RUNNING) {
        // The thief says so: the event belongs to the thread that still has the Proc.
        if (!p->owner)
            return cursor_fail(r, c, -EINVAL, TRACE_RULE_STATUS,
                               "Proc %lld is in a system call, but of no thread", (long long)p->id);
        struct trace_event *ev = order_proc_event(r, c, p, from, TRACE_PROC_RUNNING);
        ev->thread = p->owner->id;
        ev->proc = p->id;
        ev->goroutine = p->owner->go_id;
        ev->thread_slot = p->owner->slot;
        ev->proc_slot = p->slot;
        ev->goroutine_slot = p->owner->go_slot;
        ev->flags = TRACE_FLAG_SYSCALL;
        return order_done(c, at);
    }
    struct trace_event *ev = order_proc_event(r, c, p, from, proc_states[status]);
    if (status >= TRACE_PROC_STATUS_SYSCALL)
        ev->flags = TRACE_FLAG_SYSCALL;
    if (binds)
        state_bind_proc(t, p);
    return order_done(c, at);
}

static int proc_steal(struct trace_reader *r, struct cursor *c)
{
    const unsigned char *at;
    uint64_t v[3]; // p, seq, thread
    if (!cursor_args(c, &at, v, 3))
        return order_bad_args(r, c);
    struct state_proc *p = state_find_proc(&r->state, v[0]);
    if (!p || !order_follows(r, v[1], &p->seq) ||
        (p->status != TRACE_PROC_STATUS_SYSCALL &&
         p->status != TRACE_PROC_STATUS_SYSCALL_ABANDONED))
        return 0;
    int rc = order_need(r, c, STATE_HAS_THREAD, 0);
    if (rc)
        return rc;
    bool was_abandoned = p->status == TRACE_PROC_STATUS_SYSCALL_ABANDONED;
    struct state_thread *from = NULL;
    if (!was_abandoned) {
        from = state_find_thread(&r->state, (int64_t)v[2]);
        if (!from || !from->is_seen)
            return cursor_fail(r, c, -EINVAL, TRACE_RULE_EXISTS,
                               "steals Proc %lld from thread %lld, which does not exist",
                               (long long)v[0], (long long)v[2]);
        if (from->proc_id != p->id)
            return cursor_fail(r, c, -EINVAL, TRACE_RULE_STATUS,
                               "steals Proc %lld from thread %lld, which has %lld", (long long)v[0],
                               (long long)v[2], (long long)from->proc_id);
    }
    p->status = TRACE_PROC_STATUS_IDLE;
    p->seq.seq = v[1];
    struct trace_event *ev = order_proc_event(
        r, c, p, was_abandoned ? TRACE_PROC_IDLE : TRACE_PROC_RUNNING, TRACE_PROC_IDLE);
    ev->transition.peer = (int64_t)v[2];
    if (from)
        state_bind_proc(from, NULL); // it may come out of its system call now
    return order_done(c, at);
}

// A Goroutine in a system call of thread v[1]: *t is that thread, *is_bound whether it had it.
static int go_status_syscall(struct trace_reader *r, struct cursor *c, const struct state_go *g,
                             int64_t thread, struct state_thread **t)
{
    if (thread == TRACE_NONE)
        return cursor_fail(r, c, -EINVAL, TRACE_RULE_STATUS,
                           "Goroutine %lld is in a system call of no thread", (long long)g->id);
    *t = c->thread->id == thread ? c->thread : state_find_thread(&r->state, thread);
    bool must_have = *t && (*t == c->thread ? r->gen.number != r->generation_first : (*t)->is_seen);
    if (must_have && (*t)->go_id != g->id)
        return cursor_fail(
            r, c, -EINVAL, TRACE_RULE_STATUS,
            "Goroutine %lld is said to be in a system call of thread %lld, which has "
            "Goroutine %lld",
            (long long)g->id, (long long)thread, (long long)(*t)->go_id);
    int rc = *t ? 0 : state_add_thread(&r->state, thread, t);
    if (!rc)
        (*t)->is_seen = true;
    return rc ? order_no_memory(r, c, rc) : 0;
}

static int go_status(struct trace_reader *r, struct cursor *c)
{
    const unsigned char *at;
    uint64_t v[4] = {0}; // g, thread, status, stack
    uint32_t stack;
    if (!cursor_args(c, &at, v, c->wire == TRACE_EV_GO_STATUS_STACK ? 4 : 3))
        return order_bad_args(r, c);
    if (v[2] < TRACE_GO_STATUS_RUNNABLE || v[2] > TRACE_GO_STATUS_WAITING)
        return cursor_fail(r, c, -EINVAL, TRACE_RULE_EVENT, "%llu is no status of a Goroutine",
                           (unsigned long long)v[2]);
    uint8_t status = (uint8_t)v[2], from = go_states[status];
    int rc = order_stack(r, c, v[3], &stack);
    struct state_go *g = state_find_go(&r->state, v[0]);
    if (!rc && g && g->status != status)
        rc = cursor_fail(r, c, -EINVAL, TRACE_RULE_STATUS,
                         "Goroutine %lld is said to be %s, but is %s", (long long)v[0],
                         trace_go_state_name(from), trace_go_state_name(go_states[g->status]));
    if (!rc && !g && r->gen.number != r->generation_first)
        rc = cursor_fail(r, c, -EINVAL, TRACE_RULE_EXISTS,
                         "Goroutine %lld was neither announced in the first generation nor created",
                         (long long)v[0]);
    if (rc)
        return rc;
    if (!g) {
        rc = state_add_go(&r->state, v[0], status, &g);
        if (rc)
            return order_no_memory(r, c, rc);
        from = TRACE_GO_UNDETERMINED;
    }
    g->seq = order_seq(r, 0);
    struct state_thread *t = c->thread;
    if (status == TRACE_GO_STATUS_SYSCALL) {
        rc = go_status_syscall(r, c, g, (int64_t)v[1], &t);
        if (rc)
            return rc;
    }
    struct trace_event *ev = order_go_event(r, c, g, from, go_states[status]);
    ev->stack = ev->transition.stack = stack;
    ev->transition.peer = (int64_t)v[1];
    if (t != c->thread) { // the event is about that thread, not of it
        ev->thread = t->id;
        ev->thread_slot = t->slot;
        if (t->go_id != TRACE_NONE) {
            ev->goroutine = t->go_id;
            ev->goroutine_slot = t->go_slot;
        }
    }
    if (status == TRACE_GO_STATUS_RUNNING || status == TRACE_GO_STATUS_SYSCALL)
        state_bind_go(t, g);
    return order_done(c, at);
}

static int go_create_syscall(struct trace_reader *r, struct cursor *c)
{
    const unsigned char *at;
    uint64_t v[1];
    struct state_go *g;
    if (!cursor_args(c, &at, v, 1))
        return order_bad_args(r, c);
    int rc = order_need(r, c, STATE_HAS_THREAD, STATE_HAS_GO);
    if (rc)
        return rc;
    if (state_find_go(&r->state, v[0]))
        return cursor_fail(r, c, -EINVAL, TRACE_RULE_EXISTS, "Goroutine %lld exists already",
                           (long long)v[0]);
    rc = state_add_go(&r->state, v[0], TRACE_GO_STATUS_SYSCALL, &g);
    if (rc)
        return order_no_memory(r, c, rc);
    g->seq = order_seq(r, 0);
    order_go_event(r, c, g, TRACE_GO_NOT_EXIST, TRACE_GO_SYSCALL);
    state_bind_go(c->thread, g);
    return order_done(c, at);
}

// The end of a foreign thread's Goroutine. The thread's number may be used again by another thread
// at once, so a Proc that it still has is taken as lost: an event of its own, before this one.
static int go_destroy_syscall(struct trace_reader *r, struct cursor *c)
{
    int rc = order_need(r, c, STATE_HAS_THREAD | STATE_HAS_GO, 0);
    if (rc)
        return rc;
    struct state_thread *t = c->thread;
    struct state_go *g = state_go_of(&r->state, t);
    if (!g || g->status != TRACE_GO_STATUS_SYSCALL)
        return order_bad_status(r, c, g, "in a system call");
    struct state_proc *p = t->proc;
    if (p && p->status != TRACE_PROC_STATUS_SYSCALL)
        return cursor_fail(r, c, -EINVAL, TRACE_RULE_STATUS,
                           "Proc %lld is not in a system call with its Goroutine",
                           (long long)p->id);
    if (p) {
        struct trace_event *ev = order_proc_event(r, c, p, TRACE_PROC_RUNNING, TRACE_PROC_IDLE);
        ev->flags = TRACE_FLAG_DERIVED;
        ev->transition.peer = t->id;
        p->status = TRACE_PROC_STATUS_SYSCALL_ABANDONED;
    }
    struct trace_event *ev = order_go_event(r, c, g, TRACE_GO_SYSCALL, TRACE_GO_NOT_EXIST);
    ev->flags = 0;
    state_bind_proc(t, NULL);
    state_bind_go(t, NULL);
    state_remove_go(&r->state, g);
    return 1;
}

static int label(struct trace_reader *r, struct cursor *c)
{
    const unsigned char *at;
    uint64_t v[1];
    uint32_t text;
    if (!cursor_args(c, &at, v, 1))
        return order_bad_args(r, c);
    int rc = order_need(r, c, STATE_HAS_ALL, 0);
    if (!rc)
        rc = order_string(r, c, v[0], &text);
    if (rc)
        return rc;
    order_emit(r, c, c->thread, TRACE_LABEL, 0)->label.text = text;
    return order_done(c, at);
}

static int log_event(struct trace_reader *r, struct cursor *c)
{
    const unsigned char *at;
    uint64_t v[4]; // task, category, message, stack
    uint32_t category, stack, place = 0;
    if (!cursor_args(c, &at, v, 4))
        return order_bad_args(r, c);
    int rc = order_need(r, c, STATE_HAS_ALL, 0);
    if (!rc)
        rc = order_string(r, c, v[1], &category);
    if (!rc)
        rc = order_stack(r, c, v[3], &stack);
    if (rc)
        return rc;
    if (v[2]) {
        place = id_find(&r->gen.string_index, v[2]);
        if (!place && !reader_may_lack(r))
            return order_bad_id(r, c, "string", v[2]);
    }
    // Messages are as many as events: they are not interned.
    bool is_empty = !place || r->gen.strings[place - 1].size_bytes == 0;
    struct trace_event *ev = order_emit(r, c, c->thread, TRACE_LOG, 0);
    ev->stack = stack;
    ev->log.task = v[0];
    ev->log.category = category;
    ev->log.message = is_empty ? 0 : TRACE_ID_TRANSIENT | (place - 1);
    return order_done(c, at);
}

static int experimental(struct trace_reader *r, struct cursor *c)
{
    const unsigned char *at;
    uint64_t v[TRACE_ARGS_MAX] = {0};
    if (!cursor_args(c, &at, v, trace_spec_of(c->wire)->arg_count))
        return order_bad_args(r, c);
    int rc = order_need(r, c, STATE_HAS_THREAD, 0);
    if (rc)
        return rc;
    struct trace_event *ev = order_emit(r, c, c->thread, TRACE_EXPERIMENTAL, 0);
    memcpy(ev->experimental.args, v, sizeof v);
    return order_done(c, at);
}

int order_rare(struct trace_reader *r, struct cursor *c)
{
    switch (c->wire) {
    case TRACE_EV_PROC_STATUS: return proc_status(r, c);
    case TRACE_EV_PROC_STEAL: return proc_steal(r, c);
    case TRACE_EV_GO_STATUS:
    case TRACE_EV_GO_STATUS_STACK: return go_status(r, c);
    case TRACE_EV_GO_CREATE_SYSCALL: return go_create_syscall(r, c);
    case TRACE_EV_GO_DESTROY_SYSCALL: return go_destroy_syscall(r, c);
    case TRACE_EV_GO_LABEL: return label(r, c);
    case TRACE_EV_LOG: return log_event(r, c);
    default: break;
    }
    if (trace_spec_of(c->wire)->is_experimental)
        return experimental(r, c);
    return order_ranges(r, c);
}
