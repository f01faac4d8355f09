// SPDX-License-Identifier: MIT
//
// A trace as spans in columns: what each fiber, Proc and thread did from when to when.
//
// For what looks back and forth in a trace (critical path, explain, the viewer). First events are
// put in (trace_spans_event), then trace_spans_finish makes the columns; from then on nothing
// changes, and any number of threads may read. Strings and stacks are numbers in its own tables:
// the reader may be closed.
//
// Invariants after trace_spans_finish:
// - Lanes are ordered by kind (fibers, Procs, threads), then id. A fiber's spans stand together, in
//   order of time, without gaps: a span ends where the next one begins, the last at the lane's
//   end_ns. What was left out (`intervals`) is a span of the state TRACE_GO_UNDETERMINED.
// - A Proc's or thread's runs are numbers of the fibers' spans, in order of time; they do not
//   overlap.
// - Times are those of the events. A state first heard of at the beginning has lasted since then.
//
// Memory: 16 bytes a span, 4 a run, 32 a lane, 16 a sample, 40 a region; while events are put in,
// 20 a span (24 with runs). A fiber has one span for each of its states and two runs (its Proc's,
// its thread's) for each span that is RUNNING or SYSCALL. So a fiber that waits, becomes runnable
// and runs takes 56 bytes for its three events. A time is kept as 48 bits since the trace began.

#ifndef FIBERSCOPE_ANALYSIS_TRACE_SPANS_H
#define FIBERSCOPE_ANALYSIS_TRACE_SPANS_H

#include "analysis/trace/stacks.h"

#define TRACE_NO_LANE UINT32_MAX
#define TRACE_NO_SPAN UINT32_MAX

struct trace_lane {
    int64_t id;
    int64_t end_ns;        // of its last span; of a Proc, thread: when it was first heard of
    uint32_t name;         // of a fiber: function of its outermost frame, 0 unknown
    uint32_t creator;      // lane; TRACE_NO_LANE: it was there, or nobody, or left out
    uint32_t first, count; // a fiber's spans; a Proc's, thread's runs
};

struct trace_span_kind { // few of them; a span has the number of one
    uint32_t reason;     // of a WAITING fiber, or one that became RUNNABLE by itself: name
    uint8_t state;       // trace_go_state
    bool woken;          // RUNNABLE after WAITING: its stack is the waker's
};

struct trace_sample {
    int64_t time_ns;
    uint32_t lane, stack; // of a fiber; TRACE_NO_LANE: it had not begun, or had ended
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

struct trace_gomaxprocs { // how many Procs there are, from then on
    int64_t time_ns;
    uint64_t procs;
};

struct trace_lost_proc { // a fiber in a system call whose Proc was taken away
    uint32_t span;
    int64_t time_ns;
};

struct trace_spans {
    struct trace_names names;
    struct trace_stacks stacks;
    int64_t begin_ns, end_ns;
    int64_t base_ns; // 0 of the begin columns

    struct trace_lane *lanes;
    uint32_t lane_count;
    uint32_t kind_first[5]; // the first lane of a kind (trace_resource); [4]: lane_count

    // The columns, [span_count]: read them with the functions below.
    uint32_t *begin_low; // of the time since base_ns
    uint16_t *begin_high;
    uint16_t *kind;  // of kinds[]
    uint32_t *stack; // of the event that began it
    uint32_t *peer;  // lane: RUNNING, SYSCALL: the Proc; RUNNABLE: who made it so, itself if it
                     // yielded
    uint32_t span_count;
    struct trace_span_kind *kinds;
    uint32_t kind_count;

    uint32_t *runs;               // spans, by lane
    struct trace_lost_proc *lost; // by span
    uint32_t run_count, lost_count;

    struct trace_sample *samples;        // by lane, time
    struct trace_region_span *regions;   // by lane, begin
    struct trace_task_span *tasks;       // by id
    struct trace_log_mark *logs;         // by lane, time
    struct trace_gomaxprocs *gomaxprocs; // by time; always kept, changes only
    uint32_t sample_count, region_count, task_count, log_count, gomaxprocs_count;

    struct spans_state *state_of_build; // internal; NULL when finished
    struct arena arena;
};

struct trace_interval {
    int64_t begin_ns, end_ns;
    int64_t fiber; // TRACE_NONE: of every fiber; of one call, all are this or none is
};

enum { // what is kept
    TRACE_KEEP_SPANS = 1,
    TRACE_KEEP_RUNS = 2, // with spans
    TRACE_KEEP_SAMPLES = 4,
    TRACE_KEEP_REGIONS = 8,
    TRACE_KEEP_TASKS = 16,
    TRACE_KEEP_LOGS = 32,
};

struct trace_spans_options {
    size_t size;            // sizeof(struct trace_spans_options)
    int64_t from_ns, to_ns; // only what overlaps this; 0, 0: all
    unsigned keep;          // TRACE_KEEP_; 0: everything
    const char *type;       // only regions and tasks of this name; NULL: all

    // Only the spans and samples of these times; NULL: all. Lanes are then made only of fibers that
    // have some, or are named by one. They may overlap, and are copied.
    const struct trace_interval *intervals;
    size_t interval_count;
};

// opts may be NULL. 0 or -ENOMEM.
int trace_spans_new(struct trace_spans **out, const struct trace_spans_options *opts);

// The next event of the reader. After to_ns only fibers that are first heard of then, having been
// there before, still count: go on to the next Sync. 0, -ENOMEM, or -EFBIG: more than 2^32 - 2
// spans, or longer than 78 hours (2^48 ns).
int trace_spans_event(struct trace_spans *s, const struct trace_reader *r,
                      const struct trace_event *ev);
int trace_spans_finish(struct trace_spans *s);

// Between two events: what there is so far, as if the trace ended here, to be finished as well. It has strings of its
// own and borrows rows from s, which change no more: so another thread may finish it while events go on here, but s
// is to be finished or freed after that. 0, -ENOMEM, or -EINVAL: s keeps only intervals.
int trace_spans_prefix(struct trace_spans **out, const struct trace_spans *s);
void trace_spans_free(struct trace_spans *s); // accepts NULL

// --- Reading.

// The lane of a fiber, Proc or thread; TRACE_NO_LANE if there is none of that id.
uint32_t trace_spans_lane(const struct trace_spans *s, uint8_t kind, int64_t id);
uint8_t trace_spans_lane_kind(const struct trace_spans *s, uint32_t lane);

static inline int64_t trace_span_begin_ns(const struct trace_spans *s, uint32_t span)
{
    return s->base_ns + (int64_t)((uint64_t)s->begin_high[span] << 32 | s->begin_low[span]);
}

// `lane` is that of the span's fiber, here and below.
static inline int64_t trace_span_end_ns(const struct trace_spans *s, uint32_t lane, uint32_t span)
{
    const struct trace_lane *l = &s->lanes[lane];
    return span + 1 < l->first + l->count ? trace_span_begin_ns(s, span + 1) : l->end_ns;
}

static inline uint8_t trace_span_state(const struct trace_spans *s, uint32_t span)
{
    return s->kinds[s->kind[span]].state;
}

static inline uint32_t trace_span_reason(const struct trace_spans *s, uint32_t span)
{
    return s->kinds[s->kind[span]].reason;
}

// The fiber's own stack: where it blocks, yields, enters the system call, starts; 0: not known.
uint32_t trace_span_stack(const struct trace_spans *s, uint32_t span);

// Of who ended the span: of a RUNNING one the fiber's own, of a WAITING one that of who woke it.
uint32_t trace_span_end_stack(const struct trace_spans *s, uint32_t lane, uint32_t span);

// RUNNING, SYSCALL: the Proc; WAITING: who ended it; RUNNABLE: who made it so, itself if it yielded.
uint32_t trace_span_peer(const struct trace_spans *s, uint32_t lane, uint32_t span);

// The last span of a fiber's lane that begins before time_ns; TRACE_NO_SPAN if none does.
uint32_t trace_spans_before(const struct trace_spans *s, uint32_t lane, int64_t time_ns);

// The fiber that a span is of.
uint32_t trace_spans_fiber(const struct trace_spans *s, uint32_t span);

// When the fiber of a system call lost its Proc; INT64_MAX if it did not.
int64_t trace_span_lost_ns(const struct trace_spans *s, uint32_t span);

// When the Proc or thread is done with a run, which is a span: before the span ends, where a system
// call loses its Proc.
int64_t trace_spans_run_end_ns(const struct trace_spans *s, uint32_t lane, uint32_t run);

// A lane's samples with begin_ns <= time < end_ns: the first, and how many.
uint32_t trace_spans_samples(const struct trace_spans *s, uint32_t lane, int64_t begin_ns,
                             int64_t end_ns, uint32_t *count);

// The first of all logs that is of this lane, at time_ns or later, or of a later lane; log_count: there is none.
uint32_t trace_spans_log_from(const struct trace_spans *s, uint32_t lane, int64_t time_ns);

// A lane's regions: the first, and how many.
uint32_t trace_spans_regions(const struct trace_spans *s, uint32_t lane, uint32_t *count);

#endif
