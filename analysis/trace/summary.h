// SPDX-License-Identifier: MIT
//
// What a trace says in numbers, from its events as they come: times of every fiber, of every start
// function, of regions, tasks and Procs; who wakes whom.
//
// Figures equal those of Go's own summary (internal/trace, Summarizer), including what it does
// with fibers that exist when the trace begins: a state first heard of has lasted since the last
// Sync. One difference: of a fiber that the trace leaves in a system call without its Proc, Go
// counts that last part as system call and as scheduling wait; here it is syscall_blocked, once.
//
//   name  of a fiber: the function of the outermost frame of the first stack that a transition of
//         it carries, as go tool trace groups goroutines; "" if it has none
//   running_share  of the Procs' time, GOMAXPROCS of them, what fibers ran: the mean of
//         util.h's RUNNING, counted by it
//   self  a fiber that makes itself runnable again wakes itself: it yields. (A preempted one does
//         not.)
//
// Invariant: the times of a function are the sums over its fibers, each counted once, when it ends
// or at the end. Memory: what is alive (fibers, open regions and tasks) and what has a name:
// independent of the length of the trace, and bounded. One owner.

#ifndef FIBERSCOPE_ANALYSIS_TRACE_SUMMARY_H
#define FIBERSCOPE_ANALYSIS_TRACE_SUMMARY_H

#include "analysis/trace/exact.h"
#include "analysis/trace/hist.h"
#include "analysis/trace/names.h"
#include "analysis/trace/times.h"
#include "analysis/trace/waker.h"

enum {
    TRACE_SLOWEST = 10, // of a type, if the options do not say
    TRACE_TYPES_MAX = 4096,
    TRACE_EXACT_MAX = 262144, // lengths of all types together, 2 MiB
    TRACE_WAITERS = 8,
    TRACE_SUMMARY_BYTES_MAX = 1 << 30, // if the options do not say
};

struct trace_moments { // how often things happened
    uint64_t runs, yields, preemptions, blocks, syscalls, wakes, creates;
};

struct
    trace_place { // the innermost frame that is neither the runtime's nor libc's; all 0: not known
    uint32_t function, file; // names
    uint64_t line;
};

struct trace_longest {
    int64_t ns, at_ns; // at_ns: when it began
    int64_t fiber;
    struct trace_place
        place; // of a run: where it stopped; of a wait for a Proc: of who made it runnable
};

struct trace_fiber {
    int64_t id;
    uint32_t name;
    uint64_t pc; // of the frame that gave the name
    int64_t created_ns;
    int64_t first_run_ns; // INT64_MIN: it never ran
    int64_t ended_ns;     // INT64_MIN: it lives on
    int64_t creator;      // TRACE_NONE: it was there, or nobody did
    uint8_t state;        // trace_go_state at the end
    uint32_t reason;      // name, of a WAITING one
    int64_t state_ns;     // how long it has been in that state at the end
    struct trace_times times;
    struct trace_moments moments;
    struct trace_longest run, wait; // longest uninterrupted run and wait for a Proc
};

struct trace_function {
    uint32_t name;
    uint64_t fibers, alive; // alive: at the end of the trace
    struct trace_times times;
    struct trace_moments moments;
    struct trace_longest run, wait;
    struct trace_longest stuck; // the longest block that the trace does not see the end of
    uint32_t stuck_reason;
    // Fibers beyond the limits: their longest run; their longest wait for a Proc; blocked at the end,
    // for at least half of the trace, by what another fiber must end. And the worst of these.
    uint64_t hogs, starved, waiting;
    struct trace_longest longest_waiting;
    uint32_t waiting_reason, waiting_in; // names; in: the innermost function, as fib_chan_recv
    struct trace_hist runnable;          // each wait for a Proc
    // Of the fiber that yielded most: how often, and where last.
    uint64_t yields_most;
    int64_t yields_fiber;
    struct trace_place yields_in;
};

// A fiber that waits at the end for what another one has to do.
struct trace_waiter {
    int64_t fiber, ns, at_ns; // at_ns: since when
    uint32_t name, reason;
    uint32_t in; // name: the innermost function, as pthread_mutex_lock
    struct trace_place place;
    bool is_for_end; // for others' ends: a join, a wait group
};

struct trace_edge {
    uint32_t from, to;      // names; from 0: no fiber, or one without a name
    enum trace_waker waker; // FIBER, or of no fiber, what its wait's reason lets suppose
    uint64_t wakes, creates;
    int64_t blocked_ns;  // what the woken had waited
    int64_t runnable_ns; // and then waited to run
};

struct trace_region {
    uint32_t type; // name
    uint32_t function;
    uint64_t task; // 0: none
    int64_t fiber;
    int64_t begin_ns, end_ns; // INT64_MIN: before or after the trace
    bool inherited;           // no region: the fiber was started inside one, of this task
    struct trace_times times; // while it was open; without a begin: of the fiber until then
};

struct trace_task {
    uint64_t id, parent;
    uint32_t type;            // name
    int64_t begin_ns, end_ns; // INT64_MIN: before or after the trace
    int64_t fiber;            // that began it, else ended it
    uint64_t regions, logs;
};

struct trace_instance {
    int64_t ns, begin_ns;
    int64_t fiber;
    uint64_t task;
};

struct trace_type { // of regions or of tasks; beyond TRACE_TYPES_MAX names: "(more names)"
    uint32_t name;
    uint64_t count, complete; // complete: begin and end are known
    struct trace_hist latency;
    struct trace_exact exact;       // of `latency`, while there is room
    struct trace_times times;       // of regions, complete or not
    struct trace_instance *slowest; // [slowest_count], the slowest first after trace_summary_finish
    uint32_t slowest_count, slowest_capacity;
};

struct trace_proc {
    int64_t id;
    int64_t running_ns; // it runs fibers
    int64_t syscall_ns; // its fiber is in a system call
    int64_t idle_ns;
    int64_t other_ns; // it is neither: the scheduler
    uint64_t runs, steals;
};

struct trace_limits { // from when on a run, a wait for a Proc, a wait without an end are remarkable
    int64_t run_ns, runnable_ns, stuck_ns; // 0: 1 s, 100 ms, 1 s
};

struct trace_summary_options {
    size_t size;            // sizeof(struct trace_summary_options)
    int64_t from_ns, to_ns; // only this part counts; 0, 0: all of it
    struct trace_limits limits;
    void *context; // For whom all are wanted, each once, when it is over:
    void (*fiber)(void *context, const struct trace_fiber *f);
    void (*region)(void *context, const struct trace_region *r);
    void (*task)(void *context, const struct trace_task *t);
    uint32_t slowest_max; // instances to keep of each type, 32 bytes each; 0: TRACE_SLOWEST
    uint64_t bytes_max;   // of memory; 0: TRACE_SUMMARY_BYTES_MAX. Beyond: -EFBIG
};

struct trace_totals {
    int64_t begin_ns, end_ns; // of the events that count
    uint64_t events, generations;
    uint64_t by_kind[TRACE_EXPERIMENTAL + 1];
    uint64_t fibers, alive, threads, tasks, samples;
    uint64_t gomaxprocs, heap_max_bytes;
    double proc_ns;             // gomaxprocs over time
    double running_share;       // after trace_summary_finish; 0 without gomaxprocs
    struct trace_hist runnable; // each wait of any fiber for a Proc
    struct trace_times times;   // all fibers that are not the runtime's own
};

struct trace_summary {
    struct trace_names names;
    struct trace_totals totals;
    struct trace_limits limits; // none is 0
    // All fibers that are alive, if each waits at the end for another one and not all for ends; else 0. Of those that
    // cannot time out, as their function says, and were woken by fibers alone; of the whole trace
    // alone, not of what `trace cut` has made. And the first of them, joins last.
    uint64_t deadlocked;
    struct trace_waiter waiters[TRACE_WAITERS];
    uint32_t waiter_count;
    // After trace_summary_finish: functions most running first, edges most wakes first, types most
    // time first, procs by id.
    struct trace_function **functions;
    struct trace_edge **edges;
    struct trace_type **region_types, **task_types;
    struct trace_proc **procs;
    uint32_t function_count, edge_count, region_type_count, task_type_count, proc_count;
    struct summary_state *state; // internal
};

// 0 or -ENOMEM. opts may be NULL.
int trace_summary_new(struct trace_summary **out, const struct trace_summary_options *opts);

// The next event of the reader. After to_ns only fibers and Procs that are first heard of then, having
// been there before, still count: go on to the next Sync. 0, -ENOMEM, -EFBIG.
int trace_summary_event(struct trace_summary *s, const struct trace_reader *r,
                        const struct trace_event *ev);

// How much of bytes_max is in use, and how many fibers live.
uint64_t trace_summary_bytes(const struct trace_summary *s, uint64_t *fibers);

// The trace is over: what is alive is added up. 0, -ENOMEM, -EFBIG.
int trace_summary_finish(struct trace_summary *s);
void trace_summary_free(struct trace_summary *s); // accepts NULL

// Whether these are all those whose names are not told apart.
bool trace_type_is_rest(const struct trace_summary *s, const struct trace_type *t);

// The length below which a share q of the complete instances lie, or, where there was no room for all
// of them (*is_exact), one that is at most 12.5 % above it. After trace_summary_finish.
int64_t trace_type_quantile_ns(const struct trace_type *t, double q, bool *is_exact);

#endif
