// SPDX-License-Identifier: MIT
//
// The facts of the latency panel. See panel_latency.h.

#include "viewer/panels/panel_latency.h"

#include "viewer/panels/panel_spans.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void panel_latency_init(struct panel_latency *x)
{
    *x = (struct panel_latency){.names.table = {.column = PANEL_NAMES_TOTAL, .chosen = UINT32_MAX},
                                .table = {.column = PANEL_SPANS_LENGTH, .chosen = UINT32_MAX}};
}

static void drop_spans(struct panel_latency *x)
{
    free(x->spans);
    free(x->sorted);
    free(x->buckets);
    free(x->order);
    x->spans = NULL;
    x->sorted = x->order = NULL;
    x->buckets = NULL;
    x->count = x->shown = 0;
    x->has = false;
}

void panel_latency_finish(struct panel_latency *x)
{
    drop_spans(x);
    free(x->names.names);
    *x = (struct panel_latency){0};
}

const struct trace_instance_name *panel_latency_name(const struct panel_latency *x)
{
    const struct panel_names *n = &x->names;
    return n->has && n->table.chosen < n->count ? &n->names[n->table.chosen] : NULL;
}

void panel_latency_brush(struct panel_latency *x, unsigned first, unsigned last)
{
    x->filter_stale |= first != x->brush_first || last != x->brush_last;
    x->brush_first = first;
    x->brush_last = last;
}

// Its number among the names; 0: there are none.
static uint32_t type_of(const struct trace_model *m, const char *name, bool is_task)
{
    const struct trace_spans *s = m->spans;
    uint32_t n = is_task ? s->task_count : s->region_count;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t type = is_task ? s->tasks[i].type : s->regions[i].type;
        if (!strcmp(trace_names_text(&s->names, type), name))
            return type + 1;
    }
    return 0;
}

bool panel_latency_has(const struct trace_model *m, const char *name, bool is_task)
{
    return type_of(m, name, is_task);
}

int panel_latency_choose(struct panel_latency *x, const struct trace_model *m, const char *name,
                         bool is_task)
{
    uint32_t type = type_of(m, name, is_task);
    if (!type)
        return -ENOENT;
    x->names.wanted = type;
    x->names.wanted_is_task = is_task;
    x->names.has = false;
    return 0;
}

struct panel_latency_choice panel_latency_chosen(const struct panel_latency *x)
{
    const struct trace_instance_name *n = panel_latency_name(x);
    struct panel_latency_choice c = {.has = n || x->names.wanted,
                                     .in_range = x->in_range,
                                     .brush_first = x->brush_first,
                                     .brush_last = x->brush_last};
    if (x->names.wanted) {
        c.name = x->names.wanted - 1;
        c.is_task = x->names.wanted_is_task;
    } else if (n) {
        c.name = n->name;
        c.is_task = n->is_task;
    }
    return c;
}

void panel_latency_restore(struct panel_latency *x, const struct trace_model *m, const char *name,
                           const struct panel_latency_choice *c)
{
    x->in_range = c->in_range;
    if (!c->has || panel_latency_choose(x, m, name, c->is_task))
        return;
    // The brush is of that name, so make_spans leaves it.
    x->name = x->names.wanted - 1;
    x->is_task = c->is_task;
    panel_latency_brush(x, c->brush_first, c->brush_last);
}

// --- What is to be known.

// The time that names and spans are of.
static void time_of(const struct panel_latency *x, const struct panel_context *c, int64_t *begin_ns,
                    int64_t *end_ns)
{
    *begin_ns = x->in_range ? c->begin_ns : c->model->begin_ns;
    *end_ns = x->in_range ? c->end_ns : c->model->end_ns;
}

static bool names_due(const struct panel_latency *x, const struct panel_context *c)
{
    int64_t begin_ns, end_ns;
    time_of(x, c, &begin_ns, &end_ns);
    return !x->names.has || x->names.begin_ns != begin_ns || x->names.end_ns != end_ns;
}

static bool spans_due(const struct panel_latency *x)
{
    const struct trace_instance_name *n = panel_latency_name(x);
    if (!n)
        return x->has;
    return !x->has || x->name != n->name || x->is_task != n->is_task ||
           x->begin_ns != x->names.begin_ns || x->end_ns != x->names.end_ns;
}

static bool order_due(const struct panel_latency *x)
{
    return x->has && (x->order_stale || x->order_column != x->table.column ||
                      x->order_ascending != x->table.ascending);
}

bool panel_latency_due(const struct panel_latency *x, const struct panel_context *c)
{
    return names_due(x, c) || spans_due(x) || order_due(x) || (x->has && x->filter_stale);
}

bool panel_latency_is_quick(const struct panel_latency *x, const struct panel_context *c)
{
    return !names_due(x, c) && !spans_due(x) && !order_due(x);
}

// --- Making it.

static int make_names(struct panel_latency *x, const struct panel_context *c)
{
    struct panel_names *n = &x->names;
    const struct trace_instance_name *chosen = panel_latency_name(x);
    uint32_t name = n->wanted ? n->wanted - 1 : chosen ? chosen->name : 0;
    bool is_task = n->wanted ? n->wanted_is_task : chosen && chosen->is_task;
    bool is_any = !n->wanted && !chosen;
    time_of(x, c, &n->begin_ns, &n->end_ns);
    free(n->names);
    n->names = NULL;
    int count = trace_instance_names(c->model->spans, n->begin_ns, n->end_ns, &n->names);
    n->has = count >= 0;
    n->count = n->has ? (uint32_t)count : 0;
    n->table.chosen = n->count && is_any ? 0 : UINT32_MAX;
    for (uint32_t i = 0; i < n->count && !is_any; i++)
        if (n->names[i].name == name && n->names[i].is_task == is_task)
            n->table.chosen = i;
    n->wanted = 0;
    panel_names_order(n, c->model);
    return count < 0 ? count : 0;
}

static int by_length(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

// As of `fiberscope trace regions`: in order of length the one of index q * count.
static int64_t quantile(const int64_t *lengths, size_t count, double q)
{
    size_t i = (size_t)(q * (double)count);
    return count ? lengths[i < count ? i : count - 1] : 0;
}

static int make_figures(struct panel_latency *x)
{
    int64_t *lengths = calloc(x->count + 1ull, sizeof *lengths);
    size_t n = 0;
    if (!lengths)
        return -ENOMEM;
    x->hist = (struct trace_hist){0};
    for (uint32_t i = 0; i < x->count; i++) {
        if (!x->spans[i].complete)
            continue;
        lengths[n++] = x->spans[i].end_ns - x->spans[i].begin_ns;
        trace_hist_add(&x->hist, lengths[n - 1]);
    }
    qsort(lengths, n, sizeof *lengths, by_length);
    x->p50_ns = quantile(lengths, n, 0.5);
    x->p90_ns = quantile(lengths, n, 0.9);
    x->p99_ns = quantile(lengths, n, 0.99);
    free(lengths);
    x->first_bucket = x->last_bucket = 0;
    for (unsigned i = 0; i < TRACE_HIST_BUCKETS; i++) {
        if (!x->hist.buckets[i])
            continue;
        x->first_bucket = x->last_bucket ? x->first_bucket : i;
        x->last_bucket = i + 1;
    }
    return 0;
}

static int make_spans(struct panel_latency *x, const struct panel_context *c)
{
    const struct trace_instance_name *n = panel_latency_name(x);
    bool is_same = n && x->name == n->name && x->is_task == n->is_task;
    drop_spans(x);
    x->table.chosen = UINT32_MAX;
    if (!is_same)
        panel_latency_brush(x, 0, 0);
    if (!n)
        return 0;
    x->name = n->name;
    x->is_task = n->is_task;
    x->begin_ns = x->names.begin_ns;
    x->end_ns = x->names.end_ns;
    int count =
        trace_instances(c->model->spans, n->name, n->is_task, x->begin_ns, x->end_ns, &x->spans);
    x->count = count > 0 ? (uint32_t)count : 0;
    int rc = count < 0 ? count : make_figures(x);
    x->has = !rc;
    x->order_stale = true;
    return rc;
}

int panel_latency_work(struct panel_latency *x, const struct panel_context *c)
{
    int rc = names_due(x, c) ? make_names(x, c) : 0;
    if (!rc && spans_due(x))
        rc = make_spans(x, c);
    if (!rc && order_due(x))
        rc = panel_spans_order(x, c->model);
    if (!rc && x->has && x->filter_stale)
        panel_spans_filter(x);
    return rc;
}
