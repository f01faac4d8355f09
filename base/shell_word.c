// SPDX-License-Identifier: MIT
//
// See shell_word.h.

#include "base/shell_word.h"

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
    for (const char *p = text; *p; p++) {
        if (*p == '\'')
            fputs("'\\''", out);
        else
            fputc((unsigned char)*p < ' ' ? '?' : *p, out);
    }
    fputc('\'', out);
}
