// SPDX-License-Identifier: MIT
//
// All that comes out of a pipe, a FIFO or a terminal, which can be read only once, into memory.

#ifndef FIBERSCOPE_VIEWER_PIPE_H
#define FIBERSCOPE_VIEWER_PIPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Whether the path ("-" is standard input) can be read only once.
bool pipe_is(const char *path);

// Waits for a writer if there is none yet. `go_on` is asked several times a second, with how much has come; false ends it.
// The caller frees *bytes. 0 or -errno: -ECANCELED by go_on, -EFBIG: more than bytes_max.
int pipe_read(const char *path, uint64_t bytes_max, bool (*go_on)(void *context, uint64_t done),
              void *context, char **bytes, size_t *size);

#endif
