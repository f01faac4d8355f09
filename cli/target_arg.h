// SPDX-License-Identifier: MIT
//
// The operand PID | CORE of the verbs that look at a program.

#ifndef FIBERSCOPE_CLI_TARGET_ARG_H
#define FIBERSCOPE_CLI_TARGET_ARG_H

#include "collector/target.h"

// A number is a process, unless there is a file with that name. As target_open_pid and target_open_core.
int target_arg_open(struct target **out, const char *text, struct fscope_error *err);

// Of a core file, on stderr: which signal ended the program, in which thread.
void target_arg_note_end(const struct target *t, const char *text);

// The operand, or the value of -p that other verbs have for it. NULL: neither, or more than one.
const char *target_arg_one(const char *pid, int argc, char **argv);

// Says on stderr what a core file lacks, if it does; after the look, which finds gaps.
void target_arg_note_missing(const struct target *t, const char *text);

#endif
