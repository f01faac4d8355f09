// SPDX-License-Identifier: MIT
//
// A bounded cursor over an unwind section. A read past the end sets `bad`, gives 0 and stays at the
// end, so a caller may read a whole structure and ask once.

#ifndef FIBERSCOPE_UNWIND_READER_H
#define FIBERSCOPE_UNWIND_READER_H

#include "unwind/unwind.h"

#include <string.h>

struct unwind_reader {
    const struct unwind_section *section;
    const uint8_t *at, *end;
    bool bad;
};

static inline struct unwind_reader unwind_reader_at(const struct unwind_section *s, uint64_t offset)
{
    // An empty section may have no data, and nothing is added to NULL.
    uint64_t size = s->data ? s->size : 0;
    struct unwind_reader r = {s, s->data, s->data, false};
    if (size)
        r.end = s->data + size;
    if (offset > size) {
        r.bad = true;
        r.at = r.end;
    } else if (offset) {
        r.at = s->data + offset;
    }
    return r;
}

static inline uint64_t unwind_reader_address(const struct unwind_reader *r)
{
    return r->section->address + (uint64_t)(r->at - r->section->data);
}

static inline uint64_t unwind_read_fixed(struct unwind_reader *r, unsigned bytes)
{
    uint64_t v = 0;
    if ((size_t)(r->end - r->at) < bytes) {
        r->bad = true;
        r->at = r->end;
        return 0;
    }
    memcpy(&v, r->at, bytes); // x86-64 is little-endian, and so is ELF there
    r->at += bytes;
    return v;
}

static inline uint64_t unwind_read_uleb(struct unwind_reader *r)
{
    uint64_t v = 0;
    for (unsigned shift = 0; r->at < r->end; shift += 7) {
        uint8_t b = *r->at++;
        if (shift < 64)
            v |= (uint64_t)(b & 0x7f) << shift;
        if (!(b & 0x80))
            return v;
    }
    r->bad = true;
    return 0;
}

static inline int64_t unwind_read_sleb(struct unwind_reader *r)
{
    uint64_t v = 0;
    unsigned shift = 0;
    while (r->at < r->end) {
        uint8_t b = *r->at++;
        if (shift < 64)
            v |= (uint64_t)(b & 0x7f) << shift;
        shift += 7;
        if (!(b & 0x80)) {
            if (shift < 64 && (b & 0x40))
                v |= ~UINT64_C(0) << shift;
            return (int64_t)v;
        }
    }
    r->bad = true;
    return 0;
}

// A pointer in one of the DW_EH_PE encodings; data_base is what datarel means. Indirect pointers are
// given as they are (only personality routines use them, and nobody here calls those).
uint64_t unwind_read_pointer(struct unwind_reader *r, uint8_t encoding, uint64_t data_base);

#endif
