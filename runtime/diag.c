// SPDX-License-Identifier: MIT
//
// Diagnosis: what the scheduler calls.

#include "runtime/core.h"
#include "runtime/netpoll.h"
#include "runtime/os/os.h"
#include "runtime/print.h"

#include <stdlib.h>
#include <unistd.h>

void stall_watch(struct p *p, struct m *m, int64_t ran_ns)
{
    (void)p, (void)m, (void)ran_ns;
}

void diag_tick(int64_t now_ns)
{
    (void)now_ns;
}

void diag_init(void)
{
}

static uint32_t all_ps(void)
{
    uint32_t n = 0;
    while (n < PROCS_MAX && sched.ps[n])
        n++;
    return n;
}

// Nothing runs, nothing is on its way (it would hold a P), nothing will come.
void dead_check(void)
{
    if (sched.running_ms || !sched.is_main_mode || !atomic_load(&sched.thread_gs_parked) ||
        atomic_load(&sched.idle_ps) != all_ps() || sched.global.count || sched.bound.count)
        return;
    for (uint32_t i = 0; i < all_ps(); i++)
        if (!runq_is_empty(sched.ps[i]))
            return;
    if (timers_first() != INT64_MAX || netpoll_waiters())
        return;
    deadlock_report();
}

void deadlock_report(void)
{
    struct print p = {.fd = 2};
    print_text(&p, "fatal error: all goroutines are asleep - deadlock!\n");
    print_flush(&p);
    _exit(2);
}
