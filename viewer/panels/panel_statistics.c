// SPDX-License-Identifier: MIT
//
// The statistics of a range. See panel_sums.h.

#include "viewer/panels/panel_sums.h"

#include "viewer/state_color.h"
#include "viewer/ui/font.h"
#include "viewer/views/kernel_color.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { LOST_BY = 5 };

// A label above a large figure. Returns where the next one goes.
static int fact(struct ui *u, int x, struct rect r, const char *label, const char *value)
{
    int w = font_width(u->font, label, SIZE_MAX), v = font_width(u->font, value, SIZE_MAX);
    w = (w > v ? w : v) + 1;
    if (x + w > r.x + r.w)
        return x;
    ui_label(u, rect_make(x, r.y, w, r.h / 2), u->theme.dim, label);
    ui_label(u, rect_make(x, r.y + r.h / 2, w, r.h / 2), u->theme.text, value);
    return x + w + 4 * u->pad;
}

static void draw_facts(const struct panel_sums *x, struct ui *u, struct rect r)
{
    const struct trace_portion *p = &x->portion;
    char text[PANEL_CELL_MAX], share[PANEL_CELL_MAX];
    int at = fact(u, r.x, r, "length", panel_ns(text, p->end_ns - p->begin_ns));
    if (p->procs) {
        snprintf(text, sizeof text, "%.20s (GOMAXPROCS %" PRIu64 ")",
                 panel_share(share, trace_portion_utilisation(p), 1), p->procs);
        at = fact(u, at, r, "fibers ran", text);
    }
    snprintf(text, sizeof text, "%" PRIu64, p->fibers);
    at = fact(u, at, r, "fibers", text);
    snprintf(text, sizeof text, "%" PRIu64, p->alive);
    at = fact(u, at, r, "alive at the end", text);
    fact(u, at, r, "their lives", panel_ns(text, p->totals.total_ns));
}

// A state: its colour, name, time, share of all fibers' lives.
static void draw_state(struct ui *u, struct rect r, uint32_t color, bool is_part, const char *name,
                       int64_t ns, int64_t whole)
{
    char text[PANEL_CELL_MAX];
    int box = font_ascent(u->font) - 2, share = font_width(u->font, "100.0%", SIZE_MAX);
    int left = is_part ? box + u->pad : 0;
    draw_rect(u->list, rect_make(r.x + left, r.y + (r.h - box) / 2, box, box), color);
    left += box + u->pad;
    int time = font_width(u->font, "0000.00ms", SIZE_MAX) + u->pad;
    ui_label(u, rect_make(r.x + left, r.y, r.w - left - share - time - 2 * u->pad, r.h),
             is_part ? u->theme.dim : u->theme.text, name);
    panel_figure(u, rect_make(r.x, r.y, r.w - share - 2 * u->pad, r.h),
                 is_part ? u->theme.dim : u->theme.text, panel_ns(text, ns));
    panel_figure(u, r, is_part ? u->theme.dim : u->theme.text,
                 panel_share(text, (double)ns, (double)whole));
}

// Waits by what is waited for, as on the lanes.
static void draw_bar(const struct trace_times *t, const struct trace_model *m, struct ui *u,
                     struct rect r, const int64_t ns[PANEL_STATES])
{
    struct panel_bar bar = panel_bar_begin(u, r, t->total_ns);
    int64_t rest_ns = ns[PANEL_BLOCKED];
    for (int i = 0; i < PANEL_BLOCKED; i++)
        panel_bar_part(&bar, u, panel_state_color(u, (enum panel_state)i), ns[i]);
    for (uint32_t i = 0; i < t->wait_count; i++) {
        const char *reason = trace_names_text(&m->spans->names, t->waits[i].reason);
        panel_bar_part(&bar, u, state_color(&u->theme, trace_model_wait(reason)), t->waits[i].ns);
        rest_ns -= t->waits[i].ns;
    }
    panel_bar_part(&bar, u, panel_state_color(u, PANEL_BLOCKED), rest_ns > 0 ? rest_ns : 0);
}

static void draw_states(const struct panel_sums *x, const struct panel_context *c, struct ui *u,
                        struct rect r)
{
    static const char *const names[] = {"running", "runnable", "in system calls", "blocked"};
    const struct trace_times *t = &x->portion.totals;
    const int64_t ns[PANEL_STATES] = {t->running_ns, t->runnable_ns,
                                      t->syscall_ns + t->syscall_blocked_ns, t->blocked_ns};
    int row = panel_row_height(u), bar = u->line;
    draw_bar(t, c->model, u, rect_make(r.x, r.y, r.w, bar), ns);
    int y = r.y + bar + u->pad / 2, end = r.y + r.h;
    for (int i = 0; i < PANEL_STATES && y + row <= end; i++, y += row)
        draw_state(u, rect_make(r.x, y, r.w, row), panel_state_color(u, (enum panel_state)i), false,
                   names[i], ns[i], t->total_ns);
    for (uint32_t i = 0; i < t->wait_count && y + row <= end; i++, y += row) {
        const char *reason = trace_names_text(&c->model->spans->names, t->waits[i].reason);
        if (!t->waits[i].ns)
            break;
        draw_state(u, rect_make(r.x, y, r.w, row), state_color(&u->theme, trace_model_wait(reason)),
                   true, *reason ? reason : "(no reason)", t->waits[i].ns, t->total_ns);
    }
}

// Fibers with a bar for the time of each.
static void draw_top(const struct panel_sums *x, const struct panel_context *c, struct ui *u,
                     struct rect r, const char *title, enum panel_state state)
{
    const struct trace_portion *p = &x->portion;
    const struct trace_portion_fiber *top = state == PANEL_RUNNING ? p->running : p->blocked;
    uint32_t count = state == PANEL_RUNNING ? p->running_count : p->blocked_count;
    int row = panel_row_height(u), figure = font_width(u->font, "0000.00ms", SIZE_MAX);
    char text[PANEL_CELL_MAX];
    r = panel_title(u, r, title, false);
    draw_clip_push(u->list, r);
    for (uint32_t i = 0; i < count && (int)(i + 1) * row <= r.h; i++) {
        struct rect at = {r.x, r.y + (int)i * row, r.w, row};
        int wide = top[0].ns ? (int)((double)top[i].ns / (double)top[0].ns * at.w + 0.5) : 0;
        uint32_t color = theme_mix(u->theme.ground, panel_state_color(u, state),
                                   state == PANEL_BLOCKED ? 0.55
                                   : u->theme.dark        ? 0.30
                                                          : 0.45);
        draw_rect(u->list, rect_make(at.x, at.y + 2, wide, at.h - 3), color);
        struct rect in = {at.x + u->pad, at.y, at.w - 2 * u->pad, at.h};
        panel_figure(u, in, u->theme.text, panel_ns(text, top[i].ns));
        ui_label(u, rect_make(in.x, in.y, in.w - figure - u->pad, in.h), u->theme.text,
                 panel_fiber(text, c->model, top[i].lane));
    }
    if (!count)
        ui_label(u, rect_make(r.x + u->pad, r.y, r.w - 2 * u->pad, row), u->theme.dim, "none");
    draw_clip_pop(u->list);
}

// What the kernel took of the time in which fibers had threads, and who had the CPU instead.
static void draw_lost(const struct panel_sums *x, struct ui *u, struct rect r)
{
    static const uint8_t order[] = {KERNEL_DELAYED, KERNEL_IN_FAULT, KERNEL_IN_CALL, KERNEL_ASLEEP};
    const struct kernel_times *t = &x->lost;
    char text[PANEL_CELL_MAX], ns[PANEL_CELL_MAX];
    int row = panel_row_height(u), bar = u->line;
    snprintf(text, sizeof text, "lost to the kernel, of %.40s that fibers had threads",
             panel_ns(ns, t->had_ns));
    r = panel_title(u, r, text, false);
    struct panel_bar b = panel_bar_begin(u, rect_make(r.x, r.y, r.w, bar), t->had_ns);
    for (size_t i = 0; i < sizeof order; i++)
        panel_bar_part(&b, u, kernel_color(u, order[i]), t->ns[order[i]]);
    int y = r.y + bar + u->pad / 2, end = r.y + r.h;
    for (size_t i = 0; i < sizeof order && y + row <= end; i++) {
        uint32_t color = kernel_color(u, order[i]);
        snprintf(text, sizeof text, "%s, %" PRIu64 " time%s", kernel_lost_name(order[i]),
                 t->count[order[i]], t->count[order[i]] == 1 ? "" : "s");
        draw_state(u, rect_make(r.x, y, r.w, row), color, false, text, t->ns[order[i]], t->had_ns);
        y += row;
        for (uint32_t k = 0;
             order[i] == KERNEL_DELAYED && k < t->by_count && k < LOST_BY && y + row <= end;
             k++, y += row)
            draw_state(u, rect_make(r.x, y, r.w, row), color, true, t->by[k].name, t->by[k].ns,
                       t->had_ns);
    }
    if (t->unknown_ns && y + row <= end)
        draw_state(u, rect_make(r.x, y, r.w, row), u->theme.hover, false,
                   "not known: not in the kernel trace", t->unknown_ns, t->had_ns);
}

void panel_statistics_frame(struct panel_sums *x, const struct panel_context *c, struct ui *u,
                            struct rect r)
{
    int gap = 2 * u->pad, columns = c->kernel ? 4 : 3,
        third = (r.w - (columns + 1) * gap) / columns;
    if (!x->has) {
        ui_label(u, rect_make(r.x + u->pad, r.y, r.w - 2 * u->pad, u->line), u->theme.dim,
                 "adding up");
        return;
    }
    bool narrow = third < 30 * font_width(u->font, "0", 1);
    struct rect left = {r.x + gap, r.y + u->pad / 2, narrow ? r.w - 2 * gap : third, r.h - u->pad};
    int facts = 2 * panel_row_height(u);
    draw_clip_push(u->list, r);
    draw_facts(x, u, rect_make(left.x, left.y, narrow ? left.w : left.w + gap, facts));
    draw_states(
        x, c, u,
        rect_make(left.x, left.y + facts + u->pad / 2, left.w, left.h - facts - u->pad / 2));
    struct rect top = {left.x + third + gap, r.y, third, r.h};
    if (!narrow && c->kernel) {
        draw_lost(x, u, top);
        top.x += third + gap;
    }
    if (!narrow) {
        draw_top(x, c, u, top, "fibers that ran longest", PANEL_RUNNING);
        top.x += third + gap;
        draw_top(x, c, u, top, "fibers that were blocked longest", PANEL_BLOCKED);
    }
    draw_clip_pop(u->list);
}
