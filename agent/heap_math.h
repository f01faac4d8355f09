// SPDX-License-Identifier: MIT
//
// The logarithm and the exponential that sampling needs; libm is not ours to load into a target.

#ifndef FIBERSCOPE_AGENT_HEAP_MATH_H
#define FIBERSCOPE_AGENT_HEAP_MATH_H

#include <stdint.h>
#include <string.h>

// The natural logarithm of a positive normal number, within 1e-9.
static inline double heap_log(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    int exponent = (int)(bits >> 52 & 0x7ff) - 1023;
    bits = (bits & ((UINT64_C(1) << 52) - 1)) | UINT64_C(1023) << 52;
    memcpy(&x, &bits, sizeof x);
    if (x > 1.4142135623730951) {
        x /= 2;
        exponent++;
    }
    // ln x = 2 artanh s, |s| below 0.172
    double s = (x - 1) / (x + 1), s2 = s * s;
    double sum = 1 + s2 * (1.0 / 3 + s2 * (1.0 / 5 + s2 * (1.0 / 7 + s2 * (1.0 / 9))));
    return 2 * s * sum + exponent * 0.6931471805599453;
}

// exp(-x), x >= 0, within 1e-9.
static inline double heap_exp_minus(double x)
{
    if (x > 40)
        return 0;
    double y = x / 1024, e = 1 - y * (1 - y / 2 * (1 - y / 3 * (1 - y / 4)));
    for (int i = 0; i < 10; i++)
        e *= e;
    return e;
}

#endif
