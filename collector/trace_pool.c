// SPDX-License-Identifier: MIT
//
// See trace_pool.h.

#include "collector/trace_pool.h"

#include "formats/trace/leb.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

// A target that never ends a generation must not eat all memory.
#define POOL_BYTES_MAX (UINT64_C(2) << 30)

struct taking {
    struct trace_pool *pool;
    struct seg_reader *reader;
    struct trace_take *take;
};

// When the first event was: what a buffer's place in time is.
static uint64_t first_time(const struct trace_piece *p)
{
    const unsigned char *at = p->data + 1, *end = p->data + p->size;
    uint64_t dt;
    return p->size > 1 && leb_read(&at, end, &dt) ? p->start_units + dt : p->start_units;
}

static int keep(struct trace_pool *pool, const struct trace_piece *p)
{
    if (pool->count == pool->capacity) {
        size_t n = pool->count + pool->count / 2 + 64;
        struct trace_piece *grown = reallocarray(pool->pieces, n, sizeof *grown);
        if (!grown)
            return -ENOMEM;
        pool->pieces = grown;
        pool->capacity = n;
    }
    pool->pieces[pool->count++] = *p;
    pool->bytes += p->size;
    return 0;
}

static int copy(struct taking *t, const struct seg_trace_buffer *b, uint32_t index)
{
    struct trace_piece p = {
        .session = b->session,
        .generation = b->generation,
        .start_units = b->start_units,
        .order = b->order,
        .tid = b->tid,
        .size = (uint32_t)atomic_load_explicit(&b->used, memory_order_relaxed),
    };
    if (!p.size)
        return 0;
    if (t->pool->bytes > POOL_BYTES_MAX)
        return -ENOBUFS;
    p.data = malloc(p.size);
    if (!p.data)
        return -ENOMEM;
    int rc = seg_reader_trace_copy(t->reader, index, b, p.data);
    if (rc) {
        free(p.data);
        t->pool->stale++;
        if (t->take->stale_from < b->generation)
            t->take->stale_from = b->generation;
        return 0;
    }
    p.first_units = first_time(&p);
    rc = keep(t->pool, &p);
    if (rc)
        free(p.data);
    return rc;
}

static int see_buffer(void *arg, const struct seg_trace_buffer *b, uint32_t index)
{
    struct taking *t = arg;
    const struct trace_take *take = t->take;
    bool is_sealed = atomic_load_explicit(&b->state, memory_order_relaxed) == SEG_TRACE_SEALED;
    bool is_wanted =
        b->generation > take->done && b->generation >= take->from && b->generation <= take->upto;
    if (is_wanted && !is_sealed && b->generation > take->complete && !take->open_too)
        return 0;
    // What is being written stays in its place, so its beginning must not be taken before all of it is.
    int rc = is_wanted ? copy(t, b, index) : 0;
    if (!rc && is_sealed && !take->keeps)
        seg_reader_trace_free(t->reader, index);
    return rc;
}

int trace_pool_take(struct trace_pool *p, struct seg_reader *r, struct trace_take *take)
{
    struct taking t = {p, r, take};
    take->stale_from = 0;
    int64_t rc = seg_reader_trace_buffers(r, see_buffer, &t);
    return rc < 0 ? (int)rc : 0;
}

uint64_t trace_pool_lowest(const struct trace_pool *p)
{
    uint64_t lowest = 0;
    for (size_t i = 0; i < p->count; i++)
        if (!lowest || p->pieces[i].generation < lowest)
            lowest = p->pieces[i].generation;
    return lowest;
}

static int compare_numbers(uint64_t a, uint64_t b)
{
    return a < b ? -1 : a > b;
}

// A thread id may be used by a second thread within one generation: time tells these apart, and the order what
// one thread wrote at one time.
static int compare_pieces(const void *a, const void *b)
{
    const struct trace_piece *x = a, *y = b;
    int c = compare_numbers(x->generation, y->generation);
    if (!c)
        c = compare_numbers(x->tid, y->tid);
    if (!c)
        c = compare_numbers(x->first_units, y->first_units);
    return c ? c : compare_numbers(x->order, y->order);
}

size_t trace_pool_range(struct trace_pool *p, uint64_t generation, struct trace_piece **first)
{
    size_t from = 0, count = 0;
    if (p->count)
        qsort(p->pieces, p->count, sizeof *p->pieces, compare_pieces);
    while (from < p->count && p->pieces[from].generation < generation)
        from++;
    while (from + count < p->count && p->pieces[from + count].generation == generation)
        count++;
    *first = p->pieces + from;
    return count;
}

void trace_pool_drop(struct trace_pool *p, uint64_t generation)
{
    size_t kept = 0;
    for (size_t i = 0; i < p->count; i++) {
        if (p->pieces[i].generation > generation) {
            p->pieces[kept++] = p->pieces[i];
        } else {
            p->bytes -= p->pieces[i].size;
            free(p->pieces[i].data);
        }
    }
    p->count = kept;
}

void trace_pool_finish(struct trace_pool *p)
{
    for (size_t i = 0; i < p->count; i++)
        free(p->pieces[i].data);
    free(p->pieces);
    *p = (struct trace_pool){0};
}
