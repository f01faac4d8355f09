// SPDX-License-Identifier: MIT
//
// A control group of version 2, as BPF programs know it: by its number, at its level below the root.

#ifndef FIBERSCOPE_COLLECTOR_BPF_CONTROL_GROUP_H
#define FIBERSCOPE_COLLECTOR_BPF_CONTROL_GROUP_H

#include "base/error.h"

#include <stdint.h>

struct control_group {
    uint64_t id;
    uint32_t level;  // 0: the root
    char path[4096]; // of its folder
};

// path: a folder, or what /proc/PID/cgroup has behind "0::". 0; or -ENOENT, -ENOTSUP (of version 1, none mounted, seen from
// inside a control group namespace) with what to do in err.
int control_group_find(struct control_group *out, const char *path, struct fscope_error *err);

// CPU time that it has used, in ns; 0: unknown.
// Calls fn with each process of it and of those below; stops when fn returns nonzero, and returns that.
int control_group_each_pid(const struct control_group *g, int (*fn)(void *arg, uint32_t pid),
                           void *arg);

uint64_t control_group_cpu_ns(const struct control_group *g);

#endif
