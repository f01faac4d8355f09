// SPDX-License-Identifier: MIT
//
// Names for the locks of a block or mutex profile, in this order:
//   g_lock, table+0x40 (libx.so)   the variable that holds it; the file unless it is the program itself
//   mutex at FUNCTION FILE:LINE    where it, or the allocation that holds it, was made: the first
//                                  frame outside of the C and C++ libraries
//   mutex libx.so+0x4040           its place in a file's data that no symbol covers
//   mutex 0x7f...                  its address
// The word is the lock's type, as far as it is known.

#ifndef FIBERSCOPE_COLLECTOR_LOCK_NAMES_H
#define FIBERSCOPE_COLLECTOR_LOCK_NAMES_H

#include "collector/builder.h"

#include <stdbool.h>

// Names all locks of b. Without `symbolize` the second way is left out: it needs debug info. pid: as in
// symbolize_options. 0 or -ENOMEM.
int lock_names_find(struct builder *b, bool symbolize, uint32_t pid);

#endif
