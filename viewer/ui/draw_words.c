// SPDX-License-Identifier: MIT
//
// What is written in a picture, in the order in which it is read. See draw.h.

#include "viewer/ui/draw.h"

#include "base/utf8.h"
#include "viewer/ui/font.h"

#include <stdlib.h>

static int by_place(const void *a, const void *b)
{
    const struct draw_item *const *x = a, *const *y = b;
    if ((*x)->y != (*y)->y)
        return (*x)->y < (*y)->y ? -1 : 1;
    if ((*x)->x != (*y)->x)
        return (*x)->x < (*y)->x ? -1 : 1;
    return *x < *y ? -1 : *x > *y; // as they were drawn
}

void draw_words(const struct draw_list *d, FILE *out)
{
    const struct draw_item **texts = calloc(d->count + (size_t)1, sizeof(const struct draw_item *));
    size_t n = 0;
    for (uint32_t i = 0; texts && i < d->count; i++)
        if (d->items[i].op == DRAW_TEXT)
            texts[n++] = &d->items[i];
    if (texts)
        qsort(texts, n, sizeof(const struct draw_item *), by_place);
    for (size_t i = 0; i < n; i++) {
        if (i) // one row, if the letters stand beside each other
            fputs(texts[i]->y - texts[i - 1]->y < font_height(texts[i]->font) / 4 ? "\t" : "\n",
                  out);
        for (uint32_t k = 0, bytes; k < texts[i]->text_bytes; k += bytes) {
            const char *at = texts[i]->text + k;
            bytes = utf8_length(at) ? (uint32_t)utf8_length(at) : 1;
            if (utf8_is_control(at))
                fputc(' ', out);
            else
                fwrite(at, bytes, 1, out);
        }
    }
    if (n)
        fputc('\n', out);
    free(texts);
}
