// SPDX-License-Identifier: MIT
//
// Lists to pixels. See raster.h.

#include "viewer/ui/raster.h"

#include "viewer/ui/font.h"
#include "viewer/ui/raster_internal.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

// A cache finds the place for a line by some bits of its address: where rows were an even number of lines apart, those of one
// column would share few places. What is narrow fits in any case.
static size_t stride_of(size_t width)
{
    enum { LINE_PIXELS = 16, WIDE_PIXELS = 1024 };
    size_t lines = (width + LINE_PIXELS - 1) / LINE_PIXELS;
    return width < WIDE_PIXELS || lines % 2 ? width : (lines + 1) * LINE_PIXELS;
}

int raster_init(struct raster *r, int width, int height)
{
    *r = (struct raster){0};
    if (width < 1 || height < 1 || width > RASTER_SIZE_MAX || height > RASTER_SIZE_MAX)
        return -EINVAL;
    r->stride = stride_of((size_t)width);
    r->pixels = calloc(r->stride * (size_t)height, sizeof *r->pixels);
    if (!r->pixels)
        return -ENOMEM;
    r->width = width;
    r->height = height;
    return 0;
}

void raster_finish(struct raster *r)
{
    free(r->pixels);
    free(r->work);
    *r = (struct raster){0};
}

static uint32_t *row_of(struct raster *r, int y)
{
    return r->pixels + (size_t)y * r->stride;
}

enum { NARROW = 48 }; // pixels up to which a loop is done before a copy has begun

// The first row, and copies of it.
static void set(struct raster *r, struct rect box, uint32_t color)
{
    uint32_t *first = row_of(r, box.y) + box.x;
    for (int y = 0; y < box.h && box.w <= NARROW; y++)
        for (int x = 0; x < box.w; x++)
            first[(size_t)y * r->stride + (size_t)x] = color;
    if (box.w <= NARROW)
        return;
    for (int x = 0; x < box.w; x++)
        first[x] = color;
    for (int y = 1; y < box.h; y++)
        memcpy(row_of(r, box.y + y) + box.x, first, (size_t)box.w * sizeof *first);
}

void raster_clear(struct raster *r, uint32_t color)
{
    set(r, (struct rect){0, 0, r->width, r->height}, color | 0xff000000);
}

uint32_t raster_blend(uint32_t under, uint32_t color, uint32_t alpha)
{
    // Red and blue in one word. v / 255, rounded, is (v + 128 + (v + 128) / 256) / 256 for all v up to 255 * 255.
    uint32_t rest = 255 - alpha;
    uint32_t rb = (under & 0xff00ff) * rest + (color & 0xff00ff) * alpha + 0x800080;
    uint32_t g = (under >> 8 & 0xff) * rest + (color >> 8 & 0xff) * alpha + 0x80;
    rb = (rb + (rb >> 8 & 0xff00ff)) >> 8 & 0xff00ff;
    g = (g + (g >> 8)) & 0xff00;
    return 0xff000000 | rb | g;
}

static void fill(struct raster *r, struct rect box, uint32_t color)
{
    uint32_t alpha = color >> 24;
    if (box.w < 1 || box.h < 1)
        return;
    if (alpha == 255) {
        set(r, box, color);
        return;
    }
    for (int y = box.y; y < box.y + box.h; y++) {
        uint32_t *p = row_of(r, y) + box.x;
        for (int x = 0; x < box.w; x++)
            p[x] = raster_blend(p[x], color, alpha);
    }
}

static void frame(struct raster *r, struct rect clip, const struct draw_item *item)
{
    struct rect b = item->rect;
    int t = item->size;
    if (2 * (int64_t)t >= b.w || 2 * (int64_t)t >= b.h) { // nothing is inside
        fill(r, rect_cut(b, clip), item->color);
        return;
    }
    const struct rect edges[] = {{b.x, b.y, b.w, t},
                                 {b.x, b.y + b.h - t, b.w, t},
                                 {b.x, b.y + t, t, b.h - 2 * t},
                                 {b.x + b.w - t, b.y + t, t, b.h - 2 * t}};
    for (size_t i = 0; i < sizeof edges / sizeof edges[0]; i++)
        fill(r, rect_cut(edges[i], clip), item->color);
}

// Level and upright lines are rectangles to the pixel; others are a quadrangle around the line
// between the middles of their pixels.
static void line(struct raster *r, struct rect clip, const struct draw_item *item)
{
    int x = item->x, y = item->y, x2 = item->x2, y2 = item->y2, t = item->size;
    int half = (t - 1) / 2;
    if (x == x2 || y == y2) {
        int left = x < x2 ? x : x2, top = y < y2 ? y : y2;
        struct rect box = x == x2 ? (struct rect){left - half, top, t, abs(y2 - y) + 1}
                                  : (struct rect){left, top - half, abs(x2 - x) + 1, t};
        fill(r, rect_cut(box, clip), item->color);
        return;
    }
    double dx = (double)x2 - x, dy = (double)y2 - y, length = sqrt(dx * dx + dy * dy);
    double nx = -dy / length * t / 2, ny = dx / length * t / 2;
    const struct raster_point points[] = {{x + 0.5 + nx, y + 0.5 + ny},
                                          {x2 + 0.5 + nx, y2 + 0.5 + ny},
                                          {x2 + 0.5 - nx, y2 + 0.5 - ny},
                                          {x + 0.5 - nx, y + 0.5 - ny}};
    raster_polygon(r, clip, points, 4, item->color);
}

static void triangle(struct raster *r, struct rect clip, const struct draw_item *item)
{
    const struct raster_point points[] = {
        {item->x, item->y}, {item->x2, item->y2}, {item->x3, item->y3}};
    raster_polygon(r, clip, points, 3, item->color);
}

// The height that a column must have to reach a row; the lowest has all that are not empty.
static int strip_least(int from_below, int full)
{
    int least = (int)(((int64_t)from_below * 510 - 255) / (2 * full));
    return from_below == 1 || least < 1 ? 1 : least;
}

// As high as they are where there is a colour, else 0. True: none of the colours lets light through.
static bool strip_reach(const struct draw_item *item, int first, int count, uint8_t *reach)
{
    const uint32_t *colors = item->colors + first;
    const uint8_t *heights = item->heights ? item->heights + first : NULL;
    uint32_t clear = 0;
    for (int i = 0; i < count; i++) {
        uint32_t alpha = colors[i] >> 24;
        reach[i] = alpha ? 255 : 0;
        clear |= (alpha + 1) & 0xfe; // neither 0 nor 255
    }
    for (int i = 0; heights && i < count; i++)
        reach[i] &= heights[i];
    return !clear;
}

// Row by row, as memory lies. Where one column ends and the next does not is not to be foreseen: so
// opaque ones are chosen by a mask, not by a branch.
static void strip(struct raster *r, struct rect clip, const struct draw_item *item)
{
    uint8_t reach[RASTER_SIZE_MAX];
    struct rect b = item->rect, seen = rect_cut(b, clip);
    const uint32_t *colors = item->colors + (seen.x - b.x);
    bool opaque = strip_reach(item, seen.x - b.x, seen.w, reach);
    for (int y = seen.y; y < seen.y + seen.h; y++) {
        int least = strip_least(b.y + b.h - y, b.h);
        uint32_t *p = row_of(r, y) + seen.x;
        for (int x = 0; x < seen.w && opaque; x++) {
            uint32_t take = 0u - (uint32_t)(reach[x] >= least);
            p[x] = (colors[x] & take) | (p[x] & ~take);
        }
        for (int x = 0; x < seen.w && !opaque; x++)
            if (reach[x] >= least)
                p[x] = colors[x] >> 24 == 255 ? colors[x]
                                              : raster_blend(p[x], colors[x], colors[x] >> 24);
    }
}

static void glyph(struct raster *r, struct rect clip, const struct atlas *a, const struct glyph *g,
                  struct rect at, uint32_t color)
{
    struct rect seen = rect_cut(at, clip);
    for (int y = seen.y; y < seen.y + seen.h; y++) {
        const uint8_t *from = a->coverage + (size_t)(g->y + y - at.y) * (size_t)a->width + g->x;
        uint32_t *to = row_of(r, y);
        for (int x = seen.x; x < seen.x + seen.w; x++) {
            uint32_t alpha = from[x - at.x] * (color >> 24) / 255;
            if (alpha)
                to[x] = raster_blend(to[x], color, alpha);
        }
    }
}

static void text(struct raster *r, struct rect clip, const struct draw_item *item,
                 const struct atlas *a)
{
    const char *p = item->text, *end = p + item->text_bytes;
    int64_t pen = item->x, right = (int64_t)clip.x + clip.w + 64;
    int height = 2 * font_height(item->font); // with room for what reaches out of it
    if (item->y + height < clip.y || item->y - height > clip.y + clip.h)
        return;
    for (uint32_t code; pen < right && (code = utf8_next(&p, end));) {
        const struct glyph *g = font_glyph(item->font, code);
        if (g->w)
            glyph(r, clip, a, g, (struct rect){(int)pen + g->left, item->y - g->top, g->w, g->h},
                  item->color);
        pen += g->advance;
    }
}

// --- All of it.

static void draw_item(struct raster *r, const struct draw_item *item, struct rect clip,
                      const struct atlas *a)
{
    if (!clip.w || !clip.h)
        return;
    switch (item->op) {
    case DRAW_RECT: fill(r, rect_cut(item->rect, clip), item->color); break;
    case DRAW_FRAME: frame(r, clip, item); break;
    case DRAW_LINE: line(r, clip, item); break;
    case DRAW_TRIANGLE: triangle(r, clip, item); break;
    case DRAW_TEXT: text(r, clip, item, a); break;
    case DRAW_STRIP: strip(r, clip, item); break;
    default: break;
    }
}

void raster_part(const struct raster_job *j, struct rect box, const uint32_t *items, uint32_t count)
{
    if (j->ground && box.w > 0 && box.h > 0)
        set(j->raster, box, j->ground);
    for (uint32_t i = 0; i < count; i++) {
        const struct draw_item *item = &j->list->items[items ? items[i] : i];
        draw_item(j->raster, item, rect_cut(j->list->clips[item->clip], box), j->atlas);
    }
}

static void draw_all(struct raster *r, const struct draw_list *d, struct atlas *a, uint32_t ground)
{
    const struct raster_job job = {r, d, a, ground};
    if (!raster_bands(&job))
        raster_part(&job, (struct rect){0, 0, r->width, r->height}, NULL, d->count);
}

void raster_draw(struct raster *r, const struct draw_list *d, struct atlas *a)
{
    draw_all(r, d, a, 0);
}

void raster_frame(struct raster *r, const struct draw_list *d, struct atlas *a, uint32_t ground)
{
    draw_all(r, d, a, ground | 0xff000000);
}
