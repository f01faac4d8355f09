// SPDX-License-Identifier: MIT
//
// See panels.h.

#include "viewer/panels/panels.h"

#include "viewer/bindings.h"
#include "viewer/ui/font.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const titles[PANELS_COUNT] = {
    "timeline", "flame graph", "statistics", "fibers", "critical path", "explain", "latencies"};

static const double SHARE = 0.42, SHARE_LEAST = 0.15, SHARE_MOST = 0.8;

void panels_init(struct panels *p, const struct trace_model *m)
{
    *p =
        (struct panels){.model = m, .share = SHARE, .heavy = PANELS_HEAVY, .context = {.model = m}};
    p->context.begin_ns = m->begin_ns;
    p->context.end_ns = m->end_ns;
    panel_sums_init(&p->sums);
    panel_latency_init(&p->latency);
    panel_explain_init(&p->explain);
    panel_critical_init(&p->critical);
    panel_flame_init(&p->flame, m);
}

void panels_finish(struct panels *p)
{
    panels_wait(p);
    panel_sums_finish(&p->sums);
    panel_latency_finish(&p->latency);
    panel_explain_finish(&p->explain);
    panel_critical_finish(&p->critical);
    panel_flame_finish(&p->flame);
    *p = (struct panels){0};
}

void panels_open(struct panels *p, enum panel which)
{
    static const uint8_t first[PANELS_COUNT] = {
        [PANELS_LATENCY] = PANEL_SPANS, [PANELS_EXPLAIN] = 1};
    p->open = (uint8_t)which;
    p->context.has_keys = which != PANELS_NONE;
    p->context.part = first[which];
    p->failed = false;
}

int panels_height(const struct panels *p, const struct ui *u, int height)
{
    int bar = u->line + 2, all = p->open ? (int)(height * p->share) : bar;
    return all < bar ? bar < height ? bar : height : all;
}

// --- The bar.

// Whether the open panel is of all of the trace, whatever is chosen.
static bool is_of_all(const struct panels *p)
{
    return (p->open == PANELS_EXPLAIN || p->open == PANELS_LATENCY) && !p->latency.in_range;
}

// What the figures are of; a moment with the digits that tell the range's ends apart.
static void range_text(const struct panels *p, char text[PANEL_CELL_MAX])
{
    char length[PANEL_CELL_MAX];
    const struct panel_context *c = &p->context;
    if (is_of_all(p)) {
        snprintf(text, PANEL_CELL_MAX, "all of the trace (R: %s)",
                 c->is_chosen ? "the range" : "what is shown");
        return;
    }
    double from = (double)(c->begin_ns - p->model->begin_ns) / 1e9;
    double to = (double)(c->end_ns - p->model->begin_ns) / 1e9;
    double digits = to > from ? 3 - floor(log10(to - from)) : 3;
    int n = digits < 0 ? 0 : digits > 9 ? 9 : (int)digits;
    snprintf(text, PANEL_CELL_MAX, "%s %.*fs \xe2\x80\x93 %.*fs (%.60s)",
             c->is_chosen ? "range" : "shown", n, from, n, to,
             panel_ns(length, c->end_ns - c->begin_ns));
}

// Drags the upper edge.
static void size_by_mouse(struct panels *p, struct ui *u, struct rect bar, int bottom, int whole)
{
    unsigned hit = ui_hit(u, ui_id("panels edge", 0), bar);
    if (hit & UI_PRESSED)
        p->drag_y = u->mouse_y - bar.y;
    if (!(hit & UI_HELD) || !p->open || whole < 1)
        return;
    double share = (double)(bottom - (u->mouse_y - p->drag_y)) / whole;
    share = share < SHARE_LEAST ? SHARE_LEAST : share > SHARE_MOST ? SHARE_MOST : share;
    u->again |= fabs(share - p->share) * whole >= 1;
    p->share = share;
}

static void bar(struct panels *p, struct ui *u, struct rect r)
{
    char text[PANEL_CELL_MAX];
    int x = r.x;
    draw_rect(u->list, r, u->theme.panel);
    draw_rect(u->list, rect_make(r.x, r.y, r.w, 1), u->theme.border);
    for (int i = 0; i < PANELS_COUNT; i++) {
        int w = ui_button_width(u, titles[i]);
        if (ui_button(u, ui_id("panel", (uint64_t)i), rect_make(x, r.y + 1, w, r.h - 1), titles[i],
                      i == p->open)) {
            panels_open(p, (enum panel)i);
            u->again = true;
        }
        x += w;
    }
    range_text(p, text);
    ui_label_right(u, rect_make(x + u->pad, r.y, r.x + r.w - x - 2 * u->pad, r.h),
                   p->context.is_chosen && !is_of_all(p) ? u->theme.accent : u->theme.dim,
                   p->open ? text : "");
}

// --- Frames.

static int parts_of(uint8_t open)
{
    return open == PANELS_LATENCY ? PANEL_LATENCY_PARTS : open == PANELS_EXPLAIN ? 2 : 1;
}

static void keys(struct panels *p, struct ui *u)
{
    struct panel_context *c = &p->context;
    uint8_t was = p->open;
    if (u->event.kind != UI_KEY && !u->command)
        return;
    for (int i = PANELS_FLAME; i < PANELS_COUNT; i++)
        if (command_given(u, (enum command_id)(COMMAND_PANEL_FLAME + i - PANELS_FLAME)))
            panels_open(p, i == was ? PANELS_NONE : (enum panel)i);
    // 1 to 7 are the bar from left to right; without a panel 1 is the program's.
    if (command_given(u, COMMAND_PANEL_NONE) || (p->open && command_given(u, COMMAND_VIEW_1)))
        panels_open(p, PANELS_NONE);
    u->again |= p->open != was;
    if (!p->open || !command_given(u, COMMAND_PANEL_KEYS))
        return;
    u->again = true;
    if (!c->has_keys) {
        c->has_keys = true;
        c->part = 0;
    } else if (++c->part >= parts_of(p->open)) {
        c->has_keys = false;
        c->part = 0;
    }
}

static void draw_open(struct panels *p, struct ui *u, struct rect r)
{
    struct panel_context *c = &p->context;
    if (panels_are_busy(p)) { // the facts are the thread's
        ui_label(u, rect_make(r.x + u->pad, r.y, r.w, u->line), u->theme.dim, "adding up");
        return;
    }
    if (p->failed) {
        ui_label(u, rect_make(r.x + u->pad, r.y, r.w, u->line), u->theme.bad, "out of memory");
        return;
    }
    switch (p->open) {
    case PANELS_FLAME: panel_flame_frame(&p->flame, c, u, r); break;
    case PANELS_STATISTICS: panel_statistics_frame(&p->sums, c, u, r); break;
    case PANELS_FIBERS: panel_fibers_frame(&p->sums, c, u, r); break;
    case PANELS_CRITICAL: panel_critical_frame(&p->critical, c, u, r, &p->goal); break;
    case PANELS_EXPLAIN: panel_explain_frame(&p->explain, c, &p->latency, u, r); break;
    case PANELS_LATENCY: panel_latency_frame(&p->latency, c, u, r, &p->goal); break;
    default: break;
    }
}

void panels_ask(struct panels *p, double begin_ns, double end_ns, bool is_chosen)
{
    struct panel_context *c = &p->context;
    c->begin_ns = p->model->begin_ns + llround(begin_ns);
    c->end_ns = p->model->begin_ns + llround(end_ns);
    c->is_chosen = is_chosen;
}

void panels_frame(struct panels *p, struct ui *u, struct rect r)
{
    struct panel_context *c = &p->context;
    struct rect top = {r.x, r.y, r.w, u->line + 2 < r.h ? u->line + 2 : r.h};
    struct rect body = {r.x, r.y + top.h, r.w, r.h - top.h};
    if (u->event.kind == UI_PRESS) // is looked at, not used up
        c->has_keys = p->open && ui_inside(u, body);
    draw_rect(u->list, body, u->theme.ground);
    draw_clip_push(u->list, r);
    keys(p, u);
    bar(p, u, top);
    if (p->open && body.h > 0 && body.w > 0)
        draw_open(p, u, body);
    if (p->open && c->has_keys && ui_key(u, UI_KEY_ESCAPE, 0)) {
        c->has_keys = false; // a second one is the timeline's
        u->again = true;
    }
    size_by_mouse(p, u, top, r.y + r.h, p->share > 0 ? (int)((double)r.h / p->share + 0.5) : 0);
    draw_clip_pop(u->list);
    if (p->goal.wanted)
        p->critical.of = p->goal;
    u->again |= panels_ready(p, u) || p->goal.wanted;
}
