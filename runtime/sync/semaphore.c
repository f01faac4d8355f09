// SPDX-License-Identifier: MIT
//
// The weighted semaphore, first come, first served: who asks for much is not overtaken by those who ask for
// little. A waiter's weight is added to `taken` by who wakes it.

#include "runtime/sync/owner.h"

#include <errno.h>

struct semaphore {
    struct rt_lock lock;
    int64_t count, taken; // 0 <= taken <= count
    struct sudog_queue queue;
};
_Static_assert(sizeof(struct semaphore) <= sizeof(struct fib_semaphore), "fits");

static struct semaphore *semaphore_of(struct fib_semaphore *s)
{
    return (struct semaphore *)(void *)s->opaque;
}

FIB_PUBLIC void fib_semaphore_init(struct fib_semaphore *fs, int64_t count)
{
    if (count < 0)
        rt_fatal("fib_semaphore_init", "the count is negative: %lld", (long long)count);
    *semaphore_of(fs) = (struct semaphore){.count = count};
}

// With the lock: those at the front who can go on now; returned in the order of waiting.
static struct sudog_queue take_ready(struct semaphore *s)
{
    struct sudog_queue woken = {0};
    while (s->queue.head && s->queue.head->value <= s->count - s->taken) {
        int64_t n = s->queue.head->value;
        struct sudog_queue one = {0};
        struct sudog *w = s->queue.head;
        sudog_remove(&s->queue, w);
        sudog_append(&one, w);
        if (!sudog_take(&one)) // its time is over: it takes nothing
            continue;
        s->taken += n;
        sudog_append(&woken, w);
    }
    return woken;
}

static void ready_all(struct sudog_queue *q)
{
    bool is_first = true;
    while (q->head) {
        struct g *g = q->head->g;
        q->head = q->head->next; // before g runs: it lies on g's stack
        if (is_first)
            g_ready(g);
        else
            g_ready_last(g);
        is_first = false;
    }
}

static void check_weight(const char *call, int64_t n)
{
    if (n < 0)
        rt_fatal(call, "the weight is negative: %lld", (long long)n);
}

static int acquire(struct fib_semaphore *fs, int64_t n, int64_t timeout_ns, const char *call)
{
    seed_point();
    check_weight(call, n);
    struct semaphore *s = semaphore_of(fs);
    rt_lock(&s->lock);
    if (n <= s->count - s->taken && !s->queue.head) {
        s->taken += n;
        rt_unlock(&s->lock);
        return 0;
    }
    int64_t count = s->count;
    if (timeout_ns == 0 || n > count) {
        rt_unlock(&s->lock);
        if (timeout_ns == 0)
            return -ETIMEDOUT;
        if (timeout_ns < 0)
            rt_fatal(call, "%lld of %lld can never be had", (long long)n, (long long)count);
        fib_sleep(timeout_ns); // outside of the queue: it must not stop others
        return -ETIMEDOUT;
    }
    struct g *g = this_g();
    struct sudog w = {.g = g, .object = s, .is_choice = timeout_ns > 0, .value = n};
    if (w.is_choice) // relaxed: published by the lock
        atomic_store_explicit(&g->live->is_chosen, 0, memory_order_relaxed);
    sudog_append(&s->queue, &w);
    if (timeout_ns < 0) {
        g_park(WAIT_SEMAPHORE, fs, unlock_after, &s->lock);
        return 0;
    }
    if (g_park_for(WAIT_SEMAPHORE, fs, unlock_after, &s->lock, timeout_ns))
        return 0;
    // Those behind it may fit now.
    rt_lock(&s->lock);
    sudog_remove(&s->queue, &w);
    struct sudog_queue woken = take_ready(s);
    rt_unlock(&s->lock);
    ready_all(&woken);
    return -ETIMEDOUT;
}

FIB_PUBLIC void fib_semaphore_acquire(struct fib_semaphore *s, int64_t n)
{
    acquire(s, n, -1, "fib_semaphore_acquire");
}

FIB_PUBLIC int fib_semaphore_acquire_for(struct fib_semaphore *s, int64_t n, int64_t timeout_ns)
{
    return acquire(s, n, timeout_ns, "fib_semaphore_acquire_for");
}

FIB_PUBLIC bool fib_semaphore_try(struct fib_semaphore *s, int64_t n)
{
    return !acquire(s, n, 0, "fib_semaphore_try");
}

FIB_PUBLIC void fib_semaphore_release(struct fib_semaphore *fs, int64_t n)
{
    seed_point();
    check_weight("fib_semaphore_release", n);
    struct semaphore *s = semaphore_of(fs);
    rt_lock(&s->lock);
    int64_t taken = s->taken;
    if (n > taken) {
        rt_unlock(&s->lock);
        rt_fatal("fib_semaphore_release", "%lld given back, but only %lld taken", (long long)n,
                 (long long)taken);
    }
    s->taken -= n;
    struct sudog_queue woken = take_ready(s);
    rt_unlock(&s->lock);
    ready_all(&woken);
}
