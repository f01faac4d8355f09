// SPDX-License-Identifier: MIT
//
// Writing a segment to a descriptor while it is in use. Only what is in use is touched: reading an
// untouched page of a memfd would allocate it.

#include "segment/hold.h"
#include "segment/producer.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { DUMP_GROUP = 64 }; // entries whose keys are looked at together

static int write_all(int fd, const void *data, uint64_t size)
{
    const char *p = data;
    while (size) {
        // Not through write(): a target or a sanitizer may have put itself in its place.
        ssize_t n = syscall(SYS_write, fd, p, size < (1u << 30) ? size : 1u << 30);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        p += n;
        size -= (uint64_t)n;
    }
    return 0;
}

static int put_chunk(const struct seg *s, int fd, uint64_t offset, uint64_t size)
{
    struct seg_dump_chunk chunk = {offset, size};
    if (size == 0)
        return 0;
    int rc = write_all(fd, &chunk, sizeof chunk);
    return rc ? rc : write_all(fd, (const char *)s->header + offset, size);
}

// The body goes first and the head with the tail as it is by then: with a consumer draining
// meanwhile, what producers may have overwritten under the write lies below that tail.
static int put_ring(const struct seg *s, int fd, uint64_t at, uint64_t capacity)
{
    const struct seg_ring *r = (const struct seg_ring *)((const char *)s->header + at);
    struct seg_ring now = {0};
    struct seg_dump_chunk chunk = {at, sizeof now};
    // acquire: pairs with the producer's release; records below head are whole
    uint64_t head = atomic_load_explicit(&r->head, memory_order_acquire);
    if (head == 0)
        return 0;
    uint64_t records = head < capacity ? head : capacity;
    int rc = put_chunk(s, fd, at + sizeof now, records * SEG_RECORD_BYTES);
    if (rc)
        return rc;
    // acquire: pairs with the consumer's release of tail
    uint64_t tail = atomic_load_explicit(&r->tail, memory_order_acquire);
    atomic_store_explicit(&now.head, head, memory_order_relaxed);
    atomic_store_explicit(&now.tail, tail < head ? tail : head, memory_order_relaxed);
    rc = write_all(fd, &chunk, sizeof chunk);
    return rc ? rc : write_all(fd, &now, sizeof now);
}

static int put_rings(const struct seg *s, int fd, uint32_t used)
{
    const struct seg_header *h = s->header;
    uint64_t at = h->areas[SEG_AREA_RINGS].offset;
    uint64_t capacity = (h->ring_bytes - sizeof(struct seg_ring)) / SEG_RECORD_BYTES;
    int rc = 0;
    for (uint64_t i = 0; !rc && i < (uint64_t)used * SEG_CONTEXT_COUNT; i++, at += h->ring_bytes)
        rc = put_ring(s, fd, at, capacity);
    return rc;
}

// A range of hash slots: without the holes of the file, where the descriptor can tell them.
static int put_sparse(const struct seg *s, int fd, uint64_t offset, uint64_t size)
{
    uint64_t end = offset + size;
    while (offset < end) {
        off_t data = s->fd >= 0 ? lseek(s->fd, (off_t)offset, SEEK_DATA) : -1;
        if (data < 0)
            return s->fd >= 0 && errno == ENXIO ? 0 : put_chunk(s, fd, offset, end - offset);
        if ((uint64_t)data >= end)
            return 0;
        off_t hole = lseek(s->fd, data, SEEK_HOLE);
        uint64_t to = hole < data || (uint64_t)hole > end ? end : (uint64_t)hole;
        int rc = put_chunk(s, fd, (uint64_t)data, to - (uint64_t)data);
        if (rc)
            return rc;
        offset = to;
    }
    return 0;
}

// How many of the count entries from at, whose first words are their keys, are published.
static uint32_t count_used(const struct seg *s, uint64_t at, uint32_t stride, uint32_t count)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < count; i++, at += stride)
        // acquire: pairs with the release of who published it, after he counted it
        n += (atomic_load_explicit((const _Atomic uint64_t *)((const char *)s->header + at),
                                   memory_order_acquire) &
              SEG_SLOT_READY) != 0;
    return n;
}

// An array of entries that begin with their keys. used: how many are published, never fewer than can be seen.
struct keys {
    uint64_t at; // offset in the segment
    uint32_t stride, count;
    const _Atomic uint64_t *used;
};

// The same without a descriptor: the groups of entries that are in use, told by their keys, until all have
// been met: to look at a page that nobody has touched would allocate it. What is written may be another
// array, with wanted_stride bytes for each entry.
static int put_used(const struct seg *s, int fd, const struct keys *k, uint64_t wanted,
                    uint32_t wanted_stride)
{
    uint64_t from = 0, met = 0;
    uint32_t i = 0;
    int rc = 0;
    while (!rc && i < k->count && met < atomic_load_explicit(k->used, memory_order_relaxed)) {
        uint32_t n = k->count - i < DUMP_GROUP ? k->count - i : DUMP_GROUP;
        uint64_t at = wanted + (uint64_t)i * wanted_stride;
        uint32_t used = count_used(s, k->at + (uint64_t)i * k->stride, k->stride, n);
        met += used;
        if (used && !from)
            from = at;
        if (!used && from) {
            rc = put_chunk(s, fd, from, at - from);
            from = 0;
        }
        i += n;
    }
    if (!rc && from)
        rc = put_chunk(s, fd, from, wanted + (uint64_t)i * wanted_stride - from);
    return rc;
}

static int put_states(const struct seg *s, int fd)
{
    const struct seg_header *h = s->header;
    uint64_t states = h->areas[SEG_AREA_STATE].offset, sites = h->areas[SEG_AREA_SITES].offset;
    bool has_sites = h->areas[SEG_AREA_SITES].size != 0;
    if (s->fd >= 0) {
        int rc = put_sparse(s, fd, states, h->state_count * sizeof(struct seg_state));
        return rc || !has_sites
                   ? rc
                   : put_sparse(s, fd, sites, h->state_count * sizeof(struct seg_site));
    }
    static const _Atomic uint64_t all = UINT64_MAX;
    struct keys k = {states, sizeof(struct seg_state), h->state_count, &s->states_used};
    if (!atomic_load_explicit(k.used, memory_order_relaxed))
        k.used = &all;
    int rc = put_used(s, fd, &k, states, sizeof(struct seg_state));
    return rc || !has_sites ? rc : put_used(s, fd, &k, sites, sizeof(struct seg_site));
}

static int put_table(const struct seg *s, int fd, enum seg_area_kind kind)
{
    uint64_t at = s->header->areas[kind].offset;
    const struct seg_table *t = (const struct seg_table *)((const char *)s->header + at);
    uint64_t used = atomic_load_explicit(&t->arena_used, memory_order_relaxed);
    if (used > t->arena_size)
        used = t->arena_size;
    // The arena first and the slots after it: a slot that is in the dump as published then has its
    // bytes in the dump too, unless they came later than `used`, which the reader checks.
    int rc = put_chunk(s, fd, at + t->arena_offset, used);
    if (rc || s->fd >= 0)
        return rc ? rc : put_sparse(s, fd, at, t->arena_offset);
    rc = put_chunk(s, fd, at, sizeof *t);
    struct keys k = {at + sizeof *t, sizeof(struct seg_slot), t->slot_count, &t->slots_used};
    return rc ? rc : put_used(s, fd, &k, k.at, sizeof(struct seg_slot));
}

// Locks and edges, if there are any. Edges first: their locks are then in the dump too.
static int put_order(const struct seg *s, int fd)
{
    const struct seg_area *a = &s->header->areas[SEG_AREA_ORDER];
    const struct seg_order *o =
        (const struct seg_order *)(const void *)((const char *)s->header + a->offset);
    if (!a->size)
        return 0;
    if (!atomic_load_explicit(&o->since_ns, memory_order_relaxed))
        return put_chunk(s, fd, a->offset, sizeof *o); // the rest was never touched
    uint64_t locks = sizeof *o + (uint64_t)o->lock_count * sizeof(struct seg_order_lock);
    int rc = put_chunk(s, fd, a->offset + locks,
                       (uint64_t)o->edge_count * sizeof(struct seg_order_edge));
    return rc ? rc : put_chunk(s, fd, a->offset, locks);
}

// Whether a buffer still is whose it was.
static bool is_same_buffer(const struct seg_trace_buffer *b, const struct seg_trace_buffer *was)
{
    // acquire: pairs with the release of who claims it, before he changes its bytes
    uint32_t state = atomic_load_explicit(&b->state, memory_order_acquire);
    return (state == SEG_TRACE_WRITING || state == SEG_TRACE_SEALED) &&
           b->session == was->session && b->generation == was->generation && b->tid == was->tid &&
           b->order == was->order;
}

// The bytes that are committed by now, then the head that says so: one that was given to others under the
// write stays free in the dump.
static int put_trace_buffer(const struct seg *s, int fd, uint64_t head, uint64_t data,
                            uint32_t buffer_bytes)
{
    struct seg_trace_buffer *b = (struct seg_trace_buffer *)(void *)((char *)s->header + head);
    struct seg_dump_chunk chunk = {head, sizeof *b};
    // acquire: pairs with the release of its owner
    uint32_t state = atomic_load_explicit(&b->state, memory_order_acquire);
    if (state != SEG_TRACE_WRITING && state != SEG_TRACE_SEALED)
        return 0;
    struct seg_trace_buffer now = {.tid = b->tid,
                                   .session = b->session,
                                   .generation = b->generation,
                                   .order = b->order,
                                   .start_units = b->start_units};
    // acquire: pairs with the release of each event
    uint64_t used = atomic_load_explicit(&b->used, memory_order_acquire);
    if (used > buffer_bytes)
        return 0;
    atomic_store_explicit(&now.state, state, memory_order_relaxed);
    atomic_store_explicit(&now.used, used, memory_order_relaxed);
    int rc = put_chunk(s, fd, data, used);
    atomic_thread_fence(memory_order_acquire);
    if (rc || !is_same_buffer(b, &now))
        return rc;
    rc = write_all(fd, &chunk, sizeof chunk);
    return rc ? rc : write_all(fd, &now, sizeof now);
}

// What is written is no causal cut: a reader leaves out the events after control.end_ns, which was before
// all of this, in generations that were not complete when the head was written.
static int put_trace(const struct seg *s, int fd)
{
    const struct seg_area *a = &s->header->areas[SEG_AREA_TRACE];
    struct seg_trace *t = (struct seg_trace *)(void *)((char *)s->header + a->offset);
    if (!a->size)
        return 0;
    uint32_t held = seg_hold(&t->hold);
    int rc = put_chunk(s, fd, a->offset, sizeof *t);
    uint64_t head = a->offset + sizeof *t, data = a->offset + t->data_offset;
    for (uint32_t i = 0; !rc && i < t->buffer_count; i++) {
        held = seg_hold(&t->hold);
        rc = put_trace_buffer(s, fd, head, data, t->buffer_bytes);
        head += sizeof(struct seg_trace_buffer);
        data += t->buffer_bytes;
    }
    seg_let_go(&t->hold, held);
    return rc;
}

// When this was: a heap profile of several has nothing else that says which was earlier.
static int put_time(int fd)
{
    struct timespec t;
    struct seg_dump_chunk chunk = {offsetof(struct seg_header, control.end_ns), sizeof(uint64_t)};
    clock_gettime(CLOCK_MONOTONIC, &t);
    uint64_t now = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
    int rc = write_all(fd, &chunk, sizeof chunk);
    return rc ? rc : write_all(fd, &now, sizeof now);
}

int seg_dump(const struct seg *s, int fd)
{
    const struct seg_header *h = s->header;
    struct seg_dump_header head = {SEG_DUMP_MAGIC, SEG_VERSION, 0, s->bytes};
    // acquire: pairs with the release in seg_thread_enter
    uint32_t threads = atomic_load_explicit(&h->thread_used, memory_order_acquire);
    uint32_t modules = atomic_load_explicit(&h->module_used, memory_order_relaxed);
    int saved = errno;
    int rc = write_all(fd, &head, sizeof head);
    if (!rc)
        rc = put_chunk(s, fd, 0, sizeof *h);
    if (!rc)
        rc = put_time(fd); // later chunks replace earlier ones
    if (!rc)
        rc = put_chunk(s, fd, h->areas[SEG_AREA_THREADS].offset,
                       threads * sizeof(struct seg_thread));
    // Rings and traces before tables: what is in the dump then finds its stack there.
    if (!rc)
        rc = put_rings(s, fd, threads);
    if (!rc)
        rc = put_trace(s, fd);
    if (!rc)
        rc = put_states(s, fd);
    if (!rc)
        rc = put_order(s, fd);
    if (!rc)
        rc = put_table(s, fd, SEG_AREA_STACKS);
    if (!rc)
        rc = put_chunk(s, fd, h->areas[SEG_AREA_MODULES].offset,
                       modules * sizeof(struct seg_module));
    if (!rc)
        rc = put_table(s, fd, SEG_AREA_BLOBS);
    if (!rc)
        rc = write_all(fd, &(struct seg_dump_chunk){UINT64_MAX, 0}, sizeof(struct seg_dump_chunk));
    errno = saved;
    return rc;
}
