// SPDX-License-Identifier: MIT
//
// The hooks of threads, signals and process images, and the functions behind them; see hooks.h.

#include "agent/agent.h"
#include "agent/hooks.h"

#include <dlfcn.h>
#include <sys/signalfd.h>
#include <threads.h>
#include <unistd.h>

static struct agent_real real;

extern __sighandler_t __sysv_signal(int, __sighandler_t);
extern int __sigaction(int, const struct sigaction *, struct sigaction *);

// What ours reaches by another entry, or not at all.
static hook_fn *unused[9];

static const struct hook table[] = {
    HOOK(sigaction, real.sigaction),
    HOOK(__sigaction, unused[0]),
    HOOK(signal, real.signal),
    HOOK(__sysv_signal, unused[1]),
    HOOK(sigwait, real.sigwait),
    HOOK(sigwaitinfo, real.sigwaitinfo),
    HOOK(sigtimedwait, real.sigtimedwait),
    HOOK(signalfd, real.signalfd),
    HOOK(pthread_create, real.pthread_create),
    HOOK(thrd_create, real.thrd_create),
    HOOK(dlclose, real.dlclose),
    HOOK(execve, real.execve),
    HOOK(execvpe, real.execvpe),
    HOOK(fexecve, real.fexecve),
    HOOK(execveat, real.execveat),
    HOOK(execl, unused[2]),
    HOOK(execle, unused[3]),
    HOOK(execlp, unused[4]),
    HOOK(execv, unused[5]),
    HOOK(execvp, unused[6]),
    HOOK(_exit, unused[7]),
    {"_Exit", (hook_fn *)_exit, &unused[8]}, // the name itself is a builtin
};

const struct hook_table process_hooks = {table, sizeof table / sizeof *table};

const struct agent_real *agent_real(void)
{
    if (!hooks_ready())
        hooks_resolve();
    return &real;
}
