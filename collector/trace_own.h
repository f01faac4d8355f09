// SPDX-License-Identifier: MIT
//
// Which functions of a program are Fiberscope's own: those of a runtime that is linked into it, and those of the
// installed headers.
//
// What always holds: where debug information tells the sources, a program's own function called fib_... is not taken
// for one of ours.

#ifndef FIBERSCOPE_COLLECTOR_TRACE_OWN_H
#define FIBERSCOPE_COLLECTOR_TRACE_OWN_H

#include "symbols/symbols.h"

#include <stdbool.h>
#include <stddef.h>

struct trace_own { // zeroed: nothing known but names
    const char *source;
    size_t folder_bytes; // of source, which the runtime's folders lie in
    bool is_known;
};

// Where the source of the runtime is that this image has. o lives as long as the image.
void trace_own_learn(struct trace_own *o, struct symbols_image *im);

// Whether this function is the runtime's. Without lines public names alone tell.
bool trace_own_is(const struct trace_own *o, const char *name, const char *file);

// Whether it is a small function of the installed headers: the program's code, but not its author's. [pure]
bool trace_own_is_header(const char *name, const char *file);

#endif
