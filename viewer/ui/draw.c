// SPDX-License-Identifier: MIT
//
// Making a list. See draw.h.

#include "viewer/ui/draw.h"

#include "viewer/ui/font.h"

#include <stdlib.h>
#include <string.h>

static const char ELLIPSIS[] = "\xe2\x80\xa6";

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t most(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

struct rect rect_cut(struct rect a, struct rect b)
{
    // In 64 bits: views may place things far outside the picture.
    int64_t x = most(a.x, b.x), y = most(a.y, b.y);
    int64_t right = least((int64_t)a.x + a.w, (int64_t)b.x + b.w);
    int64_t bottom = least((int64_t)a.y + a.h, (int64_t)b.y + b.h);
    return (struct rect){(int)x, (int)y, (int)least(most(right - x, 0), INT32_MAX),
                         (int)least(most(bottom - y, 0), INT32_MAX)};
}

bool rect_has(struct rect r, int x, int y)
{
    return x >= r.x && y >= r.y && (int64_t)x < (int64_t)r.x + r.w &&
           (int64_t)y < (int64_t)r.y + r.h;
}

// Views may draw far outside; with this bound back ends need not think of overflow.
enum { FAR = 1 << 28 };

static int near(int v)
{
    return v < -FAR ? -FAR : v > FAR ? FAR : v;
}

static struct rect near_rect(struct rect r)
{
    return rect_cut(r, (struct rect){-FAR, -FAR, 2 * FAR, 2 * FAR});
}

// Room for one more; NULL, and failed, without memory.
static void *more(void *array, uint32_t count, uint32_t *capacity, size_t size, bool *failed)
{
    if (count < *capacity)
        return array;
    uint32_t n = *capacity ? *capacity * 2 : 256;
    void *grown = n > *capacity ? reallocarray(array, n, size) : NULL;
    if (grown)
        *capacity = n;
    else
        *failed = true;
    return grown;
}

// The number of a clip; the last one's again if it is the same. false: no memory.
static bool clip_add(struct draw_list *d, struct rect r, uint32_t *index)
{
    if (d->clip_count && !memcmp(&d->clips[d->clip_count - 1], &r, sizeof r)) {
        *index = d->clip_count - 1;
        return true;
    }
    struct rect *grown = more(d->clips, d->clip_count, &d->clip_capacity, sizeof r, &d->failed);
    if (!grown)
        return false;
    d->clips = grown;
    *index = d->clip_count;
    d->clips[d->clip_count++] = r;
    return true;
}

void draw_init(struct draw_list *d, int width, int height)
{
    *d = (struct draw_list){0};
    draw_reset(d, width, height);
}

void draw_reset(struct draw_list *d, int width, int height)
{
    d->count = d->clip_count = d->depth = 0;
    d->failed = false;
    d->width = width > 0 ? width : 0;
    d->height = height > 0 ? height : 0;
    arena_reset(&d->arena);
    if (!clip_add(d, rect_make(0, 0, d->width, d->height), &d->stack[0]))
        d->stack[0] = UINT32_MAX;
}

void draw_finish(struct draw_list *d)
{
    free(d->items);
    free(d->clips);
    arena_finish(&d->arena);
    *d = (struct draw_list){0};
}

struct rect draw_clip(const struct draw_list *d)
{
    // Deeper than the stack, or where there was no memory for the clip, nothing is seen.
    if (d->depth >= DRAW_CLIPS_DEEP || d->stack[d->depth] >= d->clip_count)
        return (struct rect){0};
    return d->clips[d->stack[d->depth]];
}

void draw_clip_push(struct draw_list *d, struct rect r)
{
    struct rect cut = rect_cut(r, draw_clip(d));
    d->depth++;
    if (d->depth >= DRAW_CLIPS_DEEP)
        return;
    if (!clip_add(d, cut, &d->stack[d->depth]))
        d->stack[d->depth] = UINT32_MAX;
}

void draw_clip_pop(struct draw_list *d)
{
    if (d->depth)
        d->depth--;
}

// A new item if the box is seen, else NULL.
static struct draw_item *add(struct draw_list *d, enum draw_op op, struct rect box, uint32_t color)
{
    struct rect seen = rect_cut(box, draw_clip(d));
    if (!seen.w || !seen.h)
        return NULL;
    struct draw_item *grown = more(d->items, d->count, &d->capacity, sizeof *d->items, &d->failed);
    if (!grown)
        return NULL;
    d->items = grown;
    struct draw_item *item = &d->items[d->count++];
    *item = (struct draw_item){.op = (uint8_t)op, .color = color, .clip = d->stack[d->depth]};
    return item;
}

void draw_rect(struct draw_list *d, struct rect r, uint32_t color)
{
    struct draw_item *item = color >> 24 ? add(d, DRAW_RECT, r, color) : NULL;
    if (item)
        item->rect = near_rect(r);
}

void draw_frame(struct draw_list *d, struct rect r, int thickness, uint32_t color)
{
    struct draw_item *item = color >> 24 && thickness > 0 ? add(d, DRAW_FRAME, r, color) : NULL;
    if (!item)
        return;
    item->rect = near_rect(r);
    item->size = (uint16_t)least(thickness, UINT16_MAX);
}

// The box of the points, with a margin.
static struct rect box_of(const int *x, const int *y, int count, int margin)
{
    int64_t left = x[0], top = y[0], right = x[0], bottom = y[0];
    for (int i = 1; i < count; i++) {
        left = least(left, x[i]);
        top = least(top, y[i]);
        right = most(right, x[i]);
        bottom = most(bottom, y[i]);
    }
    left = most(left - margin, INT32_MIN);
    top = most(top - margin, INT32_MIN);
    return (struct rect){(int)left, (int)top, (int)least(right + margin + 1 - left, INT32_MAX),
                         (int)least(bottom + margin + 1 - top, INT32_MAX)};
}

void draw_line(struct draw_list *d, int x, int y, int x2, int y2, int thickness, uint32_t color)
{
    x = near(x), y = near(y), x2 = near(x2), y2 = near(y2);
    struct rect box = box_of((int[]){x, x2}, (int[]){y, y2}, 2, near(thickness));
    struct draw_item *item = color >> 24 && thickness > 0 ? add(d, DRAW_LINE, box, color) : NULL;
    if (!item)
        return;
    item->x = x;
    item->y = y;
    item->x2 = x2;
    item->y2 = y2;
    item->size = (uint16_t)least(thickness, UINT16_MAX);
}

void draw_triangle(struct draw_list *d, int x, int y, int x2, int y2, int x3, int y3,
                   uint32_t color)
{
    x = near(x), y = near(y), x2 = near(x2), y2 = near(y2), x3 = near(x3), y3 = near(y3);
    struct rect box = box_of((int[]){x, x2, x3}, (int[]){y, y2, y3}, 3, 0);
    struct draw_item *item = color >> 24 ? add(d, DRAW_TRIANGLE, box, color) : NULL;
    if (!item)
        return;
    item->x = x;
    item->y = y;
    item->x2 = x2;
    item->y2 = y2;
    item->x3 = x3;
    item->y3 = y3;
}

// Text of n bytes with `tail` behind it.
static int text_add(struct draw_list *d, const struct font *f, int x, int baseline, uint32_t color,
                    const char *text, size_t n, const char *tail)
{
    size_t tail_bytes = strlen(tail);
    int width = font_width(f, text, n) + font_width(f, tail, tail_bytes);
    x = near(x);
    baseline = near(baseline);
    // A pixel more on each side: letters may reach out of their advance.
    struct rect box = {x - 1, baseline - font_ascent(f), width + 2, font_height(f)};
    struct draw_item *item = color >> 24 && n ? add(d, DRAW_TEXT, box, color) : NULL;
    if (!item)
        return width;
    char *copy = n < UINT32_MAX - tail_bytes ? arena_alloc(&d->arena, n + tail_bytes + 1) : NULL;
    if (!copy) {
        d->count--;
        d->failed = true;
        return width;
    }
    memcpy(copy, text, n);
    memcpy(copy + n, tail, tail_bytes);
    item->x = x;
    item->y = baseline;
    item->font = f;
    item->text = copy;
    item->text_bytes = (uint32_t)(n + tail_bytes);
    return width;
}

int draw_text(struct draw_list *d, const struct font *f, int x, int baseline, uint32_t color,
              const char *text, size_t n)
{
    return text_add(d, f, x, baseline, color, text, n == SIZE_MAX ? strlen(text) : n, "");
}

int draw_text_fit(struct draw_list *d, const struct font *f, int x, int baseline, int width,
                  uint32_t color, const char *text)
{
    size_t n = strlen(text), fits = font_fit(f, text, n, width);
    if (fits == n)
        return text_add(d, f, x, baseline, color, text, n, "");
    fits = font_fit(f, text, n, width - font_width(f, ELLIPSIS, SIZE_MAX));
    return fits ? text_add(d, f, x, baseline, color, text, fits, ELLIPSIS) : 0;
}

bool draw_strip_room(struct draw_list *d, struct rect r, uint32_t **colors, uint8_t **heights)
{
    struct draw_item *item = r.w > 0 && r.w < FAR && r.h < FAR ? add(d, DRAW_STRIP, r, 0) : NULL;
    if (!item)
        return false;
    *colors = arena_array(&d->arena, (size_t)r.w, sizeof **colors);
    if (heights)
        *heights = arena_array(&d->arena, (size_t)r.w, 1);
    if (!*colors || (heights && !*heights)) {
        d->count--;
        d->failed = true;
        return false;
    }
    item->rect = r;
    item->colors = *colors;
    item->heights = heights ? *heights : NULL;
    return true;
}

void draw_strip(struct draw_list *d, struct rect r, const uint32_t *colors, const uint8_t *heights)
{
    uint32_t *c;
    uint8_t *h;
    if (!draw_strip_room(d, r, &c, heights ? &h : NULL))
        return;
    memcpy(c, colors, (size_t)r.w * sizeof *c);
    if (heights)
        memcpy(h, heights, (size_t)r.w);
}
