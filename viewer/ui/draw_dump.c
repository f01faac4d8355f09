// SPDX-License-Identifier: MIT
//
// A list as text. See draw.h.

#include "viewer/ui/draw.h"

#include "base/utf8.h"
#include "viewer/ui/font.h"

static void dump_text(const struct draw_item *item, FILE *out)
{
    fprintf(out, "text %d,%d #%08x %s \"", item->x, item->y, item->color, font_name(item->font));
    for (uint32_t i = 0, n; i < item->text_bytes; i += n) {
        const char *at = item->text + i;
        n = utf8_length(at) ? (uint32_t)utf8_length(at) : 1;
        if (!utf8_is_control(at))
            fprintf(out, "%s%.*s", *at == '"' || *at == '\\' ? "\\" : "", (int)n, at);
        for (uint32_t k = 0; k < n && utf8_is_control(at); k++)
            fprintf(out, "\\x%02x", (unsigned char)at[k]);
    }
    fputs("\"\n", out);
}

// Equal columns side by side are said once: "12*#ff336699" or, with a height, "12*#ff336699/255".
static void dump_strip(const struct draw_item *item, FILE *out)
{
    struct rect r = item->rect;
    fprintf(out, "strip %d,%d %dx%d", r.x, r.y, r.w, r.h);
    for (int i = 0, n; i < r.w; i += n) {
        for (n = 1; i + n < r.w && item->colors[i + n] == item->colors[i] &&
                    (!item->heights || item->heights[i + n] == item->heights[i]);)
            n++;
        fprintf(out, " %d*#%08x", n, item->colors[i]);
        if (item->heights)
            fprintf(out, "/%u", item->heights[i]);
    }
    fputc('\n', out);
}

static void dump_item(const struct draw_item *item, FILE *out)
{
    struct rect r = item->rect;
    switch (item->op) {
    case DRAW_RECT:
        fprintf(out, "rect %d,%d %dx%d #%08x\n", r.x, r.y, r.w, r.h, item->color);
        break;
    case DRAW_FRAME:
        fprintf(out, "frame %d,%d %dx%d %u #%08x\n", r.x, r.y, r.w, r.h, item->size, item->color);
        break;
    case DRAW_LINE:
        fprintf(out, "line %d,%d %d,%d %u #%08x\n", item->x, item->y, item->x2, item->y2,
                item->size, item->color);
        break;
    case DRAW_TRIANGLE:
        fprintf(out, "triangle %d,%d %d,%d %d,%d #%08x\n", item->x, item->y, item->x2, item->y2,
                item->x3, item->y3, item->color);
        break;
    case DRAW_TEXT: dump_text(item, out); break;
    case DRAW_STRIP: dump_strip(item, out); break;
    default: break;
    }
}

void draw_dump(const struct draw_list *d, FILE *out)
{
    uint32_t clip = 0;
    fprintf(out, "size %dx%d\n", d->width, d->height);
    for (uint32_t i = 0; i < d->count; i++) {
        const struct draw_item *item = &d->items[i];
        if (item->clip != clip) {
            struct rect c = d->clips[item->clip];
            fprintf(out, "clip %d,%d %dx%d\n", c.x, c.y, c.w, c.h);
            clip = item->clip;
        }
        dump_item(item, out);
    }
    if (d->failed)
        fputs("failed: out of memory\n", out);
}
