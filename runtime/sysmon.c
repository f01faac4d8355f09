// SPDX-License-Identifier: MIT
//
// The thread that watches: takes Ps from blocking calls, preempts fibers that run long while others wait, sees to
// timers and descriptors that nobody looks at, and starts Ms for work that was left to its maker.
//
// It takes no lock of libc's and allocates nothing: it has to run when a preempted fiber holds malloc's
// locks. When all Ps have been idle for 0.2 s it sleeps until one is taken, or the
// diagnosis wants to look again.

#include "runtime/core.h"
#include "runtime/netpoll.h"
#include "runtime/os/os.h"
#include "runtime/print.h"
#include "runtime/trace.h"
#include "runtime/usdt.h"

enum {
    TRIM_PERIOD_NS = 200000000,
    TICK_NS = 10000000,
    TICK_MIN_NS = 50000,
    QUIET_TICKS = 20,
    IDLE_TICKS = 20
};
// A trace is to be seen to, though nothing happens.
#define TRACED_NS INT64_C(100000000)
#define POOLS_NS  INT64_C(2000000000)

void sysmon_wake(void)
{
    if (atomic_load_explicit(&sched.sysmon_sleeps, memory_order_relaxed) &&
        atomic_exchange(&sched.sysmon_sleeps, 0))
        os_futex_wake(&sched.sysmon_sleeps, 1);
}

static bool is_work_for(struct p *p)
{
    return !runq_is_empty(p) || atomic_load_explicit(&sched.global_count, memory_order_relaxed) ||
           atomic_load_explicit(&sched.bound_count, memory_order_relaxed);
}

// A P in a blocking call. True: taken.
FIB_LOOKS static bool retake(struct p *p, int64_t now)
{
    uint32_t schedules = atomic_load_explicit(&p->schedules, memory_order_relaxed);
    if (p->ran_schedules != schedules || !p->syscall_ticks) {
        p->ran_schedules = schedules;
        p->ran_since_tick = now;
        p->syscall_ticks = 1;
        if (!is_work_for(p))
            return false;
    } else if (!is_work_for(p) && now - p->ran_since_tick < TICK_NS) {
        return false;
    }
    struct emit_thread *t = trace_outside_enter();
    uint32_t in_call = P_SYSCALL;
    // acquire: pairs with the release in fib_blocking_enter
    bool is_taken = atomic_compare_exchange_strong_explicit(
        &p->status, &in_call, P_TAKEN, memory_order_acquire, memory_order_relaxed);
    if (is_taken) {
        trace_outside_steal(t, p);
        atomic_store_explicit(&p->status, P_RUNNING, memory_order_release);
        trace_outside_told(t);
    }
    trace_outside_leave(t);
    if (!is_taken)
        return false;
    p->syscall_ticks = 0;
    p_hand_off(p);
    return true;
}

// A P whose fiber has not changed for a tick.
FIB_LOOKS static void watch_running(struct p *p, int64_t now)
{
    struct m *m = p->m; // Ms are never freed
    uint32_t schedules = atomic_load_explicit(&p->schedules, memory_order_relaxed);
    if (!m)
        return;
    if (p->ran_schedules != schedules) {
        p->ran_schedules = schedules;
        p->ran_since_tick = now;
        m->cpu_seen_ns = os_thread_cpu_ns(m->tid);
        return;
    }
    stall_watch(p, m, now - p->ran_since_tick);
    emit_lasted(EMIT_SLOW_STALL, (uint64_t)(now - p->ran_since_tick));
    if (sched.is_preempt_off || sched_is_seeded)
        return;
    // A timer that is due is work, too: somebody has to come to the scheduler.
    if (!is_work_for(p) && timers_first() >= now - 1000000)
        return;
    uint64_t cpu = os_thread_cpu_ns(m->tid);
    // The processor may just have been given to others: then it stands still, too.
    bool is_blocked = cpu - m->cpu_seen_ns < 20000 && os_thread_sleeps(m->tid);
    m->cpu_seen_ns = cpu;
    if (is_blocked)
        m_preempt(m, PREEMPT_BLOCKED);
    else if (now - p->ran_since_tick >= sched.quantum_ns)
        m_preempt(m, PREEMPT_RUNNING);
}

// Fibers that lost their P while they blocked and run on without one: they get their turn like others.
FIB_LOOKS static void watch_lost(void)
{
    for (struct m *m = atomic_load_explicit(&sched.all_ms, memory_order_acquire); m;
         m = m->all_link) {
        struct g *g = m->cur;
        const struct live *l = g_live(g); // NULL: it has ended meanwhile
        if (m_p(m) || g == &m->g0 || !l ||
            atomic_load_explicit(&g->status, memory_order_relaxed) != G_SYSCALL || l->blocking)
            continue;
        uint64_t cpu = os_thread_cpu_ns(m->tid);
        if (cpu - m->cpu_seen_ns > 100000)
            m_preempt(m, PREEMPT_RUNNING);
        m->cpu_seen_ns = cpu;
    }
}

// Work that p does not come to. What runs next is work for others only if it has been so for a tick: two fibers that
// ready each other nearly always have one there.
FIB_LOOKS static bool is_left_by(struct p *p)
{
    return atomic_load_explicit(&p->head, memory_order_relaxed) !=
               atomic_load_explicit(&p->tail, memory_order_relaxed) ||
           (p->ran_schedules == atomic_load_explicit(&p->schedules, memory_order_relaxed) &&
            !runq_is_empty(p));
}

FIB_LOOKS static bool look_at_ps(int64_t now)
{
    bool is_taken = false, is_left = false;
    uint32_t procs = atomic_load(&sched.ps_made); // those beyond fib_procs may have work left
    for (uint32_t i = 0; i < procs; i++) {
        struct p *p = sched.ps[i];
        uint32_t status = atomic_load_explicit(&p->status, memory_order_acquire);
        is_left |= is_left_by(p);
        if (status == P_SYSCALL)
            is_taken |= retake(p, now);
        else if (status == P_RUNNING)
            watch_running(p, now);
    }
    if (is_left || atomic_load_explicit(&sched.global_count, memory_order_relaxed) ||
        atomic_load_explicit(&sched.bound_count, memory_order_relaxed))
        wake_p();
    return is_taken;
}

static void look_at_waits(int64_t now)
{
    if (timers_first() < now - 1000000 && !atomic_load(&sched.poller))
        wake_p();
    // Busy Ps look at the netpoller every 61st switch only.
    if (!netpoll_is_used() || !netpoll_waiters() || atomic_load(&sched.poller))
        return;
    int64_t polled = atomic_load_explicit(&sched.polled_at, memory_order_relaxed);
    if (ticks_now() - (uint64_t)polled < ns_to_ticks(TICK_NS))
        return;
    struct g_queue q = {0};
    atomic_store_explicit(&sched.polled_at, (int64_t)ticks_now(), memory_order_relaxed);
    rt_lock(&sched.lock);
    sched.running_ms++; // what is in q is on its way: no deadlock meanwhile
    rt_unlock(&sched.lock);
    netpoll_poll(0, &q);
    struct emit_thread *t = trace_outside_enter();
    for (struct g *g = q.head; g; g = g->link) {
        trace_outside_ready(t, g);
        usdt_unpark(NULL, g);
        atomic_store_explicit(&g->status, G_RUNNABLE, memory_order_release);
        g->live->wakes++;
    }
    if (q.head)
        trace_outside_told(t);
    global_put_list(&q);
    trace_outside_leave(t);
    rt_lock(&sched.lock);
    sched.running_ms--;
    dead_check(); // the last M may have stopped meanwhile
    rt_unlock(&sched.lock);
    wake_p();
}

// True: there is more to do.
static bool trim_stacks(int64_t now)
{
    static int64_t period_began, looked_at;
    if (now - looked_at < TICK_NS)
        return true;
    looked_at = now;
    bool is_new_period = now - period_began >= TRIM_PERIOD_NS;
    if (is_new_period)
        period_began = now;
    return stacks_trim(is_new_period);
}

// Nothing runs, and fibers have waited for stacks for a second: silence would look like a hang.
FIB_LOOKS static void say_stacks_are_short(int64_t now)
{
    static int64_t since;
    static bool is_said;
    uint32_t count = atomic_load(&sched.stack_wait_count);
    if (!count) {
        since = 0;
        return;
    }
    since = since ? since : now;
    if (is_said || now - since < 1000000000)
        return;
    is_said = true;
    struct print p = {.fd = 2};
    print_format(
        &p,
        "fiberscope-rt: %u fibers wait for memory for their stacks, and nothing else runs: "
        "see ulimit -v and /proc/sys/vm/max_map_count, or take smaller stacks (FIB_STACK)\n",
        (uint64_t)count);
    print_flush(&p);
}

static void age_pools(int64_t now)
{
    static int64_t aged_at;
    if (now - aged_at < POOLS_NS)
        return;
    aged_at = now;
    pool_age_all();
}

static bool all_idle(void)
{
    return atomic_load(&sched.idle_ps) >= atomic_load(&sched.ps_made);
}

static void sleep_until_taken(int64_t limit_ns)
{
    atomic_store(&sched.sysmon_sleeps, 1); // seq_cst: pairs with idle_ps in p_idle_get
    if (all_idle())
        os_futex_wait(&sched.sysmon_sleeps, 1, limit_ns);
    atomic_store(&sched.sysmon_sleeps, 0);
}

void *sysmon_main(void *arg)
{
    (void)arg;
    emit_self_quiet(true);
    int64_t delay = TICK_NS;
    uint32_t quiet = 0, idle = 0;
    for (;;) {
        os_sleep(delay < sched.quantum_ns ? delay : sched.quantum_ns);
        if (all_idle()) {
            int64_t now = os_clock_ns(), limit = diag_idle_tick(now);
            bool is_trimming = trim_stacks(now);
            say_stacks_are_short(now);
            age_pools(now); // fibers that sleep most of the time are idle whenever one looks
            if (stacks_are_short())
                stacks_try_again();
            else if (!is_trimming && ++idle > IDLE_TICKS && limit)
                sleep_until_taken(emit_is_on() && (limit < 0 || limit > TRACED_NS) ? TRACED_NS
                                                                                   : limit);
            emit_tick();
            delay = TICK_NS;
            continue;
        }
        idle = 0;
        if (stacks_are_short())
            stacks_try_again();
        int64_t now = os_clock_ns();
        clock_anchor();
        if (look_at_ps(now)) {
            quiet = 0;
            delay = TICK_MIN_NS;
        } else if (++quiet > QUIET_TICKS && delay < TICK_NS) {
            delay *= 2;
        }
        watch_lost();
        look_at_waits(now);
        trim_stacks(now);
        age_pools(now);
        diag_tick(now);
        emit_tick();
    }
    return NULL;
}
