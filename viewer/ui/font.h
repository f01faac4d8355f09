// SPDX-License-Identifier: MIT
//
// Fonts: a face at a size, its glyphs in one atlas.
//
// The atlas is a picture of coverage (0 to 255), one byte a pixel, that all fonts share; its first
// pixels are full, so that a renderer may take plain colour from it as well. A glyph is drawn into
// it when it is first asked for. When the atlas is full, it is emptied (`generation` changes) and
// filled again as glyphs are asked for: a frame asks for all that it draws, so a back end looks at
// the generation after it has walked the list, and walks it again if it changed.
//
// The built-in font is a 5 by 9 bitmap, times a whole number: it needs no file, and looks the same
// on every machine. Pictures that tests compare use it. Other fonts are read by FreeType.
//
// Text is UTF-8 from strangers: broken bytes are drawn as U+FFFD, control characters too. No
// shaping, no right-to-left: symbol names do not need it.
//
// One thread at a time.

#ifndef FIBERSCOPE_VIEWER_UI_FONT_H
#define FIBERSCOPE_VIEWER_UI_FONT_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ATLAS_WHITE = 4 }; // a square of full pixels at 0, 0

struct atlas {
    uint8_t *coverage; // [height][width]
    int width, height;
    int row_x, row_y, row_height; // where the next glyph goes
    uint32_t generation;          // of what is in it; changes when it was emptied
    uint32_t version;             // changes with every glyph
};

struct glyph {
    uint16_t x, y, w, h; // in the atlas; w 0: nothing to draw
    int16_t left, top;   // of its upper left corner from the pen; top upwards from the base line
    int16_t advance;     // pixels
    uint32_t code;       // of the character
};

struct font; // holds its atlas by reference

// width, height: pixels, 256 to 8192. 0 or -ENOMEM, -EINVAL.
int atlas_init(struct atlas *a, int width, int height);
void atlas_finish(struct atlas *a);

// scale: 1 to 8 times 6 by 11 pixels. 0, -ENOMEM or -EINVAL.
int font_builtin(struct font **out, struct atlas *a, int scale);

// A file that FreeType reads, its em `size` pixels, 4 to 200; face: which one of the file, mostly
// 0. 0 or a negative errno, err says which file and why.
int font_open(struct font **out, struct atlas *a, const char *path, int face, int size,
              struct fscope_error *err);

// The system's font of a family ("monospace", "sans") by fontconfig. 0, or a negative errno with
// err; -ENOENT: there is none, the built-in one is left.
int font_system(struct font **out, struct atlas *a, const char *family, int size,
                struct fscope_error *err);
void font_close(struct font *f); // accepts NULL

int font_ascent(const struct font *f);       // pixels above the base line
int font_height(const struct font *f);       // from line to line
int font_size(const struct font *f);         // of the em; of the built-in one 9 times its scale
const char *font_name(const struct font *f); // the face's; for tests' dumps "builtin"

// The glyph of a character, drawn into the atlas if it is not there. Never NULL; valid until the
// next call.
const struct glyph *font_glyph(const struct font *f, uint32_t code);

// The width of n bytes (SIZE_MAX: up to the NUL).
int font_width(const struct font *f, const char *text, size_t n);

// How many bytes of the text fit into that width, never half a character.
size_t font_fit(const struct font *f, const char *text, size_t n, int width);

// The next character of UTF-8 text, which moves on; 0 at the end. Broken bytes give U+FFFD, one
// each.
uint32_t utf8_next(const char **text, const char *end);

#endif
