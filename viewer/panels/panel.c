// SPDX-License-Identifier: MIT
//
// See panel.h.

#include "viewer/panels/panel.h"

#include "viewer/state_color.h"
#include "viewer/ui/font.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

const char *panel_at(char *text, const struct trace_model *m, int64_t ns)
{
    snprintf(text, PANEL_CELL_MAX, "%.6fs", (double)(ns - m->begin_ns) / 1e9);
    return text;
}

const char *panel_share(char *text, double part, double whole)
{
    if (whole > 0)
        snprintf(text, PANEL_CELL_MAX, "%.1f%%", 100 * part / whole);
    else
        snprintf(text, PANEL_CELL_MAX, "-");
    return text;
}

const char *panel_function(const struct trace_model *m, uint32_t name)
{
    const char *text = trace_names_text(&m->spans->names, name);
    return *text ? text : "(unknown)";
}

const char *panel_fiber(char *text, const struct trace_model *m, uint32_t lane)
{
    if (lane == TRACE_NO_LANE)
        return strcpy(text, "-");
    const struct trace_lane *l = &m->spans->lanes[lane];
    snprintf(text, PANEL_CELL_MAX, "%.400s %" PRId64, panel_function(m, l->name), l->id);
    return text;
}

void panel_take_part(struct panel_context *c, const struct ui *u, struct rect r, uint8_t part)
{
    if (u->event.kind == UI_PRESS && ui_inside(u, r))
        c->part = part;
}

struct rect panel_title(struct ui *u, struct rect r, const char *title, bool has_keys)
{
    int height = panel_row_height(u);
    struct rect top = {r.x, r.y, r.w, height < r.h ? height : r.h};
    draw_rect(u->list, top, u->theme.panel);
    draw_rect(u->list, rect_make(top.x, top.y + top.h - 1, top.w, 1), u->theme.border);
    if (has_keys)
        draw_rect(u->list, rect_make(top.x, top.y + top.h - 1, top.w, 1), u->theme.accent);
    ui_label(u, rect_make(top.x + u->pad, top.y, top.w - 2 * u->pad, top.h),
             has_keys ? u->theme.text : u->theme.dim, title);
    return rect_make(r.x, r.y + top.h, r.w, r.h - top.h);
}

uint32_t panel_state_color(const struct ui *u, enum panel_state state)
{
    switch (state) {
    case PANEL_RUNNING: return u->theme.running;
    case PANEL_RUNNABLE: return u->theme.runnable;
    case PANEL_SYSCALL: return u->theme.syscall;
    default: return u->theme.waiting;
    }
}

uint32_t panel_part_color(const struct ui *u, enum trace_part part)
{
    static const uint8_t states[TRACE_PARTS] = {
        [TRACE_PART_RUNNING] = TRACE_STATE_RUNNING, [TRACE_PART_RUNNABLE] = TRACE_STATE_RUNNABLE,
        [TRACE_PART_SYSCALL] = TRACE_STATE_SYSCALL, [TRACE_PART_LOCK] = TRACE_STATE_LOCK,
        [TRACE_PART_CHANNEL] = TRACE_STATE_CHANNEL, [TRACE_PART_IO] = TRACE_STATE_NETWORK,
        [TRACE_PART_SLEEP] = TRACE_STATE_SLEEP,     [TRACE_PART_OTHER] = TRACE_STATE_OTHER,
        [TRACE_PART_UNKNOWN] = TRACE_STATE_OTHER};
    return state_color(&u->theme, states[part]);
}

struct panel_bar panel_bar_begin(struct ui *u, struct rect r, int64_t whole)
{
    draw_rect(u->list, r, u->theme.panel);
    return (struct panel_bar){.all = r, .whole = whole, .x = r.x};
}

void panel_bar_part(struct panel_bar *b, struct ui *u, uint32_t color, int64_t ns)
{
    b->used += ns;
    if (b->whole <= 0)
        return;
    double part = (double)b->used / (double)b->whole;
    int right = b->all.x + (int)((part < 1 ? part : 1) * b->all.w + 0.5);
    if (right > b->x)
        draw_rect(u->list, rect_make(b->x, b->all.y, right - b->x, b->all.h), color);
    b->x = right > b->x ? right : b->x;
}

int panel_stack(struct ui *u, const struct trace_model *m, struct rect r, uint32_t stack,
                uint32_t first)
{
    const struct trace_names *n = &m->spans->names;
    const struct trace_stack *s = trace_stacks_get(&m->spans->stacks, stack);
    int height = font_height(u->font) + 2, y = 0;
    for (uint32_t i = first; i < s->count && y + height <= r.h; i++, y += height) {
        char text[512];
        const struct trace_frame *f = &s->frames[i];
        const char *file = trace_names_text(n, f->file), *slash = strrchr(file, '/');
        snprintf(text, sizeof text, *file ? "%.300s  %.100s:%" PRIu64 : "%.300s",
                 panel_function(m, f->function), slash ? slash + 1 : file, f->line);
        ui_label(u, rect_make(r.x, r.y + y, r.w, height), i > first ? u->theme.dim : u->theme.text,
                 text);
    }
    if (s->count <= first && height <= r.h) {
        ui_label(u, rect_make(r.x, r.y, r.w, height), u->theme.dim, "(no stack)");
        y += height;
    }
    return y;
}
