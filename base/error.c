// SPDX-License-Identifier: MIT

#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

// A cut inside a UTF-8 sequence would make the last character garbage on a terminal.
static void trim_partial_utf8(char *text, size_t size)
{
    size_t n = strnlen(text, size);
    size_t back = 0;
    while (back < 4 && back < n && ((unsigned char)text[n - 1 - back] & 0xc0) == 0x80)
        back++;
    if (back >= n)
        return;
    unsigned char lead = (unsigned char)text[n - 1 - back];
    size_t want = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : lead >= 0xc0 ? 1 : 0;
    if (back < want)
        text[n - 1 - back] = '\0';
}

int error_set(struct fscope_error *err, int code, uint64_t offset, const char *fmt, ...)
{
    if (!err)
        return code;
    err->code = code;
    err->offset = offset;
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
    if (n >= (int)sizeof err->text)
        trim_partial_utf8(err->text, sizeof err->text);
    return code;
}

int error_prefix(struct fscope_error *err, const char *fmt, ...)
{
    if (!err)
        return -1;
    char old[sizeof err->text];
    memcpy(old, err->text, sizeof old);
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof err->text)
        snprintf(err->text + n, sizeof err->text - (size_t)n, ": %s", old);
    trim_partial_utf8(err->text, sizeof err->text);
    return err->code;
}
