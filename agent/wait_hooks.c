// SPDX-License-Identifier: MIT
//
// Where plain threads wait in the kernel for other processes, files, System V's semaphores, and futexes; see told_wait.h. What is
// restarted after a handler anyway is called as it is.

#include "agent/told_wait.h"

#include "agent/arch/x86_64.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <threads.h>
#include <unistd.h>

#define INTERPOSED __attribute__((visibility("default")))

static struct {
    pid_t (*wait)(int *status);
    pid_t (*wait3)(int *status, int options, struct rusage *usage);
    pid_t (*wait4)(pid_t pid, int *status, int options, struct rusage *usage);
    int (*waitid)(idtype_t type, id_t id, siginfo_t *info, int options);
    int (*system)(const char *command);
    int (*pclose)(FILE *stream);
    int (*pause)(void);
    int (*sigsuspend)(const sigset_t *mask);
    int (*flock)(int fd, int operation);
    int (*lockf)(int fd, int operation, off_t size);
    int (*lockf64)(int fd, int operation, off64_t size);
    int (*open)(const char *path, int flags, ...);
    int (*open64)(const char *path, int flags, ...);
    int (*openat)(int folder, const char *path, int flags, ...);
    int (*openat64)(int folder, const char *path, int flags, ...);
    int (*semop)(int set, struct sembuf *operations, size_t n);
    int (*semtimedop)(int set, struct sembuf *operations, size_t n, const struct timespec *timeout);
    int (*thrd_sleep)(const struct timespec *wanted, struct timespec *left);
    long (*syscall)(long number, ...);
} real;

// --- Children.

INTERPOSED pid_t wait(int *status)
{
    WAIT(pid_t, CALL, real.wait(status));
}

INTERPOSED pid_t wait3(int *status, int options, struct rusage *usage)
{
    WAIT(pid_t, CALL, real.wait3(status, options, usage));
}

INTERPOSED pid_t wait4(pid_t pid, int *status, int options, struct rusage *usage)
{
    WAIT(pid_t, CALL, real.wait4(pid, status, options, usage));
}

INTERPOSED int waitid(idtype_t type, id_t id, siginfo_t *info, int options)
{
    WAIT(int, CALL, real.waitid(type, id, info, options));
}

// Whose wait is within libc.
INTERPOSED int system(const char *command)
{
    WAIT(int, CALL, real.system(command));
}

INTERPOSED int pclose(FILE *stream)
{
    WAIT(int, CALL, real.pclose(stream));
}

// --- Signals. These wait for one of the program's; ours alone do not end them.

static void set_mask(const uint64_t *mask, uint64_t *old)
{
    sys4(SYS_rt_sigprocmask, SIG_SETMASK, mask, old, sizeof *mask);
}

static void give_back_mask(void *mask)
{
    set_mask(mask, NULL);
}

// All signals are held back but while it waits: one of the program's that comes right behind ours ends the next wait,
// and is not handled before that begins, after which it would be waited for once more. mask NULL: the thread's own.
static int whole_sigsuspend(const sigset_t *mask)
{
    static const uint64_t all = ~UINT64_C(0);
    struct patience p = patience(-1);
    uint64_t old = 0;
    sigset_t own;
    int rc;
    set_mask(&all, &old);
    pthread_cleanup_push(give_back_mask, &old);
    sigemptyset(&own);
    memcpy(&own, &old, sizeof old);
    while ((rc = real.sigsuspend(mask ? mask : &own)) < 0 && was_ours_alone(&p, errno))
        ;
    pthread_cleanup_pop(1);
    return rc;
}

INTERPOSED int pause(void)
{
    WAIT(int, CALL, whole_sigsuspend(NULL));
}

INTERPOSED int sigsuspend(const sigset_t *mask)
{
    WAIT(int, CALL, whole_sigsuspend(mask));
}

// --- Files: locks, and the other end of a FIFO.

INTERPOSED int flock(int fd, int operation)
{
    WAIT(int, CALL, real.flock(fd, operation));
}

INTERPOSED int lockf(int fd, int operation, off_t size)
{
    WAIT(int, CALL, real.lockf(fd, operation, size));
}

INTERPOSED int lockf64(int fd, int operation, off64_t size)
{
    WAIT(int, CALL, real.lockf64(fd, operation, size));
}

// The mode, where there is one; passed on in any case.
#define MODE_OF(mode, flags)                                                                       \
    do {                                                                                           \
        va_list more_;                                                                             \
        va_start(more_, flags);                                                                    \
        if ((flags) & (O_CREAT | __O_TMPFILE))                                                     \
            (mode) = va_arg(more_, mode_t);                                                        \
        va_end(more_);                                                                             \
    } while (0)

INTERPOSED int open(const char *path, int flags, ...)
{
    mode_t mode = 0;
    MODE_OF(mode, flags);
    WAIT(int, CALL, real.open(path, flags, mode));
}

INTERPOSED int open64(const char *path, int flags, ...)
{
    mode_t mode = 0;
    MODE_OF(mode, flags);
    WAIT(int, CALL, real.open64(path, flags, mode));
}

INTERPOSED int openat(int folder, const char *path, int flags, ...)
{
    mode_t mode = 0;
    MODE_OF(mode, flags);
    WAIT(int, CALL, real.openat(folder, path, flags, mode));
}

INTERPOSED int openat64(int folder, const char *path, int flags, ...)
{
    mode_t mode = 0;
    MODE_OF(mode, flags);
    WAIT(int, CALL, real.openat64(folder, path, flags, mode));
}

// --- Semaphores of System V, which no handler lets go on; and a sleep.

static int whole_semop(int set, struct sembuf *operations, size_t n)
{
    struct patience p = patience(-1);
    int rc;
    while ((rc = real.semop(set, operations, n)) < 0 && goes_on(&p, errno))
        ;
    return rc;
}

INTERPOSED int semop(int set, struct sembuf *operations, size_t n)
{
    WAIT(int, SYNC, whole_semop(set, operations, n));
}

static int whole_semtimedop(int set, struct sembuf *operations, size_t n,
                            const struct timespec *timeout)
{
    struct patience p = patience(time_ns(timeout));
    struct timespec left;
    int rc;
    while ((rc = real.semtimedop(set, operations, n, timeout)) < 0 && goes_on(&p, errno))
        if (timeout) {
            left = left_time(&p);
            timeout = &left;
        }
    return rc;
}

INTERPOSED int semtimedop(int set, struct sembuf *operations, size_t n,
                          const struct timespec *timeout)
{
    WAIT(int, SYNC, whole_semtimedop(set, operations, n, timeout));
}

// -1: a signal came.
static int whole_thrd_sleep(const struct timespec *wanted, struct timespec *left)
{
    struct patience p = patience(-1);
    struct timespec rest, next;
    int rc;
    while ((rc = real.thrd_sleep(wanted, &rest)) == -1 && goes_on(&p, EINTR)) {
        next = rest;
        wanted = &next;
    }
    if (rc == -1 && left)
        *left = rest;
    return rc;
}

INTERPOSED int thrd_sleep(const struct timespec *wanted, struct timespec *left)
{
    WAIT(int, SLEEP, whole_thrd_sleep(wanted, left));
}

// --- Futexes that a program waits for itself: C++'s std::atomic::wait, and what stands on it, or Rust's locks.

static long pass(long number, const uint64_t a[6])
{
    if (__builtin_expect(real.syscall != NULL, 1))
        return real.syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    // Also in a signal handler, where nothing can be looked for.
    long rc = sys6(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (rc > -4096 && rc < 0) {
        errno = (int)-rc;
        return -1;
    }
    return rc;
}

static long wait_for_futex(const uint64_t a[6])
{
    int saved = errno;
    TOLD_UNWINDS();
    emit_self_block(EMIT_REASON_SYNC, a[0], TOLD_AT);
    errno = saved;
    long rc = pass(SYS_futex, a);
    told_end(TOLD_AT);
    return rc;
}

static long futex(const uint64_t a[6])
{
    int operation = (int)a[1] & FUTEX_CMD_MASK;
    if (operation == FUTEX_WAIT || operation == FUTEX_WAIT_BITSET) {
        if (told_is_on())
            return wait_for_futex(a);
        long rc = pass(SYS_futex, a);
        trace_here();
        return rc;
    }
    if ((operation == FUTEX_WAKE || operation == FUTEX_WAKE_BITSET) && emit_is_on() &&
        atomic_load_explicit(&emit_waiters, memory_order_relaxed))
        trace_signal((const void *)a[0], (int)a[2] > 1);
    return pass(SYS_futex, a);
}

// No more of the arguments is there than the call has; the rest is passed on as it is found, as libc does.
INTERPOSED long syscall(long number, ...)
{
    uint64_t a[6];
    va_list more;
    va_start(more, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(more, uint64_t);
    va_end(more);
    return number == SYS_futex ? futex(a) : pass(number, a);
}

static const struct hook hooks[] = {
    HOOK(wait, real.wait),
    HOOK(wait3, real.wait3),
    HOOK(wait4, real.wait4),
    HOOK(waitid, real.waitid),
    HOOK(system, real.system),
    HOOK(pclose, real.pclose),
    HOOK(pause, real.pause),
    HOOK(sigsuspend, real.sigsuspend),
    HOOK(flock, real.flock),
    HOOK(lockf, real.lockf),
    HOOK(lockf64, real.lockf64),
    HOOK(open, real.open),
    HOOK(open64, real.open64),
    HOOK(openat, real.openat),
    HOOK(openat64, real.openat64),
    HOOK(semop, real.semop),
    HOOK(semtimedop, real.semtimedop),
    HOOK(thrd_sleep, real.thrd_sleep),
    HOOK(syscall, real.syscall),
};

const struct hook_table wait_hooks = {hooks, sizeof hooks / sizeof *hooks};
