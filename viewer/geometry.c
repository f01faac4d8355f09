// SPDX-License-Identifier: MIT
//
// See geometry.h.

#include "viewer/geometry.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

void geometry_init(struct geometry *g, SDL_Renderer *renderer)
{
    *g = (struct geometry){.renderer = renderer};
}

void geometry_finish(struct geometry *g)
{
    if (g->texture)
        SDL_DestroyTexture(g->texture);
    free(g->vertices);
    free(g->indices);
    *g = (struct geometry){0};
}

// --- The texture.

static int upload(struct geometry *g, const struct atlas *a)
{
    if (!g->texture) {
        g->texture = SDL_CreateTexture(g->renderer, SDL_PIXELFORMAT_ARGB8888,
                                       SDL_TEXTUREACCESS_STREAMING, a->width, a->height);
        if (!g->texture || SDL_SetTextureBlendMode(g->texture, SDL_BLENDMODE_BLEND))
            return -EIO;
    } else if (g->version == a->version && g->generation == a->generation) {
        return 0;
    }
    void *pixels;
    int pitch;
    if (SDL_LockTexture(g->texture, NULL, &pixels, &pitch))
        return -EIO;
    for (int y = 0; y < a->height; y++) {
        uint32_t *to = (uint32_t *)((char *)pixels + (size_t)y * (size_t)pitch);
        const uint8_t *from = a->coverage + (size_t)y * (size_t)a->width;
        for (int x = 0; x < a->width; x++)
            to[x] = (uint32_t)from[x] << 24 | 0xffffff;
    }
    SDL_UnlockTexture(g->texture);
    g->version = a->version;
    g->generation = a->generation;
    return 0;
}

// All glyphs of the list into the atlas. False: it was emptied meanwhile.
static bool put_glyphs(const struct draw_list *d, const struct atlas *a)
{
    uint32_t generation = a->generation;
    for (uint32_t i = 0; i < d->count; i++) {
        const struct draw_item *item = &d->items[i];
        if (item->op != DRAW_TEXT)
            continue;
        const char *p = item->text, *end = p + item->text_bytes;
        for (uint32_t code; (code = utf8_next(&p, end));)
            font_glyph(item->font, code);
    }
    return generation == a->generation;
}

// --- Triangles.

static bool grow(struct geometry *g, int vertices, int indices)
{
    if (g->count + vertices > g->capacity) {
        int more = 2 * (g->count + vertices);
        SDL_Vertex *v = reallocarray(g->vertices, (size_t)more, sizeof *v);
        if (!v)
            return false;
        g->vertices = v;
        g->capacity = more;
    }
    if (g->index_count + indices > g->index_capacity) {
        int more = 2 * (g->index_count + indices);
        int *v = reallocarray(g->indices, (size_t)more, sizeof *v);
        if (!v)
            return false;
        g->indices = v;
        g->index_capacity = more;
    }
    return true;
}

static SDL_Color color_of(uint32_t c)
{
    return (SDL_Color){(Uint8)(c >> 16), (Uint8)(c >> 8), (Uint8)c, (Uint8)(c >> 24)};
}

// A convex polygon; in the texture the points lie at tex, or all in the white square.
static void polygon(struct geometry *g, const SDL_FPoint *points, const SDL_FPoint *tex, int count,
                    uint32_t color, const struct atlas *a)
{
    if (!grow(g, count, 3 * (count - 2))) {
        g->failed = true;
        return;
    }
    SDL_FPoint white = {(float)ATLAS_WHITE / 2 / (float)a->width,
                        (float)ATLAS_WHITE / 2 / (float)a->height};
    for (int i = 0; i < count; i++)
        g->vertices[g->count + i] = (SDL_Vertex){points[i], color_of(color), tex ? tex[i] : white};
    for (int i = 2; i < count; i++) {
        g->indices[g->index_count++] = g->count;
        g->indices[g->index_count++] = g->count + i - 1;
        g->indices[g->index_count++] = g->count + i;
    }
    g->count += count;
}

static void box(struct geometry *g, struct rect r, uint32_t color, const struct atlas *a)
{
    if (!r.w || !r.h)
        return;
    float x = (float)r.x, y = (float)r.y, x2 = (float)(r.x + r.w), y2 = (float)(r.y + r.h);
    polygon(g, (const SDL_FPoint[]){{x, y}, {x2, y}, {x2, y2}, {x, y2}}, NULL, 4, color, a);
}

static int flush(struct geometry *g)
{
    int rc = g->count ? SDL_RenderGeometry(g->renderer, g->texture, g->vertices, g->count,
                                           g->indices, g->index_count)
                      : 0;
    g->count = g->index_count = 0;
    return rc ? -EIO : 0;
}

// --- Items, as raster.c has them.

static void frame(struct geometry *g, struct rect clip, const struct draw_item *item,
                  const struct atlas *a)
{
    struct rect b = item->rect;
    int t = item->size;
    if (2 * (int64_t)t >= b.w || 2 * (int64_t)t >= b.h) {
        box(g, rect_cut(b, clip), item->color, a);
        return;
    }
    const struct rect edges[] = {{b.x, b.y, b.w, t},
                                 {b.x, b.y + b.h - t, b.w, t},
                                 {b.x, b.y + t, t, b.h - 2 * t},
                                 {b.x + b.w - t, b.y + t, t, b.h - 2 * t}};
    for (size_t i = 0; i < sizeof edges / sizeof edges[0]; i++)
        box(g, rect_cut(edges[i], clip), item->color, a);
}

// Rows that a column of that height, of 255, fills.
static int rows_of(int full, const struct draw_item *item, int i)
{
    if (!item->heights)
        return full;
    int64_t height = item->heights[i];
    int64_t rows = height ? (2 * (int64_t)full * (height + 1) + 254) / 510 : 0;
    rows = height && rows < 1 ? 1 : rows;
    return (int)(rows < full ? rows : full);
}

// Like columns side by side are one rectangle.
static void strip(struct geometry *g, struct rect clip, const struct draw_item *item,
                  const struct atlas *a)
{
    struct rect b = item->rect, seen = rect_cut(b, clip);
    for (int i = seen.x - b.x, end = i + seen.w, n; i < end; i += n) {
        for (n = 1; i + n < end && item->colors[i + n] == item->colors[i] &&
                    (!item->heights || item->heights[i + n] == item->heights[i]);)
            n++;
        int rows = rows_of(b.h, item, i);
        if (item->colors[i] >> 24)
            box(g, rect_cut((struct rect){b.x + i, b.y + b.h - rows, n, rows}, seen),
                item->colors[i], a);
    }
}

static void glyph(struct geometry *g, struct rect clip, const struct glyph *from, struct rect at,
                  uint32_t color, const struct atlas *a)
{
    struct rect r = rect_cut(at, clip);
    if (!r.w || !r.h)
        return;
    float x = (float)r.x, y = (float)r.y, x2 = (float)(r.x + r.w), y2 = (float)(r.y + r.h);
    float w = (float)a->width, h = (float)a->height;
    float u = (float)(from->x + r.x - at.x) / w, v = (float)(from->y + r.y - at.y) / h;
    float u2 = u + (float)r.w / w, v2 = v + (float)r.h / h;
    polygon(g, (const SDL_FPoint[]){{x, y}, {x2, y}, {x2, y2}, {x, y2}},
            (const SDL_FPoint[]){{u, v}, {u2, v}, {u2, v2}, {u, v2}}, 4, color, a);
}

static void text(struct geometry *g, struct rect clip, const struct draw_item *item,
                 const struct atlas *a)
{
    const char *p = item->text, *end = p + item->text_bytes;
    int64_t pen = item->x, right = (int64_t)clip.x + clip.w + 64;
    for (uint32_t code; pen < right && (code = utf8_next(&p, end));) {
        const struct glyph *one = font_glyph(item->font, code);
        if (one->w)
            glyph(g, clip, one,
                  (struct rect){(int)pen + one->left, item->y - one->top, one->w, one->h},
                  item->color, a);
        pen += one->advance;
    }
}

static void slanted(struct geometry *g, const struct draw_item *item, const struct atlas *a)
{
    float x = (float)item->x + 0.5f, y = (float)item->y + 0.5f;
    float x2 = (float)item->x2 + 0.5f, y2 = (float)item->y2 + 0.5f;
    float dx = x2 - x, dy = y2 - y, length = sqrtf(dx * dx + dy * dy);
    float nx = -dy / length * (float)item->size / 2, ny = dx / length * (float)item->size / 2;
    polygon(g,
            (const SDL_FPoint[]){
                {x + nx, y + ny}, {x2 + nx, y2 + ny}, {x2 - nx, y2 - ny}, {x - nx, y - ny}},
            NULL, 4, item->color, a);
}

// A level or upright line.
static struct rect straight(const struct draw_item *item)
{
    int x = item->x, y = item->y, x2 = item->x2, y2 = item->y2, t = item->size;
    int half = (t - 1) / 2, left = x < x2 ? x : x2, top = y < y2 ? y : y2;
    return x == x2 ? (struct rect){left - half, top, t, abs(y2 - y) + 1}
                   : (struct rect){left, top - half, abs(x2 - x) + 1, t};
}

// What rect_cut cannot cut: by the renderer's clip, between two calls.
static int cut_by_clip(struct geometry *g, struct rect clip, const struct draw_item *item,
                       const struct atlas *a)
{
    int rc = flush(g);
    SDL_RenderSetClipRect(g->renderer, &(SDL_Rect){clip.x, clip.y, clip.w, clip.h});
    if (item->op == DRAW_LINE)
        slanted(g, item, a);
    else
        polygon(g,
                (const SDL_FPoint[]){{(float)item->x, (float)item->y},
                                     {(float)item->x2, (float)item->y2},
                                     {(float)item->x3, (float)item->y3}},
                NULL, 3, item->color, a);
    int rc2 = flush(g);
    SDL_RenderSetClipRect(g->renderer, NULL);
    return rc ? rc : rc2;
}

static int put(struct geometry *g, struct rect clip, const struct draw_item *item,
               const struct atlas *a)
{
    switch (item->op) {
    case DRAW_RECT: box(g, rect_cut(item->rect, clip), item->color, a); break;
    case DRAW_FRAME: frame(g, clip, item, a); break;
    case DRAW_TEXT: text(g, clip, item, a); break;
    case DRAW_STRIP: strip(g, clip, item, a); break;
    case DRAW_LINE:
        if (item->x != item->x2 && item->y != item->y2)
            return cut_by_clip(g, clip, item, a);
        box(g, rect_cut(straight(item), clip), item->color, a);
        break;
    case DRAW_TRIANGLE: return cut_by_clip(g, clip, item, a);
    default: break;
    }
    return 0;
}

int geometry_draw(struct geometry *g, const struct draw_list *d, struct atlas *a, uint32_t ground)
{
    const struct rect all = {0, 0, d->width, d->height};
    g->failed = false;
    if (!put_glyphs(d, a)) // once more, into an atlas that has room; what is too much is left out
        put_glyphs(d, a);
    int rc = upload(g, a);
    SDL_Color c = color_of(ground);
    SDL_SetRenderDrawColor(g->renderer, c.r, c.g, c.b, 255);
    SDL_RenderClear(g->renderer);
    for (uint32_t i = 0; i < d->count && !rc; i++) {
        struct rect clip = rect_cut(d->clips[d->items[i].clip], all);
        if (clip.w && clip.h)
            rc = put(g, clip, &d->items[i], a);
    }
    if (!rc)
        rc = flush(g);
    return g->failed ? -ENOMEM : rc;
}
