// SPDX-License-Identifier: MIT
//
// Strings and stacks that keep their number through the file, up to a bound.
//
// Invariant: equal things have one id; ids are 1..count; what is stored never moves and is never
// taken out. What is put in fits in bytes_max, and strings in the INTERN_STRINGS_PART of it: a program that
// numbers its requests, or logs, has ever new ones, and each for a moment. A zeroed struct with
// bytes_max set is empty.

#ifndef FIBERSCOPE_FORMATS_TRACE_INTERN_H
#define FIBERSCOPE_FORMATS_TRACE_INTERN_H

#include "base/arena.h"
#include "formats/trace/trace.h"

enum { INTERN_STRINGS_PART = 16 };

struct intern_item {
    const void *data; // the bytes, or the frames
    uint32_t hash;
    uint32_t count; // bytes, or frames
};

struct intern_table {
    struct intern_item *items; // [count], id i + 1
    uint32_t *slots;           // [slot_count] ids, 0: free; at most half are taken
    uint32_t count, capacity, slot_count;
    uint64_t bytes_used;
};

struct trace_intern {
    struct arena arena;
    struct intern_table strings, stacks;
    uint64_t bytes_max;
    uint64_t seed;
};

void trace_intern_finish(struct trace_intern *in);

// The id, or 0 if the thing is new and there is no room for it; -ENOMEM in *rc if memory is out.
// n > 0, count > 0.
uint32_t trace_intern_string(struct trace_intern *in, const char *bytes, uint32_t n, int *rc);
uint32_t trace_intern_stack(struct trace_intern *in, const struct trace_frame *frames,
                            uint32_t count, int *rc);

#endif
