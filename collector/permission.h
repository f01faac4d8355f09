// SPDX-License-Identifier: MIT
//
// Why the kernel does not let us look into a process, and what would have to be granted: one line, for whoever reads an
// error. The kernel says EPERM (EACCES) and no more; this asks what it asks, in its order: a filter on our own calls,
// the user and the group, whether it is dumpable, its capabilities, its user namespace, Yama.
//
// Nothing here prints. Any thread.

#ifndef FIBERSCOPE_COLLECTOR_PERMISSION_H
#define FIBERSCOPE_COLLECTOR_PERMISSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// What is to be done in the process.
enum permission_wish {
    PERMISSION_READ,  // its memory, its mappings: process_vm_readv, /proc/PID/maps
    PERMISSION_TRACE, // ptrace, as well: there may be one tracer alone
};

// After a refusal: cause and remedy, without the process's name, which stands before it. Returns the length as
// snprintf does.
int permission_explain(uint32_t pid, enum permission_wish wish, char *text, size_t size);

#endif
