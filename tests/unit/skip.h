// SPDX-License-Identifier: MIT
//
// How a unit test says that one of its cases cannot run here. cmocka's own skip() alone ends in
// exit status 0 and no reason, so a test that tested nothing would count as passed.
//
// Invariant: each case left out is a line `SKIP: case: reason`, which ./dev test repeats at its end
// and CI takes for a failure; a program none of whose cases failed then ends with ctest's status
// for "skipped". A failure stays a failure, whatever was left out beside it.
//
// Include after cmocka.h.

#ifndef FIBERSCOPE_TESTS_SKIP_H
#define FIBERSCOPE_TESTS_SKIP_H

enum { SKIP_STATUS = 77 }; // SKIP_RETURN_CODE in cmake/FscopeTests.cmake

static int skip_count;

// Ends the case; the arguments are printf's, and say why it cannot run here.
#define SKIP_CASE(...)                                                                             \
    do {                                                                                           \
        skip_count++;                                                                              \
        print_message("SKIP: %s: ", __func__);                                                     \
        print_message(__VA_ARGS__);                                                                \
        print_message("\n");                                                                       \
        skip();                                                                                    \
    } while (0)

// The program's exit status; failed is what cmocka_run_group_tests returned.
static inline int skip_status(int failed)
{
    return failed || !skip_count ? failed : SKIP_STATUS;
}

#endif
