// SPDX-License-Identifier: MIT
//
// What is between the events and the columns of spans.h.

#ifndef FIBERSCOPE_ANALYSIS_TRACE_SPANS_INTERNAL_H
#define FIBERSCOPE_ANALYSIS_TRACE_SPANS_INTERNAL_H

#include "analysis/trace/spans.h"

struct span { // a row, before the columns are made
    int64_t begin_ns, end_ns;
    uint32_t lane, reason, stack, end_stack, peer;
    uint8_t state;
};

struct open_fiber { // by slot
    struct span span;
    uint32_t thread_lane;
    uint32_t proc_slot;
    int64_t proc_lost_ns; // INT64_MAX: it has its Proc, or never had one
    bool known;
};

struct spans_state {
    int64_t from_ns, to_ns, sync_ns, now_ns;
    bool started;
    struct span *rows;
    size_t row_count, row_capacity;
    struct open_fiber *fibers;
    uint32_t fiber_capacity;
    uint32_t *proc_lanes, *thread_lanes; // by slot, plus one; 0: none yet
    uint32_t *syscalls;                  // by Proc's slot: fiber's slot plus one; 0: none
    uint32_t proc_capacity, thread_capacity, syscall_capacity;
    uint32_t lane_capacity, sample_capacity, region_capacity, task_capacity, log_capacity;
    uint32_t *open_regions; // by lane: the innermost one, plus one; regions link outwards
    uint32_t *region_outer; // by region
    uint32_t open_region_capacity, region_outer_capacity;
    struct ptrtab tasks;
};

// Grows *array of items of `size` bytes so that index exists; what is new is zeroed. 0 or -ENOMEM.
int spans_reserve(void *array, uint32_t *capacity, uint32_t index, size_t size);

int spans_mark(struct trace_spans *s, const struct trace_reader *r, const struct trace_event *ev);
uint32_t spans_fiber_lane(const struct trace_spans *s, const struct trace_event *ev);
int spans_columns(struct trace_spans *s);

#endif
