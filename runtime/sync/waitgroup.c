// SPDX-License-Identifier: MIT
//
// The wait group. state: the counter in the upper half, HAS_WAITERS in the lower. The flag is set and cleared, and
// the counter brought to 0 while it is set, only with the bucket's lock: so flag set means counter above 0, each wait
// ends at the moment of the first 0 after it, and the group may be freed when the last wait has returned.

#include "runtime/sync/owner.h"
#include "runtime/sync/wait_table.h"

#include <errno.h>
#include <stdlib.h>

enum { HAS_WAITERS = 1 };

static _Atomic uint64_t *state_of(struct fib_waitgroup *w)
{
    return (_Atomic uint64_t *)&w->state;
}

static int32_t counter_of(uint64_t state)
{
    return (int32_t)(state >> 32);
}

static uint64_t added(uint64_t state, int32_t n, const char *call)
{
    int64_t counter = (int64_t)counter_of(state) + n;
    if (counter < 0)
        rt_fatal(call, "the counter would be negative: %d%+d", counter_of(state), n);
    if (counter > INT32_MAX)
        rt_fatal(call, "the counter would be above 2^31: %d%+d", counter_of(state), n);
    return (uint64_t)counter << 32 | (state & HAS_WAITERS);
}

// The counter comes to 0, and others wait for that.
static void add_and_wake(struct fib_waitgroup *w, int32_t n, const char *call)
{
    struct wait_bucket *b = wait_lock(w);
    uint64_t state = atomic_load_explicit(state_of(w), memory_order_relaxed);
    uint64_t new;
    do {
        new = added(state, n, call);
        if (!counter_of(new))
            new = 0;
    } while (!atomic_compare_exchange_weak_explicit(state_of(w), &state, new, memory_order_acq_rel,
                                                    memory_order_relaxed));
    struct sudog_queue woken = {0};
    struct waiter *next;
    while (!new && (next = wait_take(b, w)))
        sudog_append(&woken, &next->s);
    wait_unlock(b);
    while (woken.head) {
        struct g *g = woken.head->g;
        woken.head = woken.head->next; // before g runs: it lies on g's stack
        g_ready_last(g);
    }
}

static void add(struct fib_waitgroup *w, int32_t n, const char *call)
{
    uint64_t state = atomic_load_explicit(state_of(w), memory_order_relaxed);
    for (;;) {
        uint64_t new = added(state, n, call);
        if (new == HAS_WAITERS) {
            add_and_wake(w, n, call);
            return;
        }
        // release: pairs with the acquire of who waits; acquire: the last one sees what the others did
        if (atomic_compare_exchange_weak_explicit(state_of(w), &state, new, memory_order_acq_rel,
                                                  memory_order_relaxed))
            return;
    }
}

FIB_PUBLIC void fib_waitgroup_add(struct fib_waitgroup *w, int32_t n)
{
    seed_point();
    add(w, n, "fib_waitgroup_add");
}

FIB_PUBLIC void fib_waitgroup_done(struct fib_waitgroup *w)
{
    seed_point();
    add(w, -1, "fib_waitgroup_done");
}

FIB_PUBLIC int fib_waitgroup_wait_for(struct fib_waitgroup *w, int64_t timeout_ns)
{
    seed_point();
    uint64_t state = atomic_load_explicit(state_of(w), memory_order_acquire);
    if (!counter_of(state))
        return 0;
    if (timeout_ns == 0)
        return -ETIMEDOUT;
    struct wait_bucket *b = wait_lock(w);
    do {
        if (!counter_of(state)) {
            wait_unlock(b);
            return 0;
        }
    } while (!atomic_compare_exchange_weak_explicit(state_of(w), &state, state | HAS_WAITERS,
                                                    memory_order_acquire, memory_order_acquire));
    struct waiter me;
    wait_init(&me, w, timeout_ns > 0);
    wait_append(b, &me);
    if (wait_park(b, &me, WAIT_WAITGROUP, w, NULL, timeout_ns))
        return 0;
    // Its time is over. The flag is set only while the counter is above 0: nobody is waking us now.
    if (wait_is_empty(b, w))
        atomic_fetch_and_explicit(state_of(w), ~(uint64_t)HAS_WAITERS, memory_order_relaxed);
    wait_unlock(b);
    return -ETIMEDOUT;
}

FIB_PUBLIC void fib_waitgroup_wait(struct fib_waitgroup *w)
{
    fib_waitgroup_wait_for(w, -1);
}

// --- A fiber of the group.

struct task {
    struct go_task go; // first
    struct fib_waitgroup *w;
    fib_fn *fn;
    void *arg;
};

static void task_end(void *w)
{
    add(w, -1, "fib_waitgroup_go");
}

static void task_run(void *arg)
{
    struct task t = *(struct task *)arg;
    free(arg);
    struct exit_hook hook;
    exit_hook_push(&hook, task_end, t.w);
    t.fn(t.arg);
    exit_hook_pop(&hook);
    task_end(t.w);
}

FIB_PUBLIC int fib_waitgroup_go(struct fib_waitgroup *w, fib_fn *fn, void *arg)
{
    struct task *t = malloc(sizeof *t);
    if (!t)
        return -ENOMEM;
    *t = (struct task){{task_run}, w, fn, arg};
    add(w, 1, "fib_waitgroup_go");
    int rc = go_task(fn, &t->go);
    if (rc) {
        add(w, -1, "fib_waitgroup_go");
        free(t);
    }
    return rc;
}
