// SPDX-License-Identifier: MIT
//
// The stall watch: a fiber that holds its processor longer than stall_ns is told of with its stack, and again
// at twice that time, four times, ... Its thread prints, in the handler of SIGURG. At most MAX_PER_SECOND
// reports a second; what was left out is counted.

#include "runtime/backtrace.h"
#include "runtime/core.h"
#include "runtime/dump.h"
#include "runtime/os/os.h"
#include "runtime/print.h"

#include <ucontext.h>

enum { MAX_PER_SECOND = 5, SHOWN = 64 };

static int64_t second_began;
static uint32_t in_second;
static _Atomic uint64_t left_out;

static bool may_report(int64_t now)
{
    if (now - second_began > 1000000000) {
        second_began = now;
        in_second = 0;
    }
    return in_second++ < MAX_PER_SECOND;
}

FIB_LOOKS void stall_watch(struct p *p, struct m *m, int64_t ran_ns)
{
    if (sched.stall_ns <= 0 || m->cur == &m->g0)
        return;
    uint32_t schedules = atomic_load_explicit(&p->schedules, memory_order_relaxed);
    if (m->stall_schedules != schedules || !m->stall_next_ns) {
        m->stall_schedules = schedules;
        m->stall_next_ns = sched.stall_ns;
    }
    if (ran_ns < m->stall_next_ns)
        return;
    while (m->stall_next_ns <= ran_ns)
        m->stall_next_ns *= 2;
    if (!may_report(os_clock_ns())) {
        atomic_fetch_add_explicit(&left_out, 1, memory_order_relaxed);
        return;
    }
    m->stall_ran_ns = ran_ns;
    uint32_t none = STACK_NONE; // a dump that waits goes first
    if (atomic_compare_exchange_strong(&m->stack_wanted, &none, STACK_FOR_STALL))
        os_signal_thread(m->tid, SIGNAL_PREEMPT);
}

void stall_report(struct m *m, const void *context)
{
    struct g *g = m->cur;
    // Between two fibers: whom it was about is not known any more.
    if (g == &m->g0 || atomic_load_explicit(&m->seq, memory_order_relaxed) & 1)
        return;
    struct print p = {.fd = 2};
    uintptr_t pcs[SHOWN];
    uint32_t n = backtrace_context(m, context, pcs, SHOWN);
    dump_lock();
    print_text(&p, "fiberscope-rt: ");
    print_who(&p, g);
    print_format(&p, " holds its processor for %u ms\n\ngoroutine %u [running]:\n",
                 (uint64_t)m->stall_ran_ns / 1000000, atomic_load(&g->id));
    uint32_t skip = backtrace_skip(pcs, n);
    print_stack(&p, pcs + skip, n - skip);
    uint64_t left = atomic_exchange_explicit(&left_out, 0, memory_order_relaxed);
    if (left)
        print_format(&p, "(%u such reports were left out)\n", left);
    print_text(&p, "\n");
    print_flush(&p);
    dump_unlock();
}
