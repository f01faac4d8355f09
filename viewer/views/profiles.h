// SPDX-License-Identifier: MIT
//
// The views of a profile under one roof: pages, the sample type, refinements as chips, a line of
// status. All pages show one model, and a function chosen in one is chosen in the others.
//
// Invariant: model is what refine_now says. A refinement that leaves nothing is not taken: a
// message says so and everything stays.

#ifndef FIBERSCOPE_VIEWER_VIEWS_PROFILES_H
#define FIBERSCOPE_VIEWER_VIEWS_PROFILES_H

#include "viewer/view.h"
#include "viewer/views/flame.h"
#include "viewer/views/refine.h"
#include "viewer/views/sandwich.h"
#include "viewer/views/source.h"
#include "viewer/views/top.h"
#include "viewer/views/tree.h"

enum profiles_page {
    PROFILES_FLAME,
    PROFILES_SANDWICH,
    PROFILES_TOP,
    PROFILES_TREE,
    PROFILES_SOURCE,
    PROFILES_PAGES
};

struct profiles {
    const struct profile_file *file; // borrowed; NULL: there is only the first model
    struct profile_model *first;     // borrowed: the look that the file was opened with
    struct profile_model *model;     // in force: first, or its own
    struct profile_lines *lines;     // of the model's look; NULL until the source is asked for
    const char *source_path;         // folders by ':'
    struct refine refine;
    int page;
    char *function; // chosen; NULL: none
    int sort;       // of the top table, from model to model
    bool reversed;
    bool inverted; // first is
    bool upward;   // flame graph with its root at the bottom
    struct flame flame;
    struct sandwich sandwich;
    struct top top;
    struct tree tree;
    struct source source;
    char edit[256]; // the refinement that is being written
    bool editing;
    bool failed;       // out of memory: there are no views
    char message[400]; // why something was not done
};

// file and first are borrowed; first is what sample_type and inverted make of file, which may be NULL:
// then there are no refinements and no source. source_path: see source.h. 0 or -ENOMEM.
int profiles_init(struct profiles *p, const struct profile_file *file, struct profile_model *first,
                  bool inverted, const char *source_path);
void profiles_finish(struct profiles *p); // accepts a zeroed one

void profiles_frame(struct profiles *p, struct ui *u, struct rect r);

void profiles_show(struct profiles *p, int page);
// The function of that label becomes the chosen one; false if the profile has none.
bool profiles_choose(struct profiles *p, const char *label);
// One more refinement, "focus=REGEX" and so on. 0, or -EINVAL, -ENODATA with err.
int profiles_refine(struct profiles *p, const char *text, struct fscope_error *err);

// As rows of the table of views (view.h). A document's share one struct profiles, which it frees.
extern const struct view view_icicle, view_flame, view_sandwich, view_top, view_tree, view_source;
void profiles_free(struct profiles *p); // accepts NULL

#endif
