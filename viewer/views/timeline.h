// SPDX-License-Identifier: MIT
//
// The timeline: what Procs, threads and fibers did, over time, at any zoom.
//
// A Proc's or thread's lane is drawn as columns of one pixel: as high as the part of the pixel's
// time that it was busy, in the colour of what had most of it. A fiber's has the colour of the state
// that had most of it, and over that, as high as its part, the time that the fiber ran. Spans that
// are wide enough to be told apart lie over that as boxes with names. So a lane costs at most as many
// items as it has pixels.
//
// What is chosen is one span of a fiber: it is marked on the fiber's lane and, if it ran, on its
// Proc's and its thread's. Arrows go from who woke it to it, and from it to whom it woke.
//
// Keys are in timeline_input.c; a drag chooses a range, whose sums stand below.

#ifndef FIBERSCOPE_VIEWER_VIEWS_TIMELINE_H
#define FIBERSCOPE_VIEWER_VIEWS_TIMELINE_H

#include "viewer/trace_model.h"
#include "viewer/ui/ui.h"
#include "viewer/views/lanes.h"

enum { TIMELINE_UNDO = 32, TIMELINE_MARKS = 26, TIMELINE_WAKES = 64 };

enum timeline_drag {
    TIMELINE_NO_DRAG,
    TIMELINE_MAYBE,
    TIMELINE_CHOOSE,
    TIMELINE_PAN,
    TIMELINE_OVERVIEW, // on the minimap
};

struct timeline_window { // ns since the trace began
    double begin, end;
};

struct timeline_history {
    struct timeline_window undo[TIMELINE_UNDO], redo[TIMELINE_UNDO];
    int undo_count, redo_count;
    bool moving; // zooming and panning: all of it is undone at once
};

struct timeline_wake {
    int64_t time_ns;
    uint32_t woken;       // the span that is RUNNABLE by it
    uint32_t woken_lane;  // the fiber's
    uint32_t waker, lane; // span and lane of the fiber that did it
};

struct timeline_links {                         // of the chosen span
    uint32_t span;                              // of which they are
    uint32_t proc, thread;                      // lanes on which it ran; TRACE_NO_LANE
    struct timeline_wake by;                    // by.woken TRACE_NO_SPAN: nobody known
    struct timeline_wake wakes[TIMELINE_WAKES]; // whom it woke, by time
    uint32_t wake_count;
};

// What a lane of work shows in one column of pixels: what is drawn, so that a frame only has to look up colours.
struct timeline_pixel {
    uint32_t longest; // as in lod.h
    uint8_t bits;     // the same
    uint8_t height;   // in 255ths of the lane's; 0: nothing
    uint8_t class;    // LOD_CLASSES: nothing
};

struct timeline_shot { // the Procs' lanes in one window
    int64_t begin_ns, end_ns;
    double pixel_ns;
    int width;
    uint32_t first, count;            // of the model's lanes: those in sight
    uint32_t made;                    // of the model's lanes
    bool is_whole;                    // all of them are made
    struct timeline_pixel *pixels;    // [count * width], of `capacity`
    int64_t (*class_ns)[LOD_CLASSES]; // over all lanes; [2 * work_width], as two threads add to it
    struct lod_column *work;          // [2 * work_width], a lane's of each thread
    size_t capacity;
    int work_width;
};

enum { TIMELINE_SHOTS = 3, TIMELINE_PIECES = 2 * TIMELINE_SHOTS + 1 };

struct timeline_piece { // of a draft: pixels until `end` that come from one shot
    int end;
    uint8_t shot;
};

struct timeline_pixels { // see timeline_columns.c
    struct timeline_shot shots[TIMELINE_SHOTS], making;
    const struct timeline_shot *now; // of what is shown; NULL: a draft is
    bool is_making;
    struct timeline_piece pieces[TIMELINE_PIECES]; // of a draft, from left to right
    int piece_count;
    int *from; // [from_width], the column of the piece's shot that a pixel is like
    int from_width;
    int64_t spent_ms, spent_ns; // on making shots in the picture of that moment
};

struct timeline_kernel {              // what a kernel trace adds (timeline_kernel.c)
    const struct kernel_model *model; // NULL: there is none
    bool is_closed;                   // CPUs: only their head
    int scroll;
    uint32_t lane, index;         // the chosen piece; KERNEL_NO_LANE
    struct kernel_piece chosen;   // of it
    uint32_t hot_lane, hot_index; // under the mouse in the last frame
    struct kernel_piece hot;
    uint32_t under_lane, under_index; // in this one
    struct rect cpus;                 // where they are, without the gutter
    uint32_t span;                    // of which `times` are
    struct kernel_times times;
};

struct timeline_stacked { // pixels of a fiber's lane with one stack
    int x, end;
    uint32_t stack, frames; // that many of its frames, from the outermost on
    int64_t begin_ns, end_ns;
    bool sampled;
    bool crowded; // too narrow to be told apart: no stack
};

struct timeline {
    const struct trace_model *model;
    struct timeline_window shown, range; // range: none if it is empty
    struct timeline_window goal;         // set by the owner: what will be shown; empty: that is
    struct timeline_history history;
    struct timeline_window marks[TIMELINE_MARKS]; // A, B, ...; begin == end: a moment
    int mark_count, mark_at;
    struct lanes rows;
    int scroll;
    int body;      // height that rows had in the last frame
    bool reveal;   // the next frame brings t->lane into sight
    int sticky;    // pixels at the lanes' top that a head covers whose rows are scrolled through
    uint32_t span; // chosen, of the trace's; TRACE_NO_SPAN: none
    uint32_t lane; // of spans->lanes, on which comma and dot step
    struct timeline_links links;
    struct lanes_hit hit;        // the last that was walked to
    uint64_t hit_at;             // its number; 0: none
    uint32_t hot_span, hot_lane; // under the mouse in the last frame; TRACE_NO_SPAN: none
    uint32_t hot_fiber;          // of it; UINT32_MAX: none
    uint8_t drag;                // timeline_drag
    int drag_x;
    double drag_ns; // what was under the mouse when the button went down

    struct timeline_pixels pixels; // with class_ns below
    struct timeline_kernel kernel;

    // Of the frame.
    struct rect lanes;                // where spans are, without the gutter
    struct rect area;                 // these, and CPUs below them
    uint32_t under_span, under_lane;  // under the mouse
    struct lod_column *columns;       // of a lane that no shot has
    struct timeline_pixel *pixel_row; // of a lane, where no shot has it as it is shown
    struct timeline_stacked *stacked;
    uint32_t *colors;
    uint8_t *heights;
    int64_t *busy_ns;                 // over all lanes
    uint32_t summed, told;            // fibers that strips of heads, and their words, were made of
    int64_t (*class_ns)[LOD_CLASSES]; // what each class has of it
    uint8_t *overview;                // of the whole trace
    int overview_width;
    int width;      // of these
    bool failed;    // no memory for them
    bool is_brief;  // set by the owner: something beneath tells more of what is chosen
    bool is_unseen; // the same: this frame is not drawn
};

int timeline_init(struct timeline *t, const struct trace_model *m); // 0 or -ENOMEM
void timeline_finish(struct timeline *t);                           // accepts a zeroed one

// With a kernel trace of the same time. Before the first frame.
void timeline_set_kernel(struct timeline *t, const struct kernel_model *k);

// From one of a part of the trace: what was chosen and shown. at_first: what `from` showed when it was opened.
void timeline_carry(struct timeline *to, const struct timeline *from,
                    struct timeline_window at_first);

// Draws into r, and does what the event says.
void timeline_frame(struct timeline *t, struct ui *u, struct rect r);

// Shows [begin, end), cut to the trace, undoable.
void timeline_show(struct timeline *t, double begin, double end);

// "Mark A: 1.2ms", for the palette; their commands go to them. How many.
struct palette_entry;
int timeline_mark_entries(const struct timeline *t, struct palette_entry *out, int most);

// Chooses a span of the trace on a lane that has it, and shows both; TRACE_NO_SPAN: nothing.
void timeline_choose(struct timeline *t, uint32_t span, uint32_t lane);

#endif
