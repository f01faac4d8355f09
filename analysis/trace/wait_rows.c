// SPDX-License-Identifier: MIT
//
// See wait_rows.h.

#include "analysis/trace/wait_rows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int compare_text(const char *a, const char *b)
{
    return a == b ? 0 : strcmp(a, b);
}

static int compare_lines(const struct pprof_line *a, const struct pprof_line *b)
{
    int order = compare_text(a->function->name, b->function->name);
    order = order ? order : compare_text(a->function->filename, b->function->filename);
    if (order || !*a->function->filename) // without a file a line says nothing
        return order;
    return (a->line > b->line) - (a->line < b->line);
}

static int by_look(const void *x, const void *y)
{
    const struct trace_wait_row *a = x, *b = y;
    const struct pprof_sample *s = a->stack, *t = b->stack;
    if (s->location_count != t->location_count)
        return s->location_count < t->location_count ? -1 : 1;
    for (uint32_t i = 0; i < s->location_count; i++) {
        int order = compare_lines(s->locations[i]->lines, t->locations[i]->lines);
        if (order)
            return order;
    }
    return a->has_waker && b->has_waker ? (a->waker > b->waker) - (a->waker < b->waker) : 0;
}

static int by_time(const void *x, const void *y)
{
    const struct trace_wait_row *a = x, *b = y;
    if (a->ns != b->ns)
        return a->ns < b->ns ? 1 : -1;
    if (a->count != b->count)
        return a->count < b->count ? 1 : -1;
    return by_look(x, y);
}

int trace_wait_rows(const struct pprof_profile *p, const struct trace_waits *by,
                    struct trace_wait_row **rows, size_t *count)
{
    size_t n = 0, kept = 0;
    struct trace_wait_row *r = *rows = calloc(p->sample_count + TRACE_WAKER_COUNT, sizeof *r);
    *count = 0;
    if (!r)
        return -ENOMEM;
    for (size_t i = 0; i < p->sample_count; i++) {
        const struct pprof_sample *s = p->samples[i];
        for (int w = 0; by && !s->location_count && w < TRACE_WAKER_COUNT; w++)
            if (by[w].count)
                r[n++] =
                    (struct trace_wait_row){s, true, (enum trace_waker)w, by[w].count, by[w].ns};
        if (!by || s->location_count)
            r[n++] = (struct trace_wait_row){s, false, 0, (uint64_t)s->values[0], s->values[1]};
    }
    if (n)
        qsort(r, n, sizeof *r, by_look);
    for (size_t i = 0; i < n; i++) {
        if (kept && by_look(&r[kept - 1], &r[i]) == 0) {
            r[kept - 1].count += r[i].count;
            r[kept - 1].ns += r[i].ns;
        } else {
            r[kept++] = r[i];
        }
    }
    if (kept)
        qsort(r, kept, sizeof *r, by_time);
    *count = kept;
    return 0;
}
