// SPDX-License-Identifier: MIT
//
// What a kernel trace (a stream and a P for each CPU, a G for each thread; collector/bpf/kernel_build.h) says of each
// thread's time: the pieces in which it was not at the program's own work, and why.
//
// Invariant: the pieces of a thread are in order and do not overlap. What is in no piece it ran, or nobody watched it.
// One owner; after the last trace_kernel_file_end only read.

#ifndef FIBERSCOPE_ANALYSIS_TRACE_KERNEL_H
#define FIBERSCOPE_ANALYSIS_TRACE_KERNEL_H

#include "analysis/trace/names.h"

enum trace_piece_kind {
    TRACE_PIECE_DESCHEDULED, // runnable, and not on a CPU; by: who had the CPU, 0: nobody in the trace
    TRACE_PIECE_FAULT,       // a page fault, on the CPU or asleep in it
    TRACE_PIECE_SYSCALL,     // in a system call, on the CPU; by: its name
    TRACE_PIECE_WAIT,        // asleep in one
    TRACE_PIECE_KINDS,
};

struct trace_kernel_piece {
    int64_t begin_ns, end_ns;
    uint32_t by; // name
    uint8_t kind;
    bool is_new; // else it goes on, with what the piece before is about
};

struct trace_kernel_thread {
    int64_t tid;
    struct trace_kernel_piece *pieces; // [count]
    size_t count, capacity;
    size_t cursor; // of who walks along them
    struct trace_kernel_thread *next;
};

struct trace_kernel; // zeroed by trace_kernel_new

// "k.kernel.trace" of "k.trace" and "k.trace.2". 0 or -ENAMETOOLONG.
int trace_kernel_path(char *path, size_t size, const char *trace);

int trace_kernel_new(struct trace_kernel **out); // 0 or -ENOMEM
void trace_kernel_free(struct trace_kernel *k);  // accepts NULL

// Each event of the kernel trace, in order. 0 or -ENOMEM.
int trace_kernel_event(struct trace_kernel *k, const struct trace_reader *r,
                       const struct trace_event *ev);

// A file is over: what goes on has lasted until its end. Another one may follow, of a later time. 0 or -ENOMEM.
int trace_kernel_file_end(struct trace_kernel *k);

// How much of [from_ns, to_ns) the files tell of.
int64_t trace_kernel_covers(const struct trace_kernel *k, int64_t from_ns, int64_t to_ns);

struct trace_kernel_thread *trace_kernel_thread(const struct trace_kernel *k,
                                                int64_t tid); // NULL: unknown
const char *trace_kernel_name(const struct trace_kernel *k, uint32_t by);

// The first of its pieces that ends after time_ns; their count if none does.
size_t trace_kernel_piece_after(const struct trace_kernel_thread *t, int64_t time_ns);

// How much of [from_ns, to_ns) is in its pieces. NULL: nothing.
int64_t trace_kernel_taken(const struct trace_kernel_thread *t, int64_t from_ns, int64_t to_ns);

#endif
