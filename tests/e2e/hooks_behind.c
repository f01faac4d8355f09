// SPDX-License-Identifier: MIT
//
// What stands behind the agent's hooks in hooks_window.c, and makes the worst moment of each come for certain:
// pause and sigsuspend are the system calls, but that the program's SIGUSR1 comes as soon as the first signal, one of ours, has
// ended the first wait; the first two that release a read-write lock do so when both have come.

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int ended;
static _Atomic int releasing;

static int wait_with(const sigset_t *mask)
{
    long rc = syscall(SYS_rt_sigsuspend, mask, 8);
    int error = errno;
    if (!ended++)
        syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGUSR1);
    errno = error;
    return (int)rc;
}

int pause(void)
{
    sigset_t mask;
    sigprocmask(SIG_SETMASK, NULL, &mask);
    return wait_with(&mask);
}

int sigsuspend(const sigset_t *mask)
{
    return wait_with(mask);
}

int pthread_rwlock_unlock(pthread_rwlock_t *l)
{
    int (*real)(pthread_rwlock_t *);
    void *found = dlsym(RTLD_NEXT, "pthread_rwlock_unlock");
    memcpy(&real, &found, sizeof real);
    atomic_fetch_add(&releasing, 1);
    while (atomic_load(&releasing) < 2)
        sched_yield();
    return real(l);
}
