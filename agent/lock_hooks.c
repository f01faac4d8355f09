// SPDX-License-Identifier: MIT
//
// The interposed waits of pthreads and C11 threads; see hooks.h and lock.h.
//
// A mutex is tried first: only one that is held is a wait. Trying differs from locking in nothing that
// the caller sees: what is not EBUSY is the answer of the lock as well, and a thread that holds an
// error-checking mutex itself gets its EDEADLK from the real function. Conditions, barriers and joins
// always wait. glibc's own locks do not come by here.

#include "agent/arch/x86_64.h"
#include "agent/lock_wait.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/resource.h>
#include <threads.h>

#define INTERPOSED __attribute__((visibility("default")))

// What stands for the functions behind the hooks until those are known: an allocator that is loaded
// before us begins at another library's constructor and makes its mutexes, and dlsym would allocate from
// it in the midst of that. A library can no longer be linked with these names by default, but every
// libc has them for the old ones that were.
extern int libc_mutex_init(pthread_mutex_t *, const pthread_mutexattr_t *);
extern int libc_mutex_lock(pthread_mutex_t *);
extern int libc_mutex_unlock(pthread_mutex_t *);
__asm__(".symver libc_mutex_init, __pthread_mutex_init@GLIBC_2.2.5");
__asm__(".symver libc_mutex_lock, __pthread_mutex_lock@GLIBC_2.2.5");
__asm__(".symver libc_mutex_unlock, __pthread_mutex_unlock@GLIBC_2.2.5");

static struct {
    int (*mutex_init)(pthread_mutex_t *, const pthread_mutexattr_t *);
    int (*mutex_lock)(pthread_mutex_t *);
    int (*mutex_trylock)(pthread_mutex_t *);
    int (*mutex_timedlock)(pthread_mutex_t *, const struct timespec *);
    int (*mutex_clocklock)(pthread_mutex_t *, clockid_t, const struct timespec *);
    int (*mutex_unlock)(pthread_mutex_t *);
    int (*rwlock_init)(pthread_rwlock_t *, const pthread_rwlockattr_t *);
    int (*rdlock)(pthread_rwlock_t *);
    int (*tryrdlock)(pthread_rwlock_t *);
    int (*timedrdlock)(pthread_rwlock_t *, const struct timespec *);
    int (*clockrdlock)(pthread_rwlock_t *, clockid_t, const struct timespec *);
    int (*wrlock)(pthread_rwlock_t *);
    int (*trywrlock)(pthread_rwlock_t *);
    int (*timedwrlock)(pthread_rwlock_t *, const struct timespec *);
    int (*clockwrlock)(pthread_rwlock_t *, clockid_t, const struct timespec *);
    int (*rwlock_unlock)(pthread_rwlock_t *);
    int (*cond_wait)(pthread_cond_t *, pthread_mutex_t *);
    int (*cond_timedwait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    int (*cond_clockwait)(pthread_cond_t *, pthread_mutex_t *, clockid_t, const struct timespec *);
    int (*cond_signal)(pthread_cond_t *);
    int (*cond_broadcast)(pthread_cond_t *);
    int (*barrier_wait)(pthread_barrier_t *);
    int (*join)(pthread_t, void **);
    int (*timedjoin)(pthread_t, void **, const struct timespec *);
    int (*clockjoin)(pthread_t, void **, clockid_t, const struct timespec *);
    int (*sem_post)(sem_t *);
    int (*sem_wait)(sem_t *);
    int (*sem_trywait)(sem_t *);
    int (*sem_timedwait)(sem_t *, const struct timespec *);
    int (*sem_clockwait)(sem_t *, clockid_t, const struct timespec *);
    int (*mtx_lock)(mtx_t *);
    int (*mtx_trylock)(mtx_t *);
    int (*mtx_timedlock)(mtx_t *, const struct timespec *);
    int (*mtx_unlock)(mtx_t *);
    int (*cnd_wait)(cnd_t *, mtx_t *);
    int (*cnd_timedwait)(cnd_t *, mtx_t *, const struct timespec *);
    int (*cnd_signal)(cnd_t *);
    int (*cnd_broadcast)(cnd_t *);
    int (*thrd_join)(thrd_t, int *);
} real;

// --- Mutexes.

INTERPOSED int pthread_mutex_init(pthread_mutex_t *m, const pthread_mutexattr_t *attr)
{
    if (!hooks_ready())
        return libc_mutex_init(m, attr);
    bool on = is_on();
    int rc = real.mutex_init(m, attr);
    if (on && !rc) {
        struct unwind_registers regs;
        CAPTURE_CALLER(&regs);
        lock_made_here(m, &regs);
        if (lock_order_is_on())
            lock_order_forgets(m);
    }
    return rc;
}

// Mutexes are the hot ones, so what an uncontended one passes through stands apart from the rest. Where
// something is wanted the hooks are ready.
__attribute__((noinline)) static int wait_for_mutex(pthread_mutex_t *m, const void *frame)
{
    WAIT_LOCK_OF(frame, m, SEG_LOCK_MUTEX, LOCK_ORDER_WAITS, real.mutex_lock(m), EDEADLK);
}

__attribute__((noinline)) static int lock_in_order(pthread_mutex_t *m, const void *frame)
{
    int rc = real.mutex_trylock(m);
    return rc == EBUSY
               ? wait_for_mutex(m, frame)
               : lock_order_result(m, SEG_LOCK_MUTEX, LOCK_ORDER_WAITS, tried(m, rc), frame);
}

// For who traces and who watches the order of locks.
__attribute__((noinline)) static int lock_told(pthread_mutex_t *m, const void *frame)
{
    if (lock_order_is_on())
        return lock_in_order(m, frame);
    int rc = real.mutex_trylock(m);
    return __builtin_expect(rc != EBUSY, 1) ? tried(m, rc) : wait_for_mutex(m, frame);
}

// Where nothing is wanted nothing is saved, and with block and mutex profiles but one register.
INTERPOSED int pthread_mutex_lock(pthread_mutex_t *m)
{
    uint32_t flags = atomic_load_explicit(&lock_flags, memory_order_relaxed);
    // Nothing is asked after it: it would be a twentieth of the CPU time of programs that lock much.
    if (!flags)
        return hooks_ready() ? real.mutex_lock(m) : libc_mutex_lock(m);
    if (__builtin_expect(flags & (LOCK_ORDER | LOCK_TRACE), 0))
        return lock_told(m, FRAME);
    pthread_mutex_t *kept = m;
    __asm__("" : "+r"(kept)); // m itself would be kept from the start, also where nothing is wanted
    int rc = real.mutex_trylock(kept);
    return __builtin_expect(rc != EBUSY, 1) ? rc : wait_for_mutex(kept, FRAME);
}

INTERPOSED int pthread_mutex_timedlock(pthread_mutex_t *m, const struct timespec *limit)
{
    if (!is_on())
        return untold(real.mutex_timedlock(m, limit));
    int rc = real.mutex_trylock(m);
    if (rc != EBUSY)
        return TOOK(FRAME, m, SEG_LOCK_MUTEX, 0, tried(m, rc));
    WAIT_LOCK(m, SEG_LOCK_MUTEX, 0, real.mutex_timedlock(m, limit), EDEADLK);
}

INTERPOSED int pthread_mutex_clocklock(pthread_mutex_t *m, clockid_t clock,
                                       const struct timespec *limit)
{
    if (!is_on())
        return untold(real.mutex_clocklock(m, clock, limit));
    int rc = real.mutex_trylock(m);
    if (rc != EBUSY)
        return TOOK(FRAME, m, SEG_LOCK_MUTEX, 0, tried(m, rc));
    WAIT_LOCK(m, SEG_LOCK_MUTEX, 0, real.mutex_clocklock(m, clock, limit), EDEADLK);
}

__attribute__((noinline)) static int release_mutex(pthread_mutex_t *m, const void *frame)
{
    RELEASE_OF(frame, m, real.mutex_unlock(m));
}

// An inner unlock of a recursive mutex releases nothing. The fields are those of glibc's public header.
static inline bool is_inner(const pthread_mutex_t *m)
{
    return (m->__data.__kind & 3) == PTHREAD_MUTEX_RECURSIVE && m->__data.__count > 1;
}

// For who traces or watches the order of locks, and where somebody waits for a lock.
__attribute__((noinline)) static int unlock_told(pthread_mutex_t *m, const void *frame)
{
    if (lock_order_is_on())
        lock_order_releases(m);
    if (is_awaited() && !is_inner(m))
        trace_unlock(m);
    if (lock_is_mutex_on() && !is_inner(m))
        return release_mutex(m, frame);
    return real.mutex_unlock(m);
}

INTERPOSED int pthread_mutex_unlock(pthread_mutex_t *m)
{
    uint32_t flags = atomic_load_explicit(&lock_flags, memory_order_relaxed);
    if (!flags)
        return hooks_ready() ? real.mutex_unlock(m) : libc_mutex_unlock(m);
    if (__builtin_expect(flags & (LOCK_ORDER | LOCK_TRACE), 0) &&
        (flags != LOCK_TRACE || is_awaited()))
        return unlock_told(m, FRAME);
    if (__builtin_expect(atomic_load_explicit(&lock_waiters.count, memory_order_relaxed) != 0, 0))
        return unlock_told(m, FRAME);
    return real.mutex_unlock(m);
}

// --- Reader-writer locks.

INTERPOSED int pthread_rwlock_init(pthread_rwlock_t *l, const pthread_rwlockattr_t *attr)
{
    bool on = is_on();
    int rc = real.rwlock_init(l, attr);
    if (on && !rc) {
        struct unwind_registers regs;
        CAPTURE_CALLER(&regs);
        lock_made_here(l, &regs);
        if (lock_order_is_on())
            lock_order_forgets(l);
    }
    return rc;
}

// A waiting writer stops new readers of such a lock alone.
static unsigned how_to_read(const pthread_rwlock_t *l)
{
    bool queues = l->__data.__flags == PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP;
    return LOCK_ORDER_WAITS | LOCK_ORDER_READS | (queues ? LOCK_ORDER_QUEUES : 0u);
}

INTERPOSED int pthread_rwlock_rdlock(pthread_rwlock_t *l)
{
    if (!is_on())
        return real.rdlock(l);
    int rc = real.tryrdlock(l);
    if (rc != EBUSY)
        return TOOK(FRAME, l, SEG_LOCK_RWLOCK, how_to_read(l), rc);
    WAIT_LOCK(l, SEG_LOCK_RWLOCK, how_to_read(l), real.rdlock(l), EDEADLK);
}

INTERPOSED int pthread_rwlock_timedrdlock(pthread_rwlock_t *l, const struct timespec *limit)
{
    if (!is_on())
        return untold(real.timedrdlock(l, limit));
    int rc = real.tryrdlock(l);
    if (rc != EBUSY)
        return TOOK(FRAME, l, SEG_LOCK_RWLOCK, LOCK_ORDER_READS, rc);
    WAIT_LOCK(l, SEG_LOCK_RWLOCK, LOCK_ORDER_READS, real.timedrdlock(l, limit), EDEADLK);
}

INTERPOSED int pthread_rwlock_clockrdlock(pthread_rwlock_t *l, clockid_t clock,
                                          const struct timespec *limit)
{
    if (!is_on())
        return untold(real.clockrdlock(l, clock, limit));
    int rc = real.tryrdlock(l);
    if (rc != EBUSY)
        return TOOK(FRAME, l, SEG_LOCK_RWLOCK, LOCK_ORDER_READS, rc);
    WAIT_LOCK(l, SEG_LOCK_RWLOCK, LOCK_ORDER_READS, real.clockrdlock(l, clock, limit), EDEADLK);
}

INTERPOSED int pthread_rwlock_wrlock(pthread_rwlock_t *l)
{
    if (!is_on())
        return real.wrlock(l);
    int rc = real.trywrlock(l);
    if (rc != EBUSY)
        return TOOK(FRAME, l, SEG_LOCK_RWLOCK, LOCK_ORDER_WAITS, rc);
    WAIT_LOCK(l, SEG_LOCK_RWLOCK, LOCK_ORDER_WAITS, real.wrlock(l), EDEADLK);
}

INTERPOSED int pthread_rwlock_timedwrlock(pthread_rwlock_t *l, const struct timespec *limit)
{
    if (!is_on())
        return untold(real.timedwrlock(l, limit));
    int rc = real.trywrlock(l);
    if (rc != EBUSY)
        return TOOK(FRAME, l, SEG_LOCK_RWLOCK, 0, rc);
    WAIT_LOCK(l, SEG_LOCK_RWLOCK, 0, real.timedwrlock(l, limit), EDEADLK);
}

INTERPOSED int pthread_rwlock_clockwrlock(pthread_rwlock_t *l, clockid_t clock,
                                          const struct timespec *limit)
{
    if (!is_on())
        return untold(real.clockwrlock(l, clock, limit));
    int rc = real.trywrlock(l);
    if (rc != EBUSY)
        return TOOK(FRAME, l, SEG_LOCK_RWLOCK, 0, rc);
    WAIT_LOCK(l, SEG_LOCK_RWLOCK, 0, real.clockwrlock(l, clock, limit), EDEADLK);
}

INTERPOSED int pthread_rwlock_unlock(pthread_rwlock_t *l)
{
    RELEASE(l, real.rwlock_unlock(l));
}

// --- Conditions. The mutex is released inside: who waits for it is charged to this caller. Cancelled
// here, a wait is not recorded; it registers nowhere, so nothing stays behind.

// Before a wait that releases m. Inlined, so that the registers are those of the hook's caller.
#define COND_WAIT(object, m, call)                                                                 \
    do {                                                                                           \
        struct unwind_registers at_;                                                               \
        struct lock_charge owed_ = {0, 0};                                                         \
        int rc_;                                                                                   \
        if (lock_order_is_on())                                                                    \
            lock_order_releases(m);                                                                \
        if (is_awaited())                                                                          \
            trace_unlock(m);                                                                       \
        if (lock_is_mutex_on() && lock_has_waiters(m))                                             \
            owed_ = lock_charge(m);                                                                \
        CAPTURE_CALLER(&at_);                                                                      \
        if (owed_.delay_ns)                                                                        \
            lock_charged(m, owed_, &at_);                                                          \
        WAIT_OF(rc_, FRAME, object, SEG_LOCK_COND, false, m, call, EPERM);                         \
        if (lock_order_is_on() && rc_ != EPERM)                                                    \
            lock_order_took(m, SEG_LOCK_MUTEX, LOCK_ORDER_WAITS, &at_);                            \
        return rc_;                                                                                \
    } while (0)

INTERPOSED int pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *m)
{
    if (!is_on())
        return untold(real.cond_wait(c, m));
    COND_WAIT(c, m, real.cond_wait(c, m));
}

// A wait that times out takes its mutex before it returns, and does not say when it had to wait for that. The kernel counts
// how often a thread slept: once for the condition, and once more for each signal of ours that woke it in between.
enum { NO_SLEEPS = INT32_MIN };

static long own_sleeps(void)
{
    struct rusage u = {.ru_nvcsw = -1};
    bool is_traced = atomic_load_explicit(&lock_flags, memory_order_relaxed) & LOCK_TRACE;
    return is_traced && !sys2(SYS_getrusage, RUSAGE_THREAD, &u) ? u.ru_nvcsw - (long)waits_ended()
                                                                : NO_SLEEPS;
}

static void tell_late(const void *mutex, clockid_t clock, const struct timespec *limit, long before)
{
    struct timespec now;
    if (before == NO_SLEEPS || limit->tv_sec < 0 || own_sleeps() - before < 2 ||
        clock_gettime(clock, &now))
        return;
    int64_t late = (now.tv_sec - limit->tv_sec) * 1000000000 + now.tv_nsec - limit->tv_nsec;
    if (late > 0)
        trace_timed_out(mutex, (uint64_t)late);
}

// Of pthread_condattr_setclock, by glibc's public header.
static clockid_t clock_of(const pthread_cond_t *c)
{
    enum { IS_MONOTONIC = 2 };
    return c->__data.__wrefs & IS_MONOTONIC ? CLOCK_MONOTONIC : CLOCK_REALTIME;
}

static int cond_timedwait_told(pthread_cond_t *c, pthread_mutex_t *m, const struct timespec *limit)
{
    clockid_t clock = clock_of(c);
    long before = own_sleeps();
    int rc = real.cond_timedwait(c, m, limit);
    if (rc == ETIMEDOUT)
        tell_late(m, clock, limit, before);
    return rc;
}

static int cond_clockwait_told(pthread_cond_t *c, pthread_mutex_t *m, clockid_t clock,
                               const struct timespec *limit)
{
    long before = own_sleeps();
    int rc = real.cond_clockwait(c, m, clock, limit);
    if (rc == ETIMEDOUT)
        tell_late(m, clock, limit, before);
    return rc;
}

static int cnd_timedwait_told(cnd_t *c, mtx_t *m, const struct timespec *limit)
{
    long before = own_sleeps();
    int rc = real.cnd_timedwait(c, m, limit);
    if (rc == thrd_timedout)
        tell_late(m, CLOCK_REALTIME, limit, before);
    return rc;
}

INTERPOSED int pthread_cond_timedwait(pthread_cond_t *c, pthread_mutex_t *m,
                                      const struct timespec *limit)
{
    if (!is_on())
        return untold(real.cond_timedwait(c, m, limit));
    COND_WAIT(c, m, cond_timedwait_told(c, m, limit));
}

INTERPOSED int pthread_cond_clockwait(pthread_cond_t *c, pthread_mutex_t *m, clockid_t clock,
                                      const struct timespec *limit)
{
    if (!is_on())
        return untold(real.cond_clockwait(c, m, clock, limit));
    COND_WAIT(c, m, cond_clockwait_told(c, m, clock, limit));
}

// One waiter is woken by a signal, all by a broadcast.
#define SIGNAL(object, all, call)                                                                  \
    do {                                                                                           \
        if (is_on() && is_awaited())                                                               \
            trace_signal(object, all);                                                             \
        return (call);                                                                             \
    } while (0)

INTERPOSED int pthread_cond_signal(pthread_cond_t *c)
{
    SIGNAL(c, false, real.cond_signal(c));
}

INTERPOSED int pthread_cond_broadcast(pthread_cond_t *c)
{
    SIGNAL(c, true, real.cond_broadcast(c));
}

// --- Semaphores, barriers, joins.

INTERPOSED int sem_post(sem_t *s)
{
    SIGNAL(s, false, real.sem_post(s));
}

INTERPOSED int sem_wait(sem_t *s)
{
    if (!is_on())
        return untold(real.sem_wait(s));
    int saved = errno;
    if (!real.sem_trywait(s))
        return 0;
    errno = saved;
    WAIT(s, SEG_LOCK_SEM, false, real.sem_wait(s), 1);
}

// As io_hooks.c's waits: a signal of ours does not end it.
static int whole_sem_timedwait(sem_t *s, const struct timespec *limit)
{
    uint32_t was = waits_ended();
    int rc;
    while ((rc = real.sem_timedwait(s, limit)) && errno == EINTR && was != waits_ended())
        was = waits_ended();
    return rc;
}

static int whole_sem_clockwait(sem_t *s, clockid_t clock, const struct timespec *limit)
{
    uint32_t was = waits_ended();
    int rc;
    while ((rc = real.sem_clockwait(s, clock, limit)) && errno == EINTR && was != waits_ended())
        was = waits_ended();
    return rc;
}

INTERPOSED int sem_timedwait(sem_t *s, const struct timespec *limit)
{
    if (!is_on())
        return untold(whole_sem_timedwait(s, limit));
    int saved = errno;
    if (!real.sem_trywait(s))
        return 0;
    errno = saved;
    WAIT(s, SEG_LOCK_SEM, false, whole_sem_timedwait(s, limit), 1);
}

INTERPOSED int sem_clockwait(sem_t *s, clockid_t clock, const struct timespec *limit)
{
    if (!is_on())
        return untold(whole_sem_clockwait(s, clock, limit));
    int saved = errno;
    if (!real.sem_trywait(s))
        return 0;
    errno = saved;
    WAIT(s, SEG_LOCK_SEM, false, whole_sem_clockwait(s, clock, limit), 1);
}

INTERPOSED int pthread_barrier_wait(pthread_barrier_t *b)
{
    if (!is_on())
        return untold(real.barrier_wait(b));
    // The last one to come does not wait, and has this result as one of all has.
    WAIT(b, SEG_LOCK_BARRIER, false, real.barrier_wait(b), EINVAL);
}

INTERPOSED int pthread_join(pthread_t t, void **result)
{
    if (!is_on())
        return untold(real.join(t, result));
    WAIT((const void *)(uintptr_t)t, SEG_LOCK_JOIN, false, real.join(t, result), EDEADLK);
}

INTERPOSED int pthread_timedjoin_np(pthread_t t, void **result, const struct timespec *limit)
{
    if (!is_on())
        return untold(real.timedjoin(t, result, limit));
    WAIT((const void *)(uintptr_t)t, SEG_LOCK_JOIN, false, real.timedjoin(t, result, limit),
         EDEADLK);
}

INTERPOSED int pthread_clockjoin_np(pthread_t t, void **result, clockid_t clock,
                                    const struct timespec *limit)
{
    if (!is_on())
        return untold(real.clockjoin(t, result, clock, limit));
    WAIT((const void *)(uintptr_t)t, SEG_LOCK_JOIN, false, real.clockjoin(t, result, clock, limit),
         EDEADLK);
}

// --- C11 threads: libc's own calls behind these do not come by the hooks above.

INTERPOSED int mtx_lock(mtx_t *m)
{
    if (!is_on())
        return real.mtx_lock(m);
    int rc = real.mtx_trylock(m);
    if (rc != thrd_busy)
        return TOOK(FRAME, m, SEG_LOCK_MUTEX, LOCK_ORDER_WAITS, tried(m, rc));
    WAIT_LOCK(m, SEG_LOCK_MUTEX, LOCK_ORDER_WAITS, real.mtx_lock(m), thrd_error);
}

INTERPOSED int mtx_timedlock(mtx_t *m, const struct timespec *limit)
{
    if (!is_on())
        return untold(real.mtx_timedlock(m, limit));
    int rc = real.mtx_trylock(m);
    if (rc != thrd_busy)
        return TOOK(FRAME, m, SEG_LOCK_MUTEX, 0, tried(m, rc));
    WAIT_LOCK(m, SEG_LOCK_MUTEX, 0, real.mtx_timedlock(m, limit), thrd_error);
}

INTERPOSED int mtx_unlock(mtx_t *m)
{
    RELEASE(m, real.mtx_unlock(m));
}

INTERPOSED int cnd_wait(cnd_t *c, mtx_t *m)
{
    if (!is_on())
        return untold(real.cnd_wait(c, m));
    COND_WAIT(c, m, real.cnd_wait(c, m));
}

INTERPOSED int cnd_timedwait(cnd_t *c, mtx_t *m, const struct timespec *limit)
{
    if (!is_on())
        return untold(real.cnd_timedwait(c, m, limit));
    COND_WAIT(c, m, cnd_timedwait_told(c, m, limit));
}

INTERPOSED int cnd_signal(cnd_t *c)
{
    SIGNAL(c, false, real.cnd_signal(c));
}

INTERPOSED int cnd_broadcast(cnd_t *c)
{
    SIGNAL(c, true, real.cnd_broadcast(c));
}

INTERPOSED int thrd_join(thrd_t t, int *result)
{
    if (!is_on())
        return untold(real.thrd_join(t, result));
    WAIT((const void *)(uintptr_t)t, SEG_LOCK_JOIN, false, real.thrd_join(t, result), thrd_error);
}

static const struct hook table[] = {
    HOOK(pthread_mutex_init, real.mutex_init),
    HOOK(pthread_mutex_lock, real.mutex_lock),
    BEHIND(pthread_mutex_trylock, real.mutex_trylock),
    HOOK(pthread_mutex_timedlock, real.mutex_timedlock),
    HOOK(pthread_mutex_clocklock, real.mutex_clocklock),
    HOOK(pthread_mutex_unlock, real.mutex_unlock),
    HOOK(pthread_rwlock_init, real.rwlock_init),
    HOOK(pthread_rwlock_rdlock, real.rdlock),
    BEHIND(pthread_rwlock_tryrdlock, real.tryrdlock),
    HOOK(pthread_rwlock_timedrdlock, real.timedrdlock),
    HOOK(pthread_rwlock_clockrdlock, real.clockrdlock),
    HOOK(pthread_rwlock_wrlock, real.wrlock),
    BEHIND(pthread_rwlock_trywrlock, real.trywrlock),
    HOOK(pthread_rwlock_timedwrlock, real.timedwrlock),
    HOOK(pthread_rwlock_clockwrlock, real.clockwrlock),
    HOOK(pthread_rwlock_unlock, real.rwlock_unlock),
    HOOK(pthread_cond_wait, real.cond_wait),
    HOOK(pthread_cond_timedwait, real.cond_timedwait),
    HOOK(pthread_cond_clockwait, real.cond_clockwait),
    HOOK(pthread_cond_signal, real.cond_signal),
    HOOK(pthread_cond_broadcast, real.cond_broadcast),
    HOOK(pthread_barrier_wait, real.barrier_wait),
    HOOK(pthread_join, real.join),
    HOOK(pthread_timedjoin_np, real.timedjoin),
    HOOK(pthread_clockjoin_np, real.clockjoin),
    HOOK(sem_post, real.sem_post),
    HOOK(sem_wait, real.sem_wait),
    BEHIND(sem_trywait, real.sem_trywait),
    HOOK(sem_timedwait, real.sem_timedwait),
    HOOK(sem_clockwait, real.sem_clockwait),
    HOOK(mtx_lock, real.mtx_lock),
    BEHIND(mtx_trylock, real.mtx_trylock),
    HOOK(mtx_timedlock, real.mtx_timedlock),
    HOOK(mtx_unlock, real.mtx_unlock),
    HOOK(cnd_wait, real.cnd_wait),
    HOOK(cnd_timedwait, real.cnd_timedwait),
    HOOK(cnd_signal, real.cnd_signal),
    HOOK(cnd_broadcast, real.cnd_broadcast),
    HOOK(thrd_join, real.thrd_join),
};

const struct hook_table lock_hooks = {table, sizeof table / sizeof *table};
