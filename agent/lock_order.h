// SPDX-License-Identifier: MIT
//
// The order in which locks are taken: who holds what, and for each lock that is taken while others are held, an edge
// from each of these to it, in the segment (SEG_AREA_ORDER). Who reads them finds circles: orders that contradict
// each other, and may end in a deadlock one day though none has happened yet.
//
// What counts
//   - An edge says that `to` was waited for, or would have been, with `from` held. So what cannot wait for ever makes
//     none: trylock, and locks with a time limit. What they take is held like all else.
//   - A lock that its holder takes once more (recursive mutexes, a second read lock) makes no edge, and is held until
//     as many unlocks.
//   - A lock that somebody else releases than who took it (a mutex that is handed over, against POSIX; a fiber's, which
//     belongs to nobody) is held by who took it until that takes it again.
//   - The wait for a condition releases its mutex, and takes it again: an order of its own, with what else is held.
//   - A read lock is an edge like others, marked; whether readers stand in each other's way is the reader's to say.
//   - Held is held by a thread, or by a fiber where the thread runs one.
//   - A lock that is initialised or destroyed forgets its edges. Memory that is freed with a lock in it that nobody
//     destroys (std::mutex has nothing to destroy) and becomes another lock is taken for the old one.
//   - What was taken before the recording began, or in a parent before a fork, is not held.
//
// What always holds
//   - Off: hooks look at lock_flags, which they do anyway. On: each lock that is not held yet is walked and interned
//     (once it is part of an edge that cannot be made up for), each with others held looks up one edge for each.
//   - Tables are fixed. What finds no place is counted: locks_full, edges_full, held_full of struct seg_order.
//   - Nothing waits for another thread. Who holds what is changed by its holder alone, and not by a signal handler
//     that interrupts it at that.
//
// [any thread] [within a capture: what a handler does meanwhile is not seen]

#ifndef FIBERSCOPE_AGENT_LOCK_ORDER_H
#define FIBERSCOPE_AGENT_LOCK_ORDER_H

#include "segment/layout.h"
#include "unwind/unwind.h"

#include <stdatomic.h>
#include <stdbool.h>

enum { LOCK_HELD_MAX = 16, LOCK_FIBERS = 1024 };

struct lock_held {
    uint64_t object;
    uint32_t stack;             // where it was taken
    uint32_t times;             // that it was taken; 1, or more of a recursive one
    struct seg_order_name name; // number 0: not in an edge yet
    uint8_t type;               // enum seg_lock_type
    bool is_read;
};

// What one thread, or one fiber, holds: the first taken first.
struct lock_holder {
    uint32_t session; // of the recording; of another one it is empty
    uint32_t count;
    uint64_t who; // as seg_order_edge.who
    struct lock_held held[LOCK_HELD_MAX];
};

// A fiber that holds something. Its own alone from when id is set until it is 0.
struct lock_fiber {
    _Atomic uint64_t id;
    struct lock_holder holder;
};

struct lock_order { // of a recording; a forked child finds it zeroed
    _Atomic uint32_t session;
    _Atomic uint32_t threads; // numbers given to threads
    struct lock_fiber fibers[LOCK_FIBERS];
};

enum lock_order_how {
    LOCK_ORDER_WAITS = 1,  // may wait without limit
    LOCK_ORDER_READS = 2,  // for reading
    LOCK_ORDER_QUEUES = 4, // a reader that waits behind a writer that waits
    LOCK_ORDER_FIBER = 8,  // told by the runtime, whose frames are on top
};

// Whether the segment's word says so, and has room for it.
bool lock_order_is_wanted(void);
bool lock_order_want(bool on); // false: the segment has no room for it
// Before lock_flags says so, where it was off: begins anew.
void lock_order_update(bool on);

// object is about to be waited for: for a deadlock that is just happening, whose second half is never taken.
void lock_order_wants(const void *object, enum seg_lock_type type, unsigned how,
                      const struct unwind_registers *regs);
// The same for a hook, whose frame is `frame`.
void lock_order_wants_at(const void *object, enum seg_lock_type type, unsigned how,
                         const void *frame);
// object was taken. how: enum lock_order_how.
void lock_order_took(const void *object, enum seg_lock_type type, unsigned how,
                     const struct unwind_registers *regs);
// The same for a hook, whose frame is `frame`, if its result rc says so. Returns rc.
int lock_order_result(const void *object, enum seg_lock_type type, unsigned how, int rc,
                      const void *frame);
// object will be released, once.
void lock_order_releases(const void *object);
// object is destroyed, or made.
void lock_order_forgets(const void *object);

// Fibers' locks, told by the runtime. what: enum descriptor_lock.
void lock_order_fiber(const void *object, uint32_t what);

#endif
