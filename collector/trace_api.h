// SPDX-License-Identifier: MIT
//
// What a program called, where the leaf of a stack lies in Fiberscope's own code: the name of the public function.
//
// What always holds
//   - A name is that of a function of <fiberscope/...>, as runtime.NAME, or of one of libc's that the agent stands
//     before, as libc calls it.
//   - Code is input like any other: what is read of it is bounded, and no byte of it is trusted to be an instruction.
//     A byte sequence counts as a call only if its target is the very place of a function with such a name.
//
// Nothing here keeps anything but what it is handed. [any thread]

#ifndef FIBERSCOPE_COLLECTOR_TRACE_API_H
#define FIBERSCOPE_COLLECTOR_TRACE_API_H

#include "symbols/symbols.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TRACE_API_NAME_BYTES = 96 };

// What a thread may do whose stack has this leaf, as Go's reasons go: whether it can wait for `reason`, or, "", be in a
// system call; NULL: run in the program. True of any function that is not known to wait.
bool trace_api_fits(const char *leaf, size_t size, const char *reason);

// The code of one file, at link-time addresses.
struct trace_api_code {
    void *arg;
    size_t (*read)(void *arg, uint64_t address, void *out, size_t size); // bytes from there on
    const char *(*function)(void *arg, uint64_t address); // linkage name, NAME@plt; NULL: none
    const char *(*slot)(void *arg, uint64_t address);     // whose address lies there; NULL: none
};

struct trace_api_code trace_api_code_of(struct symbols_image *im);

// Whether programs call this function; out: as what. Linkage names, also with what compilers and linkers put
// behind them (.part.0, @plt, @@VERSION), our header functions' trailing underscore, and with runtime. before them.
bool trace_api_name(const char *function, char out[TRACE_API_NAME_BYTES]);

// The outermost frame of ours at a leaf.
struct trace_api_leaf {
    const char *function;              // runtime.NAME
    bool is_inlined;                   // into the program, as functions of headers are
    const struct trace_api_code *code; // of what called it; NULL: not known
    uint64_t after;                    // and where that goes on, after its call
};

// What the program called: what its call instruction says, for tail calls take public functions off the
// stack; where that calls a function which is not on the stack, what this one jumps to at its end; else the frame's own
// name. False: none of these is a public function.
bool trace_api_called(const struct trace_api_leaf *leaf, char out[TRACE_API_NAME_BYTES]);

#endif
