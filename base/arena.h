// SPDX-License-Identifier: MIT
//
// Arena: memory for load-once data, freed all at once.
//
// Invariant: every pointer handed out stays valid and unmoved until arena_finish or
// arena_reset. One owner thread.

#ifndef FIBERSCOPE_BASE_ARENA_H
#define FIBERSCOPE_BASE_ARENA_H

#include <stddef.h>

struct arena_chunk;

struct arena {
    struct arena_chunk *chunks;
    size_t used_bytes;  // handed out, for limits
    size_t limit_bytes; // 0: no limit; else arena_alloc fails beyond it
};

// A zeroed struct arena is an empty arena without a limit.
void arena_finish(struct arena *a); // accepts a zeroed one

// Takes back everything that was handed out and keeps some memory for what comes next: for data
// that is made anew again and again, such as a frame.
void arena_reset(struct arena *a);

// Zeroed memory aligned for any type, or NULL (out of memory or over limit_bytes).
void *arena_alloc(struct arena *a, size_t size_bytes);

// count * size_bytes with the multiplication checked.
void *arena_array(struct arena *a, size_t count, size_t size_bytes);

// Copies of n bytes plus a terminating NUL.
char *arena_strndup(struct arena *a, const char *s, size_t n);
char *arena_strdup(struct arena *a, const char *s);

#endif
