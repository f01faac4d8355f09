// SPDX-License-Identifier: MIT
//
// The kernel's ring buffers, merged by time: see perf_ring.h.

#include "collector/perf_ring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { RECORD_BYTES_MAX = 65536 }; // header.size has 16 bits

int perf_ring_open(struct perf_ring *r, int fd, uint64_t size)
{
    *r = (struct perf_ring){0};
    long page = sysconf(_SC_PAGESIZE);
    r->scratch = malloc(RECORD_BYTES_MAX);
    if (!r->scratch)
        return -ENOMEM;
    void *base = mmap(NULL, (size_t)page + size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) {
        int rc = -errno;
        perf_ring_close(r);
        return rc;
    }
    r->page = base;
    r->data = (const uint8_t *)base + page;
    r->size = size;
    return 0;
}

void perf_ring_close(struct perf_ring *r)
{
    if (r->page)
        munmap(r->page, (size_t)sysconf(_SC_PAGESIZE) + r->size);
    free(r->scratch);
    *r = (struct perf_ring){0};
}

// The bytes of the record at tail, which has `size` of them.
static const void *whole(struct perf_ring *r, size_t size)
{
    uint64_t at = r->tail & (r->size - 1);
    if (at + size <= r->size)
        return r->data + at;
    size_t first = (size_t)(r->size - at);
    memcpy(r->scratch, r->data + at, first);
    memcpy(r->scratch + first, r->data, size - first);
    return r->scratch;
}

// Makes r->record the next record, if there is one.
static void advance(struct perf_ring *r, const struct perf_event_attr *attr)
{
    while (!r->has_record && r->tail != r->head) {
        struct perf_event_header h;
        uint64_t left = r->head - r->tail;
        if (left > r->size || left < sizeof h || (r->tail & 7)) {
            r->tail = r->head; // not a ring any more: go on with what comes next
            r->damaged++;
            return;
        }
        // Records are 8-aligned, so a header never wraps.
        memcpy(&h, r->data + (r->tail & (r->size - 1)), sizeof h);
        if (h.size < sizeof h || h.size > left || (h.size & 7)) {
            r->tail = r->head;
            r->damaged++;
            return;
        }
        if (perf_record_parse(&r->record, whole(r, h.size), h.size, attr) == 0) {
            r->has_record = true;
            return;
        }
        r->tail += h.size;
        r->damaged++;
    }
}

static void load_head(struct perf_ring *r)
{
    if (r->page) // acquire: pairs with the kernel's barrier before it moves data_head
        r->head = __atomic_load_n(&r->page->data_head, __ATOMIC_ACQUIRE);
}

static void store_tail(struct perf_ring *r)
{
    if (r->page) // release: our reads are done before the kernel may overwrite
        __atomic_store_n(&r->page->data_tail, r->tail, __ATOMIC_RELEASE);
}

int64_t perf_rings_drain(struct perf_ring *rings, size_t count, const struct perf_event_attr *attr,
                         uint64_t horizon_ns, perf_record_fn *fn, void *arg)
{
    int64_t delivered = 0;
    for (size_t i = 0; i < count; i++)
        load_head(&rings[i]);
    for (;;) {
        struct perf_ring *next = NULL;
        for (size_t i = 0; i < count; i++) {
            struct perf_ring *r = &rings[i];
            uint64_t before = r->tail;
            advance(r, attr);
            if (r->tail != before)
                store_tail(r);
            if (r->has_record && (!next || r->record.time_ns < next->record.time_ns))
                next = r;
        }
        if (!next || next->record.time_ns > horizon_ns)
            return delivered;
        int rc = fn(arg, &next->record);
        next->has_record = false;
        next->tail += next->record.size;
        store_tail(next);
        if (rc < 0)
            return rc;
        delivered++;
    }
}
