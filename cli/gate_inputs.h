// SPDX-License-Identifier: MIT
//
// The profiles of a gate's two sides: read from files and folders, or recorded.
//
// Invariant: each file is one run of its kind; nothing is merged. What was recorded for a check is
// in a temporary folder that is gone afterwards, whatever happens.

#ifndef FIBERSCOPE_CLI_GATE_INPUTS_H
#define FIBERSCOPE_CLI_GATE_INPUTS_H

#include "analysis/gate.h"
#include "analysis/gate_facts.h"

enum { GATE_RECORD_KINDS_MAX = 8, GATE_RUNS_MAX = 1000 };

struct gate_inputs {
    struct gate_input input;
    struct pprof_profile **all; // [count], freed by gate_inputs_finish
    size_t count;
};

// Adds a profile, or all *.pb.gz of a folder, to one side. 0 or -errno: -ENOENT also for a folder
// without profiles, -E2BIG for too many kinds or runs.
int gate_inputs_add(struct gate_inputs *in, bool is_base, const char *path,
                    struct fscope_error *err);
void gate_inputs_finish(struct gate_inputs *in); // accepts a zeroed one

// What a command of the gate is given after `skip` words: profiles, or -- and a command to record.
struct gate_operands {
    char **files; // [file_count]
    int file_count;
    char *const *command; // NULL: none
};

// 0 or a usage error: both, or neither, which `missing` says; more runs than GATE_RUNS_MAX; ops below 0.
int gate_operands_read(struct gate_operands *o, int skip, int argc, char **argv, uint64_t runs,
                       int64_t ops, const char *missing);

// What to record: options of `record`, "--heap=exact", "--cpu=99".
struct gate_recording {
    char kinds[GATE_RECORD_KINDS_MAX][32];
    size_t kind_count;
    size_t runs;
    char *const *command; // NULL-terminated
    bool allow_failure;   // a command that fails is a run like any other
    bool quiet;
};

// From words such as "heap=exact", "cpu=999". 0 or -EINVAL with what there is.
int gate_recording_kind(struct gate_recording *r, const char *word, struct fscope_error *err);
// The kinds, rates and runs that the baseline has. 0 or -EINVAL: one that cannot be recorded.
int gate_recording_like(struct gate_recording *r, const struct gate_input *in,
                        struct fscope_error *err);
// Runs the command r->runs times under `record` and adds the profiles to a side. The command's
// standard output goes to standard error. 0 or -errno.
int gate_record(struct gate_inputs *in, bool is_base, const struct gate_recording *r,
                struct fscope_error *err);

// Whether `record` has this option ("heap").
bool gate_can_record(const char *option);

// Removes a folder and what is in it.
void gate_remove_folder(const char *path);

#endif
