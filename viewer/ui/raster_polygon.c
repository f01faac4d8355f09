// SPDX-License-Identifier: MIT
//
// Smooth convex polygons. See raster_internal.h.

#include "viewer/ui/raster_internal.h"

#include <string.h>

enum { LINES = 8, SPAN = 256 }; // lines a row; pixels that are added up at once

// Where the level line at y enters and leaves the polygon; false if it does not meet it.
static bool cross(const struct raster_point *p, int count, double y, double *left, double *right)
{
    bool met = false;
    for (int i = 0; i < count; i++) {
        const struct raster_point *a = &p[i], *b = &p[(i + 1) % count];
        if ((a->y <= y) == (b->y <= y))
            continue;
        double x = a->x + (y - a->y) / (b->y - a->y) * (b->x - a->x);
        *left = !met || x < *left ? x : *left;
        *right = !met || x > *right ? x : *right;
        met = true;
    }
    return met;
}

// Adds what [left, right) covers of the pixels from x on.
static void cover(float *sums, int x, int count, double left, double right)
{
    double from = left < x ? x : left, to = right > x + count ? x + count : right;
    if (from >= to)
        return;
    int first = (int)from, last = (int)to;
    if (first == last) {
        sums[first - x] += (float)(to - from);
        return;
    }
    sums[first - x] += (float)(first + 1 - from);
    for (int i = first + 1; i < last; i++)
        sums[i - x] += 1;
    if (last < x + count)
        sums[last - x] += (float)(to - last);
}

// The pixels of a row that the polygon may touch, cut to the clip.
static void row(struct raster *r, const struct raster_point *p, int count, int y, int begin,
                int end, uint32_t color)
{
    uint32_t *pixels = r->pixels + (size_t)y * r->stride;
    for (int x = begin; x < end; x += SPAN) {
        float sums[SPAN] = {0};
        int n = end - x < SPAN ? end - x : SPAN;
        for (int i = 0; i < LINES; i++) {
            double left = 0, right = 0;
            if (cross(p, count, y + (i + 0.5) / LINES, &left, &right))
                cover(sums, x, n, left, right);
        }
        for (int i = 0; i < n; i++) {
            uint32_t alpha = (uint32_t)(sums[i] / LINES * (float)(color >> 24) + 0.5f);
            if (alpha)
                pixels[x + i] = raster_blend(pixels[x + i], color, alpha > 255 ? 255 : alpha);
        }
    }
}

static int clamp(double v, int low, int high)
{
    return v < low ? low : v > high ? high : (int)v;
}

void raster_polygon(struct raster *r, struct rect clip, const struct raster_point *points,
                    int count, uint32_t color)
{
    double left = points[0].x, right = left, top = points[0].y, bottom = top;
    for (int i = 1; i < count; i++) {
        left = points[i].x < left ? points[i].x : left;
        right = points[i].x > right ? points[i].x : right;
        top = points[i].y < top ? points[i].y : top;
        bottom = points[i].y > bottom ? points[i].y : bottom;
    }
    int begin = clamp(left, clip.x, clip.x + clip.w);
    int end = clamp(right + 1, clip.x, clip.x + clip.w);
    int last = clamp(bottom + 1, clip.y, clip.y + clip.h);
    for (int y = clamp(top, clip.y, clip.y + clip.h); y < last; y++)
        row(r, points, count, y, begin, end, color);
}
