// SPDX-License-Identifier: MIT
//
// Owners of locks: how they are read and written, and what runs when a fiber that owns something ends.

#ifndef FIBERSCOPE_RUNTIME_SYNC_OWNER_H
#define FIBERSCOPE_RUNTIME_SYNC_OWNER_H

#include "runtime/sched.h"

#include "fiberscope/sync.h"

static inline uint64_t owner_in(struct m *m)
{
    return atomic_load_explicit(&m->cur->id, memory_order_relaxed); // relaxed: one's own
}

// this_owner, without a call in a fiber.
static inline uint64_t owner_self(void)
{
    struct m *m = this_m();
    return m ? owner_in(m) : this_owner();
}

// Who holds the mutex whose word this is.
static inline uint64_t owner_of(const uint64_t *owner)
{
    // relaxed: only ever compared with one's own id, which nobody else writes
    return atomic_load_explicit((const _Atomic uint64_t *)owner, memory_order_relaxed) &
           ~OWNER_FLAGS;
}

// --- Mutexes, for others here. `call` is what the message of an abort names.
int mutex_lock_as(struct fib_mutex *m, int64_t timeout_ns, enum wait_reason reason,
                  const void *object, const char *call);
bool mutex_try_as(struct fib_mutex *m); // nobody is told of it
void mutex_unlock_as(struct fib_mutex *m, const char *call);
// The same without ever yielding: rt_locks may be held.
void mutex_unlock_no_yield(struct fib_mutex *m, const char *call);
void mutex_check_owner(const struct fib_mutex *m,
                       const char *call); // aborts if the caller does not hold it

// --- Who watches the order of locks is told here. what: enum descriptor_lock.
void lock_tell(const void *object, uint32_t what);
static inline void lock_watch(const void *object, uint32_t what)
{
    if (locks_are_slow())
        lock_tell(object, what);
}

// --- What is to be done when a fiber ends in the middle of a call (fib_exit in a user's function). Lies on the
// caller's stack, which is still there then; innermost first. Nothing runs for plain threads.
struct exit_hook {
    struct exit_hook *next;
    void (*fn)(void *arg);
    void *arg;
};

static inline void exit_hook_push(struct exit_hook *h, void (*fn)(void *arg), void *arg)
{
    struct live *live = this_g()->live;
    *h = (struct exit_hook){live->exit_hooks, fn, arg};
    live->exit_hooks = h;
}

static inline void exit_hook_pop(struct exit_hook *h)
{
    this_g()->live->exit_hooks = h->next;
}

#endif
