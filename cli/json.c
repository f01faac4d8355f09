// SPDX-License-Identifier: MIT
//
// See json.h.

#include "cli/json.h"

#include "base/utf8.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

// s is terminated at end, and may hold NULs before.
static void text_until(FILE *out, const char *s, const char *end)
{
    fputc('"', out);
    while (s < end) {
        int n = utf8_length(s);
        if (!n) {
            fputs("\\ufffd", out);
            s++;
            continue;
        }
        if (*s == '"' || *s == '\\')
            fprintf(out, "\\%c", *s);
        else if (n == 1 && ((unsigned char)*s < 0x20 || *s == 0x7f))
            fprintf(out, "\\u%04x", (unsigned)*s);
        else
            fwrite(s, 1, (size_t)n, out);
        s += n;
    }
    fputc('"', out);
}

static void text(FILE *out, const char *s)
{
    text_until(out, s, s + strlen(s));
}

static void begin(struct json *j, const char *key)
{
    if (j->needs_comma)
        fputc(',', j->out);
    if (j->depth)
        fprintf(j->out, "\n%*s", 2 * j->depth, "");
    if (key) {
        text(j->out, key);
        fputs(": ", j->out);
    }
    j->needs_comma = true;
}

void json_open(struct json *j, const char *key, char bracket)
{
    begin(j, key);
    fputc(bracket, j->out);
    j->depth++;
    j->needs_comma = false;
}

void json_close(struct json *j, char bracket)
{
    j->depth--;
    if (j->needs_comma)
        fprintf(j->out, "\n%*s", 2 * j->depth, "");
    fputc(bracket, j->out);
    j->needs_comma = true;
    if (!j->depth)
        fputc('\n', j->out);
}

void json_string(struct json *j, const char *key, const char *value)
{
    begin(j, key);
    text(j->out, value);
}

void json_bytes(struct json *j, const char *key, const char *bytes, size_t n)
{
    char *copy = malloc(n + 1); // utf8_length looks up to a NUL
    begin(j, key);
    if (copy) {
        memcpy(copy, bytes, n);
        copy[n] = 0;
        text_until(j->out, copy, copy + n);
    } else {
        fputs("null", j->out);
    }
    free(copy);
}

void json_int(struct json *j, const char *key, int64_t value)
{
    begin(j, key);
    fprintf(j->out, "%" PRId64, value);
}

void json_hex(struct json *j, const char *key, uint64_t value)
{
    begin(j, key);
    fprintf(j->out, "\"0x%" PRIx64 "\"", value);
}

void json_real(struct json *j, const char *key, double value)
{
    begin(j, key);
    if (isfinite(value))
        fprintf(j->out, "%.10g", value);
    else
        fputs("null", j->out);
}

void json_bool(struct json *j, const char *key, bool value)
{
    begin(j, key);
    fputs(value ? "true" : "false", j->out);
}
