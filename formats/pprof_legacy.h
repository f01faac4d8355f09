// SPDX-License-Identifier: MIT
//
// What the readers of older formats share. Those profiles are bare addresses, usually followed by
// the lines of /proc/PID/maps; google/pprof's rules for turning them into locations and mappings
// hold here too, because its output is what ours is compared with.

#ifndef FIBERSCOPE_FORMATS_PPROF_LEGACY_H
#define FIBERSCOPE_FORMATS_PPROF_LEGACY_H

#include "formats/pprof_internal.h"
#include "formats/text.h"

struct legacy {
    struct pprof_profile *p;
    struct pprof_input *in;
    struct fscope_error *err;
    struct text text;
    // The stack of the sample that is being read.
    struct pprof_location **stack;
    size_t stack_count, stack_capacity;
};

// -EINVAL (or -ENODATA on a last line without a newline: the file is cut off), with the offset of
// the current line, what it is and the reason.
int legacy_refuse(struct legacy *g, const char *what, const char *fmt, ...) FSCOPE_PRINTF(3, 4);
int legacy_no_memory(struct legacy *g);

// Pushes a location, or that of an address, on the stack. 0 or -ENOMEM.
int legacy_push_location(struct legacy *g, struct pprof_location *l);
int legacy_push(struct legacy *g, uint64_t address);

// Pushes every 0x... in s, less `less` each: return addresses. 0, -EINVAL or -ENOMEM.
int legacy_push_hex(struct legacy *g, struct span s, uint64_t less);

// Appends a sample with the stack and empties that. bytes: value of the numeric label, 0: none.
int legacy_sample(struct legacy *g, const int64_t *values, int64_t bytes);

bool legacy_is_maps_heading(struct span line);

// Reads maps lines from the current position to the end, gives each location its mapping and
// renumbers locations in the order in which samples use them. What is no map line is skipped.
int legacy_maps(struct legacy *g);

// The formats. `is_*` look at the beginning only; the readers fill g->p.
bool legacy_is_cpu(const struct pprof_input *in);
int legacy_read_cpu(struct legacy *g);
bool legacy_is_heap(struct span first_line);
int legacy_read_heap(struct legacy *g);
bool legacy_is_jemalloc(struct span first_line);
int legacy_read_jemalloc(struct legacy *g);
bool legacy_is_count(struct span first_line);
int legacy_read_count(struct legacy *g);
bool legacy_is_contention(struct span first_line);
int legacy_read_contention(struct legacy *g);
bool legacy_is_perf_script(struct span first_line);
int legacy_read_perf_script(struct legacy *g);

#endif
