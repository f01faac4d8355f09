// SPDX-License-Identifier: MIT
//
// Reading text that is not NUL-terminated: lines, and pieces taken off the front of a span.
//
// Invariant: a span that has been taken from lies inside the one it was; a take_* that returns
// false has taken nothing.

#ifndef FIBERSCOPE_FORMATS_TEXT_H
#define FIBERSCOPE_FORMATS_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct span {
    const char *s;
    size_t n;
};

struct text {
    const char *base, *at, *end;
    struct span line; // the current one without its line end
    bool whole;       // the current line ended in a newline
};

// Moves to the next line; false at the end of the text.
bool text_next(struct text *t);

// Byte offset of the current line.
static inline uint64_t text_offset(const struct text *t)
{
    return t->line.s ? (uint64_t)(t->line.s - t->base) : 0;
}

bool span_starts(struct span s, const char *prefix);
bool span_contains(struct span s, const char *needle);
struct span span_trim(struct span s); // without spaces and tabs at both ends

void take_spaces(struct span *s); // any number
bool take_text(struct span *s, const char *literal);
bool take_char(struct span *s, char c);

// At least one digit, no overflow.
bool take_decimal(struct span *s, uint64_t *v);
bool take_hex(struct span *s, uint64_t *v);   // without 0x
bool take_signed(struct span *s, int64_t *v); // decimal with an optional minus

#endif
