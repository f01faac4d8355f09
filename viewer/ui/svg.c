// SPDX-License-Identifier: MIT
//
// Lists to SVG. See svg.h.

#include "viewer/ui/svg.h"

#include "base/file.h"
#include "viewer/ui/font.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void escape(FILE *out, const char *text, size_t n)
{
    const char *p = text, *end = text + n;
    for (const char *at = p; p < end; at = p) {
        uint32_t code = utf8_next(&p, end);
        switch (code) {
        case '<': fputs("&lt;", out); break;
        case '>': fputs("&gt;", out); break;
        case '&': fputs("&amp;", out); break;
        case '"': fputs("&quot;", out); break;
        // Broken bytes, control characters, and what XML forbids.
        case 0xfffd:
        case 0xfffe:
        case 0xffff: fputs("\xef\xbf\xbd", out); break;
        default: fwrite(at, 1, (size_t)(p - at), out);
        }
    }
}

// ` fill="#rrggbb"` and the opacity, if it is not full.
static void paint(FILE *out, const char *what, uint32_t color)
{
    fprintf(out, " %s=\"#%06x\"", what, color & 0xffffff);
    if (color >> 24 != 255)
        fprintf(out, " %s-opacity=\"%.3f\"", what, (double)(color >> 24) / 255);
}

static void box(FILE *out, struct rect r, uint32_t color)
{
    fprintf(out, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\"", r.x, r.y, r.w, r.h);
    paint(out, "fill", color);
    fputs("/>\n", out);
}

// The stroke is centred on its path, a frame lies inside.
static void frame(FILE *out, const struct draw_item *item)
{
    struct rect r = item->rect;
    double half = item->size / 2.0;
    if (2 * item->size >= r.w || 2 * item->size >= r.h) {
        box(out, r, item->color);
        return;
    }
    fprintf(out, "<rect x=\"%g\" y=\"%g\" width=\"%d\" height=\"%d\" fill=\"none\"", r.x + half,
            r.y + half, r.w - item->size, r.h - item->size);
    paint(out, "stroke", item->color);
    fprintf(out, " stroke-width=\"%u\"/>\n", item->size);
}

static void line(FILE *out, const struct draw_item *item)
{
    int half = (item->size - 1) / 2;
    int x = item->x, y = item->y, x2 = item->x2, y2 = item->y2;
    if (x == x2 || y == y2) { // as pixels, like the rasterizer
        struct rect r = {x < x2 ? x : x2, y < y2 ? y : y2, abs(x2 - x) + 1, abs(y2 - y) + 1};
        if (x == x2)
            r = rect_make(r.x - half, r.y, item->size, r.h);
        else
            r = rect_make(r.x, r.y - half, r.w, item->size);
        box(out, r, item->color);
        return;
    }
    fprintf(out, "<line x1=\"%g\" y1=\"%g\" x2=\"%g\" y2=\"%g\"", x + 0.5, y + 0.5, x2 + 0.5,
            y2 + 0.5);
    paint(out, "stroke", item->color);
    fprintf(out, " stroke-width=\"%u\"/>\n", item->size);
}

static void text(FILE *out, const struct draw_item *item)
{
    int width = font_width(item->font, item->text, item->text_bytes);
    fprintf(out, "<text x=\"%d\" y=\"%d\" font-size=\"%d\" textLength=\"%d\"", item->x, item->y,
            font_size(item->font), width);
    // Letters of the reader's font are moved together or apart, not stretched.
    if (strstr(font_name(item->font), "Mono") || !strcmp(font_name(item->font), "builtin"))
        fputs(" class=\"mono\"", out);
    paint(out, "fill", item->color);
    fputc('>', out);
    escape(out, item->text, item->text_bytes);
    fputs("</text>\n", out);
}

static int column_height(const struct draw_item *item, int i)
{
    int h = item->rect.h;
    if (!item->heights)
        return h;
    int n = (item->heights[i] * h * 2 + 255) / 510;
    return n || !item->heights[i] ? n : 1;
}

// One path for columns of a colour that stand side by side, along their upper edges.
static void strip(FILE *out, const struct draw_item *item)
{
    struct rect r = item->rect;
    for (int i = 0, end; i < r.w; i = end) {
        uint32_t color = item->colors[i];
        for (end = i + 1; end < r.w && item->colors[end] == color;)
            end++;
        if (!(color >> 24))
            continue;
        fprintf(out, "<path d=\"M%d %d", r.x + i, r.y + r.h);
        for (int x = i, n; x < end; x += n) {
            int h = column_height(item, x);
            for (n = 1; x + n < end && column_height(item, x + n) == h;)
                n++;
            fprintf(out, "V%dh%d", r.y + r.h - h, n);
        }
        fprintf(out, "V%dz\"", r.y + r.h);
        paint(out, "fill", color);
        fputs("/>\n", out);
    }
}

static void put(FILE *out, const struct draw_item *item)
{
    switch (item->op) {
    case DRAW_RECT: box(out, item->rect, item->color); break;
    case DRAW_FRAME: frame(out, item); break;
    case DRAW_LINE: line(out, item); break;
    case DRAW_TRIANGLE:
        fprintf(out, "<path d=\"M%d %dL%d %dL%d %dz\"", item->x, item->y, item->x2, item->y2,
                item->x3, item->y3);
        paint(out, "fill", item->color);
        fputs("/>\n", out);
        break;
    case DRAW_TEXT: text(out, item); break;
    case DRAW_STRIP: strip(out, item); break;
    default: break;
    }
}

static void put_list(FILE *out, const struct draw_list *d, uint32_t ground)
{
    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
            "viewBox=\"0 0 %d %d\">\n"
            "<style>text{font-family:system-ui,\"DejaVu Sans\",sans-serif;white-space:pre}"
            ".mono{font-family:\"JetBrains Mono\",\"DejaVu Sans Mono\",monospace}"
            "rect,path{shape-rendering:crispEdges}</style>\n",
            d->width, d->height, d->width, d->height);
    for (uint32_t i = 1; i < d->clip_count; i++)
        fprintf(out,
                "<clipPath id=\"c%u\"><rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\"/>"
                "</clipPath>\n",
                i, d->clips[i].x, d->clips[i].y, d->clips[i].w, d->clips[i].h);
    box(out, rect_make(0, 0, d->width, d->height), ground | 0xff000000);
    uint32_t clip = 0; // the whole picture cuts by itself
    for (uint32_t i = 0; i < d->count; i++) {
        const struct draw_item *item = &d->items[i];
        if (item->clip != clip) {
            fputs(clip ? "</g>\n" : "", out);
            clip = item->clip;
            if (clip)
                fprintf(out, "<g clip-path=\"url(#c%u)\">\n", clip);
        }
        put(out, item);
    }
    fputs(clip ? "</g>\n</svg>\n" : "</svg>\n", out);
}

int svg_write(const struct draw_list *d, uint32_t ground, const char *path,
              struct fscope_error *err)
{
    char *bytes = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&bytes, &n);
    if (!out)
        return error_set(err, -ENOMEM, 0, "%s: out of memory", path);
    put_list(out, d, ground);
    bool whole = !ferror(out);
    whole &= !fclose(out);
    struct file_replace f = {.fd = -1};
    int rc =
        whole ? file_begin(&f, path, err) : error_set(err, -ENOMEM, 0, "%s: out of memory", path);
    if (!rc) {
        rc = file_write_all(f.fd, bytes, n);
        if (!rc) {
            rc = file_commit(&f, err);
        } else {
            file_abort(&f);
            error_set(err, rc, 0, "%s: %s", path, strerror(-rc));
        }
    }
    free(bytes);
    return rc;
}
