// SPDX-License-Identifier: MIT

#include "formats/trace/leb.h"

bool leb_read_long(const unsigned char **at, const unsigned char *end, uint64_t *v)
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
