// SPDX-License-Identifier: MIT
//
// For programs under test that check themselves: what fails is said on standard output, exit status 10.

#ifndef FIBERSCOPE_TESTS_E2E_TARGET_H
#define FIBERSCOPE_TESTS_E2E_TARGET_H

#include <stdio.h>
#include <unistd.h>

#ifdef __clang__
#define NOINLINE __attribute__((noinline))
#else
#define NOINLINE __attribute__((noinline, noclone))
#endif
#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            printf("line %d: %s\n", __LINE__, #x);                                                 \
            fflush(stdout);                                                                        \
            _exit(10);                                                                             \
        }                                                                                          \
    } while (0)

#endif
