// SPDX-License-Identifier: MIT
//
// Marks in time, and the whole trace at the top with what is shown of it.

#include "viewer/views/timeline_internal.h"

#include "viewer/palette.h"
#include "viewer/ui/font.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

// --- Marks.

void timeline_mark(struct timeline *t, double at)
{
    struct timeline_window w = {at, at};
    if (t->range.end > t->range.begin)
        w = t->range;
    else
        timeline_chosen(t, &w.begin, &w.end);
    for (int i = 0; i < t->mark_count; i++)
        if (t->marks[i].begin == w.begin && t->marks[i].end == w.end) { // again: takes it away
            memmove(t->marks + i, t->marks + i + 1,
                    (size_t)(--t->mark_count - i) * sizeof t->marks[0]);
            t->mark_at = 0;
            return;
        }
    if (t->mark_count < TIMELINE_MARKS) {
        t->marks[t->mark_count++] = w;
        t->mark_at = t->mark_count - 1;
    }
}

static void show_mark(struct timeline *t, int i)
{
    struct timeline_window w = t->marks[i];
    double length = t->shown.end - t->shown.begin, middle = (w.begin + w.end) / 2;
    t->mark_at = i;
    timeline_keep(t);
    if (w.end - w.begin > length) // it does not fit
        length = (w.end - w.begin) * 1.2;
    t->shown = timeline_fit(t, middle - length / 2, middle + length / 2);
    t->range = w.end > w.begin ? w : (struct timeline_window){0};
}

void timeline_next_mark(struct timeline *t)
{
    if (t->mark_count)
        show_mark(t, (t->mark_at + 1) % t->mark_count);
}

void timeline_to_mark(struct timeline *t, int i)
{
    if (i < t->mark_count)
        show_mark(t, i);
}

int timeline_mark_entries(const struct timeline *t, struct palette_entry *out, int most)
{
    char from[TIMELINE_NS_MAX], length[TIMELINE_NS_MAX];
    int n = t->mark_count < most ? t->mark_count : most;
    for (int i = 0; i < n; i++) {
        struct timeline_window w = t->marks[i];
        double ns = w.end - w.begin;
        timeline_at(from, w.begin, ns > 0 ? ns / 100 : (t->shown.end - t->shown.begin) / 1000);
        out[i].id = (uint16_t)(COMMAND_TO_MARK_A + i);
        if (ns > 0)
            snprintf(out[i].name, sizeof out[i].name, "Mark %c: %s, %s long", 'A' + i, from,
                     timeline_ns(length, ns));
        else
            snprintf(out[i].name, sizeof out[i].name, "Mark %c: at %s", 'A' + i, from);
    }
    return n;
}

void timeline_draw_marks(struct timeline *t, struct ui *u, struct rect r)
{
    draw_clip_push(u->list, r);
    for (int i = 0; i < t->mark_count; i++) {
        char name[2] = {(char)('A' + i), 0};
        int x = timeline_x(t, t->marks[i].begin), right = timeline_x(t, t->marks[i].end);
        struct rect flag = {x, r.y + 1, u->line - 4, u->line - 4};
        if (x < r.x + r.w && flag.x + flag.w > r.x + r.w) // at the edge it stands before its line
            flag.x = x + 1 - flag.w;
        uint32_t color = u->theme.series[i % THEME_SERIES];
        draw_rect(u->list, rect_make(x, r.y, 1, r.h), color);
        if (right > x) {
            draw_rect(u->list, rect_make(right, r.y, 1, r.h), color);
            draw_rect(u->list, rect_make(x, r.y, right - x, 2), color);
        }
        draw_rect(u->list, flag, color);
        int w = font_width(u->font, name, 1);
        ui_label(u, rect_make(flag.x + (flag.w - w) / 2, flag.y, flag.w, flag.h), u->theme.ink,
                 name);
        if (ui_hit(u, ui_id("timeline mark", (uint64_t)i), flag) & UI_CLICKED) {
            show_mark(t, i);
            u->again = true;
        }
    }
    draw_clip_pop(u->list);
}

// --- The minimap.

// How many lanes ran in each pixel of the whole trace; it changes only with the width.
static void overview(struct timeline *t, int width)
{
    if (t->overview_width == width)
        return;
    t->overview_width = width;
    double whole = (double)(t->model->end_ns - t->model->begin_ns) / width * t->model->lane_count;
    bool is_known = timeline_pixels_busy(t, width, t->busy_ns);
    if (!is_known)
        memset(t->busy_ns, 0, (size_t)width * sizeof *t->busy_ns);
    for (uint32_t i = 0; i < t->model->lane_count && !is_known; i++) {
        lod_columns(&t->model->lanes[i].lod, t->model->begin_ns, t->model->end_ns, (uint32_t)width,
                    t->columns);
        for (int x = 0; x < width; x++)
            t->busy_ns[x] += t->columns[x].busy_ns;
    }
    for (int x = 0; x < width; x++) {
        double part = whole > 0 ? (double)t->busy_ns[x] / whole : 0;
        long height = lround(255 * (part > 1 ? 1 : part));
        t->overview[x] = (uint8_t)(t->busy_ns[x] && !height ? 1 : height);
    }
}

void timeline_minimap(struct timeline *t, struct ui *u, struct rect r)
{
    const struct theme *c = &u->theme;
    double all = (double)(t->model->end_ns - t->model->begin_ns);
    struct rect in = {t->lanes.x, r.y, t->lanes.w, r.h - 1};
    char text[TIMELINE_NS_MAX];
    overview(t, in.w);
    draw_rect(u->list, r, c->panel);
    draw_rect(u->list, in, c->ground);
    uint32_t color = theme_mix(c->ground, c->dim, 0.6);
    for (int x = 0; x < in.w; x++)
        t->colors[x] = t->overview[x] ? color : 0;
    draw_strip(u->list, in, t->colors, t->overview);
    int x = in.x + (int)floor(t->shown.begin / all * in.w);
    int right = in.x + (int)ceil(t->shown.end / all * in.w);
    right = right < x + 3 ? x + 3 : right;
    // What is not shown is veiled, what is shown has a frame.
    uint32_t veil = (c->panel & 0xffffff) | 0xb0000000;
    draw_rect(u->list, rect_make(in.x, in.y, x - in.x, in.h), veil);
    draw_rect(u->list, rect_make(right, in.y, in.x + in.w - right, in.h), veil);
    draw_frame(u->list, rect_make(x, in.y, right - x, in.h), 1, c->accent);
    for (int i = 0; i < t->mark_count; i++)
        draw_rect(u->list, rect_make(in.x + (int)(t->marks[i].begin / all * in.w), in.y, 1, in.h),
                  c->series[i % THEME_SERIES]);
    draw_rect(u->list, rect_make(r.x, r.y + r.h - 1, r.w, 1), c->border);
    ui_label(u, rect_make(r.x + u->pad, r.y, in.x - r.x - 2 * u->pad, r.h), c->dim,
             timeline_ns(text, all));
    bool moves = u->event.kind == UI_MOVE;
    unsigned hit = ui_hit(u, ui_id("timeline minimap", 0), in);
    if (!(hit & UI_PRESSED || (moves && hit & UI_HELD)))
        return;
    // The middle of what is shown follows the mouse.
    double at = (double)(u->mouse_x - in.x) / in.w * all, length = t->shown.end - t->shown.begin;
    if (hit & UI_PRESSED)
        timeline_keep(t);
    t->drag = TIMELINE_OVERVIEW;
    t->shown = timeline_fit(t, at - length / 2, at + length / 2);
    u->again = true;
}
