// SPDX-License-Identifier: MIT
//
// Diagnosis, as the scheduler calls it. All from sysmon, or where everything has stopped: no locks of
// libc's, no allocation.

#ifndef FIBERSCOPE_RUNTIME_DIAG_H
#define FIBERSCOPE_RUNTIME_DIAG_H

#include "runtime/types.h"

// p's fiber, on m, has run for ran_ns without a switch. [sysmon]
void stall_watch(struct p *p, struct m *m, int64_t ran_ns);

// Each tick of sysmon while something runs: schedtrace, pools' ageing, partial deadlocks. [sysmon]
void diag_tick(int64_t now_ns);

// Reads FIB_DEBUG; installs SIGQUIT's handler. [fib_init]
void diag_init(void);

// All fibers are asleep: prints and exits with status 2. sched.lock held.
void deadlock_report(void) __attribute__((noreturn));

#endif
