// SPDX-License-Identifier: MIT
//
// The atlas, glyphs, the built-in font, UTF-8. See font.h.

#include "viewer/ui/font_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { ATLAS_MIN = 256, ATLAS_MAX = 8192, SCALE_MAX = 8, CACHE_FIRST = 256 };
enum { WIDTH_MAX = 1 << 24 }; // pixels; longer text is as wide as this

// --- UTF-8.

static bool is_tail(const char *p, const char *end)
{
    return p < end && ((unsigned char)*p & 0xc0) == 0x80;
}

uint32_t utf8_next(const char **text, const char *end)
{
    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    const char *p = *text;
    if (p >= end)
        return 0;
    unsigned char c = (unsigned char)*p++;
    *text = p;
    if (c < 0x80)
        return c < ' ' || c == 0x7f ? UTF8_BROKEN : c;
    int tails = c >= 0xf0 && c < 0xf8   ? 3
                : c >= 0xe0 && c < 0xf0 ? 2
                : c >= 0xc0 && c < 0xe0 ? 1
                                        : 0;
    if (!tails)
        return UTF8_BROKEN;
    uint32_t code = c & (0x3fu >> tails);
    for (int i = 0; i < tails; i++) {
        if (!is_tail(p, end))
            return UTF8_BROKEN;
        code = code << 6 | ((unsigned char)*p++ & 0x3f);
    }
    // Overlong, a surrogate, beyond Unicode, or a control character (C1).
    if (code < least[tails] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
        return UTF8_BROKEN;
    *text = p;
    return code < 0xa0 ? UTF8_BROKEN : code;
}

// --- The atlas.

static void atlas_empty(struct atlas *a)
{
    memset(a->coverage, 0, (size_t)a->width * (size_t)a->height);
    for (int y = 0; y < ATLAS_WHITE; y++)
        memset(a->coverage + (size_t)y * (size_t)a->width, 255, ATLAS_WHITE);
    // A free pixel between all things, so that a scaled picture does not mix them.
    a->row_x = ATLAS_WHITE + 1;
    a->row_y = 0;
    a->row_height = ATLAS_WHITE + 1;
    a->version++;
}

int atlas_init(struct atlas *a, int width, int height)
{
    *a = (struct atlas){0};
    if (width < ATLAS_MIN || width > ATLAS_MAX || height < ATLAS_MIN || height > ATLAS_MAX)
        return -EINVAL;
    a->coverage = malloc((size_t)width * (size_t)height);
    if (!a->coverage)
        return -ENOMEM;
    a->width = width;
    a->height = height;
    a->generation = 1;
    atlas_empty(a);
    return 0;
}

void atlas_finish(struct atlas *a)
{
    free(a->coverage);
    *a = (struct atlas){0};
}

// A place for w by h pixels; false if a glyph of that size has none even in an empty atlas.
static bool atlas_place(struct atlas *a, int w, int h, int *x, int *y)
{
    if (w >= a->width - ATLAS_WHITE - 1 || h >= a->height - ATLAS_WHITE - 1)
        return false;
    if (a->row_x + w > a->width) {
        a->row_y += a->row_height;
        a->row_x = a->row_height = 0;
    }
    if (a->row_y + h > a->height) {
        atlas_empty(a);
        a->generation++;
    }
    *x = a->row_x;
    *y = a->row_y;
    a->row_x += w + 1;
    if (h + 1 > a->row_height)
        a->row_height = h + 1;
    return true;
}

static void atlas_put(struct atlas *a, struct glyph *g, const uint8_t *pixels, size_t stride)
{
    int x, y;
    if (!pixels || !g->w || !g->h || !atlas_place(a, g->w, g->h, &x, &y)) {
        g->w = g->h = 0;
        return;
    }
    g->x = (uint16_t)x;
    g->y = (uint16_t)y;
    for (size_t row = 0; row < g->h; row++)
        memcpy(a->coverage + ((size_t)y + row) * (size_t)a->width + (size_t)x,
               pixels + row * stride, g->w);
    a->version++;
}

// --- Glyphs: a hash table by code, which only grows.

struct font_cache {
    struct font_entry *entries; // [size], a power of two
    uint32_t size, count;
    struct font_entry spare; // where there is no memory for more
};

static struct font_entry *slot(struct font_entry *entries, uint32_t size, uint32_t code)
{
    uint32_t i = code * 2654435761u & (size - 1);
    while (entries[i].glyph.code && entries[i].glyph.code != code)
        i = (i + 1) & (size - 1);
    return &entries[i];
}

static bool cache_grow(struct font_cache *c)
{
    uint32_t size = c->size ? c->size * 2 : CACHE_FIRST;
    struct font_entry *entries = calloc(size, sizeof *entries);
    if (!entries)
        return false;
    for (uint32_t i = 0; i < c->size; i++)
        if (c->entries[i].glyph.code)
            *slot(entries, size, c->entries[i].glyph.code) = c->entries[i];
    free(c->entries);
    c->entries = entries;
    c->size = size;
    return true;
}

const struct glyph *font_glyph(const struct font *f, uint32_t code)
{
    struct font_cache *c = f->cache;
    struct font_entry *e = code ? slot(c->entries, c->size, code) : &c->spare;
    if (e->glyph.code && e->generation == f->atlas->generation)
        return &e->glyph;
    if (code && !e->glyph.code) {
        // Half full at most; without memory for more, the spare one serves.
        if (c->count >= c->size / 2)
            e = cache_grow(c) ? slot(c->entries, c->size, code) : &c->spare;
        if (e != &c->spare)
            c->count++;
    }
    size_t stride = 0;
    e->glyph = (struct glyph){0};
    const uint8_t *pixels = f->source->draw(f->source_arg, code, &e->glyph, &stride);
    e->glyph.code = e == &c->spare ? 0 : code;
    atlas_put(f->atlas, &e->glyph, pixels, stride);
    e->generation = f->atlas->generation;
    return &e->glyph;
}

// --- Fonts.

int font_new(struct font **out, struct atlas *a, const char *name, const struct font_source *source,
             void *source_arg)
{
    struct font *f = calloc(1, sizeof *f);
    *out = NULL;
    if (!f) {
        source->close(source_arg);
        return -ENOMEM;
    }
    f->atlas = a;
    f->source = source;
    f->source_arg = source_arg;
    f->name = strdup(name);
    f->cache = calloc(1, sizeof *f->cache);
    if (!f->name || !f->cache || !cache_grow(f->cache)) {
        font_close(f);
        return -ENOMEM;
    }
    *out = f;
    return 0;
}

void font_close(struct font *f)
{
    if (!f)
        return;
    f->source->close(f->source_arg);
    if (f->cache)
        free(f->cache->entries);
    free(f->cache);
    free(f->name);
    free(f);
}

struct builtin {
    int scale;
    uint8_t pixels[BITMAP_ROWS * SCALE_MAX][BITMAP_COLUMNS * SCALE_MAX];
};

static const uint8_t *builtin_draw(void *source, uint32_t code, struct glyph *g, size_t *stride)
{
    struct builtin *b = source;
    const struct font_bitmap *bits = font_bitmap_of(code);
    g->advance = (int16_t)(BITMAP_WIDTH * b->scale);
    if (code == ' ')
        return NULL;
    g->w = (uint16_t)(BITMAP_COLUMNS * b->scale);
    g->h = (uint16_t)(BITMAP_ROWS * b->scale);
    g->top = (int16_t)(BITMAP_ASCENT * b->scale);
    *stride = sizeof b->pixels[0];
    for (int y = 0; y < g->h; y++)
        for (int x = 0; x < g->w; x++)
            b->pixels[y][x] =
                bits->rows[y / b->scale] >> (BITMAP_COLUMNS - 1 - x / b->scale) & 1 ? 255 : 0;
    return b->pixels[0];
}

static const struct font_source builtin_source = {.draw = builtin_draw, .close = free};

int font_builtin(struct font **out, struct atlas *a, int scale)
{
    *out = NULL;
    if (scale < 1 || scale > SCALE_MAX)
        return -EINVAL;
    struct builtin *b = calloc(1, sizeof *b);
    if (!b)
        return -ENOMEM;
    b->scale = scale;
    int rc = font_new(out, a, "builtin", &builtin_source, b);
    if (rc)
        return rc;
    (*out)->size = BITMAP_ROWS * scale;
    (*out)->ascent = (BITMAP_ASCENT + 1) * scale; // a free row above capitals
    (*out)->height = BITMAP_LINE * scale;
    return 0;
}

int font_ascent(const struct font *f)
{
    return f->ascent;
}

int font_height(const struct font *f)
{
    return f->height;
}

int font_size(const struct font *f)
{
    return f->size;
}

const char *font_name(const struct font *f)
{
    return f->name;
}

int font_width(const struct font *f, const char *text, size_t n)
{
    const char *end = text + (n == SIZE_MAX ? strlen(text) : n);
    int width = 0;
    for (uint32_t code; width < WIDTH_MAX && (code = utf8_next(&text, end));)
        width += font_glyph(f, code)->advance;
    return width;
}

size_t font_fit(const struct font *f, const char *text, size_t n, int width)
{
    const char *p = text, *next = text, *end = text + n;
    for (uint32_t code; (code = utf8_next(&next, end)); p = next) {
        int advance = font_glyph(f, code)->advance;
        if (advance > width)
            break;
        width -= advance;
    }
    return (size_t)(p - text);
}
