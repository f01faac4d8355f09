// SPDX-License-Identifier: MIT
//
// What a file is that is no execution trace, and what to do with it.

#ifndef FIBERSCOPE_FORMATS_TRACE_FOREIGN_H
#define FIBERSCOPE_FORMATS_TRACE_FOREIGN_H

#include "base/error.h"

#include <stddef.h>

enum { FOREIGN_BYTES = 1024 }; // enough to see what a compressed file begins with

// What the file's first n bytes say that it is, and what to do with it; NULL: they say nothing.
const char *foreign_word(const unsigned char *bytes, size_t n);

// Fills err from the file's first n bytes, which no trace begins with. Returns its code.
int foreign_explain(const unsigned char *bytes, size_t n, struct fscope_error *err);

#endif
