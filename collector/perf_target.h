// SPDX-License-Identifier: MIT
//
// Whether a process can be watched from outside, told before anything is opened, so that the user
// reads "process 77 has ended" and not an error number.

#ifndef FIBERSCOPE_COLLECTOR_PERF_TARGET_H
#define FIBERSCOPE_COLLECTOR_PERF_TARGET_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct perf_target {
    char name[64]; // base name of the program
};

// 0; or with reason and remedy in err: -ESRCH (no such process, it has ended, or it is a thread of
// another one), -EINVAL (a kernel thread, this process), -ENOEXEC (not a 64-bit program).
int perf_target_look(struct perf_target *out, uint32_t pid, struct fscope_error *err);

// Whether it has ended, or its last thread is about to: a zombie has, but not a process whose first thread alone has ended.
bool perf_target_has_ended(uint32_t pid);

// How far it is from address to the end of the mapping that holds it, in bytes; 0 if that cannot be
// known. For a stack pointer: the size of the stack in use.
uint64_t perf_target_bytes_above(uint32_t pid, uint64_t address);

#endif
