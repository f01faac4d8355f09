// SPDX-License-Identifier: MIT
//
// The flame graph of a profile: root at the top (icicle) or at the bottom (flame).
//
// A frame is as wide as its value. Frames too narrow to see stand together as one grey box, so that
// nothing is missing and a picture has few items however large the profile is. A click makes a
// frame as wide as the window; its callers stand above it, dim.
//
// Of two profiles, colours say how a frame changed, and what only the base has is hatched.

#ifndef FIBERSCOPE_VIEWER_VIEWS_FLAME_H
#define FIBERSCOPE_VIEWER_VIEWS_FLAME_H

#include "viewer/profile_model.h"
#include "viewer/ui/ui.h"

enum { FLAME_UNDO = 64 };

struct flame {
    const struct profile_model *model;
    const struct stacks *stacks; // the model's, or others of its report
    const int64_t *left;         // where their nodes begin
    uint32_t top;                // node that has the whole width
    uint32_t undo[FLAME_UNDO];
    int undo_count;
    uint32_t chosen; // by key or click; 0: none
    int scroll;
    bool upward;
    bool hide_root; // the row of node 0 is not drawn
    bool keyless;   // keys are another's
    bool tight;     // no empty row at the end
    char search[64];
    uint8_t *found; // [count]: the name matches; 2: below one that does
    int64_t found_total;

    // Of the frame.
    struct rect body;
    int row;
    uint32_t hot;
};

int flame_init(struct flame *f, const struct profile_model *m); // 0 or -ENOMEM
// The same of other stacks of m's report. All are borrowed.
int flame_init_of(struct flame *f, const struct profile_model *m, const struct stacks *s,
                  const int64_t *left);
void flame_finish(struct flame *f); // accepts a zeroed one

void flame_frame(struct flame *f, struct ui *u, struct rect r); // a head, then the body
void flame_body(struct flame *f, struct ui *u, struct rect r);

// Chooses the widest frame of a function; none: NULL or not there.
void flame_choose(struct flame *f, const char *label);

// Frames whose names have the text in them, in any case; "" ends the search.
void flame_find(struct flame *f, const char *text);

#endif
