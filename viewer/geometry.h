// SPDX-License-Identifier: MIT
//
// The back end for a screen's driver: a list of things to draw as triangles of one texture, the
// atlas, whose white square gives plain colours. So a frame is one call, but for slanted lines and
// triangles that a clip cuts.
//
// Rectangles, strips and letters have the pixels of the CPU back end (raster.h), within rounding;
// slanted edges are not smooth.

#ifndef FIBERSCOPE_VIEWER_GEOMETRY_H
#define FIBERSCOPE_VIEWER_GEOMETRY_H

#include "viewer/ui/draw.h"
#include "viewer/ui/font.h"

#include <SDL.h>

struct geometry {
    SDL_Renderer *renderer;
    SDL_Texture *texture;
    uint32_t version, generation; // of the atlas that is in the texture
    SDL_Vertex *vertices;
    int *indices;
    int count, index_count, capacity, index_capacity;
    bool failed;
};

void geometry_init(struct geometry *g, SDL_Renderer *renderer);
void geometry_finish(struct geometry *g); // before its renderer; accepts a zeroed one

// Draws all of it on that ground. 0, -ENOMEM, -EIO (SDL_GetError).
int geometry_draw(struct geometry *g, const struct draw_list *d, struct atlas *a, uint32_t ground);

#endif
