// SPDX-License-Identifier: MIT
//
// Events of a segment's trace buffers into a trace file's generation: the same bytes, but that stacks and
// strings get small numbers of the generation's own tables, which are filled on the way.
//
// Invariant: a batch ends with a whole event, and its times do not go back. What is written is either all of a thread's events, or those before the first one that makes no sense or is too late.

#ifndef FIBERSCOPE_COLLECTOR_TRACE_REWRITE_H
#define FIBERSCOPE_COLLECTOR_TRACE_REWRITE_H

#include "collector/trace_pool.h"
#include "collector/trace_symbols.h"
#include "formats/trace/write.h"

struct trace_rewrite;

// 0 or -ENOMEM. Reader and symbols stay the caller's. The caller owns *out: trace_rewrite_free.
int trace_rewrite_new(struct trace_rewrite **out, struct seg_reader *reader,
                      struct trace_symbols *symbols);
void trace_rewrite_free(struct trace_rewrite *rw); // accepts NULL

// Begins a generation of w: its tables are empty.
void trace_rewrite_begin(struct trace_rewrite *rw, struct trace_writer *w);

// The pieces of one generation, as trace_pool_range gives them. Events at or after `until` (units) are left out.
// 0, -ENOMEM or what the writer says.
int trace_rewrite_pieces(struct trace_rewrite *rw, const struct trace_piece *pieces, size_t count,
                         uint64_t until);

// Where a thread was as the trace began, as seen from outside: for what is told of it then without a stack, until it
// speaks itself. 0 or -ENOMEM.
int trace_rewrite_early(struct trace_rewrite *rw, uint32_t tid, const uint64_t *pcs,
                        uint32_t depth);

// A CPU sample of the generation. fiber 0: whatever the thread is known to run.
struct trace_sample {
    uint64_t units, fiber;
    uint32_t tid, stack;
};
int trace_rewrite_sample(struct trace_rewrite *rw, const struct trace_sample *s);

// Of all generations so far.
struct trace_rewrite_stats {
    uint64_t events, samples;
    uint64_t damaged;    // threads' generations that were left at an event that makes no sense
    uint64_t lost_names; // strings and stacks that could not be read
    uint64_t first_units, last_units; // of the generation begun last; first > last: it has no event
};
void trace_rewrite_get_stats(const struct trace_rewrite *rw, struct trace_rewrite_stats *out);

#endif
