// SPDX-License-Identifier: MIT
//
// Paths, parameters and numbers as Go's net/url, net/http and strconv read them, for what they accept, refuse and
// overlook shows in the replies.

#include "collector/serve/internal.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool query_unescape(char *text, size_t *size, bool is_form)
{
    char *to = text;
    for (size_t i = 0; i < *size; i++) {
        char c = text[i];
        if (c == '+' && is_form) {
            c = ' ';
        } else if (c == '%') {
            int high = i + 2 < *size ? hex_digit(text[i + 1]) : -1;
            int low = i + 2 < *size ? hex_digit(text[i + 2]) : -1;
            if (high < 0 || low < 0)
                return false;
            c = (char)(high << 4 | low);
            i += 2;
        }
        *to++ = c;
    }
    *to = '\0';
    *size = (size_t)(to - text);
    return true;
}

static char *copy(const char *text, size_t *size, bool *is_bad)
{
    char *s = strndup(text, *size);
    *is_bad = s && !query_unescape(s, size, true);
    return s;
}

char *query_get(const char *query, const char *key, size_t *size)
{
    size_t wanted = strlen(key);
    for (const char *at = query; *at;) {
        size_t n = strcspn(at, "&");
        const char *pair = at;
        at += n + (at[n] == '&');
        const char *equals = memchr(pair, '=', n);
        if (!n || memchr(pair, ';', n))
            continue;
        size_t key_size = equals ? (size_t)(equals - pair) : n;
        size_t value_size = equals ? n - key_size - 1 : 0;
        bool bad_key, bad_value;
        char *k = copy(pair, &key_size, &bad_key);
        char *v = copy(equals ? equals + 1 : "", &value_size, &bad_value);
        bool found =
            k && v && !bad_key && !bad_value && key_size == wanted && memcmp(k, key, wanted) == 0;
        free(k);
        if (found) {
            *size = value_size;
            return v;
        }
        free(v);
    }
    *size = 0;
    return NULL;
}

// --- Numbers.

int query_parse_int(const char *text, size_t size, int64_t *out)
{
    size_t i = size && (text[0] == '-' || text[0] == '+');
    bool is_negative = i && text[0] == '-', is_large = false;
    uint64_t value = 0, most = is_negative ? UINT64_C(1) << 63 : INT64_MAX;
    *out = 0;
    if (i == size)
        return -EINVAL;
    for (; i < size; i++) {
        if (text[i] < '0' || text[i] > '9')
            return -EINVAL;
        uint64_t digit = (uint64_t)(text[i] - '0');
        is_large |= __builtin_mul_overflow(value, 10, &value) ||
                    __builtin_add_overflow(value, digit, &value) || value > most;
    }
    if (is_large)
        value = most;
    *out = (int64_t)(is_negative ? 0 - value : value);
    return is_large ? -ERANGE : 0;
}

int query_parse_float(const char *text, size_t size, double *out)
{
    char *end;
    *out = 0;
    if (!size || strlen(text) != size || isspace((unsigned char)text[0]))
        return -EINVAL;
    // What strtod takes beyond Go: nan(...), and hexadecimals without an exponent.
    if (strchr(text, '(') || (strpbrk(text, "xX") && !strpbrk(text, "pP")))
        return -EINVAL;
    errno = 0;
    *out = strtod(text, &end);
    if (*end || end == text)
        return -EINVAL;
    return errno == ERANGE && isinf(*out) ? -ERANGE : 0;
}

int64_t query_int(const char *query, const char *key)
{
    size_t size;
    int64_t value = 0;
    char *text = query_get(query, key, &size);
    if (text)
        query_parse_int(text, size, &value);
    free(text);
    return value;
}

// Each underscore stands behind a digit, or the letter of the prefix, and before one.
static bool underscores_ok(const char *text, size_t size)
{
    char before = '_';
    for (size_t i = 0; i < size; i++) {
        if (text[i] == '_' && before == '_')
            return false;
        before = text[i];
    }
    return before != '_';
}

uint64_t query_parse_address(const char *text, size_t size)
{
    unsigned base = 10;
    size_t i = 0;
    uint64_t value = 0;
    bool has_digit = false, is_large = false;
    if (size > 2 && text[0] == '0' && strchr("xXbBoO", text[1]) && text[1]) {
        base = (text[1] | 0x20) == 'x' ? 16 : (text[1] | 0x20) == 'b' ? 2 : 8;
        i = 2;
    } else if (size > 1 && text[0] == '0') {
        base = 8;
        i = 1;
    }
    if (memchr(text, '_', size) && !underscores_ok(text, size))
        return 0;
    for (; i < size; i++) {
        if (text[i] == '_')
            continue;
        int digit = hex_digit(text[i]);
        if (digit < 0 || (unsigned)digit >= base)
            return 0;
        has_digit = true;
        is_large |= __builtin_mul_overflow(value, base, &value) ||
                    __builtin_add_overflow(value, (uint64_t)digit, &value);
    }
    return is_large ? UINT64_MAX : has_digit ? value : 0;
}

// --- Paths.

// Lexically: no //, no ".", no ".."; a slash at the end stays.
char *query_clean_path(const char *path)
{
    size_t n = strlen(path), used = 0;
    char *out = malloc(n + 3);
    if (!out)
        return NULL;
    for (const char *at = path; *at;) {
        at += strspn(at, "/");
        size_t part = strcspn(at, "/");
        if (part == 2 && at[0] == '.' && at[1] == '.') {
            while (used && out[--used] != '/')
                ;
        } else if (part && !(part == 1 && at[0] == '.')) {
            out[used++] = '/';
            memcpy(out + used, at, part);
            used += part;
        }
        at += part;
    }
    if (!used || (n && path[n - 1] == '/'))
        out[used++] = '/';
    out[used] = '\0';
    return out;
}
