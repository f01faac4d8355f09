// SPDX-License-Identifier: MIT
//
// See panel_explain.h.

#include "viewer/panels/panel_explain.h"

#include "viewer/ui/font.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double SLOW = 0.99;

enum { WHAT, LONGER, SHARE, OF_SLOW, OF_TYPICAL, COLUMNS };

void panel_explain_init(struct panel_explain *x)
{
    *x = (struct panel_explain){.table = {.column = LONGER, .chosen = UINT32_MAX}};
}

void panel_explain_finish(struct panel_explain *x)
{
    trace_explained_finish(&x->explained);
    free(x->order);
    *x = (struct panel_explain){0};
}

// --- Facts.

// The least length that the brush leaves; 0: there is none, or it is of another name.
static int64_t brush_of(const struct panel_latency *names)
{
    const struct trace_instance_name *n = panel_latency_name(names);
    bool is_of = n && names->has && names->name == n->name && names->is_task == n->is_task;
    bool has_brush = is_of && names->brush_last > names->brush_first;
    return has_brush ? trace_hist_bucket_ns(names->brush_first) : 0;
}

static bool is_other(const struct panel_explain *x, const struct panel_latency *names)
{
    const struct trace_instance_name *n = panel_latency_name(names);
    return n && (!x->has || x->name != n->name || x->is_task != n->is_task ||
                 x->begin_ns != names->names.begin_ns || x->end_ns != names->names.end_ns ||
                 x->brush_ns != brush_of(names));
}

bool panel_explain_due(const struct panel_explain *x, const struct panel_latency *names)
{
    return is_other(x, names) || (x->has && (x->order_column != x->table.column ||
                                             x->order_ascending != x->table.ascending));
}

static double figure(const struct trace_piece *p, int column)
{
    switch (column) {
    case OF_SLOW: return p->slow_ns;
    case OF_TYPICAL: return p->typical_ns;
    default: return p->slow_ns - p->typical_ns;
    }
}

// Pieces are in order of their gap, which is that of equals.
static int compare(const void *a, const void *b, void *context)
{
    const struct panel_explain *x = context;
    uint32_t i = *(const uint32_t *)a, k = *(const uint32_t *)b;
    const struct trace_piece *p = &x->explained.pieces[i], *q = &x->explained.pieces[k];
    if (x->table.column == WHAT && p->part != q->part)
        return (p->part < q->part ? -1 : 1) * (x->table.ascending ? 1 : -1);
    double m = figure(p, x->table.column), n = figure(q, x->table.column);
    if (x->table.column != WHAT && (m < n || m > n))
        return (m < n ? -1 : 1) * (x->table.ascending ? 1 : -1);
    return i < k ? -1 : 1;
}

static int make_order(struct panel_explain *x)
{
    uint32_t n = x->explained.piece_count;
    uint32_t *order = reallocarray(x->order, n + 1ull, sizeof *order);
    if (!order)
        return -ENOMEM;
    x->order = order;
    for (uint32_t i = 0; i < n; i++)
        order[i] = i;
    qsort_r(order, n, sizeof *order, compare, x);
    x->order_column = x->table.column;
    x->order_ascending = x->table.ascending;
    x->table.chosen = n ? 0 : UINT32_MAX;
    return 0;
}

int panel_explain_work(struct panel_explain *x, const struct panel_context *c,
                       const struct panel_latency *names)
{
    const struct trace_instance_name *n = panel_latency_name(names);
    if (is_other(x, names)) {
        const struct trace_spans *s = c->model->spans;
        int64_t brush_ns = brush_of(names);
        const struct trace_explain_options o = {.name = trace_names_text(&s->names, n->name),
                                                .tasks = n->is_task,
                                                .quantile = SLOW,
                                                .threshold_ns = brush_ns,
                                                .from_ns = names->names.begin_ns,
                                                .to_ns = names->names.end_ns};
        trace_explained_finish(&x->explained);
        x->explained = (struct trace_explained){0};
        x->has = false;
        x->rc = trace_explain(s, &o, &x->explained);
        if (x->rc && x->rc != -EAGAIN && x->rc != -ENOENT)
            return x->rc;
        if (x->rc)
            x->explained.piece_count = 0;
        x->name = n->name;
        x->is_task = n->is_task;
        x->begin_ns = o.from_ns;
        x->end_ns = o.to_ns;
        x->brush_ns = brush_ns;
        x->has = true;
    }
    return make_order(x);
}

// --- Frames.

static int64_t rounded(double ns)
{
    return (int64_t)llround(ns);
}

struct cells {
    const struct panel_explain *x;
    const struct trace_model *model;
    double most_ns;
};

// "lock  parse (sync), held by worker"
static void what(const struct trace_model *m, const struct trace_piece *p, char *text)
{
    const struct trace_names *n = &m->spans->names;
    const char *function = trace_names_text(n, p->function), *reason = "";
    char in[200] = "", by[200] = "";
    reason = trace_names_text(n, p->reason);
    if (p->part == TRACE_PART_RUNNABLE) {
        if (p->is_held)
            snprintf(in, sizeof in, "while %.150s had the Proc", panel_function(m, p->holder));
        else
            snprintf(in, sizeof in, "while its Proc ran no fiber");
        reason = "";
    } else if (p->off_cpu) {
        snprintf(in, sizeof in, "off the CPU");
    } else if (p->part == TRACE_PART_RUNNING && !*function) {
        snprintf(in, sizeof in, "(no CPU samples)");
    } else {
        snprintf(in, sizeof in, "%.190s", function);
    }
    if (p->part == TRACE_PART_LOCK)
        snprintf(by, sizeof by, ", %s by %.150s", p->is_held ? "held" : "ended",
                 panel_function(m, p->holder));
    snprintf(text, PANEL_CELL_MAX, "%s %s%s%.60s%s%s", trace_part_name(p->part), in,
             *reason ? " (" : "", reason, *reason ? ")" : "", by);
}

static double cell(const void *context, uint32_t row, int column, char *text)
{
    const struct cells *k = context;
    const struct trace_explained *e = &k->x->explained;
    const struct trace_piece *p = &e->pieces[k->x->order[row]];
    double gap = e->slow_mean_ns - e->typical_mean_ns;
    switch (column) {
    case WHAT: what(k->model, p, text); return 0;
    case SHARE:
        // As the report has it: not "-0.0%".
        panel_share(text, fabs(figure(p, LONGER)) < 0.0005 * fabs(gap) ? 0 : figure(p, LONGER),
                    gap);
        return 0;
    default: panel_ns(text, rounded(figure(p, column)));
    }
    return column == LONGER && k->most_ns > 0 ? figure(p, LONGER) / k->most_ns : 0;
}

struct colors {
    struct cells cells; // first: one context serves both
    const struct ui *u;
};

static uint32_t color(const void *context, uint32_t row)
{
    const struct colors *k = context;
    return panel_part_color(k->u, k->cells.x->explained.pieces[k->cells.x->order[row]].part);
}

static void draw_summary(const struct panel_explain *x, struct ui *u, struct rect r)
{
    const struct trace_explained *e = &x->explained;
    char text[PANEL_CELL_MAX], a[PANEL_CELL_MAX], b[PANEL_CELL_MAX];
    int row = panel_row_height(u);
    snprintf(text, sizeof text,
             "%" PRIu32 " of %" PRIu32 " are slow, from %.60s on%s: %.60s in the mean", e->slow,
             e->instances, panel_ns(a, e->threshold_ns), x->brush_ns ? ", by the brush" : "",
             panel_ns(b, rounded(e->slow_mean_ns)));
    ui_label(u, rect_make(r.x, r.y, r.w, row), u->theme.text, text);
    snprintf(text, sizeof text,
             "%" PRIu32 " are typical, around the median %.60s: %.60s in the mean", e->typical,
             panel_ns(a, e->median_ns), panel_ns(b, rounded(e->typical_mean_ns)));
    ui_label(u, rect_make(r.x, r.y + row, r.w, row), u->theme.text, text);
}

// All of the gap: what the pieces add up to.
static void draw_all(const struct panel_explain *x, struct ui *u, struct rect r)
{
    const struct trace_explained *e = &x->explained;
    char text[PANEL_CELL_MAX], a[PANEL_CELL_MAX];
    draw_rect(u->list, r, u->theme.panel);
    draw_rect(u->list, rect_make(r.x, r.y, r.w, 1), u->theme.border);
    snprintf(text, sizeof text, "%" PRIu32 " pieces; in all the slow ones take %.60s longer",
             e->piece_count, panel_ns(a, rounded(e->slow_mean_ns - e->typical_mean_ns)));
    ui_label(u, rect_make(r.x + u->pad, r.y, r.w - 2 * u->pad, r.h), u->theme.text, text);
}

// A line that says what a stack is, and the stack beneath it, in what is left of the room.
static void draw_stack(const struct panel_context *c, struct ui *u, struct rect *left, int most,
                       const char *title, uint32_t stack)
{
    const struct trace_stacks *s = &c->model->spans->stacks;
    const struct trace_names *n = &c->model->spans->names;
    int line = panel_row_height(u), used = line;
    ui_label(u, rect_make(left->x, left->y, left->w, line), u->theme.dim, title);
    if (stack) {
        struct rect room = {left->x, left->y + line, left->w, most - line};
        uint32_t first = trace_frame_of_user(n, trace_stacks_get(s, stack));
        used += panel_stack(u, c->model, room, stack, first);
    }
    used += u->pad / 2;
    left->y += used;
    left->h -= used;
}

// Where the chosen piece waits, who had what it waited for, and what he did with it.
static void draw_stacks(const struct panel_explain *x, const struct panel_context *c, struct ui *u,
                        struct rect r)
{
    uint32_t row = x->table.chosen;
    if (row >= x->explained.piece_count)
        return;
    const struct trace_piece *p = &x->explained.pieces[x->order[row]];
    char text[PANEL_CELL_MAX], ns[PANEL_CELL_MAX];
    int line = panel_row_height(u);
    int below = p->meanwhile_ns > 0 ? trace_meanwhile_stack(p) ? 2 : 1 : 0; // what stands below
    struct rect in = {r.x + u->pad, r.y + u->pad / 2, r.w - 2 * u->pad, r.h - u->pad / 2};
    draw_clip_push(u->list, r);
    if (p->stack)
        draw_stack(c, u, &in, p->holder_stack ? in.h / 2 - line : in.h,
                   p->off_cpu                      ? "off the CPU, up to"
                   : p->part == TRACE_PART_RUNNING ? "mostly in"
                                                   : "it waits in",
                   p->stack);
    if (p->holder_stack) {
        snprintf(text, sizeof text, "%.200s %s", panel_function(c->model, p->holder),
                 p->part == TRACE_PART_RUNNABLE ? "had the Proc, mostly in"
                 : p->is_held                   ? "held it, and let go in"
                                                : "ended that, in");
        draw_stack(c, u, &in, below ? in.h - (below + 1) * line : in.h, text, p->holder_stack);
    }
    if (below) {
        char did[PANEL_CELL_MAX / 2];
        trace_meanwhile(did, sizeof did, p, panel_ns(ns, rounded(p->meanwhile_ns)));
        snprintf(text, sizeof text, "%s%s", did, below > 1 ? ", in" : "");
        draw_stack(c, u, &in, in.h, text, trace_meanwhile_stack(p));
    }
    draw_clip_pop(u->list);
}

static void draw_pieces(struct panel_explain *x, const struct panel_context *c, struct ui *u,
                        struct rect r, bool has_keys)
{
    static const struct panel_column columns[COLUMNS] = {{"the slow ones are, in the mean", NULL},
                                                         {"longer", "0000.00ms"},
                                                         {"share", "100.0%"},
                                                         {"slow", "0000.00ms"},
                                                         {"typical", "0000.00ms"}};
    struct colors k = {.cells = {.x = x, .model = c->model}, .u = u};
    for (uint32_t i = 0; i < x->explained.piece_count; i++)
        k.cells.most_ns = fmax(k.cells.most_ns, figure(&x->explained.pieces[i], LONGER));
    const struct panel_rows rows = {.columns = columns,
                                    .column_count = COLUMNS,
                                    .count = x->explained.piece_count,
                                    .cell = cell,
                                    .color = color,
                                    .context = &k};
    int row = panel_row_height(u);
    struct rect in = {r.x, r.y + 2 * row, r.w, r.h - 3 * row};
    draw_summary(x, u, rect_make(r.x + u->pad, r.y, r.w - 2 * u->pad, 2 * row));
    panel_table(&x->table, u, ui_id("explain", 0), in, &rows, has_keys);
    draw_all(x, u, rect_make(r.x, in.y + in.h, r.w, row));
}

static const char *none_chosen(const struct panel_latency *names)
{
    return names->names.count ? "choose a region or task"
           : names->in_range  ? "no regions or tasks in this range"
                              : "no regions or tasks in this trace";
}

void panel_explain_frame(struct panel_explain *x, struct panel_context *c,
                         struct panel_latency *names, struct ui *u, struct rect r)
{
    panel_latency_keys(names, c, u);
    int least = 30 * font_width(u->font, "0", 1);
    // What the pieces are needs most of the room.
    int side = r.w / 4 > least ? r.w / 6 : 0, stacks = r.w / 4 > least ? r.w / 4 : 0;
    side = r.w - side - stacks > 3 * least ? side : 0;
    struct rect in = {r.x + side, r.y, r.w - side - stacks, r.h};
    if (side) {
        struct rect at = {r.x, r.y, side - 1, r.h};
        draw_rect(u->list, rect_make(at.x + at.w, r.y, 1, r.h), u->theme.border);
        panel_take_part(c, u, at, 0);
        panel_names_frame(names, c, u, at, c->has_keys && c->part == 0);
    }
    const struct trace_instance_name *n = panel_latency_name(names);
    const char *none = !n                 ? names->names.has ? none_chosen(names) : ""
                       : !x->has          ? "comparing"
                       : x->rc == -ENOENT ? names->in_range
                                                ? "none of them has both ends in this range"
                                                : "none of them has both ends in the trace"
                       : x->rc            ? "there are no slow ones beside typical ones"
                                          : NULL;
    if (none) {
        ui_label(u, rect_make(in.x + u->pad, in.y, in.w, panel_row_height(u)), u->theme.dim, none);
        return;
    }
    panel_take_part(c, u, in, 1);
    draw_clip_push(u->list, in);
    draw_pieces(x, c, u, in, c->has_keys && (c->part == 1 || !side));
    draw_clip_pop(u->list);
    if (!stacks)
        return;
    draw_rect(u->list, rect_make(in.x + in.w, r.y, 1, r.h), u->theme.border);
    draw_stacks(x, c, u, rect_make(in.x + in.w + 1, r.y, stacks - 1, r.h));
}
