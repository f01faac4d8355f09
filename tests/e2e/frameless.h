// SPDX-License-Identifier: MIT
//
// Between frameless.c and frameless_throw.cc.

#ifndef FIBERSCOPE_TESTS_FRAMELESS_H
#define FIBERSCOPE_TESTS_FRAMELESS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Burns a little at the leaf.
void leaf_work(uint64_t rounds);

// Throws through `depth` frames with destructors, and catches.
void throw_deep(unsigned depth);

#ifdef __cplusplus
}
#endif
#endif
