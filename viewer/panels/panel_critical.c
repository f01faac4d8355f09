// SPDX-License-Identifier: MIT
//
// See panel_critical.h.

#include "viewer/panels/panel_critical.h"

#include "viewer/ui/font.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STEP, BEGIN, LENGTH, COLUMNS };

void panel_critical_init(struct panel_critical *x)
{
    *x = (struct panel_critical){
        .of.lane = TRACE_NO_LANE,
        .table = {.column = BEGIN, .ascending = true, .chosen = UINT32_MAX}};
}

void panel_critical_finish(struct panel_critical *x)
{
    free(x->steps);
    free(x->order);
    *x = (struct panel_critical){0};
}

// --- Facts.

// The fiber that is asked for; TRACE_NO_LANE: the last that runs.
static uint32_t asked(const struct panel_critical *x, const struct panel_context *c)
{
    bool is = x->of.wanted && x->of.begin_ns == c->begin_ns && x->of.end_ns == c->end_ns;
    return is ? x->of.lane : TRACE_NO_LANE;
}

static bool is_other(const struct panel_critical *x, const struct panel_context *c)
{
    return !x->has || x->begin_ns != c->begin_ns || x->end_ns != c->end_ns ||
           x->of_lane != asked(x, c);
}

bool panel_critical_due(const struct panel_critical *x, const struct panel_context *c)
{
    return is_other(x, c) || x->order_column != x->table.column ||
           x->order_ascending != x->table.ascending;
}

static int compare(const void *a, const void *b, void *context)
{
    const struct panel_critical *x = context;
    uint32_t i = *(const uint32_t *)a, k = *(const uint32_t *)b;
    const struct trace_step *p = &x->steps[i], *q = &x->steps[k];
    int64_t m = i, n = k; // they are in order of time
    if (x->table.column == LENGTH) {
        m = p->end_ns - p->begin_ns;
        n = q->end_ns - q->begin_ns;
    } else if (x->table.column == STEP) {
        m = p->part;
        n = q->part;
    }
    if (m != n)
        return (m < n ? -1 : 1) * (x->table.ascending ? 1 : -1);
    return i < k ? -1 : 1;
}

static int make_order(struct panel_critical *x)
{
    uint32_t *order = reallocarray(x->order, x->count + 1ull, sizeof *order);
    if (!order)
        return -ENOMEM;
    x->order = order;
    for (uint32_t i = 0; i < x->count; i++)
        order[i] = i;
    qsort_r(order, x->count, sizeof *order, compare, x);
    x->order_column = x->table.column;
    x->order_ascending = x->table.ascending;
    // The longest one is looked at first.
    x->table.chosen = UINT32_MAX;
    x->table.reveal = true;
    for (uint32_t i = 0; i < x->count; i++) {
        const struct trace_step *step = &x->steps[order[i]];
        if (x->table.chosen == UINT32_MAX && step->end_ns - step->begin_ns == x->longest_ns)
            x->table.chosen = i;
    }
    return 0;
}

int panel_critical_work(struct panel_critical *x, const struct panel_context *c)
{
    if (is_other(x, c)) {
        const struct trace_spans *s = c->model->spans;
        int64_t until_ns = c->end_ns;
        free(x->steps);
        x->steps = NULL;
        x->count = 0;
        x->whole_ns = x->longest_ns = 0;
        memset(x->sums_ns, 0, sizeof x->sums_ns);
        x->has = false;
        x->table.chosen = UINT32_MAX;
        x->of_lane = x->lane = asked(x, c);
        if (x->lane == TRACE_NO_LANE)
            x->lane = trace_last_to_run(s, c->begin_ns, c->end_ns, &until_ns);
        int count = x->lane == TRACE_NO_LANE
                        ? 0
                        : trace_critical(s, x->lane, c->begin_ns, until_ns, 0, &x->steps);
        if (count < 0)
            return count;
        x->count = (uint32_t)count;
        for (uint32_t i = 0; i < x->count; i++) {
            int64_t ns = x->steps[i].end_ns - x->steps[i].begin_ns;
            x->sums_ns[x->steps[i].part] += ns;
            x->whole_ns += ns;
            x->longest_ns = ns > x->longest_ns ? ns : x->longest_ns;
        }
        x->begin_ns = c->begin_ns;
        x->end_ns = c->end_ns;
        x->has = true;
    }
    return make_order(x);
}

// --- Frames.

struct cells {
    const struct panel_critical *x;
    const struct trace_model *model;
    const struct ui *u;
};

// "lock worker 17, sync in fib_mutex_lock"
static void words(const struct cells *k, const struct trace_step *step, char *text)
{
    const struct trace_spans *s = k->model->spans;
    char fiber[PANEL_CELL_MAX], in[200] = "";
    const char *reason = "";
    if (step->span != TRACE_NO_SPAN && step->part != TRACE_PART_RUNNING) {
        const struct trace_stack *stack =
            trace_stacks_get(&s->stacks, trace_span_stack(s, step->span));
        reason = trace_names_text(&s->names, trace_span_reason(s, step->span));
        if (stack->count)
            snprintf(in, sizeof in, " in %.190s",
                     panel_function(k->model, stack->frames[0].function));
    }
    snprintf(text, PANEL_CELL_MAX, "%s  %.200s%s%.60s%s", trace_part_name(step->part),
             panel_fiber(fiber, k->model, step->lane), *reason ? ", " : "", reason, in);
}

static double cell(const void *context, uint32_t row, int column, char *text)
{
    const struct cells *k = context;
    const struct trace_step *step = &k->x->steps[k->x->order[row]];
    int64_t ns = step->end_ns - step->begin_ns;
    switch (column) {
    case STEP: words(k, step, text); return 0;
    case BEGIN: panel_at(text, k->model, step->begin_ns); return 0;
    default:
        panel_ns(text, ns);
        return k->x->longest_ns ? (double)ns / (double)k->x->longest_ns : 0;
    }
}

static uint32_t color(const void *context, uint32_t row)
{
    const struct cells *k = context;
    return panel_part_color(k->u, k->x->steps[k->x->order[row]].part);
}

static void draw_sums(const struct panel_critical *x, const struct panel_context *c, struct ui *u,
                      struct rect r)
{
    char text[PANEL_CELL_MAX], a[PANEL_CELL_MAX];
    int row = panel_row_height(u), box = font_ascent(u->font) - 2, y = r.y;
    int share = font_width(u->font, "100.0%", SIZE_MAX) + 2 * u->pad;
    snprintf(text, sizeof text, "to the end of %.200s%s", panel_fiber(a, c->model, x->lane),
             x->of_lane == TRACE_NO_LANE ? ", the last that ran" : "");
    ui_label(u, rect_make(r.x, y, r.w, row), u->theme.text, text);
    y += row;
    struct panel_bar bar = panel_bar_begin(u, rect_make(r.x, y + 2, r.w, u->line - 4), x->whole_ns);
    for (int p = 0; p < TRACE_PARTS; p++)
        panel_bar_part(&bar, u, panel_part_color(u, (enum trace_part)p), x->sums_ns[p]);
    y += u->line + u->pad / 2;
    for (int p = 0; p < TRACE_PARTS && y + row <= r.y + r.h; p++) {
        if (!x->sums_ns[p])
            continue;
        draw_rect(u->list, rect_make(r.x, y + (row - box) / 2, box, box),
                  panel_part_color(u, (enum trace_part)p));
        ui_label(u, rect_make(r.x + box + u->pad, y, r.w / 2, row), u->theme.text,
                 trace_part_name((enum trace_part)p));
        panel_figure(u, rect_make(r.x, y, r.w - share, row), u->theme.text,
                     panel_ns(text, x->sums_ns[p]));
        panel_figure(u, rect_make(r.x, y, r.w, row), u->theme.text,
                     panel_share(text, (double)x->sums_ns[p], (double)x->whole_ns));
        y += row;
    }
    if (y + row <= r.y + r.h) {
        panel_figure(u, rect_make(r.x, y, r.w - share, row), u->theme.dim,
                     panel_ns(text, x->whole_ns));
        ui_label(u, rect_make(r.x + box + u->pad, y, r.w / 2, row), u->theme.dim, "in all");
    }
}

// Where the chosen step is, and who ended it.
static void draw_stacks(const struct panel_critical *x, const struct panel_context *c, struct ui *u,
                        struct rect r)
{
    static const char *const words[TRACE_PARTS] = {
        [TRACE_PART_RUNNING] = "it ran up to", [TRACE_PART_SYSCALL] = "it called the system in",
        [TRACE_PART_LOCK] = "it waited in",    [TRACE_PART_CHANNEL] = "it waited in",
        [TRACE_PART_IO] = "it waited in",      [TRACE_PART_SLEEP] = "it slept in",
        [TRACE_PART_OTHER] = "it waited in"};
    const struct trace_spans *s = c->model->spans;
    int row = panel_row_height(u);
    struct rect in = {r.x + u->pad, r.y + u->pad / 2, r.w - 2 * u->pad, r.h - u->pad / 2};
    if (x->table.chosen >= x->count || !x->order)
        return;
    const struct trace_step *step = &x->steps[x->order[x->table.chosen]];
    if (step->span == TRACE_NO_SPAN || !words[step->part])
        return;
    bool ran = step->part == TRACE_PART_RUNNING;
    uint32_t fiber = trace_spans_fiber(s, step->span);
    uint32_t stack =
        ran ? trace_span_end_stack(s, fiber, step->span) : trace_span_stack(s, step->span);
    draw_clip_push(u->list, r);
    ui_label(u, rect_make(in.x, in.y, in.w, row), u->theme.dim, words[step->part]);
    panel_stack(u, c->model, rect_make(in.x, in.y + row, in.w, in.h - row), stack, 0);
    draw_clip_pop(u->list);
}

void panel_critical_frame(struct panel_critical *x, const struct panel_context *c, struct ui *u,
                          struct rect r, struct panel_goal *goal)
{
    static const struct panel_column columns[COLUMNS] = {
        {"step", NULL}, {"begins", "000.000000s"}, {"length", "0000.00ms"}};
    const struct cells k = {.x = x, .model = c->model, .u = u};
    if (!x->has || x->lane == TRACE_NO_LANE) {
        ui_label(u, rect_make(r.x + u->pad, r.y, r.w, panel_row_height(u)), u->theme.dim,
                 x->has ? "no fiber runs in this range" : "walking back");
        return;
    }
    const struct panel_rows rows = {.columns = columns,
                                    .column_count = COLUMNS,
                                    .count = x->order ? x->count : 0,
                                    .cell = cell,
                                    .color = color,
                                    .context = &k};
    int least = 32 * font_width(u->font, "0", 1);
    int side = r.w / 4 > least ? r.w / 4 : r.w > 2 * least ? least : 0;
    draw_clip_push(u->list, r);
    if (side) {
        struct rect at = {r.x + 2 * u->pad, r.y + u->pad / 2, side - 4 * u->pad, r.h - u->pad};
        draw_sums(x, c, u, at);
        draw_rect(u->list, rect_make(r.x + side - 1, r.y, 1, r.h), u->theme.border);
    }
    draw_clip_pop(u->list);
    int stack = r.w > 4 * least ? r.w / 4 : 0;
    struct rect middle = {r.x + side, r.y, r.w - side - stack, r.h};
    if (stack) {
        struct rect at = {middle.x + middle.w, r.y, stack, r.h};
        draw_rect(u->list, rect_make(at.x, at.y, 1, at.h), u->theme.border);
        draw_stacks(x, c, u, rect_make(at.x + 1, at.y, at.w - 1, at.h));
    }
    unsigned said = panel_table(&x->table, u, ui_id("critical", 0), middle, &rows, c->has_keys);
    if (!(said & PANEL_TABLE_ENTER) || x->table.chosen >= x->count)
        return;
    const struct trace_step *step = &x->steps[x->order[x->table.chosen]];
    *goal = (struct panel_goal){
        .wanted = true, .begin_ns = step->begin_ns, .end_ns = step->end_ns, .lane = step->lane};
}
