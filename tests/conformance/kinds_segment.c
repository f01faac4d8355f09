// SPDX-License-Identifier: MIT
//
// Writes a dump of a segment whose state it makes up, and says on standard output what it has put there, a
// line per entry. Usage: kinds_segment FILE SEED RATE (1: every allocation).

#include "segment/producer.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { STACKS = 40, CLASSES = 6, LOCKS = 8 };

static uint64_t seed;

static uint64_t pick(uint64_t low, uint64_t high)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return low + (seed >> 33) % (high - low + 1);
}

static uint32_t stack_of(struct seg *s, uint64_t i)
{
    uint64_t pcs[3] = {0x401000 + i % 7 * 16, 0x402000 + i * 16, 0x403001};
    return seg_stack(s, pcs, 3, 0, 0);
}

static void put_heap(struct seg *s, uint64_t stack, uint64_t size_class, uint32_t sites)
{
    uint64_t size = size_class + pick(0, size_class / 8), n = pick(1, 5000);
    uint64_t freed = pick(0, 1) ? n : pick(0, n);
    const uint64_t values[4] = {n, n * size, freed, freed * size};
    const uint64_t none[4] = {0};
    uint64_t temporary = 0, objects = n - freed, lifetimes = freed;
    uint32_t id = stack_of(s, stack);
    if (sites) {
        uint32_t index = seg_state_find(s, SEG_KIND_HEAP, id, 0, 0, 0);
        struct seg_site *site = seg_site_at(s, index);
        temporary = pick(0, freed);
        atomic_store(&site->temporary_objects, temporary);
        if (pick(0, 1)) { // changed since the peak
            objects = pick(0, n);
            atomic_store(&site->peak_number, 3);
            atomic_store(&site->peak_objects, objects);
            atomic_store(&site->peak_bytes, objects * size);
        }
        for (int i = 0; i < SEG_LIFETIMES; i++) {
            uint64_t some = i < SEG_LIFETIMES - 1 ? pick(0, lifetimes) : lifetimes;
            lifetimes -= some;
            atomic_store(&site->lifetimes[i], some);
            printf("lifetime %d %" PRIu64 "\n", i, some);
        }
    }
    seg_state_add(s, SEG_KIND_HEAP, id, 0, sites ? 0 : size_class, values);
    seg_state_add(s, SEG_KIND_HEAP, id, 0, sites ? 0 : size_class, none);
    printf("heap %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64
           "\n",
           n, n * size, freed, freed * size, temporary, objects, objects * size);
}

static void put_locks(struct seg *s)
{
    for (uint64_t i = 0; i < STACKS; i++) {
        const enum seg_kind kinds[] = {SEG_KIND_BLOCK, SEG_KIND_MUTEX};
        for (int k = 0; k < 2; k++) {
            uint64_t lock = 0x7f0000000000 + pick(0, LOCKS - 1) * 64;
            const uint64_t values[4] = {pick(1, 1000), pick(1, UINT64_C(1) << 33), 0, 0};
            seg_state_add(s, kinds[k], stack_of(s, i), 0, lock, values);
            printf("%s %" PRIu64 " %" PRIu64 " %" PRIx64 "\n", k ? "mutex" : "block", values[0],
                   values[1], lock);
        }
    }
}

static void put_custom(struct seg *s)
{
    static const char *const names[] = {"files", "rows"};
    for (uint64_t i = 0; i < STACKS; i++) {
        const char *name = names[i % 2];
        uint64_t added = pick(1, 1000);
        const uint64_t values[4] = {added, pick(0, added), 0, 0};
        seg_state_add(s, SEG_KIND_CUSTOM, stack_of(s, i), 0, seg_string(s, name, i % 2 ? 4 : 5),
                      values);
        printf("%s %" PRIu64 " %" PRIu64 "\n", name, values[0], values[1]);
    }
}

int main(int argc, char **argv)
{
    struct seg s = {0};
    if (argc != 4)
        return 2;
    seed = strtoull(argv[2], NULL, 10);
    uint64_t rate = strtoull(argv[3], NULL, 10);
    struct seg_options o = {.size = sizeof o, .sites = rate == 1};
    if (seg_create(&s, &o))
        return 1;
    struct seg_module m = {.start = 0x400000, .end = 0x500000, .path = seg_string(&s, "/bin/x", 6)};
    seg_module_add(&s, &m);
    atomic_store(&s.header->control.heap_rate_bytes, rate);
    atomic_store(&s.header->heap.peak_number, 3);
    for (uint64_t i = 0; i < STACKS; i++)
        for (uint64_t c = 0; c < (o.sites ? 1 : CLASSES); c++)
            put_heap(&s, i, UINT64_C(16) << 3 * c, o.sites);
    put_locks(&s);
    put_custom(&s);
    int fd = open(argv[1], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    return fd < 0 || seg_dump(&s, fd) || close(fd);
}
