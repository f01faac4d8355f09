// SPDX-License-Identifier: MIT
//
// Why some instances of a region or task take so long: the slow ones against the median ones, the
// difference split into what it is made of.
//
// An instance of a region is divided by what its fiber did; one of a task by its critical path, with
// waits for locks left as such (critical.h). The pieces:
//
//   running   by function, from the CPU samples taken in it (running.h); what was off the CPU apart;
//             as one piece where one side has no samples. With a kernel trace of the same time (kernel.h)
//             what the kernel took of the thread's time is apart: off the CPU, by who had it; page
//             faults; system calls, by name; asleep in them
//   runnable  without a Proc, by who had the one that it then ran on
//   lock      by where it waits, who held the lock meanwhile and where he let it go (blame.h)
//   channel, io, sleep, syscall, other   by where it waits; of a system call, what is off the CPU and
//             page faults apart
//
// Invariant: slow_ns of all pieces add up to slow_mean_ns, typical_ns to typical_mean_ns, hence the
// gaps to the gap (rounding of doubles aside).

#ifndef FIBERSCOPE_ANALYSIS_TRACE_EXPLAIN_H
#define FIBERSCOPE_ANALYSIS_TRACE_EXPLAIN_H

#include "analysis/trace/critical.h"
#include "analysis/trace/kernel.h"

struct trace_piece {
    enum trace_part part;
    uint32_t function;     // name, of where it waits outside of the runtime; RUNNING: of the
                           // innermost frame, 0: there are no samples
    uint32_t reason;       // name
    uint32_t stack;        // where it waits; RUNNING: the most frequent of its samples'
    uint32_t holder_stack; // LOCK: where the holder, or waker, let go; RUNNABLE: where the
                           // occupant most often was by its samples; else where it stopped
    uint32_t holder;       // LOCK, RUNNABLE: name of that fiber
    bool off_cpu;          // RUNNING: it was not on a CPU; stack: where it then stopped,
                           // if within the instance
    uint8_t kernel; // RUNNING, SYSCALL: 1 + enum trace_piece_kind; 0: nothing that the kernel took
    uint32_t by;    // of it: trace_kernel_name
    bool is_held;   // LOCK: it is one that is held. RUNNABLE: the Proc ran a fiber
    double slow_ns, typical_ns; // mean per instance
    // LOCK that is held: what its holder did most while slow instances waited for it, mean per
    // instance, and where; 0: not known.
    double meanwhile_ns;
    enum trace_part meanwhile;
    uint32_t meanwhile_stack;
};

struct trace_explained {
    uint32_t instances; // with both ends in the trace
    uint32_t slow, typical;
    int64_t median_ns, longest_ns, threshold_ns; // slow: at least the threshold
    double slow_mean_ns, typical_mean_ns;
    uint64_t slow_samples, typical_samples;     // of the CPU, that the running time is divided by
    double slow_unknown_ns, typical_unknown_ns; // running, and not in the kernel trace; means
    struct trace_piece *pieces;                 // largest gap first
    uint32_t piece_count;
};

struct trace_explain_options {
    const char *name; // of the region or task type, exactly
    bool tasks;
    double quantile;                   // slow: from this one on, 0.99
    int64_t threshold_ns;              // or, if above 0: slow from here on
    int64_t from_ns, to_ns;            // only instances within this; 0, 0: all
    const struct trace_kernel *kernel; // of the same time; NULL: none
};

// Which times of a trace trace_explain looks at: those of all instances, of every fiber, as any may
// have had the lock or the Proc meanwhile. Spans that have only the regions or tasks of the name are
// enough for this.
// The caller frees *intervals. Their number, -ENOENT: no instance, -ENOMEM.
int trace_explain_intervals(const struct trace_spans *s, const struct trace_explain_options *o,
                            struct trace_interval **intervals);

// The spans need runs, samples, and the regions or tasks.
// 0; -ENOENT: no such region or task with both ends in the trace; -EAGAIN: none is slow, or all
// are; -ENOMEM. trace_explained_finish in any case.
int trace_explain(const struct trace_spans *s, const struct trace_explain_options *o,
                  struct trace_explained *e);
void trace_explained_finish(struct trace_explained *e);

// "most of that, 8ms, it was asleep": what the holder of a lock did meanwhile; ns is meanwhile_ns in
// the words of the caller. Empty if that is not known. Returns text.
const char *trace_meanwhile(char *text, size_t size, const struct trace_piece *p, const char *ns);

// Where it did so; 0: not known, or it means nothing.
uint32_t trace_meanwhile_stack(const struct trace_piece *p);

// The innermost frame that is neither the runtime's own ("runtime.*") nor a call of libc's; 0 if all are.
uint32_t trace_frame_of_user(const struct trace_names *n, const struct trace_stack *stack);

#endif
