// SPDX-License-Identifier: MIT
//
// The inside of a channel, for chan.c and select.c, and for those of the runtime who close one.
//
// What always holds, under the lock
//   - Live receivers wait only while the buffer is empty; live senders only while it is full.
//   - Whoever takes a waiter out of a queue copies the value from or to the waiter's stack and readies it:
//     nobody else can by then, so that is done without the lock.
//   - After its g_ready the channel is not touched: the one woken may free it. Nor does one that was woken
//     touch it: a sender may free it as its send returns.
//   - is_closed never goes back to 0.

#ifndef FIBERSCOPE_RUNTIME_CHAN_H
#define FIBERSCOPE_RUNTIME_CHAN_H

#include "fiberscope/chan.h"
#include "runtime/sudog.h"

#include <string.h>

struct fib_chan {
    // The first line is all that an unbuffered channel needs.
    struct rt_lock lock;
    _Atomic uint32_t is_closed;
    uint32_t elem_bytes;
    uint32_t reserved;
    _Atomic size_t count; // in the buffer
    size_t capacity;
    struct sudog_queue receivers, senders;

    size_t recv_at, send_at, buffer_bytes; // offsets of the buffer's head and of its free place
    // Set before is_closed.
    uint64_t closer;       // who closed it: this_owner()
    uintptr_t closed_at;   // the pc behind its call
    uint64_t close_number; // its stack: closers.c

    _Alignas(LINE) unsigned char buffer[];
};

// A copy of one element. The usual sizes without a call.
static inline void elem_copy(const struct fib_chan *c, void *to, const void *from)
{
    size_t bytes = c->elem_bytes;
    if (bytes == 8) {
        memcpy(to, from, 8);
        return;
    }
    switch (bytes) {
    case 0: return; // the pointers may be NULL
    case 1: memcpy(to, from, 1); return;
    case 4: memcpy(to, from, 4); return;
    case 16: memcpy(to, from, 16); return;
    default: memcpy(to, from, bytes);
    }
}

// Whether an operation seems possible; without the lock a hint. "No" was true at one moment during the call:
// the first look is the decisive one, since what was still open later was open then.
static inline bool chan_can_recv(const struct fib_chan *c)
{
    // acquire: the later looks stay later; pairs with the release of is_closed in chan_shut, too
    return atomic_load_explicit(&c->count, memory_order_acquire) || sudog_peek(&c->senders) ||
           atomic_load_explicit(&c->is_closed, memory_order_acquire);
}

static inline bool chan_can_send(const struct fib_chan *c)
{
    // acquire: as above. A closed one "can": the sender is to abort.
    return atomic_load_explicit(&c->count, memory_order_acquire) < c->capacity ||
           sudog_peek(&c->receivers) || atomic_load_explicit(&c->is_closed, memory_order_acquire);
}

// The lock, with the M looked up once: it stays the same, as who holds a lock is not preempted, and one that was
// preempted before goes on in the same M. A plain thread has its G made first: that may call malloc, which
// may wait for a fiber, which may want the lock.
static inline struct m *chan_lock(struct fib_chan *c)
{
    struct m *m = this_m();
    if (__builtin_expect(m != NULL, 1))
        m->locks++;
    else
        this_g();
    atomic_signal_fence(memory_order_seq_cst); // as in rt_lock
    uint32_t no = 0;
    // acquire: pairs with the release in chan_unlock
    if (!atomic_compare_exchange_strong_explicit(&c->lock.held, &no, 1, memory_order_acquire,
                                                 memory_order_relaxed))
        rt_lock_slow(&c->lock);
    return m;
}

static inline bool chan_trylock(struct m *m, struct fib_chan *c)
{
    m->locks++;
    atomic_signal_fence(memory_order_seq_cst); // as in rt_lock
    uint32_t no = 0;
    // acquire: pairs with the release in chan_unlock
    if (__builtin_expect(atomic_compare_exchange_strong_explicit(
                             &c->lock.held, &no, 1, memory_order_acquire, memory_order_relaxed),
                         1))
        return true;
    m->locks--;
    return false;
}

static inline void chan_unlock(struct m *m, struct fib_chan *c)
{
    atomic_store_explicit(&c->lock.held, 0, memory_order_release); // pairs with chan_lock
    atomic_signal_fence(memory_order_seq_cst);
    if (__builtin_expect(m != NULL, 1))
        m->locks--;
}

// With the lock held. True: done, and unlocked. False: it would wait, and the lock is still held.
bool chan_try_send(struct m *m, struct fib_chan *c, const void *elem, const char *call);
bool chan_try_recv(struct m *m, struct fib_chan *c, void *elem, bool *ok);

// The size of a channel with its buffer, and the making of one in such memory (aligned to LINE): for one
// that is part of something else.
static inline size_t chan_bytes(size_t elem_bytes, size_t capacity)
{
    return sizeof(struct fib_chan) + elem_bytes * capacity;
}
void chan_init(struct fib_chan *c, uint32_t elem_bytes, size_t capacity);

// Closes it and readies all who wait; false: it was closed. Does not yield in the deterministic
// scheduler. [any thread; rt_locks may be held]
bool chan_shut(struct fib_chan *c, uintptr_t pc, uint64_t close_number);

// Notes the caller's stack as a closer's; the number for chan_shut. [any thread; rt_locks may be held]
uint64_t closer_note(void);
// Prints on standard error who closed c, with its stack.
void closer_print(const struct fib_chan *c);

// Aborts: bad use of a closed channel, with the stack of who closed it.
__attribute__((noreturn)) void chan_fatal_closed(struct fib_chan *c, const char *call,
                                                 const char *rule);

// Waits for nothing: on a NULL channel, or in a select without cases. Returns when the time is over.
void chan_wait_nothing(enum wait_reason reason, int64_t timeout_ns);

#endif
