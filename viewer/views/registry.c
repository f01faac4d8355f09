// SPDX-License-Identifier: MIT
//
// The table of views (view.h), and those views that are older than it.

#include "viewer/bindings.h"
#include "viewer/document.h"
#include "viewer/palette.h"
#include "viewer/panels/panels_timeline.h"
#include "viewer/view.h"
#include "viewer/views/profiles.h"
#include "viewer/views/timeline.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

// --- The timeline. Where it goes is in its state at once; what is drawn moves there.

enum { EASE_MS = 130 };

struct eased {
    struct timeline timeline;    // first: others take it for the state
    struct panels panels;        // beneath it
    struct trace_model *model;   // held
    struct kernel_model *kernel; // held; NULL: none
    struct timeline_window from, drawn, to, at_first;
    int64_t began_ms; // 0: nothing moves
};

static int open_timeline(void **state, struct document *d)
{
    struct eased *e = calloc(1, sizeof *e);
    if (!e)
        return -ENOMEM;
    if (timeline_init(&e->timeline, d->trace)) {
        timeline_finish(&e->timeline);
        free(e);
        return -ENOMEM;
    }
    trace_model_hold(e->model = d->trace);
    if (d->kernel) {
        kernel_model_hold(e->kernel = d->kernel);
        timeline_set_kernel(&e->timeline, e->kernel);
    }
    // What lies beyond the end is cut off: timeline_show would move it.
    double all = e->timeline.shown.end, end = d->shown.end_ns < all ? d->shown.end_ns : all;
    if (end > d->shown.begin_ns)
        timeline_show(&e->timeline, d->shown.begin_ns, end);
    e->from = e->drawn = e->to = e->at_first = e->timeline.shown;
    panels_init(&e->panels, d->trace);
    e->panels.context.kernel = e->kernel;
    e->panels.latency.in_range = end > d->shown.begin_ns; // of --range, if there is one
    e->panels.wake = d->wake;
    e->panels.wake_context = d->wake_context;
    if (d->instances) {
        panels_open(&e->panels, PANELS_LATENCY);
        panel_latency_choose(&e->panels.latency, d->trace, d->instances, d->are_tasks);
    }
    *state = e;
    return 0;
}

static bool same(struct timeline_window a, struct timeline_window b)
{
    return !(a.begin < b.begin) && !(b.begin < a.begin) && !(a.end < b.end) && !(b.end < a.end);
}

// Moves `drawn` on: fast at first, then slower. A new goal begins from where the picture is, so that
// a movement can be broken off at any time. What the mouse holds follows it at once.
static void ease(struct eased *e, struct ui *u)
{
    struct timeline *t = &e->timeline;
    if (!same(t->shown, e->to)) {
        e->from = e->drawn;
        e->to = t->shown;
        e->began_ms = t->drag == TIMELINE_PAN || t->drag == TIMELINE_OVERVIEW ? 0 : u->now_ms;
    }
    double part = e->began_ms && !u->at_once ? (double)(u->now_ms - e->began_ms) / EASE_MS : 1;
    if (part >= 1 || part < 0) {
        e->began_ms = 0;
        e->drawn = e->to;
        return;
    }
    double done = 1 - (1 - part) * (1 - part) * (1 - part);
    e->drawn.begin = e->from.begin + (e->to.begin - e->from.begin) * done;
    e->drawn.end = e->from.end + (e->to.end - e->from.end) * done;
    u->moves = true;
}

static bool is_pointing(const struct ui_event *ev)
{
    return ev->kind == UI_MOVE || ev->kind == UI_PRESS || ev->kind == UI_RELEASE;
}

static void frame_timeline(void *state, struct document *d, struct ui *u, struct rect r)
{
    struct eased *e = state;
    struct timeline *t = &e->timeline;
    t->range = (struct timeline_window){d->range.begin_ns, d->range.end_ns};
    // A key or the wheel meets the goal: two steps are twice one. The frame of an event is not shown.
    bool event = u->event.kind != UI_NONE || u->command;
    // The panels first: the keyboard may be theirs. Their figures are of where the picture goes.
    r = panels_beneath(&e->panels, t, u, r);
    if (!event)
        ease(e, u);
    // The mouse meets what was seen; a picture that it holds it has moved already, once it did.
    bool holds = t->drag == TIMELINE_PAN || t->drag == TIMELINE_OVERVIEW;
    bool points =
        u->now_ms && is_pointing(&u->event) && (!holds || (e->began_ms && same(t->shown, e->to)));
    const struct timeline_window goal = t->shown;
    if (!event || points)
        t->shown = e->drawn;
    t->goal = e->to;
    t->is_unseen = event && u->now_ms;
    if (r.h > 0)
        timeline_frame(t, u, r);
    if (!event || (points && same(t->shown, e->drawn)))
        t->shown = goal;
    u->again |= event && u->now_ms;
    d->range.begin_ns = t->range.begin;
    d->range.end_ns = t->range.end;
    d->failed |= t->failed || e->panels.failed;
}

static void finish(void *state)
{
    struct eased *e = state;
    struct trace_model *m = e->model;
    struct kernel_model *k = e->kernel;
    panels_finish(&e->panels);
    timeline_finish(&e->timeline);
    kernel_model_free(k);
    trace_model_free(m);
    free(e);
}

// A panel's thread may be reading the trace for seconds, which nobody waits for: all of it is then the thread's.
static void close_timeline(void *state)
{
    struct eased *e = state;
    if (e && !panels_leave(&e->panels, finish, e))
        finish(e);
}

// Regions or tasks whose latencies are looked at, by name: numbers are another model's.
static void carry_latency(struct eased *to, struct eased *from)
{
    struct panel_latency_choice c = panels_chosen(&from->panels);
    const char *name = trace_names_text(&from->timeline.model->spans->names, c.name);
    panel_latency_restore(&to->panels.latency, to->timeline.model, c.has ? name : "", &c);
}

static void carry_timeline(void *to, void *from)
{
    struct eased *e = to, *old = from;
    timeline_carry(&e->timeline, &old->timeline, old->at_first);
    e->from = e->drawn = e->to = e->timeline.shown;
    if (old->panels.open != e->panels.open)
        panels_open(&e->panels, (enum panel)old->panels.open);
    carry_latency(e, old);
    e->panels.share = old->panels.share;
    e->panels.context.has_keys = old->panels.context.has_keys;
    e->panels.context.part = old->panels.context.part;
}

static int marks(const void *state, struct palette_entry *out, int most)
{
    return timeline_mark_entries(&((const struct eased *)state)->timeline, out, most);
}

static const struct view view_timeline = {
    .id = "timeline",
    .name = "Timeline",
    .digit = 1,
    .shows = VIEW_TRACE,
    .contexts = CONTEXT_TIMELINE | CONTEXT_PANEL,
    .open = open_timeline,
    .frame = frame_timeline,
    .close = close_timeline,
    .carry = carry_timeline,
    .entries = marks,
};

// The same with a panel open, for pictures: other shapes of it, without tabs.

static int open_panel(void **state, struct document *d, enum panel which)
{
    int rc = open_timeline(state, d);
    if (!rc)
        panels_open(&((struct eased *)*state)->panels, which);
    return rc;
}

#define PANEL_VIEW(word, which)                                                                    \
    static int open_##word(void **state, struct document *d)                                       \
    {                                                                                              \
        return open_panel(state, d, which);                                                        \
    }                                                                                              \
    static const struct view view_##word = {                                                       \
        .id = #word,                                                                               \
        .shows = VIEW_TRACE,                                                                       \
        .contexts = CONTEXT_TIMELINE | CONTEXT_PANEL,                                              \
        .open = open_##word,                                                                       \
        .frame = frame_timeline,                                                                   \
        .close = close_timeline,                                                                   \
        .carry = carry_timeline,                                                                   \
        .entries = marks,                                                                          \
    }

PANEL_VIEW(stacks, PANELS_FLAME);
PANEL_VIEW(statistics, PANELS_STATISTICS);
PANEL_VIEW(fibers, PANELS_FIBERS);
PANEL_VIEW(critical, PANELS_CRITICAL);
PANEL_VIEW(explain, PANELS_EXPLAIN);
PANEL_VIEW(latency, PANELS_LATENCY);

// --- All of them: in the order of tabs. The first that shows a document is how it opens.

const struct view *const views[] = {
    &view_timeline, &view_icicle, &view_flame,      &view_sandwich, &view_top,      &view_tree,
    &view_source,   &view_stacks, &view_statistics, &view_fibers,   &view_critical, &view_explain,
    &view_latency,  NULL,
};

int view_find(const char *id)
{
    for (int i = 0; views[i]; i++)
        if (!strcmp(views[i]->id, id))
            return i;
    return -1;
}
