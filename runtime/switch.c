// SPDX-License-Identifier: MIT
//
// Leaving a processor, and coming back: the one place that switches stacks, and the ways to it: park,
// yield, exit. In the common case the next fiber is found and switched to directly, without the
// scheduler's own stack.

#include "runtime/core.h"
#include "runtime/descriptor.h"
#include "runtime/os/os.h"
#include "runtime/tools.h"
#include "runtime/trace.h"
#include "runtime/usdt.h"

#include <string.h>

FIB_PUBLIC __thread struct fib_tls fib_tls __attribute__((tls_model("initial-exec")));

// The wait for a processor that ends now, one in 8, as Go samples it.
static __attribute__((noinline)) void note_latency(struct m *m, struct g *g, uint64_t now)
{
    uint64_t ticks = now - g->ready_ticks;
    struct p *p = m_p(m);
    g->is_waking_sampled = 0;
    if ((int64_t)ticks < 0) // counters of two processors
        ticks = 0;
    g->live->runnable_ticks += 8 * ticks;
    uint64_t ns = ticks_to_ns(ticks);
    emit_lasted(EMIT_SLOW_LATENCY, ns);
    _Atomic uint64_t *count = &p->latency[ns ? 63 - __builtin_clzll(ns) : 0];
    atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + 8,
                          memory_order_relaxed);
}

static inline void switch_finish(void)
{
    struct m *m = this_m();
    park_after_fn *after = m->after;
    if (after) {
        m->after = NULL;
        after(m, m->prev, m->after_arg);
    }
    usdt_start(m);
    trans_end(m);
}

__attribute__((noinline)) void switch_to(struct m *m, struct g *next, uint64_t now)
{
    struct g *prev = m->cur;
    struct live *from = prev->live, *to = next->live;
    from->cpu_ticks += now - m->since_ticks;
    from->wait_since_ticks = now;
    m->since_ticks = now;
    to->switches++;
    if (__builtin_expect(next->is_waking_sampled, 0))
        note_latency(m, next, now);
    from->saved_errno = *m->errno_at;
    *m->errno_at = to->saved_errno;
    if (m->eh_globals) {
        memcpy(from->eh_globals, m->eh_globals, sizeof from->eh_globals);
        memcpy(m->eh_globals, to->eh_globals, sizeof to->eh_globals);
    }
    m->prev = prev;
    __atomic_store_n(&m->cur, next, __ATOMIC_RELAXED); // others look at it
    fib_tls.g = next;
    fib_tls.owner =
        locks_are_slow() ? 0 : atomic_load_explicit(&next->id, memory_order_relaxed); // g0's is 0
    tools_switch(from, to);
    tools_switched(from);
    switch_finish();
}

void fiber_begin(void)
{
    struct m *m = this_m();
    m->cur->live->started_ticks = m->since_ticks;
    tools_switched(m->cur->live);
    switch_finish();
}

static inline void set_status(struct g *g, enum g_status s)
{
    atomic_store_explicit(&g->status, (uint8_t)s, memory_order_release);
}

struct g *next_fast(struct m *m, uint64_t now)
{
    struct p *p = m_p(m);
    if (!p || sched.is_slow || m->locked_g ||
        atomic_load_explicit(&m->pinned_count, memory_order_relaxed) ||
        now >= atomic_load_explicit(&p->timers.first_ticks, memory_order_relaxed) ||
        p->id >= atomic_load_explicit(&sched.procs, memory_order_relaxed))
        return NULL;
    if (__builtin_expect(--p->countdown == 0, 0)) {
        // Others' turn, and the netpoller's.
        return NULL;
    }
    struct g *g = runq_get(p);
    if (!g)
        return NULL;
    if (!g->live) {
        if (!stack_attach(p, g)) {
            m->handed = g;
            return NULL;
        }
    } else if (g->live->bound_m && g->live->bound_m != m) {
        m->handed = g;
        return NULL;
    }
    set_status(g, G_RUNNING);
    atomic_store_explicit(&p->schedules,
                          atomic_load_explicit(&p->schedules, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    return g;
}

void unlock_after(struct m *m, struct g *g, void *lock)
{
    (void)g;
    struct rt_lock *l = lock;
    atomic_store_explicit(&l->held, 0, memory_order_release); // pairs with rt_lock
    if (m)
        m->locks--;
}

// --- Without a P: what an unannounced blocking call costs.

static void after_global(struct m *m, struct g *prev, void *arg)
{
    (void)m, (void)arg;
    global_put(prev);
    wake_p();
}

static __attribute__((noinline)) void get_p(struct m *m)
{
    if (m->cur->live->blocking) // has none on purpose, and comes back to it by fib_blocking_exit
        rt_fatal("fib_yield", "a fiber waits between fib_blocking_enter and exit");
    trans_begin(m);
    if (m_p(m)) { // the handler of SIGURG came back with one
        trans_end(m);
        return;
    }
    rt_lock(&sched.lock);
    struct p *p = p_idle_get();
    rt_unlock(&sched.lock);
    FIB_TRACE(call_end_blocked, m);
    if (USDT_IS_ON(syscall_exit))
        USDT2(syscall_exit, usdt_self(m), 0);
    if (p) {
        p_acquire(m, p);
        FIB_TRACE(start, m, m->cur, ticks_now());
        usdt_start(m);
        set_status(m->cur, G_RUNNING);
        trans_end(m);
        return;
    }
    set_status(m->cur, G_RUNNABLE);
    m->after = after_global;
    switch_to(m, &m->g0, ticks_now());
}

struct m *trans_begin_with_p(void)
{
    for (;;) {
        struct m *m = this_m();
        trans_begin(m);
        if (__builtin_expect(m_p(m) != NULL, 1))
            return m;
        trans_end(m);
        get_p(m);
    }
}

// --- Parking.

static __attribute__((noinline)) void tell_wait(const struct live *l)
{
    void (*tell)(const void *object, uint64_t ns) =
        __atomic_load_n(&fib_descriptor.on_wait, __ATOMIC_RELAXED);
    uint32_t reason = l->wait_reason;
    uint64_t ticks = ticks_now() - l->wait_since_ticks;
    uint64_t ns = (int64_t)ticks < 0 ? 0 : ticks_to_ns(ticks);
    if (reason == WAIT_SLEEP || reason == WAIT_IO || reason == WAIT_STACK)
        return;
    if (USDT_IS_ON(block))
        USDT5(block, usdt_id(l->g), ns, (uintptr_t)l->wait_object, 1, reason);
    if (tell)
        tell(l->wait_object, ns);
}

static inline void park_end(struct live *l)
{
    if (__builtin_expect(fib_descriptor.on_wait != NULL, 0) || USDT_IS_ON(block))
        tell_wait(l);
    l->wait_reason = WAIT_NONE;
    l->wait_owner = NULL;
}

// The rest of g_park, whose frame it takes. Once the status says that it waits, others may tell so: it is told before.
static __attribute__((noinline)) void park_told(struct m *m, enum wait_reason reason, uint64_t now,
                                                park_after_fn *after, void *arg)
{
    struct g *g = m->cur, *next = next_fast(m, now);
    next = next ? next : &m->g0;
    if (m_is_traced(m))
        trace_park_(m, reason, trace_stack(m), next, now);
    if (USDT_IS_ON(park))
        USDT4(park, usdt_id(g), reason, (uintptr_t)g->live->wait_object,
              (uintptr_t)wait_reason_text(reason));
    set_status(g, G_WAITING);
    m->after = after;
    m->after_arg = arg;
    switch_to(m, next, now);
    park_end(g->live);
}

void g_park(enum wait_reason reason, const void *object, park_after_fn *after, void *arg)
{
    struct m *m = this_m();
    if (__builtin_expect(!m, 0)) {
        thread_park(this_g(), reason, object, after, arg, -1);
        return;
    }
    struct g *g = m->cur;
    struct live *l = g->live;
    if (__builtin_expect(l->blocking != 0, 0))
        rt_fatal("fib_blocking_enter", "a fiber waits between fib_blocking_enter and exit");
    trans_begin(m);
    uint64_t now = ticks_now();
    l->wait_reason = reason;
    l->wait_object = object;
    if (m_is_traced(m) || USDT_IS_ON(park)) {
        park_told(m, reason, now, after, arg);
        return;
    }
    set_status(g, G_WAITING);
    m->after = after;
    m->after_arg = arg;
    // What follows holds no lock that `after` will release: the scheduler takes others.
    struct g *next = next_fast(m, now);
    switch_to(m, next ? next : &m->g0, now);
    park_end(l);
}

struct limit {
    struct timer timer;
    park_after_fn *after;
    void *arg;
};

static void fire_choice(struct timer *t)
{
    struct g *g = t->arg;
    if (g_choose(g)) {
        g->live->wait_data = t;
        g_ready(g);
    }
}

// The registers are saved: the timer may fire at once. The waiter that it wakes needs the lock that the
// inner `after` releases, or there is none; so *l is not touched after timer_add.
static void after_limit(struct m *m, struct g *g, void *arg)
{
    struct limit *l = arg;
    park_after_fn *after = l->after;
    arg = l->arg;
    timer_add(&l->timer);
    if (after)
        after(m, g, arg);
}

bool g_park_for(enum wait_reason reason, const void *object, park_after_fn *after, void *arg,
                int64_t timeout_ns)
{
    struct g *g = this_g();
    if (timeout_ns < 0) {
        g_park(reason, object, after, arg);
        return true;
    }
    struct live *live = g->live;
    live->wait_data = NULL;
    if (g->flags & G_IS_THREAD) {
        thread_park(g, reason, object, after, arg, timeout_ns);
        return live->wait_data != live;
    }
    int64_t now = clock_soon();
    struct limit l = {
        .timer = {.when = timeout_ns > INT64_MAX - now ? INT64_MAX : now + timeout_ns,
                  .fire = fire_choice,
                  .arg = g},
        .after = after,
        .arg = arg,
    };
    g_park(reason, object, after_limit, &l);
    timer_remove(&l.timer);
    return live->wait_data != &l.timer;
}

// --- Readying.

static inline void sample_wait(struct p *p, struct g *g)
{
    if ((p->countdown & 7) == 0) {
        g->is_waking_sampled = 1;
        g->ready_ticks = ticks_now();
    }
}

// By the clock a fiber that has lost its processor to another process computes, too. It is not worth a thread: it
// wakes for nothing, and takes the processor away the next time.
static __attribute__((noinline)) bool has_computed(struct m *m)
{
    uint64_t before = m->interrupted;
    m->interrupted = os_thread_interrupted();
    return m->interrupted == before;
}

static inline void maybe_wake(struct m *m, struct p *p)
{
    if (__builtin_expect(!atomic_load_explicit(&sched.idle_ps, memory_order_relaxed), 1) ||
        atomic_load_explicit(&sched.spinning, memory_order_relaxed))
        return;
    // What this M runs next by itself needs nobody else, unless the running fiber is one that goes on.
    if (atomic_load_explicit(&p->head, memory_order_relaxed) !=
            atomic_load_explicit(&p->tail, memory_order_relaxed) ||
        (ticks_now() - m->since_ticks > sched.wake_after_ticks && has_computed(m)))
        wake_p();
}

static void thread_ready(struct g *g)
{
    struct live *l = g->live;
    set_status(g, G_RUNNING);
    if (l->is_counted)
        atomic_fetch_sub(&sched.thread_gs_parked, 1);
    // release: pairs with the acquire in thread_park. g may be gone afterwards; its memory stays.
    atomic_store_explicit(&l->futex, 1, memory_order_release);
    os_futex_wake(&l->futex, 1);
}

// In a plain thread (m NULL), or within m's transition, which this ends.
static __attribute__((noinline)) void ready_without_p(struct m *m, struct g *g)
{
    struct emit_thread *t = m ? NULL : trace_outside_enter();
    if (m)
        FIB_TRACE(ready, m, g, trace_stack(m));
    else
        trace_outside_ready(t, g);
    usdt_unpark(m, g);
    set_status(g, G_RUNNABLE);
    if (!m)
        trace_outside_told(t);
    global_put(g);
    if (m)
        trans_end(m);
    else
        trace_outside_leave(t);
}

// Within m's transition, which this ends.
static inline void ready_here(struct m *m, struct p *p, struct g *g, bool is_next)
{
    set_status(g, G_RUNNABLE);
    sample_wait(p, g);
    if (is_next)
        runq_put_next(p, g);
    else
        runq_put(p, g);
    maybe_wake(m, p);
    trans_end(m);
}

static __attribute__((noinline)) void ready_told(struct m *m, struct p *p, struct g *g,
                                                 bool is_next)
{
    if (m_is_traced(m))
        trace_ready_(m, g, trace_stack(m));
    usdt_unpark(m, g);
    ready_here(m, p, g, is_next);
}

static inline void ready(struct g *g, bool is_next)
{
    if (__builtin_expect(g->flags & G_IS_THREAD, 0)) {
        thread_ready(g);
        return;
    }
    struct m *m = this_m();
    struct p *p = NULL;
    if (m) {
        trans_begin(m); // before p is read: the handler of SIGURG may change it
        p = m_p(m);
    }
    g->live->wakes++;
    if (__builtin_expect(!p, 0)) {
        ready_without_p(m, g);
        wake_p();
        return;
    }
    if (m_is_traced(m) || USDT_IS_ON(unpark))
        ready_told(m, p, g, is_next);
    else
        ready_here(m, p, g, is_next);
}

void g_enqueue_new(struct m *m, struct p *p, struct g *g)
{
    sample_wait(p, g);
    runq_put_next(p, g);
    maybe_wake(m, p);
}

void g_ready(struct g *g)
{
    ready(g, true);
}

void g_ready_last(struct g *g)
{
    ready(g, false);
}

// --- Yielding.

static void after_yield(struct m *m, struct g *prev, void *arg)
{
    (void)arg;
    struct p *p = m_p(m);
    if (p)
        runq_put(p, prev);
    else
        global_put(prev);
}

static bool is_alone(struct m *m, struct p *p, uint64_t now)
{
    return !sched.is_slow && !m->handed && p->countdown > 1 && runq_is_empty(p) &&
           !atomic_load_explicit(&sched.global_count, memory_order_relaxed) &&
           !atomic_load_explicit(&sched.bound_count, memory_order_relaxed) &&
           now < atomic_load_explicit(&p->timers.first_ticks, memory_order_relaxed) &&
           !atomic_load_explicit(&m->pinned_count, memory_order_relaxed) &&
           p->id < atomic_load_explicit(&sched.procs, memory_order_relaxed);
}

static inline void yield_to(struct m *m, struct g *g, struct g *next, uint64_t now)
{
    set_status(g, G_RUNNABLE);
    if ((m_p(m)->countdown & 7) == 0) {
        g->is_waking_sampled = 1;
        g->ready_ticks = now;
    }
    m->after = after_yield;
    switch_to(m, next, now);
}

static __attribute__((noinline)) void yield_told(struct m *m, struct g *next, uint64_t now)
{
    if (m_is_traced(m))
        trace_yield_(m, trace_stack(m), next, now);
    if (USDT_IS_ON(yield))
        USDT1(yield, usdt_id(m->cur));
    yield_to(m, m->cur, next, now);
}

void g_yield(void)
{
    struct m *m = trans_begin_with_p();
    uint64_t now = ticks_now();
    struct g *next = next_fast(m, now);
    if (!next) {
        struct p *p = m_p(m);
        if (is_alone(m, p, now)) {
            p->countdown -= p->countdown > 1; // so that the netpoller has its turn
            trans_end(m);
            return;
        }
        next = &m->g0;
    }
    if (m_is_traced(m) || USDT_IS_ON(yield))
        yield_told(m, next, now);
    else
        yield_to(m, m->cur, next, now);
}

void g_ready_and_yield(struct g *g)
{
    g_ready(g);
    struct m *m = this_m();
    if (m && m_p(m)) // else, in a blocking call, others have the processor already
        g_yield();
}

// --- Ending.

static void after_exit(struct m *m, struct g *prev, void *arg)
{
    (void)arg;
    struct p *p = m_p(m);
    if (m->locked_g == prev) {
        m->locked_g = NULL;
        m->is_ending = true;
    }
    stack_release(p, prev);
    g_free(p, prev);
}

FIB_PUBLIC void fib_exit(void)
{
    struct m *m = this_m();
    if (!m || m->cur == &m->g0)
        rt_fatal("fib_exit", "the caller is no fiber");
    struct g *g = m->cur;
    if (g->live->blocking)
        rt_fatal("fib_exit", "a fiber ends between fib_blocking_enter and exit");
    locals_end(g);
    g->live->ended_id = atomic_load_explicit(&g->id, memory_order_relaxed);
    join_wake(g);
    m = trans_begin_with_p();
    struct p *p = m_p(m);
    atomic_store_explicit(&p->exits, atomic_load_explicit(&p->exits, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    uint64_t now = ticks_now();
    struct g *next = next_fast(m, now);
    next = next ? next : &m->g0;
    if (m_is_traced(m))
        trace_destroy_(m, next, now);
    if (USDT_IS_ON(exit))
        USDT2(exit, usdt_id(g), (uintptr_t)g->fn);
    set_status(g, G_DEAD);
    m->after = after_exit;
    switch_to(m, next, now);
    __builtin_unreachable();
}
