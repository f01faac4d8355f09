// SPDX-License-Identifier: MIT
//
// The readers-writer mutex. A writer takes w, then shuts readers out by making `readers` negative, and waits for
// those that were in. Its unlock lets all in that have come meanwhile, before the next writer can.

#include "runtime/descriptor.h"
#include "runtime/sync/owner.h"
#include "runtime/sync/wait_table.h"

enum { READERS_MAX = 1 << 30 };

// What who watches the order of locks is told.
enum {
    READING = DESCRIPTOR_LOCK_WAITS | DESCRIPTOR_LOCK_READS | DESCRIPTOR_LOCK_RW,
    WRITING = DESCRIPTOR_LOCK_WAITS | DESCRIPTOR_LOCK_RW,
};

struct rw {
    _Atomic int32_t readers; // in or waiting; less READERS_MAX while a writer is or waits to be
    _Atomic int32_t leaving; // readers the writer waits for
    uint32_t read_tokens, write_tokens;
};
_Static_assert(sizeof(struct rw) <= sizeof(((struct fib_rwmutex *)0)->opaque), "fits");

static struct rw *rw_of(struct fib_rwmutex *m)
{
    return (struct rw *)(void *)m->opaque;
}

FIB_PUBLIC void fib_rwmutex_rlock(struct fib_rwmutex *m)
{
    seed_point();
    struct rw *rw = rw_of(m);
    // acquire: pairs with the writer's release in unlock
    bool is_free = atomic_fetch_add_explicit(&rw->readers, 1, memory_order_acquire) >= 0;
    if (is_free) {
        lock_watch(m, DESCRIPTOR_LOCK_TAKEN | READING);
        return;
    }
    if (owner_of(&m->w.owner) == owner_self())
        rt_fatal("fib_rwmutex_rlock", "the caller holds it for writing, and would wait for itself");
    lock_watch(m, DESCRIPTOR_LOCK_WANTED | READING);
    token_wait(&rw->read_tokens, WAIT_RWMUTEX_R, m, &m->w.owner);
    lock_watch(m, DESCRIPTOR_LOCK_TAKEN | READING);
}

FIB_PUBLIC bool fib_rwmutex_tryrlock(struct fib_rwmutex *m)
{
    seed_point();
    struct rw *rw = rw_of(m);
    int32_t n = atomic_load_explicit(&rw->readers, memory_order_relaxed);
    while (n >= 0)
        if (atomic_compare_exchange_weak_explicit(&rw->readers, &n, n + 1, memory_order_acquire,
                                                  memory_order_relaxed)) {
            lock_watch(m, DESCRIPTOR_LOCK_TAKEN | DESCRIPTOR_LOCK_READS | DESCRIPTOR_LOCK_RW);
            return true;
        }
    return false;
}

FIB_PUBLIC void fib_rwmutex_runlock(struct fib_rwmutex *m)
{
    seed_point();
    struct rw *rw = rw_of(m);
    lock_watch(m, DESCRIPTOR_LOCK_RELEASED);
    // release: a writer sees that this reader has read. acquire: it is the writer's waker
    int32_t before = atomic_fetch_sub_explicit(&rw->readers, 1, memory_order_acq_rel);
    if (before > 0)
        return;
    if (before == 0 || before == -READERS_MAX)
        rt_fatal("fib_rwmutex_runlock", "it is not locked for reading");
    // A writer waits: the last of those who were in wakes it.
    if (atomic_fetch_sub_explicit(&rw->leaving, 1, memory_order_acq_rel) == 1)
        token_give(&rw->write_tokens, false);
}

FIB_PUBLIC void fib_rwmutex_lock(struct fib_rwmutex *m)
{
    seed_point();
    struct rw *rw = rw_of(m);
    if (owner_of(&m->w.owner) || atomic_load_explicit(&rw->readers, memory_order_relaxed))
        lock_watch(m, DESCRIPTOR_LOCK_WANTED | WRITING);
    mutex_lock_as(&m->w, -1, WAIT_RWMUTEX_W, m, "fib_rwmutex_lock");
    int32_t in = atomic_fetch_sub_explicit(&rw->readers, READERS_MAX, memory_order_acq_rel);
    // Some may have left already, and counted `leaving` below 0.
    if (in && atomic_fetch_add_explicit(&rw->leaving, in, memory_order_acq_rel) + in)
        token_wait(&rw->write_tokens, WAIT_RWMUTEX_W, m, NULL);
    lock_watch(m, DESCRIPTOR_LOCK_TAKEN | WRITING);
}

FIB_PUBLIC bool fib_rwmutex_trylock(struct fib_rwmutex *m)
{
    seed_point();
    if (!mutex_try_as(&m->w)) // told below, of the whole lock
        return false;
    int32_t none = 0;
    if (atomic_compare_exchange_strong_explicit(&rw_of(m)->readers, &none, -READERS_MAX,
                                                memory_order_acq_rel, memory_order_relaxed)) {
        lock_watch(m, DESCRIPTOR_LOCK_TAKEN | DESCRIPTOR_LOCK_RW);
        return true;
    }
    mutex_unlock_as(&m->w, "fib_rwmutex_trylock");
    return false;
}

FIB_PUBLIC void fib_rwmutex_unlock(struct fib_rwmutex *m)
{
    seed_point();
    struct rw *rw = rw_of(m);
    mutex_check_owner(&m->w, "fib_rwmutex_unlock");
    lock_watch(m, DESCRIPTOR_LOCK_RELEASED);
    // release: readers see what was written
    int32_t waiting =
        atomic_fetch_add_explicit(&rw->readers, READERS_MAX, memory_order_acq_rel) + READERS_MAX;
    for (int32_t i = 0; i < waiting; i++)
        token_give(&rw->read_tokens, true);
    mutex_unlock_as(&m->w, "fib_rwmutex_unlock");
}
