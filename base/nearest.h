// SPDX-License-Identifier: MIT
//
// What a mistyped word was meant to be, for error messages.
//
// Invariant: the words are hostile; comparing is bounded by NEAREST_LENGTH_MAX, however long they
// are. Nothing is allocated.

#ifndef FIBERSCOPE_BASE_NEAREST_H
#define FIBERSCOPE_BASE_NEAREST_H

#include <stddef.h>

enum { NEAREST_LENGTH_MAX = 48 }; // longer words are nobody's typing mistake

// The word of words[0..count) nearest to what, or NULL if none is near enough to be meant: a third
// of the letters may be wrong, and a beginning counts as one slip (`rec` means record). [any
// thread]
const char *nearest_word(const char *what, const char *const *words, size_t count);

#endif
