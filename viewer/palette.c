// SPDX-License-Identifier: MIT
//
// See palette.h.

#include "viewer/palette.h"

#include "viewer/ui/font.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 12, FOUND_MAX = COMMAND_COUNT + PALETTE_ENTRIES };

static bool applies(const struct command *c, unsigned contexts, unsigned digits)
{
    if (c->id >= COMMAND_VIEW_1 && c->id <= COMMAND_VIEW_9)
        return digits >> (c->id - COMMAND_VIEW_1 + 1) & 1;
    return c->contexts & (contexts | CONTEXT_ANY);
}

// --- The palette.

// How much a letter adds where it is: beside the one before, at the beginning of a word, elsewhere.
static int weigh(const char *name, size_t at, bool beside)
{
    bool begins = !at || !isalnum((unsigned char)name[at - 1]);
    return beside ? 9 : begins ? 8 : 1;
}

// The best way to find text from name[at] on; -1: none. Names are short: trying all ways is cheap.
static int best(const char *name, size_t at, const char *text, bool beside)
{
    if (!*text)
        return 0;
    int most = -1;
    for (size_t i = at; name[i]; i++, beside = false) {
        if (tolower((unsigned char)name[i]) != tolower((unsigned char)*text))
            continue;
        int rest = best(name, i + 1, text + 1, true);
        int all = rest < 0 ? -1 : rest + weigh(name, i, beside);
        most = all > most ? all : most;
        if (rest < 0) // nor further to the right
            break;
    }
    return most;
}

int palette_match(const char *name, const char *text)
{
    char letters[24];
    size_t n = 0;
    for (; *text && n + 1 < sizeof letters; text++)
        if (!isspace((unsigned char)*text))
            letters[n++] = *text;
    letters[n] = 0;
    int found = best(name, 0, letters, false);
    return found < 0 ? 0 : found + 1;
}

struct found {
    const struct command *command; // NULL: an entry of a view
    enum command_id id;
    const char *name;
    int score, order;
};

static int by_score(const void *a, const void *b)
{
    const struct found *x = a, *y = b;
    if (x->score != y->score)
        return x->score < y->score ? 1 : -1;
    return x->order < y->order ? -1 : 1;
}

static int find(const char *text, unsigned contexts, unsigned digits,
                const struct palette_entry *more, int more_count, struct found *out)
{
    int n = 0;
    for (const struct command *c = commands; c->help; c++) {
        int score = c->name && applies(c, contexts, digits) ? palette_match(c->name, text) : 0;
        if (score && n < FOUND_MAX)
            out[n++] = (struct found){c, c->id, c->name, score, 0};
    }
    for (int i = 0; i < more_count && n < FOUND_MAX; i++) {
        int score = palette_match(more[i].name, text);
        if (score)
            out[n++] = (struct found){NULL, more[i].id, more[i].name, score, 0};
    }
    for (int i = 0; i < n; i++)
        out[i].order = i;
    qsort(out, (size_t)n, sizeof *out, by_score);
    return n;
}

// Arrows, Enter and Escape, before the field sees them. True: Enter.
static bool keys(struct palette *p, struct ui *u, int count)
{
    if (u->event.kind != UI_KEY)
        return false;
    uint32_t key = u->event.key;
    if (key != UI_KEY_UP && key != UI_KEY_DOWN && key != UI_KEY_ENTER && key != UI_KEY_ESCAPE)
        return false;
    u->event.kind = UI_NONE;
    u->again = true;
    if (key == UI_KEY_UP || key == UI_KEY_DOWN)
        p->chosen += key == UI_KEY_DOWN ? 1 : count - 1;
    p->chosen = count ? p->chosen % count : 0;
    p->open = key == UI_KEY_UP || key == UI_KEY_DOWN;
    return key == UI_KEY_ENTER;
}

// The rows of what was found; the one that was clicked, or -1.
static int rows(struct palette *p, struct ui *u, struct rect r, const struct found *found,
                int count)
{
    char keys_text[COMMAND_KEYS_TEXT];
    int height = u->line + 2, clicked = -1, shown = r.h / height;
    if (p->chosen < p->scroll)
        p->scroll = p->chosen;
    if (p->chosen >= p->scroll + shown)
        p->scroll = p->chosen - shown + 1;
    for (int i = 0; i < shown && i + p->scroll < count; i++) {
        const struct command *c = found[i + p->scroll].command;
        struct rect row = {r.x, r.y + i * height, r.w, height};
        unsigned hit = ui_hit(u, ui_id("palette row", (uint64_t)i), row);
        if (i + p->scroll == p->chosen || hit & UI_HOT)
            draw_rect(u->list, row, u->theme.hover);
        if (i + p->scroll == p->chosen)
            draw_rect(u->list, rect_make(row.x, row.y, 3, row.h), u->theme.accent);
        if (hit & UI_CLICKED)
            clicked = i + p->scroll;
        struct rect in = {row.x + 2 * u->pad, row.y, row.w - 4 * u->pad, row.h};
        ui_label(u, in, u->theme.text, found[i + p->scroll].name);
        if (c)
            ui_label_right(u, in, u->theme.dim, command_keys(c, keys_text));
    }
    return clicked;
}

enum command_id palette_frame(struct palette *p, struct ui *u, struct rect r, unsigned contexts,
                              unsigned digits, const struct palette_entry *more, int more_count)
{
    struct found found[FOUND_MAX];
    int count = find(p->text, contexts, digits, more, more_count, found), height = u->line + 2;
    bool enter = keys(p, u, count);
    int shown = count < ROWS ? count : ROWS, wide = 60 * font_width(u->font, "n", 1);
    wide = wide < r.w - 2 * u->pad ? wide : r.w - 2 * u->pad;
    if (wide < 1)
        return COMMAND_NONE;
    int field = u->line + 8;
    struct rect box = {r.x + (r.w - wide) / 2, r.y + r.h / 8, wide,
                       field + shown * height + u->pad};
    draw_rect(u->list, rect_make(box.x + 3, box.y + 4, box.w, box.h), 0x50000000);
    draw_rect(u->list, box, u->theme.raised);
    draw_frame(u->list, box, 1, u->theme.border);
    u->focus = ui_id("palette", 0);
    if (u->event.kind == UI_PRESS && !ui_inside(u, box)) {
        p->open = false;
        u->event.kind = UI_NONE;
    }
    if (ui_field(u, u->focus, rect_make(box.x + 4, box.y + 4, box.w - 8, field - 8), p->text,
                 sizeof p->text, "a command")) {
        p->chosen = 0;
        u->again = true;
    }
    int clicked = rows(p, u, rect_make(box.x, box.y + field, box.w, shown * height), found, count);
    int taken = enter ? p->chosen : clicked;
    p->open &= clicked < 0;
    if (p->open)
        u->focus = ui_id("palette", 0); // a click on a row took it
    else
        u->focus = 0;
    return taken >= 0 && taken < count ? found[taken].id : COMMAND_NONE;
}

// --- The help: a list of headings and commands, in as many columns as it needs.

struct help_row {
    const struct command *command; // NULL: a heading
    const char *heading;
};

enum { HELP_MAX = 2 * COMMAND_COUNT + 64 };

struct help {
    struct help_row rows[HELP_MAX];
    int count;
    int keys, does, row; // widths of the columns, height of a row
};

static int keys_width(const struct ui *u, const struct help_row *row)
{
    char keys_text[COMMAND_KEYS_TEXT];
    return row->command ? font_width(u->font, command_keys(row->command, keys_text), SIZE_MAX) : 0;
}

static void help_list(struct help *h, const struct ui *u, unsigned contexts, unsigned digits)
{
    const char *group = NULL;
    for (const struct command *c = commands; c->help && h->count + 2 < HELP_MAX; c++) {
        if (!applies(c, contexts, digits))
            continue;
        if (command_group(c) != group)
            h->rows[h->count++].heading = group = command_group(c);
        h->rows[h->count++].command = c;
        int k = keys_width(u, &h->rows[h->count - 1]);
        int d = font_width(u->font, c->help, SIZE_MAX);
        h->keys = k > h->keys ? k : h->keys;
        h->does = d > h->does ? d : h->does;
    }
}

// A column has what its keys leave, so that one long name of keys takes room from its own column only.
static void help_column(struct ui *u, const struct help *h, const struct help_row *rows, int count,
                        struct rect r)
{
    char keys_text[COMMAND_KEYS_TEXT];
    int keys = 0;
    for (int i = 0; i < count; i++) {
        int width = keys_width(u, &rows[i]);
        keys = width > keys ? width : keys;
    }
    int does = r.x + 4 * u->pad + keys;
    for (int i = 0; i < count; i++) {
        const struct command *c = rows[i].command;
        int y = r.y + i * h->row;
        if (!c) {
            ui_label(u, rect_make(r.x, y, r.w - 2 * u->pad, h->row), u->theme.accent,
                     rows[i].heading);
            continue;
        }
        ui_label(u, rect_make(r.x + 2 * u->pad, y, keys, h->row), u->theme.text,
                 command_keys(c, keys_text));
        ui_label(u, rect_make(does, y, r.x + r.w - 2 * u->pad - does, h->row), u->theme.dim,
                 c->help);
    }
}

// So that no column ends with a heading.
static int help_rows(const struct help *h, int columns)
{
    int rows = h->count ? (h->count + columns - 1) / columns : 1;
    for (int i = rows - 1; i < h->count; i += rows)
        if (h->rows[i].heading && i + 1 < h->count) {
            rows++;
            i = -1; // from the first column again
        }
    return rows;
}

void palette_help(struct ui *u, struct rect r, unsigned contexts, unsigned digits)
{
    struct help h = {.row = font_height(u->font) + 4};
    help_list(&h, u, contexts, digits);
    int margin = 2 * u->pad, fit = (r.h - 2 * margin) / h.row;
    int column = h.keys + h.does + 6 * u->pad, most = (r.w - 2 * margin) / column;
    fit = fit > 0 ? fit : 1;
    int columns = h.count > fit ? (h.count + fit - 1) / fit : 1;
    if (columns > most) { // narrower ones, as far as that can be read
        int least = h.keys + 24 * font_width(u->font, "n", 1);
        most = (r.w - 2 * margin) / least;
        columns = columns > most ? most : columns;
        columns = columns > 0 ? columns : 1;
        column = (r.w - 2 * margin) / columns < column ? (r.w - 2 * margin) / columns : column;
    }
    int rows = help_rows(&h, columns);
    int close = (r.h - 2 * margin) / rows;
    if (close < h.row) // rather closer than cut off
        h.row = close > font_height(u->font) ? close : font_height(u->font);
    struct rect box = {0, 0, columns * column + 2 * margin, rows * h.row + 2 * margin};
    box.x = r.x + (r.w > box.w ? (r.w - box.w) / 2 : 0);
    box.y = r.y + (r.h > box.h ? (r.h - box.h) / 2 : 0);
    draw_rect(u->list, r, 0x90000000);
    draw_rect(u->list, box, u->theme.raised);
    draw_frame(u->list, box, 1, u->theme.border);
    for (int i = 0; i < h.count; i += rows)
        help_column(u, &h, &h.rows[i], h.count - i < rows ? h.count - i : rows,
                    rect_make(box.x + margin + i / rows * column, box.y + margin, column, 0));
}
