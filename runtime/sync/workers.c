// SPDX-License-Identifier: MIT
//
// The worker pool. All under one mutex: a ring of tasks, the counters, and whether it drains.
// submitted == done + dropped + queued + running, always. A failed or timed-out task is done, too.

#include "runtime/sync/owner.h"

#include <errno.h>
#include <stdlib.h>

enum { QUEUE_DEFAULT = 1024 };

struct task {
    fib_task_fn *fn;
    void *arg;
};

struct fib_workers {
    struct fib_ctx *ctx;
    struct fib_ctx *cancelled; // for dropped tasks
    struct fib_mutex mutex;
    struct fib_cond has_task, has_room;
    struct fib_waitgroup alive;
    enum fib_overflow overflow;
    int64_t task_timeout_ns;
    bool is_draining;
    struct fib_workers_counts counts;
    uint32_t head, size; // the ring: counts.queued from head on
    struct task ring[];
};

// What a worker keeps for a task in which the fiber may end.
struct work {
    struct fib_workers *w;
    struct fib_ctx *ctx; // NULL: the pool's
    struct exit_hook hook;
};

static void worker(void *arg);

static bool ring_is_full(const struct fib_workers *w)
{
    return w->counts.queued == w->size;
}

static void ring_put(struct fib_workers *w, struct task t)
{
    w->ring[(w->head + w->counts.queued++) % w->size] = t;
}

static struct task ring_take(struct fib_workers *w)
{
    struct task t = w->ring[w->head];
    w->head = (w->head + 1) % w->size;
    w->counts.queued--;
    return t;
}

static void work_end(struct work *k, int rc)
{
    struct fib_workers *w = k->w;
    // Its own deadline has passed, not the pool's.
    bool is_late =
        k->ctx && fib_ctx_error(k->ctx) == -ETIMEDOUT && fib_ctx_error(w->ctx) != -ETIMEDOUT;
    fib_ctx_unref(k->ctx);
    fib_mutex_lock(&w->mutex);
    w->counts.running--;
    w->counts.done++;
    w->counts.failed += rc != 0;
    w->counts.timed_out += is_late;
    fib_mutex_unlock(&w->mutex);
}

// The fiber ends in a task: another one takes its place, and if there is none to be had, this one goes on.
static void work_exit(void *arg)
{
    struct work *k = arg;
    struct fib_workers *w = k->w;
    work_end(k, -ECANCELED);
    if (fib_go(NULL, worker, w))
        worker(w);
}

static void work_run(struct fib_workers *w, struct task t)
{
    struct work k = {.w = w};
    if (w->task_timeout_ns > 0)
        k.ctx = fib_ctx_with_timeout(w->ctx, w->task_timeout_ns);
    // Without memory for a deadline the task runs with none but the pool's: better than not at all.
    exit_hook_push(&k.hook, work_exit, &k);
    int rc = t.fn(t.arg, k.ctx ? k.ctx : w->ctx);
    exit_hook_pop(&k.hook);
    work_end(&k, rc);
}

static void worker(void *arg)
{
    struct fib_workers *w = arg;
    for (;;) {
        fib_mutex_lock(&w->mutex);
        while (!w->counts.queued && !w->is_draining)
            fib_cond_wait(&w->has_task, &w->mutex);
        if (!w->counts.queued)
            break;
        struct task t = ring_take(w);
        w->counts.running++;
        fib_cond_signal(&w->has_room);
        fib_mutex_unlock(&w->mutex);
        work_run(w, t);
    }
    fib_mutex_unlock(&w->mutex);
    fib_waitgroup_done(&w->alive);
}

static int start_workers(struct fib_workers *w, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        fib_waitgroup_add(&w->alive, 1);
        int rc = fib_go(NULL, worker, w);
        if (rc) {
            fib_waitgroup_done(&w->alive);
            return rc;
        }
    }
    return 0;
}

FIB_PUBLIC struct fib_workers *fib_workers_new(struct fib_ctx *ctx,
                                               const struct fib_workers_options *o)
{
    struct fib_workers_options none = {.size = sizeof none};
    if (!o)
        o = &none;
    if (o->size < sizeof none)
        rt_fatal("fib_workers_new", "options.size is %zu", o->size);
    uint32_t size = o->queue ? o->queue : QUEUE_DEFAULT;
    struct fib_workers *w = calloc(1, sizeof *w + size * sizeof w->ring[0]);
    if (!w)
        return NULL;
    w->size = size;
    w->overflow = o->overflow;
    w->task_timeout_ns = o->task_timeout_ns;
    w->ctx = fib_ctx_with_cancel(ctx ? ctx : fib_ctx_background());
    w->cancelled = fib_ctx_with_cancel(fib_ctx_background());
    if (w->cancelled)
        fib_ctx_cancel(w->cancelled, 0);
    uint32_t workers = o->workers ? o->workers : fib_procs(0);
    // fib_procs is 0 before the start: then the first fails.
    if (!w->ctx || !w->cancelled || start_workers(w, workers ? workers : 1)) {
        fib_workers_free(w);
        return NULL;
    }
    return w;
}

FIB_PUBLIC int fib_workers_submit(struct fib_workers *w, fib_task_fn *fn, void *arg)
{
    int rc = 0;
    struct task oldest = {0};
    fib_mutex_lock(&w->mutex);
    while (w->overflow == FIB_BLOCK && ring_is_full(w) && !w->is_draining)
        fib_cond_wait(&w->has_room, &w->mutex);
    if (w->is_draining) {
        rc = -ESHUTDOWN;
    } else if (ring_is_full(w) && w->overflow == FIB_REJECT) {
        w->counts.rejected++;
        rc = -EAGAIN;
    } else {
        if (ring_is_full(w)) {
            oldest = ring_take(w);
            w->counts.dropped++;
        }
        w->counts.submitted++;
        ring_put(w, (struct task){fn, arg});
        fib_cond_signal(&w->has_task);
    }
    fib_mutex_unlock(&w->mutex);
    if (oldest.fn)
        oldest.fn(oldest.arg, w->cancelled);
    return rc;
}

FIB_PUBLIC void fib_workers_counts(struct fib_workers *w, struct fib_workers_counts *out)
{
    fib_mutex_lock(&w->mutex);
    *out = w->counts;
    fib_mutex_unlock(&w->mutex);
}

FIB_PUBLIC void fib_workers_drain(struct fib_workers *w)
{
    fib_mutex_lock(&w->mutex);
    w->is_draining = true;
    fib_cond_broadcast(&w->has_task);
    fib_cond_broadcast(&w->has_room);
    fib_mutex_unlock(&w->mutex);
    fib_waitgroup_wait(&w->alive);
}

FIB_PUBLIC void fib_workers_free(struct fib_workers *w)
{
    if (!w)
        return;
    fib_workers_drain(w);
    fib_ctx_unref(w->ctx);
    fib_ctx_unref(w->cancelled);
    free(w);
}
