// SPDX-License-Identifier: MIT
//
// What the files of paths share. See paths.h.

#ifndef FIBERSCOPE_ANALYSIS_PATHS_INTERNAL_H
#define FIBERSCOPE_ANALYSIS_PATHS_INTERNAL_H

#include "analysis/paths.h"

// Unites paths of the two sides into p->groups. Values, base and now of all paths are set. 0,
// -ENOMEM.
int paths_match(struct paths *p);

// Of values[0..n); scratch has room for n.
double paths_median(const int64_t *values, size_t n, double *scratch);

#endif
