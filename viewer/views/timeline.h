// SPDX-License-Identifier: MIT
//
// The timeline: what each Proc ran, over time, at any zoom.
//
// A lane is drawn as columns of one pixel: as high as the part of the pixel's time that the Proc
// was busy, in the colour of what had most of it. Spans that are wide enough to be told apart lie
// over that as boxes with names. So a lane costs at most as many items as it has pixels.
//
// Keys are those of Perfetto: W S zoom at the mouse, A D pan, 0 all, F the selection; a drag
// chooses a range, whose sums stand below.

#ifndef FIBERSCOPE_VIEWER_VIEWS_TIMELINE_H
#define FIBERSCOPE_VIEWER_VIEWS_TIMELINE_H

#include "viewer/trace_model.h"
#include "viewer/ui/ui.h"

enum { TIMELINE_UNDO = 32 };

enum timeline_drag { TIMELINE_NO_DRAG, TIMELINE_MAYBE, TIMELINE_CHOOSE, TIMELINE_PAN };

struct timeline_window { // ns since the trace began
    double begin, end;
};

struct timeline {
    const struct trace_model *model;
    struct timeline_window shown, range; // range: none if it is empty
    struct timeline_window undo[TIMELINE_UNDO];
    int undo_count;
    int scroll;
    uint32_t lane, span; // chosen: of model->lanes, of its lod; lane UINT32_MAX: none
    uint32_t hot_fiber;  // under the mouse in the last frame; UINT32_MAX: none
    uint8_t drag;        // timeline_drag
    int drag_x;

    // Of the frame.
    struct rect lanes; // where spans are, without the gutter
    struct lod_column *columns;
    uint32_t *colors;
    uint8_t *heights;
    int64_t *busy_ns; // over all lanes
    int width;        // of these
    bool failed;      // no memory for them
};

void timeline_init(struct timeline *t, const struct trace_model *m);
void timeline_finish(struct timeline *t); // accepts a zeroed one

// Draws into r, and does what the event says.
void timeline_frame(struct timeline *t, struct ui *u, struct rect r);

// Shows [begin, end), cut to the trace, undoable.
void timeline_show(struct timeline *t, double begin, double end);

#endif
