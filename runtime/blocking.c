// SPDX-License-Identifier: MIT
//
// Blocking calls: the P is left in P_SYSCALL, where sysmon takes it if the call lasts; coming back is
// one compare-and-swap if it did not. And what ties a fiber to its thread.

#include "runtime/core.h"
#include "runtime/os/os.h"
#include "runtime/trace.h"
#include "runtime/usdt.h"

FIB_PUBLIC void fib_blocking_enter(void)
{
    struct m *m = this_m();
    if (!m || m->cur == &m->g0 || m->cur->live->blocking++)
        return;
    trans_begin(m);
    FIB_TRACE(call_begin, m, m->cur, NULL);
    if (USDT_IS_ON(syscall_enter))
        USDT2(syscall_enter, usdt_self(m), 1);
    atomic_store_explicit(&m->cur->status, G_SYSCALL, memory_order_release);
    struct p *p = m_p(m);
    m->syscall_p = p;
    if (p) {
        p->syscall_tid = m->tid;
        atomic_store_explicit(&m->p, NULL, memory_order_relaxed);
        p->m = NULL;
        atomic_store_explicit(&p->status, P_SYSCALL, memory_order_release);
    }
    trans_end(m);
}

static void after_call(struct m *m, struct g *prev, void *arg)
{
    (void)m, (void)arg;
    global_put(prev);
    wake_p();
}

// Back from the call with the P it had, which may be in another M's call by now: then that one loses it. NULL: it has
// been taken, or there was none. *is_kept: the P never left this call.
static struct p *take_back(struct m *m, bool *is_kept)
{
    struct p *p = m->syscall_p;
    uint32_t in_call = P_SYSCALL;
    // acquire: pairs with the release of who had it meanwhile
    bool is_taken =
        p && atomic_compare_exchange_strong_explicit(&p->status, &in_call, P_TAKEN,
                                                     memory_order_acquire, memory_order_relaxed);
    *is_kept = is_taken && p->syscall_tid == m->tid;
    if (*is_kept) {
        FIB_TRACE(call_end, m);
        m->syscall_p = NULL;
        return p;
    }
    // Who takes it tells the trace before this M tells that it has lost it.
    for (int i = 1;
         p && !is_taken && atomic_load_explicit(&p->status, memory_order_acquire) == P_TAKEN; i++) {
        if (i % 64)
            arch_pause();
        else
            os_yield();
    }
    m->syscall_p = NULL;
    if (is_taken)
        FIB_TRACE(proc_steal, m, p);
    FIB_TRACE(call_end_blocked, m);
    return is_taken ? p : NULL;
}

static struct p *idle_p(void)
{
    if (!atomic_load_explicit(&sched.idle_ps, memory_order_relaxed))
        return NULL;
    rt_lock(&sched.lock);
    struct p *p = p_idle_get();
    rt_unlock(&sched.lock);
    return p;
}

FIB_PUBLIC void fib_blocking_exit(void)
{
    struct m *m = this_m();
    if (!m || m->cur == &m->g0)
        return;
    struct g *g = m->cur;
    if (!g->live->blocking)
        rt_fatal("fib_blocking_exit", "there was no fib_blocking_enter");
    if (--g->live->blocking)
        return;
    trans_begin(m);
    bool is_kept;
    struct p *p = take_back(m, &is_kept);
    if (USDT_IS_ON(syscall_exit))
        USDT2(syscall_exit, usdt_self(m), is_kept);
    if (!p)
        p = idle_p();
    if (is_kept) {
        p_own(m, p);
    } else if (p) {
        p_acquire(m, p);
        FIB_TRACE(start, m, g, ticks_now());
        usdt_start(m);
    }
    if (p) {
        atomic_store_explicit(&g->status, G_RUNNING, memory_order_release);
        trans_end(m);
        return;
    }
    atomic_store_explicit(&g->status, G_RUNNABLE, memory_order_release);
    m->after = after_call;
    switch_to(m, &m->g0, ticks_now());
}

// --- Ties.

static struct g *fiber_of_call(const char *call)
{
    struct m *m = this_m();
    if (!m || m->cur == &m->g0)
        rt_fatal(call, "the caller is no fiber");
    return m->cur;
}

static void bind(struct g *g)
{
    struct live *l = g->live;
    struct m *m = this_m();
    l->bound_m = l->locked || l->pinned ? m : NULL;
    m->locked_g = l->locked ? g : NULL;
}

FIB_PUBLIC void fib_lock_thread(void)
{
    struct g *g = fiber_of_call("fib_lock_thread");
    g->live->locked++;
    bind(g);
}

FIB_PUBLIC void fib_unlock_thread(void)
{
    struct g *g = fiber_of_call("fib_unlock_thread");
    if (!g->live->locked)
        rt_fatal("fib_unlock_thread", "the fiber is not locked to its thread");
    g->live->locked--;
    bind(g);
}

FIB_PUBLIC void fib_pin(void)
{
    struct g *g = fiber_of_call("fib_pin");
    if (g->live->pinned == 255)
        rt_fatal("fib_pin", "pinned 255 times: an fib_unpin is missing");
    g->live->pinned++;
    bind(g);
}

FIB_PUBLIC void fib_unpin(void)
{
    struct g *g = fiber_of_call("fib_unpin");
    if (!g->live->pinned)
        rt_fatal("fib_unpin", "the fiber is not pinned");
    g->live->pinned--;
    bind(g);
}

FIB_PUBLIC void fib_preempt_disable(void)
{
    struct m *m = this_m();
    if (m && m->cur != &m->g0)
        m->cur->live->nopreempt++;
}

FIB_PUBLIC void fib_preempt_enable(void)
{
    struct m *m = this_m();
    if (!m || m->cur == &m->g0)
        return;
    if (!m->cur->live->nopreempt)
        rt_fatal("fib_preempt_enable", "preemption was not disabled");
    m->cur->live->nopreempt--;
}
