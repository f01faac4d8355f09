// SPDX-License-Identifier: MIT
//
// Unsigned LEB128 as in the trace format: at most ten bytes, the tenth at most 1, padding allowed.
//
// Invariant: at <= end; nothing at or beyond end is read. On failure at stays.

#ifndef FIBERSCOPE_FORMATS_TRACE_LEB_H
#define FIBERSCOPE_FORMATS_TRACE_LEB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LEB_BYTES_MAX = 10 };

static inline bool leb_read_long(const unsigned char **at, const unsigned char *end, uint64_t *v)
{
    uint64_t x = 0;
    const unsigned char *p = *at;
    for (unsigned shift = 0; shift < 70 && p < end; shift += 7) {
        unsigned char b = *p++;
        if (b < 0x80) {
            if (shift == 63 && b > 1)
                return false;
            *v = x | (uint64_t)b << shift;
            *at = p;
            return true;
        }
        x |= (uint64_t)(b & 0x7f) << shift;
    }
    return false;
}

static inline bool leb_read(const unsigned char **at, const unsigned char *end, uint64_t *v)
{
    const unsigned char *p = *at;
    if (end - p >= 2) {
        if (p[0] < 0x80) {
            *v = p[0];
            *at = p + 1;
            return true;
        }
        if (p[1] < 0x80) {
            *v = (p[0] & 0x7fu) | (uint64_t)p[1] << 7;
            *at = p + 2;
            return true;
        }
    }
    return leb_read_long(at, end, v);
}

static inline unsigned char *leb_write(unsigned char *at, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        *at++ = (unsigned char)(v | 0x80);
    *at++ = (unsigned char)v;
    return at;
}

#endif
