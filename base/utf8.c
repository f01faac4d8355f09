// SPDX-License-Identifier: MIT
//
// See utf8.h.

#include "base/utf8.h"

#include <stdint.h>
#include <string.h>

int utf8_length(const char *s)
{
    const unsigned char *u = (const unsigned char *)s;
    uint32_t c = u[0], low;
    int n;
    if (c < 0x80)
        return 1;
    if (c >= 0xc2 && c < 0xe0) {
        n = 2;
        c &= 0x1f;
        low = 0x80;
    } else if (c >= 0xe0 && c < 0xf0) {
        n = 3;
        c &= 0x0f;
        low = 0x800;
    } else if (c >= 0xf0 && c < 0xf5) {
        n = 4;
        c &= 0x07;
        low = 0x10000;
    } else {
        return 0;
    }
    for (int i = 1; i < n; i++) {
        if ((u[i] & 0xc0) != 0x80) // a NUL, too
            return 0;
        c = c << 6 | (u[i] & 0x3f);
    }
    return c < low || c > 0x10ffff || (c >= 0xd800 && c < 0xe000) ? 0 : n;
}

bool utf8_is_control(const char *s)
{
    const unsigned char *u = (const unsigned char *)s;
    switch (utf8_length(s)) {
    case 0: return u[0] < 0xa0;
    case 1: return u[0] < 0x20 || u[0] == 0x7f;
    case 2: return u[0] == 0xc2 && u[1] < 0xa0;
    case 3:
        // U+200E, U+200F, U+2028 to U+202E; U+2066 to U+2069.
        return (u[0] == 0xe2 && u[1] == 0x80 && (u[2] == 0x8e || u[2] == 0x8f)) ||
               (u[0] == 0xe2 && u[1] == 0x80 && u[2] >= 0xa8 && u[2] <= 0xae) ||
               (u[0] == 0xe2 && u[1] == 0x81 && u[2] >= 0xa6 && u[2] <= 0xa9);
    default: return false;
    }
}

void utf8_mask_controls(char *text, const char *but)
{
    size_t n;
    for (char *p = text; *p; p += n) {
        n = utf8_length(p) ? (size_t)utf8_length(p) : 1;
        if (utf8_is_control(p) && !strchr(but, *p))
            memset(p, '?', n);
    }
}
