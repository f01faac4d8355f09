// SPDX-License-Identifier: MIT
//
// What a differential flame graph has besides a plain one: colours by change, hatching for what only
// the base has, the legend.
//
// Invariant: the step of a frame depends on its two totals alone, so that the static picture and the
// script (cli/flame.js, change()) colour alike.

#ifndef FIBERSCOPE_CLI_FLAME_DIFF_H
#define FIBERSCOPE_CLI_FLAME_DIFF_H

#include "analysis/stacks.h"

#include <stdio.h>

enum {
    FLAME_GONE = STACKS_GONE, // only the base has it; drawn hatched
    FLAME_SAME = STACKS_SAME,
    FLAME_NEW = STACKS_NEW,
    FLAME_PART, // the part of a frame's own that is gone: as FLAME_GONE, over the frame
    FLAME_STEPS,
    FLAME_LEGEND_HEIGHT = 26,
};

const char *flame_diff_fill(unsigned step); // for fill="": without style
unsigned flame_diff_class(unsigned step);   // N of class dN
void flame_diff_write_style(FILE *out);     // rules, inside <style>
void flame_diff_write_patterns(FILE *out);  // <defs>
void flame_diff_write_legend(FILE *out, int x, int y);

#endif
