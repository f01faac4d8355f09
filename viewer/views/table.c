// SPDX-License-Identifier: MIT
//
// See table.h.

#include "viewer/views/table.h"

#include "viewer/bindings.h"
#include "viewer/ui/font.h"

#include <stdio.h>
#include <string.h>

enum { INDENT_LETTERS = 2, TRIANGLE = 3 };

void table_show(struct table *t, uint32_t row, int above)
{
    t->reveal = row + 1;
    t->above = above;
}

static void reveal(struct table *t, int room)
{
    int at = (int)(t->reveal - 1) * t->row;
    if (t->above >= 0)
        t->scroll = at - t->above * t->row;
    else if (at < t->scroll)
        t->scroll = at;
    else if (at + t->row > t->scroll + room)
        t->scroll = at + t->row - room;
    t->reveal = 0;
}

static int letter(const struct ui *u)
{
    return font_width(u->font, "0", 1);
}

// Rectangles of the columns of a line.
static void lay_out(const struct ui *u, struct rect r, const struct table_column *c, int columns,
                    struct rect *out)
{
    int fixed = 0, x = r.x;
    for (int i = 0; i < columns; i++)
        fixed += c[i].letters ? c[i].letters * letter(u) + 2 * u->pad : 0;
    for (int i = 0; i < columns; i++) {
        int w = c[i].letters ? c[i].letters * letter(u) + 2 * u->pad : r.w - fixed;
        out[i] = rect_make(x, r.y, w > 0 ? w : 0, r.h);
        x += out[i].w;
    }
}

static struct rect inner(const struct ui *u, struct rect r)
{
    return rect_make(r.x + u->pad, r.y, r.w > 2 * u->pad ? r.w - 2 * u->pad : 0, r.h);
}

static unsigned draw_titles(struct table *t, struct ui *u, const struct rect *at,
                            const struct table_column *c, int columns)
{
    unsigned did = 0;
    for (int i = 0; i < columns; i++) {
        struct rect in = inner(u, at[i]);
        bool on = c[i].sortable && t->sort == i;
        unsigned hit = c[i].sortable ? ui_hit(u, ui_id(t->name, 1 + (uint64_t)i), at[i]) : 0;
        uint32_t color = on || hit & UI_HOT ? u->theme.text : u->theme.dim;
        if (hit & UI_CLICKED) {
            t->reversed = on && !t->reversed;
            t->sort = i;
            did = TABLE_SORTED;
        }
        (c[i].is_text ? ui_label : ui_label_right)(u, in, color, c[i].title);
        if (on)
            draw_rect(
                u->list,
                rect_make(at[i].x + u->pad, t->reversed ? at[i].y : at[i].y + at[i].h - 3, in.w, 2),
                u->theme.accent);
    }
    return did;
}

static void draw_cell(struct ui *u, struct rect r, const struct table_column *c,
                      const struct table_cell *cell)
{
    struct rect in = inner(u, r);
    if (cell->bar > 0) {
        int w = (int)(in.w * (cell->bar < 1 ? cell->bar : 1) + 0.5);
        draw_rect(u->list, rect_make(in.x, r.y + 2, w, r.h - 4), cell->bar_color);
    }
    int shift = cell->indent * INDENT_LETTERS * letter(u);
    in.x += shift;
    in.w -= shift;
    uint32_t color = cell->color ? cell->color : u->theme.text;
    if (cell->fold || cell->indent) {
        int x = in.x + TRIANGLE, y = r.y + r.h / 2;
        if (cell->fold > 0)
            draw_triangle(u->list, x - TRIANGLE, y - 2, x + TRIANGLE, y - 2, x, y + 3,
                          u->theme.dim);
        else if (cell->fold)
            draw_triangle(u->list, x - 2, y - TRIANGLE, x - 2, y + TRIANGLE, x + 3, y,
                          u->theme.dim);
        in.x += INDENT_LETTERS * letter(u);
        in.w -= INDENT_LETTERS * letter(u);
    }
    if (in.w <= 0)
        return;
    const struct font *font = u->font;
    u->font = cell->mono ? u->mono : font;
    (c->is_text ? ui_label : ui_label_right)(u, in, color, cell->text);
    u->font = font;
}

static void draw_rows(struct table *t, struct ui *u, const struct table_column *c, int columns,
                      uint32_t rows,
                      void (*cell)(void *, const struct ui *, uint32_t, int, struct table_cell *),
                      void *view)
{
    struct rect at[TABLE_COLUMNS_MAX];
    uint32_t first = (uint32_t)(t->scroll / t->row);
    for (uint32_t i = first; i < rows; i++) {
        struct rect line = {t->body.x, t->body.y + (int)i * t->row - t->scroll, t->body.w, t->row};
        if (line.y >= t->body.y + t->body.h)
            break;
        if (i == t->chosen)
            draw_rect(u->list, line, u->theme.raised);
        if (i == t->chosen)
            draw_rect(u->list, rect_make(line.x, line.y, 3, line.h), u->theme.accent);
        else if (ui_inside(u, line))
            draw_rect(u->list, line, u->theme.panel);
        lay_out(u, line, c, columns, at);
        for (int k = 0; k < columns; k++) {
            struct table_cell content;
            memset(&content, 0, sizeof content);
            cell(view, u, i, k, &content);
            draw_cell(u, at[k], &c[k], &content);
        }
    }
}

// The row that keys lead to.
static uint32_t walk(const struct table *t, struct ui *u, uint32_t rows)
{
    uint32_t page = (uint32_t)(t->body.h / t->row), at = t->chosen;
    page = page > 1 ? page - 1 : 1;
    if (command_given(u, COMMAND_TABLE_DOWN))
        return at + 1 < rows ? at + 1 : rows - 1;
    if (command_given(u, COMMAND_TABLE_UP))
        return at ? at - 1 : 0;
    if (command_given(u, COMMAND_TABLE_PAGE_DOWN))
        return at + page < rows ? at + page : rows - 1;
    if (command_given(u, COMMAND_TABLE_PAGE_UP))
        return at > page ? at - page : 0;
    if (command_given(u, COMMAND_TABLE_FIRST))
        return 0;
    if (command_given(u, COMMAND_TABLE_LAST))
        return rows - 1;
    return UINT32_MAX;
}

static unsigned input(struct table *t, struct ui *u, const struct table_column *c, int columns,
                      uint32_t rows)
{
    unsigned did = 0, hit = ui_hit(u, ui_id(t->name, 0), t->body);
    uint32_t row = (uint32_t)((u->mouse_y - t->body.y + t->scroll) / t->row);
    if (hit & UI_PRESSED && row < rows) {
        t->chosen = row;
        did |= TABLE_CHOSE | (hit & UI_DOUBLE ? TABLE_OPENED : 0);
    }
    uint32_t to = rows ? walk(t, u, rows) : UINT32_MAX;
    if (to != UINT32_MAX) {
        t->chosen = to;
        table_show(t, to, -1);
        did |= TABLE_CHOSE;
    }
    if (rows && command_given(u, COMMAND_TABLE_ENTER))
        did |= TABLE_OPENED;
    if (command_given(u, COMMAND_TABLE_REVERSE)) {
        t->reversed = !t->reversed;
        did |= TABLE_SORTED;
    } else if (command_given(u, COMMAND_TABLE_SORT)) {
        for (int i = 1; i <= columns; i++)
            if (c[(t->sort + i) % columns].sortable) {
                t->sort = (t->sort + i) % columns;
                t->reversed = false;
                did |= TABLE_SORTED;
                break;
            }
    }
    u->again |= did != 0;
    return did;
}

unsigned table_frame(struct table *t, struct ui *u, struct rect r, const struct table_column *c,
                     int columns, uint32_t rows,
                     void (*cell)(void *, const struct ui *, uint32_t, int, struct table_cell *),
                     void *view)
{
    struct rect at[TABLE_COLUMNS_MAX], top = {r.x, r.y, r.w, u->line + 2};
    top.h = top.h < r.h ? top.h : r.h;
    t->row = font_height(u->font) + 6;
    if (rows && t->chosen >= rows)
        t->chosen = rows - 1;
    struct rect body = {r.x, r.y + top.h, r.w, r.h - top.h};
    if (t->reveal)
        reveal(t, body.h);
    int content = rows < 0x3fffffff / (uint32_t)t->row ? (int)rows * t->row : 0x3fffffff;
    t->body = ui_scroll(u, ui_id(t->name, 100), body, content, &t->scroll);
    draw_rect(u->list, top, u->theme.panel);
    draw_rect(u->list, rect_make(top.x, top.y + top.h - 1, top.w, 1), u->theme.border);
    top.w = t->body.w;
    lay_out(u, top, c, columns, at);
    unsigned did = draw_titles(t, u, at, c, columns);
    u->again |= did != 0;
    if (t->body.w < 1 || t->body.h < 1)
        return did;
    did |= input(t, u, c, columns, rows);
    draw_clip_push(u->list, t->body);
    draw_rows(t, u, c, columns, rows, cell, view);
    draw_clip_pop(u->list);
    return did;
}
