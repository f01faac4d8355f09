// SPDX-License-Identifier: MIT
//
// Who waits for what, by address: queues of waiters outside of the objects, so that these stay small.
//
// A bucket holds the queues of all addresses that hash to it: the first waiter of each address is in the bucket's
// chain, and the others hang behind it. Waiters lie on their own stacks.
//
// What always holds: everything below is called with the bucket's lock held, by wait_lock of that address. A waiter is
// in at most one queue; once out of it, only who took it out may ready it. An object is not touched by a waker
// after the bucket's lock is released: the woken one may free it.

#ifndef FIBERSCOPE_RUNTIME_SYNC_WAIT_TABLE_H
#define FIBERSCOPE_RUNTIME_SYNC_WAIT_TABLE_H

#include "runtime/sched.h"

struct waiter {
    struct sudog s;                  // s.object: the address; next, prev: of the same address
    struct waiter *chain, *chain_to; // of a queue's first: the bucket's next and previous queue
    struct waiter *last;             // of a queue's first: its last
    uint64_t id;                     // the user's: who it is
    int64_t since_ns;                // the user's: when it came
    bool is_in;
};

struct wait_bucket {
    _Alignas(LINE) struct rt_lock lock;
    struct waiter *chain;
};

struct wait_bucket *wait_lock(const void *address);

static inline void wait_unlock(struct wait_bucket *b)
{
    rt_unlock(&b->lock);
}

// A waiter that is the calling fiber; is_choice for one with a limit, and then live->is_chosen is cleared.
void wait_init(struct waiter *w, const void *address, bool is_choice);

void wait_append(struct wait_bucket *b, struct waiter *w);
void wait_prepend(struct wait_bucket *b, struct waiter *w);
bool wait_remove(struct wait_bucket *b, struct waiter *w); // false: it is not in, somebody took it
bool wait_is_empty(const struct wait_bucket *b, const void *address);
// The first that may be readied, taken out; NULL: none. Those whose time is over are dropped on the way.
struct waiter *wait_take(struct wait_bucket *b, const void *address);

// Parks the caller, whose waiter is in b's queue, and releases b. False: timeout_ns were over, w is out of the
// queue, and b is locked again. owner: where the id of who makes it wait can be read; may be NULL.
bool wait_park(struct wait_bucket *b, struct waiter *w, enum wait_reason reason, const void *object,
               uint64_t *owner, int64_t timeout_ns);

// --- A counter of tokens that can be waited for; only with it, the address of the counter is that of the queue.

void token_wait(uint32_t *tokens, enum wait_reason reason, const void *object, uint64_t *owner);
// One token: to the first waiter, else kept. is_last: it runs after all that are ready.
void token_give(uint32_t *tokens, bool is_last);

#endif
