// SPDX-License-Identifier: MIT
//
// Asynchronous preemption. C code cannot be switched away from at any instruction: it may hold locks that
// libc keeps per thread. So the handler of SIGURG gives the P to another M and waits inside the handler: the
// preempted fiber is for that time bound to its M, the stack stays where it is, and nothing else runs on
// the thread that holds libc's locks. (KLT switching: Shiina et al., PPoPP 2021.)
//
// In libc the handler declines at first: a fiber stopped in malloc makes others wait for it. After SKIPS_MAX times it
// does not.
//
// A fiber that blocks in the kernel without saying so is not stopped, only its P is taken: it is marked
// G_SYSCALL, and gets a P again at its next call of the runtime, or by a later signal.

#include "runtime/core.h"
#include "runtime/trace.h"
#include "runtime/usdt.h"
#include "runtime/dump.h"
#include "runtime/os/os.h"

#include <errno.h>
#include <link.h>
#include <signal.h>
#include <string.h>
#include <ucontext.h>

enum { SKIPS_MAX = 20, RANGES = 16 };

static struct range {
    uintptr_t low, high;
} libc_text[RANGES];
static uint32_t libc_ranges;

static bool is_libc(const char *path)
{
    static const char *const names[] = {"libc.so",   "ld-linux", "libpthread",    "libm.so",
                                        "libstdc++", "libgcc_s", "libfiberscope", "linux-vdso"};
    const char *base = strrchr(path, '/');
    base = base ? base + 1 : path;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strncmp(base, names[i], strlen(names[i])))
            return true;
    return false;
}

static int note_module(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size, (void)arg;
    if (!is_libc(info->dlpi_name))
        return 0;
    for (int i = 0; i < info->dlpi_phnum && libc_ranges < RANGES; i++) {
        const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
        if (ph->p_type == PT_LOAD && (ph->p_flags & PF_X))
            libc_text[libc_ranges++] = (struct range){info->dlpi_addr + ph->p_vaddr,
                                                      info->dlpi_addr + ph->p_vaddr + ph->p_memsz};
    }
    return 0;
}

static bool is_in_libc(uintptr_t pc)
{
    for (uint32_t i = 0; i < libc_ranges; i++)
        if (pc >= libc_text[i].low && pc < libc_text[i].high)
            return true;
    return false;
}

// sched.lock held, g is in sched.bound: who goes on with p at once, in its handler: no M is woken that would only wake
// that one's. By the rule of look() in schedule.c: turns with the queues, if they have any. NULL: the
// scheduler is to look.
static struct g *next_bound(struct p *p, bool is_timer_due)
{
    if (is_timer_due || p->id >= atomic_load_explicit(&sched.procs, memory_order_relaxed) ||
        atomic_load_explicit(&sched.stack_wait_count, memory_order_relaxed))
        return NULL;
    if (sched.global.count || !runq_is_empty(p)) {
        if (p->is_bounds_turn)
            return NULL; // it was
        p->is_bounds_turn = true;
    }
    return bound_take();
}

// Without a P it was in a call that nobody announced, and has come back from it.
static void usdt_preempt(const struct p *p, const struct g *g, const ucontext_t *context)
{
    if (!p && USDT_IS_ON(syscall_exit))
        USDT2(syscall_exit, usdt_id(g), 0);
    else if (p && USDT_IS_ON(preempt))
        USDT2(preempt, usdt_id(g), context->uc_mcontext.gregs[REG_RIP]);
}

// Waits in the handler until the fiber is given a P.
static void wait_bound(struct m *m, struct g *g, const void *context)
{
    struct live *l = g->live;
    trans_begin(m);
    atomic_store_explicit(&m->context, context, memory_order_relaxed);
    struct p *p = m_p(m);
    uint64_t now = ticks_now();
    FIB_TRACE(preempt, m, g, context, now);
    usdt_preempt(p, g, context);
    if (p)
        p_release(m);
    l->cpu_ticks += now - m->since_ticks;
    l->preempted++;
    l->bound_m = m;
    atomic_store_explicit(&l->futex, 0, memory_order_relaxed);
    atomic_store_explicit(&g->status, G_PREEMPTED, memory_order_release);
    bool is_timer_due = timers_first() <= clock_now();
    rt_lock(&sched.lock);
    queue_append(&sched.bound, g);
    atomic_store_explicit(&sched.bound_count, sched.bound.count, memory_order_release);
    struct g *next = p ? next_bound(p, is_timer_due) : NULL;
    rt_unlock(&sched.lock);
    trans_end(m);
    if (next)
        m_resume_bound(next, p); // perhaps this one
    else if (p)
        p_hand_off(p);
    else
        wake_p();
    while (!atomic_load_explicit(&l->futex, memory_order_acquire)) // pairs with m_resume_bound
        os_futex_wait(&l->futex, 0, -1);
    trans_begin(m);
    p = m->next_p;
    m->next_p = NULL;
    p_acquire(m, p);
    m->since_ticks = ticks_now();
    FIB_TRACE(start, m, g, m->since_ticks);
    usdt_start(m);
    if (!l->locked && !l->pinned)
        l->bound_m = NULL;
    l->switches++;
    atomic_store_explicit(&m->context, NULL, memory_order_relaxed);
    atomic_store_explicit(&g->status, G_RUNNING, memory_order_release);
    atomic_store_explicit(&p->schedules,
                          atomic_load_explicit(&p->schedules, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    trans_end(m);
}

static void take_p(struct m *m, struct g *g, const void *context)
{
    trans_begin(m);
    FIB_TRACE(call_begin, m, g, context);
    if (USDT_IS_ON(syscall_enter))
        USDT2(syscall_enter, usdt_id(g), 0);
    struct p *p = p_release(m);
    atomic_store_explicit(&g->status, G_SYSCALL, memory_order_release);
    trans_end(m);
    m->locks++; // no second signal inside
    p_hand_off(p);
    m->locks--;
}

// What this thread runs, to the trace; if it is no moment for that, sysmon asks again.
static void tell(struct m *m, struct g *g)
{
    atomic_store_explicit(&m->is_tell_wanted, false, memory_order_relaxed);
    if ((atomic_load_explicit(&m->seq, memory_order_relaxed) & 1) || m->locks || g == &m->g0)
        return;
    trans_begin(m);
    FIB_TRACE(tell, m);
    trans_end(m);
}

static void on_preempt(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)info;
    struct m *m = this_m();
    if (!m)
        return;
    int saved_errno = errno;
    if (atomic_load_explicit(&m->stack_wanted, memory_order_relaxed))
        stack_wanted(m, context);
    uint32_t kind = atomic_exchange_explicit(&m->preempt, PREEMPT_NONE, memory_order_acquire);
    struct g *g = m->cur;
    bool may = kind && !(atomic_load_explicit(&m->seq, memory_order_relaxed) & 1) && !m->locks &&
               g != &m->g0 && !g->live->nopreempt && !g->live->blocking;
    if (atomic_load_explicit(&m->is_tell_wanted, memory_order_relaxed))
        tell(m, g);
    if (may && kind == PREEMPT_BLOCKED) {
        if (m_p(m))
            take_p(m, g, context);
    } else if (may) {
        const ucontext_t *uc = context;
        bool is_forced = ++m->preempt_skips > SKIPS_MAX;
        bool is_room = atomic_load_explicit(&sched.bound_count, memory_order_relaxed) < BOUND_MAX;
        if (is_room && (is_forced || !is_in_libc((uintptr_t)uc->uc_mcontext.gregs[REG_RIP]))) {
            m->preempt_skips = 0;
            wait_bound(m, g, context);
        }
    }
    errno = saved_errno;
}

void m_preempt(struct m *m, enum preempt_kind kind)
{
    atomic_store_explicit(&m->preempt, kind, memory_order_release);
    os_signal_thread(m->tid, SIGNAL_PREEMPT);
}

int preempt_init(void)
{
    dl_iterate_phdr(note_module, NULL);
    struct sigaction ours = {.sa_sigaction = on_preempt,
                             .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK};
    sigfillset(&ours.sa_mask);
    sigdelset(&ours.sa_mask, SIGPROF);
    sigdelset(&ours.sa_mask, SIGSEGV);
    return sigaction(SIGNAL_PREEMPT, &ours, NULL) ? -errno : 0;
}
