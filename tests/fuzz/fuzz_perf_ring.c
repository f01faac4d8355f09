// SPDX-License-Identifier: MIT
//
// Arbitrary bytes as two perf rings: the reader stays inside them, ends, and gives time order.
//
// Input: one byte of choices (bit 0: kernel call chains; bits 1..3: where the first ring starts), then
// the bytes of the first ring, and after the marker "\xff\xfeRING2" those of the second.

#include "collector/perf_ring.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t marker[] = "\xff\xfeRING2";
enum { MARKER_BYTES = sizeof marker - 1, RING_BYTES = 1 << 17 };

static volatile uint64_t sink;

static void touch(const void *bytes, uint64_t n)
{
    const uint8_t *p = bytes;
    for (uint64_t i = 0; i < n; i++)
        sink += p[i];
}

static int look(void *arg, const struct perf_record *r)
{
    uint64_t *count = arg, pcs[64];
    (*count)++;
    switch (r->type) {
    case PERF_RECORD_SAMPLE:
        if (r->sample.stack)
            touch(r->sample.stack, r->sample.stack_bytes);
        sink += perf_chain_copy(&r->sample, pcs, 64);
        break;
    case PERF_RECORD_MMAP2:
        touch(r->mmap.path, strlen(r->mmap.path));
        if (r->mmap.build_id)
            touch(r->mmap.build_id, r->mmap.build_id_size);
        break;
    case PERF_RECORD_COMM: touch(r->comm.name, strlen(r->comm.name)); break;
    default: break;
    }
    return 0;
}

static void fill(struct perf_ring *r, const uint8_t *bytes, size_t size, uint64_t start)
{
    uint8_t *ring = calloc(1, RING_BYTES);
    r->scratch = malloc(65536);
    if (!ring || !r->scratch)
        abort();
    if (size > RING_BYTES)
        size = RING_BYTES;
    for (size_t i = 0; i < size; i++)
        ring[(start + i) % RING_BYTES] = bytes[i];
    r->data = ring;
    r->size = RING_BYTES;
    r->tail = start;
    r->head = start + size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct perf_event_attr attr = {0};
    struct perf_ring rings[2] = {{0}, {0}};
    uint64_t count = 0;
    if (!size)
        return 0;
    perf_format_fill(&attr, data[0] & 1, 8192);
    uint64_t start = RING_BYTES - 8 * (data[0] >> 1 & 7u);
    const uint8_t *second = memmem(data + 1, size - 1, marker, MARKER_BYTES);
    size_t first = second ? (size_t)(second - data) - 1 : size - 1;
    fill(&rings[0], data + 1, first, start);
    fill(&rings[1], second ? second + MARKER_BYTES : data,
         second ? size - 1 - first - MARKER_BYTES : 0, 0);
    int64_t n = perf_rings_drain(rings, 2, &attr, UINT64_MAX, look, &count);
    if (n < 0 || (uint64_t)n != count || rings[0].tail != rings[0].head ||
        rings[1].tail != rings[1].head)
        abort();
    for (int i = 0; i < 2; i++) {
        void *ring;
        memcpy(&ring, &rings[i].data, sizeof ring);
        free(ring);
        perf_ring_close(&rings[i]);
    }
    return 0;
}
