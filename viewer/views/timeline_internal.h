// SPDX-License-Identifier: MIT
//
// What the parts of the timeline share.

#ifndef FIBERSCOPE_VIEWER_VIEWS_TIMELINE_INTERNAL_H
#define FIBERSCOPE_VIEWER_VIEWS_TIMELINE_INTERNAL_H

#include "viewer/views/timeline.h"

enum {
    TIMELINE_NS_MAX = 32,
    TIMELINE_CALL_EIGHTHS = 5, // of the height that system calls have
    TIMELINE_BOX_LEAST = 5,    // pixels from which a span is a box of its own
};

// "1.23ms", as the reports have it.
const char *timeline_ns(char *buf, double ns);

// A moment that long after the beginning, with the digits that a step of step_ns needs.
const char *timeline_at(char *buf, double ns, double step_ns);

// What sums and shares are of: the chosen range, else what is shown.
struct timeline_window timeline_told(const struct timeline *t);

// The whole pixel at which a moment is, kept near the lanes.
int timeline_x(const struct timeline *t, double ns);
double timeline_time(const struct timeline *t, int x);

// The same of a moment of the trace.
static inline int timeline_x_of(const struct timeline *t, int64_t time_ns)
{
    return timeline_x(t, (double)(time_ns - t->model->begin_ns));
}

// --- Words.

void timeline_axis(struct timeline *t, struct ui *u, struct rect r); // with the grid below it
void timeline_detail(struct timeline *t, struct ui *u, struct rect r);
void timeline_tip(const struct timeline *t, struct ui *u, uint32_t lane, uint32_t span);
const char *timeline_state(const struct trace_spans *s, uint32_t span); // "sleep", "running"
void timeline_fiber_name(const struct timeline *t, uint32_t lane, char *buf, size_t size);

// --- Lanes.

uint32_t timeline_color(const struct ui *u, int class); // of a Proc's lane

// One row; what is under the mouse becomes hot.
void timeline_row(struct timeline *t, struct ui *u, const struct lanes_row *row, struct rect r);
void timeline_gutter(struct timeline *t, struct ui *u, const struct lanes_row *row, struct rect r);

// The pixels of a lane's span, [x, right): where it begins up to where it ends, at least one.
struct rect timeline_span_rect(const struct timeline *t, const struct lod *l, uint32_t i,
                               struct rect r);

// A lane's pixels, and boxes over them.
void timeline_lane(struct timeline *t, struct ui *u, uint32_t lane, const struct lod *l,
                   bool is_fiber, struct rect r);

// A column of a strip, as high as a part from 0 on.
void timeline_put_column(uint32_t *color, uint8_t *height, uint32_t with, double part);

void timeline_sort(struct timeline *t); // the next of the sorts, at the chosen span's beginning

// The pixels of all Procs in what is shown, and what each class has of each pixel over all of them (class_ns), unless they
// are there already; with a clock, a draft of them, and u->moves. 0 or -ENOMEM.
int timeline_pixels_make(struct timeline *t, struct ui *u);

// How long lanes ran in each pixel of the whole trace, if a shot is of that; false: none is.
bool timeline_pixels_busy(const struct timeline *t, int width, int64_t *busy_ns);
void timeline_pixels_free(struct timeline_pixels *p);

// A lane's columns of what is shown, exact in any case; the same of a lane of work, as it is drawn. Until the next call.
const struct lod_column *timeline_columns(struct timeline *t, const struct lod *l);
const struct timeline_pixel *timeline_lane_pixels(struct timeline *t, const struct lod *l);

// The longest span that touches the x-th pixel of what is shown, in a draft, too; UINT32_MAX: none.
uint32_t timeline_longest_at(const struct timeline *t, const struct lod *l, int x);

// Regions below a fiber's states, samples and logs in them.
void timeline_extras(struct timeline *t, struct ui *u, const struct lanes_row *row, struct rect r,
                     struct rect states);
void timeline_tasks(struct timeline *t, struct ui *u, uint32_t row, struct rect r);

// The stacks below a fiber's lane, which was drawn just before, with what is under the mouse.
void timeline_stacks(struct timeline *t, struct ui *u, uint32_t lane, struct rect r);
void timeline_frame_box(const struct timeline *t, struct ui *u, struct rect box, const char *name,
                        const char *text, bool hot);
void timeline_toggle_stacks(struct timeline *t);

// Of a region or task: a type keeps its colour.
void timeline_named_box(const struct timeline *t, struct ui *u, struct rect box, const char *type);
void timeline_counter(struct timeline *t, struct ui *u, uint32_t which, struct rect r);

// --- What a kernel trace adds.

int timeline_cpus_height(const struct timeline *t,
                         int height); // of that many pixels below each other
void timeline_kernel_begin(struct timeline *t);
void timeline_cpus(struct timeline *t, struct ui *u, struct rect r, int gutter);
void timeline_strip(struct timeline *t, struct ui *u, uint32_t trace_lane, struct rect r);
void timeline_piece_mark(struct timeline *t, struct ui *u, uint32_t lane, struct rect r);
void timeline_piece_lines(const struct timeline *t, uint32_t lane, uint32_t index, char who[256],
                          char what[256], char why[256]);
void timeline_piece_tip(const struct timeline *t, struct ui *u, uint32_t lane, uint32_t index);
bool timeline_lost_line(struct timeline *t, char text[400]); // of the chosen span; false: nothing

void timeline_piece_choose(struct timeline *t, uint32_t lane, uint32_t index);
void timeline_piece_go(struct timeline *t, uint32_t lane, uint32_t index); // and shows it
bool timeline_piece_step(struct timeline *t, bool forward);                // false: none is chosen
bool timeline_piece_neighbour(struct timeline *t, bool down, int64_t at_ns);
bool timeline_piece_jump(struct timeline *t);
void timeline_next_delay(struct timeline *t, bool forward);

// A head: a triangle for open or closed, and a button as wide as the row. true: clicked.
bool timeline_head(struct timeline *t, struct ui *u, uint64_t id, struct rect r, bool open,
                   const char *text);

// --- Links.

// The time of the chosen piece or span, since the trace began; false: nothing is chosen.
bool timeline_chosen(const struct timeline *t, double *begin, double *end);

// Who made the fiber ready for what it does in the span; false: not known.
bool timeline_woken_by(const struct trace_spans *s, uint32_t span, struct timeline_wake *w);
void timeline_link(struct timeline *t); // fills t->links, if they are not of t->span
void timeline_arrows(struct timeline *t, struct ui *u, struct rect body);
// Brings a lane into sight where rows have that many pixels.
void timeline_scroll_to(struct timeline *t, uint32_t lane, int height);
void timeline_jump(struct timeline *t);                 // fiber, Proc, thread, fiber
void timeline_walk(struct timeline *t, bool forward);   // along a wakeup
void timeline_next_wake(struct timeline *t);            // another of those woken by the same
void timeline_step(struct timeline *t, bool forward);   // along the lane
void timeline_neighbour(struct timeline *t, bool down); // the lane below, above, at this time

// --- Navigation.

void timeline_keep(struct timeline *t); // for undo
void timeline_undo(struct timeline *t);
void timeline_redo(struct timeline *t);
struct timeline_window timeline_fit(const struct timeline *t, double begin, double end);
void timeline_mark(struct timeline *t, double at); // the range, else the span, else a moment
void timeline_next_mark(struct timeline *t);
void timeline_to_mark(struct timeline *t, int i);                          // if there is such a one
void timeline_draw_marks(struct timeline *t, struct ui *u, struct rect r); // and what a click does
void timeline_minimap(struct timeline *t, struct ui *u, struct rect r);
void timeline_input(struct timeline *t, struct ui *u);

#endif
