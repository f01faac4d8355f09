// SPDX-License-Identifier: MIT
//
// An execution trace as the views show it: lanes of what ran where, in classes that are colours.
//
// Classes 0 to TRACE_MODEL_NAMED - 1 are the start functions that ran longest, longest first; then
// all others together, then system calls. Sums are those of `fiberscope trace`: what a Proc ran is
// its lane's time without the class of system calls.
//
// A fiber's lane is its states, in the classes of trace_model_state. Fibers stand in groups of one
// start function. Lanes of fibers and threads are made when they are looked at (viewer/lanes_lod.h).
//
// Invariant: after trace_model_open nothing changes, and any number of threads may read.

#ifndef FIBERSCOPE_VIEWER_TRACE_MODEL_H
#define FIBERSCOPE_VIEWER_TRACE_MODEL_H

#include "analysis/trace/lod.h"
#include "analysis/trace/spans.h"
#include "base/error.h"

enum { TRACE_MODEL_NAMED = 6, TRACE_MODEL_OTHERS = 6, TRACE_MODEL_SYSCALL = 7 };

enum trace_model_state { // classes of a fiber's lane
    TRACE_STATE_RUNNING,
    TRACE_STATE_RUNNABLE,
    TRACE_STATE_SYSCALL,
    TRACE_STATE_CHANNEL, // the rest is what it waits for
    TRACE_STATE_LOCK,
    TRACE_STATE_NETWORK,
    TRACE_STATE_SLEEP,
    TRACE_STATE_OTHER,
};

struct trace_model_lane {
    uint32_t lane;  // of spans->lanes
    char label[32]; // "P3"
    uint32_t
        name; // of the only fiber that it ever ran, as a plain thread's; 0: of several, or none
    struct lod lod; // span i is runs[first + i] of the lane
};

struct trace_model_group { // fibers of one start function
    uint32_t name;
    uint32_t first, count; // of fibers[]
    int64_t ran_ns;        // together
};

struct trace_counter { // what something was from a moment on, until the next
    int64_t *time_ns, *value;
    uint32_t count, capacity;
    int64_t most;
};

enum { TRACE_COUNTER_FIBERS, TRACE_COUNTER_HEAP, TRACE_COUNTER_GOAL, TRACE_COUNTERS };

struct trace_model {
    struct trace_spans *spans;
    struct trace_model_lane *lanes; // Procs; threads, where there are none
    uint32_t lane_count;
    bool are_threads;
    uint32_t named[TRACE_MODEL_NAMED]; // names of the start functions
    uint32_t named_count;
    uint8_t *state_of;                // [spans->kind_count]: trace_model_state, or LOD_NONE
    struct trace_model_group *groups; // the longest run first
    uint32_t group_count;
    uint32_t *fibers; // lanes, by group, then id
    int64_t *ran_ns;  // [fiber lanes], how long each ran
    uint32_t *labels; // [fiber lanes], names: the last of each; NULL: the trace has none
    struct trace_counter counters[TRACE_COUNTERS];
    int64_t begin_ns, end_ns;
    char damage[384];    // "": the file is whole; else what is missing
    _Atomic int holders; // beside the first
};

// Reads a file. A damaged one is read as far as it is whole, which `damage` says. 0 or -errno, err
// says what is wrong.
int trace_model_open(struct trace_model **out, const char *path, struct fscope_error *err);

// The same of a reader at its first event; the caller closes it.
int trace_model_read(struct trace_model **out, struct trace_reader *r, struct fscope_error *err);
void trace_model_free(struct trace_model *m); // accepts NULL

// One more who reads it and calls trace_model_free; the last one frees it.
void trace_model_hold(struct trace_model *m);

// For who wants to show what there is while reading goes on.
struct trace_model_watch { // callbacks may be NULL
    // Asked every few thousand events, by the reader's thread. offset: in the file, of the last one.
    bool (*due)(void *context, uint64_t offset);
    // Asked before: whether nobody wants it any more. Then reading ends with -ECANCELED.
    bool (*stopped)(void *context);
    // A model as if the trace ended here, which is now the callee's. By another thread, one at a time, and not after
    // trace_model_watched has returned.
    void (*show)(void *context, struct trace_model *prefix);
    void *context;
    bool
        keeps; // where the trace goes wrong it ends: what came before is the model. The reader has the error
};

// As trace_model_read. w may be NULL.
int trace_model_watched(struct trace_model **out, struct trace_reader *r,
                        const struct trace_model_watch *w, struct fscope_error *err);

// A start function, or a word for what has none.
const char *trace_model_class_name(const struct trace_model *m, int class);

// What a fiber's state is called: "running", "lock", ...
const char *trace_model_state_name(int state);

// What a fiber waits for, from the words of Go and of the runtime.
uint8_t trace_model_wait(const char *reason);

// What a Proc or thread ran, as a lane of classes: lod is zeroed. 0 or -ENOMEM, -EFBIG.
int trace_model_runs(const struct trace_model *m, uint32_t lane, struct lod *lod);

// The value at a moment, 0 before the first.
int64_t trace_counter_at(const struct trace_counter *c, int64_t time_ns);

// The least and most in [begin_ns, end_ns).
void trace_counter_bounds(const struct trace_counter *c, int64_t begin_ns, int64_t end_ns,
                          int64_t *least, int64_t *most);

// How long a lane ran in [begin_ns, end_ns), without system calls.
int64_t trace_model_ran_ns(const struct trace_model_lane *l, int64_t begin_ns, int64_t end_ns);

// What each class has of [begin_ns, end_ns), over all lanes.
void trace_model_sums(const struct trace_model *m, int64_t begin_ns, int64_t end_ns,
                      int64_t sums_ns[LOD_CLASSES]);

#endif
