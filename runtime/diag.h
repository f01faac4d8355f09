// SPDX-License-Identifier: MIT
//
// Diagnosis, as the scheduler calls it. All from sysmon, or where everything has stopped: no locks of
// libc's, no allocation.

#ifndef FIBERSCOPE_RUNTIME_DIAG_H
#define FIBERSCOPE_RUNTIME_DIAG_H

#include "runtime/types.h"

#include <signal.h>

enum { SIGNAL_PREEMPT = SIGURG };

// p's fiber, on m, has run for ran_ns without a switch. [sysmon]
void stall_watch(struct p *p, struct m *m, int64_t ran_ns);
void stall_report(struct m *m, const void *context); // [signal handler]

// Each tick of sysmon while something runs: schedtrace, partial deadlocks. [sysmon]
void diag_tick(int64_t now_ns);
// Each tick while all Ps are idle. How long sysmon may sleep, in ns: 0 to the next tick; < 0 without end. [sysmon]
int64_t diag_idle_tick(int64_t now_ns);

// Reads FIB_DEBUG; installs the handlers of SIGQUIT and SIGSEGV. [fib_init]
void diag_init(void);

// --- Its parts.
bool partial_tick(int64_t now_ns, bool is_idle); // false: has looked at all since it became idle
void schedtrace_init(void);
bool schedtrace_tick(int64_t now_ns); // true: is on
void overflow_init(void);
void tls_warn(void);
bool dead_is_suspected(void); // all waits but for threads that are not ours

// All fibers are asleep: prints and exits with status 2. sched.lock held.
void deadlock_report(void) __attribute__((noreturn));

#endif
