// SPDX-License-Identifier: MIT
//
// Characters of a text that nobody vouches for: names come from programs and files.

#ifndef FIBERSCOPE_BASE_UTF8_H
#define FIBERSCOPE_BASE_UTF8_H

#include <stdbool.h>

// The bytes of the UTF-8 character at s, which a NUL ends; 0 if there is none.
int utf8_length(const char *s);

// Whether a terminal obeys the character at s instead of showing it: of C0 (a newline, too), DEL, of C1 as UTF-8 or
// as a lone byte, and what ends a line or turns its direction in Unicode.
bool utf8_is_control(const char *s);

// Puts '?' in place of each byte of such characters, but of those of `but`.
void utf8_mask_controls(char *text, const char *but);

#endif
