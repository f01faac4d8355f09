// SPDX-License-Identifier: MIT
//
// Timers: a 4-ary heap per P, each with its lock. A timer starts in the heap of the P that starts it; any
// M that looks for work runs what is due in any heap.
//
// fire runs with the heap's lock held. So who removes a timer and has had the lock knows that fire is over,
// and may take the timer's memory back.

#include "runtime/core.h"
#include "runtime/netpoll.h"
#include "runtime/os/os.h"

#include <string.h>

void timers_init(struct p *p)
{
    atomic_store_explicit(&p->timers.first, INT64_MAX, memory_order_relaxed);
    atomic_store_explicit(&p->timers.first_ticks, UINT64_MAX, memory_order_relaxed);
    // There before memory may be short: some sleepers always have room.
    p->timers.slots = os_pages(OS_PAGE);
    p->timers.capacity = p->timers.slots ? OS_PAGE / sizeof *p->timers.slots : 0;
}

static void publish_first(struct timer_heap *h)
{
    int64_t first = h->count ? h->slots[0].when : INT64_MAX;
    if (first == atomic_load_explicit(&h->first, memory_order_relaxed))
        return;
    atomic_store_explicit(&h->first, first, memory_order_release);
    uint64_t ticks = UINT64_MAX;
    if (first != INT64_MAX)
        ticks = ticks_at(first);
    atomic_store_explicit(&h->first_ticks, ticks, memory_order_release);
}

static void place(struct timer_heap *h, uint32_t i, struct timer_slot s)
{
    h->slots[i] = s;
    s.t->index = i + 1;
}

static void sift_up(struct timer_heap *h, uint32_t i, struct timer_slot s)
{
    while (i) {
        uint32_t parent = (i - 1) / 4;
        if (h->slots[parent].when <= s.when)
            break;
        place(h, i, h->slots[parent]);
        i = parent;
    }
    place(h, i, s);
}

static void sift_down(struct timer_heap *h, uint32_t i, struct timer_slot s)
{
    for (;;) {
        uint32_t child = 4 * i + 1;
        if (child >= h->count)
            break;
        uint32_t end = child + 4 < h->count ? child + 4 : h->count;
        uint32_t least = child;
        for (uint32_t c = child + 1; c < end; c++)
            if (h->slots[c].when < h->slots[least].when)
                least = c;
        if (h->slots[least].when >= s.when)
            break;
        place(h, i, h->slots[least]);
        i = least;
    }
    place(h, i, s);
}

static void heap_remove(struct timer_heap *h, struct timer *t)
{
    uint32_t i = t->index - 1;
    struct timer_slot last = h->slots[--h->count];
    t->index = 0;
    if (last.t == t)
        return;
    if (i && h->slots[(i - 1) / 4].when > last.when)
        sift_up(h, i, last);
    else
        sift_down(h, i, last);
}

static void heap_add(struct timer_heap *h, struct timer *t)
{
    if (h->count == h->capacity) {
        uint32_t capacity = h->capacity ? h->capacity * 2 : OS_PAGE / sizeof *h->slots;
        struct timer_slot *slots = os_pages(capacity * sizeof *slots);
        if (!slots)
            rt_fatal("timer", "out of memory for %u timers", capacity);
        if (h->count)
            memcpy(slots, h->slots, h->count * sizeof *slots);
        os_pages_free(h->slots, h->capacity * sizeof *slots);
        h->slots = slots;
        h->capacity = capacity;
    }
    sift_up(h, h->count++, (struct timer_slot){t->when, t});
}

void timer_add(struct timer *t)
{
    struct m *m = this_m();
    struct p *p = m ? m_p(m) : NULL;
    bool has_p = p;
    if (!p)
        p = sched.ps[0];
    rt_lock(&p->timers.lock);
    atomic_store_explicit(&t->p, p, memory_order_relaxed);
    heap_add(&p->timers, t);
    bool is_first = t->index == 1;
    int64_t when = t->when;
    publish_first(&p->timers);
    rt_unlock(&p->timers.lock);
    if (!is_first || sched_is_seeded)
        return;
    // The one that waits in the netpoller may wait too long. seq_cst: pairs with the fence between
    // poll_until's store and the last look at the heaps in schedule.c.
    atomic_thread_fence(memory_order_seq_cst);
    int64_t until = atomic_load_explicit(&sched.poll_until, memory_order_relaxed);
    if (until && until > when)
        netpoll_break();
    else if (!has_p)
        wake_p();
}

bool timer_remove(struct timer *t)
{
    for (;;) {
        struct p *p = atomic_load_explicit(&t->p, memory_order_relaxed);
        if (!p)
            return false;
        rt_lock(&p->timers.lock);
        if (p != atomic_load_explicit(&t->p, memory_order_relaxed)) { // started anew elsewhere
            rt_unlock(&p->timers.lock);
            continue;
        }
        bool is_in = t->index;
        if (is_in) {
            if (t->index > p->timers.count || p->timers.slots[t->index - 1].t != t)
                rt_fatal("fib_timer", "the timer was copied or moved while it was running");
            heap_remove(&p->timers, t);
            publish_first(&p->timers);
        }
        rt_unlock(&p->timers.lock);
        return is_in;
    }
}

// Saturates: INT64_MAX is never.
static int64_t later(int64_t when, int64_t ns)
{
    int64_t sum;
    return __builtin_add_overflow(when, ns > 0 ? ns : 0, &sum) ? INT64_MAX : sum;
}

static void run_heap(struct timer_heap *h, int64_t now)
{
    rt_lock(&h->lock);
    while (h->count && h->slots[0].when <= now) {
        struct timer *t = h->slots[0].t;
        if (t->index != 1)
            rt_fatal("fib_timer", "a running timer was freed, cleared or written over");
        heap_remove(h, t);
        if (t->period > 0) { // as Go: the next multiple that is not over
            t->when = later(t->when, t->period * (1 + (now - t->when) / t->period));
            heap_add(h, t);
        }
        t->fire(t);
    }
    publish_first(h);
    rt_unlock(&h->lock);
}

void timers_run(int64_t now)
{
    for (uint32_t i = 0; i < PROCS_MAX && sched.ps[i]; i++) {
        struct timer_heap *h = &sched.ps[i]->timers;
        if (atomic_load_explicit(&h->first, memory_order_acquire) <= now)
            run_heap(h, now);
    }
}

int64_t timers_first(void)
{
    int64_t first = INT64_MAX;
    for (uint32_t i = 0; i < PROCS_MAX && sched.ps[i]; i++) {
        int64_t f = atomic_load_explicit(&sched.ps[i]->timers.first, memory_order_acquire);
        if (f < first)
            first = f;
    }
    return first;
}

// --- The public timers: each firing is a fiber.

static void fire_fiber(struct timer *t)
{
    // Without memory for a fiber the timer tries again in a millisecond.
    if (fib_go(NULL, t->fn, t->fn_arg) && t->period <= 0) {
        struct p *p = atomic_load_explicit(&t->p, memory_order_relaxed);
        t->when = clock_now() + 1000000;
        heap_add(&p->timers, t);
    }
}

static struct timer *of_public(const char *call, struct fib_timer *public_t)
{
    struct timer *t = (struct timer *)(void *)public_t;
    if (atomic_load_explicit(&t->p, memory_order_relaxed) && t->fire != fire_fiber)
        rt_fatal(call, "it is no timer: neither all zero nor one that was started");
    return t;
}

FIB_PUBLIC bool fib_timer_start(struct fib_timer *public_t, int64_t ns, int64_t period_ns,
                                fib_fn *fn, void *arg)
{
    struct timer *t = of_public("fib_timer_start", public_t);
    if (!fn)
        rt_fatal("fib_timer_start", "the function is NULL");
    bool was_running = timer_remove(t);
    t->when = later(clock_now(), ns);
    t->period = period_ns > 0 ? period_ns : 0;
    t->fire = fire_fiber;
    t->fn = fn;
    t->fn_arg = arg;
    timer_add(t);
    return was_running;
}

FIB_PUBLIC bool fib_timer_stop(struct fib_timer *t)
{
    return timer_remove(of_public("fib_timer_stop", t));
}

FIB_PUBLIC bool fib_timer_reset(struct fib_timer *public_t, int64_t ns)
{
    struct timer *t = of_public("fib_timer_reset", public_t);
    if (!atomic_load_explicit(&t->p, memory_order_relaxed))
        rt_fatal("fib_timer_reset", "the timer was never started");
    bool was_running = timer_remove(t);
    t->when = later(clock_now(), ns);
    timer_add(t);
    return was_running;
}
