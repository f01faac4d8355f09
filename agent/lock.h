// SPDX-License-Identifier: MIT
//
// Block and mutex profiles: who waits how long for what, and whose unlock ends it. Semantics are Go's
// (runtime/mprof.go, sema.go of 1.22 and later):
//
//   block   a wait that took d ns is charged to the waiter's stack. Waits of at least the rate are always
//           kept; a shorter one with probability d / rate, and then counts rate / d times d: unbiased.
//   mutex   an unlock that finds waiters is charged, at the unlocker's stack, the time that all of them
//           together have waited since the last unlock charged them. One in `fraction` is kept, times
//           fraction. One handing over counts once: unlocks that come while a waiter that was woken
//           has not got the lock yet (others barge in) add their time, and no contention. Time between
//           the last unlock and the waiter's running again belongs to nobody.
//
// An uncontended lock or unlock costs a try, and a load of a counter that only contention writes. No
// clock is read, nothing is written.
//
// What always holds
//   - Only waiters that lock_wait_begin registered are counted, and each leaves by lock_wait_end: the
//     functions that register (mutexes, rwlocks) are no cancellation points.
//   - An entry's waiters and last change together (one 16-byte compare-and-swap), so that time is
//     charged once: to an unlock, or to nobody when its waiter leaves.
//   - Nothing waits for another thread. An entry that is being given to another lock is passed by, and a
//     lock that finds no entry is recorded for block alone; losses.locks_full counts it.
//   - The table lies in memory that a forked child finds zeroed.

#ifndef FIBERSCOPE_AGENT_LOCK_H
#define FIBERSCOPE_AGENT_LOCK_H

#include "segment/layout.h"
#include "unwind/unwind.h"

#include <stdatomic.h>
#include <stdbool.h>

enum { LOCK_ENTRIES = 4096, LOCK_FILTER = 1024, LOCK_MADE = 1024 };

enum lock_flag {
    LOCK_BLOCK = 1,
    LOCK_MUTEX = 2,
    LOCK_TRACE = 8,  // an execution trace is recorded
    LOCK_ORDER = 16, // lock_order.h
    LOCK_FORBID = 4, // some thread has forbidden waits, once: hooks look at agent_tls.forbid
};

// What is recorded now; 0: hooks pass through. Kept from the control words by lock_update.
extern _Atomic uint32_t lock_flags;

static inline bool lock_order_is_on(void)
{
    return __builtin_expect(atomic_load_explicit(&lock_flags, memory_order_relaxed) & LOCK_ORDER,
                            0);
}

// Waiters registered now, for any lock: what an unlock asks first. On a line of its own, since the flags are
// read by all and this is written by who waits. In a forked child it may stay above 0, which costs a
// look at the filter.
struct lock_waiters {
    _Alignas(64) _Atomic uint32_t count;
};
extern struct lock_waiters lock_waiters;

static inline bool lock_is_wanted(void)
{
    return atomic_load_explicit(&lock_flags, memory_order_relaxed) != 0;
}

// Whether an unlock may have to be charged.
static inline bool lock_is_mutex_on(void)
{
    return atomic_load_explicit(&lock_flags, memory_order_relaxed) & LOCK_MUTEX &&
           atomic_load_explicit(&lock_waiters.count, memory_order_relaxed);
}

// A contended lock. Entries are never freed, but taken over by another lock when nobody waits.
struct lock_entry {
    _Alignas(64) uint64_t waiting[2]; // see lock.c; changed by compare_exchange_pair alone
    _Atomic uint64_t object;          // its address; 0: free
    _Atomic uint64_t described;       // as what, by lock_describe; 0: not yet
    _Atomic uint64_t holder;          // the allocation it lies in; 0: none that is known
};

// Where a lock was initialised, for its name: the last of those whose addresses fall together. Whoever
// makes turn odd writes it; who finds it odd goes away, reader or writer.
struct lock_made {
    _Atomic uint32_t turn;
    _Atomic uint32_t stack, epoch;
    _Atomic uint64_t object, ticks;
};

struct lock_table {
    struct lock_entry entries[LOCK_ENTRIES];
    _Atomic uint32_t filter[LOCK_FILTER]; // registered waiters by the hash of their lock
    struct lock_made made[LOCK_MADE];
};

// One wait, on the waiter's stack.
struct lock_wait {
    uint64_t began_ns;        // 0: the wait is not seen
    struct lock_entry *entry; // registered there; NULL: not
    uint64_t object;          // its address; 0: none
    uint32_t filter;          // index + 1 of the counter that was raised; 0: none
    uint32_t state;           // index of the block entry
    uint32_t forks;           // agent.forks then: in a child nobody has registered
    bool is_recorded;         // state is valid
    uint64_t traced_at;       // with what trace_wait_begin was called; 0: it was not
};

// Control words and settings to lock_flags; after a change of either.
void lock_update(void);

// Before the caller waits for object (of a thread's end: the thread); regs: the hook's caller. has_owner: a mutex or rwlock, whose
// unlock is to see this waiter. again: of a condition, its mutex. Walks and interns now, so that the lock, once held, is
// not held longer.
void lock_wait_begin(struct lock_wait *w, const void *object, enum seg_lock_type type,
                     bool has_owner, const void *again, const struct unwind_registers *regs);

// After it; keeps errno. has_waited false: an error ended it at once, nothing is recorded.
void lock_wait_end(struct lock_wait *w, bool has_waited);

// Whether an unlock of object might have waiters: cheap, and may be true without.
bool lock_has_waiters(const void *object);

struct lock_charge {
    uint64_t
        delay_ns; // that the waiters have waited since they were last charged; 0: nothing to record
    uint64_t count; // 1, or 0 while the last unlock's waiter is on its way
};

// Before the unlock: takes what the waiters are owed.
struct lock_charge lock_charge(const void *object);

// After the unlock: records it for the unlocker. The lock may be gone by now.
void lock_charged(const void *object, struct lock_charge charge,
                  const struct unwind_registers *regs);

// --- Fibers' waits for each other, told by the runtime (fibers_tell sets these): block and mutex samples at the
// stacks of the fiber that waited or unlocked. A wait that the runtime splits in several is several.
void lock_fiber_waited(const void *object, uint64_t ns);
void lock_fiber_unlocked(const void *object, uint64_t ns);

// How often a wait of *ns counts, and for how long: the unbiased rule above. random: 64 bits. False: it is
// not kept. [pure]
bool lock_weigh(uint64_t random, uint64_t rate_ns, uint64_t *count, uint64_t *ns);

// --- lock_describe.c: what is known of a lock, for its name.

static inline uint64_t lock_hash(const void *object)
{
    return (uint64_t)object * UINT64_C(0x9e3779b97f4a7c15);
}

// object was initialised by the caller.
void lock_made_here(const void *object, const struct unwind_registers *regs);

// Records what e's lock is, unless that was done and is still so. Within a capture.
void lock_describe(struct lock_entry *e, const void *object, enum seg_lock_type type);

#endif
