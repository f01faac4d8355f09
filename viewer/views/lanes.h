// SPDX-License-Identifier: MIT
//
// The rows of the timeline: which lanes stand there, in which order, and their level of detail.
//
// Rows are Procs, counters, tasks, threads, then fibers in groups of one start function. A group or the
// threads may be closed: then only their head is there. Fibers may be filtered by a text and sorted;
// both keep the groups. A filter is words, all of which have to hold: "state:lock" of the state at
// sort_at_ns, "ran>1ms" and "there>1s" of how long it ran and was there, "name:text", which is in the
// name or the label, or is the number, and any other text, which is there or in a region, a task, a
// log or a function of its stacks. Where such texts are, and when threads of such a name had a CPU, can be walked (lanes_found).
//
// A lane's level of detail is made when it is first drawn and given up when others need the room:
// what is kept and not drawn is at most a byte for each span of the trace, and some MB.

#ifndef FIBERSCOPE_VIEWER_VIEWS_LANES_H
#define FIBERSCOPE_VIEWER_VIEWS_LANES_H

#include "viewer/kernel_model.h"

enum lanes_kind {
    LANES_PROC,    // what: of the model's lanes
    LANES_COUNTER, // what: TRACE_COUNTER_
    LANES_TASKS,   // the head over tasks
    LANES_TASK,    // what: a row of tasks that do not overlap
    LANES_THREADS, // the head over threads
    LANES_THREAD,  // what: of spans->lanes
    LANES_FIBERS,  // the head over all groups
    LANES_GROUP,   // what: of the model's groups
    LANES_FIBER,   // what: of spans->lanes
};

enum lanes_sort {      // of fibers within groups, and of groups where it says something about them
    LANES_BY_ACTIVITY, // how long it ran, the longest first
    LANES_BY_NAME,     // of the start function, then id
    LANES_BY_STATE,    // at a moment: running first
    LANES_BY_LABEL,
    LANES_BY_DURATION, // how long it was there, the longest first
    LANES_SORTS,
};

struct lanes_row {
    uint32_t what;
    uint32_t head; // the row that heads it, or itself if it is a head; LANES_NO_HEAD
    int y;         // from the content's top
    uint16_t height;
    uint8_t kind;   // lanes_kind
    uint8_t depth;  // of a fiber's regions, each a row below its states
    uint8_t frames; // rows of its stacks, below these
};

struct lanes_sizes { // in pixels
    int proc, lane, head, counter, region, frame;
    int strip; // below a thread, of what the kernel did with it
};

struct lanes_held { // a level of detail
    struct lod lod;
    uint64_t frame; // last used in it
    uint32_t lane;
};

enum { LANES_NO_HEAD = -1 }; // as uint32_t
enum { LANES_FILTER_MAX = 64 };
enum { LANES_FRAMES = 12 };    // rows of stacks; of deeper ones frames are left out
enum { LANES_TASK_ROWS = 64 }; // beyond, tasks lie over one another in the last

struct lanes {
    const struct trace_model *model;
    const struct kernel_model *kernel; // beside it; NULL: none
    struct lanes_row *rows;
    uint32_t count, capacity;
    uint32_t head;    // of the rows that are put, LANES_NO_HEAD
    uint32_t *row_of; // [spans->lane_count]; UINT32_MAX: no row
    int content;      // height of all
    struct lanes_sizes sizes;
    uint32_t matching; // fibers that the filter lets through
    bool is_stale;     // rows are to be made anew

    // What the user chose; after a change set is_stale.
    bool *open; // [group_count]
    bool threads_open, tasks_open;
    bool stacks;  // below fibers
    bool strips;  // below threads, and CPUs under all lanes
    uint8_t sort; // lanes_sort
    int64_t sort_at_ns;
    char filter[LANES_FILTER_MAX];
    uint64_t slice; // of spans in one call of lanes_arrange; 0: as many as there are

    struct lanes_filter *made, *making; // lanes_filter.h; NULL: none
    uint32_t *group_matching;           // [group_count]: fibers that match
    bool *unfolded;                     // [group_count]: is open, of the rows
    bool *shut;      // [group_count]: closed by the user under a filter, which opens
    uint32_t opened; // fibers of open groups

    uint8_t *frames; // [lane_count]: lanes_frames and 1; 0: not looked at

    uint32_t *tasks;                          // [spans->task_count], by row, then begin
    uint32_t task_first[LANES_TASK_ROWS + 1]; // of tasks[]
    uint32_t task_rows;

    // Level of detail.
    struct lanes_held **held; // [spans->lane_count]
    uint32_t *live;           // lanes that have one
    uint32_t live_count, live_capacity;
    uint64_t frame;
    size_t bytes;
};

int lanes_init(struct lanes *l, const struct trace_model *m); // 0 or -ENOMEM
void lanes_set_kernel(struct lanes *l, const struct kernel_model *k);
void lanes_finish(struct lanes *l); // accepts a zeroed one

// What is open at first. shown: of the groups before, to be 0 at the first.
bool lanes_open_at_first(const struct trace_model *m, uint32_t group, uint32_t *shown);
bool lanes_tasks_at_first(const struct lanes *l);

// Makes the rows, if anything has changed. 0 or -ENOMEM: the old ones stay. While a filter is looked
// for (making) they are those before it, too: call again.
int lanes_arrange(struct lanes *l, const struct lanes_sizes *sizes);

// Opens or closes a group; all of them: closes if any is open.
void lanes_toggle(struct lanes *l, uint32_t group);
void lanes_toggle_all(struct lanes *l);
bool lanes_any_open(const struct lanes *l);

// The row of a lane of spans->lanes, opening what it stands in; NULL where the filter hides it.
const struct lanes_row *lanes_reveal(struct lanes *l, uint32_t lane);

// The row if it is there.
const struct lanes_row *lanes_find(const struct lanes *l, uint32_t lane);

// The lane of spans->lanes that a row shows; TRACE_NO_LANE: none.
uint32_t lanes_of_row(const struct lanes *l, const struct lanes_row *row);

// How high the strip below a row is; 0: it has none.
int lanes_strip(const struct lanes *l, const struct lanes_row *row);

// The first row that ends below y; count if there is none.
uint32_t lanes_at(const struct lanes *l, int y);

// Whether the filter lets a fiber through.
bool lanes_match(const struct lanes *l, uint32_t lane);

const char *lanes_filter_error(const struct lanes *l); // "": none
int lanes_filter_make(struct lanes *l);                // goes on with it. 0 or -ENOMEM
void lanes_filter_free(struct lanes *l);

// Where the filter's texts are: a fiber of the name, a stack, a region, a task, a log.
struct lanes_hit {
    int64_t begin_ns, end_ns; // a moment, if they are equal
    uint32_t
        lane; // of spans->lanes; behind these CPUs of the kernel trace, whose piece is the lower half of the place
    uint64_t place; // among those of one moment on one lane
};

// The next after, or before, `from`; round from the last to the first. False: there is none. *at: its
// number, from 1; *all: how many there are.
bool lanes_found(const struct lanes *l, const struct lanes_hit *from, bool forward,
                 struct lanes_hit *hit, uint64_t *at, uint64_t *all);

uint64_t lanes_found_count(const struct lanes *l);

// How long a fiber was there.
int64_t lanes_there_ns(const struct trace_model *m, uint32_t lane);

// Its state at the moment that sorting by state is of; LOD_NONE: it was not there.
uint8_t lanes_state(const struct lanes *l, uint32_t lane);

// How many rows a fiber's stacks have.
int lanes_frames(struct lanes *l, uint32_t lane);

// Puts tasks into rows in which they do not overlap. 0 or -ENOMEM.
int lanes_tasks(struct lanes *l);

const char *lanes_sort_name(uint8_t sort);

// --- Level of detail.

// Of a lane of spans->lanes; NULL: no memory. Valid until the next lanes_frame.
const struct lod *lanes_lod(struct lanes *l, uint32_t lane);
void lanes_frame(struct lanes *l); // a frame begins

// Between a lod's spans and the trace's. index: LOD's; UINT32_MAX where the lane has not that span.
uint32_t lanes_span(const struct trace_spans *s, uint32_t lane, uint32_t index);
uint32_t lanes_index(const struct trace_spans *s, uint32_t lane, uint32_t span);

#endif
