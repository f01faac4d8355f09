// SPDX-License-Identifier: MIT
//
// What is written in a picture, in the order in which it is read. See draw.h.

#include "viewer/ui/draw.h"

#include "base/utf8.h"
#include "viewer/ui/font.h"

#include <limits.h>
#include <stdint.h>
#include <stdlib.h>

enum {
    PANES_MAX = 64,
    PANE_ROWS = 5,
    PANE_LETTERS = 16
}; // at least so large, else it is a cell or a lane

struct panes {
    struct rect r[PANES_MAX];
    int count;
};

struct word {
    const struct draw_item *item;
    int pane; // -1: in none
    int block_x, block_y;
    size_t row;
};

static bool holds(struct rect a, struct rect b)
{
    return b.x >= a.x && b.y >= a.y && b.x + b.w <= a.x + a.w && b.y + b.h <= a.y + a.h;
}

// Whether a holds b and is hardly wider: lanes and their names beside them are read together.
static bool is_about(struct rect a, struct rect b)
{
    return holds(a, b) && a.y == b.y && a.h == b.h && 4 * (int64_t)b.w > 3 * (int64_t)a.w;
}

// What is read by itself, from top to bottom: clips that are large and hold no other large one.
static void find_panes(const struct draw_list *d, const struct font *f, struct panes *p)
{
    int width = PANE_LETTERS * font_width(f, "0", 1), height = PANE_ROWS * font_height(f);
    p->count = 0;
    for (uint32_t i = 0; i < d->clip_count; i++) {
        struct rect c = d->clips[i];
        bool is_pane = c.w >= width && c.h >= height;
        for (int k = 0; k < p->count && is_pane; k++)
            is_pane = !is_about(p->r[k], c) && (!holds(c, p->r[k]) || is_about(c, p->r[k]));
        if (!is_pane || p->count == PANES_MAX)
            continue;
        int kept = 0;
        for (int k = 0; k < p->count; k++)
            if (!holds(p->r[k], c) && !holds(c, p->r[k]))
                p->r[kept++] = p->r[k];
        p->r[kept++] = c;
        p->count = kept;
    }
}

static struct word word_of(const struct draw_list *d, const struct panes *p,
                           const struct draw_item *item)
{
    struct word w = {.item = item, .pane = -1, .block_x = INT_MIN, .block_y = item->y};
    for (int k = 0; k < p->count; k++) {
        if (!holds(p->r[k], d->clips[item->clip]))
            continue;
        w.pane = k;
        w.block_x = p->r[k].x;
        w.block_y = p->r[k].y;
    }
    return w;
}

static int by_block(const void *a, const void *b)
{
    const struct word *x = a, *y = b;
    if (x->block_y != y->block_y)
        return x->block_y < y->block_y ? -1 : 1;
    if (x->block_x != y->block_x)
        return x->block_x < y->block_x ? -1 : 1;
    if (x->pane != y->pane)
        return x->pane < y->pane ? -1 : 1;
    return (x->item->y > y->item->y) - (x->item->y < y->item->y);
}

static int by_row(const void *a, const void *b)
{
    const struct word *x = a, *y = b;
    if (x->row != y->row)
        return x->row < y->row ? -1 : 1;
    if (x->item->x != y->item->x)
        return x->item->x < y->item->x ? -1 : 1;
    return x->item < y->item ? -1 : x->item > y->item; // as they were drawn
}

// Letters that stand beside each other are of one row, though their base lines differ a little.
static void make_rows(struct word *words, size_t n)
{
    qsort(words, n, sizeof *words, by_block);
    for (size_t i = 0, row = 0, first = 0; i < n; i++) {
        if (i && (words[i].pane != words[first].pane || words[i].item->y - words[first].item->y >=
                                                            font_height(words[i].item->font) / 2)) {
            row++;
            first = i;
        }
        words[i].row = row;
    }
    qsort(words, n, sizeof *words, by_row);
}

static void say(const struct draw_item *item, FILE *out)
{
    for (uint32_t k = 0, bytes; k < item->text_bytes; k += bytes) {
        const char *at = item->text + k;
        bytes = utf8_length(at) ? (uint32_t)utf8_length(at) : 1;
        if (utf8_is_control(at))
            fputc(' ', out);
        else
            fwrite(at, bytes, 1, out);
    }
}

void draw_words(const struct draw_list *d, FILE *out)
{
    struct word *words = calloc(d->count + (size_t)1, sizeof *words);
    struct panes panes = {.count = 0};
    size_t n = 0;
    for (uint32_t i = 0; words && i < d->count; i++) {
        if (d->items[i].op != DRAW_TEXT)
            continue;
        if (!n)
            find_panes(d, d->items[i].font, &panes);
        words[n++] = word_of(d, &panes, &d->items[i]);
    }
    if (n)
        make_rows(words, n);
    for (size_t i = 0; i < n; i++) {
        if (i)
            fputc(words[i].row == words[i - 1].row ? '\t' : '\n', out);
        say(words[i].item, out);
    }
    if (n)
        fputc('\n', out);
    free(words);
}
