// SPDX-License-Identifier: MIT
//
// What the memory controllers of this process's cgroup still permit: version 2, and version 1 where its
// memory controller is mounted. A limit of any ancestor binds as well, so all folders up to the root
// are asked, and the one with the least left decides.
//
// No allocation, no stdio; async-signal-safe after cgroup_find.

#ifndef FIBERSCOPE_AGENT_CGROUP_H
#define FIBERSCOPE_AGENT_CGROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CGROUP_PATH_BYTES = 512 };

struct cgroup {
    char folder[CGROUP_PATH_BYTES]; // the process's own; "": none
    size_t root_length;             // of its beginning that is the controller's root
    bool is_v1;
};

// memberships: what /proc/self/cgroup says. root: "/sys/fs/cgroup".
void cgroup_find(struct cgroup *g, const char *memberships, const char *root);

// Bytes up to the nearest limit; false: there is none, or none that can be seen (a container sees no limits
// above its own root).
bool cgroup_headroom(const struct cgroup *g, uint64_t *bytes);

// A file's first bytes, NUL-terminated; "" if it cannot be read.
void cgroup_read_text(const char *path, char *text, size_t size);

#endif
