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
    FLAME_GONE, // only the base has it; drawn hatched
    FLAME_SAME = 4,
    FLAME_NEW = 8,
    FLAME_PART, // the part of a frame's own that is gone: as FLAME_GONE, over the frame
    FLAME_STEPS,
    FLAME_LEGEND_HEIGHT = 26,
};

// By the factor between base and now: gone, to half or less, to 1/1.25, to 1/1.05, the same, x 1.05,
// x 1.25, x 2 or more, new.
unsigned flame_diff_step(const struct stacks_node *n);

// How much of the frame's own width is gone, at its right end.
int64_t flame_diff_part(const struct stacks_node *n);

const char *flame_diff_fill(unsigned step); // for fill="": without style
unsigned flame_diff_class(unsigned step);   // N of class dN
void flame_diff_write_style(FILE *out);     // rules, inside <style>
void flame_diff_write_patterns(FILE *out);  // <defs>
void flame_diff_write_legend(FILE *out, int x, int y);

// "width: cpu, both profiles; base 1.20s, now 1.80s: +0.60s (+50.0%)" into buf.
void flame_diff_subtitle(char *buf, size_t size, const struct report *r, const struct stacks *s);

#endif
