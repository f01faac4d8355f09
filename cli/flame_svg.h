// SPDX-License-Identifier: MIT
//
// The flame graph as one self-contained SVG.
//
// Invariant: nothing outside the file is referred to, and no name can become markup or script:
// names stand in attributes and text, escaped, bytes that XML forbids replaced.

#ifndef FIBERSCOPE_CLI_FLAME_SVG_H
#define FIBERSCOPE_CLI_FLAME_SVG_H

#include "analysis/stacks.h"

#include <stdio.h>

struct flame_options {
    const char *title, *subtitle;
    bool upward;        // root at the bottom (flame) instead of the top (icicle)
    double min_percent; // narrower frames are left out
    int width;          // of the static picture; the script fits it to the window
    double factor;      // 1 / divide_by
    bool is_embedded;   // part of an HTML page: no declaration of XML
};

// Writes the tree; the number of frames that were too narrow goes to *hidden. 0 or -errno.
int flame_svg_write(FILE *out, const struct stacks *s, const struct report *r,
                    const struct flame_options *o, uint32_t *hidden);

// Writes text escaped for XML.
void flame_svg_escape(FILE *out, const char *text);

#endif
