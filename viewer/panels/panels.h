// SPDX-License-Identifier: MIT
//
// The panels beneath a timeline: a bar of names, and the one that is open.
//
// Figures are of the timeline's chosen range, else of what it shows. A panel that is not open costs
// nothing. What is heavy is not done in a frame: panels_due says that there is something, and
// panels_work does it, or, in a window and of a large trace, has a thread do it; a frame before that
// shows what was known. The keyboard is the timeline's or
// the panel's: Tab hands it round, and so does a click.

#ifndef FIBERSCOPE_VIEWER_PANELS_PANELS_H
#define FIBERSCOPE_VIEWER_PANELS_PANELS_H

#include "viewer/panels/panel_critical.h"
#include "viewer/panels/panel_explain.h"
#include "viewer/panels/panel_flame.h"
#include "viewer/panels/panel_latency.h"
#include "viewer/panels/panel_sums.h"

#include <pthread.h>
#include <stdatomic.h>

enum panel { // in the order of their commands (bindings.h)
    PANELS_NONE,
    PANELS_FLAME,
    PANELS_STATISTICS,
    PANELS_FIBERS,
    PANELS_CRITICAL,
    PANELS_EXPLAIN,
    PANELS_LATENCY,
    PANELS_COUNT,
};

enum { PANELS_HEAVY = 200000 };

struct panels_worker { // a thread that makes the facts of the panel that was open
    pthread_t thread;
    atomic_int state; // of panels_work.c
    uint8_t open;
    struct panel_context context;
    struct panel_latency_choice chosen; // when it began
    void (*left)(void *left_context);   // what it does at its end, once it was left alone
    void *left_context;
    int rc;
    int64_t ns; // how long it took
};

struct panels {
    const struct trace_model *model;
    struct panel_context context;
    uint8_t open; // enum panel
    double share; // of the height, when open
    int drag_y;
    bool failed;                      // no memory for what is open
    uint64_t heavy;                   // a trace of more spans and marks is for a thread
    void (*wake)(void *wake_context); // by the thread, when it is done; NULL: there is none
    void *wake_context;
    struct panels_worker worker;
    double cost[PANELS_COUNT]; // of the last work, in ns for each of the range; 0: not known
    struct panel_goal goal;    // taken by the owner, who sets wanted back
    struct panel_sums sums;
    struct panel_latency latency;
    struct panel_explain explain;
    struct panel_critical critical;
    struct panel_flame flame;
};

void panels_init(struct panels *p, const struct trace_model *m);
void panels_finish(struct panels *p); // accepts a zeroed one

void panels_open(struct panels *p, enum panel which);

// How many of the pixels below each other they take.
int panels_height(const struct panels *p, const struct ui *u, int height);

// What figures are of: begin_ns to end_ns since the trace began; is_chosen: a range, not what is
// shown. Before panels_due and panels_frame.
void panels_ask(struct panels *p, double begin_ns, double end_ns, bool is_chosen);

bool panels_due(struct panels *p); // false while a thread is at it
void panels_work(struct panels *p);

// While a thread has the facts no frame may look at them: panels_frame does not.
bool panels_are_busy(struct panels *p);
void panels_settle(struct panels *p); // until it is done
void panels_wait(struct panels *p);   // the same, and it wakes nobody any more

// Of panels that are to end, without waiting: true if a thread is at it. It wakes nobody any more, and when it is done it
// calls `left`, who finishes the panels; they, and the model, are the thread's from now on.
bool panels_leave(struct panels *p, void (*left)(void *left_context), void *left_context);

// What latencies are of, also while a thread is at it.
struct panel_latency_choice panels_chosen(struct panels *p);

// Whether work is to be done now: not while a button is held, if the last took long.
bool panels_ready(struct panels *p, const struct ui *u);

// Draws into r, and does what the event says. Comes before the timeline's frame.
void panels_frame(struct panels *p, struct ui *u, struct rect r);

#endif
