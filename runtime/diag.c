// SPDX-License-Identifier: MIT
//
// Diagnosis: what the scheduler calls.

#include "runtime/core.h"
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

void dead_check(void)
{
    if (sched.running_ms || !sched.is_main_mode)
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
