// SPDX-License-Identifier: MIT
//
// A frame as an SVG picture, for documents and bug reports: rectangles, lines and selectable text.
// Text is in the reader's own monospace or sans font, fitted to the width that it has on the
// screen.

#ifndef FIBERSCOPE_VIEWER_UI_SVG_H
#define FIBERSCOPE_VIEWER_UI_SVG_H

#include "base/error.h"
#include "viewer/ui/draw.h"

// The list on a ground of that colour. Replaces the file when it is whole. 0 or a negative errno.
int svg_write(const struct draw_list *d, uint32_t ground, const char *path,
              struct fscope_error *err);

#endif
