// SPDX-License-Identifier: MIT
//
// One trace file in the making, a generation at a time.
//
// Invariant: what has reached the descriptor is a header and whole generations, each valid as far as we know.
// A generation is made in memory; the last one that was written is kept, to check the next one with.

#ifndef FIBERSCOPE_COLLECTOR_TRACE_OUT_H
#define FIBERSCOPE_COLLECTOR_TRACE_OUT_H

#include "formats/trace/write.h"

#include <stdbool.h>

struct trace_bytes {
    uint8_t *data;
    size_t size, capacity;
};

struct trace_out { // zeroed: none is open
    struct trace_writer *writer;
    int fd; // borrowed
    uint32_t version;
    uint64_t units_per_second;
    uint64_t number;           // of the generation that was begun last
    uint64_t number_written;   // of the one that was written last
    struct trace_bytes header; // the file's
    struct trace_bytes made, before;
    uint64_t written; // bytes
    bool is_broken;   // the descriptor has half a generation
};

// 0, -ENOMEM, -EINVAL (version).
int trace_out_open(struct trace_out *o, int fd, uint32_t version, uint64_t units_per_second);
void trace_out_close(struct trace_out *o); // accepts a zeroed one

// Begins the next generation; everything else is the writer's affair. 0 or -errno.
int trace_out_begin(struct trace_out *o);
// Completes it, in memory. 0 or -errno.
int trace_out_end(struct trace_out *o, const struct trace_writer_clock *clock);

// Forgets a generation that was made, or begun, and not written: the next one gets its number. 0 or -errno: nothing
// more can be written.
int trace_out_drop(struct trace_out *o);

// Into the generation that was begun: an event that says again what is so already, as the generation before leaves it,
// for readers before Go 1.26 (golang.org/x/exp/trace) refuse a generation that has no event. 0 or -errno; nothing where nothing is known.
int trace_out_say_again(struct trace_out *o, uint64_t units);

// Whether our validator takes it, after the generation before. 0, or -errno with why it does not.
int trace_out_check(struct trace_out *o, char *why, size_t size);

// Writes it. 0 or -errno; then the file is as it was before.
int trace_out_write(struct trace_out *o);

#endif
