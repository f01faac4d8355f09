// SPDX-License-Identifier: MIT
//
// The CPU back end: a list of things to draw becomes pixels.
//
// Needs no display and no graphics processor, and gives the same pixels on every machine as long as
// the font is the built-in one. Blending is in sRGB as stored, like most desktop programs, so that
// a colour at half alpha looks as it does elsewhere.

#ifndef FIBERSCOPE_VIEWER_UI_RASTER_H
#define FIBERSCOPE_VIEWER_UI_RASTER_H

#include "base/error.h"
#include "viewer/ui/draw.h"

struct atlas;

enum { RASTER_SIZE_MAX = 16384 }; // pixels, each way

struct raster {
    uint32_t *pixels; // 0xAARRGGBB; row by row
    int width, height;
    size_t stride;  // pixels from row to row
    uint32_t *work; // of raster_bands.c
    size_t work_capacity;
};

// Memory of its own. 0, -ENOMEM, -EINVAL (beyond 1 to RASTER_SIZE_MAX).
int raster_init(struct raster *r, int width, int height);
void raster_finish(struct raster *r);

void raster_clear(struct raster *r, uint32_t color);

// Draws all of it; a large picture band by band, by two threads, which gives the same pixels. The atlas is that of the list's
// fonts; glyphs that are not in it any more are put in again.
void raster_draw(struct raster *r, const struct draw_list *d, struct atlas *a);

// The same on a ground of that colour: clears, too, by as many threads.
void raster_frame(struct raster *r, const struct draw_list *d, struct atlas *a, uint32_t ground);

// Writes a PNG, replacing the file when it is whole. 0 or a negative errno with err.
int raster_write_png(const struct raster *r, const char *path, struct fscope_error *err);

#endif
