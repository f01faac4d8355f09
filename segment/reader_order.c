// SPDX-License-Identifier: MIT
//
// The order of locks, copied and then checked: names lie in the table, guards are no more than there is room for.

#include "segment/reader_internal.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

// More than producers make, and no more than who looks through all of them can bear.
enum { LOCKS_MAX = 1 << 14, EDGES_MAX = 1 << 17 };

static bool is_pow2(uint64_t n)
{
    return n && (n & (n - 1)) == 0;
}

int seg_reader_order(struct seg_reader *r, struct seg_order *out)
{
    const struct seg_area *a = &r->header.areas[SEG_AREA_ORDER];
    memset(out, 0, sizeof *out);
    if (!a->size)
        return -ENODATA;
    if (a->size < sizeof *out || reader_get(r, a->offset, out, sizeof *out))
        return -EINVAL;
    if (out->lock_count > LOCKS_MAX || out->edge_count > EDGES_MAX)
        return -EINVAL;
    uint64_t locks = (uint64_t)out->lock_count * sizeof(struct seg_order_lock);
    uint64_t edges = (uint64_t)out->edge_count * sizeof(struct seg_order_edge);
    if (!is_pow2(out->lock_count) || !is_pow2(out->edge_count) ||
        locks + edges > a->size - sizeof *out)
        return -EINVAL;
    return 0;
}

// The area's head, and where the tables lie in the segment.
static int look(struct seg_reader *r, struct seg_order *o, uint64_t *locks, uint64_t *edges)
{
    int rc = seg_reader_order(r, o);
    *locks = r->header.areas[SEG_AREA_ORDER].offset + sizeof *o;
    *edges = *locks + (uint64_t)o->lock_count * sizeof(struct seg_order_lock);
    if (!rc && !atomic_load_explicit(&o->since_ns, memory_order_relaxed))
        o->lock_count = o->edge_count = 0; // never used: it is not looked at
    return rc;
}

int64_t seg_reader_order_locks(struct seg_reader *r, seg_order_lock_fn *fn, void *arg)
{
    struct seg_order o;
    uint64_t at, edges;
    int64_t n = 0;
    int rc = look(r, &o, &at, &edges);
    if (rc)
        return rc;
    for (uint32_t i = 0; i < o.lock_count; i++) {
        struct seg_order_lock l;
        rc = reader_get(r, at + (uint64_t)i * sizeof l, &l, sizeof l);
        uint64_t address = atomic_load_explicit(&l.address, memory_order_relaxed);
        if (rc || !address || address & SEG_ORDER_DEAD)
            continue;
        rc = fn(arg, &l, i);
        if (rc)
            return rc < 0 ? rc : n;
        n++;
    }
    return n;
}

static bool is_alive(struct seg_reader *r, const struct seg_order *o, uint64_t locks,
                     struct seg_order_name name)
{
    struct seg_order_lock l;
    if (name.index >= o->lock_count ||
        reader_get(r, locks + (uint64_t)name.index * sizeof l, &l, sizeof l))
        return false;
    uint64_t address = atomic_load_explicit(&l.address, memory_order_relaxed);
    return address && !(address & SEG_ORDER_DEAD) &&
           atomic_load_explicit(&l.number, memory_order_relaxed) == name.number;
}

int64_t seg_reader_order_edges(struct seg_reader *r, seg_order_edge_fn *fn, void *arg)
{
    struct seg_order o;
    uint64_t locks, at;
    int64_t n = 0;
    int rc = look(r, &o, &locks, &at);
    if (rc)
        return rc;
    for (uint32_t i = 0; i < o.edge_count; i++, at += sizeof(struct seg_order_edge)) {
        struct seg_order_edge e;
        uint64_t key = reader_word(r, at);
        if (!(key & SEG_SLOT_READY) || reader_get(r, at, &e, sizeof e) || reader_word(r, at) != key)
            continue;
        if (e.guard_count > SEG_ORDER_GUARDS || !is_alive(r, &o, locks, e.from) ||
            !is_alive(r, &o, locks, e.to))
            continue;
        rc = fn(arg, &e);
        if (rc)
            return rc < 0 ? rc : n;
        n++;
    }
    return n;
}

int seg_reader_order_want(struct seg_reader *r, bool on)
{
    struct seg_order o;
    int rc = seg_reader_order(r, &o);
    if (rc)
        return rc;
    if (!r->is_live || r->fd < 0)
        return -EROFS;
    uint32_t word = on;
    uint64_t at = r->header.areas[SEG_AREA_ORDER].offset + offsetof(struct seg_order, wanted);
    ssize_t n = pwrite(r->fd, &word, sizeof word, (off_t)at);
    return n == (ssize_t)sizeof word ? 0 : n < 0 ? -errno : -EIO;
}
