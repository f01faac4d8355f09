// SPDX-License-Identifier: MIT
//
// One function between its callers (above, nearest at it) and its callees (beneath), as two flame
// graphs on one scale.
//
// A sample counts once, by the function's outermost call in it, so that each side is as wide as the
// function's cum; where nothing recurses, the boxes beside it are the edges of `fiberscope peek`.

#ifndef FIBERSCOPE_VIEWER_VIEWS_SANDWICH_H
#define FIBERSCOPE_VIEWER_VIEWS_SANDWICH_H

#include "viewer/views/flame.h"

enum { SANDWICH_CALLERS, SANDWICH_CALLEES, SANDWICH_SIDES };

// Direct callers or callees, the largest first; node 0: the function's own.
struct sandwich_edges {
    struct sandwich_edge {
        uint32_t node; // of the side's stacks
        int64_t value;
    } * items; // [count]
    uint32_t count;
};

struct sandwich {
    const struct profile_model *model;
    const char *function; // of the model's; NULL: none
    struct stacks stacks[SANDWICH_SIDES];
    int64_t *left[SANDWICH_SIDES];
    struct flame flames[SANDWICH_SIDES];
    struct sandwich_edges edges[SANDWICH_SIDES];
    int side; // that has the keys
};

void sandwich_init(struct sandwich *s, const struct profile_model *m);
void sandwich_finish(struct sandwich *s); // accepts a zeroed one

// Shows that function; NULL, or one that the model has not: none. 0 or -errno.
int sandwich_set(struct sandwich *s, const char *label, struct fscope_error *err);

void sandwich_frame(struct sandwich *s, struct ui *u, struct rect r);

const char *sandwich_chosen(const struct sandwich *s); // the chosen frame's function, or NULL

// --- sandwich_edges.c

int sandwich_edges_set(struct sandwich *s, int side); // 0 or -ENOMEM
void sandwich_edges_forget(struct sandwich_edges *e); // accepts a zeroed one

// How high they are where there is so much room; 0: too little.
int sandwich_edges_height(const struct sandwich *s, const struct ui *u, int room);
void sandwich_edges_frame(struct sandwich *s, struct ui *u, struct rect r);

#endif
