// SPDX-License-Identifier: MIT
//
// From two profiles to the rows that are shown: see top_live.h. Figures are a report's (analysis/report.h), so that they
// are those of `fiberscope top` on a file.

#include "cli/top_live.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

// --- A report on a copy: making one takes its profile apart.

struct part {
    struct pprof_profile *profile;
    struct report report;
    bool is_made;
};

static void part_finish(struct part *p)
{
    if (p->is_made)
        report_finish(&p->report);
    pprof_free(p->profile);
}

static int copy(struct pprof_profile **out, struct pprof_profile *p, struct fscope_error *err)
{
    return pprof_merge(out, &p, 1, err);
}

static int difference(struct pprof_profile **out, struct pprof_profile *before,
                      struct pprof_profile *now, struct fscope_error *err)
{
    struct pprof_profile *a = NULL, *b = NULL;
    int rc = copy(&a, now, err);
    if (!rc)
        rc = copy(&b, before, err);
    if (!rc)
        rc = pprof_subtract(out, a, b, 0, err);
    pprof_free(a);
    pprof_free(b);
    return rc;
}

static int part_report(struct part *p, const struct report_options *o, struct fscope_error *err)
{
    p->is_made = true;
    int rc = report_prepare(&p->report, p->profile, o, err);
    return rc ? rc : report_graph(&p->report, err);
}

// --- Rows.

static int by_label(const void *a, const void *b)
{
    return strcmp(((const struct top_row *)a)->label, ((const struct top_row *)b)->label);
}

static int add_rows(struct top_table *t, const struct report *r, bool is_window)
{
    for (size_t i = 0; i < r->node_count; i++) {
        const struct report_node *n = r->nodes[i];
        struct top_row row = {.label = strdup(n->label)};
        if (!row.label)
            return -ENOMEM;
        *(is_window ? &row.flat : &row.total_flat) = report_flat(n);
        *(is_window ? &row.cum : &row.total_cum) = report_cum(n);
        t->rows[t->count++] = row;
    }
    return 0;
}

static int64_t add(int64_t a, int64_t b)
{
    int64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? (a < 0 ? INT64_MIN : INT64_MAX) : sum;
}

// One row for each label.
static void unite(struct top_table *t)
{
    size_t kept = 0;
    qsort(t->rows, t->count, sizeof *t->rows, by_label);
    for (size_t i = 0; i < t->count; i++) {
        struct top_row *row = &t->rows[i], *last = kept ? &t->rows[kept - 1] : NULL;
        if (!last || strcmp(last->label, row->label) != 0) {
            t->rows[kept++] = *row;
            continue;
        }
        last->flat = add(last->flat, row->flat);
        last->cum = add(last->cum, row->cum);
        last->total_flat = add(last->total_flat, row->total_flat);
        last->total_cum = add(last->total_cum, row->total_cum);
        free(row->label);
    }
    t->count = kept;
}

void top_table_free(struct top_table *t)
{
    for (size_t i = 0; i < t->count; i++)
        free(t->rows[i].label);
    free(t->rows);
    *t = (struct top_table){0};
}

static int fill(struct top_table *t, const struct part *window, const struct part *all)
{
    size_t most = all->report.node_count + (window->profile ? window->report.node_count : 0);
    t->rows = calloc(most + 1, sizeof *t->rows);
    int rc = t->rows ? add_rows(t, &all->report, false) : -ENOMEM;
    if (!rc && window->profile)
        rc = add_rows(t, &window->report, true);
    if (rc)
        return rc;
    unite(t);
    t->total = all->report.total;
    t->window = window->profile ? window->report.total : 0;
    snprintf(t->type, sizeof t->type, "%s", all->report.type);
    snprintf(t->unit, sizeof t->unit, "%s", all->report.from_unit);
    return 0;
}

int top_table_make(struct top_table *t, struct pprof_profile *before, struct pprof_profile *now,
                   bool is_baseline, const struct report_options *o, struct fscope_error *err)
{
    struct part window = {0}, all = {0};
    struct top_table made = {0};
    int rc = copy(&all.profile, now, err);
    if (!rc && before)
        rc = difference(&window.profile, before, now, err);
    else if (!rc && !is_baseline)
        rc = copy(&window.profile, now, err);
    if (!rc)
        rc = part_report(&all, o, err);
    if (!rc && window.profile)
        rc = part_report(&window, o, err);
    if (!rc && (rc = fill(&made, &window, &all)))
        error_set(err, rc, 0, "out of memory");
    part_finish(&window);
    part_finish(&all);
    if (rc) {
        top_table_free(&made);
        return rc;
    }
    top_table_free(t);
    *t = made;
    return 0;
}

// --- Order.

static int64_t magnitude(int64_t v)
{
    return v < 0 ? (v == INT64_MIN ? INT64_MAX : -v) : v;
}

static int compare(const struct top_row *a, const struct top_row *b, enum top_sort sort)
{
    // Equal ones, such as all those that did nothing in this window, by what they did before.
    const int64_t keys[][2] = {
        [TOP_BY_FLAT] = {a->flat, b->flat},
        [TOP_BY_CUM] = {a->cum, b->cum},
        [TOP_BY_TOTAL_FLAT] = {a->total_flat, b->total_flat},
        [TOP_BY_TOTAL_CUM] = {a->total_cum, b->total_cum},
    };
    static const enum top_sort order[][4] = {
        [TOP_BY_FLAT] = {TOP_BY_FLAT, TOP_BY_CUM, TOP_BY_TOTAL_FLAT, TOP_BY_TOTAL_CUM},
        [TOP_BY_CUM] = {TOP_BY_CUM, TOP_BY_FLAT, TOP_BY_TOTAL_CUM, TOP_BY_TOTAL_FLAT},
        [TOP_BY_TOTAL_FLAT] = {TOP_BY_TOTAL_FLAT, TOP_BY_TOTAL_CUM, TOP_BY_FLAT, TOP_BY_CUM},
        [TOP_BY_TOTAL_CUM] = {TOP_BY_TOTAL_CUM, TOP_BY_TOTAL_FLAT, TOP_BY_CUM, TOP_BY_FLAT},
    };
    for (size_t i = 0; sort != TOP_BY_NAME && i < 4; i++) {
        int64_t x = magnitude(keys[order[sort][i]][0]), y = magnitude(keys[order[sort][i]][1]);
        if (x != y)
            return x > y ? -1 : 1;
    }
    return strcmp(a->label, b->label);
}

static int compare_rows(const void *a, const void *b, void *sort)
{
    return compare(a, b, *(const enum top_sort *)sort);
}

void top_table_sort(struct top_table *t, enum top_sort sort)
{
    if (t->count)
        qsort_r(t->rows, t->count, sizeof *t->rows, compare_rows, &sort);
}
