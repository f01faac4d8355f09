// SPDX-License-Identifier: MIT
//
// What is between the events and the columns of spans.h.
//
// A span becomes a row when it is over. Rows stand in blocks that are mapped, and unmapped one by
// one as they become columns: so both are never there in full. A block that is full changes no more,
// so that a prefix (spans_prefix.c) borrows it.

#ifndef FIBERSCOPE_ANALYSIS_TRACE_SPANS_INTERNAL_H
#define FIBERSCOPE_ANALYSIS_TRACE_SPANS_INTERNAL_H

#include "analysis/trace/spans.h"

enum { SPANS_BLOCK_ROWS = 32768 };

struct row {
    uint32_t lane, begin_low;
    uint16_t begin_high, kind;
    uint32_t stack, peer;
};

struct row_block {
    struct row rows[SPANS_BLOCK_ROWS];
    uint32_t threads[SPANS_BLOCK_ROWS]; // lanes; untouched, so without memory, unless runs are kept
};

struct open_fiber { // by slot
    int64_t id;
    int64_t begin_ns;     // of the state that it is in
    int64_t proc_lost_ns; // INT64_MAX: it has its Proc, or never had one
    uint32_t lane;        // TRACE_NO_LANE: none yet
    uint32_t name, creator;
    uint32_t stack, peer, thread_lane, proc_slot;
    uint32_t first_interval, interval_count;
    uint16_t kind;
    bool known, opened; // opened: the span is to be kept, perhaps
    uint8_t state;
};

struct spans_state {
    struct trace_spans_options options;
    struct trace_interval *intervals; // by fiber, begin; those of a fiber do not overlap
    size_t interval_count;
    int64_t from_ns, to_ns, sync_ns;
    bool started, all_fibers; // all_fibers: the intervals are of every one
    struct row_block **blocks;
    size_t row_count;
    uint32_t block_capacity;
    uint32_t
        borrowed; // of the blocks, from the first on: those of the spans that this is a prefix of
    struct open_fiber *fibers;
    uint32_t fiber_capacity;
    uint8_t *lane_kinds;                 // by lane, until they are in order
    uint16_t *kind_numbers;              // by reason, state, woken; plus one
    uint32_t *proc_lanes, *thread_lanes; // by slot, plus one; 0: none yet
    uint32_t *syscalls;                  // by Proc's slot: fiber's slot plus one; 0: none
    struct trace_lost_proc *lost;        // by row
    uint32_t lost_count, lost_capacity;
    uint32_t lane_kind_capacity, kind_capacity, kind_number_capacity;
    uint32_t proc_capacity, thread_capacity, syscall_capacity;
    uint32_t lane_capacity, sample_capacity, region_capacity, task_capacity, log_capacity;
    uint32_t gomaxprocs_capacity;
    uint32_t *open_regions; // by lane: the innermost one, plus one; regions link outwards
    uint32_t *region_outer; // by region
    uint32_t open_region_capacity, region_outer_capacity;
    struct ptrtab tasks;
};

// Grows *array of items of `size` bytes so that index exists; what is new is zeroed. 0, -ENOMEM, or
// -EFBIG.
int spans_reserve(void *array, uint32_t *capacity, uint32_t index, size_t size);

bool spans_keeps(const struct spans_state *st, unsigned what);

// --- spans_rows.c

int spans_take_intervals(struct spans_state *st);
void spans_find_intervals(const struct spans_state *st, struct open_fiber *f); // the fiber's own

// Whether something of a fiber's between the two is wanted.
bool spans_wants(const struct spans_state *st, const struct open_fiber *f, int64_t begin_ns,
                 int64_t end_ns);

// The number of a kind; the last one takes all that are too many.
int spans_kind(struct trace_spans *s, uint8_t state, uint32_t reason, bool woken, uint16_t *kind);

// The span that the fiber is in, over at end_ns, becomes a row of its lane.
int spans_add_row(struct trace_spans *s, struct open_fiber *f, int64_t end_ns);

// --- spans.c

// Who emitted an event; NULL if that is no fiber.
struct open_fiber *spans_emitter(const struct trace_spans *s, const struct trace_event *ev);

// The fiber's lane, made now if it has none; TRACE_NO_LANE for NULL.
int spans_fiber_lane(struct trace_spans *s, struct open_fiber *f, uint32_t *lane);

// --- spans_marks.c, spans_columns.c

int spans_mark(struct trace_spans *s, const struct trace_reader *r, const struct trace_event *ev);
void spans_end_regions(struct trace_spans *s, uint32_t lane, int64_t time_ns); // with their fiber
int spans_columns(struct trace_spans *s);
void spans_drop_blocks(struct spans_state *st);

#endif
