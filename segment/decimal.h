// SPDX-License-Identifier: MIT
//
// A number as text, for paths that are made inside a target, where there is no stdio. [async-signal-safe]

#ifndef FIBERSCOPE_SEGMENT_DECIMAL_H
#define FIBERSCOPE_SEGMENT_DECIMAL_H

#include <stdint.h>

// Writes n at `at`, 10 characters at most and no NUL. The end.
static inline char *decimal_put(char *at, uint32_t n)
{
    char digits[10];
    int count = 0;
    do
        digits[count++] = (char)('0' + n % 10);
    while (n /= 10);
    while (count)
        *at++ = digits[--count];
    return at;
}

#endif
