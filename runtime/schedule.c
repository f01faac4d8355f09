// SPDX-License-Identifier: MIT
//
// What an M does on its own stack: look for a fiber to run, everywhere in turn, and sleep when there is
// none. Go's order: timers, every 61st time the global queue, the own queue, the global queue, the
// netpoller, other Ps' queues.
//
// The dance before sleeping: an M that looks is counted in sched.spinning, and whoever makes work wakes nobody
// while one looks. So the last one that stops looking looks at all queues once more after it has
// stopped being counted.

#include "runtime/core.h"
#include "runtime/netpoll.h"
#include "runtime/os/os.h"
#include "runtime/trace.h"
#include "runtime/usdt.h"

#define AGAIN ((struct g *)(uintptr_t)1) // this M stopped and has been woken since: from the start

static void counted_store(_Atomic uint32_t *n, uint32_t value)
{
    atomic_store_explicit(n, value, memory_order_relaxed);
}

// --- Where a G may run.

static void stack_wait_put(struct g *g)
{
    rt_lock(&sched.lock);
    queue_append(&sched.stack_waits, g);
    counted_store(&sched.stack_wait_count, sched.stack_waits.count);
    rt_unlock(&sched.lock);
}

static void pin_to(struct m *to, struct g *g)
{
    rt_lock(&to->pinned_lock);
    queue_append(&to->pinned, g);
    atomic_fetch_add(&to->pinned_count, 1);
    rt_unlock(&to->pinned_lock);
}

static struct m *idle_m(void)
{
    rt_lock(&sched.lock);
    struct m *m = sched.idle_m_list;
    rt_unlock(&sched.lock);
    return m;
}

// Chaos: an idle M that is to run what has just run on m, so that what was kept of m shows; m if it comes from another
// already, or nobody has come to rest in a while.
static struct m *other_for_chaos(struct m *m, struct live *l)
{
    struct m *to = NULL;
    if (l->last_m == m) {
        for (int i = 0; !(to = idle_m()) && i < 1000; i++)
            os_yield();
        if (!to)
            m_want();
    }
    if (!to) // else it is noted there
        l->last_m = m;
    return to ? to : m;
}

// Whether m runs g now. Else g has gone where it belongs, perhaps with m's P.
static bool is_mine(struct m *m, struct g *g)
{
    struct live *l = g->live;
    if (!l) {
        if (stack_attach(m_p(m), g))
            return true;
        stack_wait_put(g);
        return false;
    }
    struct m *bound = l->bound_m;
    if (__builtin_expect(sched.is_chaos, 0) && !bound)
        bound = other_for_chaos(m, l);
    if (__builtin_expect(!bound || bound == m, 1))
        return true;
    if (l->locked) { // so it is bound->locked_g
        m_give(bound, p_release(m));
        m_stop(m);
        return false;
    }
    pin_to(bound, g);
    struct p *p = p_release(m);
    if (m_give_if_idle(bound, p))
        m_stop(m);
    else {
        p_acquire(m, p);                // it is busy, and looks before it stops
        if (atomic_load(&sched.poller)) // seq_cst: after pinned_count; pairs with wait_polled
            netpoll_break();
    }
    return false;
}

// --- The places to look.

static struct g *take_pinned(struct m *m)
{
    if (!atomic_load_explicit(&m->pinned_count, memory_order_relaxed))
        return NULL;
    rt_lock(&m->pinned_lock);
    struct g *g = queue_take(&m->pinned);
    if (g)
        atomic_fetch_sub(&m->pinned_count, 1);
    rt_unlock(&m->pinned_lock);
    return g;
}

// A preempted fiber goes on: its M gets the P, and this one stops. False: there is none.
static bool resume_bound(struct m *m)
{
    if (!atomic_load_explicit(&sched.bound_count, memory_order_relaxed))
        return false;
    rt_lock(&sched.lock);
    struct g *g = bound_take();
    rt_unlock(&sched.lock);
    if (!g)
        return false;
    m_resume_bound(g, p_release(m));
    m_stop(m);
    return true;
}

// Within a transition: share() in init.c waits for those alone.
static struct g *take_own(struct m *m, struct p *p)
{
    trans_begin(m);
    struct g *g = runq_get(p);
    trans_end(m);
    return g;
}

static struct g *take_global(struct p *p, uint32_t max)
{
    if (!atomic_load_explicit(&sched.global_count, memory_order_relaxed))
        return NULL;
    rt_lock(&sched.lock);
    struct g *g = global_get(p, max);
    rt_unlock(&sched.lock);
    return g;
}

static struct g *take_stack_wait(void)
{
    if (!atomic_load_explicit(&sched.stack_wait_count, memory_order_relaxed) || stacks_are_short())
        return NULL;
    rt_lock(&sched.lock);
    struct g *g = queue_take(&sched.stack_waits);
    counted_store(&sched.stack_wait_count, sched.stack_waits.count);
    rt_unlock(&sched.lock);
    return g;
}

// Readies what the netpoller gave; the first is returned to be run.
static struct g *ready_polled(struct p *p, struct g_queue *q)
{
    struct m *m = p->m;
    trans_begin(m);
    struct g *first = queue_take(q), *g;
    if (first) {
        FIB_TRACE(resume, m, first);
        usdt_unpark(m, first);
        atomic_store_explicit(&first->status, G_RUNNABLE, memory_order_release);
    }
    bool is_more = false;
    while ((g = queue_take(q))) {
        FIB_TRACE(resume, m, g);
        usdt_unpark(m, g);
        atomic_store_explicit(&g->status, G_RUNNABLE, memory_order_release);
        g->live->wakes++;
        runq_put(p, g);
        is_more = true;
    }
    trans_end(m);
    if (first)
        first->live->wakes++;
    if (is_more)
        wake_p();
    return first;
}

static struct g *poll_now(struct p *p)
{
    if (!netpoll_is_used() || !netpoll_waiters() || atomic_load(&sched.poller))
        return NULL;
    struct g_queue q = {0};
    atomic_store_explicit(&sched.polled_at, (int64_t)ticks_now(), memory_order_relaxed);
    return netpoll_poll(0, &q) ? ready_polled(p, &q) : NULL;
}

// Whoever is about to switch to its next does so within this; only one that goes on computing loses it.
static bool next_stays(struct p *from)
{
    uint32_t schedules = atomic_load_explicit(&from->schedules, memory_order_relaxed);
    for (int i = 0; i < 100; i++)
        arch_pause();
    return schedules == atomic_load_explicit(&from->schedules, memory_order_relaxed);
}

static struct g *steal(struct m *m)
{
    struct p *p = m_p(m);
    uint32_t procs = atomic_load(&sched.ps_made); // those beyond fib_procs may have work left
    if (!m->is_spinning) {
        uint32_t idle = atomic_load_explicit(&sched.idle_ps, memory_order_relaxed);
        if (2 * atomic_load_explicit(&sched.spinning, memory_order_relaxed) >= procs - idle)
            return NULL;
        m->is_spinning = true;
        atomic_fetch_add(&sched.spinning, 1);
    }
    for (int round = 0; round < 4; round++) {
        uint32_t at = (uint32_t)(random_next(&m->random) % procs);
        for (uint32_t i = 0; i < procs; i++, at = at + 1 == procs ? 0 : at + 1) {
            struct p *from = sched.ps[at];
            if (from == p || runq_is_empty(from))
                continue;
            bool with_next = round == 3 && next_stays(from);
            struct g *g = runq_steal(p, from, with_next);
            if (g) {
                atomic_store_explicit(&p->steals,
                                      atomic_load_explicit(&p->steals, memory_order_relaxed) + 1,
                                      memory_order_relaxed);
                if (USDT_IS_ON(steal))
                    USDT3(steal, usdt_id(g), p->id, from->id);
                return g;
            }
        }
    }
    return NULL;
}

// --- Going to sleep.

bool is_work_anywhere(void)
{
    uint32_t procs = atomic_load(&sched.ps_made); // those beyond fib_procs may have work left
    if (atomic_load(&sched.global_count) || atomic_load(&sched.bound_count))
        return true;
    for (uint32_t i = 0; i < procs; i++)
        if (!runq_is_empty(sched.ps[i]))
            return true;
    return false;
}

static bool take_idle_p(struct m *m)
{
    rt_lock(&sched.lock);
    struct p *p = p_idle_get();
    rt_unlock(&sched.lock);
    if (p)
        p_acquire(m, p);
    return p;
}

// Waits for descriptors and the next timer, if no other M does. m has no P, and has one afterwards; or
// what was ready is in the global queue.
static void wait_polled(struct m *m)
{
    uint32_t no = 0;
    if (!netpoll_waiters() && timers_first() == INT64_MAX)
        return;
    if (!atomic_compare_exchange_strong(&sched.poller, &no, 1))
        return;
    if (atomic_load(&m->pinned_count)) { // seq_cst: pairs with is_mine
        atomic_store(&sched.poller, 0);
        return; // m_stop sees to it
    }
    atomic_store(&sched.poll_until, 1); // whoever adds a timer from now on breaks the wait
    int64_t first = timers_first();
    int64_t timeout = -1;
    atomic_store(&sched.poll_until, first); // seq_cst: pairs with the fence in timer_add
    // Never later than announced: whoever adds a timer between that and a later first one breaks nothing.
    int64_t again = timers_first();
    first = again < first ? again : first;
    if (first != INT64_MAX) {
        int64_t now = clock_now();
        timeout = first > now ? first - now : 0;
    }
    struct g_queue q = {0};
    netpoll_poll(timeout, &q);
    atomic_store(&sched.poll_until, 0);
    atomic_store(&sched.poller, 0);
    atomic_store_explicit(&sched.polled_at, (int64_t)ticks_now(), memory_order_relaxed);
    bool has_p = take_idle_p(m);
    if (has_p) {
        m->handed = ready_polled(m_p(m), &q);
        return;
    }
    trans_begin(m);
    for (struct g *g = q.head; g; g = g->link) {
        FIB_TRACE(resume, m, g);
        usdt_unpark(m, g);
        atomic_store_explicit(&g->status, G_RUNNABLE, memory_order_release);
        g->live->wakes++;
    }
    global_put_list(&q);
    trans_end(m);
}

// m's P becomes idle. Returns when m has one again.
static void idle(struct m *m)
{
    rt_lock(&sched.lock);
    if (sched.global.count || sched.bound.count) {
        rt_unlock(&sched.lock);
        return;
    }
    p_idle_put(p_release(m));
    rt_unlock(&sched.lock);
    if (m->is_spinning) {
        m->is_spinning = false;
        atomic_fetch_sub(&sched.spinning, 1);
    }
    atomic_thread_fence(memory_order_seq_cst); // pairs with the one in wake_p
    if (is_work_anywhere() && take_idle_p(m)) {
        m->is_spinning = true;
        atomic_fetch_add(&sched.spinning, 1);
        return;
    }
    wait_polled(m);
    if (!m_p(m) && !(is_work_anywhere() && take_idle_p(m)))
        m_stop(m);
}

static void stop_p(struct m *m)
{
    struct p *p = p_release(m);
    struct g_queue q = {0};
    struct g *g;
    if (m->handed)
        queue_append(&q, m->handed);
    m->handed = NULL;
    while ((g = take_own(m, p)))
        queue_append(&q, g);
    global_put_list(&q);
    rt_lock(&sched.lock);
    p_idle_put(p); // passed over there while its id is too high
    rt_unlock(&sched.lock);
    wake_p();
    if (!take_idle_p(m))
        m_stop(m);
}

// --- The deterministic scheduler: any of the runnable ones.

static struct g *seed_choose(struct p *p)
{
    uint32_t n = atomic_load_explicit(&p->tail, memory_order_relaxed) -
                 atomic_load_explicit(&p->head, memory_order_relaxed) +
                 (atomic_load_explicit(&p->next, memory_order_relaxed) != NULL);
    if (!n)
        return NULL;
    for (uint32_t k = (uint32_t)(random_next(&p->random) % n); k; k--) {
        struct g *g = runq_get(p);
        runq_put(p, g);
    }
    return runq_get(p);
}

void seed_point_slow(void)
{
    struct m *m = this_m();
    if (m && m->cur != &m->g0 && !m->locks && !m->cur->live->blocking &&
        (random_next(&m_p(m)->random) & 3) == 0)
        g_yield();
}

static struct g *look_seeded(struct m *m)
{
    for (;;) {
        struct p *p = m_p(m);
        timers_run(clock_now());
        struct g *g = take_pinned(m);
        if (g)
            return g;
        while (atomic_load_explicit(&p->tail, memory_order_relaxed) -
                       atomic_load_explicit(&p->head, memory_order_relaxed) <
                   RUNQ_SIZE / 2 &&
               (g = take_global(p, 1)))
            runq_put(p, g);
        g = seed_choose(p);
        if (g)
            return g;
        if (netpoll_waiters()) {
            struct g_queue q = {0};
            netpoll_poll(timers_first() == INT64_MAX ? -1 : 1000000, &q);
            g = ready_polled(p, &q);
            if (g)
                return g;
        }
        if (!seed_clock_advance())
            return NULL;
    }
}

// --- All of it.

static void look_at_timers(struct p *p, bool with_others)
{
    int64_t first =
        with_others ? timers_first() : atomic_load_explicit(&p->timers.first, memory_order_relaxed);
    if (first == INT64_MAX)
        return;
    int64_t now = clock_now();
    if (first > now)
        return;
    timers_run_some(p, now);
    if (with_others)
        timers_run_others(p, now);
}

static struct g *look(struct m *m)
{
    struct p *p = m_p(m);
    struct g *g = m->handed;
    m->handed = NULL;
    if (g)
        return g;
    if (__builtin_expect(sched_is_seeded, 0))
        return look_seeded(m);
    bool is_others_turn = p->countdown == 0 || p->countdown > GLOBAL_TICK;
    look_at_timers(p, is_others_turn);
    if ((g = take_pinned(m)))
        return g;
    if (is_others_turn) {
        p->countdown = GLOBAL_TICK;
        // Two that ready each other would keep the queue waiting for ever.
        if ((g = atomic_exchange_explicit(&p->next, NULL, memory_order_acq_rel)))
            runq_put(p, g);
        if (resume_bound(m))
            return AGAIN;
        if ((g = take_global(p, 1)))
            return g;
        if (netpoll_is_used() && (g = poll_now(p)))
            return g;
    }
    // Those that were preempted take turns with the rest: each of them is one that runs long.
    p->is_bounds_turn = !p->is_bounds_turn;
    if (p->is_bounds_turn && resume_bound(m))
        return AGAIN;
    if ((g = take_own(m, p)) || (g = take_global(p, RUNQ_SIZE / 2)) || (g = take_stack_wait()))
        return g;
    if (resume_bound(m))
        return AGAIN;
    look_at_timers(p, true);
    if ((g = take_own(m, p)) || (g = poll_now(p)))
        return g;
    return steal(m);
}

static struct g *find(struct m *m)
{
    for (;;) {
        if (m->is_ending)
            m_end(m);
        if (m->locked_g) {
            m_stop_locked(m);
            return m->locked_g;
        }
        if (!m_p(m) && !take_idle_p(m))
            m_stop(m);
        if (m_p(m)->id >= atomic_load_explicit(&sched.procs, memory_order_relaxed)) {
            stop_p(m);
            continue;
        }
        struct g *g = look(m);
        if (!g)
            idle(m);
        if (!g || g == AGAIN || !is_mine(m, g))
            continue;
        if (m->is_spinning) {
            m->is_spinning = false;
            atomic_fetch_sub(&sched.spinning, 1);
            // There may be more where this came from: one more looks.
            if (is_work_anywhere())
                wake_p();
        }
        return g;
    }
}

void schedule_loop(struct m *m)
{
    for (;;) {
        struct g *g = find(m);
        struct p *p = m_p(m);
        trans_begin(m);
        atomic_store_explicit(&g->status, G_RUNNING, memory_order_release);
        atomic_store_explicit(&p->schedules,
                              atomic_load_explicit(&p->schedules, memory_order_relaxed) + 1,
                              memory_order_relaxed);
        uint64_t now = ticks_now();
        if (m_is_traced(m))
            trace_start_(m, g, now);
        switch_to(m, g, now);
    }
}
