// SPDX-License-Identifier: MIT
//
// Opening the very file that a process has mapped, so that its symbols can be read when the process,
// the file or the whole container is gone.
//
// Invariant: a descriptor that is returned is on the file that was asked for: the same inode, or the
// same build id; never merely the same path.

#ifndef FIBERSCOPE_COLLECTOR_MAPPED_FILE_H
#define FIBERSCOPE_COLLECTOR_MAPPED_FILE_H

#include "segment/layout.h"

#include <stdint.h>

struct mapped_file {
    uint32_t pid;           // in our namespace; 0: the process is gone, go by path alone
    uint64_t start, end;    // of the mapping as /proc/PID/maps has it; 0: unknown
    const char *path;       // as the process sees it
    const char *build_id;   // lower-case hex, "" if unknown
    uint64_t device, inode; // 0: unknown
};

// A read-only descriptor, or -errno: -ESTALE when there is another file at the path now, -ENOENT for
// what has no file (anonymous memory, [vdso]). The caller closes it.
int mapped_file_open(const struct mapped_file *m);

enum { MODULE_BUILD_ID_SIZE = 2 * SEG_BUILD_ID_BYTES + 1 };

// What a segment says of a module: its build id in hex, and its file, as above; path is its name in the segment.
void mapped_module_build_id(const struct seg_module *m, char hex[MODULE_BUILD_ID_SIZE]);
int mapped_module_open(uint32_t pid, const struct seg_module *m, const char *path,
                       const char *build_id);

#endif
