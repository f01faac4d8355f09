// SPDX-License-Identifier: MIT
//
// A lane's pixels and boxes. See timeline.h.

#include "viewer/views/timeline_internal.h"

#include "viewer/state_color.h"
#include "viewer/ui/font.h"

void timeline_put_column(uint32_t *color, uint8_t *height, uint32_t with, double part)
{
    int h = (int)(255 * (part > 1 ? 1 : part) + 0.5); // it is not below 0
    *color = part > 0 ? with : 0;
    *height = (uint8_t)(part > 0 && !h ? 1 : h);
}

static void color_pixels(const struct timeline_pixel *restrict pixels, int width,
                         const uint32_t *restrict of_class, uint32_t *restrict colors,
                         uint8_t *restrict heights)
{
    for (int i = 0; i < width; i++)
        colors[i] = of_class[pixels[i].class];
    for (int i = 0; i < width; i++)
        heights[i] = pixels[i].height;
}

static void draw_work(struct ui *u, const struct timeline_pixel *pixels, struct rect r)
{
    uint32_t of_class[LOD_CLASSES + 1] = {0}, *colors;
    uint8_t *heights;
    if (!draw_strip_room(u->list, r, &colors, &heights))
        return;
    for (int k = 0; k < LOD_CLASSES; k++)
        of_class[k] = timeline_color(u, k);
    color_pixels(pixels, r.w, of_class, colors, heights);
}

// What the fiber mostly did.
static void draw_mostly(struct ui *u, const struct lod_column *columns, struct rect r)
{
    uint32_t class_colors[LOD_CLASSES], *colors;
    uint8_t *heights;
    if (!draw_strip_room(u->list, r, &colors, &heights))
        return;
    for (int k = 0; k < LOD_CLASSES; k++)
        class_colors[k] = state_color(&u->theme, k ? k : TRACE_STATE_OTHER);
    for (int i = 0; i < r.w; i++) {
        const struct lod_column *c = &columns[i];
        colors[i] = c->busy_ns > c->first_ns ? class_colors[c->class_ns ? c->class : 0] : 0;
        heights[i] = 255;
    }
}

// The same, and over that how much of the time it ran.
static void draw_states(struct timeline *t, struct ui *u, const struct lod_column *columns,
                        struct rect r)
{
    double pixel_ns = (t->shown.end - t->shown.begin) / r.w;
    uint32_t *colors;
    uint8_t *heights;
    bool runs = false;
    draw_mostly(u, columns, r);
    for (int i = 0; i < r.w && !runs; i++)
        runs = columns[i].first_ns > 0;
    if (!runs || !draw_strip_room(u->list, r, &colors, &heights))
        return;
    for (int i = 0; i < r.w; i++)
        timeline_put_column(&colors[i], &heights[i], u->theme.running,
                            pixel_ns > 0 ? (double)columns[i].first_ns / pixel_ns : 0);
}

// --- Boxes.

struct box {
    uint32_t color, ink;
    const char *name;
    bool low; // differs in shape, too
};

static struct box work_box(const struct timeline *t, const struct ui *u, int class, uint32_t fiber)
{
    const struct trace_spans *s = t->model->spans;
    const char *name = trace_names_text(&s->names, s->lanes[fiber].name);
    bool call = class == TRACE_MODEL_SYSCALL;
    return (struct box){timeline_color(u, class), u->theme.ink,
                        call    ? "system call"
                        : *name ? name
                                : "(unknown)",
                        call};
}

static struct box state_box(const struct timeline *t, const struct ui *u, int state, uint32_t span)
{
    bool works = state <= TRACE_STATE_SYSCALL;
    return (struct box){state_color(&u->theme, state), works ? u->theme.ink : u->theme.text,
                        state == TRACE_STATE_SYSCALL ? "system call"
                                                     : timeline_state(t->model->spans, span),
                        state == TRACE_STATE_SYSCALL};
}

static void draw_box(struct timeline *t, struct ui *u, const struct box *b, struct rect r, bool hot)
{
    struct rect box = r;
    uint32_t color = hot ? theme_mix(b->color, 0xffffffff, 0.35) : b->color;
    draw_rect(u->list, r, u->theme.ground); // the columns below it
    if (b->low) {
        box.h = r.h * TIMELINE_CALL_EIGHTHS / 8;
        box.y = r.y + r.h - box.h;
    }
    draw_rect(u->list, box, color);
    draw_rect(u->list, rect_make(box.x, box.y, 1, box.h), theme_mix(u->theme.ground, color, 0.45));
    struct rect seen = rect_cut(box, t->lanes); // the name stays in sight
    if (seen.w > 2 * u->pad)
        ui_name(u, rect_make(seen.x + u->pad, box.y, seen.w - u->pad - 3, box.h),
                hot ? u->theme.ink : b->ink, b->name);
}

struct rect timeline_span_rect(const struct timeline *t, const struct lod *l, uint32_t i,
                               struct rect r)
{
    int x = timeline_x_of(t, lod_begin_ns(l, i)), right = timeline_x_of(t, lod_end_ns(l, i));
    return rect_make(x, r.y, right > x ? right - x : 1, r.h);
}

// The least bits, but 1 at least, that hold a whole number larger than n: what has fewer is shorter.
static uint8_t bits_above(double n)
{
    uint64_t whole = n > 0 ? (uint64_t)n : 0;
    uint8_t bits = 1; // some span
    while (whole >> bits)
        bits++;
    return bits;
}

// The first pixel from i on whose longest span has so many bits and is not the one looked at last; `end` if there is none.
static int next_long(const struct timeline_pixel *pixels, int i, int end, uint8_t bits,
                     uint32_t looked)
{
    while (i < end && (pixels[i].bits < bits || pixels[i].longest == looked))
        i++;
    return i;
}

static void draw_span(struct timeline *t, struct ui *u, uint32_t lane, const struct lod *l,
                      bool is_fiber, uint32_t at, struct rect r)
{
    struct rect box = timeline_span_rect(t, l, at, r);
    if (box.w < TIMELINE_BOX_LEAST)
        return;
    uint32_t span = lanes_span(t->model->spans, lane, at);
    int class = lod_class(l, at);
    uint32_t fiber = is_fiber ? lane : trace_spans_fiber(t->model->spans, span);
    struct box b = is_fiber ? state_box(t, u, class, span) : work_box(t, u, class, fiber);
    bool hot = is_fiber ? span == t->hot_span : fiber == t->hot_fiber;
    draw_box(t, u, &b, box, hot);
}

// Boxes over the pixels: a span that fills a whole pixel is the longest of that pixel. Most are too short by their bits alone;
// others are fetched some ahead, as they stand far apart.
static void draw_boxes(struct timeline *t, struct ui *u, uint32_t lane, const struct lod *l,
                       bool is_fiber, const struct timeline_pixel *pixels, struct rect r)
{
    enum { AHEAD = 64 };
    const struct trace_spans *s = t->model->spans;
    const uint32_t *runs = is_fiber ? NULL : s->runs + s->lanes[lane].first;
    uint32_t looked = UINT32_MAX, found[AHEAD];
    // What is shorter has no box of so many pixels, wherever it lies.
    double least_ns =
        (TIMELINE_BOX_LEAST - 1) * (t->shown.end - t->shown.begin) / r.w * (1 - 1e-6) - 1;
    uint8_t bits = bits_above(least_ns);
    for (int i = 0; i < r.w;) {
        int count = 0;
        while (count < AHEAD && (i = next_long(pixels, i, r.w, bits, looked)) < r.w) {
            looked = found[count++] = pixels[i].longest;
            lod_expect(l, looked);
            if (runs)
                __builtin_prefetch(runs + looked);
        }
        for (int k = 0; k < count; k++)
            if ((double)(lod_end_ns(l, found[k]) - lod_begin_ns(l, found[k])) >= least_ns)
                draw_span(t, u, lane, l, is_fiber, found[k], r);
    }
}

void timeline_lane(struct timeline *t, struct ui *u, uint32_t lane, const struct lod *l,
                   bool is_fiber, struct rect r)
{
    const struct timeline_pixel *pixels = t->pixel_row;
    if (is_fiber) {
        const struct lod_column *columns = timeline_columns(t, l);
        draw_states(t, u, columns, r);
        for (int i = 0; i < r.w; i++)
            t->pixel_row[i] =
                (struct timeline_pixel){.longest = columns[i].longest, .bits = columns[i].bits};
    } else {
        pixels = timeline_lane_pixels(t, l);
        draw_work(u, pixels, r);
    }
    draw_boxes(t, u, lane, l, is_fiber, pixels, r);
}
