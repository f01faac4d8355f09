// SPDX-License-Identifier: MIT
//
// A kernel trace beside a trace of fibers, as lanes: of each CPU who ran on it, of each thread what the kernel did with it.
//
// Both have CLOCK_MONOTONIC, so one axis. A kernel trace may be several files, one after the other (collector/bpf/kernel_build.h);
// what lies between two of them nobody knows.
//
// A CPU's lane is the stretches that threads had it, in these classes:
//   KERNEL_DELAYED  a thread of another program
//   KERNEL_RUNNING  a thread that the trace of fibers has
//   KERNEL_PROGRAM  another thread of the same process
// A thread's is all that it did: KERNEL_DELAYED is runnable and not on a CPU, KERNEL_RUNNING its own work. The first class is
// the one that is not to be overlooked: lod.h has its time in every column.
//
// Invariant: after kernel_model_new nothing changes, and any number of threads may read.

#ifndef FIBERSCOPE_VIEWER_KERNEL_MODEL_H
#define FIBERSCOPE_VIEWER_KERNEL_MODEL_H

#include "viewer/trace_model.h"

enum kernel_class {
    KERNEL_DELAYED,
    KERNEL_RUNNING,
    KERNEL_IN_CALL,
    KERNEL_IN_FAULT, // on the CPU, or asleep in it
    KERNEL_ASLEEP,   // in a system call
    KERNEL_PROGRAM,
    KERNEL_CLASSES,
};

#define KERNEL_NO_LANE UINT32_MAX

struct kernel_source { // the lane of one file
    uint32_t part, lane;
    uint32_t first; // of the lane's spans
};

struct kernel_lane {
    int64_t id; // of the CPU, the thread
    struct kernel_source *sources;
    uint32_t source_count;
    uint32_t *spans; // of a CPU: the file's span with which a stretch begins
    uint32_t spans_capacity;
    uint32_t trace_lane; // of a thread: where the trace of fibers has it; TRACE_NO_LANE
    bool is_program;     // of a thread: it is of a process of such a one
    struct lod lod;
};

struct kernel_model {
    struct trace_model *trace;  // of the fibers; held
    struct trace_model **parts; // files, by time
    uint32_t part_count;
    struct kernel_lane *lanes; // CPUs, then threads, each by id
    uint32_t cpu_count, lane_count;
    uint32_t *lane_of; // [threads of trace->spans]; KERNEL_NO_LANE
    uint32_t known;    // of those, how many it has
    int64_t begin_ns, end_ns;
    _Atomic int holders; // beside the first
};

// Whether a trace is one of the kernel: its fibers are threads of processes.
bool kernel_trace_is(const struct trace_spans *s);

struct kernel_model_watch {
    bool (*goes_on)(void *context); // asked now and then; false: nobody wants it any more
    void *context;
};

// w: NULL: nobody asks. parts: the files' models, which are its own from now on, also if this fails. 0; -ENODATA with err: no kernel trace, or of
// another time; -ENOMEM; -ECANCELED.
int kernel_model_new(struct kernel_model **out, struct trace_model *trace,
                     struct trace_model **parts, uint32_t count, const struct kernel_model_watch *w,
                     struct fscope_error *err);
void kernel_model_free(struct kernel_model *k); // accepts NULL
void kernel_model_hold(struct kernel_model *k);

// The lane of a thread that the trace of fibers has as this one; KERNEL_NO_LANE.
uint32_t kernel_lane_of(const struct kernel_model *k, uint32_t trace_lane);

const char *kernel_class_name(int class);
const char *kernel_lost_name(int class); // in sums, as trace lost has it

// --- Pieces: spans of a lane's lod.

struct kernel_piece {
    int64_t begin_ns, end_ns;
    uint8_t class;
    uint32_t thread;     // lane; of a CPU's piece who ran
    int64_t cpu;         // that it had, or, delayed, then got; -1: none
    const char *name;    // of the thread at that time
    const char *process; // "process 17"; "": not known
    const char *why;     // the call; "": none
    bool on_disk;        // asleep: for a disk
};

// index: below the lane's lod.count.
void kernel_piece_get(const struct kernel_model *k, uint32_t lane, uint32_t index,
                      struct kernel_piece *p);

// Who ran in a CPU's piece: a lane. The name that a thread had last, or "".
uint32_t kernel_thread_of(const struct kernel_model *k, uint32_t cpu, uint32_t index);
const char *kernel_thread_name(const struct kernel_model *k, uint32_t lane);

// The piece of a lane at a moment; UINT32_MAX: none.
uint32_t kernel_piece_at(const struct kernel_model *k, uint32_t lane, int64_t time_ns);

// The span of the trace of fibers that a thread's lane had at a moment; TRACE_NO_SPAN.
uint32_t kernel_span_at(const struct trace_spans *s, uint32_t trace_lane, int64_t time_ns);

// How much of [from_ns, to_ns) the files tell of.
int64_t kernel_covers(const struct kernel_model *k, int64_t from_ns, int64_t to_ns);

// --- Sums.

enum { KERNEL_BY = 64 };

struct kernel_by { // who had the CPU instead; the last of KERNEL_BY is all others
    const char *name;
    int64_t ns;
};

// As analysis/trace/lost.h has them: of the time in which a fiber had the thread.
struct kernel_times {
    int64_t had_ns, unknown_ns, told_ns;
    int64_t ns[KERNEL_CLASSES]; // those that are lost; of KERNEL_RUNNING nothing
    uint64_t count[KERNEL_CLASSES];
    struct kernel_by by[KERNEL_BY]; // the longest first, after kernel_times_finish
    uint32_t by_count;
    uint64_t threads_unknown;
};

// What a span of the fibers' lost, within [from_ns, to_ns), on the thread trace_lane.
void kernel_times_span(struct kernel_times *t, const struct kernel_model *k, uint32_t trace_lane,
                       uint32_t span, int64_t from_ns, int64_t to_ns);

// What all fibers lost in [from_ns, to_ns), as `fiberscope trace lost --from --to` has it.
void kernel_times_all(struct kernel_times *t, const struct kernel_model *k, int64_t from_ns,
                      int64_t to_ns);

// Who had the CPU instead, of a piece that is delayed.
void kernel_times_piece(struct kernel_times *t, const struct kernel_model *k,
                        const struct kernel_piece *p);
void kernel_times_finish(struct kernel_times *t);
int64_t kernel_times_lost(const struct kernel_times *t);

#endif
