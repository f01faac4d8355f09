// SPDX-License-Identifier: MIT
//
// What a terminal can show: its width, colour, and text cut to fit. Anything that is not
// a terminal gets whole names and no escapes, neither ours nor a name's own.

#ifndef FIBERSCOPE_CLI_TERMINAL_H
#define FIBERSCOPE_CLI_TERMINAL_H

#include <stdbool.h>
#include <stdio.h>

struct terminal {
    bool is_tty, colour;
    int columns; // 0: no limit
};

// NO_COLOR (not empty) and TERM=dumb switch colour off.
struct terminal terminal_of(FILE *out);

// Prints text in at most columns columns (0: all of it), with an ellipsis in the middle where it is
// cut: the class and the method of a long C++ name stay. Control characters (base/utf8.h) become '?'
// everywhere, bytes that are no UTF-8 on a terminal: it is the one way that names take into a text report.
void terminal_print(FILE *out, const struct terminal *t, const char *text, int columns);

// The escape for a share of the total: red, and bold where it matters, dim where not, magenta where a difference
// is negative; "" without colour. These two can be read on black and on white; blue, yellow, green and cyan on one alone.
const char *terminal_heat(const struct terminal *t, double share);
const char *terminal_reset(const struct terminal *t);

#endif
