// SPDX-License-Identifier: MIT
//
// CHECK for programs whose checks run in fibers: says what failed and ends the process.

#ifndef FIBERSCOPE_TESTS_RUNTIME_CHECK_H
#define FIBERSCOPE_TESTS_RUNTIME_CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CHECK(condition, ...)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s:", __FILE__, __LINE__, #condition);                         \
            fprintf(stderr, " " __VA_ARGS__);                                                      \
            fputc('\n', stderr);                                                                   \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

#endif
