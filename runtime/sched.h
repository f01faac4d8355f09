// SPDX-License-Identifier: MIT
//
// The scheduler, as the rest of the runtime sees it: parking and readying, locks, time, this thread.
//
// How to wait (chan.c, sync, io): take an rt_lock that guards the object; enqueue a struct sudog that lies on
// one's own stack; g_park with an `after` that releases the lock. Whoever takes the sudog out of the queue (with
// the lock) calls g_ready. With a limit or several objects, whoever comes first wins live->is_chosen by
// g_choose, and only that one readies; the waiter dequeues its other sudogs when it runs again.

#ifndef FIBERSCOPE_RUNTIME_SCHED_H
#define FIBERSCOPE_RUNTIME_SCHED_H

#include "runtime/arch/arch.h"
#include "runtime/types.h"

// --- This thread.

struct fib_tls { // reached by outsiders through the descriptor: offset from the thread pointer
    struct m *m; // NULL: a plain thread
    struct g *g; // the running fiber, or g0; in a plain thread its thread G, if it has one
    // The running fiber's id, the thread's as this_owner has it, or 0: ask this_owner. Read by the inline functions
    // of sync.h, as struct fib_thread_.
    uint64_t owner;
};
extern __thread struct fib_tls fib_tls __attribute__((tls_model("initial-exec")));

// Never cached over a switch, whatever the compiler knows of TLS addresses.
static inline struct m *this_m(void)
{
    struct m *m;
#ifdef __x86_64__
    __asm__ volatile("movq fib_tls@gottpoff(%%rip), %0\n\tmovq %%fs:(%0), %0" : "=&r"(m));
#endif
    return m;
}

// The running fiber; in a plain thread its thread G, made if need be. Never NULL: aborts without memory.
struct g *this_g(void);

// --- Parking.

// What g_park does once the caller's registers are saved, on another stack: releases what keeps wakers away.
typedef void park_after_fn(struct m *m, struct g *g, void *arg);
void unlock_after(struct m *m, struct g *g, void *lock); // a park_after_fn: rt_unlock(lock)

// Waits until g_ready(this_g()). Locks held by rt_lock must all be released by `after`. In a plain thread
// blocks it by futex. reason and object are what dumps show. Aborts between fib_blocking_enter and exit.
void g_park(enum wait_reason reason, const void *object, park_after_fn *after, void *arg);

// Makes a parked G runnable: the next to run here, if this is a scheduler's thread with a P.
// [any thread; rt_locks may be held]
void g_ready(struct g *g);
// The same, at the end of the queue: for many at a time (close, broadcast).
void g_ready_last(struct g *g);
// Hands the processor to g at once, the caller goes to the queue's end: mutexes' and semaphores' hand-off.
void g_ready_and_yield(struct g *g);

// True for the one caller that may ready g, of several that could. The waiter sets is_chosen to 0 before it
// enqueues its sudogs.
static inline bool g_choose(struct g *g)
{
    uint32_t no = 0;
    // acq_rel: what the waiter wrote before enqueueing is seen; one winner
    return atomic_compare_exchange_strong_explicit(&g->live->is_chosen, &no, 1,
                                                   memory_order_acq_rel, memory_order_relaxed);
}

void g_yield(void);

// fib_go, of one that is known as fn, and begins in t->run.
int go_task(fib_fn *fn, struct go_task *t);

// --- One waiter at one object. Lies on the waiter's stack.
struct sudog {
    struct g *g;
    struct sudog *next, *prev;
    void *object;   // the channel, mutex, ...
    void *elem;     // a channel's: from or to where
    bool is_choice; // g_choose decides (select, or with a limit)
    bool ok;        // out: a value was received or sent; false: closed
    uint16_t index; // of a select's case
    uint32_t kind;  // the user's
    int64_t value;  // the user's: ticket, weight, time
};

struct sudog_queue {
    struct sudog *head, *tail;
};
void sudog_append(struct sudog_queue *q, struct sudog *s);
void sudog_prepend(struct sudog_queue *q, struct sudog *s);
bool sudog_remove(struct sudog_queue *q, struct sudog *s); // false: was not in
// The first that may be readied (g_choose where it is a choice), taken out; NULL: none.
struct sudog *sudog_take(struct sudog_queue *q);

// A limit for a wait whose sudogs are choices: park_timed starts a timer that chooses the G, parks, and stops
// it. False: the timer came first. timeout_ns < 0: no limit. live->is_chosen must be 0 and the sudogs
// enqueued; `after` as for g_park.
bool g_park_for(enum wait_reason reason, const void *object, park_after_fn *after, void *arg,
                int64_t timeout_ns);

// --- Locks. Short; never held over a park (but by `after`) or a call into libc that locks.

void rt_lock_slow(struct rt_lock *l);

static inline void rt_lock(struct rt_lock *l)
{
    struct m *m = this_m();
    if (m)
        m->locks++;
    atomic_signal_fence(memory_order_seq_cst); // counted before it is held, as handlers see it
    uint32_t no = 0;
    // acquire: pairs with the release in rt_unlock
    if (!atomic_compare_exchange_strong_explicit(&l->held, &no, 1, memory_order_acquire,
                                                 memory_order_relaxed))
        rt_lock_slow(l);
}

static inline bool rt_trylock(struct rt_lock *l)
{
    struct m *m = this_m();
    if (m)
        m->locks++;
    atomic_signal_fence(memory_order_seq_cst);
    uint32_t no = 0;
    bool ok = atomic_compare_exchange_strong_explicit(&l->held, &no, 1, memory_order_acquire,
                                                      memory_order_relaxed);
    if (!ok && m)
        m->locks--;
    return ok;
}

static inline void rt_unlock(struct rt_lock *l)
{
    atomic_store_explicit(&l->held, 0, memory_order_release); // pairs with rt_lock
    atomic_signal_fence(memory_order_seq_cst);
    struct m *m = this_m();
    if (m)
        m->locks--;
}

// --- Time.

extern bool ticks_are_tsc;
uint64_t ticks_slow(void);
static inline uint64_t ticks_now(void) // of the TSC; ns where it is not invariant
{
    return __builtin_expect(ticks_are_tsc, 1) ? arch_tsc() : ticks_slow();
}
uint64_t ticks_to_ns(uint64_t ticks); // a duration
int64_t clock_now(void);              // ns: CLOCK_MONOTONIC, or the deterministic clock
int64_t clock_soon(
    void); // not before clock_now, and at most 2 us after it; for a third of the price

// t->when, period, fire and arg are set. A timer is started once, and then stopped or fired before it is
// started again.
void timer_add(struct timer *t);
// True: it was in a heap, and will not fire. When it returns, fire is not running for t.
bool timer_remove(struct timer *t);

// --- Memory: pages from mmap, for what the runtime itself needs. NULL: none. Never from malloc.
void *os_pages(size_t bytes);
void os_pages_free(void *p, size_t bytes);

// --- Ends.

// Prints the fiber, "fiberscope-rt: CALL: RULE", and the caller's stack, and aborts.
__attribute__((noreturn, format(printf, 2, 3))) void rt_fatal(const char *call, const char *rule,
                                                              ...);

// The id of who runs: a fiber's, or the thread's id with the top bit set.
uint64_t this_owner(void);

const char *wait_reason_text(enum wait_reason r); // Go's words

// A yield in the deterministic scheduler, with the probability it chooses; else nothing. At the start of what
// could be interleaved differently: channel and lock operations.
void seed_point_slow(void);
extern bool sched_is_seeded;
// Not 0: locks are not taken inline, nor by the shortest way. See DESCRIPTOR_LOCKS_SEEDED.
extern uint32_t sched_slow_locks;
static inline bool locks_are_slow(void)
{
    return __builtin_expect(__atomic_load_n(&sched_slow_locks, __ATOMIC_RELAXED) != 0, 0);
}
static inline void seed_point(void)
{
    if (__builtin_expect(sched_is_seeded, 0))
        seed_point_slow();
}

#endif
