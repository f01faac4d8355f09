// SPDX-License-Identifier: MIT
//
// A profile as the flame graph shows it: the tree of stacks, and where each frame lies.
//
// Invariant: after profile_model_open nothing changes, and any number of threads may read. A node's
// children lie within it, side by side from its left edge, in the order of their names; what is
// left at the right is its own.

#ifndef FIBERSCOPE_VIEWER_PROFILE_MODEL_H
#define FIBERSCOPE_VIEWER_PROFILE_MODEL_H

#include "analysis/stacks.h"

struct profile_model {
    struct pprof_profile *profile;
    struct report report;
    struct stacks stacks;
    int64_t *left;      // [stacks.count], where a node begins, of the root's total
    const char *module; // of the program, as nodes have it; "" if it is not known
    char title[256];
    char width_is[256]; // "cpu, 12.3s in 4711 stacks": what a width means
};

// sample_type: NULL for the profile's own choice. inverted: leaves first. 0 or -errno with err;
// -ENODATA: nothing has a positive value.
int profile_model_open(struct profile_model **out, const char *path, const char *sample_type,
                       bool inverted, struct fscope_error *err);

// The same of a profile, which it takes over, also when it fails; `what` names it in the title and
// in messages.
int profile_model_of(struct profile_model **out, struct pprof_profile *p, const char *what,
                     const char *sample_type, bool inverted, struct fscope_error *err);
void profile_model_free(struct profile_model *m); // accepts NULL

#endif
