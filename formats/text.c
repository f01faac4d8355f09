// SPDX-License-Identifier: MIT

#include "formats/text.h"

#include <string.h>

bool text_next(struct text *t)
{
    if (t->at >= t->end)
        return false;
    size_t left = (size_t)(t->end - t->at);
    const char *newline = memchr(t->at, '\n', left);
    t->whole = newline != NULL;
    t->line = (struct span){.s = t->at, .n = newline ? (size_t)(newline - t->at) : left};
    t->at += t->line.n + t->whole;
    if (t->line.n && t->line.s[t->line.n - 1] == '\r')
        t->line.n--;
    return true;
}

bool span_starts(struct span s, const char *prefix)
{
    size_t n = strlen(prefix);
    return s.n >= n && memcmp(s.s, prefix, n) == 0;
}

bool span_contains(struct span s, const char *needle)
{
    return memmem(s.s, s.n, needle, strlen(needle)) != NULL;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t';
}

void take_spaces(struct span *s)
{
    while (s->n && is_space(*s->s)) {
        s->s++;
        s->n--;
    }
}

struct span span_trim(struct span s)
{
    take_spaces(&s);
    while (s.n && is_space(s.s[s.n - 1]))
        s.n--;
    return s;
}

bool take_text(struct span *s, const char *literal)
{
    if (!span_starts(*s, literal))
        return false;
    size_t n = strlen(literal);
    s->s += n;
    s->n -= n;
    return true;
}

bool take_char(struct span *s, char c)
{
    if (!s->n || *s->s != c)
        return false;
    s->s++;
    s->n--;
    return true;
}

bool take_decimal(struct span *s, uint64_t *v)
{
    uint64_t value = 0;
    size_t i = 0;
    for (; i < s->n && s->s[i] >= '0' && s->s[i] <= '9'; i++)
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(s->s[i] - '0'), &value))
            return false;
    if (i == 0)
        return false;
    *v = value;
    s->s += i;
    s->n -= i;
    return true;
}

bool take_signed(struct span *s, int64_t *v)
{
    struct span rest = *s;
    uint64_t value;
    bool negative = take_char(&rest, '-');
    if (!take_decimal(&rest, &value) || value > (uint64_t)INT64_MAX + negative)
        return false;
    *v = (int64_t)(negative ? 0 - value : value);
    *s = rest;
    return true;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool take_hex(struct span *s, uint64_t *v)
{
    uint64_t value = 0;
    size_t i = 0;
    for (int d; i < s->n && (d = hex_digit(s->s[i])) >= 0; i++) {
        if (value >> 60)
            return false;
        value = value << 4 | (uint64_t)d;
    }
    if (i == 0)
        return false;
    *v = value;
    s->s += i;
    s->n -= i;
    return true;
}
