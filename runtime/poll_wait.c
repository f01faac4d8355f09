// SPDX-License-Identifier: MIT
//
// Waiting for a side of a descriptor, and waking who waits. See poll.h.
//
// Who waits in the word publishes itself and then looks at what else would end the wait: closing, a changed
// deadline, a timer that has fired. Who ends waits does it the other way round: sets the reason, then
// looks at the word. So one of the two sees the other.

#include "runtime/poll.h"
#include "runtime/core.h"
#include "runtime/trace.h"
#include "runtime/usdt.h"

_Atomic int64_t netpoll_woken;
_Atomic int64_t netpoll_others;

// --- Waking.

static void hand_over(struct g *g, struct g_queue *out)
{
    if (out)
        queue_append(out, g);
    else
        g_ready(g);
}

uint32_t poll_wake_word(struct poll_desc *d, int side, bool is_ready, struct g_queue *out)
{
    struct poll_side *s = &d->sides[side];
    uintptr_t state = atomic_load(&s->state);
    for (;;) {
        if (state == POLL_READY || (state == POLL_DRAINED && !is_ready))
            return 0;
        uintptr_t to = state == POLL_DRAINED ? POLL_READY : POLL_DRAINED;
        if (atomic_compare_exchange_weak(&s->state, &state, to))
            break;
    }
    if (state == POLL_DRAINED)
        return 0;
    hand_over((struct g *)state, out);
    return 1;
}

void poll_wake_more(struct poll_desc *d, int side, struct g_queue *out)
{
    struct sudog *sg;
    while ((sg = sudog_take(&d->rest[side].more)))
        hand_over(sg->g, out);
    atomic_store(&d->sides[side].has_more, 0);
}

uint32_t poll_wake(struct poll_desc *d, int side, bool is_ready, struct g_queue *out)
{
    uint32_t n = poll_wake_word(d, side, is_ready, out);
    // seq_cst, after the word's change: pairs with has_more's store before the word is read
    if (__builtin_expect(atomic_load(&d->sides[side].has_more), 0)) {
        rt_lock(&d->lock);
        poll_wake_more(d, side, out);
        rt_unlock(&d->lock);
    }
    if (n && !out)
        atomic_fetch_add_explicit(&netpoll_woken, n, memory_order_relaxed);
    return n;
}

// --- Deadlines.

int poll_check(struct poll_desc *d, int side)
{
    if (atomic_load(&d->life) & POLL_CLOSING)
        return -ECANCELED;
    int64_t when = atomic_load(&d->sides[side].deadline);
    return when && clock_now() >= when ? -ETIMEDOUT : 0;
}

// Called with the heap's lock held.
static void fire(struct poll_desc *d, int side)
{
    atomic_store(&d->rest[side].timer_end, 0); // seq_cst: then the word
    atomic_fetch_add_explicit(&netpoll_woken, poll_wake_word(d, side, false, NULL),
                              memory_order_relaxed);
}

static void fire_read(struct timer *t)
{
    fire(t->arg, POLL_READ);
}

static void fire_write(struct timer *t)
{
    fire(t->arg, POLL_WRITE);
}

// Sees to it that the word's waiter is woken at `when`, or before: then it waits again. So a deadline that
// is moved on with each call costs a timer only once in its length.
static void arm(struct poll_desc *d, int side, int64_t when)
{
    struct poll_rest *r = &d->rest[side];
    int64_t end = atomic_load(&r->timer_end);
    if (end && end <= when)
        return;
    rt_lock(&d->lock);
    timer_remove(&r->timer); // and fire is over
    r->timer.when = when;
    r->timer.period = 0;
    r->timer.fire = side == POLL_READ ? fire_read : fire_write;
    r->timer.arg = d;
    atomic_store(&r->timer_end, when);
    timer_add(&r->timer);
    rt_unlock(&d->lock);
}

void poll_set_deadline(struct poll_desc *d, int side, int64_t when)
{
    struct poll_rest *r = &d->rest[side];
    atomic_store(&d->sides[side].deadline, when); // seq_cst: before the waiters are looked at
    if (!when && atomic_load(&r->timer_end)) {
        rt_lock(&d->lock);
        timer_remove(&r->timer);
        atomic_store(&r->timer_end, 0);
        rt_unlock(&d->lock);
    }
    poll_wake(d, side, false, NULL);
    if (d->threads) { // a hint: who comes later sees the new deadline
        rt_lock(&d->lock);
        poll_thread_wake(d);
        rt_unlock(&d->lock);
    }
}

// --- Waiting in the word.

struct word_wait {
    struct poll_desc *d;
    int side;
    int64_t deadline;
    bool is_refused; // did not wait
};

// g, whose registers are saved in the transition that goes on, is to run again.
void poll_resume(struct m *m, struct g *g)
{
    if (!m || (g->flags & G_IS_THREAD)) {
        g_ready(g);
        return;
    }
    FIB_TRACE(resume, m, g);
    usdt_unpark(m, g);
    atomic_store_explicit(&g->status, G_RUNNABLE, memory_order_release);
    if (m_p(m))
        runq_put_next(m_p(m), g);
    else
        global_put(g);
}

static bool is_outdated(struct poll_desc *d, int side, int64_t deadline)
{
    if (atomic_load(&d->life) & POLL_CLOSING)
        return true;
    if (atomic_load(&d->sides[side].deadline) != deadline)
        return true;
    return deadline && !atomic_load(&d->rest[side].timer_end);
}

// Publishes g. False: it is to run again. As soon as it is published *w may be gone.
static bool enter_word(struct word_wait *w, struct g *g)
{
    struct poll_desc *d = w->d;
    int side = w->side;
    int64_t deadline = w->deadline;
    _Atomic uintptr_t *state = &d->sides[side].state;
    uintptr_t now = POLL_DRAINED;
    if (!atomic_compare_exchange_strong(state, &now, (uintptr_t)g)) {
        w->is_refused = true;
        return false;
    }
    if (__builtin_expect(!is_outdated(d, side, deadline), 1))
        return true;
    now = (uintptr_t)g;
    return !atomic_compare_exchange_strong(state, &now, POLL_DRAINED); // else woken already
}

static void count_park(struct m *m)
{
    struct p *p = m_p(m);
    if (__builtin_expect(!p, 0)) {
        atomic_fetch_sub_explicit(&netpoll_woken, 1, memory_order_relaxed);
        return;
    }
    atomic_store_explicit(&p->io_waits,
                          atomic_load_explicit(&p->io_waits, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

static void word_after(struct m *m, struct g *g, void *arg)
{
    count_park(m);
    if (__builtin_expect(enter_word(arg, g), 1))
        return;
    atomic_fetch_add_explicit(&netpoll_woken, 1, memory_order_relaxed);
    poll_resume(m, g);
}

// The end of a wait in the word. Whatever woke it, it may have been an event: who does not try leaves that to
// others.
static int end_word_wait(struct poll_desc *d, int side)
{
    if (!(atomic_load_explicit(&d->life, memory_order_relaxed) & POLL_CLOSING) &&
        !atomic_load_explicit(&d->sides[side].deadline, memory_order_relaxed))
        return 0;
    int rc = poll_check(d, side);
    if (rc)
        poll_wake(d, side, true, NULL);
    return rc;
}

int poll_wait(struct poll_desc *d, int fd, int side)
{
    if (!this_m())
        return poll_thread_wait(d, fd, 1u << side, -1);
    for (;;) {
        int rc = poll_check(d, side);
        if (rc)
            return rc;
        struct poll_side *s = &d->sides[side];
        uintptr_t state = atomic_load(&s->state);
        if (state == POLL_READY)
            return 0;
        if (state != POLL_DRAINED)
            return poll_wait_for(d, fd, 1u << side, -1, false);
        struct word_wait w = {d, side, atomic_load(&s->deadline), false};
        if (w.deadline)
            arm(d, side, w.deadline);
        g_park(WAIT_IO, d, word_after, &w);
        if (!w.is_refused)
            return end_word_wait(d, side);
    }
}

// --- Waiting in the queues: several at one side, both sides, limits.

// Of the timeout and the sides' deadlines, the first; *when is what the deadlines were.
static int64_t limit_of(struct poll_desc *d, uint32_t mask, int64_t timeout_ns, int64_t *when)
{
    for (int i = 0; i < POLL_SIDES; i++) {
        when[i] = mask & (1u << i) ? atomic_load(&d->sides[i].deadline) : 0;
        if (!when[i])
            continue;
        int64_t left = when[i] - clock_now();
        if (left < 0)
            left = 0;
        if (timeout_ns < 0 || left < timeout_ns)
            timeout_ns = left;
    }
    return timeout_ns;
}

static bool is_worth_waiting(struct poll_desc *d, uint32_t mask, const int64_t *when, bool always)
{
    if (atomic_load(&d->life) & POLL_CLOSING)
        return false;
    for (int i = 0; i < POLL_SIDES; i++) {
        if (!(mask & (1u << i)))
            continue;
        if (atomic_load(&d->sides[i].deadline) != when[i])
            return false;
        if (!always && atomic_load(&d->sides[i].state) == POLL_READY)
            return false;
    }
    return true;
}

static void enqueue(struct poll_desc *d, uint32_t mask, struct sudog *sg, struct g *g)
{
    for (int i = 0; i < POLL_SIDES; i++) {
        sg[i] = (struct sudog){.g = g, .object = d, .is_choice = true};
        if (!(mask & (1u << i)))
            continue;
        sudog_append(&d->rest[i].more, &sg[i]);
        atomic_store(&d->sides[i].has_more, 1); // seq_cst: before the word is read
    }
}

static void dequeue(struct poll_desc *d, uint32_t mask, struct sudog *sg)
{
    for (int i = 0; i < POLL_SIDES; i++) {
        if (!(mask & (1u << i)))
            continue;
        sudog_remove(&d->rest[i].more, &sg[i]);
        if (!d->rest[i].more.head)
            atomic_store(&d->sides[i].has_more, 0);
    }
}

int poll_wait_for(struct poll_desc *d, int fd, uint32_t mask, int64_t timeout_ns, bool always)
{
    if (!this_m())
        return poll_thread_wait(d, fd, mask, timeout_ns);
    struct sudog sg[POLL_SIDES];
    int64_t when[POLL_SIDES];
    int64_t limit = limit_of(d, mask, timeout_ns, when);
    struct g *g = this_g();
    atomic_fetch_add_explicit(&netpoll_others, 1, memory_order_relaxed);
    rt_lock(&d->lock);
    atomic_store_explicit(&g->live->is_chosen, 0, memory_order_relaxed);
    enqueue(d, mask, sg, g);
    if (is_worth_waiting(d, mask, when, always)) {
        g_park_for(WAIT_IO, d, unlock_after, &d->lock, limit);
        rt_lock(&d->lock);
    }
    dequeue(d, mask, sg);
    rt_unlock(&d->lock);
    atomic_fetch_sub_explicit(&netpoll_others, 1, memory_order_relaxed);
    for (int i = 0; i < POLL_SIDES; i++) {
        int rc = mask & (1u << i) ? poll_check(d, i) : 0;
        if (rc)
            return rc;
    }
    return 0;
}
