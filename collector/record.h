// SPDX-License-Identifier: MIT
//
// Recording: what the command line asks for, and what came of it. record_command launches a program
// under the agent; record_attach (perf_attach.c) watches a running process from outside. Both fill
// builders, and record_write turns these into files.
//
// Invariant: whatever ends a recording (the target's exit or crash, Ctrl-C, the duration), what was
// recorded up to then is written, or the caller is told why not; no file is ever half-written.

#ifndef FIBERSCOPE_COLLECTOR_RECORD_H
#define FIBERSCOPE_COLLECTOR_RECORD_H

#include "base/error.h"
#include "collector/builder.h"

#include <stdbool.h>
#include <stdio.h>

struct record_options {
    size_t size;            // sizeof(struct record_options)
    uint32_t cpu_hz;        // 0: no CPU profile
    uint32_t wall_hz;       // 0: no wall profile
    uint64_t duration_ns;   // 0: until the target ends or Ctrl-C
    const char *output;     // NULL: the default pattern; a file, a folder, or a pattern (%e %p %k)
    bool inherit;           // follow children and exec
    bool quiet;             // no progress, no closing line
    bool symbolize;         // at write time
    uint32_t pid;           // record_attach: whom
    char *const *command;   // record_command: argv, NULL-terminated
    const char *agent_path; // libfiberscope.so; NULL: looked for
    FILE *messages;         // where progress and the closing line go (stderr)
};

enum record_kind { RECORD_CPU, RECORD_WALL, RECORD_KIND_COUNT };

// One recording: a builder per kind, and what the closing line says.
struct record_result {
    struct builder *builders[RECORD_KIND_COUNT]; // NULL: not asked for
    char program[64];                            // base name of the program, for %e
    uint32_t pid;                                // of the first process, for %p
    uint64_t duration_ns;                        // wall time
    uint32_t asked_hz[RECORD_KIND_COUNT];
    double delivered_hz[RECORD_KIND_COUNT]; // 0: as asked
    char rate_note[256]; // why less was delivered and what to do; "" if it was not
    int exit_status;     // the command's: 0..255, 128 + signal
    bool target_ended;   // else the recording ended before it
};

// Sets size, 99 Hz CPU, inherit, symbolize, messages = stderr.
void record_options_init(struct record_options *o);

// Runs o->command under the agent until it ends; falls back to the perf ring on the child where the
// agent cannot go (static binaries), and says so. 0 or -errno; 126/127 as a shell does are in
// *result's exit_status when the command cannot be run (then the return is -ENOEXEC or -ENOENT).
int record_command(const struct record_options *o, struct record_result *result,
                   struct fscope_error *err);

// Watches o->pid from outside (perf ring), or the stopped child `child` with go_fd: one byte written
// to go_fd lets it exec (go_fd -1: nothing to start). Returns when the duration is over, the process
// ended or *stop became nonzero (set by a signal handler). In collector/perf_attach.c.
int record_attach(const struct record_options *o, int go_fd, const volatile int *stop,
                  struct record_result *result, struct fscope_error *err);

// Symbolizes and writes each builder's profile to its file and prints the closing lines on
// o->messages. 0 or -errno; nothing half-written is left.
int record_write(const struct record_options *o, struct record_result *result,
                 struct fscope_error *err);

void record_result_free(struct record_result *result); // frees the builders; accepts a zeroed one

// The path for one kind: `pattern` with %e (program) %p (pid) %k (kind) %% replaced, or NULL for the
// default "%e.%p.%k.pb.gz"; a folder (it exists, or ends in a slash) gets the default name inside.
// 0, -ENAMETOOLONG, -EINVAL (an unknown %).
int record_path(char *path, size_t size, const char *pattern, const struct record_result *result,
                enum record_kind kind, struct fscope_error *err);

#endif
