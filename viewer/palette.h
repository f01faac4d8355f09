// SPDX-License-Identifier: MIT
//
// The command palette and the help: what the binding table (bindings.h) says, over a view.

#ifndef FIBERSCOPE_VIEWER_PALETTE_H
#define FIBERSCOPE_VIEWER_PALETTE_H

#include "viewer/bindings.h"

struct palette_entry { // beside the commands: what a view has at the time
    uint16_t id;       // command_id
    char name[100];
};

enum { PALETTE_ENTRIES = 26 };

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
// bits are set; and of `more`, PALETTE_ENTRIES at most.
enum command_id palette_frame(struct palette *p, struct ui *u, struct rect r, unsigned contexts,
                              unsigned digits, const struct palette_entry *more, int more_count);

// The commands of these contexts with their keys; the man page has all.
void palette_help(struct ui *u, struct rect r, unsigned contexts, unsigned digits);

#endif
