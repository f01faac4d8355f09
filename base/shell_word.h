// SPDX-License-Identifier: MIT
//
// A file's name, or another text, as a word of a shell command that a reader can copy.

#ifndef FIBERSCOPE_BASE_SHELL_WORD_H
#define FIBERSCOPE_BASE_SHELL_WORD_H

#include <stdio.h>

// As it is, or quoted; control characters, which no terminal is to have, as '?'.
void shell_word_print(FILE *out, const char *text);

#endif
