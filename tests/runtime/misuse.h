// SPDX-License-Identifier: MIT
//
// Bad use as a table: each row in a process of its own, which must abort and say the call, the rule, and who
// did it, with a stack.

#ifndef FIBERSCOPE_TESTS_RUNTIME_MISUSE_H
#define FIBERSCOPE_TESTS_RUNTIME_MISUSE_H

#include "fiberscope/fiber.h"
#include "tests/runtime/check.h"

// Rows say what is not as in most.
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

enum misuse_where {
    MISUSE_ANYWHERE, // in a fiber, and again in a plain thread
    MISUSE_IN_FIBER,
    MISUSE_IN_THREAD,
};

struct misuse {
    const char *behaviour;
    fib_fn *fn;
    const char *call, *rule; // "fiberscope-rt: CALL: RULE", of which the rule may be cut
    enum misuse_where where;
    const char *who;                // a line; NULL: the caller
    void (*check)(const char *err); // what else must be said; NULL: nothing
};

// Runs the rows that the command line names, or all. Main's value.
int misuse_run(const struct misuse *rows, size_t count, int argc, char **argv);

#endif
