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

#endif
