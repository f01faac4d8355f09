// SPDX-License-Identifier: MIT
//
// The table of live allocations; see live.h.

#include "agent/live.h"

#include <stddef.h>

enum { REGION_BYTES_SHIFT = 20 }; // regions of the address space that are kept together

void live_init(struct live *t, void *memory, uint64_t bytes, uint64_t granule)
{
    t->buckets = memory;
    t->mask = bytes / sizeof(struct live_bucket) - 1;
    t->granule_shift = (uint32_t)__builtin_ctzll(granule);
    uint32_t table_shift = (uint32_t)__builtin_popcountll(t->mask);
    t->region_shift = t->granule_shift < REGION_BYTES_SHIFT - 6
                          ? REGION_BYTES_SHIFT - t->granule_shift
                          : 6; // half a page of buckets
    if (t->region_shift > table_shift)
        t->region_shift = table_shift;
}

// Where the region lies is scattered, the place in it is not.
static inline uint64_t home_of(const struct live *t, uint64_t pointer)
{
    uint64_t bucket = pointer >> t->granule_shift;
    uint64_t region = bucket >> t->region_shift;
    uint64_t scattered = (region * UINT64_C(0x9e3779b97f4a7c15)) >> 24;
    uint64_t within = bucket & ((UINT64_C(1) << t->region_shift) - 1);
    return ((scattered << t->region_shift) | within) & t->mask;
}

// Allocators align to 16 bytes, and their smallest blocks are 32 apart: a good first guess.
static inline uint32_t first_place(uint64_t pointer)
{
    return (uint32_t)(pointer >> 5) & 3;
}

static inline uint64_t pack(const struct live_entry *e)
{
    uint64_t size = e->size < LIVE_SIZE_MAX ? e->size : LIVE_SIZE_MAX;
    return size << LIVE_STATE_BITS | e->state;
}

static inline void read_place(const struct live_bucket *b, uint32_t place, struct live_entry *out)
{
    out->size = b->sizes[place] >> LIVE_STATE_BITS;
    out->state = (uint32_t)(b->sizes[place] & ((1u << LIVE_STATE_BITS) - 1));
    out->birth = b->births[place];
}

static inline void write_place(struct live_bucket *b, uint32_t place, const struct live_entry *e)
{
    b->births[place] = e->birth;
    b->sizes[place] = pack(e);
}

// The place of this pointer, or LIVE_PLACES.
static inline uint32_t find_place(const struct live_bucket *b, uint64_t pointer)
{
    uint32_t place = first_place(pointer);
    if (atomic_load_explicit(&b->pointers[place], memory_order_relaxed) == pointer)
        return place;
    for (place = 0; place < LIVE_PLACES; place++)
        if (atomic_load_explicit(&b->pointers[place], memory_order_relaxed) == pointer)
            break;
    return place;
}

// Claims a free place: its number, or LIVE_PLACES.
static inline uint32_t claim_place(struct live_bucket *b, uint64_t pointer)
{
    uint32_t first = first_place(pointer);
    for (uint32_t i = 0; i < LIVE_PLACES; i++) {
        uint32_t place = i == 0 ? first : i <= first ? i - 1 : i;
        uint64_t free_mark = 0;
        // acquire: pairs with the release in live_remove, after which the place is not read
        if (!atomic_load_explicit(&b->pointers[place], memory_order_relaxed) &&
            atomic_compare_exchange_strong_explicit(&b->pointers[place], &free_mark, pointer,
                                                    memory_order_acquire, memory_order_relaxed))
            return place;
    }
    return LIVE_PLACES;
}

__attribute__((noinline)) static struct live_bucket *find_near(const struct live *t, uint64_t home,
                                                               uint64_t pointer, uint32_t *place)
{
    for (uint32_t i = 1; i < LIVE_BUCKETS_NEAR; i++) {
        struct live_bucket *b = &t->buckets[(home + i) & t->mask];
        *place = find_place(b, pointer);
        if (*place < LIVE_PLACES)
            return b;
    }
    return NULL;
}

__attribute__((noinline)) static int insert_near(const struct live *t, uint64_t home,
                                                 uint64_t pointer, const struct live_entry *e)
{
    for (uint32_t i = 1; i < LIVE_BUCKETS_NEAR; i++) {
        struct live_bucket *b = &t->buckets[(home + i) & t->mask];
        uint32_t place = claim_place(b, pointer);
        if (place == LIVE_PLACES)
            continue;
        write_place(b, place, e);
        atomic_fetch_add_explicit(&t->buckets[home].displaced, 1, memory_order_relaxed);
        return 0;
    }
    return -1;
}

int live_insert(struct live *t, uint64_t pointer, const struct live_entry *e,
                struct live_entry *stale)
{
    uint64_t home = home_of(t, pointer);
    struct live_bucket *b = &t->buckets[home];
    uint32_t place = find_place(b, pointer);
    struct live_bucket *at = place < LIVE_PLACES ? b : NULL;
    if (!at && atomic_load_explicit(&b->displaced, memory_order_relaxed))
        at = find_near(t, home, pointer, &place);
    if (__builtin_expect(at != NULL, 0)) {
        read_place(at, place, stale);
        write_place(at, place, e);
        return 1;
    }
    place = claim_place(b, pointer);
    if (__builtin_expect(place == LIVE_PLACES, 0))
        return insert_near(t, home, pointer, e);
    write_place(b, place, e);
    return 0;
}

bool live_remove(struct live *t, uint64_t pointer, struct live_entry *out)
{
    uint64_t home = home_of(t, pointer);
    struct live_bucket *b = &t->buckets[home];
    uint32_t place = find_place(b, pointer);
    if (place == LIVE_PLACES) {
        if (!atomic_load_explicit(&b->displaced, memory_order_relaxed))
            return false;
        b = find_near(t, home, pointer, &place);
        if (!b)
            return false;
        atomic_fetch_sub_explicit(&t->buckets[home].displaced, 1, memory_order_relaxed);
    }
    read_place(b, place, out);
    // release: pairs with the acquire in claim_place
    atomic_store_explicit(&b->pointers[place], 0, memory_order_release);
    return true;
}
