// SPDX-License-Identifier: MIT
//
// Ms: making threads, stopping and waking them.
//
// Threads are made by the spawner, a thread that does nothing else: pthread_create takes locks of libc's,
// and a preempted fiber may hold them. Whoever waits for it holds no P. When a P needs an M and there
// is none, a fiber that waits in its signal handler is given the P first: its M is there already.

#include "runtime/core.h"
#include "runtime/os/os.h"
#include "runtime/tools.h"
#include "runtime/trace.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>

enum { SIGNAL_STACK = 64 << 10, G0_STACK = 256 << 10 };

// Weak: there where libstdc++ is.
extern void *__cxa_get_globals(void) __attribute__((weak));

static void m_wait(struct m *m)
{
    while (!atomic_load_explicit(&m->park, memory_order_acquire)) // pairs with m_wake
        os_futex_wait(&m->park, 0, -1);
    atomic_store_explicit(&m->park, 0, memory_order_relaxed);
    struct p *p = m->next_p;
    m->next_p = NULL;
    if (p)
        p_acquire(m, p);
}

static void m_wake(struct m *m)
{
    atomic_fetch_add_explicit(&m->wakes_issued, 1, memory_order_relaxed);
    atomic_store_explicit(&m->park, 1, memory_order_release);
    os_futex_wake(&m->park, 1);
}

// sched.lock held. True: m waits, or is about to, and is to be woken by the caller once unlocked.
static void give_locked(struct m *m, struct p *p)
{
    m->next_p = p;
    if (m->is_stopped) {
        m->is_stopped = false;
        sched.running_ms++;
    }
}

static void idle_remove(struct m *m)
{
    for (struct m **at = &sched.idle_m_list; *at; at = &(*at)->link) {
        if (*at == m) {
            *at = m->link;
            m->is_idle = false;
            sched.idle_ms--;
            return;
        }
    }
}

void m_give(struct m *m, struct p *p)
{
    rt_lock(&sched.lock);
    if (m->is_idle)
        idle_remove(m);
    give_locked(m, p);
    rt_unlock(&sched.lock);
    m_wake(m);
}

bool m_give_if_idle(struct m *m, struct p *p)
{
    rt_lock(&sched.lock);
    bool is_idle = m->is_idle;
    if (is_idle) {
        idle_remove(m);
        give_locked(m, p);
    }
    rt_unlock(&sched.lock);
    if (is_idle)
        m_wake(m);
    return is_idle;
}

// A preempted fiber goes on in the handler where it waits.
void m_resume_bound(struct g *g, struct p *p)
{
    struct live *l = g->live;
    l->bound_m->next_p = p;
    // release: pairs with the acquire in preempt.c. g may run and end from here on; its memory stays.
    atomic_store_explicit(&l->futex, 1, memory_order_release);
    os_futex_wake(&l->futex, 1);
}

struct g *bound_take(void)
{
    struct g *g = queue_take(&sched.bound);
    atomic_store_explicit(&sched.bound_count, sched.bound.count, memory_order_relaxed);
    return g;
}

void m_start(struct p *p, bool is_spinning)
{
    rt_lock(&sched.lock);
    struct m *m = sched.idle_m_list;
    if (m) {
        idle_remove(m);
        m->is_spinning = is_spinning;
        give_locked(m, p);
        rt_unlock(&sched.lock);
        m_wake(m);
        return;
    }
    // One that fib_procs has taken away is passed on to nobody.
    bool may_run = p->id < atomic_load_explicit(&sched.procs, memory_order_relaxed);
    struct g *g = may_run ? bound_take() : NULL;
    if (!g) {
        p_idle_put(p);
        sched.is_p_waiting = true;
    }
    rt_unlock(&sched.lock);
    if (is_spinning)
        atomic_fetch_sub(&sched.spinning, 1);
    // With a bound one the P is used, but those that wait without an M would never have a turn.
    m_want();
    if (g)
        m_resume_bound(g, p);
}

// What is pinned here and has no P: any M that takes it gives it one.
static void return_pinned(struct m *m)
{
    struct g *g;
    rt_lock(&m->pinned_lock);
    while ((g = queue_take(&m->pinned)))
        queue_append(&sched.global, g);
    atomic_store_explicit(&m->pinned_count, 0, memory_order_relaxed);
    rt_unlock(&m->pinned_lock);
    atomic_store_explicit(&sched.global_count, sched.global.count, memory_order_relaxed);
}

void m_stop(struct m *m)
{
    if (m->is_spinning) {
        m->is_spinning = false;
        atomic_fetch_sub(&sched.spinning, 1);
        if (is_work_anywhere()) // who made work meanwhile woke nobody
            wake_p();
    }
    rt_lock(&sched.lock);
    if (atomic_load_explicit(&m->pinned_count, memory_order_relaxed))
        return_pinned(m);
    // Work may have come while this M still counted as one that looks.
    if (sched.global.count || sched.is_p_waiting) {
        struct p *p = p_idle_get();
        sched.is_p_waiting = false;
        if (p) {
            rt_unlock(&sched.lock);
            p_acquire(m, p);
            return;
        }
    }
    m->is_idle = m->is_stopped = true;
    m->link = sched.idle_m_list;
    sched.idle_m_list = m;
    sched.idle_ms++;
    sched.running_ms--;
    dead_check();
    rt_unlock(&sched.lock);
    atomic_fetch_add_explicit(&m->parks, 1, memory_order_relaxed);
    m_wait(m);
}

void m_stop_locked(struct m *m)
{
    if (m_p(m))
        p_hand_off(p_release(m));
    rt_lock(&sched.lock);
    if (!m->next_p) {
        m->is_stopped = true;
        sched.running_ms--;
        dead_check();
    }
    rt_unlock(&sched.lock);
    m_wait(m);
}

// --- Making them.

static void *m_main(void *arg)
{
    struct m *m = arg;
    m->tid = os_tid();
    m->errno_at = &errno;
    if (__cxa_get_globals)
        m->eh_globals = __cxa_get_globals();
    stack_t ss = {.ss_sp = m->signal_stack, .ss_size = SIGNAL_STACK};
    sigaltstack(&ss, NULL);
    tools_thread_begins(&m->g0_live);
    fib_tls.g = &m->g0;
    fib_tls.owner = 0;
    fib_tls.m = m;
    // The spawner waits for nothing: this M takes an idle P, or joins the idle ones.
    rt_lock(&sched.lock);
    struct p *p = p_idle_get();
    rt_unlock(&sched.lock);
    if (p)
        p_acquire(m, p);
    else
        m_stop(m);
    schedule_loop(m);
}

// Signals of the process go to other threads: a handler of the program's would run on a fiber's stack.
// Those of the thread's own doing, profiling and ours stay.
static void block_signals(sigset_t *old)
{
    static const int open[] = {SIGSEGV, SIGBUS,  SIGFPE,  SIGILL, SIGTRAP,
                               SIGSYS,  SIGABRT, SIGPROF, SIGURG};
    sigset_t set;
    sigfillset(&set);
    for (size_t i = 0; i < sizeof open / sizeof *open; i++)
        sigdelset(&set, open[i]);
    pthread_sigmask(SIG_SETMASK, &set, old);
}

// A struct m for thread `id`: one whose thread has ended, or a new one, linked for all to see.
static struct m *m_memory(struct m *ended, uint32_t id)
{
    struct m *m = ended;
    if (!m) {
        size_t bytes = (sizeof *m + OS_PAGE - 1) & ~(size_t)(OS_PAGE - 1);
        uint8_t *mem = os_pages(bytes + SIGNAL_STACK);
        if (!mem)
            return NULL;
        m = (struct m *)(void *)mem;
        m->signal_stack = mem + bytes;
        m->g0.flags = G_IS_SYSTEM | G_IS_STARTED;
        m->g0.live = &m->g0_live;
        m->g0_live.g = &m->g0;
        m->cur = &m->g0;
        m->all_link = atomic_load_explicit(&sched.all_ms, memory_order_relaxed);
        // release: pairs with the acquires of those who walk the list
        while (!atomic_compare_exchange_weak_explicit(&sched.all_ms, &m->all_link, m,
                                                      memory_order_release, memory_order_relaxed))
            ;
        trace_m_begins(m);
    }
    m->id = id;
    m->random = 0x9E3779B97F4A7C15ULL * (id + sched.seed);
    m->since_ticks = ticks_now();
    return m;
}

int thread_start(void *(*fn)(void *), void *arg, size_t stack_bytes)
{
    pthread_t t;
    pthread_attr_t attr;
    int rc;
    do { // glibc puts the program's thread-local variables there, and refuses what they do not fit in
        pthread_attr_init(&attr);
        pthread_attr_setstacksize(&attr, stack_bytes);
        pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        emit_self_quiet(true);
        rc = -pthread_create(&t, &attr, fn, arg);
        emit_self_quiet(false);
        pthread_attr_destroy(&attr);
        stack_bytes *= 2;
    } while (rc == -EINVAL && stack_bytes <= (size_t)256 << 20);
    return rc;
}

static int start_m(struct m *m)
{
    sigset_t old;
    block_signals(&old);
    int rc = thread_start(m_main, m, G0_STACK);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rc;
}

int m_new(void)
{
    static uint32_t last_id;
    rt_lock(&sched.lock);
    bool is_room = sched.ms < sched.threads_max;
    struct m *ended = is_room ? sched.ended_ms : NULL;
    if (ended)
        sched.ended_ms = ended->link;
    sched.ms += is_room;
    sched.running_ms += is_room;
    uint32_t id = ++last_id;
    rt_unlock(&sched.lock);
    if (!is_room)
        return -EAGAIN;
    struct m *m = m_memory(ended, id);
    int rc = m ? start_m(m) : -ENOMEM;
    if (!rc)
        return 0;
    rt_lock(&sched.lock);
    if (m) {
        m->link = sched.ended_ms;
        sched.ended_ms = m;
    }
    sched.ms--;
    sched.running_ms--;
    rt_unlock(&sched.lock);
    return rc;
}

void m_end(struct m *m)
{
    sigset_t all;
    sigfillset(&all); // the next thread of this m may have the signal stack from now on
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    if (m->is_spinning) {
        m->is_spinning = false;
        atomic_fetch_sub(&sched.spinning, 1);
    }
    m->is_ending = false;
    fib_tls.m = NULL;
    fib_tls.g = NULL;
    if (m_p(m))
        p_hand_off(p_release(m));
    trace_thread_ends_(m);
    rt_lock(&sched.lock);
    m->tid = 0;
    sched.ms--;
    sched.running_ms--;
    dead_check();
    m->link = sched.ended_ms;
    sched.ended_ms = m;
    rt_unlock(&sched.lock);
    m_want(); // one may be needed in its place
    pthread_exit(NULL);
}

void m_want(void)
{
    atomic_fetch_add_explicit(&sched.ms_wanted, 1, memory_order_release);
    os_futex_wake(&sched.ms_wanted, 1);
}

void *spawner_main(void *arg)
{
    (void)arg;
    emit_self_quiet(true);
    for (;;) {
        uint32_t wanted = atomic_load_explicit(&sched.ms_wanted, memory_order_acquire);
        if (!wanted) {
            os_futex_wait(&sched.ms_wanted, 0, -1);
            continue;
        }
        atomic_store_explicit(&sched.ms_wanted, 0, memory_order_relaxed);
        // One is enough for a burst: it wakes further ones as it finds work. Another stays in reserve.
        for (int i = 0; i < 2; i++) {
            rt_lock(&sched.lock);
            bool is_wanted =
                sched.idle_ms < 1 || (i == 0 && sched.idle_p_list && !sched.idle_m_list);
            rt_unlock(&sched.lock);
            if (is_wanted && m_new() && !i) {
                os_sleep(10000000); // no threads now: again, but not in a busy loop
                atomic_store_explicit(&sched.ms_wanted, 1, memory_order_relaxed);
            }
        }
    }
    return NULL;
}
