// SPDX-License-Identifier: MIT
//
// Protobuf's wire format, as lenient and as strict as Go's reader of profiles: a varint has at most
// ten bytes and bits beyond 64 are lost, field 0 and unknown fields are skipped, groups are
// refused.
//
// Invariant: at <= end; nothing at or beyond end is read.

#ifndef FIBERSCOPE_FORMATS_WIRE_H
#define FIBERSCOPE_FORMATS_WIRE_H

#include <stddef.h>
#include <stdint.h>

enum wire_type { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

enum wire_problem {
    WIRE_OK = 0,
    WIRE_SHORT,       // the bytes end inside the field
    WIRE_LONG_VARINT, // more than ten bytes
    WIRE_BAD_TYPE,    // a group, or 6, 7
};

struct wire {
    const unsigned char *at, *end;
};

struct wire_field {
    const unsigned char *start; // of its key
    uint64_t number;
    uint64_t value;   // of a varint or fixed field
    struct wire body; // of a WIRE_BYTES field
    enum wire_type type;
};

static inline enum wire_problem wire_varint(struct wire *w, uint64_t *value)
{
    const unsigned char *at = w->at;
    if (at < w->end && *at < 0x80) {
        *value = *at;
        w->at = at + 1;
        return WIRE_OK;
    }
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
        if (at == w->end)
            return WIRE_SHORT;
        v |= (uint64_t)(*at & 0x7f) << shift;
        if (*at++ < 0x80) {
            *value = v;
            w->at = at;
            return WIRE_OK;
        }
    }
    return WIRE_LONG_VARINT;
}

// The next field; w moves behind it. On a problem w stays.
static inline enum wire_problem wire_next(struct wire *w, struct wire_field *f)
{
    struct wire r = *w;
    uint64_t key, n;
    f->start = w->at;
    enum wire_problem problem = wire_varint(&r, &key);
    if (problem)
        return problem;
    f->number = key >> 3;
    f->type = (enum wire_type)(key & 7);
    f->value = 0;
    switch (f->type) {
    case WIRE_VARINT:
        problem = wire_varint(&r, &f->value);
        if (problem)
            return problem;
        break;
    case WIRE_BYTES:
        problem = wire_varint(&r, &n);
        if (problem)
            return problem;
        if (n > (size_t)(r.end - r.at))
            return WIRE_SHORT;
        f->body = (struct wire){.at = r.at, .end = r.at + n};
        r.at += n;
        break;
    case WIRE_64:
    case WIRE_32:
        n = f->type == WIRE_64 ? 8 : 4;
        if (n > (size_t)(r.end - r.at))
            return WIRE_SHORT;
        // No field of a profile is fixed: the value is never looked at.
        r.at += n;
        break;
    default: return WIRE_BAD_TYPE;
    }
    *w = r;
    return WIRE_OK;
}

// The number of varints in w, if they are whole: bytes that end one.
static inline size_t wire_count_varints(struct wire w)
{
    size_t n = 0;
    for (const unsigned char *b = w.at; b < w.end; b++)
        n += *b < 0x80;
    return n;
}

#endif
