// SPDX-License-Identifier: MIT
//
// Lines on stderr; see say.h.

#include "agent/say.h"

#include "agent/arch/x86_64.h"

#include <string.h>
#include <unistd.h>

struct say *say_bytes(struct say *s, const char *text, uint32_t n)
{
    // One byte stays free for the newline.
    for (uint32_t i = 0; i < n && s->n + 1 < sizeof s->text; i++) {
        char c = text[i];
        s->text[s->n++] = (unsigned char)c < 32 || c == 127 ? '?' : c;
    }
    return s;
}

struct say *say_text(struct say *s, const char *text)
{
    return say_bytes(s, text, (uint32_t)strlen(text));
}

struct say *say_begin(struct say *s)
{
    s->n = 0;
    return say_text(s, "fiberscope: ");
}

struct say *say_number(struct say *s, uint64_t n)
{
    char digits[20];
    uint32_t at = sizeof digits;
    do
        digits[--at] = (char)('0' + n % 10);
    while (n /= 10);
    return say_bytes(s, digits + at, (uint32_t)sizeof digits - at);
}

struct say *say_hex(struct say *s, uint64_t n)
{
    char digits[18];
    uint32_t at = sizeof digits;
    do
        digits[--at] = "0123456789abcdef"[n & 15];
    while (n >>= 4);
    digits[--at] = 'x';
    digits[--at] = '0';
    return say_bytes(s, digits + at, (uint32_t)sizeof digits - at);
}

struct say *say_errno(struct say *s, int code)
{
    if (code < 0)
        code = -code;
    const char *name = strerrorname_np(code); // a table look-up: no locale, no allocation
    return name ? say_text(s, name) : say_number(say_text(s, "error "), (uint64_t)code);
}

void say_end_to(struct say *s, int fd)
{
    s->text[s->n++] = '\n';
    sys3(SYS_write, fd, s->text, s->n);
}

void say_end(struct say *s)
{
    say_end_to(s, STDERR_FILENO);
}
