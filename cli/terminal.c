// SPDX-License-Identifier: MIT
//
// See terminal.h.

#include "cli/terminal.h"

#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

struct terminal terminal_of(FILE *out)
{
    struct terminal t = {0};
    struct winsize size;
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
    t.is_tty = isatty(fileno(out)) == 1;
    if (!t.is_tty)
        return t;
    t.colour = !(no && *no) && term && strcmp(term, "dumb") != 0;
    if (!ioctl(fileno(out), TIOCGWINSZ, &size) && size.ws_col >= 40)
        t.columns = size.ws_col;
    return t;
}

// The columns of the character at s, and its bytes in *n.
static int width(const char *s, int *n)
{
    wchar_t wide;
    mbstate_t state = {0};
    *n = utf8_length(s);
    if (!*n) {
        *n = 1;
        return 1;
    }
    if (*n == 1)
        return 1;
    size_t rc = mbrtowc(&wide, s, (size_t)*n, &state);
    int w = rc == (size_t)-1 || rc == (size_t)-2 ? 1 : wcwidth(wide);
    return w < 0 ? 1 : w;
}

static void put(FILE *out, const struct terminal *t, const char *s, int n)
{
    bool broken = n == 1 && (unsigned char)*s >= 0x80;
    // A name must not talk to the terminal, which may be at the end of a pipe.
    if (utf8_is_control(s) || (t->is_tty && broken))
        fputc('?', out);
    else
        fwrite(s, 1, (size_t)n, out);
}

void terminal_print(FILE *out, const struct terminal *t, const char *text, int columns)
{
    int total = 0, at = 0, n;
    for (const char *s = text; *s; s += n)
        total += width(s, &n);
    bool cut = columns > 8 && total > columns;
    int head = cut ? (columns - 1) / 2 : total, tail = total - (columns - 1 - head);
    bool gap = false;
    for (const char *s = text; *s; s += n) {
        int w = width(s, &n);
        if (at + w <= head || (cut && at >= tail)) {
            put(out, t, s, n);
        } else if (cut && !gap) {
            fputs("\xe2\x80\xa6", out);
            gap = true;
        }
        at += w;
    }
}

const char *terminal_heat(const struct terminal *t, double share)
{
    if (!t->colour)
        return "";
    if (share <= -0.02) // in a difference: it shrank
        return share <= -0.10 ? "\033[1;35m" : "\033[35m";
    return share >= 0.10                     ? "\033[1;31m"
           : share >= 0.02                   ? "\033[31m"
           : share > -0.005 && share < 0.005 ? "\033[2m"
                                             : "";
}

const char *terminal_reset(const struct terminal *t)
{
    return t->colour ? "\033[0m" : "";
}
