// SPDX-License-Identifier: MIT
//
// Timers: a 4-ary heap per P, each with its lock. A timer starts in the heap of the P that starts it. That P
// runs what is due there; others do it when they have nothing else to do, and every 61st switch.
//
// fire runs with the heap's lock held, and h->firing says so. So who removes a timer and either has had the
// lock, or finds it in no heap and not firing, knows that fire is over, and may take the timer's memory back.
//
// A fiber that sleeps has no struct timer: nobody stops it, so nobody has to find its slot, and moving
// slots touches nothing but the heap. (A timer is in its owner's memory, a line and a page of its own.)

#include "runtime/core.h"
#include "runtime/netpoll.h"
#include "runtime/os/os.h"
#include "runtime/trace.h"
#include "runtime/usdt.h"

#include <string.h>

// LEAD slots lie unused before the first, so that the children of one, 4 i + 1 to 4 i + 4, share a line.
enum { LEAD = 3 };

void timers_init(struct p *p)
{
    atomic_store_explicit(&p->timers.first, INT64_MAX, memory_order_relaxed);
    atomic_store_explicit(&p->timers.first_ticks, UINT64_MAX, memory_order_relaxed);
    // There before memory may be short: some sleepers always have room.
    struct timer_slot *page = os_pages(OS_PAGE);
    if (page) {
        p->timers.slots = page + LEAD;
        p->timers.capacity = OS_PAGE / sizeof *page - LEAD;
    }
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

static struct timer *slot_timer(struct timer_slot s) // NULL: a fiber that sleeps
{
    return s.what & 1 ? NULL : (struct timer *)s.what;
}

static inline void place(struct timer_heap *h, uint32_t i, struct timer_slot s)
{
    h->slots[i] = s;
    struct timer *t = slot_timer(s);
    if (t)
        atomic_store_explicit(&t->index, i + 1, memory_order_relaxed);
}

static inline void sift_up(struct timer_heap *h, uint32_t i, struct timer_slot s)
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

// The slot i is free: the last one goes there, or where it belongs.
static void heap_close(struct timer_heap *h, uint32_t i)
{
    struct timer_slot last = h->slots[--h->count];
    if (i == h->count)
        return;
    if (i && h->slots[(i - 1) / 4].when > last.when)
        sift_up(h, i, last);
    else
        sift_down(h, i, last);
}

static void heap_grow(struct timer_heap *h)
{
    const size_t size = sizeof *h->slots;
    uint32_t capacity = h->capacity ? 2 * h->capacity + LEAD : OS_PAGE / (uint32_t)size - LEAD;
    struct timer_slot *pages = os_pages((capacity + LEAD) * size);
    if (!pages)
        rt_fatal("timer", "out of memory for %u timers", capacity);
    if (h->count)
        memcpy(pages + LEAD, h->slots, h->count * size);
    if (h->slots)
        os_pages_free(h->slots - LEAD, (h->capacity + LEAD) * size);
    h->slots = pages + LEAD;
    h->capacity = capacity;
}

static void heap_add(struct timer_heap *h, int64_t when, uintptr_t what)
{
    if (h->count == h->capacity)
        heap_grow(h);
    sift_up(h, h->count++, (struct timer_slot){when, what});
}

// Into the heap of this M's P; t NULL: g sleeps.
static void add(int64_t when, struct timer *t, struct g *g)
{
    struct m *m = this_m();
    struct p *p = m ? m_p(m) : NULL;
    bool has_p = p;
    if (!p && !(p = sched.ps[0]))
        rt_fatal("timer", "the runtime has not been started: call fib_init or fib_main first");
    struct timer_heap *h = &p->timers;
    rt_lock(&h->lock);
    if (t)
        atomic_store_explicit(&t->p, p, memory_order_relaxed);
    heap_add(h, when, t ? (uintptr_t)t : (uintptr_t)g | 1);
    bool is_first = when < atomic_load_explicit(&h->first, memory_order_relaxed);
    if (is_first)
        publish_first(h);
    rt_unlock(&h->lock);
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

void timer_add(struct timer *t)
{
    add(t->when, t, NULL);
}

void sleep_add(struct g *g, int64_t when)
{
    add(when, NULL, g);
}

// Not in p's heap, and its fire is over. Pairs with fire_timer: it says that t fires before t is in no heap. fire
// may have put it back (fire_fiber), so its index counts only when it has been seen after that.
static bool is_out(const struct timer *t, const struct p *p)
{
    return !atomic_load_explicit(&t->index, memory_order_acquire) &&
           atomic_load_explicit(&p->timers.firing, memory_order_acquire) != t &&
           !atomic_load_explicit(&t->index, memory_order_relaxed) &&
           atomic_load_explicit(&t->p, memory_order_relaxed) == p;
}

bool timer_remove(struct timer *t)
{
    for (;;) {
        struct p *p = atomic_load_explicit(&t->p, memory_order_relaxed);
        if (!p || is_out(t, p))
            return false;
        rt_lock(&p->timers.lock);
        if (p != atomic_load_explicit(&t->p, memory_order_relaxed)) { // started anew elsewhere
            rt_unlock(&p->timers.lock);
            continue;
        }
        uint32_t index = atomic_load_explicit(&t->index, memory_order_relaxed);
        if (index) {
            if (index > p->timers.count || slot_timer(p->timers.slots[index - 1]) != t)
                rt_fatal("fib_timer", "the timer was copied or moved while it was running");
            atomic_store_explicit(&t->index, 0, memory_order_relaxed);
            heap_close(&p->timers, index - 1);
            if (index == 1)
                publish_first(&p->timers);
        }
        rt_unlock(&p->timers.lock);
        return index;
    }
}

// Saturates: INT64_MAX is never.
static int64_t later(int64_t when, int64_t ns)
{
    int64_t sum;
    return __builtin_add_overflow(when, ns > 0 ? ns : 0, &sum) ? INT64_MAX : sum;
}

// --- What is due.

enum { RUN_MAX = 64, SOON_NS = 20000, SLEEPER_LINES = 3 };

// t is the first of h.
static void fire_timer(struct timer_heap *h, struct timer *t, int64_t now)
{
    if (atomic_load_explicit(&t->index, memory_order_relaxed) != 1)
        rt_fatal("fib_timer", "a running timer was freed, cleared or written over");
    // release: who finds t here knows that the fire of the one before is over; pairs with is_out
    atomic_store_explicit(&h->firing, t, memory_order_release);
    if (t->period > 0) { // as Go: the next multiple that is not over
        // It never leaves the heap: who stops it meanwhile must not take it for one that has fired.
        t->when = later(t->when, t->period * (1 + (now - t->when) / t->period));
        sift_down(h, 0, (struct timer_slot){t->when, (uintptr_t)t});
    } else {
        // release: pairs with is_out
        atomic_store_explicit(&t->index, 0, memory_order_release);
        heap_close(h, 0);
    }
    t->fire(t);
    // release: what fire did comes before
    atomic_store_explicit(&h->firing, NULL, memory_order_release);
}

// With many of them nothing is in the near caches: what each needs is asked for here, so that the waits overlap.
static void ready_sleepers(struct p *p, struct g **g, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        for (int line = 0; line < SLEEPER_LINES; line++)
            __builtin_prefetch((const char *)g[i]->live + (ptrdiff_t)line * LINE, 1);
    uint64_t now = ticks_now();
    struct m *m = p->m;
    trans_begin(m);
    for (uint32_t i = 0; i < count; i++) {
        FIB_TRACE(resume, m, g[i]);
        usdt_unpark(m, g[i]);
        if ((i & 7) == 7) { // one in 8, as others
            g[i]->is_waking_sampled = 1;
            g[i]->ready_ticks = now;
        }
        g[i]->live->wakes++;
        atomic_store_explicit(&g[i]->status, G_RUNNABLE, memory_order_release);
        runq_put(p, g[i]);
    }
    trans_end(m);
    if (count > 1)
        wake_p();
}

// Up to RUN_MAX of from's that are due. to: this M's P.
static void run_heap(struct p *from, struct p *to, int64_t now, bool wait)
{
    struct g *sleepers[RUN_MAX];
    uint32_t count = 0;
    struct timer_heap *h = &from->timers;
    if (wait)
        rt_lock(&h->lock);
    else if (!rt_trylock(&h->lock))
        return;
    for (int i = 0; i < RUN_MAX && h->count && h->slots[0].when <= now; i++) {
        struct timer *t = slot_timer(h->slots[0]);
        if (t) {
            fire_timer(h, t, now);
            continue;
        }
        struct g *g = (struct g *)(h->slots[0].what & ~(uintptr_t)1);
        __builtin_prefetch(g, 1);
        sleepers[count++] = g;
        heap_close(h, 0);
    }
    publish_first(h);
    // More are due: they have their turn when these have run, or soon.
    if (atomic_load_explicit(&h->first, memory_order_relaxed) <= now)
        atomic_store_explicit(&h->first_ticks, ticks_now() + ns_to_ticks(SOON_NS),
                              memory_order_relaxed);
    rt_unlock(&h->lock);
    if (count)
        ready_sleepers(to, sleepers, count);
}

static bool is_due(const struct p *p, int64_t now)
{
    return atomic_load_explicit(&p->timers.first, memory_order_acquire) <= now;
}

void timers_run_some(struct p *p, int64_t now)
{
    if (is_due(p, now))
        run_heap(p, p, now, true);
}

void timers_run_others(struct p *p, int64_t now)
{
    for (uint32_t i = 0; i < PROCS_MAX && sched.ps[i]; i++)
        if (sched.ps[i] != p && is_due(sched.ps[i], now))
            run_heap(sched.ps[i], p, now, false);
}

void timers_run(int64_t now)
{
    struct p *p = m_p(this_m());
    for (uint32_t i = 0; i < PROCS_MAX && sched.ps[i]; i++)
        while (is_due(sched.ps[i], now))
            run_heap(sched.ps[i], p, now, true);
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
        heap_add(&p->timers, t->when, (uintptr_t)t);
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
    t->when = later(clock_soon(), ns);
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
    t->when = later(clock_soon(), ns);
    timer_add(t);
    return was_running;
}
