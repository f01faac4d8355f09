// SPDX-License-Identifier: MIT
//
// The panels beneath a timeline: a bar of names, and the one that is open.
//
// Figures are of the timeline's chosen range, else of what it shows. A panel that is not open costs
// nothing. What is heavy is not done in a frame: panels_due says that there is something, and
// panels_work does it; a frame before that shows what was known. The keyboard is the timeline's or
// the panel's: Tab hands it round, and so does a click.

#ifndef FIBERSCOPE_VIEWER_PANELS_PANELS_H
#define FIBERSCOPE_VIEWER_PANELS_PANELS_H

#include "viewer/panels/panel_critical.h"
#include "viewer/panels/panel_explain.h"
#include "viewer/panels/panel_flame.h"
#include "viewer/panels/panel_latency.h"
#include "viewer/panels/panel_sums.h"

enum panel { // in the order of their keys, from '1' on
    PANELS_NONE,
    PANELS_FLAME,
    PANELS_STATISTICS,
    PANELS_FIBERS,
    PANELS_CRITICAL,
    PANELS_EXPLAIN,
    PANELS_LATENCY,
    PANELS_COUNT,
};

struct panels {
    const struct trace_model *model;
    struct panel_context context;
    uint8_t open; // enum panel
    double share; // of the height, when open
    int drag_y;
    bool failed;            // no memory for what is open
    int64_t work_ns;        // how long the last work took
    struct panel_goal goal; // taken by the owner, who sets wanted back
    struct panel_sums sums;
    struct panel_latency latency;
    struct panel_explain explain;
    struct panel_critical critical;
    struct panel_flame flame;
};

void panels_init(struct panels *p, const struct trace_model *m);
void panels_finish(struct panels *p); // accepts a zeroed one

// The panel of a name as on the command line: "latency". PANELS_COUNT: there is none.
enum panel panels_named(const char *name);
void panels_open(struct panels *p, enum panel which);

// How many of the pixels below each other they take.
int panels_height(const struct panels *p, const struct ui *u, int height);

// What figures are of: begin_ns to end_ns since the trace began; is_chosen: a range, not what is
// shown. Before panels_due and panels_frame.
void panels_ask(struct panels *p, double begin_ns, double end_ns, bool is_chosen);

bool panels_due(const struct panels *p);
void panels_work(struct panels *p);

// Whether work is to be done now: not while a button is held, if the last took long.
bool panels_ready(const struct panels *p, const struct ui *u);

// Draws into r, and does what the event says. Comes before the timeline's frame.
void panels_frame(struct panels *p, struct ui *u, struct rect r);

#endif
