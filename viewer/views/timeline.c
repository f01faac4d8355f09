// SPDX-License-Identifier: MIT
//
// The timeline's frame: what stands where. See timeline.h.

#include "viewer/views/timeline_internal.h"

#include "viewer/ui/font.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    DETAIL_ROWS = 9,
    LITTLE_ROWS = 9,
    NAME_LETTERS = 12,
    SLICE = 400000, // of spans that a filter looks at in a frame: a few ms
};

int timeline_init(struct timeline *t, const struct trace_model *m)
{
    *t = (struct timeline){.model = m,
                           .span = TRACE_NO_SPAN,
                           .lane = TRACE_NO_LANE,
                           .links.span = TRACE_NO_SPAN,
                           .hot_span = TRACE_NO_SPAN,
                           .hot_lane = TRACE_NO_LANE,
                           .hot_fiber = UINT32_MAX,
                           .kernel.lane = KERNEL_NO_LANE,
                           .kernel.hot_lane = KERNEL_NO_LANE,
                           .kernel.under_lane = KERNEL_NO_LANE,
                           .kernel.span = TRACE_NO_SPAN};
    t->shown.end = (double)(m->end_ns - m->begin_ns);
    return lanes_init(&t->rows, m);
}

void timeline_finish(struct timeline *t)
{
    lanes_finish(&t->rows);
    free(t->columns);
    free(t->pixel_row);
    free(t->stacked);
    free(t->colors);
    free(t->heights);
    free(t->busy_ns);
    free(t->overview);
    free(t->class_ns);
    timeline_pixels_free(&t->pixels);
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
    struct timeline_pixel *pixels = reallocarray(t->pixel_row, n, sizeof *pixels);
    t->pixel_row = pixels ? pixels : t->pixel_row;
    struct timeline_stacked *stacked = reallocarray(t->stacked, n, sizeof *stacked);
    t->stacked = stacked ? stacked : t->stacked;
    uint32_t *colors = reallocarray(t->colors, n, sizeof *colors);
    t->colors = colors ? colors : t->colors;
    uint8_t *heights = realloc(t->heights, n);
    t->heights = heights ? heights : t->heights;
    int64_t *busy = reallocarray(t->busy_ns, n, sizeof *busy);
    t->busy_ns = busy ? busy : t->busy_ns;
    uint8_t *overview = realloc(t->overview, n);
    t->overview = overview ? overview : t->overview;
    int64_t(*classes)[LOD_CLASSES] = reallocarray(t->class_ns, n, sizeof *classes);
    t->class_ns = classes ? classes : t->class_ns;
    if (!columns || !pixels || !stacked || !colors || !heights || !busy || !overview || !classes)
        return false;
    t->width = width;
    return true;
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

// How many lanes ran what, over time: one class over the other. Drawn from the top: each covers the
// lower part of the one before.
static void draw_utilisation(struct timeline *t, struct ui *u, struct rect r)
{
    int64_t began_ns = ui_clock_ns();
    double whole = (t->shown.end - t->shown.begin) / r.w * t->model->lane_count;
    draw_rect(u->list, r, u->theme.ground);
    for (int i = 0; i < r.w; i++) {
        t->busy_ns[i] = 0;
        for (int k = 0; k < LOD_CLASSES; k++)
            t->busy_ns[i] += t->class_ns[i][k];
    }
    for (int k = LOD_CLASSES - 1; k >= 0; k--) {
        uint32_t color = theme_mix(u->theme.ground, timeline_color(u, k), 0.8);
        bool any = false;
        for (int i = 0; i < r.w; i++) {
            double part = whole > 0 ? (double)t->busy_ns[i] / whole : 0;
            int height = (int)(255 * (part > 1 ? 1 : part) + 0.5);
            t->colors[i] = t->class_ns[i][k] ? color : 0;
            t->heights[i] = (uint8_t)(t->busy_ns[i] && !height ? 1 : height);
            any |= t->class_ns[i][k] != 0;
            t->busy_ns[i] -= t->class_ns[i][k];
        }
        if (any)
            draw_strip(u->list, r, t->colors, t->heights);
    }
    draw_rect(u->list, rect_make(r.x, r.y + r.h, r.w, 1), u->theme.border);
    u->lod_ns += ui_clock_ns() - began_ns;
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

// The time of a chosen piece of the kernel trace, over all lanes: what else happened then.
static void draw_band(struct timeline *t, struct ui *u, struct rect r)
{
    double begin, end;
    if (t->kernel.lane == KERNEL_NO_LANE || !timeline_chosen(t, &begin, &end))
        return;
    int x = timeline_x(t, begin), right = timeline_x(t, end);
    draw_clip_push(u->list, r);
    draw_rect(u->list, rect_make(x, r.y, right > x ? right - x : 1, r.h), u->theme.range);
    draw_clip_pop(u->list);
}

static int gutter_width(const struct ui *u, int width)
{
    int gutter = font_width(u->font, "P0000  100.0%", SIZE_MAX) + 2 * u->pad;
    int names = NAME_LETTERS * font_width(u->font, "n", 1);
    return gutter + (names < width / 8 ? names : width / 8);
}

// Rows as high as there is room: few Procs have more.
static void arrange(struct timeline *t, struct ui *u, int height)
{
    int lane = u->line + 6, procs = (int)t->model->lane_count, most = lane + u->line / 2;
    int proc = procs ? height / 2 / procs : lane;
    proc = proc < lane ? lane : proc > most ? most : proc;
    struct lanes_sizes sizes = {.proc = proc,
                                .lane = lane,
                                .head = u->line + 4,
                                .counter = 2 * u->line + 6,
                                .region = u->line,
                                .frame = u->line - 2,
                                .strip = u->line / 2 + 3};
    t->rows.slice = u->at_once || !u->now_ms ? 0 : SLICE;
    t->failed |= lanes_arrange(&t->rows, &sizes) != 0;
    u->moves |= t->rows.making != NULL;
}

static void draw_row(struct timeline *t, struct ui *u, uint32_t i, struct rect body, int y,
                     int gutter)
{
    const struct lanes_row *row = &t->rows.rows[i];
    timeline_gutter(t, u, row, rect_make(body.x, y, gutter, row->height));
    int64_t began_ns = ui_clock_ns();
    timeline_row(t, u, row, rect_make(body.x + gutter, y, body.w - gutter, row->height));
    u->lod_ns += ui_clock_ns() - began_ns;
}

// The head of the topmost row stays in sight until the next head pushes it out. What is left for
// the rows; *from: the first of them.
static struct rect draw_sticky(struct timeline *t, struct ui *u, struct rect body, int gutter,
                               uint32_t *from)
{
    const struct lanes *l = &t->rows;
    uint32_t head = *from < l->count ? l->rows[*from].head : (uint32_t)LANES_NO_HEAD;
    t->sticky = 0;
    if (head == (uint32_t)LANES_NO_HEAD || l->rows[head].y >= t->scroll)
        return body;
    int height = l->rows[head].height, y = 0;
    for (uint32_t i = *from; i < l->count && l->rows[i].y < t->scroll + height; i++)
        if (l->rows[i].head != head) {
            y = l->rows[i].y - t->scroll - height;
            break;
        }
    draw_clip_push(u->list, body);
    draw_row(t, u, head, body, body.y + y, gutter);
    draw_clip_pop(u->list);
    *from += *from == head;
    t->sticky = height + y;
    return rect_cut(rect_make(body.x, body.y + t->sticky, body.w, body.h - t->sticky), body);
}

static void draw_rows(struct timeline *t, struct ui *u, struct rect body, int gutter)
{
    uint32_t first = lanes_at(&t->rows, t->scroll);
    t->under_span = TRACE_NO_SPAN;
    t->under_lane = TRACE_NO_LANE;
    t->summed = t->told = 0;
    struct rect rest = draw_sticky(t, u, body, gutter, &first);
    draw_clip_push(u->list, rest);
    // A head that is clicked changes the rows, in the next frame.
    for (uint32_t i = first; i < t->rows.count; i++) {
        int y = body.y + t->rows.rows[i].y - t->scroll;
        if (y >= body.y + body.h)
            break;
        draw_row(t, u, i, body, y, gutter);
    }
    timeline_arrows(t, u, t->lanes);
    draw_clip_pop(u->list);
}

// The field that filters fibers, left of the axis, and what the strip below it is.
static void draw_corner(struct timeline *t, struct ui *u, struct rect r, int strip)
{
    char filter[sizeof t->rows.filter];
    memcpy(filter, t->rows.filter, sizeof filter);
    draw_rect(u->list, r, u->theme.panel);
    draw_rect(u->list, rect_make(r.x, r.y + r.h - 1, r.w, 1), u->theme.border);
    struct rect field = {r.x + 2, r.y + 1, r.w - 5, u->line - 2};
    if (ui_field(u, ui_id("timeline filter", 0), field, filter, sizeof filter, "find: /")) {
        memcpy(t->rows.filter, filter, sizeof filter);
        t->rows.is_stale = u->again = true;
        t->hit_at = 0;
    }
    const char *error = lanes_filter_error(&t->rows);
    if (*error)
        draw_frame(u->list, field, 1, u->theme.bad);
    ui_label(u, rect_make(r.x + u->pad, r.y + r.h - strip - 1, r.w - 2 * u->pad, strip),
             *error ? u->theme.bad : u->theme.dim, *error ? error : "busy");
}

// Beneath a panel, or in a small window, sums are one line of the colours that are seen: rows need
// the room.
static int detail_height(const struct timeline *t, const struct ui *u, int height)
{
    int detail = DETAIL_ROWS * u->line, rows = height / u->line;
    int most = rows > 20 ? height / 4 : height / 3;
    if (t->is_brief || height < LITTLE_ROWS * u->line)
        return t->span == TRACE_NO_SPAN && t->kernel.lane == KERNEL_NO_LANE ? u->line + u->pad
               : 6 * u->line < height / 3                                   ? 6 * u->line
                                                                            : height / 3;
    return detail < most ? detail : most;
}

void timeline_frame(struct timeline *t, struct ui *u, struct rect r)
{
    int gutter = gutter_width(u, r.w), strip = 2 * u->line, map = u->line;
    int detail = detail_height(t, u, r.h);
    int head = map + u->line + strip + 1;
    struct rect top = {r.x, r.y + map, r.w, r.h - detail - map};
    struct rect body = {r.x, r.y + head, r.w, r.h - detail - head};
    if (body.h < 1 || r.w <= gutter)
        return;
    arrange(t, u, body.h);
    struct rect cpus = {r.x, 0, r.w, timeline_cpus_height(t, body.h)};
    body.h -= cpus.h;
    cpus.y = body.y + body.h;
    t->reveal |= body.h != t->body; // a panel was opened: what is chosen stays in sight
    t->body = body.h;
    if (t->reveal && t->span != TRACE_NO_SPAN)
        timeline_scroll_to(t, t->lane, body.h);
    t->reveal = false;
    body = ui_scroll(u, ui_id("timeline scroll", 0), body, t->rows.content, &t->scroll);
    t->lanes = rect_make(r.x + gutter, body.y, body.w - gutter, body.h);
    t->area = rect_make(t->lanes.x, body.y, t->lanes.w, body.h + cpus.h);
    if (t->lanes.w < 1)
        return;
    if (t->failed || !widen(t, t->lanes.w) || timeline_pixels_make(t, u)) {
        t->failed = true;
        return;
    }
    lanes_frame(&t->rows);
    timeline_link(t);
    timeline_axis(t, u, top);
    timeline_kernel_begin(t);
    draw_rows(t, u, body, gutter);
    if (cpus.h)
        timeline_cpus(t, u, cpus, gutter);
    if (!t->is_unseen) // nothing in it can be clicked, and sums take their time
        draw_utilisation(t, u, rect_make(t->lanes.x, top.y + u->line, t->lanes.w, strip));
    draw_corner(t, u, rect_make(r.x, top.y, gutter, u->line + strip + 1), strip);
    draw_rect(u->list, rect_make(t->lanes.x - 1, r.y, 1, top.h + map), u->theme.border);
    timeline_minimap(t, u, rect_make(r.x, r.y, r.w, map));
    draw_band(t, u, t->area);
    draw_range(t, u, rect_make(t->lanes.x, top.y + u->line, t->lanes.w, top.h - u->line));
    timeline_draw_marks(t, u, rect_make(t->lanes.x, top.y, t->lanes.w, top.h));
    if (!t->is_unseen)
        timeline_detail(t, u, rect_make(r.x, r.y + r.h - detail, r.w, detail));
    timeline_input(t, u);
}
