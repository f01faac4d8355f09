// SPDX-License-Identifier: MIT
//
// See panel_spans.h.

#include "viewer/panels/panel_spans.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// --- Names.

struct names {
    const struct panel_latency *x;
    const struct trace_model *model;
    int64_t most_ns[2]; // of regions, of tasks: the largest sum
};

static double name_cell(const void *context, uint32_t row, int column, char *text)
{
    const struct names *k = context;
    const struct trace_instance_name *n = &k->x->names.names[row];
    switch (column) {
    case PANEL_NAMES_NAME:
        snprintf(text, PANEL_CELL_MAX, "%s%.400s", n->is_task ? "task " : "",
                 trace_names_text(&k->model->spans->names, n->name));
        return 0;
    case PANEL_NAMES_COUNT: snprintf(text, PANEL_CELL_MAX, "%" PRIu64, n->count); return 0;
    case PANEL_NAMES_COMPLETE: snprintf(text, PANEL_CELL_MAX, "%" PRIu64, n->complete); return 0;
    case PANEL_NAMES_LONGEST: n->complete ? panel_ns(text, n->max_ns) : strcpy(text, "-"); return 0;
    default: n->complete ? panel_ns(text, n->sum_ns) : strcpy(text, "-");
    }
    int64_t most = k->most_ns[n->is_task];
    return most ? (double)n->sum_ns / (double)most : 0;
}

struct name_order {
    const struct trace_model *model;
    int column;
    bool ascending;
};

static int64_t name_figure(const struct trace_instance_name *n, int column)
{
    switch (column) {
    case PANEL_NAMES_COUNT: return (int64_t)n->count;
    case PANEL_NAMES_COMPLETE: return (int64_t)n->complete;
    case PANEL_NAMES_LONGEST: return n->max_ns;
    default: return n->sum_ns;
    }
}

static int by_name_order(const void *a, const void *b, void *context)
{
    const struct trace_instance_name *x = a, *y = b;
    const struct name_order *o = context;
    const struct trace_names *n = &o->model->spans->names;
    int by = strcmp(trace_names_text(n, x->name), trace_names_text(n, y->name));
    if (x->is_task != y->is_task)
        return x->is_task - y->is_task;
    if (o->column != PANEL_NAMES_NAME) {
        int64_t p = name_figure(x, o->column), q = name_figure(y, o->column);
        if (p != q)
            return (p < q ? -1 : 1) * (o->ascending ? 1 : -1);
        return by;
    }
    return o->ascending ? by : -by;
}

void panel_names_order(struct panel_names *n, const struct trace_model *m)
{
    struct name_order o = {m, n->table.column, n->table.ascending};
    struct trace_instance_name chosen = {0};
    bool has = n->table.chosen < n->count;
    if (has)
        chosen = n->names[n->table.chosen];
    if (n->count)
        qsort_r(n->names, n->count, sizeof *n->names, by_name_order, &o);
    for (uint32_t i = 0; i < n->count && has; i++)
        if (n->names[i].name == chosen.name && n->names[i].is_task == chosen.is_task)
            n->table.chosen = i;
}

void panel_names_frame(struct panel_latency *x, const struct panel_context *c, struct ui *u,
                       struct rect r, bool has_keys)
{
    static const struct panel_column columns[PANEL_NAMES_COLUMNS] = {{"name", NULL},
                                                                     {"count", "000000"},
                                                                     {"complete", "000000"},
                                                                     {"longest", "0000.00ms"},
                                                                     {"total", "0000.00ms"}};
    struct panel_names *n = &x->names;
    struct names k = {.x = x, .model = c->model};
    for (uint32_t i = 0; n->has && i < n->count; i++) {
        int64_t *most = &k.most_ns[n->names[i].is_task];
        *most = n->names[i].sum_ns > *most ? n->names[i].sum_ns : *most;
    }
    const struct panel_rows rows = {.columns = columns,
                                    .column_count = PANEL_NAMES_COLUMNS,
                                    .count = n->has ? n->count : 0,
                                    .cell = name_cell,
                                    .context = &k,
                                    .none = !n->has       ? "looking for them"
                                            : x->in_range ? "no regions or tasks in this range"
                                                          : "no regions or tasks in this trace"};
    if (panel_table(&n->table, u, ui_id("names", 0), r, &rows, has_keys) & PANEL_TABLE_ORDER)
        panel_names_order(n, c->model);
}

// --- Instances.

static int64_t figure(const struct trace_instance_span *s, int column)
{
    switch (column) {
    case PANEL_SPANS_BEGIN: return s->begin_ns;
    case PANEL_SPANS_LENGTH: return s->end_ns - s->begin_ns;
    case PANEL_SPANS_RUNNING: return s->running_ns;
    case PANEL_SPANS_RUNNABLE: return s->runnable_ns;
    case PANEL_SPANS_BLOCKED: return s->blocked_ns;
    case PANEL_SPANS_SYSCALL: return s->syscall_ns;
    default: return s->lane; // by name, then number: as lanes are
    }
}

struct span_order {
    const struct panel_latency *x;
    const struct trace_model *model;
};

static int by_span_order(const void *a, const void *b, void *context)
{
    const struct span_order *o = context;
    uint32_t i = *(const uint32_t *)a, k = *(const uint32_t *)b;
    const struct trace_instance_span *x = &o->x->spans[i], *y = &o->x->spans[k];
    int by = 0;
    if (o->x->table.column == PANEL_SPANS_FIBER && x->lane != TRACE_NO_LANE &&
        y->lane != TRACE_NO_LANE) {
        const struct trace_lane *l = o->model->spans->lanes;
        by = strcmp(panel_function(o->model, l[x->lane].name),
                    panel_function(o->model, l[y->lane].name));
    }
    if (!by) {
        int64_t p = figure(x, o->x->table.column), q = figure(y, o->x->table.column);
        by = (p > q) - (p < q);
    }
    if (by)
        return o->x->table.ascending ? by : -by;
    return i < k ? -1 : 1;
}

static unsigned bucket_of(const struct trace_instance_span *s)
{
    unsigned low = 0, high = TRACE_HIST_BUCKETS; // the first that begins after it
    if (!s->complete)
        return UINT16_MAX;
    while (low < high) {
        unsigned mid = low + (high - low) / 2;
        if (trace_hist_bucket_ns(mid) <= s->end_ns - s->begin_ns)
            low = mid + 1;
        else
            high = mid;
    }
    return low ? low - 1 : 0;
}

int panel_spans_order(struct panel_latency *x, const struct trace_model *m)
{
    size_t n = x->count + 1ull;
    x->sorted = x->sorted ? x->sorted : calloc(n, sizeof *x->sorted);
    x->buckets = x->buckets ? x->buckets : calloc(n, sizeof *x->buckets);
    x->order = x->order ? x->order : calloc(n, sizeof *x->order);
    if (!x->sorted || !x->buckets || !x->order)
        return -ENOMEM;
    for (uint32_t i = 0; i < x->count; i++)
        x->sorted[i] = i;
    struct span_order o = {x, m};
    qsort_r(x->sorted, x->count, sizeof *x->sorted, by_span_order, &o);
    for (uint32_t i = 0; i < x->count; i++)
        x->buckets[i] = (uint16_t)bucket_of(&x->spans[x->sorted[i]]);
    x->order_column = x->table.column;
    x->order_ascending = x->table.ascending;
    x->order_stale = false;
    x->filter_stale = true;
    return 0;
}

void panel_spans_filter(struct panel_latency *x)
{
    uint32_t chosen = x->table.chosen < x->shown ? x->order[x->table.chosen] : UINT32_MAX;
    bool has_brush = x->brush_last > x->brush_first;
    x->shown = 0;
    x->table.chosen = UINT32_MAX;
    for (uint32_t i = 0; i < x->count; i++) {
        if (has_brush && (x->buckets[i] < x->brush_first || x->buckets[i] >= x->brush_last))
            continue;
        if (x->sorted[i] == chosen)
            x->table.chosen = x->shown;
        x->order[x->shown++] = x->sorted[i];
    }
    x->filter_stale = false;
}

static double span_cell(const void *context, uint32_t row, int column, char *text)
{
    const struct span_order *k = context;
    const struct trace_instance_span *s = &k->x->spans[k->x->order[row]];
    const struct trace_lane *lanes = k->model->spans->lanes;
    int64_t ns = figure(s, column), whole = s->end_ns - s->begin_ns;
    switch (column) {
    case PANEL_SPANS_FIBER: // the number first: the name may have no room
        if (s->lane == TRACE_NO_LANE)
            strcpy(text, "-");
        else
            snprintf(text, PANEL_CELL_MAX, "%" PRId64 " %.400s", lanes[s->lane].id,
                     panel_function(k->model, lanes[s->lane].name));
        return 0;
    case PANEL_SPANS_BEGIN: panel_at(text, k->model, s->begin_ns); return 0;
    case PANEL_SPANS_LENGTH:
        // Of what is open only so much is known.
        if (!s->complete)
            *text++ = '>';
        panel_ns(text, ns);
        return k->x->hist.max_ns ? (double)ns / (double)k->x->hist.max_ns : 0;
    default:
        if (!s->has_parts)
            strcpy(text, "-");
        else
            panel_ns(text, ns);
        return whole && s->has_parts ? (double)ns / (double)whole : 0;
    }
}

void panel_spans_frame(struct panel_latency *x, const struct panel_context *c, struct ui *u,
                       struct rect r, bool has_keys, struct panel_goal *goal)
{
    static const struct panel_column columns[PANEL_SPANS_COLUMNS] = {
        {"fiber", NULL},         {"begins", "000.000000s"}, {"length", "0000.00ms"},
        {"running", "000.00ms"}, {"runnable", "000.00ms"},  {"blocked", "000.00ms"},
        {"syscall", "000.00ms"}};
    const struct span_order k = {x, c->model};
    const uint32_t bars[PANEL_SPANS_COLUMNS] = {[PANEL_SPANS_RUNNING] = u->theme.running,
                                                [PANEL_SPANS_RUNNABLE] = u->theme.runnable,
                                                [PANEL_SPANS_BLOCKED] = u->theme.waiting,
                                                [PANEL_SPANS_SYSCALL] = u->theme.syscall};
    const struct panel_rows rows = {.columns = columns,
                                    .column_count = PANEL_SPANS_COLUMNS,
                                    .count = x->has && x->order ? x->shown : 0,
                                    .cell = span_cell,
                                    .bars = bars,
                                    .context = &k,
                                    .none = x->has ? "none as long as that" : ""};
    unsigned said = panel_table(&x->table, u, ui_id("spans", 0), r, &rows, has_keys);
    if (!(said & PANEL_TABLE_ENTER) || x->table.chosen >= x->shown)
        return;
    const struct trace_instance_span *s = &x->spans[x->order[x->table.chosen]];
    *goal = (struct panel_goal){
        .wanted = true, .begin_ns = s->begin_ns, .end_ns = s->end_ns, .lane = s->lane};
}
