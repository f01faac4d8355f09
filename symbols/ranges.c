// SPDX-License-Identifier: MIT
//
// A sorted table of possibly overlapping ranges, searched by bisection and a short walk back.

#include "symbols/internal.h"

#include <errno.h>
#include <stdlib.h>

int range_table_add(struct range_table *t, uint64_t low, uint64_t high, uint32_t index)
{
    // Linkers leave dead functions at 0, or (lld) at the last addresses with an empty range.
    if (low >= high || low == 0)
        return 0;
    if (t->count == t->capacity) {
        size_t capacity = t->capacity ? 2 * t->capacity : 64;
        struct range *more = realloc(t->ranges, capacity * sizeof *more);
        if (!more)
            return -ENOMEM;
        t->ranges = more;
        t->capacity = capacity;
    }
    t->ranges[t->count++] = (struct range){.low = low, .high = high, .index = index};
    return 0;
}

static int compare_ranges(const void *a, const void *b)
{
    const struct range *x = a, *y = b;
    if (x->low != y->low)
        return x->low < y->low ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

void range_table_sort(struct range_table *t)
{
    if (!t->count)
        return;
    qsort(t->ranges, t->count, sizeof *t->ranges, compare_ranges);
    uint64_t reach = 0;
    for (size_t i = 0; i < t->count; i++) {
        if (t->ranges[i].high > reach)
            reach = t->ranges[i].high;
        t->ranges[i].reach = reach;
    }
}

uint32_t range_table_find(const struct range_table *t, uint64_t address)
{
    size_t low = 0, high = t->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (t->ranges[middle].low <= address)
            low = middle + 1;
        else
            high = middle;
    }
    uint32_t best = UINT32_MAX;
    // Nothing before a range whose reach ends at or below the address can cover it.
    for (size_t i = low; i-- > 0 && t->ranges[i].reach > address;)
        if (t->ranges[i].high > address && t->ranges[i].index < best)
            best = t->ranges[i].index;
    return best;
}

void range_table_finish(struct range_table *t)
{
    free(t->ranges);
    *t = (struct range_table){0};
}
