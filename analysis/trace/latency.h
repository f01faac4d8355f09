// SPDX-License-Identifier: MIT
//
// How long those that could run waited until they ran: fibers for a Proc; in a kernel trace (kernel.h) threads for a CPU,
// which is their run-queue latency.
//
//   woken      from when it became runnable, or was made, or came back from a system call that had lost its Proc
//   taken_off  from when it was preempted, or yielded
//
// A wait counts once, where it ends, with its whole length. What has waited already when a file begins, or waits still
// when it ends (or at to_ns), has no length that is known: `open`. A thread that a kernel trace has runnable and on a CPU
// at one moment has no wait: nobody saw when it became runnable. So it is for all that are in view for another's sake.
//
// Invariant: the waits of whole are those of woken and taken_off together, those of all rows, and, in a kernel trace, of
// all processes. One owner.

#ifndef FIBERSCOPE_ANALYSIS_TRACE_LATENCY_H
#define FIBERSCOPE_ANALYSIS_TRACE_LATENCY_H

#include "analysis/trace/exact.h"
#include "analysis/trace/hist.h"
#include "analysis/trace/names.h"

enum {
    TRACE_LATENCY_ROWS_MAX = 4096,     // beyond: "(more names)"
    TRACE_LATENCY_EXACT_MAX = 1 << 22, // waits of all distributions together, 32 MiB
};

struct trace_latency_waits {
    struct trace_hist hist;
    struct trace_exact exact; // while there is room
};

struct trace_latency_row {
    uint32_t name,
        process; // name: of the fibers' start function, of threads; process: "process 17", 0: no kernel trace
    uint64_t members; // fibers, threads that waited
    struct trace_latency_waits waits;
};

struct trace_latency {
    struct trace_names names;
    struct trace_latency_waits whole, woken, taken_off;
    struct trace_latency_row **rows, **processes; // after finish the longest sum first
    size_t row_count, process_count;
    uint64_t open;
    int64_t open_longest_ns; // as far as it was seen
    int64_t end_ns;          // of the last event; INT64_MIN: there was none
    bool is_kernel;
    struct latency_state *state; // internal
};

// from_ns, to_ns: waits that end in between count; 0: no limit. 0 or -ENOMEM.
int trace_latency_new(struct trace_latency **out, int64_t from_ns, int64_t to_ns);
int trace_latency_event(struct trace_latency *l, const struct trace_reader *r,
                        const struct trace_event *ev);

// A file is over; another one, of a later time, may follow. 0 or -ENOMEM.
int trace_latency_file_end(struct trace_latency *l);
void trace_latency_finish(struct trace_latency *l);
void trace_latency_free(struct trace_latency *l); // accepts NULL

// What a share q of the waits does not exceed; or, where there was no room for all of them (*is_exact), at most 12.5 %
// more than that. After trace_latency_finish.
int64_t trace_latency_quantile_ns(const struct trace_latency_waits *w, double q, bool *is_exact);

#endif
