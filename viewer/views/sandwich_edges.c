// SPDX-License-Identifier: MIT
//
// Beneath the sandwich's picture, where it leaves room: whom the function is called by and whom it calls, by value, as
// `fiberscope peek` has them. A leaf's picture would be mostly empty, and a narrow box has no name.

#include "viewer/views/sandwich.h"

#include "analysis/units.h"
#include "viewer/ui/font.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS_LEAST = 3, ROWS_MOST = 12 };

static int by_value(const void *x, const void *y)
{
    const struct sandwich_edge *a = x, *b = y;
    if (a->value != b->value)
        return a->value > b->value ? -1 : 1;
    return (a->node > b->node) - (a->node < b->node); // as the picture has them
}

int sandwich_edges_set(struct sandwich *s, int side)
{
    const struct stacks *t = &s->stacks[side];
    struct sandwich_edges *e = &s->edges[side];
    if (t->values == STACKS_COMPARED) // boxes say how much of which
        return 0;
    e->items = calloc((size_t)t->nodes[0].child_count + 1, sizeof *e->items);
    if (!e->items)
        return -ENOMEM;
    for (uint32_t i = t->nodes[0].first_child; i; i = t->nodes[i].next)
        e->items[e->count++] = (struct sandwich_edge){i, t->nodes[i].total};
    if (t->nodes[0].self > 0)
        e->items[e->count++] = (struct sandwich_edge){0, t->nodes[0].self};
    qsort(e->items, e->count, sizeof *e->items, by_value);
    return 0;
}

void sandwich_edges_forget(struct sandwich_edges *e)
{
    free(e->items);
    *e = (struct sandwich_edges){0};
}

int sandwich_edges_height(const struct sandwich *s, const struct ui *u, int room)
{
    uint32_t callers = s->edges[SANDWICH_CALLERS].count, callees = s->edges[SANDWICH_CALLEES].count;
    int row = font_height(u->font) + 6, head = u->line + 2 + u->pad;
    int most = (int)(callers > callees ? callers < ROWS_MOST ? callers : ROWS_MOST
                                       : (callees < ROWS_MOST ? callees : ROWS_MOST));
    int fit = (room - head) / row;
    if (!most || fit < (most < ROWS_LEAST ? most : ROWS_LEAST))
        return 0;
    return head + (fit < most ? fit : most) * row;
}

static void draw_row(const struct sandwich *s, struct ui *u, struct rect r, const char *name,
                     int64_t value)
{
    const struct report *rep = &s->model->report;
    int64_t all = s->stacks[0].nodes[0].total;
    char share[32], label[UNITS_LABEL_MAX];
    double part = (double)value / (double)all;
    draw_rect(u->list, rect_make(r.x, r.y + 1, (int)(r.w * part + 0.5), r.h - 2),
              theme_mix(u->theme.ground, u->theme.series[1], 0.35));
    struct rect in = {r.x + u->pad, r.y, r.w - 2 * u->pad, r.h};
    units_percent(share, sizeof share, value, all);
    ui_label_right(u, in, u->theme.text, share + strspn(share, " "));
    in.w -= font_width(u->font, "99.99%", SIZE_MAX) + 2 * u->pad;
    if (in.w <= 0)
        return;
    const char *text = report_label(rep, label, sizeof label, value);
    ui_label_right(u, in, u->theme.text, text);
    in.w -= font_width(u->font, text, SIZE_MAX) + 2 * u->pad;
    if (in.w > 0)
        ui_label(u, in, u->theme.text, name);
}

static void draw_head(struct ui *u, struct rect r, const char *title)
{
    draw_rect(u->list, r, u->theme.panel);
    draw_rect(u->list, rect_make(r.x, r.y + r.h - 1, r.w, 1), u->theme.border);
    ui_label(u, rect_make(r.x + u->pad, r.y, r.w - 2 * u->pad, r.h - 1), u->theme.dim, title);
}

static void draw_edge(struct sandwich *s, struct ui *u, struct rect r, int side,
                      const struct sandwich_edge *e)
{
    uint32_t node = e->node;
    if (!node) {
        draw_row(s, u, r, side == SANDWICH_CALLERS ? "(nobody)" : "(its own)", e->value);
        return;
    }
    unsigned hit = ui_hit(u, ui_id("sandwich edges", 2 * (uint64_t)node + (uint64_t)side), r);
    if (hit & UI_PRESSED) {
        s->side = side;
        s->flames[side].chosen = node;
        u->again = true;
    }
    if (s->side == side && s->flames[side].chosen == node)
        draw_rect(u->list, r, u->theme.raised);
    else if (hit & UI_HOT)
        draw_rect(u->list, r, u->theme.panel);
    draw_row(s, u, r, s->stacks[side].nodes[node].name, e->value);
}

// What does not fit is put together in the last row.
static void draw_side(struct sandwich *s, struct ui *u, struct rect r, int side)
{
    const struct sandwich_edges *e = &s->edges[side];
    int head = u->line + 2, row = font_height(u->font) + 6;
    uint32_t fit = (uint32_t)((r.h - head) / row), shown = e->count <= fit ? e->count : fit - 1;
    struct rect line = {r.x, r.y + head, r.w, row};
    int64_t rest = 0;
    char more[64];
    draw_head(u, rect_make(r.x, r.y, r.w, head), side == SANDWICH_CALLERS ? "called by" : "calls");
    for (uint32_t i = 0; i < shown; i++, line.y += row)
        draw_edge(s, u, line, side, &e->items[i]);
    for (uint32_t i = shown; i < e->count; i++)
        rest += e->items[i].value;
    snprintf(more, sizeof more, "(%u more)", e->count - shown);
    if (shown < e->count)
        draw_row(s, u, line, more, rest);
}

void sandwich_edges_frame(struct sandwich *s, struct ui *u, struct rect r)
{
    int gap = 2 * u->pad, half = (r.w - gap) / 2;
    if (half < 1)
        return;
    draw_clip_push(u->list, r);
    draw_side(s, u, rect_make(r.x, r.y, half, r.h), SANDWICH_CALLERS);
    draw_side(s, u, rect_make(r.x + half + gap, r.y, r.w - half - gap, r.h), SANDWICH_CALLEES);
    draw_clip_pop(u->list);
}
