// SPDX-License-Identifier: MIT
//
// Diagnosis: what the scheduler calls, and SIGQUIT.

#include "runtime/backtrace.h"
#include "runtime/core.h"
#include "runtime/descriptor.h"
#include "runtime/dump.h"
#include "runtime/os/os.h"
#include "runtime/print.h"
#include "runtime/tools.h"

#include <signal.h>
#include <unistd.h>

void diag_tick(int64_t now_ns)
{
    schedtrace_tick(now_ns);
    partial_tick(now_ns, false);
}

int64_t diag_idle_tick(int64_t now_ns)
{
    bool is_traced = schedtrace_tick(now_ns);
    bool is_looking = partial_tick(now_ns, true);
    if (dead_is_suspected()) {
        rt_lock(&sched.lock);
        dead_check();
        rt_unlock(&sched.lock);
    }
    if (is_traced)
        return 0;
    return is_looking ? 500000000 : dead_is_suspected() ? 1000000000 : -1;
}

// Ms block SIGQUIT: a plain thread is here.
static void on_quit(int signal)
{
    (void)signal;
    struct print p = {.fd = 2};
    print_text(&p, "SIGQUIT: quit\n\n");
    dump_all(&p);
    print_flush(&p);
    _exit(2);
}

static void quit_init(void)
{
    struct sigaction was, ours = {.sa_handler = on_quit, .sa_flags = SA_RESTART};
    sigfillset(&ours.sa_mask);
    sigdelset(&ours.sa_mask, SIGSEGV);
    // Somebody else's stays.
    if (debug_option("sigquit", 1) && !sigaction(SIGQUIT, NULL, &was) && was.sa_handler == SIG_DFL)
        sigaction(SIGQUIT, &ours, NULL);
}

void diag_init(void)
{
    backtrace_init();
    descriptor_init();
    quit_init();
    overflow_init();
    schedtrace_init();
    debug_warn();
    tools_warn();
    if (debug_option("tlswarn", 1))
        tls_warn();
}
