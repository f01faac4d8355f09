// SPDX-License-Identifier: MIT
//
// See exact.h.

#include "analysis/trace/exact.h"

#include <stdlib.h>

enum { FIRST_CAPACITY = 4 };

void trace_exact_lose(struct trace_exact *e, uint32_t *left)
{
    *left += e->capacity;
    free(e->values);
    *e = (struct trace_exact){.lost = true};
}

static void grow(struct trace_exact *e, uint32_t *left)
{
    uint32_t more = e->capacity ? e->capacity : FIRST_CAPACITY;
    int64_t *values = NULL;
    if (more <= *left)
        values = reallocarray(e->values, (size_t)e->capacity + more, sizeof *values);
    if (!values) {
        trace_exact_lose(e, left);
        return;
    }
    e->values = values;
    e->capacity += more;
    *left -= more;
}

void trace_exact_add(struct trace_exact *e, uint32_t *left, int64_t value_ns)
{
    if (!e->lost && e->count == e->capacity)
        grow(e, left);
    if (!e->lost)
        e->values[e->count++] = value_ns;
}

static int shortest_first(const void *x, const void *y)
{
    int64_t a = *(const int64_t *)x, b = *(const int64_t *)y;
    return (a > b) - (a < b);
}

void trace_exact_sort(struct trace_exact *e)
{
    if (e->count)
        qsort(e->values, e->count, sizeof *e->values, shortest_first);
}

void trace_exact_finish(struct trace_exact *e)
{
    free(e->values);
    *e = (struct trace_exact){0};
}

int64_t trace_exact_quantile_ns(const struct trace_exact *e, double q)
{
    if (!e->count)
        return -1;
    q = q < 0 ? 0 : q > 1 ? 1 : q;
    uint32_t i = (uint32_t)(q * e->count);
    return e->values[i < e->count ? i : e->count - 1];
}
