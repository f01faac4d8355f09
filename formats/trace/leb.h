// SPDX-License-Identifier: MIT
//
// Unsigned LEB128 as in the trace format: at most ten bytes, the tenth at most 1, padding allowed.
//
// Invariant: at <= end; nothing at or beyond end is read. On failure at stays. leb_read_unchecked
// is for where three bytes are left.

#ifndef FIBERSCOPE_FORMATS_TRACE_LEB_H
#define FIBERSCOPE_FORMATS_TRACE_LEB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LEB_BYTES_MAX = 10 };

bool leb_read_long(const unsigned char **at, const unsigned char *end, uint64_t *v);

static inline __attribute__((always_inline)) bool leb_read_unchecked(const unsigned char **at,
                                                                     const unsigned char *end,
                                                                     uint64_t *v)
{
    const unsigned char *p = *at;
    if (p[0] < 0x80) {
        *v = p[0];
        *at = p + 1;
        return true;
    }
    if (p[1] < 0x80) {
        *v = (p[0] & 0x7fu) | (uint32_t)p[1] << 7;
        *at = p + 2;
        return true;
    }
    if (p[2] < 0x80) {
        *v = (p[0] & 0x7fu) | (p[1] & 0x7fu) << 7 | (uint32_t)p[2] << 14;
        *at = p + 3;
        return true;
    }
    return leb_read_long(at, end, v);
}

static inline bool leb_read(const unsigned char **at, const unsigned char *end, uint64_t *v)
{
    return end - *at >= 3 ? leb_read_unchecked(at, end, v) : leb_read_long(at, end, v);
}

static inline unsigned char *leb_write(unsigned char *at, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        *at++ = (unsigned char)(v | 0x80);
    *at++ = (unsigned char)v;
    return at;
}

#endif
