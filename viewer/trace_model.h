// SPDX-License-Identifier: MIT
//
// An execution trace as the views show it: lanes of what ran where, in classes that are colours.
//
// Classes 0 to TRACE_MODEL_NAMED - 1 are the start functions that ran longest, longest first; then
// all others together, then system calls. Sums are those of `fiberscope trace`: what a Proc ran is
// its lane's time without the class of system calls.
//
// Invariant: after trace_model_open nothing changes, and any number of threads may read.

#ifndef FIBERSCOPE_VIEWER_TRACE_MODEL_H
#define FIBERSCOPE_VIEWER_TRACE_MODEL_H

#include "analysis/trace/lod.h"
#include "analysis/trace/spans.h"
#include "base/error.h"

enum { TRACE_MODEL_NAMED = 6, TRACE_MODEL_OTHERS = 6, TRACE_MODEL_SYSCALL = 7 };

struct trace_model_lane {
    char label[32]; // "P3"
    uint32_t
        name; // of the only fiber that it ever ran, as a plain thread's; 0: of several, or none
    struct lod lod;
    uint32_t *span; // [lod.count], of the trace's spans
};

struct trace_model {
    struct trace_spans *spans;
    struct trace_model_lane *lanes; // Procs; threads, where there are none
    uint32_t lane_count;
    bool are_threads, have_names;      // have_names: some lane has
    uint32_t named[TRACE_MODEL_NAMED]; // names of the start functions
    uint32_t named_count;
    int64_t begin_ns, end_ns;
    char damage[384]; // "": the file is whole; else what is missing
};

// Reads a file. A damaged one is read as far as it is whole, which `damage` says. 0 or -errno, err
// says what is wrong.
int trace_model_open(struct trace_model **out, const char *path, struct fscope_error *err);

// The same of a reader at its first event; the caller closes it.
int trace_model_read(struct trace_model **out, struct trace_reader *r, struct fscope_error *err);
void trace_model_free(struct trace_model *m); // accepts NULL

// A start function, or a word for what has none.
const char *trace_model_class_name(const struct trace_model *m, int class);

// How long a lane ran in [begin_ns, end_ns), without system calls.
int64_t trace_model_ran_ns(const struct trace_model_lane *l, int64_t begin_ns, int64_t end_ns);

// What each class has of [begin_ns, end_ns), over all lanes.
void trace_model_sums(const struct trace_model *m, int64_t begin_ns, int64_t end_ns,
                      int64_t sums_ns[LOD_CLASSES]);

#endif
