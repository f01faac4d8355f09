// SPDX-License-Identifier: MIT
//
// Reading a file or an address in a thread of its own, with progress, so that a window never waits.
//
// What is damaged is read as far as it is whole; `missing` says so, and what a trace says itself that it lacks. Cancelling returns
// at once: the thread ends by itself soon after.

#ifndef FIBERSCOPE_VIEWER_LOAD_H
#define FIBERSCOPE_VIEWER_LOAD_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct kernel_model;
struct profile_file;
struct profile_model;
struct trace_model;

struct load_options {
    const char *path;        // a file, or http://...; copied, as is sample_type
    const char *sample_type; // of a profile; NULL: its own choice
    const char *diff_base;   // a file to compare with; copied; NULL: none
    const char *
        kernel; // of a trace: the kernel trace beside it; copied; NULL: that of its name, if there is one
    bool inverted;

    // With `wake` a trace, and a large profile, are seen while they are read (load_part). Of a trace: how long it is read before what there is is shown, and a third of how long
    // from one such part to the next. 0: 150 ms; negative: no time.
    int part_ms;

    // Called by the thread some 20 times a second while it goes on, and once it is done. May be
    // NULL. Not called after load_cancel has returned.
    void (*wake)(void *context);
    void *context;
};

struct loaded {
    struct trace_model *trace; // one of these two
    struct profile_model *profile;
    struct kernel_model *kernel; // beside the trace; NULL: none
    struct profile_file *file;   // of the profile
    char missing[640];           // what of the file is not there, a sentence; "": nothing
};

// In this thread. 0 or -errno with err.
int load_now(const struct load_options *o, struct loaded *out, struct fscope_error *err);

struct load;

struct load_progress {
    const char *what; // "reading"
    double part;      // 0 to 1; negative: nobody knows
    uint64_t done_bytes, total_bytes;
    bool done;
};

int load_start(struct load **out, const struct load_options *o); // 0 or -errno
void load_look(const struct load *l, struct load_progress *p);

// Of what is being read: the part of it that there was at some moment, newer than the last that was asked for. It is the
// caller's. Of a profile: some of its samples, without a file. false: none.
bool load_part(struct load *l, struct loaded *out);

// Of one that is done: what came of it, which the caller owns. Frees it.
int load_take(struct load *l, struct loaded *out, struct fscope_error *err);
void load_cancel(struct load *l); // frees it as well; accepts NULL

void loaded_free(struct loaded *l);

#endif
