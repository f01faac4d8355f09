// SPDX-License-Identifier: MIT
//
// The command palette and the help: what the binding table (bindings.h) says, over a view.

#ifndef FIBERSCOPE_VIEWER_PALETTE_H
#define FIBERSCOPE_VIEWER_PALETTE_H

#include "viewer/bindings.h"

struct palette {
    bool open;
    char text[64];
    int chosen, scroll;
};

// Whether all letters of `text` stand in `name` in that order, in any case; how well: 0 not at all,
// higher is better (beginnings of words, letters side by side).
int palette_match(const char *name, const char *text);

// Draws it into the middle of r and takes keys and clicks. The command that was chosen, to be put
// into u->command; COMMAND_NONE. Commands of these contexts; of the views those whose digits'
// bits are set.
enum command_id palette_frame(struct palette *p, struct ui *u, struct rect r, unsigned contexts,
                              unsigned digits);

// The commands of these contexts with their keys; the man page has all.
void palette_help(struct ui *u, struct rect r, unsigned contexts, unsigned digits);

#endif
