// SPDX-License-Identifier: MIT
//
// The kernel trace beside a recording's execution trace: files FILE.kernel.trace beside FILE.trace, the next ones (after
// a loss) FILE.kernel.trace.2 and so on. What is in them: bpf/kernel_build.h.
//
// Invariant: a file appears under its name when it is complete. The first one takes the place of all
// that a former recording of its name has left.

#ifndef FIBERSCOPE_COLLECTOR_RECORD_KERNEL_H
#define FIBERSCOPE_COLLECTOR_RECORD_KERNEL_H

#include "collector/record.h"

// Whether this build can.
bool record_kernel_is_built(void);

// With o->kernel, else nothing: records pid and its children from now on, into result->kernel. 0 or -errno.
int record_kernel_start(const struct record_options *o, struct record_result *result, uint32_t pid,
                        struct fscope_error *err);

// Gives up, for the calling thread and those that it starts, what it does not need once the command or the kernel trace is
// on (bpf/privileges.h); what opens perf events it keeps. Accepts one that has none. 0 or -errno.
int record_kernel_drop(struct record_result *result, struct fscope_error *err);

// Ends it; files are complete. Accepts one that has none.
void record_kernel_stop(struct record_result *result);

// The closing lines. 0, or the first error there was with err filled.
int record_kernel_report(const struct record_options *o, struct record_result *result,
                         struct fscope_error *err);

void record_kernel_free(struct record_result *result); // stops

#endif
