// SPDX-License-Identifier: MIT
//
// Ps between Ms: the idle list, handing one over, waking one more.

#include "runtime/core.h"
#include "runtime/trace.h"
#include "runtime/usdt.h"

struct sched sched;
bool sched_is_seeded;
uint32_t sched_slow_locks;

void p_own(struct m *m, struct p *p)
{
    p->m = m;
    atomic_store_explicit(&p->status, P_RUNNING, memory_order_release);
    atomic_store_explicit(&m->p, p, memory_order_release);
}

void p_acquire(struct m *m, struct p *p)
{
    FIB_TRACE(proc_start, m, p);
    p_own(m, p);
}

struct p *p_release(struct m *m)
{
    FIB_TRACE(proc_stop, m);
    struct p *p = m_p(m);
    atomic_store_explicit(&m->p, NULL, memory_order_relaxed);
    p->m = NULL;
    return p;
}

void p_idle_put(struct p *p)
{
    atomic_store_explicit(&p->status, P_IDLE, memory_order_relaxed);
    p->link = sched.idle_p_list;
    sched.idle_p_list = p;
    // seq_cst: pairs with the fence in wake_p; see schedule.c idle()
    atomic_fetch_add(&sched.idle_ps, 1);
}

struct p *p_idle_get(void)
{
    struct p **at = &sched.idle_p_list;
    while (*at && (*at)->id >= atomic_load_explicit(&sched.procs, memory_order_relaxed))
        at = &(*at)->link; // fib_procs has taken it away
    struct p *p = *at;
    if (!p)
        return NULL;
    *at = p->link;
    atomic_fetch_sub(&sched.idle_ps, 1);
    atomic_store_explicit(&p->status, P_RUNNING, memory_order_relaxed);
    sysmon_wake();
    return p;
}

static bool has_work(struct p *p)
{
    return !runq_is_empty(p) || atomic_load_explicit(&sched.global_count, memory_order_relaxed) ||
           atomic_load_explicit(&sched.bound_count, memory_order_relaxed) ||
           atomic_load_explicit(&p->timers.first, memory_order_relaxed) != INT64_MAX;
}

void p_hand_off(struct p *p)
{
    if (USDT_IS_ON(handoff))
        USDT1(handoff, p->id);
    if (has_work(p)) {
        m_start(p, false);
        return;
    }
    uint32_t no = 0;
    if (!atomic_load(&sched.spinning) && !atomic_load(&sched.idle_ps) &&
        atomic_compare_exchange_strong(&sched.spinning, &no, 1)) {
        m_start(p, true); // nobody else would see what becomes ready
        return;
    }
    rt_lock(&sched.lock);
    if (sched.global.count) {
        rt_unlock(&sched.lock);
        m_start(p, false);
        return;
    }
    // The last one: descriptors have to be waited for.
    bool is_last = atomic_load(&sched.idle_ps) + 1 == atomic_load(&sched.ps_made) &&
                   !atomic_load(&sched.poller);
    if (!is_last)
        p_idle_put(p);
    rt_unlock(&sched.lock);
    if (is_last)
        m_start(p, false);
}

void wake_p(void)
{
    atomic_thread_fence(memory_order_seq_cst); // the work is in its queue before idle_ps is read
    if (!atomic_load_explicit(&sched.idle_ps, memory_order_relaxed))
        return;
    uint32_t no = 0;
    if (!atomic_compare_exchange_strong(&sched.spinning, &no, 1))
        return; // one is on its way, and looks everywhere before it gives up
    rt_lock(&sched.lock);
    struct p *p = p_idle_get();
    rt_unlock(&sched.lock);
    if (p)
        m_start(p, true);
    else
        atomic_fetch_sub(&sched.spinning, 1);
}
