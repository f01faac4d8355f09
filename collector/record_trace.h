// SPDX-License-Identifier: MIT
//
// Trace files of a recording: their names, and what is said about them. The command's own first trace (of the process
// that was started, also after an exec, or the one that -p names) has the name that was asked for; its next one (buffers
// were full, tracing was started anew, a further snapshot) has ".2" behind it, and so on; other processes' have ".pPID"
// where the name does not tell them apart.
//
// Invariant: a file appears under its name when it is complete.

#ifndef FIBERSCOPE_COLLECTOR_RECORD_TRACE_H
#define FIBERSCOPE_COLLECTOR_RECORD_TRACE_H

#include "collector/record.h"
#include "collector/trace_build.h"

struct record_trace { // a file that was written, or failed to be
    char *path;
    uint32_t pid;
    char program[64];
    bool is_own; // of the command's own process
    size_t number;
    struct trace_build_file file;
    int rc;
    char error[384];
};

// The files of one process.
struct record_trace_sink {
    const struct record_options *o;
    struct record_result *result;
    uint32_t pid;
    char program[64];
    struct record_trace_open *open; // NULL: none
};

// Options for trace_build_new that bring its files here, but for reader and modules.
void record_trace_options(struct record_trace_sink *s, struct trace_build_options *out);

// A file that was never closed goes away.
void record_trace_abort(struct record_trace_sink *s);

// The closing lines of all traces. 0, or the first error there was with err filled.
int record_trace_report(const struct record_options *o, struct record_result *result,
                        struct fscope_error *err);

void record_trace_free(struct record_result *result);

#endif
