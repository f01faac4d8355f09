// SPDX-License-Identifier: MIT
//
// The tree of contexts. A scope can be cancelled; a value only names something and has the scope that it lies in.
//
// What always holds
//   - refs counts callers' references; holds keeps the memory: one for all refs, one for each child, one for a
//     running timer, one for who is cancelling it. A child holds its parent, the parent only lists its child scopes.
//   - Mutexes are taken from the root downwards. The list of children and who is in it are guarded by the mutex of the
//     scope that has the list.
//   - cancel_all has the mutex of each scope from where it began down to where it is, until all below are cancelled: so
//     a second cancel of any of them returns when that is done, too, and a new child is either in the list
//     before, or sees the error.
//   - `error` is set before the channel is closed, and read as set only when that is closed.

#include "runtime/sync/owner.h"

#include "fiberscope/chan.h"

#include <errno.h>
#include <stdlib.h>

struct scope;

struct fib_ctx {
    _Atomic uint32_t refs, holds;
    struct fib_ctx *parent;
    struct scope *scope; // the nearest upwards, itself included; NULL: none
    const void *key;
    void *value;
};

struct scope {
    struct fib_ctx ctx;
    struct fib_mutex mutex;
    _Atomic int error;
    int cause;
    _Atomic bool is_closed; // the channel is
    bool has_timer, has_deadline;
    struct fib_chan *done;
    struct scope *children;
    struct scope *next, *prev;       // in its list
    struct scope *_Atomic listed_in; // NULL: in none (any more)
    struct scope *up;                // cancel_all's way back
    int64_t deadline_ns;             // its own or that of an ancestor, the earliest
    struct fib_timer timer;
};

static struct fib_ctx background;

static void scope_lock(struct scope *s)
{
    mutex_lock_as(&s->mutex, -1, WAIT_MUTEX, s, "fib_ctx");
}

static void scope_unlock(struct scope *s)
{
    mutex_unlock_as(&s->mutex, "fib_ctx");
}

static bool is_scope(const struct fib_ctx *c)
{
    return c->scope && &c->scope->ctx == c;
}

// --- Memory.

static void hold(struct fib_ctx *c)
{
    if (c != &background)
        atomic_fetch_add_explicit(&c->holds, 1, memory_order_relaxed);
}

// False: nobody holds it, its end has begun.
static bool hold_if_alive(struct fib_ctx *c)
{
    uint32_t n = atomic_load_explicit(&c->holds, memory_order_relaxed);
    while (n)
        if (atomic_compare_exchange_weak_explicit(&c->holds, &n, n + 1, memory_order_relaxed,
                                                  memory_order_relaxed))
            return true;
    return false;
}

// With the mutex of listed_in.
static void unlist(struct scope *s, struct scope *from)
{
    if (s->prev)
        s->prev->next = s->next;
    else
        from->children = s->next;
    if (s->next)
        s->next->prev = s->prev;
    // release: pairs with the acquire in scope_finish, which may then free s
    atomic_store_explicit(&s->listed_in, NULL, memory_order_release);
}

static void scope_finish(struct scope *s)
{
    // Who unlisted it meanwhile held it, or it would not have come here.
    struct scope *in = atomic_load_explicit(&s->listed_in, memory_order_acquire);
    if (in) {
        scope_lock(in);
        if (atomic_load_explicit(&s->listed_in, memory_order_relaxed))
            unlist(s, in);
        scope_unlock(in);
    }
    fib_chan_free(s->done);
}

static void drop(struct fib_ctx *c)
{
    // acq_rel: the last one sees what the others did
    while (c != &background && atomic_fetch_sub_explicit(&c->holds, 1, memory_order_acq_rel) == 1) {
        struct fib_ctx *parent = c->parent;
        if (is_scope(c))
            scope_finish(c->scope);
        free(c);
        c = parent;
    }
}

// --- Cancelling.

// With its mutex.
static void scope_close(struct scope *s, int error, int cause)
{
    s->cause = cause;
    atomic_store_explicit(&s->error, error, memory_order_release); // shows the cause
    fib_chan_close(s->done);
    atomic_store_explicit(&s->is_closed, true, memory_order_release); // pairs with fib_ctx_error
    // The timer's hold; the caller has another. release: pairs with the acquire in drop
    if (s->has_timer && fib_timer_stop(&s->timer))
        atomic_fetch_sub_explicit(&s->ctx.holds, 1, memory_order_release);
}

static int scope_error(struct scope *s)
{
    return atomic_load_explicit(&s->error, memory_order_acquire);
}

// A child that is not cancelled yet, held, out of the list, with its mutex; NULL: no more.
static struct scope *next_child(struct scope *s)
{
    struct scope *child = s->children;
    while (child) {
        struct scope *next = child->next;
        // One whose end has begun waits for our mutex, to leave the list itself.
        if (hold_if_alive(&child->ctx)) {
            unlist(child, s);
            scope_lock(child);
            if (!scope_error(child))
                return child;
            scope_unlock(child);
            drop(&child->ctx);
        }
        child = next;
    }
    return NULL;
}

// The caller holds root. No recursion: trees may be deep, and stacks are small.
static void cancel_all(struct scope *root, int error, int cause)
{
    scope_lock(root);
    if (scope_error(root)) {
        scope_unlock(root);
        return;
    }
    scope_close(root, error, cause);
    struct scope *s = root;
    for (;;) {
        struct scope *child = next_child(s);
        if (child) {
            scope_close(child, error, cause);
            child->up = s;
            s = child;
            continue;
        }
        struct scope *up = s->up;
        s->up = NULL;
        scope_unlock(s);
        if (s == root)
            return;
        drop(&s->ctx);
        s = up;
    }
}

static void expire(void *arg)
{
    struct scope *s = arg;
    cancel_all(s, -ETIMEDOUT, -ETIMEDOUT);
    drop(&s->ctx);
}

FIB_PUBLIC void fib_ctx_cancel(struct fib_ctx *c, int cause)
{
    seed_point();
    if (!is_scope(c))
        rt_fatal("fib_ctx_cancel", "the background and contexts with a value have no cancellation "
                                   "of their own");
    if (cause > 0)
        rt_fatal("fib_ctx_cancel", "the cause is a negative errno or 0, not %d", cause);
    cancel_all(c->scope, -ECANCELED, cause ? cause : -ECANCELED);
}

// --- Making them.

FIB_PUBLIC struct fib_ctx *fib_ctx_background(void)
{
    return &background;
}

static void ctx_init(struct fib_ctx *c, struct fib_ctx *parent, const char *call)
{
    if (!parent)
        rt_fatal(call, "the parent is NULL; the root is fib_ctx_background()");
    atomic_init(&c->refs, 1);
    atomic_init(&c->holds, 1);
    c->parent = parent;
    c->scope = parent->scope;
    hold(parent);
}

static struct scope *scope_new(struct fib_ctx *parent, const char *call)
{
    struct scope *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->done = fib_chan_new(0, 0);
    if (!s->done) {
        free(s);
        return NULL;
    }
    ctx_init(&s->ctx, parent, call);
    struct scope *in = s->ctx.scope;
    s->ctx.scope = s;
    if (!in)
        return s;
    s->has_deadline = in->has_deadline;
    s->deadline_ns = in->deadline_ns;
    scope_lock(in);
    int error = scope_error(in), cause = in->cause;
    if (!error) {
        s->next = in->children;
        if (s->next)
            s->next->prev = s;
        in->children = s;
        atomic_store_explicit(&s->listed_in, in, memory_order_relaxed);
    }
    scope_unlock(in);
    if (error)
        cancel_all(s, error, cause);
    return s;
}

FIB_PUBLIC struct fib_ctx *fib_ctx_with_cancel(struct fib_ctx *parent)
{
    struct scope *s = scope_new(parent, "fib_ctx_with_cancel");
    return s ? &s->ctx : NULL;
}

static struct fib_ctx *with_deadline(struct fib_ctx *parent, int64_t deadline_ns, int64_t now,
                                     const char *call)
{
    struct scope *s = scope_new(parent, call);
    if (!s)
        return NULL;
    if (s->has_deadline && s->deadline_ns <= deadline_ns)
        return &s->ctx; // its parent's comes first, and cancels it
    s->has_deadline = true;
    s->deadline_ns = deadline_ns;
    if (deadline_ns <= now) {
        cancel_all(s, -ETIMEDOUT, -ETIMEDOUT);
        return &s->ctx;
    }
    scope_lock(s);
    if (!scope_error(s)) {
        s->has_timer = true;
        hold(&s->ctx);
        fib_timer_start(&s->timer, deadline_ns - now, 0, expire, s);
    }
    scope_unlock(s);
    return &s->ctx;
}

FIB_PUBLIC struct fib_ctx *fib_ctx_with_deadline(struct fib_ctx *parent, int64_t deadline_ns)
{
    return with_deadline(parent, deadline_ns, fib_now_ns(), "fib_ctx_with_deadline");
}

FIB_PUBLIC struct fib_ctx *fib_ctx_with_timeout(struct fib_ctx *parent, int64_t timeout_ns)
{
    int64_t now = fib_now_ns();
    if (timeout_ns < 0) // as everywhere: without end
        return fib_ctx_with_cancel(parent);
    int64_t when = timeout_ns < INT64_MAX - now ? now + timeout_ns : INT64_MAX;
    return with_deadline(parent, when, now, "fib_ctx_with_timeout");
}

FIB_PUBLIC struct fib_ctx *fib_ctx_with_value(struct fib_ctx *parent, const void *key, void *value)
{
    struct fib_ctx *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    ctx_init(c, parent, "fib_ctx_with_value");
    c->key = key;
    c->value = value;
    return c;
}

FIB_PUBLIC struct fib_ctx *fib_ctx_ref(struct fib_ctx *c)
{
    if (c && c != &background && !atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed))
        rt_fatal("fib_ctx_ref", "no reference to it was left");
    return c;
}

FIB_PUBLIC void fib_ctx_unref(struct fib_ctx *c)
{
    if (!c || c == &background)
        return;
    // acq_rel: the last one sees what the others did
    uint32_t before = atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel);
    if (!before)
        rt_fatal("fib_ctx_unref", "no reference to it was left");
    if (before > 1)
        return;
    if (is_scope(c))
        cancel_all(c->scope, -ECANCELED, -ECANCELED);
    drop(c);
}

// --- Asking.

FIB_PUBLIC struct fib_chan *fib_ctx_done(struct fib_ctx *c)
{
    return c->scope ? c->scope->done : NULL;
}

FIB_PUBLIC int fib_ctx_error(struct fib_ctx *c)
{
    seed_point();
    int error = c->scope ? scope_error(c->scope) : 0;
    // Whoever sees the error finds the channel closed.
    if (error && !atomic_load_explicit(&c->scope->is_closed, memory_order_acquire))
        fib_chan_recv(c->scope->done, NULL);
    return error;
}

FIB_PUBLIC int fib_ctx_cause(struct fib_ctx *c)
{
    return fib_ctx_error(c) ? c->scope->cause : 0;
}

FIB_PUBLIC bool fib_ctx_deadline(struct fib_ctx *c, int64_t *deadline_ns)
{
    if (!c->scope || !c->scope->has_deadline)
        return false;
    *deadline_ns = c->scope->deadline_ns;
    return true;
}

FIB_PUBLIC void *fib_ctx_value(struct fib_ctx *c, const void *key)
{
    for (; c && c != &background; c = c->parent)
        if (!is_scope(c) && c->key == key)
            return c->value;
    return NULL;
}

FIB_PUBLIC int fib_ctx_sleep(struct fib_ctx *c, int64_t ns)
{
    struct fib_chan *done = fib_ctx_done(c);
    if (!done || ns <= 0) {
        int error = fib_ctx_error(c);
        if (!error)
            fib_sleep(ns);
        return error;
    }
    return fib_chan_recv_for(done, NULL, ns) == -ETIMEDOUT ? 0 : fib_ctx_error(c);
}
