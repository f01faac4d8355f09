// SPDX-License-Identifier: MIT
//
// The sums, and the table of start functions. See panel_sums.h.

#include "viewer/panels/panel_sums.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FUNCTION, FIBERS, ALIVE, TOTAL, RUNNING, RUNNABLE, SYSCALL, BLOCKED, REASON };

void panel_sums_init(struct panel_sums *x)
{
    *x = (struct panel_sums){.table = {.column = RUNNING, .chosen = UINT32_MAX}};
}

void panel_sums_finish(struct panel_sums *x)
{
    trace_portion_free(&x->portion);
    free(x->order);
    *x = (struct panel_sums){0};
}

// --- Facts.

static bool is_other_order(const struct panel_sums *x)
{
    return x->order_column != x->table.column || x->order_ascending != x->table.ascending;
}

bool panel_sums_due(const struct panel_sums *x, const struct panel_context *c)
{
    return !x->has || x->begin_ns != c->begin_ns || x->end_ns != c->end_ns || is_other_order(x);
}

static int64_t waited_ns(const struct trace_times *t, uint32_t reason)
{
    for (uint32_t i = 0; i < t->wait_count; i++)
        if (t->waits[i].reason == reason)
            return t->waits[i].ns;
    return 0;
}

static int64_t figure(const struct panel_sums *x, const struct trace_portion_function *f,
                      int column)
{
    switch (column) {
    case FIBERS: return (int64_t)f->fibers;
    case ALIVE: return (int64_t)f->alive;
    case TOTAL: return f->times.total_ns;
    case RUNNING: return f->times.running_ns;
    case RUNNABLE: return f->times.runnable_ns;
    case SYSCALL: return f->times.syscall_ns + f->times.syscall_blocked_ns;
    case BLOCKED: return f->times.blocked_ns;
    default: break;
    }
    if (column < REASON + (int)x->reason_count)
        return waited_ns(&f->times, x->reasons[column - REASON]);
    int64_t other = f->times.blocked_ns; // what has no column of its own: they add up to blocked
    for (uint32_t i = 0; i < x->reason_count; i++)
        other -= waited_ns(&f->times, x->reasons[i]);
    return other;
}

struct sorting {
    const struct panel_sums *x;
    const struct trace_model *model;
};

static int compare(const void *a, const void *b, void *context)
{
    const struct sorting *s = context;
    const struct panel_sums *x = s->x;
    const struct trace_portion_function *f = &x->portion.functions[*(const uint32_t *)a];
    const struct trace_portion_function *g = &x->portion.functions[*(const uint32_t *)b];
    int by = 0;
    if (x->table.column == FUNCTION) {
        by = strcmp(panel_function(s->model, f->name), panel_function(s->model, g->name));
    } else {
        int64_t p = figure(x, f, x->table.column), q = figure(x, g, x->table.column);
        by = (p > q) - (p < q);
    }
    if (by)
        return x->table.ascending ? by : -by;
    return *(const uint32_t *)a < *(const uint32_t *)b ? -1 : 1;
}

static int make_order(struct panel_sums *x, const struct panel_context *c)
{
    uint32_t n = x->portion.function_count;
    uint32_t chosen = x->table.chosen < n && x->order ? x->order[x->table.chosen] : UINT32_MAX;
    uint32_t *order = reallocarray(x->order, n + 1ull, sizeof *order);
    if (!order)
        return -ENOMEM;
    x->order = order;
    for (uint32_t i = 0; i < n; i++)
        order[i] = i;
    struct sorting s = {x, c->model};
    qsort_r(order, n, sizeof *order, compare, &s);
    x->table.chosen = UINT32_MAX;
    for (uint32_t i = 0; i < n; i++)
        x->table.chosen = order[i] == chosen ? i : x->table.chosen;
    x->order_column = x->table.column;
    x->order_ascending = x->table.ascending;
    return 0;
}

int panel_sums_work(struct panel_sums *x, const struct panel_context *c)
{
    bool is_other = !x->has || x->begin_ns != c->begin_ns || x->end_ns != c->end_ns;
    if (!is_other)
        return make_order(x, c);
    trace_portion_free(&x->portion);
    x->has = false;
    x->table.chosen = UINT32_MAX; // rows are other functions
    int rc = trace_portion_begin(&x->portion, c->model->spans, c->begin_ns, c->end_ns);
    while (!rc && (rc = trace_portion_step(&x->portion, UINT64_MAX)) > 0)
        ;
    x->lost = (struct kernel_times){0};
    if (!rc && c->kernel) {
        kernel_times_all(&x->lost, c->kernel, c->begin_ns, c->end_ns);
        kernel_times_finish(&x->lost);
    }
    x->reason_count = 0;
    const struct trace_times *t = &x->portion.totals;
    for (uint32_t i = 0; i < t->wait_count && x->reason_count < PANEL_SUMS_REASONS; i++)
        if (t->waits[i].ns)
            x->reasons[x->reason_count++] = t->waits[i].reason;
    if (x->table.column > REASON + (int)x->reason_count)
        x->table.column = BLOCKED;
    if (!rc)
        rc = make_order(x, c);
    x->begin_ns = c->begin_ns;
    x->end_ns = c->end_ns;
    x->has = !rc;
    return rc;
}

// --- The table.

struct cells {
    const struct panel_sums *x;
    const struct trace_model *model;
    int64_t most[REASON + PANEL_SUMS_REASONS + 1]; // of each column
};

static double cell(const void *context, uint32_t row, int column, char *text)
{
    const struct cells *k = context;
    const struct trace_portion_function *f = &k->x->portion.functions[k->x->order[row]];
    if (column == FUNCTION) {
        snprintf(text, PANEL_CELL_MAX, "%.500s", panel_function(k->model, f->name));
        return 0;
    }
    int64_t value = figure(k->x, f, column);
    if (column < TOTAL)
        snprintf(text, PANEL_CELL_MAX, "%" PRId64, value);
    else
        panel_ns(text, value);
    bool ordered = column == k->x->table.column && column >= TOTAL;
    return ordered && k->most[column] ? (double)value / (double)k->most[column] : 0;
}

void panel_fibers_frame(struct panel_sums *x, const struct panel_context *c, struct ui *u,
                        struct rect r)
{
    struct panel_column columns[REASON + PANEL_SUMS_REASONS + 1] = {
        {"start function", NULL}, {"fibers", "00000000"},   {"alive", "0000000"},
        {"lives", "0000.00ms"},   {"running", "0000.00ms"}, {"runnable", "0000.00ms"},
        {"syscall", "0000.00ms"}, {"blocked", "0000.00ms"}};
    struct cells k = {.x = x, .model = c->model};
    int count = REASON;
    for (uint32_t i = 0; i < x->reason_count; i++)
        columns[count++] = (struct panel_column){
            trace_names_text(&c->model->spans->names, x->reasons[i]), "0000.00ms"};
    columns[count++] = (struct panel_column){"other", "0000.00ms"};
    for (uint32_t i = 0; x->has && i < x->portion.function_count; i++)
        for (int m = FIBERS; m < count; m++) {
            int64_t value = figure(x, &x->portion.functions[i], m);
            k.most[m] = value > k.most[m] ? value : k.most[m];
        }
    const struct panel_rows rows = {.columns = columns,
                                    .column_count = count,
                                    .count = x->has ? x->portion.function_count : 0,
                                    .cell = cell,
                                    .context = &k,
                                    .none = x->has ? "no fibers in this range" : "adding up"};
    panel_table(&x->table, u, ui_id("fibers", 0), r, &rows, c->has_keys);
}
