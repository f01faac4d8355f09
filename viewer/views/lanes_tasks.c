// SPDX-License-Identifier: MIT
//
// Tasks in rows: they overlap, a row's do not.

#include "viewer/views/timeline_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct placed {
    int64_t begin_ns;
    uint32_t task, row;
};

static int by_begin(const void *a, const void *b)
{
    const struct placed *x = a, *y = b;
    if (x->begin_ns != y->begin_ns)
        return x->begin_ns < y->begin_ns ? -1 : 1;
    return x->task < y->task ? -1 : x->task > y->task;
}

int lanes_tasks(struct lanes *l)
{
    const struct trace_spans *s = l->model->spans;
    struct placed *p = calloc(s->task_count + (size_t)1, sizeof *p);
    uint32_t count[LANES_TASK_ROWS] = {0};
    int64_t ends[LANES_TASK_ROWS];
    l->tasks = malloc((s->task_count + (size_t)1) * sizeof *l->tasks);
    if (!p || !l->tasks) {
        free(p);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < s->task_count; i++)
        p[i] = (struct placed){s->tasks[i].begin_ns, i, 0};
    qsort(p, s->task_count, sizeof *p, by_begin);
    for (uint32_t i = 0; i < s->task_count; i++) { // into the first row that is free
        uint32_t row = 0;
        while (row < l->task_rows && row + 1 < LANES_TASK_ROWS && ends[row] > p[i].begin_ns)
            row++;
        l->task_rows += row == l->task_rows;
        p[i].row = row;
        ends[row] = s->tasks[p[i].task].end_ns;
        count[row]++;
    }
    for (uint32_t row = 0; row < LANES_TASK_ROWS; row++)
        l->task_first[row + 1] = l->task_first[row] + count[row];
    for (uint32_t i = s->task_count; i-- > 0;) // from behind: the order stays
        l->tasks[l->task_first[p[i].row] + --count[p[i].row]] = p[i].task;
    free(p);
    return 0;
}

static void tip(const struct timeline *t, struct ui *u, const struct trace_task_span *k)
{
    char text[400], ns[TIMELINE_NS_MAX], at[TIMELINE_NS_MAX], parent[64] = "";
    const char *type = trace_names_text(&t->model->spans->names, k->type);
    if (k->parent != TRACE_NO_TASK && k->parent)
        snprintf(parent, sizeof parent, ", of task %" PRIu64, k->parent);
    snprintf(text, sizeof text, "%.200s\ntask %" PRIu64 "%s: %s%s, at %s", type, k->id, parent,
             timeline_ns(ns, (double)(k->end_ns - k->begin_ns)),
             k->begins && k->ends ? "" : " or more",
             timeline_at(at, (double)(k->begin_ns - t->model->begin_ns), 1000));
    ui_tip(u, text);
}

void timeline_tasks(struct timeline *t, struct ui *u, uint32_t row, struct rect r)
{
    const struct trace_spans *s = t->model->spans;
    int last = INT32_MIN;
    draw_clip_push(u->list, r);
    for (uint32_t i = t->rows.task_first[row]; i < t->rows.task_first[row + 1]; i++) {
        const struct trace_task_span *k = &s->tasks[t->rows.tasks[i]];
        int x = timeline_x_of(t, k->begin_ns), right = timeline_x_of(t, k->end_ns);
        right = right > x ? right : x + 1;
        if (x >= r.x + r.w)
            break;
        if (right <= r.x || (right - x < 2 && x == last)) // of a crowd one a pixel
            continue;
        last = x;
        struct rect box = {x, r.y + 2, right - x, r.h - 4};
        timeline_named_box(t, u, box, trace_names_text(&s->names, k->type));
        if (ui_inside(u, box))
            tip(t, u, k);
    }
    draw_clip_pop(u->list);
}
