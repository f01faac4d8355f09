// SPDX-License-Identifier: MIT
//
// CHECK for programs whose checks run in fibers: says what failed and ends the process. And how many rounds a
// test makes: under a sanitizer, where all is slower, the one factor for all of them.

#ifndef FIBERSCOPE_TESTS_RUNTIME_CHECK_H
#define FIBERSCOPE_TESTS_RUNTIME_CHECK_H

#include <stdbool.h>
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

#ifdef __has_feature // clang
#if __has_feature(thread_sanitizer)
#define CHECK_IS_TSAN 1
#endif
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define CHECK_IS_SANITIZED 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define CHECK_IS_SANITIZED 1
#endif
#ifdef CHECK_IS_SANITIZED
enum { CHECK_SLOWNESS = 10 };
#else
enum { CHECK_SLOWNESS = 1 };
#endif

// Of n rounds (seeds, values) those that are made here, at least one. ./dev soak --full makes all.
static inline unsigned long long check_rounds(unsigned long long n)
{
    const char *full = getenv("FSCOPE_SOAK_FULL");
    if (full && *full == '1')
        return n;
    return n < CHECK_SLOWNESS ? (n > 0) : n / CHECK_SLOWNESS;
}

#endif
