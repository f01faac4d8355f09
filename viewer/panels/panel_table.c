// SPDX-License-Identifier: MIT
//
// See panel_table.h.

#include "viewer/panels/panel_table.h"

#include "analysis/units.h"
#include "viewer/ui/font.h"

#include <math.h>
#include <string.h>

int panel_row_height(const struct ui *u)
{
    return font_height(u->font) + 5;
}

void panel_figure(struct ui *u, struct rect r, uint32_t color, const char *text)
{
    ui_label_right(u, r, color, text);
}

const char *panel_ns(char *text, int64_t ns)
{
    return units_label(text, PANEL_CELL_MAX, ns, "nanoseconds", "auto");
}

// --- Columns.

static int column_width(const struct ui *u, const struct panel_column *c)
{
    int title = font_width(u->font, c->title, SIZE_MAX) + u->pad + 4;
    int cell = font_width(u->font, c->widest, SIZE_MAX);
    return (title > cell ? title : cell) + 2 * u->pad;
}

// Where each column is, and how many there is room for: the last ones go first.
static int lay_out(const struct ui *u, struct rect r, const struct panel_rows *rows,
                   struct rect columns[PANEL_COLUMNS_MAX])
{
    int count = rows->column_count, right = 0, least = 11 * font_width(u->font, "n", 1);
    int widths[PANEL_COLUMNS_MAX] = {0};
    for (int i = 1; i < count; i++)
        right += widths[i] = column_width(u, &rows->columns[i]);
    while (count > 1 && r.w - right < least)
        right -= widths[--count];
    int name = r.w - right, x = r.x + name;
    // In a wide window figures stay near the name: the eye has to follow the row.
    int most = 64 * font_width(u->font, "n", 1);
    if (name > most && count > 1) {
        int more = (name - most) / (count - 1), limit = 3 * u->pad;
        more = more > limit ? limit : more;
        for (int i = 1; i < count; i++)
            widths[i] += more;
        x = r.x + most;
    }
    columns[0] = rect_make(r.x, r.y, x - r.x, r.h);
    for (int i = 1; i < count; i++) {
        columns[i] = rect_make(x, r.y, widths[i], r.h);
        x += widths[i];
    }
    return count;
}

static struct rect inside(const struct ui *u, struct rect cell)
{
    return rect_make(cell.x + u->pad, cell.y, cell.w - 2 * u->pad, cell.h);
}

static void draw_arrow(struct ui *u, struct rect r, bool up)
{
    int half = u->pad / 2, y = r.y + r.h / 2, x = r.x + half;
    if (up)
        draw_triangle(u->list, x - half, y + half, x + half, y + half, x, y - half,
                      u->theme.accent);
    else
        draw_triangle(u->list, x - half, y - half, x + half, y - half, x, y + half,
                      u->theme.accent);
}

static unsigned order_by(struct panel_table *t, int column)
{
    // Names from A on, figures from the largest.
    t->ascending = column == t->column ? !t->ascending : column == 0;
    t->column = column;
    return PANEL_TABLE_ORDER;
}

static unsigned head(struct panel_table *t, struct ui *u, uint64_t id, struct rect r,
                     const struct panel_rows *rows, const struct rect *columns, int count)
{
    unsigned said = 0;
    draw_rect(u->list, r, u->theme.panel);
    draw_rect(u->list, rect_make(r.x, r.y + r.h - 1, r.w, 1), u->theme.border);
    for (int i = 0; i < count; i++) {
        struct rect cell = {columns[i].x, r.y, columns[i].w, r.h}, in = inside(u, cell);
        unsigned hit = ui_hit(u, ui_id("column", id + (uint64_t)i), cell);
        uint32_t color = t->column == i || hit & UI_HOT ? u->theme.text : u->theme.dim;
        const char *title = rows->columns[i].title;
        int width = font_width(u->font, title, SIZE_MAX);
        if (hit & UI_CLICKED)
            said |= order_by(t, i);
        if (i)
            panel_figure(u, in, color, title);
        else
            ui_label(u, in, color, title);
        int at = i ? in.x + in.w - width - u->pad - 4 : in.x + width + u->pad / 2;
        if (t->column == i)
            draw_arrow(u, rect_make(at, r.y, u->pad, r.h - 1), t->ascending);
    }
    return said;
}

// --- Rows.

static void draw_cell(struct ui *u, const struct panel_rows *rows, struct rect cell, uint32_t row,
                      int column)
{
    char text[PANEL_CELL_MAX] = "";
    double share = rows->cell(rows->context, row, column, text);
    struct rect in = inside(u, cell);
    if (share > 0) {
        int wide = (int)((share < 1 ? share : 1) * (cell.w - u->pad) + 0.5);
        uint32_t color = rows->bars && rows->bars[column] ? rows->bars[column] : 0;
        double part = u->theme.dark ? 0.28 : color ? 0.50 : 0.18;
        if (color == u->theme.waiting) // is pale already
            part = 0.8;
        color = theme_mix(u->theme.ground, color ? color : u->theme.accent, part);
        draw_rect(u->list,
                  rect_make(cell.x + cell.w - u->pad / 2 - wide, cell.y + 2, wide, cell.h - 4),
                  color);
    }
    if (!column && rows->color) {
        int box = font_ascent(u->font) - 2;
        draw_rect(u->list, rect_make(in.x, cell.y + (cell.h - box) / 2, box, box),
                  rows->color(rows->context, row));
        in.x += box + u->pad;
        in.w -= box + u->pad;
    }
    if (column)
        panel_figure(u, in, u->theme.text, text);
    else
        ui_label(u, in, u->theme.text, text);
}

static void draw_row(const struct panel_table *t, struct ui *u, struct rect r,
                     const struct panel_rows *rows, const struct rect *columns, int count,
                     uint32_t row)
{
    if (row == t->chosen) {
        draw_rect(u->list, r, u->theme.raised);
        draw_rect(u->list, rect_make(r.x, r.y, 2, r.h), u->theme.accent);
    } else if (ui_inside(u, r)) {
        draw_rect(u->list, r, u->theme.panel);
    }
    for (int i = 0; i < count; i++)
        draw_cell(u, rows, rect_make(columns[i].x, r.y, columns[i].w, r.h), row, i);
}

static void show_chosen(struct panel_table *t, int height, int room)
{
    int64_t top = (int64_t)t->chosen * height;
    if (t->chosen == UINT32_MAX)
        return;
    if (top < t->scroll)
        t->scroll = (int)top;
    if (top + height > (int64_t)t->scroll + room)
        t->scroll = (int)((top + 2 * height - room - 1) / height * height); // whole rows on top
}

static uint32_t moved(const struct panel_table *t, uint32_t count, int64_t by)
{
    int64_t to = t->chosen == UINT32_MAX ? (by > 0 ? 0 : (int64_t)count - 1) : t->chosen + by;
    to = to < 0 ? 0 : to;
    return (uint32_t)(to < count ? to : (int64_t)count - 1);
}

static unsigned keys(struct panel_table *t, struct ui *u, const struct panel_rows *rows, int count,
                     int height, int room)
{
    uint32_t was = t->chosen, n = rows->count;
    int page = room / height > 1 ? room / height - 1 : 1;
    unsigned said = 0;
    if (u->event.kind != UI_KEY)
        return 0;
    if (ui_key(u, UI_KEY_LEFT, 0))
        said |= order_by(t, t->column ? t->column - 1 : count - 1);
    if (ui_key(u, UI_KEY_RIGHT, 0))
        said |= order_by(t, (t->column + 1) % count);
    if (ui_key(u, 'o', 0))
        said |= order_by(t, t->column);
    if (!n)
        return said;
    const struct {
        uint32_t key;
        unsigned mods;
        int64_t by;
    } moves[] = {
        {UI_KEY_UP, 0, -1},
        {UI_KEY_DOWN, 0, 1},
        {UI_KEY_UP, UI_SHIFT, -page},
        {UI_KEY_DOWN, UI_SHIFT, page},
    };
    for (size_t i = 0; i < sizeof moves / sizeof moves[0]; i++)
        if (ui_key(u, moves[i].key, moves[i].mods))
            t->chosen = moved(t, n, moves[i].by);
    if (ui_key(u, UI_KEY_HOME, 0))
        t->chosen = 0;
    if (ui_key(u, UI_KEY_END, 0))
        t->chosen = n - 1;
    if (t->chosen != was) {
        show_chosen(t, height, room);
        said |= PANEL_TABLE_CHOSE;
    }
    if (t->chosen != UINT32_MAX && ui_key(u, UI_KEY_ENTER, 0))
        said |= PANEL_TABLE_ENTER;
    return said;
}

static unsigned mouse(struct panel_table *t, struct ui *u, uint64_t id, struct rect body,
                      uint32_t rows, int height)
{
    unsigned hit = ui_hit(u, ui_id("rows", id), body), said = 0;
    int64_t row = ((int64_t)u->mouse_y - body.y + t->scroll) / height;
    if (!(hit & UI_PRESSED) || row < 0 || row >= rows)
        return 0;
    if (hit & UI_DOUBLE && t->chosen == (uint32_t)row)
        return PANEL_TABLE_ENTER;
    said = t->chosen != (uint32_t)row ? PANEL_TABLE_CHOSE : 0;
    t->chosen = (uint32_t)row;
    return said;
}

unsigned panel_table(struct panel_table *t, struct ui *u, uint64_t id, struct rect r,
                     const struct panel_rows *rows, bool has_keys)
{
    struct rect columns[PANEL_COLUMNS_MAX];
    int height = panel_row_height(u);
    struct rect top = {r.x, r.y, r.w, height < r.h ? height : r.h};
    struct rect body = {r.x, r.y + top.h, r.w, r.h - top.h};
    if (r.w < 1 || r.h < 1)
        return 0;
    t->chosen = t->chosen < rows->count ? t->chosen : UINT32_MAX;
    int64_t content = (int64_t)rows->count * height;
    int count = lay_out(u, rect_make(r.x, r.y, r.w - u->pad - 2, r.h), rows, columns);
    int shown = body.h / height;
    if (t->reveal && t->chosen != UINT32_MAX) // with what stands around it
        t->scroll = (int)fmax(0, (double)t->chosen - shown / 2.0) * height;
    t->reveal = false;
    unsigned said = has_keys ? keys(t, u, rows, count, height, body.h) : 0;
    if (body.h > 0)
        body = ui_scroll(u, ui_id("table scroll", id), body,
                         content < INT32_MAX ? (int)content : INT32_MAX, &t->scroll);
    draw_clip_push(u->list, r);
    said |= head(t, u, id, top, rows, columns, count);
    draw_clip_pop(u->list);
    if (body.h < 1)
        return said;
    said |= mouse(t, u, id, body, rows->count, height);
    draw_clip_push(u->list, body);
    for (uint32_t i = (uint32_t)(t->scroll / height); i < rows->count; i++) {
        int64_t y = body.y + (int64_t)i * height - t->scroll;
        if (y >= body.y + body.h)
            break;
        draw_row(t, u, rect_make(body.x, (int)y, body.w, height), rows, columns, count, i);
    }
    if (!rows->count && rows->none)
        ui_label(u, rect_make(body.x + u->pad, body.y + u->pad / 2, body.w - 2 * u->pad, height),
                 u->theme.dim, rows->none);
    draw_clip_pop(u->list);
    u->again |= said != 0;
    return said;
}
