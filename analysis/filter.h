// SPDX-License-Identifier: MIT
//
// What the parts of the filters share. Internal to analysis/.

#ifndef FIBERSCOPE_ANALYSIS_FILTER_H
#define FIBERSCOPE_ANALYSIS_FILTER_H

#include "analysis/report.h"

#include <stdio.h>

bool filter_given(const char *pattern);
void filter_warn(const struct report_options *o, bool matched, const char *text);

// tagfocus, tagignore, tagshow, taghide. 0 or -errno.
int filter_by_tag(struct pprof_profile *p, const struct report_options *o,
                  struct fscope_error *err);

#endif
