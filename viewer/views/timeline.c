// SPDX-License-Identifier: MIT
//
// Drawing the timeline's lanes. See timeline.h.

#include "viewer/views/timeline_internal.h"

#include "viewer/ui/font.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    BOX_LEAST = 5,    // pixels from which a span is a box of its own
    CALL_EIGHTHS = 5, // of the height that system calls have
    DETAIL_ROWS = 8,
    NAME_LETTERS = 12,
};

void timeline_init(struct timeline *t, const struct trace_model *m)
{
    *t = (struct timeline){.model = m, .lane = UINT32_MAX, .hot_fiber = UINT32_MAX};
    t->shown.end = (double)(m->end_ns - m->begin_ns);
}

void timeline_finish(struct timeline *t)
{
    free(t->columns);
    free(t->colors);
    free(t->heights);
    free(t->busy_ns);
    *t = (struct timeline){0};
}

// Memory for columns; false if there is none.
static bool widen(struct timeline *t, int width)
{
    if (width <= t->width)
        return true;
    size_t n = (size_t)width;
    struct lod_column *columns = reallocarray(t->columns, n, sizeof *columns);
    t->columns = columns ? columns : t->columns;
    uint32_t *colors = reallocarray(t->colors, n, sizeof *colors);
    t->colors = colors ? colors : t->colors;
    uint8_t *heights = realloc(t->heights, n);
    t->heights = heights ? heights : t->heights;
    int64_t *busy = reallocarray(t->busy_ns, n, sizeof *busy);
    t->busy_ns = busy ? busy : t->busy_ns;
    if (!columns || !colors || !heights || !busy)
        return false;
    t->width = width;
    return true;
}

uint32_t timeline_color(const struct ui *u, int class)
{
    if (class == TRACE_MODEL_SYSCALL)
        return u->theme.syscall;
    return class < TRACE_MODEL_NAMED ? u->theme.series[class] : u->theme.others;
}

int timeline_x(const struct timeline *t, double ns)
{
    double x = (ns - t->shown.begin) / (t->shown.end - t->shown.begin) * t->lanes.w;
    x = x < -1e6 ? -1e6 : x > 1e6 ? 1e6 : x;
    return t->lanes.x + (int)floor(x + 1e-6); // a whole pixel is not to fall short of itself
}

double timeline_time(const struct timeline *t, int x)
{
    double part = t->lanes.w > 0 ? (double)(x - t->lanes.x) / t->lanes.w : 0;
    return t->shown.begin + part * (t->shown.end - t->shown.begin);
}

static void columns_of(struct timeline *t, const struct lod *l)
{
    int64_t base = t->model->begin_ns;
    int64_t begin = base + llround(t->shown.begin), end = base + llround(t->shown.end);
    lod_columns(l, begin, end > begin ? end : begin + 1, (uint32_t)t->lanes.w, t->columns);
}

// The pixels of a span, [x, right): where it begins up to where it ends, at least one.
static void span_pixels(const struct timeline *t, const struct lod *l, uint32_t span, int *x,
                        int *right)
{
    *x = timeline_x(t, (double)(l->begin_ns[span] - t->model->begin_ns));
    *right = timeline_x(t, (double)(l->end_ns[span] - t->model->begin_ns));
    *right = *right > *x ? *right : *x + 1;
}

static void draw_box(struct timeline *t, struct ui *u, uint32_t lane, uint32_t span, struct rect r)
{
    const struct trace_model_lane *l = &t->model->lanes[lane];
    const struct trace_spans *s = t->model->spans;
    uint32_t color = timeline_color(u, l->lod.class[span]);
    uint32_t fiber = trace_spans_fiber(s, l->span[span]);
    bool call = l->lod.class[span] == TRACE_MODEL_SYSCALL;
    struct rect box = r;
    draw_rect(u->list, r, u->theme.ground); // the columns below it
    if (call) {                             // differs in shape, too
        box.h = r.h * CALL_EIGHTHS / 8;
        box.y = r.y + r.h - box.h;
    }
    if (fiber == t->hot_fiber)
        color = theme_mix(color, 0xffffffff, 0.35);
    draw_rect(u->list, box, color);
    draw_rect(u->list, rect_make(box.x, box.y, 1, box.h), theme_mix(u->theme.ground, color, 0.45));
    if (lane == t->lane && span == t->span)
        draw_frame(u->list, box, 2, u->theme.text);
    struct rect seen = rect_cut(box, t->lanes); // the name stays in sight
    const char *name = trace_names_text(&s->names, s->lanes[fiber].name);
    if (seen.w > 2 * u->pad)
        ui_name(u, rect_make(seen.x + u->pad, box.y, seen.w - u->pad - 3, box.h), u->theme.ink,
                call    ? "system call"
                : *name ? name
                        : "(unknown)");
}

// Boxes over the columns: a span that fills a whole pixel is the longest of that pixel.
static void draw_boxes(struct timeline *t, struct ui *u, uint32_t lane, struct rect r)
{
    const struct lod *l = &t->model->lanes[lane].lod;
    uint32_t last = UINT32_MAX;
    for (int i = 0; i < r.w; i++) {
        uint32_t span = t->columns[i].longest;
        if (span == UINT32_MAX || span == last)
            continue;
        int x, right;
        span_pixels(t, l, span, &x, &right);
        if (right - x < BOX_LEAST)
            continue;
        draw_box(t, u, lane, span, rect_make(x, r.y, right - x, r.h));
        last = span;
    }
}

static void draw_strip_of(struct timeline *t, struct ui *u, struct rect r)
{
    double pixel_ns = (t->shown.end - t->shown.begin) / r.w;
    for (int i = 0; i < r.w; i++) {
        const struct lod_column *c = &t->columns[i];
        double part = pixel_ns > 0 ? (double)c->busy_ns / pixel_ns : 0;
        if (c->class == TRACE_MODEL_SYSCALL)
            part = part * CALL_EIGHTHS / 8;
        long height = lround(255 * (part > 1 ? 1 : part));
        t->colors[i] = c->busy_ns ? timeline_color(u, c->class) : 0;
        t->heights[i] = (uint8_t)(c->busy_ns && !height ? 1 : height);
        t->busy_ns[i] += c->busy_ns;
    }
    draw_strip(u->list, r, t->colors, t->heights);
}

// How many lanes ran, over time.
static void draw_utilisation(struct timeline *t, struct ui *u, struct rect r)
{
    double whole = (t->shown.end - t->shown.begin) / r.w * t->model->lane_count;
    uint32_t color = theme_mix(u->theme.ground, u->theme.accent, 0.6);
    draw_rect(u->list, r, u->theme.ground);
    for (int i = 0; i < r.w; i++) {
        double part = whole > 0 ? (double)t->busy_ns[i] / whole : 0;
        long height = lround(255 * (part > 1 ? 1 : part));
        t->colors[i] = t->busy_ns[i] ? color : 0;
        t->heights[i] = (uint8_t)(t->busy_ns[i] && !height ? 1 : height);
    }
    draw_strip(u->list, r, t->colors, t->heights);
    draw_rect(u->list, rect_make(r.x, r.y + r.h, r.w, 1), u->theme.border);
}

static void draw_range(struct timeline *t, struct ui *u, struct rect r)
{
    if (t->range.end <= t->range.begin)
        return;
    int x = timeline_x(t, t->range.begin), right = timeline_x(t, t->range.end);
    draw_clip_push(u->list, r);
    draw_rect(u->list, rect_make(x, r.y, right - x, r.h), u->theme.range);
    draw_rect(u->list, rect_make(x, r.y, 1, r.h), u->theme.accent);
    draw_rect(u->list, rect_make(right - 1, r.y, 1, r.h), u->theme.accent);
    draw_clip_pop(u->list);
}

// One lane; tells which of its spans is under the mouse.
static void draw_lane(struct timeline *t, struct ui *u, uint32_t lane, struct rect row,
                      uint32_t *hot_lane, uint32_t *hot_span)
{
    const struct lod *l = &t->model->lanes[lane].lod;
    struct rect r = {t->lanes.x, row.y + 3, t->lanes.w, row.h - 6};
    columns_of(t, l);
    draw_clip_push(u->list, rect_make(r.x, row.y, r.w, row.h));
    draw_strip_of(t, u, r);
    draw_boxes(t, u, lane, r);
    draw_clip_pop(u->list);
    draw_rect(u->list, rect_make(row.x, row.y + row.h - 1, row.w, 1), u->theme.grid);
    if (!ui_inside(u, rect_make(r.x, row.y, r.w, row.h)))
        return;
    // Under the mouse is what its pixel shows: the longest span that touches it.
    uint32_t span = t->columns[u->mouse_x - r.x].longest;
    if (span != UINT32_MAX) {
        *hot_lane = lane;
        *hot_span = span;
    }
}

static void draw_gutter(const struct timeline *t, struct ui *u, uint32_t lane, struct rect r)
{
    const struct trace_model_lane *l = &t->model->lanes[lane];
    char share[16];
    struct timeline_window w = timeline_told(t);
    int64_t base = t->model->begin_ns;
    int64_t ran = trace_model_ran_ns(l, base + llround(w.begin), base + llround(w.end));
    snprintf(share, sizeof share, "%.1f%%", 100 * (double)ran / (w.end - w.begin));
    draw_rect(u->list, r, u->theme.panel);
    draw_rect(u->list, rect_make(r.x, r.y + r.h - 1, r.w, 1), u->theme.grid);
    struct rect in = {r.x + u->pad, r.y, r.w - 2 * u->pad, r.h};
    ui_label(u, in, u->theme.text, l->label);
    ui_label_right(u, in, u->theme.dim, share);
    if (!l->name)
        return;
    int left = font_width(u->font, l->label, SIZE_MAX) + u->pad;
    int room = in.w - left - font_width(u->font, share, SIZE_MAX) - u->pad;
    ui_label(u, rect_make(in.x + left, in.y, room, in.h), u->theme.dim,
             trace_names_text(&t->model->spans->names, l->name));
}

static int gutter_width(const struct timeline *t, const struct ui *u, int width)
{
    int gutter = font_width(u->font, "P0000  100.0%", SIZE_MAX) + 2 * u->pad;
    int names = NAME_LETTERS * font_width(u->font, "n", 1);
    return t->model->have_names ? gutter + (names < width / 8 ? names : width / 8) : gutter;
}

void timeline_frame(struct timeline *t, struct ui *u, struct rect r)
{
    uint32_t hot_lane = UINT32_MAX, hot_span = 0;
    int gutter = gutter_width(t, u, r.w), strip = 2 * u->line;
    int detail = DETAIL_ROWS * u->line, height = u->line + 6;
    detail = detail < r.h / 3 ? detail : r.h / 3;
    struct rect top = {r.x, r.y, r.w, r.h - detail};
    int head = u->line + strip + 1;
    struct rect body = {r.x, r.y + head, r.w, top.h - head};
    int lanes = (int)t->model->lane_count, most = 3 * u->line;
    if (lanes && body.h / lanes > height) // few lanes have more room
        height = body.h / lanes < most ? body.h / lanes : most;
    int content = lanes * height;
    body = ui_scroll(u, ui_id("timeline scroll", 0), body, content, &t->scroll);
    t->lanes = rect_make(r.x + gutter, body.y, body.w - gutter, body.h);
    if (t->lanes.w < 1 || body.h < 1)
        return;
    if (!widen(t, t->lanes.w)) {
        t->failed = true;
        return;
    }
    memset(t->busy_ns, 0, (size_t)t->lanes.w * sizeof *t->busy_ns);
    timeline_axis(t, u, top);
    draw_clip_push(u->list, body);
    for (uint32_t i = 0; i < t->model->lane_count; i++) {
        struct rect row = {body.x, body.y + (int)i * height - t->scroll, body.w, height};
        if (rect_cut(row, body).h) {
            draw_gutter(t, u, i, rect_make(row.x, row.y, gutter, row.h));
            draw_lane(t, u, i, row, &hot_lane, &hot_span);
        } else { // its time counts all the same
            columns_of(t, &t->model->lanes[i].lod);
            for (int x = 0; x < t->lanes.w; x++)
                t->busy_ns[x] += t->columns[x].busy_ns;
        }
    }
    draw_clip_pop(u->list);
    draw_utilisation(t, u, rect_make(t->lanes.x, r.y + u->line, t->lanes.w, strip));
    struct rect corner = {r.x, r.y + u->line, gutter, strip};
    draw_rect(u->list, corner, u->theme.panel);
    draw_rect(u->list, rect_make(corner.x, corner.y + corner.h, gutter, 1), u->theme.border);
    ui_label(u, rect_make(corner.x + u->pad, corner.y, gutter - 2 * u->pad, corner.h), u->theme.dim,
             "busy");
    draw_rect(u->list, rect_make(t->lanes.x - 1, r.y, 1, top.h), u->theme.border);
    draw_range(t, u, rect_make(t->lanes.x, r.y + u->line, t->lanes.w, top.h - u->line));
    timeline_detail(t, u, rect_make(r.x, r.y + top.h, r.w, detail));
    timeline_input(t, u, hot_lane, hot_span);
}
