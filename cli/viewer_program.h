// SPDX-License-Identifier: MIT
//
// Where fiberscope-view is: a program of its own, so that the command needs no graphics library.

#ifndef FIBERSCOPE_CLI_VIEWER_PROGRAM_H
#define FIBERSCOPE_CLI_VIEWER_PROGRAM_H

#include <limits.h>

enum { VIEWER_PATH_MAX = 2 * PATH_MAX };

// 0 and its path; -ENOENT, and in `path` the folder where it was looked for.
int viewer_program(char path[VIEWER_PATH_MAX]);

#endif
