// SPDX-License-Identifier: MIT
//
// The words of `fiberscope record`'s command line into struct record_options.

#ifndef FIBERSCOPE_CLI_RECORD_ARGS_H
#define FIBERSCOPE_CLI_RECORD_ARGS_H

#include "base/error.h"
#include "collector/record.h"

#include <stdbool.h>

struct record_args {               // as typed; NULL: not given
    const char *rate, *cpu, *wall; // cpu, wall: "" when given without a rate
    const char *duration, *output, *pid, *stack_size;
    bool no_inherit, quiet, no_symbols;
    char *const *command; // NULL-terminated, may be empty
};

// Fills o. 0, or -EINVAL with what was wrong and how it is written.
int record_args_read(const struct record_args *a, struct record_options *o,
                     struct fscope_error *err);

// "30s", "500ms", "2m", "1h", "1.5" (seconds) in ns; -EINVAL.
int record_args_duration(const char *text, uint64_t *ns);

#endif
