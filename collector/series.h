// SPDX-License-Identifier: MIT
//
// The heap over time: the moments that targets recorded, as a table for a spreadsheet.
//
// Invariant: bounded. When it is full every second moment goes, so the whole time stays covered.

#ifndef FIBERSCOPE_COLLECTOR_SERIES_H
#define FIBERSCOPE_COLLECTOR_SERIES_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

struct series_point {
    uint64_t time_ns; // CLOCK_MONOTONIC
    uint64_t live_objects, live_bytes, alloc_bytes;
    uint32_t pid;
};

struct series { // zeroed is empty
    struct series_point *points;
    size_t count, capacity;
    uint64_t start_ns; // CLOCK_MONOTONIC of the first segment's beginning: 0 s in the file
};

enum { SERIES_POINTS_MAX = 1 << 20 };

// 0 or -ENOMEM.
int series_add(struct series *s, const struct series_point *p);
void series_free(struct series *s);

// Writes lines "time_s,live_objects,live_bytes,alloc_bytes,pid" below such a heading; only_pid 0: all.
// Whole or not at all. 0 or -errno.
int series_write(const struct series *s, const char *path, uint32_t only_pid,
                 struct fscope_error *err);

#endif
