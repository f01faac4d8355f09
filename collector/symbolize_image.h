// SPDX-License-Identifier: MIT
//
// From a mapping to the image that has its symbols: by the descriptor that was held since the file was
// mapped, by path, or by build id alone; the kernel, the vdso, JIT maps.

#ifndef FIBERSCOPE_COLLECTOR_SYMBOLIZE_IMAGE_H
#define FIBERSCOPE_COLLECTOR_SYMBOLIZE_IMAGE_H

#include "base/error.h"
#include "symbols/symbols.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct symbolize_source { // a mapping; strings are never NULL
    const char *file, *build_id;
    uint64_t start;
    int fd;               // on the file that was mapped; -1: none. Stays the caller's
    pid_t pid;            // for /tmp/perf-PID.map; 0: none
    const char *perf_map; // its path if it is elsewhere; NULL: below root
    const char *root;     // put before paths; "": none
};

// The image lives until symbols_free. *is_absolute: its addresses are run-time ones, else link-time ones (see
// symbols_address_of_offset). 0, or -errno with *out NULL.
int symbolize_open_image(struct symbols *s, const struct symbolize_source *m,
                         struct symbols_image **out, bool *is_absolute, struct fscope_error *err);

// Memory without a file of its own, by the name that maps has for it.
bool symbolize_is_anonymous(const char *file);

#endif
