// SPDX-License-Identifier: MIT
//
// Where fibers lost time to the kernel: a trace of fibers says which of them had which thread, a kernel trace of the
// same time what that thread was not given, and why (kernel.h). The two are joined by their common clock.
//
// What counts is the time in which a fiber had a thread: it ran, or was in a system call. Of that, for each fiber, start
// function and region:
//   descheduled  its thread was runnable and not on a CPU
//   fault        in page faults
//   syscall      in system calls, on the CPU
//   wait         asleep in them, and the trace of fibers does not say so
// and the rest it computed. (Sleep in a call that the trace tells is no loss: it is not in had_ns, but in told_ns.)
// `unknown` is what the kernel trace does not reach, or of a thread that it does not have.
//
// Invariant: the parts of each row add up to had_ns. A region has what its fiber had while it was open, an outer one also
// what is in those inside it.

#ifndef FIBERSCOPE_ANALYSIS_TRACE_LOST_H
#define FIBERSCOPE_ANALYSIS_TRACE_LOST_H

#include "analysis/trace/kernel.h"

struct trace_lost_times {
    int64_t had_ns, unknown_ns, told_ns;
    int64_t ns[TRACE_PIECE_KINDS];
    uint64_t count[TRACE_PIECE_KINDS]; // pieces that began in it
    int64_t longest_ns[TRACE_PIECE_KINDS];
};

struct trace_lost_row {
    uint32_t name; // of the function or region
    int64_t id;    // of a fiber
    uint64_t instances;
    struct trace_lost_times times;
};

struct trace_lost_by { // who had the CPU, which call
    uint32_t name;     // of the kernel trace: trace_kernel_name
    int64_t ns;
    uint64_t count;
};

struct trace_lost_stall { // one of the longest
    int64_t begin_ns, ns; // of the part that this fiber had
    int64_t fiber, tid;
    uint32_t function, region; // 0: in none
    uint32_t by;
    uint8_t kind;
};

enum { TRACE_LOST_STALLS = 20 };

struct trace_lost {
    struct trace_names names;
    struct trace_lost_times whole;
    struct trace_lost_row *fibers, *functions, *regions; // largest loss first, after finish
    size_t fiber_count, function_count, region_count;
    size_t fiber_capacity, function_capacity, region_capacity;
    struct trace_lost_by *by[TRACE_PIECE_KINDS];
    size_t by_count[TRACE_PIECE_KINDS], by_capacity[TRACE_PIECE_KINDS];
    struct trace_lost_stall stalls[TRACE_LOST_STALLS]; // longest first
    size_t stall_count;
    uint64_t threads_unknown; // that fibers had, and the kernel trace has not
    struct lost_state *state; // internal
};

// kernel stays until trace_lost_free. from_ns, to_ns: of the fiber trace; 0: no limit. 0 or -ENOMEM.
int trace_lost_new(struct trace_lost **out, struct trace_kernel *kernel, int64_t from_ns,
                   int64_t to_ns);
int trace_lost_event(struct trace_lost *l, const struct trace_reader *r,
                     const struct trace_event *ev); // of the fiber trace
void trace_lost_finish(struct trace_lost *l);
void trace_lost_free(struct trace_lost *l); // accepts NULL

// What of a row is lost: descheduled, faults, system calls and the waits in them.
int64_t trace_lost_sum(const struct trace_lost_times *t);

#endif
