// SPDX-License-Identifier: MIT
//
// What was taken out of a segment's trace buffers and is not yet in a file: copies, by generation.
//
// Invariant: a copy has the bytes that were committed at one moment, of one thread and generation. In a range
// that trace_pool_range gives, the copies of each thread are in the order in which it wrote them.

#ifndef FIBERSCOPE_COLLECTOR_TRACE_POOL_H
#define FIBERSCOPE_COLLECTOR_TRACE_POOL_H

#include "segment/consumer.h"

#include <stdbool.h>

struct trace_piece {
    uint64_t session, generation;
    uint64_t start_units; // what the first event's time counts from
    uint64_t first_units; // time of the first event
    uint64_t order;
    uint32_t tid, size; // bytes
    uint8_t *data;
};

struct trace_pool { // zeroed is empty
    struct trace_piece *pieces;
    size_t count, capacity;
    uint64_t bytes;
    uint64_t stale; // buffers that were given to others while they were copied
};

struct trace_take {
    uint64_t complete;   // generations up to this are written by nobody any more
    uint64_t done;       // those up to this are of no interest: given back, not copied
    uint64_t from, upto; // others are not either
    bool open_too;       // also what is being written
    bool keeps;          // gives nothing back: of a flight recorder
    uint64_t stale_from; // out: generations up to this have lost buffers; 0: none
};

// Copies what there is; further calls add to it. 0, -ENOMEM, or -ENOBUFS: so much is here that nothing more
// is taken (the target cuts its trace by itself).
int trace_pool_take(struct trace_pool *p, struct seg_reader *r, struct trace_take *take);

// The lowest generation there is; 0: none.
uint64_t trace_pool_lowest(const struct trace_pool *p);

// Sorts, and gives the pieces of one generation, by thread and time. Valid until the next call for p.
size_t trace_pool_range(struct trace_pool *p, uint64_t generation, struct trace_piece **first);

// Forgets generations up to this one.
void trace_pool_drop(struct trace_pool *p, uint64_t generation);

void trace_pool_finish(struct trace_pool *p); // accepts a zeroed one

#endif
