// SPDX-License-Identifier: MIT
//
// How busy the Procs were in a portion. See portion.h.
//
// Where no more run at once than GOMAXPROCS, running time over the Procs' is that. Plain threads are
// each a Proc, and more of them run at once than there are CPUs: then it is moment by moment at most
// all Procs, as in util.c. For that, and only then, the begins and ends of what runs are kept.

#include "analysis/trace/portion_internal.h"
#include "analysis/trace/util.h"

#include <errno.h>
#include <stdlib.h>

void portion_busy_begin(struct portion_busy *b, const struct trace_spans *s)
{
    uint64_t least = UINT64_MAX;
    uint32_t lanes = s->kind_first[TRACE_RESOURCE_PROC + 1] - s->kind_first[TRACE_RESOURCE_PROC];
    for (uint32_t i = 0; i < s->gomaxprocs_count; i++)
        least = s->gomaxprocs[i].procs < least ? s->gomaxprocs[i].procs : least;
    *b = (struct portion_busy){.is_kept = lanes > least};
}

void portion_busy_finish(struct portion_busy *b)
{
    free(b->begins);
    free(b->ends);
    *b = (struct portion_busy){0};
}

int portion_busy_add(struct portion_busy *b, int64_t begin_ns, int64_t end_ns)
{
    if (!b->is_kept || end_ns <= begin_ns)
        return 0;
    if (b->count == b->capacity) {
        size_t capacity = b->capacity ? 2 * b->capacity : 1024;
        int64_t *begins = reallocarray(b->begins, capacity, sizeof *begins);
        b->begins = begins ? begins : b->begins;
        int64_t *ends = reallocarray(b->ends, capacity, sizeof *ends);
        b->ends = ends ? ends : b->ends;
        if (!begins || !ends)
            return -ENOMEM;
        b->capacity = capacity;
    }
    b->begins[b->count] = begin_ns;
    b->ends[b->count++] = end_ns;
    return 0;
}

static int by_number(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

// The next of three kinds of moments after `at`, or the end.
static int64_t next(const struct portion_busy *b, size_t begun, size_t ended,
                    const struct trace_spans *s, uint32_t procs, int64_t end_ns)
{
    int64_t at = end_ns;
    if (begun < b->count && b->begins[begun] < at)
        at = b->begins[begun];
    if (ended < b->count && b->ends[ended] < at)
        at = b->ends[ended];
    if (procs + 1 < s->gomaxprocs_count && s->gomaxprocs[procs + 1].time_ns < at)
        at = s->gomaxprocs[procs + 1].time_ns;
    return at;
}

double portion_busy_share(struct portion_busy *b, const struct trace_spans *s, int64_t begin_ns,
                          int64_t end_ns)
{
    double sum = 0;
    size_t begun = 0, ended = 0;
    uint32_t procs = 0;
    if (!s->gomaxprocs_count || end_ns <= begin_ns)
        return 0;
    if (b->count) {
        qsort(b->begins, b->count, sizeof *b->begins, by_number);
        qsort(b->ends, b->count, sizeof *b->ends, by_number);
    }
    for (int64_t at = begin_ns; at < end_ns;) {
        while (begun < b->count && b->begins[begun] <= at)
            begun++;
        while (ended < b->count && b->ends[ended] <= at)
            ended++;
        while (procs + 1 < s->gomaxprocs_count && s->gomaxprocs[procs + 1].time_ns <= at)
            procs++;
        int64_t to = next(b, begun, ended, s, procs, end_ns);
        sum += trace_util_share(begun - ended, s->gomaxprocs[procs].procs) * (double)(to - at);
        at = to;
    }
    return sum / (double)(end_ns - begin_ns);
}
