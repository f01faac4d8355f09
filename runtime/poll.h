// SPDX-License-Identifier: MIT
//
// Descriptors as the netpoller knows them, for io*.c.
//
// A descriptor's number leads to its struct poll_desc, which is never freed. Each direction has one word:
//
//   POLL_READY    an attempt may succeed: something came since the last one that found nothing, or nobody
//                 has tried
//   POLL_DRAINED  the last attempt found nothing left, and no event has come since: who wants more waits
//                 without trying
//   a struct g *  the same, and this fiber waits
//
// What always holds
//   - An attempt that is to find out whether something is left sets POLL_DRAINED *before* its system call (the
//     side is eager); so an event that comes during the call is not lost: it sets POLL_READY. An attempt
//     that did not find the end sets POLL_READY again, and with it wakes those who came meanwhile.
//     Whoever takes a fiber out of the word has it try: the wake is its leave to do so.
//   - A side whose attempts nearly always succeed (writing) is not eager, until one falls short: then
//     that attempt proves nothing, and the next one is eager. So echoing costs writers no atomic.
//   - A short read or write of a stream means drained, but after an event with EPOLLHUP, RDHUP, ERR or PRI
//     (is_hup): there the next attempt would find an end or error, of which no further event tells. The
//     reading end of a pipe is so from the start: its writer may send packets (O_DIRECT), which it cannot see.
//   - One waiter lies in the word. Others, and those of fib_poll, are sudogs in `more`, under `lock`,
//     and are all woken by any event.
//   - Calls hold the descriptor (`life`'s upper half). Closing waits until nobody does, so a call
//     never meets a number's next file.
//   - Locks: lock comes before a timer heap's. A timer's fire takes no lock, and wakes the word's waiter alone; those
//     in `more` have limits of their own.

#ifndef FIBERSCOPE_RUNTIME_POLL_H
#define FIBERSCOPE_RUNTIME_POLL_H

#include "runtime/sched.h"

#include <errno.h>

enum { POLL_READ, POLL_WRITE, POLL_SIDES };

#define POLL_DRAINED ((uintptr_t)0)
#define POLL_READY   ((uintptr_t)1)

enum poll_life { // bits of life; its upper half counts those who hold the descriptor
    POLL_OPEN = 1,
    POLL_CLOSING = 2,   // by fib_close: calls get -ECANCELED
    POLL_ENDING = 4,    // in close(2): the number may belong to another file already
    POLL_EVENTS = 8,    // in the epoll; else calls block
    POLL_STREAM = 16,   // a short transfer means drained
    POLL_SOCKET = 32,   //
    POLL_UNIX = 64,     // of AF_UNIX
    POLL_SHARED = 128,  // blocks, as others use it that expect so: asked before each attempt
    POLL_LINGERS = 256, // of TCP
    POLL_PIPE = 512,
    POLL_FLAGS = 1023,
};
#define POLL_HOLD ((uint64_t)1 << 32)

struct poll_side {
    _Atomic uintptr_t state;
    _Atomic int64_t deadline; // ns by clock_now; 0: none
    _Atomic uint8_t has_more; // `more` is not empty
    _Atomic uint8_t is_hup;   // sticks
    _Atomic uint8_t is_eager; // attempts set POLL_DRAINED first
};

struct poll_thread; // a plain thread that waits, poll_thread.c

struct poll_desc {
    _Alignas(LINE) _Atomic uint64_t life;
    _Atomic uint32_t seq; // of the number's file: events of former ones are passed over
    struct rt_lock lock;
    struct poll_side sides[POLL_SIDES];

    struct poll_rest {
        struct sudog_queue more;
        struct timer timer;        // for the word's waiter; left running when the wait ends
        _Atomic int64_t timer_end; // when it fires; 0: does not run
    } rest[POLL_SIDES];
    struct poll_thread *_Atomic threads; // written with the lock; seq_cst: see poll_set_deadline
    struct g *_Atomic closer;            // waits until nobody holds the descriptor
};
_Static_assert(offsetof(struct poll_desc, rest) == LINE, "what each call needs is one line");

// --- Numbers (poll_desc.c).

// NULL: no memory, or a number beyond all tables. [any thread]
struct poll_desc *poll_at(int fd);

enum { POLL_CHUNK = 256, POLL_CHUNKS = 65536 };
extern struct poll_desc *_Atomic poll_chunks[POLL_CHUNKS];

// If there has ever been one; NULL.
static inline struct poll_desc *poll_find(int fd)
{
    if (__builtin_expect((uint32_t)fd >= POLL_CHUNK * POLL_CHUNKS, 0))
        return NULL;
    // acquire: pairs with its publication in poll_at
    struct poll_desc *c =
        atomic_load_explicit(&poll_chunks[(uint32_t)fd / POLL_CHUNK], memory_order_acquire);
    return c ? c + (uint32_t)fd % POLL_CHUNK : NULL;
}

// Registers fd, which the kernel has just given, as what `flags` (of poll_life) say. 0 or -errno.
int poll_open_new(int fd, uint64_t flags);
// fd has just been given by the kernel: what was known of the number is void.
void poll_forget(int fd);
int poll_hold_slow(int fd, struct poll_desc **out, uint64_t *life);
void poll_closer_wake(struct poll_desc *d);

static inline void poll_release(struct poll_desc *d)
{
    // seq_cst: pairs with the closer's store of itself, which then reads the count
    uint64_t life = atomic_fetch_sub(&d->life, POLL_HOLD);
    if (__builtin_expect((life & POLL_CLOSING) && life < 2 * POLL_HOLD, 0))
        poll_closer_wake(d);
}

// Holds fd, opened if it was not. *life is what it is. 0, -ECANCELED (being closed), or -errno.
static inline int poll_hold(int fd, struct poll_desc **out, uint64_t *life)
{
    struct poll_desc *d = poll_find(fd);
    if (__builtin_expect(d != NULL, 1)) {
        // seq_cst: pairs with POLL_CLOSING set in fib_close, which then reads the count
        *life = atomic_fetch_add(&d->life, POLL_HOLD);
        *out = d;
        if (__builtin_expect((*life & (POLL_OPEN | POLL_CLOSING)) == POLL_OPEN, 1))
            return 0;
        poll_release(d);
    }
    return poll_hold_slow(fd, out, life);
}

// --- Attempts and waits (poll_wait.c).

// Waits until an attempt is due: 0. Or -ECANCELED, -ETIMEDOUT. [d is held]
int poll_wait(struct poll_desc *d, int fd, int side);

// The same for several sides (a mask of 1 << side) and no longer than timeout_ns (< 0: no limit), which is
// success, too. always: do not return at once because a side is POLL_READY.
int poll_wait_for(struct poll_desc *d, int fd, uint32_t mask, int64_t timeout_ns, bool always);

// -ECANCELED or -ETIMEDOUT, as it is now; 0.
int poll_check(struct poll_desc *d, int side);

// Waiters of a side are taken out and appended to *out, or readied if that is NULL; is_ready: and the
// side is POLL_READY, if none was in the word. The number of those from the word.
uint32_t poll_wake(struct poll_desc *d, int side, bool is_ready, struct g_queue *out);
// Its two parts. The latter: d->lock held.
uint32_t poll_wake_word(struct poll_desc *d, int side, bool is_ready, struct g_queue *out);
void poll_wake_more(struct poll_desc *d, int side, struct g_queue *out);

// For an `after` of g_park: g goes on.
void poll_resume(struct m *m, struct g *g);

void poll_set_deadline(struct poll_desc *d, int side, int64_t when);

// Before an attempt: 0: try now.
static inline int poll_begin(struct poll_desc *d, int fd, int side)
{
    struct poll_side *s = &d->sides[side];
    if (__builtin_expect(atomic_load_explicit(&s->deadline, memory_order_relaxed) != 0, 0)) {
        int rc = poll_check(d, side);
        if (rc)
            return rc;
    }
    if (atomic_load_explicit(&s->state, memory_order_relaxed) != POLL_READY) {
        int rc = poll_wait(d, fd, side);
        if (rc)
            return rc;
    }
    uintptr_t ready = POLL_READY;
    if (atomic_load_explicit(&s->state, memory_order_relaxed) == POLL_READY &&
        atomic_load_explicit(&s->is_eager, memory_order_relaxed))
        // seq_cst: before the system call, as events see it. Failing is fine: another has done it.
        atomic_compare_exchange_strong(&s->state, &ready, POLL_DRAINED);
    return 0;
}

// After an attempt that found nothing.
static inline void poll_end_drained(struct poll_desc *d, int side)
{
    struct poll_side *s = &d->sides[side];
    if (__builtin_expect(!atomic_load_explicit(&s->is_eager, memory_order_relaxed), 0))
        atomic_store_explicit(&s->is_eager, 1, memory_order_relaxed);
}

// After an attempt that may have left something.
static inline void poll_end_ready(struct poll_desc *d, int side)
{
    if (atomic_load_explicit(&d->sides[side].state, memory_order_relaxed) != POLL_READY)
        poll_wake(d, side, true, NULL);
}

// After one that moved a part of what was asked.
static inline void poll_end_short(struct poll_desc *d, uint64_t life, int side)
{
    // seq_cst: pairs with is_hup's store before the side's state
    if ((life & POLL_STREAM) && !atomic_load(&d->sides[side].is_hup))
        poll_end_drained(d, side);
    else
        poll_end_ready(d, side);
}

// --- Plain threads (poll_thread.c).
int poll_thread_wait(struct poll_desc *d, int fd, uint32_t mask, int64_t timeout_ns);
void poll_thread_wake(struct poll_desc *d); // d->lock held

// --- The epoll (netpoll.c).
int netpoll_add(int fd, uint32_t seq);
void netpoll_remove(int fd);
extern _Atomic int64_t netpoll_woken;  // waits in words that have ended
extern _Atomic int64_t netpoll_others; // waits without a P, and those in `more`, that go on

#endif
