// SPDX-License-Identifier: MIT
//
// The functions behind the interposed ones, found by dlsym: in the constructor, or earlier when
// another library's constructor calls one of them. Never from the signal handler.

#include "agent/agent.h"

#include <dlfcn.h>
#include <string.h>

static struct agent_real real;
static _Atomic uint32_t is_resolved;

// A data pointer into a function pointer: ISO C has no cast for it, POSIX promises that it works.
static void resolve(void *slot, const char *name)
{
    void *address = dlsym(RTLD_NEXT, name);
    memcpy(slot, &address, sizeof address);
}

const struct agent_real *agent_real(void)
{
    // acquire: pairs with the release below. Two threads may both resolve: they write the same.
    if (atomic_load_explicit(&is_resolved, memory_order_acquire))
        return &real;
    resolve(&real.sigaction, "sigaction");
    resolve(&real.signal, "signal");
    resolve(&real.pthread_create, "pthread_create");
    resolve(&real.thrd_create, "thrd_create");
    resolve(&real.execve, "execve");
    resolve(&real.execvpe, "execvpe");
    resolve(&real.fexecve, "fexecve");
    resolve(&real.execveat, "execveat");
    resolve(&real.dlclose, "dlclose");
    resolve(&real.sigwait, "sigwait");
    resolve(&real.sigwaitinfo, "sigwaitinfo");
    resolve(&real.sigtimedwait, "sigtimedwait");
    resolve(&real.signalfd, "signalfd");
    atomic_store_explicit(&is_resolved, 1, memory_order_release);
    return &real;
}
