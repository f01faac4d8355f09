// SPDX-License-Identifier: MIT
//
// See panels_timeline.h.

#include "viewer/panels/panels_timeline.h"

// Chooses the fiber's span where it begins, shows it all with some air, and makes it the range.
static void go(struct timeline *t, const struct panel_goal *g)
{
    const struct trace_spans *s = t->model->spans;
    if (g->lane != TRACE_NO_LANE)
        timeline_choose(t, trace_spans_before(s, g->lane, g->begin_ns + 1), g->lane);
    double begin = (double)(g->begin_ns - t->model->begin_ns);
    double end = (double)(g->end_ns - t->model->begin_ns), air = (end - begin) / 8;
    timeline_show(t, begin - air, end + air);
    t->range = (struct timeline_window){begin, end};
}

struct rect panels_beneath(struct panels *p, struct timeline *t, struct ui *u, struct rect r)
{
    bool is_chosen = t->range.end > t->range.begin;
    const struct timeline_window *w = is_chosen ? &t->range : &t->shown;
    int below = panels_height(p, u, r.h);
    t->is_brief = p->open;
    panels_ask(p, w->begin, w->end, is_chosen);
    if (u->at_once)
        panels_settle(p);
    if (u->event.kind == UI_NONE && panels_ready(p, u))
        panels_work(p);
    if (u->at_once)
        panels_settle(p);
    panels_frame(p, u, rect_make(r.x, r.y + r.h - below, r.w, below));
    if (p->goal.wanted)
        go(t, &p->goal);
    p->goal.wanted = false;
    return rect_make(r.x, r.y, r.w, r.h - below);
}
