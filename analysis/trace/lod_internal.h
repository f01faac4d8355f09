// SPDX-License-Identifier: MIT

#ifndef FIBERSCOPE_ANALYSIS_TRACE_LOD_INTERNAL_H
#define FIBERSCOPE_ANALYSIS_TRACE_LOD_INTERNAL_H

#include "analysis/trace/lod.h"

// The longer of two spans; none, of those without a length.
static inline uint32_t lod_longer(const struct lod *l, uint32_t a, uint32_t b)
{
    int64_t x = a == UINT32_MAX ? 0 : lod_length_ns(l, a);
    return b != UINT32_MAX && lod_length_ns(l, b) > x ? b : a;
}

#endif
