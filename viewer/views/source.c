// SPDX-License-Identifier: MIT
//
// See source.h.

#include "viewer/views/source.h"

#include "analysis/graph.h"
#include "analysis/units.h"
#include "viewer/bindings.h"
#include "viewer/ui/font.h"
#include "base/source_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONTEXT = 4, TAB = 4 }; // lines above the first that costs something; letters

#define LINE_MAX_SHOWN INT64_C(10000000)

static const struct table_column columns[SOURCE_COLUMNS] = {
    {"flat", 11, false, false},
    {"cum", 11, false, false},
    {"line", 6, false, false},
    {"source", 0, true, false},
};

void source_init(struct source *s, const struct profile_lines *l, const char *search)
{
    *s = (struct source){.lines = l, .search = search, .table = {.name = "source", .sort = -1}};
}

static void forget(struct source *s)
{
    free(s->function);
    free(s->text);
    free(s->content);
    free(s->rows);
    s->function = s->content = NULL;
    s->text = NULL;
    s->rows = NULL;
    s->row_count = s->text_count = 0;
}

void source_finish(struct source *s)
{
    forget(s);
    *s = (struct source){0};
}

static bool is_of(const struct source *s, const struct report_node *n, const char *path)
{
    return !strcmp(n->name, s->function) && n->line >= 0 && n->line <= LINE_MAX_SHOWN &&
           (!path || n->file == path); // interned
}

struct place { // where a file is first named
    const char *file;
    size_t order;
};

static int by_file(const void *x, const void *y)
{
    const struct place *a = x, *b = y;
    uintptr_t at = (uintptr_t)a->file, bt = (uintptr_t)b->file; // interned
    return at != bt ? (at > bt ? 1 : -1) : (a->order > b->order) - (a->order < b->order);
}

static int by_order(const void *x, const void *y)
{
    const struct place *a = x, *b = y;
    return (a->order > b->order) - (a->order < b->order);
}

// The file of that number among the function's, in the order of the report: heaviest first.
static const char *file_of(struct source *s, int number)
{
    const struct report *r = &s->lines->report;
    const char *found = NULL;
    struct place *places = calloc(r->node_count + 1, sizeof *places);
    size_t n = 0, files = 0;
    s->files = 0;
    for (size_t i = 0; places && i < r->node_count; i++)
        if (is_of(s, r->nodes[i], NULL))
            places[n++] = (struct place){r->nodes[i]->file, i};
    if (n)
        qsort(places, n, sizeof *places, by_file);
    for (size_t i = 0; i < n; i++)
        if (!i || places[i].file != places[i - 1].file)
            places[files++] = places[i];
    if (files)
        qsort(places, files, sizeof *places, by_order);
    if (number >= 0 && (size_t)number < files)
        found = places[number].file;
    s->files = (int)files;
    free(places);
    return found;
}

static int by_line(const void *x, const void *y)
{
    const struct source_row *a = x, *b = y;
    if (a->line != b->line)
        return a->line < b->line ? -1 : 1;
    if (!a->inlined || !b->inlined)
        return (a->inlined != NULL) - (b->inlined != NULL);
    if (a->inlined->weight != b->inlined->weight)
        return a->inlined->weight > b->inlined->weight ? -1 : 1;
    return strcmp(a->inlined->to->label, b->inlined->to->label);
}

// One row for each node of the function in this file and each call inlined there.
static int add_costs(struct source *s)
{
    const struct report *r = &s->lines->report;
    size_t n = 0;
    for (size_t i = 0; i < r->node_count; i++)
        n += is_of(s, r->nodes[i], s->path) ? 1 + r->nodes[i]->out_count : 0;
    s->rows = calloc(n + s->text_count + 1, sizeof *s->rows);
    if (!s->rows)
        return -ENOMEM;
    for (size_t i = 0; i < r->node_count; i++) {
        const struct report_node *node = r->nodes[i];
        if (!is_of(s, node, s->path))
            continue;
        s->flat = graph_add(s->flat, report_flat(node));
        s->cum = graph_add(s->cum, report_cum(node));
        s->rows[s->row_count++] = (struct source_row){.line = (uint32_t)node->line, .node = node};
        for (size_t k = 0; k < node->out_count; k++)
            if (node->out[k]->is_inline)
                s->rows[s->row_count++] =
                    (struct source_row){.line = (uint32_t)node->line, .inlined = node->out[k]};
    }
    qsort(s->rows, s->row_count, sizeof *s->rows, by_line);
    return 0;
}

// Lines without costs, and where the view begins.
static void add_lines(struct source *s)
{
    uint32_t costly = s->row_count, at = 0;
    for (uint32_t line = 1; line <= s->text_count; line++) {
        while (at < costly && s->rows[at].line < line)
            at++;
        if (at == costly || s->rows[at].line != line)
            s->rows[s->row_count++] = (struct source_row){.line = line};
    }
    qsort(s->rows, s->row_count, sizeof *s->rows, by_line);
    for (uint32_t i = 0; i < s->row_count; i++)
        if (s->rows[i].node) {
            s->table.chosen = i;
            break;
        }
    table_show(&s->table, s->table.chosen, s->text_count ? CONTEXT : 0);
}

int source_set(struct source *s, const char *function, int file)
{
    char *name = strdup(function);
    forget(s);
    s->function = name;
    s->flat = s->cum = 0;
    if (!name)
        return -ENOMEM;
    s->path = file_of(s, file);
    s->file = file;
    if (!s->path) {
        snprintf(s->missing, sizeof s->missing, "no sample has a line of it");
        return 0;
    }
    int rc = source_read(s->path, s->search, &s->content, &s->text, &s->text_count, s->missing,
                         sizeof s->missing);
    if (rc == -ENOMEM || add_costs(s))
        return -ENOMEM;
    add_lines(s);
    return 0;
}

const char *source_chosen(const struct source *s)
{
    if (s->table.chosen >= s->row_count || !s->rows[s->table.chosen].inlined)
        return NULL;
    return s->rows[s->table.chosen].inlined->to->name;
}

// Tabs become spaces; what is no text is left for the font.
static void expand(char *out, size_t size, const char *line)
{
    size_t n = 0;
    for (; *line && n + TAB + 1 < size; line++) {
        if (*line == '\t')
            do
                out[n++] = ' ';
            while (n % TAB);
        else
            out[n++] = *line;
    }
    out[n] = 0;
}

static void cost(const struct source *s, const struct ui *u, int64_t v, bool bar,
                 struct table_cell *out)
{
    const struct report *r = &s->lines->report;
    if (!v) {
        strcpy(out->text, "."); // as pprof has it: a figure missing at a glance
        out->color = u->theme.dim;
        return;
    }
    report_label(r, out->text, sizeof out->text, v);
    if (!bar || !s->cum)
        return;
    out->bar = (double)graph_abs(v) / (double)graph_abs(s->cum);
    out->bar_color = theme_mix(u->theme.ground, u->theme.series[1], 0.35);
}

static void inlined_cell(const struct source *s, const struct ui *u, const struct report_edge *e,
                         int column, struct table_cell *out)
{
    const char *slash = strrchr(e->to->file, '/');
    out->color = u->theme.dim;
    if (column == SOURCE_CUM)
        report_label(&s->lines->report, out->text, sizeof out->text, e->weight);
    else if (column == SOURCE_TEXT)
        snprintf(out->text, sizeof out->text, "        inlined: %.200s  %.200s:%lld", e->to->name,
                 slash ? slash + 1 : e->to->file, (long long)e->to->line);
}

static void cell(void *view, const struct ui *u, uint32_t row, int column, struct table_cell *out)
{
    const struct source *s = view;
    const struct source_row *w = &s->rows[row];
    out->mono = column == SOURCE_TEXT;
    if (w->inlined) {
        inlined_cell(s, u, w->inlined, column, out);
        return;
    }
    switch (column) {
    case SOURCE_FLAT:
        if (w->node)
            cost(s, u, report_flat(w->node), true, out);
        break;
    case SOURCE_CUM:
        if (w->node)
            cost(s, u, report_cum(w->node), true, out);
        break;
    case SOURCE_LINE:
        snprintf(out->text, sizeof out->text, w->line ? "%u" : "?", w->line);
        out->color = u->theme.dim;
        break;
    default:
        if (w->line && w->line <= s->text_count)
            expand(out->text, sizeof out->text, s->text[w->line - 1]);
        out->color = w->node ? 0 : u->theme.dim;
    }
}

// The function, its file and its sums, over the lines.
static void head(struct source *s, struct ui *u, struct rect r)
{
    char text[1200], flat[UNITS_LABEL_MAX], cum[UNITS_LABEL_MAX], share[32], of[64] = "";
    const struct report *rep = &s->lines->report;
    draw_rect(u->list, r, u->theme.panel);
    struct rect in = {r.x + 2 * u->pad, r.y, r.w - 4 * u->pad, r.h};
    units_percent(share, sizeof share, s->cum, rep->total);
    snprintf(text, sizeof text, "flat %.60s, cum %.60s, %s of everything",
             report_label(rep, flat, sizeof flat, s->flat),
             report_label(rep, cum, sizeof cum, s->cum), share + strspn(share, " "));
    ui_label_right(u, in, u->theme.text, text);
    in.w -= font_width(u->font, text, SIZE_MAX) + 2 * u->pad;
    if (s->files > 1)
        snprintf(of, sizeof of, " (file %d of %d; N: the next)", s->file + 1, s->files);
    snprintf(text, sizeof text, "%.500s  %.500s%s", s->function, s->path ? s->path : "", of);
    ui_label(u, in, u->theme.text, text);
}

unsigned source_frame(struct source *s, struct ui *u, struct rect r)
{
    struct rect top = {r.x, r.y, r.w, u->line + 2};
    if (!s->function) {
        ui_label(u, rect_make(r.x + 2 * u->pad, r.y + u->pad, r.w - 4 * u->pad, u->line),
                 u->theme.dim, "Choose a function in another view, then come back: 6.");
        return 0;
    }
    if (s->files > 1 && command_given(u, COMMAND_SOURCE_FILE)) {
        char *name = strdup(s->function);
        if (name)
            source_set(s, name, (s->file + 1) % s->files);
        free(name);
        u->again = true;
    }
    head(s, u, rect_cut(top, r));
    r.y += top.h;
    r.h -= top.h;
    if (*s->missing && r.h > 0) {
        struct rect why = {r.x, r.y, r.w, u->line};
        draw_rect(u->list, why, u->theme.raised);
        draw_rect(u->list, rect_make(r.x, r.y, 4, why.h), u->theme.bad);
        ui_label(u, rect_make(r.x + 2 * u->pad, r.y, r.w - 4 * u->pad, why.h), u->theme.bad,
                 s->missing);
        r.y += why.h;
        r.h -= why.h;
    }
    return r.h > 0 ? table_frame(&s->table, u, r, columns, SOURCE_COLUMNS, s->row_count, cell, s)
                   : 0;
}
