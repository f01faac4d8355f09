// SPDX-License-Identifier: MIT
//
// The fibers of a process or core file, found from outside through the runtime's descriptor
// (runtime/descriptor.h), which the runtime exports.
//
// What always holds
//   - A process is not stopped. A parked fiber's stack is copied, and then it is looked whether the fiber has run
//     meanwhile; if so, again. One that runs has no stack to be had: its start function stands for it
//     (has_stack false). In a core file it has.
//   - Stacks end at the start function; at their leaf are no frames of the runtime but the one that was called.
//   - The descriptor and all that it leads to are the target's: sizes and counts are bounded, addresses may lead
//     nowhere.

#ifndef FIBERSCOPE_COLLECTOR_FIBERS_H
#define FIBERSCOPE_COLLECTOR_FIBERS_H

#include "collector/target.h"

enum { FIBERS_TEXT = 32, FIBERS_LABELS_MAX = 16, FIBERS_LATENCY_BUCKETS = 64 };

struct fiber {
    uint64_t id, creator;    // creator 0: a plain thread
    char state[FIBERS_TEXT]; // "running", or what it waits for: "chan receive"
    char name[FIBERS_TEXT];  // "": none
    uint64_t waiting_ns;     // 0: unknown
    bool is_waiting, has_run;
    bool is_missing; // its stack, and with it what it does, is not in the core file
    bool is_join;    // waits for the end of `owner`
    uint64_t object; // what it waits for; 0: none
    uint64_t
        owner; // of that: a fiber's id, or a thread's own_tid | FIBERS_OWNER_THREAD; 0: none, unknown
    uint64_t switches;   // changes with each run
    uint32_t tid;        // own_tid of the thread that runs it, or that alone may; 0: none
    uint32_t last_tid;   // the one that it ran on when it began to wait for a lock; 0: unknown
    uint64_t created_at; // the pc behind the call that made it; 0: unknown
    uint64_t start;      // address of its start function
    // What it did since it first ran, age_ns ago (0: it has not, or that is unknown): busy, and runnable by one wait
    // in 8; the rest it waited.
    uint64_t age_ns, busy_ns, runnable_ns;
    uint64_t wakes, preempted; // by others
    uint64_t self_wakes; // it came back by itself: yields, blocking calls that found no processor
    const uint64_t *pcs; // as target_walk's
    uint32_t depth;      // at least 1
    uint32_t flags;      // enum seg_record_flag
    bool has_stack;      // else pcs is the start function
    struct builder_label labels[FIBERS_LABELS_MAX];
    uint32_t label_count;
};

#define FIBERS_OWNER_THREAD (UINT64_C(1) << 63)

struct fibers; // an open descriptor

struct fibers_worker {   // a thread that runs fibers
    uint32_t tid;        // its own_tid
    uint64_t fiber;      // that it runs; 0: none
    uint64_t start, end; // of its struct m, where it waits for work
};

// -ENOENT: the program has no fiber runtime, or it was not started. -ENOTSUP: another version. The caller owns
// *out, which keeps t: fibers_close.
int fibers_open(struct fibers **out, struct target *t, struct fscope_error *err);
void fibers_close(struct fibers *f); // accepts NULL

// Calls fn for each living fiber, in order of appearance; what it is given stays until it returns. Stops where
// fn returns nonzero, and returns that; else 0 or -errno.
int fibers_each(struct fibers *f, int (*fn)(void *arg, const struct fiber *fiber), void *arg);

// Which fibers' stacks are to be walked from now on, by id; NULL: all, as at first. Others have none.
void fibers_want_stacks(struct fibers *f, bool (*wants)(void *arg, uint64_t id), void *arg);

// Calls fn for each thread that runs fibers. Returns as fibers_each.
int fibers_each_worker(struct fibers *f, int (*fn)(void *arg, const struct fibers_worker *w),
                       void *arg);

struct fibers_totals {
    uint32_t procs; // how many may run at a time
    uint64_t spawns, exits, schedules, steals;
    uint64_t threads, threads_idle; // that run fibers, or would; idle: have none
    uint64_t wakes, parks;          // of those threads
    // Waits for a processor of 2^i up to 2^(i+1) ns, the first also those of none; by one in 8.
    uint64_t latency[FIBERS_LATENCY_BUCKETS];
};

// What all of them did since the start. 0 or -errno.
int fibers_read_totals(struct fibers *f, struct fibers_totals *out);

// A plain thread that is blocked in this futex, if it waits in the runtime: state, object, owner, is_waiting,
// has_run of *out. False: it does not.
bool fibers_thread_wait(struct fibers *f, uint64_t futex, struct fiber *out);

// Adds all to b, a CUSTOM builder, as its part "goroutine": one for each, by stack and labels. The number of them,
// or -errno.
int64_t fibers_profile(struct fibers *f, struct builder *b);

#endif
