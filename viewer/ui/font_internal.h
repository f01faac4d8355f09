// SPDX-License-Identifier: MIT
//
// What the parts of fonts share: font.c keeps glyphs and the atlas, a source draws them.

#ifndef FIBERSCOPE_VIEWER_UI_FONT_INTERNAL_H
#define FIBERSCOPE_VIEWER_UI_FONT_INTERNAL_H

#include "viewer/ui/font.h"

enum { UTF8_BROKEN = 0xfffd };

enum { BITMAP_COLUMNS = 5, BITMAP_ROWS = 9, BITMAP_ASCENT = 7, BITMAP_WIDTH = 6, BITMAP_LINE = 11 };

struct font_bitmap {
    uint32_t code;
    uint8_t rows[BITMAP_ROWS];
};

const struct font_bitmap *font_bitmap_of(uint32_t code); // U+FFFD's if there is none

struct font_entry {
    struct glyph glyph; // code 0: free
    uint32_t generation;
};

// Where glyphs come from. `draw` gives size, place and advance; pixels, rows of `stride` bytes that
// are valid until the next call, or NULL if there is nothing to draw.
struct font_source {
    const uint8_t *(*draw)(void *source, uint32_t code, struct glyph *g, size_t *stride);
    void (*close)(void *source);
};

struct font {
    struct atlas *atlas;
    char *name;
    int size, ascent, height;
    const struct font_source *source;
    void *source_arg;
    struct font_cache *cache; // not const in a const font: it shows nowhere
};

// Takes the source over, also when it fails.
int font_new(struct font **out, struct atlas *a, const char *name, const struct font_source *source,
             void *source_arg);

#endif
