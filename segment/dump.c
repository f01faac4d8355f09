// SPDX-License-Identifier: MIT
//
// Writing a segment to a descriptor while it is in use. Only what is in use is touched: reading an
// untouched page of a memfd would allocate it.

#include "segment/producer.h"

#include <errno.h>
#include <unistd.h>

static int write_all(int fd, const void *data, uint64_t size)
{
    const char *p = data;
    while (size) {
        ssize_t n = write(fd, p, size < (1u << 30) ? size : 1u << 30);
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

static int put_rings(const struct seg *s, int fd, uint32_t used)
{
    const struct seg_header *h = s->header;
    uint64_t at = h->areas[SEG_AREA_RINGS].offset;
    uint64_t capacity = (h->ring_bytes - sizeof(struct seg_ring)) / SEG_RECORD_BYTES;
    for (uint64_t i = 0; i < (uint64_t)used * SEG_CONTEXT_COUNT; i++, at += h->ring_bytes) {
        const struct seg_ring *r = (const struct seg_ring *)((const char *)h + at);
        // acquire: pairs with the producer's release; records below head are whole
        uint64_t head = atomic_load_explicit(&r->head, memory_order_acquire);
        if (head == 0)
            continue;
        uint64_t records = head < capacity ? head : capacity;
        int rc = put_chunk(s, fd, at, sizeof *r + records * SEG_RECORD_BYTES);
        if (rc)
            return rc;
    }
    return 0;
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
    return rc ? rc : put_chunk(s, fd, at, t->arena_offset);
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
        rc = put_chunk(s, fd, h->areas[SEG_AREA_THREADS].offset,
                       threads * sizeof(struct seg_thread));
    // Rings before tables: a record in the dump then finds its stack there.
    if (!rc)
        rc = put_rings(s, fd, threads);
    if (!rc)
        rc = put_chunk(s, fd, h->areas[SEG_AREA_STATE].offset,
                       h->state_count * sizeof(struct seg_state));
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
