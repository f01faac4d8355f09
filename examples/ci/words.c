// SPDX-License-Identifier: MIT
//
// A benchmark in miniature: splits a thousand lines into words and counts them. One operation is
// one line, and it costs one allocation for the line's copy and one per word.
//
// The gate watches it: see README.md, and the two patches beside this file.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINES = 1000 };

struct words {
    char *text[8];
    size_t count;
};

static char *copy_text(const char *s, size_t n)
{
    char *copy = malloc(n + 1);
    if (!copy)
        abort();
    memcpy(copy, s, n);
    copy[n] = 0;
    return copy;
}

static void add_word(struct words *w, const char *s, size_t n)
{
    if (w->count < 8)
        w->text[w->count++] = copy_text(s, n);
}

static void split_line(struct words *w, const char *line)
{
    while (*line) {
        size_t n = strcspn(line, " ");
        if (n)
            add_word(w, line, n);
        line += n + (line[n] == ' ');
    }
}

static size_t process_line(const char *line)
{
    struct words w = {.count = 0};
    char *own = copy_text(line, strlen(line));
    split_line(&w, own);
    size_t count = w.count;
    while (w.count)
        free(w.text[--w.count]);
    free(own);
    return count;
}

int main(void)
{
    size_t words = 0;
    for (int i = 0; i < LINES; i++)
        words += process_line("the quick brown fox");
    return words == 4 * LINES ? 0 : 1;
}
