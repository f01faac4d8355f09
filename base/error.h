// SPDX-License-Identifier: MIT
//
// How the outside tells what went wrong: a code for the program, a sentence for the reader.
//
// A library function returns 0 or -errno and, where it takes a struct fscope_error, fills it with
// what, where and why. It never prints and never exits; cli/ does both.

#ifndef FIBERSCOPE_BASE_ERROR_H
#define FIBERSCOPE_BASE_ERROR_H

#include <stdint.h>

#define FSCOPE_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define FSCOPE_NODISCARD         __attribute__((warn_unused_result))

struct fscope_error {
    int code;        // 0 or -errno
    uint64_t offset; // byte offset in the input, 0 where that means nothing
    char text[384];  // one line, no newline; says what to do where something can be done
};

// Fills err (which may be NULL) and returns code, so that `return error_set(...)` reads well. A
// text too long for the struct is cut at a whole character. [any thread]
int error_set(struct fscope_error *err, int code, uint64_t offset, const char *fmt, ...)
    FSCOPE_PRINTF(4, 5);

// Puts "fmt: " before the text that err already has; for callers that know more of the where.
// Returns err's code. [any thread]
int error_prefix(struct fscope_error *err, const char *fmt, ...) FSCOPE_PRINTF(2, 3);

#endif
