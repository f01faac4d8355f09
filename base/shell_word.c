// SPDX-License-Identifier: MIT
//
// See shell_word.h.

#include "base/shell_word.h"

#include "base/utf8.h"

#include <string.h>

void shell_word_print(FILE *out, const char *text)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "_-./:,+@%=";
    if (*text && !text[strspn(text, plain)]) {
        fputs(text, out);
        return;
    }
    fputc('\'', out);
    for (const char *p = text; *p;) {
        int n = utf8_length(p);
        n = n ? n : 1;
        if (*p == '\'')
            fputs("'\\''", out);
        else if (utf8_is_control(p))
            fputc('?', out);
        else
            fwrite(p, 1, (size_t)n, out);
        p += n;
    }
    fputc('\'', out);
}
