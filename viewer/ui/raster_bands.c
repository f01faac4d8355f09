// SPDX-License-Identifier: MIT
//
// A large picture: bands of rows, each drawn from its ground to the last letter while its pixels are in the processor's cache,
// by two threads that take the next one from above. Memory is what large pictures wait for: it is written once.

#include "viewer/ui/font.h"
#include "viewer/ui/raster_internal.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
    LARGE_PIXELS = 1 << 20,
    LARGE_ITEMS = 64,
    BAND_ROWS = 32,
    BANDS_MAX = RASTER_SIZE_MAX / BAND_ROWS,
};

struct bands {
    const struct raster_job *job;
    uint32_t count;
    uint32_t begin[BANDS_MAX + 1]; // in items, of a band's; they end where the next one's begin
    uint32_t *items;
    uint32_t
        *reach; // [list->count]: the first band that an item is in, and above BAND_BITS how many
    _Atomic uint32_t next;
};

enum { BAND_BITS = 16 };

// The rows that an item may touch, with some air, cut to the clip.
static struct rect rows_of(const struct draw_item *item, struct rect clip)
{
    int y = item->y, end = item->y, air = 0;
    switch (item->op) {
    case DRAW_RECT:
    case DRAW_FRAME:
    case DRAW_STRIP: return rect_cut(item->rect, clip);
    case DRAW_TEXT: air = 2 * font_height(item->font); break;
    case DRAW_TRIANGLE:
        y = item->y3 < y ? item->y3 : y;
        end = item->y3 > end ? item->y3 : end;
        __attribute__((fallthrough));
    default:
        y = item->y2 < y ? item->y2 : y;
        end = item->y2 > end ? item->y2 : end;
        air = item->size + 2;
    }
    return rect_cut((struct rect){clip.x, y - air, clip.w, end - y + 2 * air + 1}, clip);
}

// Which bands each item is in; begin[b + 1] counts those of b.
static void find_bands(struct bands *b)
{
    const struct draw_list *d = b->job->list;
    const struct rect all = {0, 0, b->job->raster->width, b->job->raster->height};
    struct rect clip = {0};
    for (uint32_t i = 0, was = UINT32_MAX; i < d->count; i++) {
        const struct draw_item *item = &d->items[i];
        if (item->clip != was)
            clip = rect_cut(d->clips[item->clip], all);
        was = item->clip;
        struct rect r = rows_of(item, clip);
        uint32_t first = 0, count = 0;
        if (r.w && r.h) {
            first = (uint32_t)r.y / BAND_ROWS;
            count = (uint32_t)(r.y + r.h - 1) / BAND_ROWS - first + 1;
        }
        b->reach[i] = first | count << BAND_BITS;
        for (uint32_t k = 0; k < count; k++)
            b->begin[first + k + 1]++;
    }
}

// Room for n numbers that is kept from picture to picture; NULL: no memory.
static uint32_t *room(struct raster *r, size_t n)
{
    if (n > r->work_capacity) {
        free(r->work);
        r->work_capacity = n + n / 2;
        r->work = malloc(r->work_capacity * sizeof *r->work);
        if (!r->work)
            r->work_capacity = 0;
    }
    return r->work;
}

// The items of each band, in order; false: no memory.
static bool sort(struct bands *b)
{
    uint32_t count = b->job->list->count, at[BANDS_MAX];
    uint64_t all = 0;
    b->reach = room(b->job->raster, count);
    if (!b->reach)
        return false;
    find_bands(b);
    for (uint32_t k = 1; k <= b->count; k++)
        all += b->begin[k];
    if (all > UINT32_MAX)
        return false;
    if (count + all > b->job->raster->work_capacity) {
        uint32_t *more = realloc(b->reach, (count + all) * sizeof *more);
        if (!more)
            return false;
        b->reach = b->job->raster->work = more;
        b->job->raster->work_capacity = count + all;
    }
    b->items = b->reach + count;
    for (uint32_t k = 0; k < b->count; k++) {
        at[k] = b->begin[k];
        b->begin[k + 1] += b->begin[k];
    }
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t k = 0, first = b->reach[i] & ((1u << BAND_BITS) - 1);
             k < b->reach[i] >> BAND_BITS; k++)
            b->items[at[first + k]++] = i;
    return true;
}

static void *draw_bands(void *context)
{
    struct bands *b = context;
    int width = b->job->raster->width, height = b->job->raster->height;
    uint32_t k;
    while ((k = atomic_fetch_add_explicit(&b->next, 1, memory_order_relaxed)) < b->count) {
        struct rect box = {0, (int)k * BAND_ROWS, width, BAND_ROWS};
        box.h = box.y + box.h < height ? box.h : height - box.y;
        raster_part(b->job, box, b->items + b->begin[k], b->begin[k + 1] - b->begin[k]);
    }
    return NULL;
}

// Whether all letters are in the atlas, and stay there: then two threads may look at once.
static bool has_letters(const struct draw_list *d, const struct atlas *a)
{
    uint32_t generation = a->generation;
    for (uint32_t i = 0; i < d->count; i++) {
        const struct draw_item *item = &d->items[i];
        const char *p = item->text, *end = p + (item->op == DRAW_TEXT ? item->text_bytes : 0);
        if (item->op != DRAW_TEXT)
            continue;
        for (uint32_t code; (code = utf8_next(&p, end));)
            if (font_glyph(item->font, code)->code != code) // no memory to keep it
                return false;
    }
    return a->generation == generation;
}

bool raster_bands(const struct raster_job *j)
{
    const struct raster *r = j->raster;
    struct bands b = {.job = j, .count = (uint32_t)(r->height + BAND_ROWS - 1) / BAND_ROWS};
    pthread_t thread;
    if ((int64_t)r->width * r->height < LARGE_PIXELS || j->list->count < LARGE_ITEMS ||
        !has_letters(j->list, j->atlas) || !sort(&b))
        return false;
    bool two = !pthread_create(&thread, NULL, draw_bands, &b);
    draw_bands(&b);
    if (two)
        pthread_join(thread, NULL);
    return true;
}
