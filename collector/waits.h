// SPDX-License-Identifier: MIT
//
// Who waits for what, and who holds it: threads and fibers of a process or core file as a graph, and the deadlocks
// in it.
//
// Nodes are threads and fibers. Each waits for at most one thing, and that is held by at most one node; so following
// holders from anywhere ends, or is in a circle.
//   thread -> thread    it waits for a mutex, rwlock or FILE, or joins
//   thread -> fiber, fiber -> fiber, fiber -> thread    the same with the runtime's locks
//   fiber  -> thread    it runs on that one, which is blocked
//   thread -> fiber     it has nothing to do but to run the one that is tied to it
//
// A circle is believed when looks before and after find it, too, with the same waits and owners, and no
// thread or fiber of it has run from the first to the last (its count of context switches is the same). Then, for the
// whole of the middle look, none of them could have let go or given up: they all wait for each other at once, and for
// ever; waits with a time limit are not in circles. A core file is of one moment: one look is enough.
//
// A pthread mutex that a fiber took before it was parked is owned by the thread that it ran on; which fiber it was is
// recorded nowhere. Where one fiber is tied to that thread (fib_lock_thread, fib_pin), it is taken to be that one. Else,
// if all fibers that ever ran wait in vain, the deadlock is certain all the same; and if not, a circle by way of a
// fiber that ran last on that thread is told as possible, and is not counted.

#ifndef FIBERSCOPE_COLLECTOR_WAITS_H
#define FIBERSCOPE_COLLECTOR_WAITS_H

#include "collector/stack_table.h"
#include "collector/sync_objects.h"

enum { WAITS_TEXT = 256, WAITS_NONE = UINT32_MAX };

enum waits_holder {
    WAITS_HELD_UNKNOWN,  // by nobody, or it is not recorded
    WAITS_HELD,          // by node `to`
    WAITS_HELD_BY_FIBER, // by thread `to`, on which a fiber took it that has been parked since
    WAITS_HELD_OUTSIDE,  // by thread or fiber holder_id, which is not of this process
    WAITS_HELD_BY_DEAD,  // by thread or fiber holder_id, which has ended
};

struct waits_node {
    bool is_fiber;
    uint64_t id; // fiber's, or tid
    char name[THREAD_NAME_BYTES];
    char reason[32];       // of a fiber: `what` without the object
    char what[WAITS_TEXT]; // "mutex g_lock", "chan receive", "running", "epoll_wait on fd 4 (..)"
    char lock[WAITS_TEXT]; // "g_lock", "table+0x40 (libx.so)"; "": no variable
    uint64_t object;       // its address; 0: none
    uint64_t waiting_ns;   // 0: unknown
    bool is_waiting;
    bool is_lock;     // for something that has a holder, or for an end
    bool is_join;     // for the end of `to`
    bool has_limit;   // and will give up
    uint32_t readers; // who hold it, and are not recorded
    enum waits_holder holder;
    uint32_t to;        // WAITS_HELD, _BY_FIBER: index of the holder; else WAITS_NONE
    uint64_t holder_id; // OUTSIDE, DEAD
    bool holder_is_fiber;
    uint64_t runs;     // of a thread: the fiber that it runs; 0: none
    uint32_t runs_on;  // of a running fiber: index of its thread; else WAITS_NONE
    uint32_t next;     // who must go on first, by all that is known; circles are made of this
    uint32_t waiters;  // nodes with `to` here
    uint32_t deadlock; // from 1: the one that it is part of; 0: none
    int64_t stack;     // in the stack table; 0: none
    bool is_partial;   // its inner frames alone
};

struct waits_deadlock {
    uint32_t first;   // follow `next` from here
    uint32_t count;   // nodes in the circle
    bool is_possible; // and no more: see above
};

struct waits {
    struct waits_node *nodes; // threads by number, then fibers by id
    size_t count, thread_count;
    struct waits_deadlock *deadlocks;
    size_t deadlock_count, certain_count;
    struct stack_table *stacks; // of who waits for a lock and of who holds it; NULL: not wanted
    uint64_t stopped_ns;        // how long threads were stopped for that, all together
};

struct waits_options {
    int64_t pause_ns; // between the looks
    bool stacks;      // take them
    bool symbolize;
};

// -ESRCH: it ended meanwhile; else as target_open's and thread_list_read's. The caller owns *out: waits_free.
int waits_look(struct waits **out, struct target *t, const struct waits_options *o,
               struct fscope_error *err);
void waits_free(struct waits *w); // accepts NULL

#endif
