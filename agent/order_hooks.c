// SPDX-License-Identifier: MIT
//
// The interposed functions that matter to the order of locks, and hardly to anything else: what takes a lock without waiting, and what makes
// an end of one; see lock_order.h. The others are in lock_hooks.c.

#include "agent/capture.h"
#include "agent/hooks.h"
#include "agent/lock.h"
#include "agent/lock_order.h"
#include "agent/trace.h"
#include "emit/emit.h"

#include <pthread.h>
#include <threads.h>

#define INTERPOSED __attribute__((visibility("default")))

// For an allocator that is loaded before us; see lock_hooks.c.
extern int libc_mutex_trylock(pthread_mutex_t *);
extern int libc_mutex_destroy(pthread_mutex_t *);
__asm__(".symver libc_mutex_trylock, __pthread_mutex_trylock@GLIBC_2.2.5");
__asm__(".symver libc_mutex_destroy, __pthread_mutex_destroy@GLIBC_2.2.5");

static struct {
    int (*mutex_trylock)(pthread_mutex_t *);
    int (*mutex_destroy)(pthread_mutex_t *);
    int (*tryrdlock)(pthread_rwlock_t *);
    int (*trywrlock)(pthread_rwlock_t *);
    int (*rwlock_destroy)(pthread_rwlock_t *);
    int (*mtx_init)(mtx_t *, int);
    int (*mtx_trylock)(mtx_t *);
    void (*mtx_destroy)(mtx_t *);
} real;

// A mutex that was free: somebody who was woken may need it.
static inline int tried(const void *m, int rc)
{
    if (!rc && atomic_load_explicit(&lock_flags, memory_order_relaxed) & LOCK_TRACE &&
        atomic_load_explicit(&emit_relocking, memory_order_relaxed))
        trace_took(m);
    return rc;
}

static inline void be_ready(void)
{
    if (!hooks_ready())
        hooks_resolve_locks();
}

#define TOOK(object, type, how, rc)                                                                \
    (lock_order_is_on() ? lock_order_result(object, type, how, rc, __builtin_frame_address(0))     \
                        : (rc))

INTERPOSED int pthread_mutex_trylock(pthread_mutex_t *m)
{
    if (!hooks_ready())
        return libc_mutex_trylock(m);
    int rc = real.mutex_trylock(m);
    return TOOK(m, SEG_LOCK_MUTEX, 0, tried(m, rc));
}

// Before: the memory may be another lock's as soon as it is destroyed.
INTERPOSED int pthread_mutex_destroy(pthread_mutex_t *m)
{
    if (!hooks_ready())
        return libc_mutex_destroy(m);
    if (lock_order_is_on())
        lock_order_forgets(m);
    return real.mutex_destroy(m);
}

INTERPOSED int pthread_rwlock_tryrdlock(pthread_rwlock_t *l)
{
    be_ready();
    int rc = real.tryrdlock(l);
    return TOOK(l, SEG_LOCK_RWLOCK, LOCK_ORDER_READS, rc);
}

INTERPOSED int pthread_rwlock_trywrlock(pthread_rwlock_t *l)
{
    be_ready();
    int rc = real.trywrlock(l);
    return TOOK(l, SEG_LOCK_RWLOCK, 0, rc);
}

INTERPOSED int pthread_rwlock_destroy(pthread_rwlock_t *l)
{
    be_ready();
    if (lock_order_is_on())
        lock_order_forgets(l);
    return real.rwlock_destroy(l);
}

INTERPOSED int mtx_init(mtx_t *m, int type)
{
    be_ready();
    if (lock_order_is_on())
        lock_order_forgets(m);
    return real.mtx_init(m, type);
}

INTERPOSED int mtx_trylock(mtx_t *m)
{
    be_ready();
    int rc = real.mtx_trylock(m);
    return TOOK(m, SEG_LOCK_MUTEX, 0, tried(m, rc));
}

INTERPOSED void mtx_destroy(mtx_t *m)
{
    be_ready();
    if (lock_order_is_on())
        lock_order_forgets(m);
    real.mtx_destroy(m);
}

static const struct hook table[] = {
    HOOK(pthread_mutex_trylock, real.mutex_trylock),
    HOOK(pthread_mutex_destroy, real.mutex_destroy),
    HOOK(pthread_rwlock_tryrdlock, real.tryrdlock),
    HOOK(pthread_rwlock_trywrlock, real.trywrlock),
    HOOK(pthread_rwlock_destroy, real.rwlock_destroy),
    HOOK(mtx_init, real.mtx_init),
    HOOK(mtx_trylock, real.mtx_trylock),
    HOOK(mtx_destroy, real.mtx_destroy),
};

const struct hook_table order_hooks = {table, sizeof table / sizeof *table};
