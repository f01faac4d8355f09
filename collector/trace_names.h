// SPDX-License-Identifier: MIT
//
// What functions' names say about their place at a stack's root. [pure]

#ifndef FIBERSCOPE_COLLECTOR_TRACE_NAMES_H
#define FIBERSCOPE_COLLECTOR_TRACE_NAMES_H

#include <stdbool.h>
#include <stddef.h>

// libc's and, of one of our libraries, our own: below every start function.
bool trace_names_is_root(const char *name, bool is_ours);

// What a function of the runtime is called that is a fiber of the program's by its purpose; NULL: it is none.
const char *trace_names_public(const char *name, bool is_ours);

// The C++ library's, through which a std::thread comes to its function; demangled, of libstdc++ or libc++.
bool trace_names_is_trampoline(const char *name);

// The call operator of what such a function has in its hands, "main::{lambda()#1}::operator()". False: it is none of those
// that say it, or a function or member, which has a name of its own.
bool trace_names_callable(const char *trampoline, char *out, size_t size);

#endif
