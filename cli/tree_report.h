// SPDX-License-Identifier: MIT
//
// The report of `tree` and `peek`: each node between its callers and its callees.

#ifndef FIBERSCOPE_CLI_TREE_REPORT_H
#define FIBERSCOPE_CLI_TREE_REPORT_H

#include "cli/profile_args.h"

// peek: only nodes whose name matches it; NULL: all. Returns the exit status.
int tree_report(struct profile_args *a, const char *peek, int argc, char **argv);

#endif
