// SPDX-License-Identifier: MIT
//
// All fibers of a process or core file as text, in the shape in which Go prints goroutines, with names, files and
// lines; and the threads of a core file.

#ifndef FIBERSCOPE_COLLECTOR_STACK_REPORT_H
#define FIBERSCOPE_COLLECTOR_STACK_REPORT_H

#include "collector/target.h"

#include <stdio.h>

struct stack_options {
    bool threads;   // of a core file: its threads, too
    bool symbolize; // else addresses
};

// Prints on out. *count (may be NULL): fibers and threads printed. 0 or -errno, as fibers_open; a core file
// without a fiber runtime has its threads printed.
int stack_report(struct target *t, const struct stack_options *o, FILE *out, size_t *count,
                 struct fscope_error *err);

#endif
