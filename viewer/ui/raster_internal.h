// SPDX-License-Identifier: MIT
//
// What the parts of the rasterizer share.

#ifndef FIBERSCOPE_VIEWER_UI_RASTER_INTERNAL_H
#define FIBERSCOPE_VIEWER_UI_RASTER_INTERNAL_H

#include "viewer/ui/raster.h"

struct raster_point {
    double x, y; // 0, 0: the upper left corner of the first pixel
};

enum { RASTER_POINTS_MAX = 4 };

// Fills a convex polygon, smooth: 8 lines a row, exact along each. clip is inside the picture.
void raster_polygon(struct raster *r, struct rect clip, const struct raster_point *points,
                    int count, uint32_t color);

// color's red, green, blue over a pixel; alpha of 255. The result is opaque.
uint32_t raster_blend(uint32_t under, uint32_t color, uint32_t alpha);

// --- A picture in parts.

struct raster_job {
    struct raster *raster;
    const struct draw_list *list;
    struct atlas *atlas;
    uint32_t ground; // 0: none
};

// What of the items [count] of the list lies in the box, in that order; NULL: the first `count`.
void raster_part(const struct raster_job *j, struct rect box, const uint32_t *items,
                 uint32_t count);

// All of a large picture. false, and nothing is drawn: it is small, there is no memory, or the atlas does not hold all letters.
bool raster_bands(const struct raster_job *j);

#endif
