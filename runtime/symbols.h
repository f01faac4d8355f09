// SPDX-License-Identifier: MIT
//
// Names of functions for dumps, in a handler or a dying process: no locks of libc's, no allocation. The module
// is _dl_find_object's; its symbol table is that of its file, mapped at first use and kept.
//
// The caller holds the dump's lock: one at a time.

#ifndef FIBERSCOPE_RUNTIME_SYMBOLS_H
#define FIBERSCOPE_RUNTIME_SYMBOLS_H

#include <stdint.h>

struct symbol {
    const char *file; // the module's path; "?": pc is in none
    uint64_t address; // in the file, as addr2line takes it
    const char *name; // of the function; NULL: not known
    uint64_t offset;  // in the function
};

// pc is exact (a return address less 1).
void symbol_find(uintptr_t pc, struct symbol *out);

#endif
