// SPDX-License-Identifier: MIT
//
// Channels: one operation at a time. See chan.h for what always holds, and select.c.
//
// An operation that need not wait is one compare-and-swap, the copy, and one store. What waits is out of line.

#include "runtime/chan.h"

#include <errno.h>
#include <stdlib.h>

enum { ELEM_BYTES_MAX = 64 * 1024 };
#define BUFFER_BYTES_MAX ((size_t)1 << 40)

#define unlikely(x) __builtin_expect((x), 0)

// --- Making.

void chan_init(struct fib_chan *c, uint32_t elem_bytes, size_t capacity)
{
    memset(c, 0, sizeof *c);
    c->elem_bytes = elem_bytes;
    c->capacity = capacity;
    c->buffer_bytes = elem_bytes * capacity;
}

FIB_PUBLIC struct fib_chan *fib_chan_new(size_t elem_bytes, size_t capacity)
{
    if (elem_bytes > ELEM_BYTES_MAX || (elem_bytes && capacity > BUFFER_BYTES_MAX / elem_bytes))
        return NULL;
    size_t bytes = (chan_bytes(elem_bytes, capacity) + LINE - 1) / LINE * LINE;
    struct fib_chan *c = aligned_alloc(LINE, bytes);
    if (c)
        chan_init(c, (uint32_t)elem_bytes, capacity);
    return c;
}

FIB_PUBLIC void fib_chan_free(struct fib_chan *c)
{
    if (!c)
        return;
    struct m *m = chan_lock(c); // the last user may be about to release it
    bool is_idle = !c->receivers.head && !c->senders.head;
    chan_unlock(m, c);
    if (!is_idle)
        rt_fatal("fib_chan_free", "fibers wait on channel %p", (void *)c);
    // relaxed: only bad use sees it, and only as long as malloc leaves it there
    atomic_store_explicit(&c->lock.held, RT_LOCK_GONE, memory_order_relaxed);
    free(c);
}

FIB_PUBLIC size_t fib_chan_len(const struct fib_chan *c)
{
    // relaxed: a number of the past
    return c ? atomic_load_explicit(&c->count, memory_order_relaxed) : 0;
}

FIB_PUBLIC size_t fib_chan_cap(const struct fib_chan *c)
{
    return c ? c->capacity : 0;
}

// --- What can be done at once.

static inline size_t next_place(const struct fib_chan *c, size_t at)
{
    at += c->elem_bytes;
    return at == c->buffer_bytes ? 0 : at;
}

static inline void set_count(struct fib_chan *c, size_t count)
{
    // relaxed: those who look without the lock take no value by it
    atomic_store_explicit(&c->count, count, memory_order_relaxed);
}

// The waiter was taken out of its queue; it runs again with this.
static inline void wake(struct sudog *s, bool ok)
{
    struct g *g = s->g;
    s->ok = ok;
    if (s->is_choice)
        g->live->wait_data = s;
    g_ready(g);
}

static inline bool try_send(struct m *m, struct fib_chan *c, const void *elem, const char *call)
{
    if (unlikely(atomic_load_explicit(&c->is_closed, memory_order_relaxed))) {
        chan_unlock(m, c);
        chan_fatal_closed(c, call, "send on closed channel");
    }
    struct sudog *s = waiter_take(&c->receivers);
    if (s) {
        chan_unlock(m, c);
        if (s->elem)
            elem_copy(c, s->elem, elem);
        wake(s, true);
        return true;
    }
    size_t count = atomic_load_explicit(&c->count, memory_order_relaxed);
    if (count >= c->capacity)
        return false;
    elem_copy(c, c->buffer + c->send_at, elem);
    c->send_at = next_place(c, c->send_at);
    set_count(c, count + 1);
    chan_unlock(m, c);
    return true;
}

// Takes the buffer's head; a sender that waits puts its value at the tail, which is the same place as the
// buffer is full.
static inline void recv_buffered(struct m *m, struct fib_chan *c, void *elem, size_t count)
{
    struct sudog *s = waiter_take(&c->senders);
    unsigned char *place = c->buffer + c->recv_at;
    if (elem)
        elem_copy(c, elem, place);
    c->recv_at = next_place(c, c->recv_at);
    if (s) {
        elem_copy(c, place, s->elem);
        c->send_at = c->recv_at;
        chan_unlock(m, c);
        wake(s, true);
        return;
    }
    set_count(c, count - 1);
    chan_unlock(m, c);
}

static inline bool try_recv(struct m *m, struct fib_chan *c, void *elem, bool *ok)
{
    *ok = true;
    size_t count = atomic_load_explicit(&c->count, memory_order_relaxed);
    if (count) {
        recv_buffered(m, c, elem, count);
        return true;
    }
    struct sudog *s = waiter_take(&c->senders);
    if (s) {
        chan_unlock(m, c);
        if (elem)
            elem_copy(c, elem, s->elem);
        wake(s, true);
        return true;
    }
    if (!atomic_load_explicit(&c->is_closed, memory_order_relaxed))
        return false;
    chan_unlock(m, c);
    if (elem)
        memset(elem, 0, c->elem_bytes);
    *ok = false;
    return true;
}

bool chan_try_send(struct m *m, struct fib_chan *c, const void *elem, const char *call)
{
    return try_send(m, c, elem, call);
}

bool chan_try_recv(struct m *m, struct fib_chan *c, void *elem, bool *ok)
{
    return try_recv(m, c, elem, ok);
}

// --- Waiting.

static void nothing_after(struct m *m, struct g *g, void *arg)
{
    (void)m;
    (void)g;
    (void)arg;
}

void chan_wait_nothing(enum wait_reason reason, int64_t timeout_ns)
{
    if (timeout_ns == 0)
        return;
    struct g *g = this_g();
    // relaxed: nobody else knows of this wait
    atomic_store_explicit(&g->live->is_chosen, 0, memory_order_relaxed);
    if (timeout_ns > 0) {
        g_park_for(reason, NULL, nothing_after, NULL, timeout_ns);
        return;
    }
    for (;;)
        g_park(reason, NULL, nothing_after, NULL);
}

// With the lock held, which is released. Returns as the waker says, in *ok; false: the time is over.
__attribute__((noinline)) static bool wait_at(struct fib_chan *c, struct sudog_queue *q, void *elem,
                                              enum wait_reason reason, int64_t timeout_ns, bool *ok)
{
    struct sudog s = {.g = this_g(), .object = c, .elem = elem};
    if (timeout_ns < 0) {
        waiter_append(q, &s);
        g_park(reason, c, unlock_after, &c->lock);
        *ok = s.ok;
        return true;
    }
    s.is_choice = true;
    // relaxed: the lock's release publishes it with the sudog
    atomic_store_explicit(&s.g->live->is_chosen, 0, memory_order_relaxed);
    waiter_append(q, &s);
    if (g_park_for(reason, c, unlock_after, &c->lock, timeout_ns)) {
        *ok = s.ok;
        return true;
    }
    struct m *m = chan_lock(c);
    waiter_remove(q, &s);
    chan_unlock(m, c);
    return false;
}

static int send_wait(struct fib_chan *c, const void *elem, int64_t timeout_ns, const char *call)
{
    bool ok;
    void *from = (void *)(uintptr_t)elem; // only read: it is in the senders' queue
    if (!wait_at(c, &c->senders, from, WAIT_CHAN_SEND, timeout_ns, &ok))
        return -ETIMEDOUT;
    if (!ok)
        chan_fatal_closed(c, call, "closed while this send waited: channel");
    return 0;
}

// The two that matter have their shortest case, words through a buffer that nobody waits at, without a call, and so
// without saved registers. All else begins anew, or goes on with the lock.

__attribute__((noinline)) static void send_locked(struct m *m, struct fib_chan *c, const void *elem)
{
    if (!try_send(m, c, elem, "fib_chan_send"))
        send_wait(c, elem, -1, "fib_chan_send");
}

__attribute__((noinline)) static void send_any(struct fib_chan *c, const void *elem)
{
    seed_point();
    if (unlikely(!c))
        chan_wait_nothing(WAIT_CHAN_SEND_NIL, -1);
    send_locked(chan_lock(c), c, elem);
}

FIB_PUBLIC void fib_chan_send(struct fib_chan *c, const void *elem)
{
    struct m *m = this_m();
    if (unlikely(!m || !c || sched_is_seeded || !chan_trylock(m, c))) {
        send_any(c, elem);
        return;
    }
    size_t count = atomic_load_explicit(&c->count, memory_order_relaxed);
    if (count >= c->capacity || c->elem_bytes != 8 || c->receivers.head ||
        atomic_load_explicit(&c->is_closed, memory_order_relaxed)) {
        send_locked(m, c, elem);
        return;
    }
    memcpy(c->buffer + c->send_at, elem, 8);
    c->send_at = next_place(c, c->send_at);
    set_count(c, count + 1);
    chan_unlock(m, c);
}

__attribute__((noinline)) static bool recv_locked(struct m *m, struct fib_chan *c, void *elem)
{
    bool ok;
    if (!try_recv(m, c, elem, &ok))
        wait_at(c, &c->receivers, elem, WAIT_CHAN_RECEIVE, -1, &ok);
    return ok;
}

__attribute__((noinline)) static bool recv_any(struct fib_chan *c, void *elem)
{
    seed_point();
    if (unlikely(!c))
        chan_wait_nothing(WAIT_CHAN_RECEIVE_NIL, -1);
    return recv_locked(chan_lock(c), c, elem);
}

FIB_PUBLIC bool fib_chan_recv(struct fib_chan *c, void *elem)
{
    struct m *m = this_m();
    if (unlikely(!m || !c || sched_is_seeded || !chan_trylock(m, c)))
        return recv_any(c, elem);
    size_t count = atomic_load_explicit(&c->count, memory_order_relaxed);
    if (!count || c->elem_bytes != 8 || c->senders.head || !elem)
        return recv_locked(m, c, elem);
    memcpy(elem, c->buffer + c->recv_at, 8);
    c->recv_at = next_place(c, c->recv_at);
    set_count(c, count - 1);
    chan_unlock(m, c);
    return true;
}

FIB_PUBLIC int fib_chan_send_for(struct fib_chan *c, const void *elem, int64_t timeout_ns)
{
    seed_point();
    if (unlikely(!c)) {
        chan_wait_nothing(WAIT_CHAN_SEND_NIL, timeout_ns);
        return -ETIMEDOUT;
    }
    if (timeout_ns == 0 && !chan_can_send(c))
        return -ETIMEDOUT;
    struct m *m = chan_lock(c);
    if (chan_try_send(m, c, elem, "fib_chan_send_for"))
        return 0;
    if (timeout_ns)
        return send_wait(c, elem, timeout_ns, "fib_chan_send_for");
    chan_unlock(m, c);
    return -ETIMEDOUT;
}

FIB_PUBLIC int fib_chan_recv_for(struct fib_chan *c, void *elem, int64_t timeout_ns)
{
    seed_point();
    if (unlikely(!c)) {
        chan_wait_nothing(WAIT_CHAN_RECEIVE_NIL, timeout_ns);
        return -ETIMEDOUT;
    }
    if (timeout_ns == 0 && !chan_can_recv(c))
        return -ETIMEDOUT;
    bool ok;
    struct m *m = chan_lock(c);
    if (!chan_try_recv(m, c, elem, &ok)) {
        if (timeout_ns == 0) {
            chan_unlock(m, c);
            return -ETIMEDOUT;
        }
        if (!wait_at(c, &c->receivers, elem, WAIT_CHAN_RECEIVE, timeout_ns, &ok))
            return -ETIMEDOUT;
    }
    return ok ? 0 : -EPIPE;
}

// --- Closing.

// Readies, in their order, all who were taken out of a queue and are linked by next.
static void wake_closed(struct fib_chan *c, struct sudog *s, bool is_receiver)
{
    for (struct sudog *next; s; s = next) {
        next = s->next;
        struct g *g = s->g;
        if (is_receiver && s->elem)
            memset(s->elem, 0, c->elem_bytes);
        s->ok = false;
        if (s->is_choice)
            g->live->wait_data = s;
        g_ready_last(g);
    }
}

static struct sudog *take_all(struct sudog_queue *q)
{
    struct sudog *first = NULL, **link = &first, *s;
    while ((s = waiter_take(q))) {
        *link = s;
        link = &s->next;
    }
    return first;
}

bool chan_shut(struct fib_chan *c, uintptr_t pc, uint64_t close_number)
{
    rt_lock(&c->lock); // not chan_lock: it runs in threads that must not call malloc, too
    if (atomic_load_explicit(&c->is_closed, memory_order_relaxed)) {
        rt_unlock(&c->lock);
        return false;
    }
    c->closer = this_owner();
    c->closed_at = pc;
    c->close_number = close_number;
    // release: who sees it sees what the closer wrote; pairs with chan_can_recv and chan_can_send
    atomic_store_explicit(&c->is_closed, 1, memory_order_release);
    struct sudog *receivers = take_all(&c->receivers), *senders = take_all(&c->senders);
    rt_unlock(&c->lock);
    wake_closed(c, receivers, true);
    wake_closed(c, senders, false);
    return true;
}

FIB_PUBLIC void fib_chan_close(struct fib_chan *c)
{
    seed_point();
    if (unlikely(!c))
        rt_fatal("fib_chan_close", "close of NULL channel");
    if (unlikely(!chan_shut(c, (uintptr_t)__builtin_return_address(0), closer_note())))
        chan_fatal_closed(c, "fib_chan_close", "close of closed channel");
}

void chan_fatal_closed(struct fib_chan *c, const char *call, const char *rule)
{
    closer_print(c);
    rt_fatal(call, "%s %p", rule, (void *)c);
}
