// SPDX-License-Identifier: MIT
//
// See top.h.

#include "viewer/views/top.h"

#include "analysis/graph.h"
#include "analysis/units.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct table_column columns[TOP_COLUMNS] = {
    {"flat", 11, false, true}, {"flat%", 8, false, true}, {"sum%", 8, false, false},
    {"cum", 11, false, true},  {"cum%", 8, false, true},  {"function", 0, true, true},
};

static int by_value(int64_t x, int64_t y)
{
    x = graph_abs(x);
    y = graph_abs(y);
    return x > y ? -1 : x < y;
}

// The report's own order, by flat, settles what is equal.
static int compare(const void *x, const void *y, void *of)
{
    const struct top *t = of;
    uint32_t i = *(const uint32_t *)x, j = *(const uint32_t *)y;
    const struct report_node *a = t->model->report.nodes[i], *b = t->model->report.nodes[j];
    int d = 0;
    if (t->table.sort == TOP_CUM || t->table.sort == TOP_CUM_SHARE)
        d = by_value(report_cum(a), report_cum(b));
    else if (t->table.sort == TOP_NAME)
        d = strcmp(a->label, b->label);
    if (!d)
        d = i < j ? -1 : i > j;
    return t->table.reversed ? -d : d;
}

void top_sort(struct top *t)
{
    const struct report *r = &t->model->report;
    int64_t sum = 0;
    for (uint32_t i = 0; i < r->node_count; i++)
        t->order[i] = i;
    qsort_r(t->order, r->node_count, sizeof *t->order, compare, t);
    for (uint32_t i = 0; i < r->node_count; i++) {
        sum = graph_add(sum, report_flat(r->nodes[t->order[i]]));
        t->sums[i] = sum;
    }
}

int top_init(struct top *t, const struct profile_model *m)
{
    *t = (struct top){.model = m, .table = {.name = "top"}};
    t->order = calloc(m->report.node_count + 1, sizeof *t->order);
    t->sums = calloc(m->report.node_count + 1, sizeof *t->sums);
    if (!t->order || !t->sums)
        return -ENOMEM;
    top_sort(t);
    return 0;
}

void top_finish(struct top *t)
{
    free(t->order);
    free(t->sums);
    *t = (struct top){0};
}

const char *top_chosen(const struct top *t)
{
    const struct report *r = &t->model->report;
    return t->table.chosen < r->node_count ? r->nodes[t->order[t->table.chosen]]->label : NULL;
}

void top_choose(struct top *t, const char *label)
{
    for (uint32_t i = 0; label && i < t->model->report.node_count; i++)
        if (!strcmp(t->model->report.nodes[t->order[i]]->label, label)) {
            t->table.chosen = i;
            table_show(&t->table, i, -1);
            return;
        }
}

static void share(const struct top *t, const struct ui *u, int64_t v, bool bar,
                  struct table_cell *out)
{
    int64_t total = t->model->report.total;
    units_percent(out->text, sizeof out->text, v, total);
    memmove(out->text, out->text + strspn(out->text, " "), strlen(out->text) + 1);
    if (!bar || !total)
        return;
    bool compared = t->model->stacks.values == STACKS_COMPARED;
    uint32_t color = compared ? theme_change(&u->theme, v < 0 ? -4 : 4) : u->theme.series[1];
    out->bar = (double)graph_abs(v) / (double)total;
    out->bar_color = theme_mix(u->theme.ground, color, 0.35);
}

static void cell(void *view, const struct ui *u, uint32_t row, int column, struct table_cell *out)
{
    const struct top *t = view;
    const struct report *r = &t->model->report;
    const struct report_node *n = r->nodes[t->order[row]];
    const char *mark;
    switch (column) {
    case TOP_FLAT: report_label(r, out->text, sizeof out->text, report_flat(n)); break;
    case TOP_CUM: report_label(r, out->text, sizeof out->text, report_cum(n)); break;
    case TOP_FLAT_SHARE: share(t, u, report_flat(n), true, out); break;
    case TOP_CUM_SHARE: share(t, u, report_cum(n), true, out); break;
    case TOP_SUM:
        share(t, u, t->sums[row], false, out);
        out->color = u->theme.dim;
        break;
    default:
        mark = report_inline_mark(n);
        snprintf(out->text, sizeof out->text, "%.480s%s%s", n->label, *mark ? " " : "", mark);
    }
}

unsigned top_frame(struct top *t, struct ui *u, struct rect r)
{
    const char *was = top_chosen(t);
    unsigned did = table_frame(&t->table, u, r, columns, TOP_COLUMNS,
                               (uint32_t)t->model->report.node_count, cell, t);
    if (did & TABLE_SORTED) {
        top_sort(t);
        top_choose(t, was);
    }
    return did;
}
