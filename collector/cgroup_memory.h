// SPDX-License-Identifier: MIT
//
// What the memory controllers of a process' control group still permit: version 2, and version 1 where its memory
// controller is mounted. A limit of any ancestor binds as well: the one with the least left decides. In a container
// limits above its own root cannot be seen.

#ifndef FIBERSCOPE_COLLECTOR_CGROUP_MEMORY_H
#define FIBERSCOPE_COLLECTOR_CGROUP_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

struct cgroup_memory {
    bool has_current, has_limit;
    uint64_t current; // bytes that its own group uses
    // Of the group whose limit is nearest: its limit, and what is left of it.
    uint64_t limit, headroom;
};

// memberships: what /proc/PID/cgroup says. root: "/sys/fs/cgroup". What cannot be found is not there.
void cgroup_memory_read(struct cgroup_memory *out, const char *memberships, const char *root);

#endif
