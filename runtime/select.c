// SPDX-License-Identifier: MIT
//
// Select, in three steps, each only if the one before did not do:
//
//   1. Look at all cases without locks, and lock and try one of those that seem ready. A select that need not
//      wait is thus as cheap as the one operation.
//   2. Lock all channels, in the order of their addresses, and look again: only so is it known that at one
//      moment none was ready. Then enqueue a waiter at each channel, and park; the locks are released behind
//      it. Who wakes it wins live->is_chosen, and leaves its sudog in live->wait_data.
//   3. Take the other waiters out of their queues, one lock at a time. The chosen channel is not touched: it
//      may have been freed.
//
// Invariant: until step 3 is over each channel but the chosen one has a waiter that lies on this stack, and
// whoever looks at it holds that channel's lock.

#include "runtime/chan.h"

#include <stdlib.h>

enum { CASES_SMALL = 8 }; // as many have their waiters on the stack

struct selection {
    struct fib_case *cases;
    uint32_t count;        // of cases
    uint32_t ordered;      // of those with a channel
    uint16_t *order;       // their indices by address of the channel
    struct sudog *waiters; // as many as order
};

// --- Choosing.

static uint32_t random_below(uint32_t n)
{
    static __thread uint64_t thread_random;
    struct m *m = this_m();
    uint64_t *state = &thread_random;
    if (m && sched_is_seeded) // the M may be another one in the next run
        state = &atomic_load_explicit(&m->p, memory_order_relaxed)->random;
    else if (m)
        state = &m->random;
    uint64_t x = *state;
    if (!x)
        x = (uintptr_t)state ^ ticks_now();
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    *state = x;
    return (uint32_t)(((x >> 32) * n) >> 32);
}

// Forgets waiters that were chosen elsewhere. With the lock.
static bool is_waited(struct sudog_queue *q)
{
    struct sudog *s;
    // relaxed: one that is chosen stays so as long as it is in the queue
    while ((s = q->head) && s->is_choice &&
           atomic_load_explicit(&s->g->live->is_chosen, memory_order_relaxed))
        waiter_pop(q, s);
    return s;
}

static bool is_ready_locked(const struct fib_case *k)
{
    struct fib_chan *c = k->chan;
    if (atomic_load_explicit(&c->is_closed, memory_order_relaxed))
        return true;
    size_t count = atomic_load_explicit(&c->count, memory_order_relaxed);
    return k->is_send ? count < c->capacity || is_waited(&c->receivers)
                      : count || is_waited(&c->senders);
}

// One of the ready cases, any with the same probability; -1: none.
static inline int pick(const struct fib_case *cases, uint32_t count, bool is_locked)
{
    int picked = -1;
    uint32_t ready = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct fib_case *k = &cases[i];
        if (!k->chan)
            continue;
        bool is_ready = is_locked    ? is_ready_locked(k)
                        : k->is_send ? chan_can_send(k->chan)
                                     : chan_can_recv(k->chan);
        if (is_ready && (!ready++ || random_below(ready) == 0))
            picked = (int)i;
    }
    return picked;
}

// With the channel's lock; as chan_try_send.
static inline bool try_case(struct m *m, struct fib_case *k)
{
    if (k->is_send)
        return chan_try_send(m, k->chan, k->send, "fib_select");
    return chan_try_recv(m, k->chan, k->recv, &k->ok);
}

// --- Locking all.

static inline struct fib_chan *nth(const struct selection *s, uint32_t i)
{
    return s->cases[s->order[i]].chan;
}

// Shell's sort: for few cases insertion, and without a stack for many.
static void sort(struct selection *s)
{
    uint32_t gap = 1;
    while (gap < s->ordered / 3)
        gap = gap * 3 + 1;
    for (; gap; gap /= 3) {
        for (uint32_t i = gap; i < s->ordered; i++) {
            uint16_t index = s->order[i];
            uintptr_t at = (uintptr_t)s->cases[index].chan;
            uint32_t k = i;
            for (; k >= gap && (uintptr_t)nth(s, k - gap) > at; k -= gap)
                s->order[k] = s->order[k - gap];
            s->order[k] = index;
        }
    }
}

// The cases of one channel in any order: who meets this select takes the first.
static void shuffle_same(struct selection *s)
{
    for (uint32_t i = 1, first = 0; i < s->ordered; i++) {
        if (nth(s, i) != nth(s, first)) {
            first = i;
            continue;
        }
        uint32_t k = first + random_below(i - first + 1);
        uint16_t index = s->order[i];
        s->order[i] = s->order[k];
        s->order[k] = index;
    }
}

static void lock_all(const struct selection *s)
{
    struct fib_chan *last = NULL;
    for (uint32_t i = 0; i < s->ordered; i++) {
        struct fib_chan *c = nth(s, i);
        if (c != last) // the same channel may be in several cases
            rt_lock(&c->lock);
        last = c;
    }
}

// All but `kept`. What belongs to the selection is not touched after the last unlock: the fiber may then have
// left its select.
static void unlock_all(const struct selection *s, const struct fib_chan *kept)
{
    uint32_t i = s->ordered;
    struct fib_chan *c = i ? nth(s, i - 1) : NULL;
    while (i) {
        i--;
        struct fib_chan *next = i ? nth(s, i - 1) : NULL;
        if (c != next && c != kept)
            rt_unlock(&c->lock);
        c = next;
    }
}

// The fiber runs again as soon as the channel that woke it is unlocked, but stays in leave_all until the
// others are, too.
static void unlock_all_after(struct m *m, struct g *g, void *arg)
{
    (void)m;
    (void)g;
    unlock_all(arg, NULL);
}

// --- Waiting.

static void enqueue_all(const struct selection *s, struct g *g)
{
    for (uint32_t i = 0; i < s->ordered; i++) {
        const struct fib_case *k = &s->cases[s->order[i]];
        struct sudog *w = &s->waiters[i];
        w->g = g;
        w->object = k->chan;
        w->elem = k->is_send ? (void *)(uintptr_t)k->send : k->recv;
        w->is_choice = true;
        w->index = s->order[i];
        waiter_append(k->is_send ? &k->chan->senders : &k->chan->receivers, w);
    }
}

static void leave_all(const struct selection *s, const struct sudog *chosen)
{
    for (uint32_t i = 0; i < s->ordered; i++) {
        struct sudog *w = &s->waiters[i];
        if (w == chosen)
            continue;
        struct fib_case *k = &s->cases[s->order[i]];
        rt_lock(&k->chan->lock);
        waiter_remove(k->is_send ? &k->chan->senders : &k->chan->receivers, w);
        rt_unlock(&k->chan->lock);
    }
}

// All channels are locked, at least one, and none is ready.
static int park(struct selection *s, int64_t timeout_ns)
{
    struct g *g = this_g();
    // relaxed: the locks' release publishes it with the waiters
    atomic_store_explicit(&g->live->is_chosen, 0, memory_order_relaxed);
    enqueue_all(s, g);
    bool is_chosen = true;
    if (timeout_ns < 0)
        g_park(WAIT_SELECT, s->cases, unlock_all_after, s);
    else
        is_chosen = g_park_for(WAIT_SELECT, s->cases, unlock_all_after, s, timeout_ns);
    const struct sudog *chosen = is_chosen ? g->live->wait_data : NULL;
    leave_all(s, chosen);
    if (!chosen)
        return FIB_SELECT_NONE;
    struct fib_case *k = &s->cases[chosen->index];
    if (k->is_send && !chosen->ok)
        chan_fatal_closed(k->chan, "fib_select",
                          "closed while this select waited to send: channel");
    if (!k->is_send)
        k->ok = chosen->ok;
    return chosen->index;
}

static int select_locked(struct selection *s, int64_t timeout_ns)
{
    for (uint32_t i = 0; i < s->count; i++)
        if (s->cases[i].chan)
            s->order[s->ordered++] = (uint16_t)i;
    if (!s->ordered) {
        chan_wait_nothing(WAIT_SELECT, timeout_ns);
        return FIB_SELECT_NONE;
    }
    this_g(); // as in chan_lock
    sort(s);
    shuffle_same(s);
    for (;;) {
        lock_all(s);
        int i = pick(s->cases, s->count, true);
        if (i < 0)
            break;
        struct fib_chan *c = s->cases[i].chan;
        unlock_all(s, c);
        if (try_case(this_m(), &s->cases[i]))
            return i;
        rt_unlock(&c->lock); // whoever waited was chosen elsewhere meanwhile
    }
    if (timeout_ns)
        return park(s, timeout_ns);
    unlock_all(s, NULL);
    return FIB_SELECT_NONE;
}

__attribute__((noinline)) static int select_small(struct fib_case *cases, uint32_t count,
                                                  int64_t timeout_ns)
{
    uint16_t order[CASES_SMALL];
    struct sudog waiters[CASES_SMALL];
    struct selection s = {cases, count, 0, order, waiters};
    return select_locked(&s, timeout_ns);
}

__attribute__((noinline)) static int select_large(struct fib_case *cases, uint32_t count,
                                                  int64_t timeout_ns)
{
    struct sudog *waiters = malloc(count * (sizeof *waiters + sizeof(uint16_t)));
    if (!waiters)
        rt_fatal("fib_select", "out of memory for %u cases", count);
    struct selection s = {cases, count, 0, (uint16_t *)(void *)(waiters + count), waiters};
    int rc = select_locked(&s, timeout_ns);
    free(waiters);
    return rc;
}

FIB_PUBLIC int fib_select_for(struct fib_case *cases, size_t count, int64_t timeout_ns)
{
    seed_point();
    if (count > FIB_SELECT_MAX)
        rt_fatal("fib_select", "%zu cases; %d is the most", count, FIB_SELECT_MAX);
    uint32_t n = (uint32_t)count;
    int i = pick(cases, n, false);
    if (i >= 0) {
        struct fib_case *k = &cases[i];
        struct m *m = chan_lock(k->chan);
        if (try_case(m, k))
            return i;
        chan_unlock(m, k->chan);
    } else if (timeout_ns == 0 && n == 1) {
        return FIB_SELECT_NONE; // one look at one channel is a moment
    }
    if (!n) {
        chan_wait_nothing(WAIT_SELECT_NO_CASES, timeout_ns);
        return FIB_SELECT_NONE;
    }
    return n <= CASES_SMALL ? select_small(cases, n, timeout_ns)
                            : select_large(cases, n, timeout_ns);
}
