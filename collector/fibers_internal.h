// SPDX-License-Identifier: MIT
//
// Shared by fibers.c and fibers_counters.c. What is read through the descriptor is the target's: offsets were checked
// once, by the sound functions, and counts are bounded here.

#ifndef FIBERSCOPE_COLLECTOR_FIBERS_INTERNAL_H
#define FIBERSCOPE_COLLECTOR_FIBERS_INTERNAL_H

#include "collector/fibers.h"
#include "runtime/descriptor.h"

#include <string.h>

enum { OBJECT_BYTES_MAX = 65536, MS_MAX = 65536, PS_MAX = 256 }; // PS_MAX: the runtime's PROCS_MAX

struct fibers {
    struct target *t;
    struct fib_descriptor d;
    uint64_t now_ticks, ns_per_tick_32; // 0: unknown
    uint8_t *slab;                      // a copy of the one at work
    uint8_t *live;                      // a copy of the fiber's
    char *labels;                       // of its set
    uint64_t pcs[SEG_STACK_DEPTH_MAX];
    bool (*wants_stack)(void *arg, uint64_t id); // NULL: all
    void *wants_arg;
};

static inline uint64_t get64(const uint8_t *at)
{
    uint64_t v;
    memcpy(&v, at, sizeof v);
    return v;
}

static inline uint32_t get32(const uint8_t *at)
{
    uint32_t v;
    memcpy(&v, at, sizeof v);
    return v;
}

static inline int read64(const struct fibers *f, uint64_t address, uint64_t *out)
{
    return target_read(f->t, address, out, sizeof *out);
}

static inline bool fits(uint32_t offset, uint32_t size, uint32_t whole)
{
    return offset <= whole && size <= whole - offset;
}

// ns, of which no fiber can have had more than a century.
static inline uint64_t fibers_ns(const struct fibers *f, uint64_t ticks)
{
    unsigned __int128 ns = ((unsigned __int128)ticks * f->ns_per_tick_32) >> 32;
    return ns < INT64_MAX / 2 ? (uint64_t)ns : 0;
}

// fibers_counters.c
bool fibers_counters_are_sound(const struct fib_descriptor *d);
// live: a copy. m: address of the M that runs it; 0: none does.
void fibers_fill_counters(const struct fibers *f, const uint8_t *live, uint64_t m,
                          struct fiber *out);

#endif
