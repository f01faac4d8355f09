// SPDX-License-Identifier: MIT

#include "runtime/sync/owner.h"

static void once_end(void *arg)
{
    struct fib_once *o = arg;
    // release: pairs with the acquire in fib_once, whose caller sees what fn did
    atomic_store_explicit((_Atomic uint32_t *)&o->done, 1, memory_order_release);
    mutex_unlock_as(&o->m, "fib_once");
}

FIB_PUBLIC void fib_once(struct fib_once *o, fib_fn *fn, void *arg)
{
    seed_point();
    _Atomic uint32_t *done = (_Atomic uint32_t *)&o->done;
    if (atomic_load_explicit(done, memory_order_acquire))
        return;
    mutex_lock_as(&o->m, -1, WAIT_MUTEX, o, "fib_once");
    if (atomic_load_explicit(done, memory_order_relaxed)) {
        mutex_unlock_as(&o->m, "fib_once");
        return;
    }
    struct exit_hook hook; // a fiber that ends in fn has done it, too
    exit_hook_push(&hook, once_end, o);
    fn(arg);
    exit_hook_pop(&hook);
    once_end(o);
}
