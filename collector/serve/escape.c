// SPDX-License-Identifier: MIT
//
// Text of the target's (names of functions, fibers, tasks, labels; messages of logs) into HTML, JSON, Prometheus'
// format and plain tables. Whatever bytes it has, what comes out is valid UTF-8 and means itself: it ends no quotes, no
// line and no element, and moves no cursor.

#include "collector/serve/internal.h"

#include <inttypes.h>
#include <string.h>

#define REPLACEMENT "\xef\xbf\xbd"

// Bytes of the well-formed character at s (of `left` bytes); 0: it is none.
static size_t utf8_length(const unsigned char *s, size_t left)
{
    static const struct {
        unsigned char first_low, first_high, second_low, second_high, length;
    } rows[] = {
        {0x00, 0x7f, 0, 0, 1},       {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
        {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
        {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        size_t n = rows[i].length;
        if (s[0] < rows[i].first_low || s[0] > rows[i].first_high || n > left)
            continue;
        bool ok = n < 2 || (s[1] >= rows[i].second_low && s[1] <= rows[i].second_high);
        for (size_t k = 2; k < n; k++)
            ok = ok && s[k] >= 0x80 && s[k] <= 0xbf;
        return ok ? n : 0;
    }
    return 0;
}

// Control characters of both sets, and those that turn the direction of what follows.
static bool is_control(const unsigned char *s, size_t n)
{
    if (n == 1)
        return s[0] < ' ' || s[0] == 0x7f;
    if (n == 2)
        return s[0] == 0xc2 && s[1] < 0xa0;
    return n == 3 && s[0] == 0xe2 &&
           ((s[1] == 0x80 && (s[2] == 0xa8 || s[2] == 0xa9 || (s[2] >= 0xaa && s[2] <= 0xae))) ||
            (s[1] == 0x81 && s[2] >= 0xa6 && s[2] <= 0xa9));
}

// special: what stands for a character of one byte; NULL: itself.
static void put(FILE *out, const char *text, size_t size, const char *(*special)(char c))
{
    const unsigned char *s = (const unsigned char *)text;
    for (size_t n; size; s += n, size -= n) {
        n = utf8_length(s, size);
        const char *instead = n == 1 ? special((char)*s) : NULL;
        if (instead)
            fputs(instead, out);
        else if (!n || is_control(s, n))
            fputs(REPLACEMENT, out);
        else
            fwrite(s, 1, n, out);
        n = n ? n : 1;
    }
}

static const char *html(char c)
{
    return c == '&'    ? "&amp;"
           : c == '<'  ? "&lt;"
           : c == '>'  ? "&gt;"
           : c == '"'  ? "&#34;"
           : c == '\'' ? "&#39;"
                       : NULL;
}

// < as well, so that nothing becomes of it where somebody puts it into a page.
static const char *json(char c)
{
    return c == '"'    ? "\\\""
           : c == '\\' ? "\\\\"
           : c == '\n' ? "\\n"
           : c == '\t' ? "\\t"
           : c == '<'  ? "\\u003c"
                       : NULL;
}

static const char *label(char c)
{
    return c == '"' ? "\\\"" : c == '\\' ? "\\\\" : c == '\n' ? "\\n" : NULL;
}

static const char *nothing(char c)
{
    (void)c;
    return NULL;
}

void put_html_n(FILE *out, const char *text, size_t size)
{
    put(out, text, size, html);
}

void put_html(FILE *out, const char *text)
{
    put(out, text, strlen(text), html);
}

void put_json_n(FILE *out, const char *text, size_t size)
{
    fputc('"', out);
    put(out, text, size, json);
    fputc('"', out);
}

void put_json(FILE *out, const char *text)
{
    put_json_n(out, text, strlen(text));
}

void put_label(FILE *out, const char *name, const char *text)
{
    fprintf(out, "%s=\"", name);
    put(out, text, strlen(text), label);
    fputc('"', out);
}

void put_plain(FILE *out, const char *text)
{
    put(out, text, strlen(text), nothing);
}

void put_query(FILE *out, const char *text)
{
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
            strchr("-_.~,/:", c))
            fputc(c, out);
        else
            fprintf(out, "%%%02X", c);
    }
}

const char *duration_text(char *text, size_t size, uint64_t ns)
{
    static const struct {
        uint64_t from, unit;
        const char *word;
    } units[] = {{3600000000000, 3600000000000, "h"}, {60000000000, 60000000000, "m"},
                 {1000000000, 1000000000, "s"},       {1000000, 1000000, "ms"},
                 {1000, 1000, "\xc2\xb5s"},           {0, 1, "ns"}};
    size_t i = 0;
    while (ns < units[i].from)
        i++;
    double value = (double)ns / (double)units[i].unit;
    snprintf(text, size, "%.*f %s",
             !ns || units[i].unit == 1 ? 0
             : value < 10              ? 2
             : value < 100             ? 1
                                       : 0,
             value, units[i].word);
    return text;
}

const char *count_text(char *text, size_t size, uint64_t n)
{
    char digits[24];
    size_t length = (size_t)snprintf(digits, sizeof digits, "%" PRIu64, n), at = 0;
    for (size_t i = 0; i < length && at + 2 < size; i++) {
        if (i && (length - i) % 3 == 0)
            text[at++] = ',';
        text[at++] = digits[i];
    }
    text[at] = '\0';
    return text;
}
