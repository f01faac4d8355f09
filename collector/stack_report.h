// SPDX-License-Identifier: MIT
//
// All fibers and threads of a process or core file as text, in the shape in which Go prints goroutines, with names,
// files and lines.

#ifndef FIBERSCOPE_COLLECTOR_STACK_REPORT_H
#define FIBERSCOPE_COLLECTOR_STACK_REPORT_H

#include "collector/target.h"

#include <stdio.h>

struct stack_options {
    bool threads;   // its threads, too
    bool symbolize; // else addresses
};

// Prints on out. *count (may be NULL): fibers and threads printed. 0 or -errno, as fibers_open and thread_list_read;
// of a program without fibers the threads are printed.
int stack_report(struct target *t, const struct stack_options *o, FILE *out, size_t *count,
                 struct fscope_error *err);

#endif
