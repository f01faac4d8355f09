// SPDX-License-Identifier: MIT
//
// A frame as a list of things to draw.
//
// Views and widgets write a list, back ends read it: the CPU rasterizer (raster.h), SVG (svg.h),
// SDL's renderer, and a text form that tests compare. So a picture is the same everywhere, and a
// test sees what a user sees.
//
// Units are device pixels, y downwards. Colours are 0xAARRGGBB, alpha not multiplied in. What comes
// later covers what came before. Things outside the clip in force are left out when they are added,
// so that a view may draw more than fits; what is partly outside is cut by the back end, which gets
// the clip with each item.
//
// A strip is a row of columns one pixel wide, each with a colour and a height: a timeline lane with
// more spans than pixels is one item, not thousands of rectangles.
//
// One thread at a time owns a list. Running out of memory is remembered (draw_list.failed): the
// frame is drawn as far as it came.

#ifndef FIBERSCOPE_VIEWER_UI_DRAW_H
#define FIBERSCOPE_VIEWER_UI_DRAW_H

#include "base/arena.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct font;

struct rect {
    int x, y, w, h;
};

enum draw_op {
    DRAW_RECT,
    DRAW_FRAME,    // a rectangle's edges, inside it, `size` thick
    DRAW_LINE,     // from x, y to x2, y2, `size` thick, smooth
    DRAW_TRIANGLE, // x, y; x2, y2; x3, y3; smooth
    DRAW_TEXT,     // x, y: the left end of the base line
    DRAW_STRIP,
};

struct draw_item {
    uint8_t op; // draw_op
    uint16_t size;
    uint32_t color;
    uint32_t clip; // of clips[]
    union {
        struct rect rect; // DRAW_RECT, DRAW_FRAME; DRAW_STRIP: w columns, h is the full height
        struct {
            int x, y, x2, y2, x3, y3;
        };
    };
    union {
        struct {
            const struct font *font;
            const char *text; // in the list's arena, UTF-8, text_bytes long, NUL after it
            uint32_t text_bytes;
        };
        struct {
            const uint32_t *colors; // [rect.w] in the arena; alpha 0: nothing
            const uint8_t *heights; // [rect.w], of 255, from the lower edge; NULL: full
        };
    };
};

enum { DRAW_CLIPS_DEEP = 16 };

struct draw_list {
    struct draw_item *items;
    uint32_t count, capacity;
    struct rect *clips; // all that were in force
    uint32_t clip_count, clip_capacity;
    uint32_t stack[DRAW_CLIPS_DEEP]; // of clips
    uint32_t depth;
    struct arena arena;
    int width, height;
    bool failed;
};

// A list for a picture of that size. Reset keeps the memory for the next frame.
void draw_init(struct draw_list *d, int width, int height);
void draw_reset(struct draw_list *d, int width, int height);
void draw_finish(struct draw_list *d); // accepts a zeroed one

// Cuts what follows to the rectangle and the clip in force. Balanced; deeper than DRAW_CLIPS_DEEP
// draws nothing.
void draw_clip_push(struct draw_list *d, struct rect r);
void draw_clip_pop(struct draw_list *d);
struct rect draw_clip(const struct draw_list *d);

void draw_rect(struct draw_list *d, struct rect r, uint32_t color);
void draw_frame(struct draw_list *d, struct rect r, int thickness, uint32_t color);
void draw_line(struct draw_list *d, int x, int y, int x2, int y2, int thickness, uint32_t color);
void draw_triangle(struct draw_list *d, int x, int y, int x2, int y2, int x3, int y3,
                   uint32_t color);

// n bytes of UTF-8; SIZE_MAX: up to the NUL. Returns the width.
int draw_text(struct draw_list *d, const struct font *f, int x, int baseline, uint32_t color,
              const char *text, size_t n);

// As much of the text as fits between x and x + width, with an ellipsis if that is not all; nothing
// if no letter fits beside it. Returns the width drawn.
int draw_text_fit(struct draw_list *d, const struct font *f, int x, int baseline, int width,
                  uint32_t color, const char *text);

// r.w colours, and heights unless that is NULL, zeroed, for the caller to fill until the list is reset. false: it is not seen,
// or there is no memory.
bool draw_strip_room(struct draw_list *d, struct rect r, uint32_t **colors, uint8_t **heights);

// The arrays are copied. heights may be NULL.
void draw_strip(struct draw_list *d, struct rect r, const uint32_t *colors, const uint8_t *heights);

// One line an item, in order: operation, place, colour, text; clips where they change. Stable: what
// tests compare.
void draw_dump(const struct draw_list *d, FILE *out);

// What is written, as a reader would say it: a line for each row, its texts from left to right with
// tabs between; of panes that stand beside each other, one after the other. For the clipboard.
void draw_words(const struct draw_list *d, FILE *out);

static inline struct rect rect_make(int x, int y, int w, int h)
{
    return (struct rect){x, y, w, h};
}

// What both have; w or h is 0 if that is nothing.
struct rect rect_cut(struct rect a, struct rect b);
bool rect_has(struct rect r, int x, int y);

#endif
