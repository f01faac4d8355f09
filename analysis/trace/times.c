// SPDX-License-Identifier: MIT
//
// See times.h.

#include "analysis/trace/times.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

// From the i-th wait on; before it the reason is not. *at: where it was put.
static int block_from(struct trace_times *t, uint32_t i, const struct trace_wait *w, uint32_t *at)
{
    while (i < t->wait_count && t->waits[i].reason != w->reason)
        i++;
    if (i == TRACE_WAITS_MAX)
        i--;
    if (i == t->wait_capacity) {
        uint32_t capacity = i ? 2 * i : 1;
        struct trace_wait *waits = realloc(t->waits, capacity * sizeof *waits);
        if (!waits)
            return -ENOMEM;
        t->waits = waits;
        t->wait_capacity = capacity;
    }
    if (i == t->wait_count)
        t->waits[t->wait_count++] = (struct trace_wait){.reason = w->reason};
    t->waits[i].count += w->count;
    t->waits[i].ns += w->ns;
    t->blocked_ns += w->ns;
    *at = i;
    return 0;
}

int trace_times_block(struct trace_times *t, uint32_t reason, uint64_t count, int64_t ns)
{
    uint32_t at;
    return block_from(t, 0, &(struct trace_wait){.reason = reason, .count = count, .ns = ns}, &at);
}

void trace_times_longest(struct trace_times *t, uint32_t reason, int64_t ns)
{
    for (uint32_t i = 0; i < t->wait_count; i++) {
        if (t->waits[i].reason == reason && t->waits[i].max_ns < ns)
            t->waits[i].max_ns = ns;
    }
}

void trace_times_open(struct trace_times *t, uint32_t reason, int64_t ns)
{
    for (uint32_t i = 0; i < t->wait_count; i++) {
        if (t->waits[i].reason == reason && t->waits[i].open_ns < ns)
            t->waits[i].open_ns = ns;
    }
}

static int combine(struct trace_times *t, const struct trace_times *o, int sign)
{
    t->total_ns += sign * o->total_ns;
    t->running_ns += sign * o->running_ns;
    t->runnable_ns += sign * o->runnable_ns;
    t->syscall_ns += sign * o->syscall_ns;
    t->syscall_blocked_ns += sign * o->syscall_blocked_ns;
    for (int i = 0; i < TRACE_RANGES; i++)
        t->range_ns[i] += sign * o->range_ns[i];
    // With hundreds of reasons a search for each would cost much, and one of the two has often been
    // a copy of the other, or nothing.
    bool is_fresh = !t->wait_count;
    int rc = 0;
    for (uint32_t i = 0; i < o->wait_count && !rc; i++) {
        struct trace_wait w = o->waits[i];
        bool is_there = i < t->wait_count && t->waits[i].reason == w.reason;
        uint32_t at = is_fresh ? t->wait_count : is_there ? i : 0;
        w.count = sign < 0 ? -w.count : w.count;
        w.ns *= sign;
        rc = block_from(t, at, &w, &at);
        if (rc || sign < 0 || t->waits[at].reason != w.reason)
            continue;
        t->waits[at].max_ns = w.max_ns > t->waits[at].max_ns ? w.max_ns : t->waits[at].max_ns;
        t->waits[at].open_ns = w.open_ns > t->waits[at].open_ns ? w.open_ns : t->waits[at].open_ns;
    }
    return rc;
}

int trace_times_add(struct trace_times *t, const struct trace_times *more)
{
    return combine(t, more, 1);
}

int trace_times_subtract(struct trace_times *t, const struct trace_times *less)
{
    for (uint32_t i = 0; i < t->wait_count; i++) // may be one of those that are taken away
        t->waits[i].max_ns = t->waits[i].open_ns = 0;
    return combine(t, less, -1);
}

int trace_times_copy(struct trace_times *t, const struct trace_times *from)
{
    struct trace_wait *waits = t->waits;
    uint32_t capacity = t->wait_capacity;
    *t = (struct trace_times){.waits = waits, .wait_capacity = capacity};
    return combine(t, from, 1);
}

void trace_times_finish(struct trace_times *t)
{
    free(t->waits);
    *t = (struct trace_times){0};
}

int64_t trace_times_unknown_ns(const struct trace_times *t)
{
    int64_t known =
        t->running_ns + t->runnable_ns + t->syscall_ns + t->syscall_blocked_ns + t->blocked_ns;
    return known < t->total_ns ? t->total_ns - known : 0;
}

static int longest_first(const void *x, const void *y)
{
    const struct trace_wait *a = x, *b = y;
    if (a->ns != b->ns)
        return a->ns < b->ns ? 1 : -1;
    return (a->reason > b->reason) - (a->reason < b->reason);
}

void trace_times_sort(struct trace_times *t)
{
    if (t->wait_count)
        qsort(t->waits, t->wait_count, sizeof *t->waits, longest_first);
}
