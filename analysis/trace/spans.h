// SPDX-License-Identifier: MIT
//
// A whole trace as spans in columns: what each fiber, Proc and thread did from when to when.
//
// For what looks back and forth in a trace (critical path, explain, the viewer). First events are
// put in (trace_spans_event), then trace_spans_finish makes the columns; from then on nothing
// changes, and any number of threads may read. Strings and stacks are numbers in its own tables:
// the reader may be closed.
//
// Invariants after trace_spans_finish:
// - Lanes are ordered by kind, then id. A lane's spans stand together, in order of time, and do not
//   overlap; a fiber's have no gaps from its begin_ns to its end_ns.
// - Times are those of the events. A state first heard of at the beginning has lasted since then.
//
// Memory: about 42 bytes a span; three spans for each run of a fiber (its own, Proc's, thread's),
// one for each wait.

#ifndef FIBERSCOPE_ANALYSIS_TRACE_SPANS_H
#define FIBERSCOPE_ANALYSIS_TRACE_SPANS_H

#include "analysis/trace/stacks.h"

#define TRACE_NO_LANE UINT32_MAX
#define TRACE_NO_SPAN UINT32_MAX

struct trace_lane {
    int64_t id;
    uint8_t kind;             // trace_resource
    uint32_t name;            // of a fiber: function of its outermost frame, 0 unknown
    int64_t begin_ns, end_ns; // in the trace
    uint32_t creator;         // lane; TRACE_NO_LANE: it was there, or nobody
    uint32_t first, count;    // its spans
    uint32_t first_sample, sample_count;
    uint32_t first_region, region_count; // in order of their begin
};

struct trace_sample {
    int64_t time_ns;
    uint32_t lane, stack; // of a fiber
};

struct trace_region_span {
    int64_t begin_ns, end_ns; // ends of the trace where unknown
    uint64_t task;
    uint32_t lane, type, stack; // stack: where it begins
    bool begins, ends;          // seen
};

struct trace_task_span {
    int64_t begin_ns, end_ns; // ends of the trace where unknown
    uint64_t id, parent;
    uint32_t type;
    uint32_t begin_lane, end_lane;
    bool begins, ends; // seen
};

struct trace_log_mark {
    int64_t time_ns;
    uint64_t task;
    uint32_t lane, category;
    const char *message;
};

struct trace_spans {
    struct trace_names names;
    struct trace_stacks stacks;
    int64_t begin_ns, end_ns;
    struct trace_lane *lanes;
    uint32_t lane_count;

    // The columns, [span_count].
    int64_t *span_begin_ns, *span_end_ns;
    uint32_t *reason;    // of a WAITING fiber, or one that became RUNNABLE by itself: name
    uint32_t *stack;     // of a fiber: where it blocks, yields, enters the system call, starts
    uint32_t *end_stack; // of who ended the span: RUNNING: itself; WAITING: who woke it
    uint32_t *peer;      // lane: RUNNING, SYSCALL: the Proc; WAITING: who ended it; RUNNABLE: who
                         // made it so, itself if it yielded; of a Proc's or thread's: the fiber
    uint8_t *state;      // trace_go_state, of the fiber
    uint32_t span_count;

    struct trace_sample *samples;      // by lane, time
    struct trace_region_span *regions; // by lane, begin
    struct trace_task_span *tasks;     // by id
    struct trace_log_mark *logs;       // by time
    uint32_t sample_count, region_count, task_count, log_count;

    struct spans_state *state_of_build; // internal; NULL when finished
    struct arena arena;
};

// Only what overlaps from_ns..to_ns is kept; 0, 0: all. 0 or -ENOMEM.
int trace_spans_new(struct trace_spans **out, int64_t from_ns, int64_t to_ns);

// The next event of the reader. 0, -ENOMEM, or -EFBIG: more than 2^32 - 2 spans.
int trace_spans_event(struct trace_spans *s, const struct trace_reader *r,
                      const struct trace_event *ev);
int trace_spans_finish(struct trace_spans *s);
void trace_spans_free(struct trace_spans *s); // accepts NULL

// The lane of a fiber, Proc or thread; TRACE_NO_LANE if the trace has none of that id.
uint32_t trace_spans_lane(const struct trace_spans *s, uint8_t kind, int64_t id);

// The last span of a lane that begins before time_ns; TRACE_NO_SPAN if none does.
uint32_t trace_spans_before(const struct trace_spans *s, uint32_t lane, int64_t time_ns);

// A lane's samples with begin_ns <= time < end_ns: the first, and how many.
uint32_t trace_spans_samples(const struct trace_spans *s, uint32_t lane, int64_t begin_ns,
                             int64_t end_ns, uint32_t *count);

#endif
