// SPDX-License-Identifier: MIT
//
// What the files of the summary share. See summary.h.
//
// Times that are compared with an event's are its own; times that durations are made of are held
// inside from_ns..to_ns (now), so that every difference of two counts only what lies in there.

#ifndef FIBERSCOPE_ANALYSIS_TRACE_SUMMARY_INTERNAL_H
#define FIBERSCOPE_ANALYSIS_TRACE_SUMMARY_INTERNAL_H

#include "analysis/trace/summary.h"
#include "analysis/trace/util.h"
#include "base/arena.h"

#define SUMMARY_NEVER INT64_MIN

enum { SUMMARY_EARLY_WAITS = 4, SUMMARY_PLACES = 512 };

struct stack_place {      // of a stack of the generation that is read
    uint32_t stack, leaf; // leaf: name
    struct trace_place place;
};

struct open_region {
    struct trace_region pub; // times: of the fiber when it began
    struct open_region *outer;
};

struct fiber {
    struct trace_fiber pub;
    uint8_t state;
    int64_t since;        // in this state; NEVER: nothing is counted any more
    int64_t proc_lost_at; // of a SYSCALL; NEVER: it has its Proc
    int64_t range_since[TRACE_RANGES];
    int64_t total_from;
    uint32_t proc_slot;
    uint32_t blocked_in;      // name: the innermost function of a WAITING one's stack
    struct trace_place place; // WAITING: where; RUNNABLE: of who made it so
    struct trace_edge *edge;  // that made it RUNNABLE; NULL: none
    struct open_region *regions;
    int64_t early_waits_ns[SUMMARY_EARLY_WAITS]; // RUNNABLE before it has a name: of its function
    uint32_t early_wait_count;
    struct trace_place yielded_in; // last
    bool
        woken_outside; // once, by no fiber: by a timer, the network, a thread that the trace does not have
    struct fiber *next_free;
};

struct proc {
    struct trace_proc pub;
    uint8_t state;
    int64_t since, running_ns; // running_ns: in the state RUNNING
    uint32_t syscall_slot;     // fiber in a system call on it, TRACE_NO_SLOT: none
    int64_t sweep_fiber;       // which begun a GC_SWEEP on it
};

struct task {
    struct trace_task pub;
    uint64_t hash;
    struct task *next, **link; // link: what points at it
};

struct summary_state {
    struct trace_summary_options options;
    struct trace_util *util;
    int64_t now, sync_ns, sync_now; // sync_now: held inside the range
    int64_t first_ns, last_ns, procs_since;
    bool is_part;         // the trace says of itself that fibers, or its end, are missing
    bool started, counts; // counts: the event is inside the range
    bool before_range;    // a generation has begun, and nothing of the range was seen
    int rc;
    uint32_t name_preempted, name_forever;
    void **fibers;       // by slot; summary_fiber_at
    struct proc **procs; // by slot
    uint32_t fiber_capacity, proc_capacity;
    struct fiber *free_fibers;
    struct arena asleep;
    struct asleep *free_asleep;
    uint64_t living;     // fibers
    uint64_t bytes_used; // with those of the names at most options.bytes_max
    const struct trace_names *names;
    struct open_region *free_regions;
    struct trace_function **functions_by_name;
    uint32_t functions_by_name_capacity;
    struct trace_type **types_by_name[2]; // 0: regions, 1: tasks
    uint32_t types_by_name_capacity[2];
    uint32_t name_more;
    uint32_t exact_left; // lengths that there is room for
    struct ptrtab edges, tasks;
    struct task *open_tasks; // all of `tasks`
    // Of the fibers that live to the end, without the runtime's own: who waits for another one, of
    // these who does not wait for ends, and the others, with those that what is no fiber has woken before.
    uint64_t end_waits, end_locks, end_others;
    struct stack_place places[SUMMARY_PLACES]; // those asked for last
};

// Whether there may be so much more memory, names included.
bool summary_has_room(const struct summary_state *st, uint64_t bytes);

// Counts memory. 0, or -EFBIG where that is more than there may be.
int summary_charge(struct summary_state *st, uint64_t bytes);

// The same for waits that have come to a fiber's times, which had room for `before`.
int summary_charge_waits(struct summary_state *st, const struct trace_times *t, uint32_t before);

// Grows *array, of pointers, so that it has an entry `index`; new ones are NULL. 0, -ENOMEM, -EFBIG.
int summary_reserve(struct summary_state *st, void *array, uint32_t *capacity, uint32_t index);

// Fibers. One that has had but its first event is kept in 72 bytes (asleep) until its next.
struct fiber *summary_fiber_take(struct summary_state *st); // NULL: no memory, or st->rc says what
void summary_fiber_give(struct summary_state *st, struct fiber *f);
void summary_fiber_begin(struct fiber *f, int64_t id, int64_t now);
struct fiber *summary_fiber_at(struct summary_state *st, uint32_t slot); // NULL: none, or as above
int summary_fiber_sleep(struct summary_state *st, uint32_t slot);        // if it may be
void summary_fibers_drop(struct summary_state *st);

struct fiber *summary_fiber(const struct trace_summary *s, int64_t id, uint32_t slot);
struct trace_function *summary_function(struct trace_summary *s, uint32_t name);
struct trace_edge *summary_edge(struct trace_summary *s, uint32_t from, uint32_t to,
                                enum trace_waker waker);

// Adds the fiber's time in its state, up to now, to t.
int summary_settle(const struct summary_state *st, const struct fiber *f, struct trace_times *t);

int summary_transition(struct trace_summary *s, const struct trace_reader *r,
                       const struct trace_event *ev);
int summary_range(struct trace_summary *s, const struct trace_event *ev);
int summary_fiber_end(struct trace_summary *s, struct fiber *f, const struct trace_event *ev);

void summary_longest(struct trace_longest *l, int64_t ns, int64_t at_ns, const struct fiber *f,
                     struct trace_place place);
// Valid until the next one.
const struct stack_place *summary_place(struct trace_summary *s, const struct trace_reader *r,
                                        uint32_t stack);

// A fiber that the trace leaves alive.
void summary_fold_end(struct trace_summary *s, struct trace_function *fn, const struct fiber *f);
void summary_end(struct trace_summary *s); // all have been folded

int summary_inherit(struct trace_summary *s, struct fiber *f, const struct fiber *creator);
int summary_region(struct trace_summary *s, const struct trace_reader *r,
                   const struct trace_event *ev);
void summary_type_finish(struct trace_type *t); // sorts what it has
int summary_region_close(struct trace_summary *s, struct fiber *f, int64_t end_ns);
void summary_regions_drop(struct summary_state *st, struct fiber *f);
int summary_task(struct trace_summary *s, const struct trace_reader *r,
                 const struct trace_event *ev);
int summary_tasks_finish(struct trace_summary *s);
void summary_tasks_drop(struct summary_state *st);

#endif
