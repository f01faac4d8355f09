// SPDX-License-Identifier: MIT
//
// The condition variable. A waiter is in the queue before the mutex is released, so that a signal by the next holder
// finds it; and nobody can take it out before it is parked, as it keeps the lock until then.

#include "runtime/descriptor.h"
#include "runtime/sync/owner.h"

#include <errno.h>

struct cond {
    struct rt_lock lock;
    struct sudog_queue queue;
};
_Static_assert(sizeof(struct cond) <= sizeof(struct fib_cond), "fits");

static struct cond *cond_of(struct fib_cond *c)
{
    return (struct cond *)(void *)c->opaque;
}

static int cond_wait(struct fib_cond *fc, struct fib_mutex *m, int64_t timeout_ns, const char *call)
{
    seed_point();
    mutex_check_owner(m, call);
    lock_watch(m, DESCRIPTOR_LOCK_RELEASED); // before the lock: it may take its time
    struct cond *c = cond_of(fc);
    bool is_limited = timeout_ns >= 0;
    struct g *g = this_g();
    struct sudog s = {.g = g, .object = c, .is_choice = is_limited};
    rt_lock(&c->lock);
    if (is_limited) // relaxed: published by the lock
        atomic_store_explicit(&g->live->is_chosen, 0, memory_order_relaxed);
    sudog_append(&c->queue, &s);
    mutex_unlock_no_yield(m, call);
    int rc = 0;
    if (!is_limited) {
        g_park(WAIT_COND, fc, unlock_after, &c->lock);
    } else if (!g_park_for(WAIT_COND, fc, unlock_after, &c->lock, timeout_ns)) {
        rc = -ETIMEDOUT;
        rt_lock(&c->lock);
        sudog_remove(&c->queue, &s);
        rt_unlock(&c->lock);
    }
    mutex_lock_as(m, -1, WAIT_MUTEX, m, call);
    lock_watch(m, DESCRIPTOR_LOCK_TAKEN | DESCRIPTOR_LOCK_WAITS);
    return rc;
}

FIB_PUBLIC void fib_cond_wait(struct fib_cond *c, struct fib_mutex *m)
{
    cond_wait(c, m, -1, "fib_cond_wait");
}

FIB_PUBLIC int fib_cond_wait_for(struct fib_cond *c, struct fib_mutex *m, int64_t timeout_ns)
{
    return cond_wait(c, m, timeout_ns, "fib_cond_wait_for");
}

FIB_PUBLIC void fib_cond_signal(struct fib_cond *fc)
{
    seed_point();
    struct cond *c = cond_of(fc);
    rt_lock(&c->lock);
    struct sudog *s = sudog_take(&c->queue);
    struct g *g = s ? s->g : NULL;
    rt_unlock(&c->lock);
    if (g)
        g_ready(g);
}

FIB_PUBLIC void fib_cond_broadcast(struct fib_cond *fc)
{
    seed_point();
    struct cond *c = cond_of(fc);
    struct sudog_queue woken = {0};
    struct sudog *s;
    rt_lock(&c->lock);
    while ((s = sudog_take(&c->queue)))
        sudog_append(&woken, s);
    rt_unlock(&c->lock);
    while (woken.head) {
        struct g *g = woken.head->g;
        woken.head = woken.head->next; // before g runs: it lies on g's stack
        g_ready_last(g);
    }
}
