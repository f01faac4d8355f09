// SPDX-License-Identifier: MIT
//
// The table of live allocations; see live.h.

#include "agent/live.h"

#include <stddef.h>

enum {
    REGION_BYTES_SHIFT = 20, // regions of the address space that are kept together
    FAR_PART = 64,           // far places lie in this part of the table
    HOLDER_FAR_GRANULE = 64, // up to which live_holder looks at far places
    BUCKETS_OTHER = LIVE_BUCKETS_NEAR - 1 + LIVE_BUCKETS_FAR,
};

void live_init(struct live *t, void *memory, uint64_t bytes, uint64_t granule)
{
    *t = (struct live){.buckets = memory};
    t->mask = bytes / sizeof(struct live_bucket) - 1;
    t->granule_shift = (uint32_t)__builtin_ctzll(granule);
    uint32_t table_shift = (uint32_t)__builtin_popcountll(t->mask);
    t->region_shift = t->granule_shift < REGION_BYTES_SHIFT - 6
                          ? REGION_BYTES_SHIFT - t->granule_shift
                          : 6; // half a page of buckets
    if (t->region_shift > table_shift)
        t->region_shift = table_shift;
}

void live_init_parts(struct live *t, void *memory, uint64_t bytes)
{
    t->cells = memory;
    t->regions = (_Atomic uint64_t *)(void *)((char *)memory + bytes);
    t->part_mask = bytes / LIVE_PART_BYTES - 1;
}

// --- Parts.

enum { CELLS = 1 << (LIVE_PART_SHIFT - LIVE_CELL_SHIFT) }; // of a part

static inline uint64_t region_of(uint64_t pointer) // never 0
{
    return (pointer >> LIVE_PART_SHIFT) + 1;
}

static inline uint64_t part_of(const struct live *t, uint64_t region)
{
    return (region * UINT64_C(0x9e3779b97f4a7c15)) >> 40 & t->part_mask;
}

static inline struct live_cell *cell_in(const struct live *t, uint64_t part, uint64_t pointer)
{
    return &t->cells[part * CELLS + (pointer >> LIVE_CELL_SHIFT & (CELLS - 1))];
}

// Of a region whose part is not its first choice. A part once claimed stays, and what is free now cannot
// lie before the region's own.
__attribute__((noinline)) static struct live_cell *cell_elsewhere(const struct live *t,
                                                                  uint64_t pointer, bool may_claim)
{
    uint64_t region = region_of(pointer);
    if (!t->regions || pointer % (1 << LIVE_CELL_SHIFT))
        return NULL;
    for (uint64_t n = 0; n < LIVE_PARTS_SEARCHED; n++) {
        uint64_t part = (part_of(t, region) + n) & t->part_mask;
        uint64_t owner = atomic_load_explicit(&t->regions[part], memory_order_relaxed);
        // Relaxed: a part was zeroed before anybody could claim it.
        if (!owner && (!may_claim || atomic_compare_exchange_strong_explicit(
                                         &t->regions[part], &owner, region, memory_order_relaxed,
                                         memory_order_relaxed)))
            return may_claim ? cell_in(t, part, pointer) : NULL;
        if (owner == region)
            return cell_in(t, part, pointer);
    }
    return NULL;
}

// NULL: it belongs into a bucket.
static inline struct live_cell *cell_of(const struct live *t, uint64_t pointer, bool may_claim)
{
    uint64_t region = region_of(pointer);
    if (__builtin_expect(t->regions && pointer % (1 << LIVE_CELL_SHIFT) == 0, 1)) {
        uint64_t part = part_of(t, region);
        if (__builtin_expect(
                atomic_load_explicit(&t->regions[part], memory_order_relaxed) == region, 1))
            return cell_in(t, part, pointer);
    }
    return cell_elsewhere(t, pointer, may_claim);
}

// --- Buckets.

// Where the region lies is scattered, the place in it is not.
static inline uint64_t home_of(const struct live *t, uint64_t pointer)
{
    uint64_t bucket = pointer >> t->granule_shift;
    uint64_t region = bucket >> t->region_shift;
    uint64_t scattered = (region * UINT64_C(0x9e3779b97f4a7c15)) >> 24;
    uint64_t within = bucket & ((UINT64_C(1) << t->region_shift) - 1);
    return ((scattered << t->region_shift) | within) & t->mask;
}

// The n-th bucket but home that may hold it. The far ones keep to a part of the table, so that they
// touch little of it.
static inline struct live_bucket *other_bucket(const struct live *t, uint64_t home,
                                               uint64_t pointer, uint32_t n)
{
    if (n < LIVE_BUCKETS_NEAR - 1)
        return &t->buckets[(home + n + 1) & t->mask];
    uint64_t far = (pointer >> 3) * UINT64_C(0x9e3779b97f4a7c15) >> 20;
    return &t->buckets[((far & t->mask) / FAR_PART + n) & t->mask];
}

static inline uint64_t pack(const struct live_entry *e)
{
    uint64_t size = e->size < LIVE_SIZE_MAX ? e->size : LIVE_SIZE_MAX;
    return size << LIVE_STATE_BITS | e->state;
}

static inline void unpack(uint64_t size, uint64_t birth, struct live_entry *out)
{
    out->size = size >> LIVE_STATE_BITS;
    out->state = (uint32_t)(size & ((1u << LIVE_STATE_BITS) - 1));
    out->birth = birth;
}

static inline void read_place(const struct live_place *p, struct live_entry *out)
{
    unpack(p->size, p->birth, out);
}

static inline void write_place(struct live_place *p, const struct live_entry *e)
{
    p->birth = e->birth;
    p->size = pack(e);
}

static inline struct live_place *find_place(struct live_bucket *b, uint64_t pointer)
{
    for (uint32_t i = 0; i < LIVE_PLACES; i++)
        if (atomic_load_explicit(&b->places[i].pointer, memory_order_relaxed) == pointer)
            return &b->places[i];
    return NULL;
}

// Claims a free place, or NULL.
static inline struct live_place *claim_place(struct live_bucket *b, uint64_t pointer)
{
    for (uint32_t i = 0; i < LIVE_PLACES; i++) {
        uint64_t is_free = 0;
        // acquire: pairs with the release in live_remove, after which the place is not read
        if (!atomic_load_explicit(&b->places[i].pointer, memory_order_relaxed) &&
            atomic_compare_exchange_strong_explicit(&b->places[i].pointer, &is_free, pointer,
                                                    memory_order_acquire, memory_order_relaxed))
            return &b->places[i];
    }
    return NULL;
}

__attribute__((noinline)) static struct live_place *find_elsewhere(const struct live *t,
                                                                   uint64_t home, uint64_t pointer)
{
    struct live_place *p = NULL;
    for (uint32_t n = 0; !p && n < BUCKETS_OTHER; n++)
        p = find_place(other_bucket(t, home, pointer, n), pointer);
    return p;
}

__attribute__((noinline)) static int insert_elsewhere(const struct live *t, uint64_t home,
                                                      uint64_t pointer, const struct live_entry *e)
{
    for (uint32_t n = 0; n < BUCKETS_OTHER; n++) {
        struct live_place *p = claim_place(other_bucket(t, home, pointer, n), pointer);
        if (!p)
            continue;
        write_place(p, e);
        atomic_fetch_add_explicit(&t->buckets[home].displaced, 1, memory_order_relaxed);
        return 0;
    }
    return -1;
}

__attribute__((noinline)) static int insert_into_buckets(const struct live *t, uint64_t pointer,
                                                         const struct live_entry *e,
                                                         struct live_entry *stale)
{
    uint64_t home = home_of(t, pointer);
    struct live_bucket *b = &t->buckets[home];
    struct live_place *p = find_place(b, pointer);
    if (!p && atomic_load_explicit(&b->displaced, memory_order_relaxed))
        p = find_elsewhere(t, home, pointer);
    if (__builtin_expect(p != NULL, 0)) {
        read_place(p, stale);
        write_place(p, e);
        return 1;
    }
    p = claim_place(b, pointer);
    if (__builtin_expect(!p, 0))
        return insert_elsewhere(t, home, pointer, e);
    write_place(p, e);
    return 0;
}

__attribute__((noinline)) static bool remove_from_buckets(const struct live *t, uint64_t pointer,
                                                          struct live_entry *out)
{
    uint64_t home = home_of(t, pointer);
    struct live_bucket *b = &t->buckets[home];
    struct live_place *p = find_place(b, pointer);
    if (!p) {
        if (!atomic_load_explicit(&b->displaced, memory_order_relaxed) ||
            !(p = find_elsewhere(t, home, pointer)))
            return false;
        atomic_fetch_sub_explicit(&b->displaced, 1, memory_order_relaxed);
    }
    read_place(p, out);
    // release: pairs with the acquire in claim_place
    atomic_store_explicit(&p->pointer, 0, memory_order_release);
    return true;
}

static bool find_in_buckets(const struct live *t, uint64_t pointer, struct live_entry *out)
{
    uint64_t home = home_of(t, pointer);
    struct live_bucket *b = &t->buckets[home];
    struct live_place *p = find_place(b, pointer);
    if (!p && atomic_load_explicit(&b->displaced, memory_order_relaxed))
        p = find_elsewhere(t, home, pointer);
    if (p)
        read_place(p, out);
    return p != NULL;
}

// Whether what a place has holds address. The sizes of other threads' places may be torn.
static bool holds(const struct live_place *p, uint64_t address)
{
    uint64_t pointer = atomic_load_explicit(&p->pointer, memory_order_relaxed);
    uint64_t size = __atomic_load_n(&p->size, __ATOMIC_RELAXED) >> LIVE_STATE_BITS;
    return pointer && pointer <= address && address - pointer < size;
}

// What begins in this granule and holds address.
static const struct live_place *holder_from(const struct live *t, uint64_t granule,
                                            uint64_t address)
{
    uint64_t home = home_of(t, granule << t->granule_shift);
    bool is_displaced = atomic_load_explicit(&t->buckets[home].displaced, memory_order_relaxed);
    for (uint32_t n = 0; n < (is_displaced ? LIVE_BUCKETS_NEAR : 1); n++) {
        const struct live_bucket *b = &t->buckets[(home + n) & t->mask];
        for (uint32_t i = 0; i < LIVE_PLACES; i++)
            if (holds(&b->places[i], address))
                return &b->places[i];
    }
    // A far place depends on the whole pointer: all that may begin here, where they are few.
    uint64_t first = granule << t->granule_shift, size = UINT64_C(1) << t->granule_shift;
    for (uint64_t at = 0; is_displaced && size <= HOLDER_FAR_GRANULE && at < size; at += 16) {
        const struct live_place *p = find_elsewhere(t, home, first + at);
        if (p && holds(p, address))
            return p;
    }
    return NULL;
}

static bool holder_in_buckets(const struct live *t, uint64_t address, uint64_t *pointer,
                              struct live_entry *out)
{
    uint64_t granule = address >> t->granule_shift;
    uint64_t steps = ((uint64_t)LIVE_HOLDER_BYTES >> t->granule_shift) + 1;
    for (uint64_t i = 0; i <= steps && i <= granule; i++) {
        const struct live_place *p = holder_from(t, granule - i, address);
        if (!p)
            continue;
        *pointer = atomic_load_explicit(&p->pointer, memory_order_relaxed);
        read_place(p, out);
        return true;
    }
    return false;
}

// --- Both.

void live_expect(const struct live *t, uint64_t pointer)
{
    const struct live_cell *cell = cell_of(t, pointer, false);
    if (__builtin_expect(cell != NULL, 1))
        __builtin_prefetch(cell, 1);
    else
        __builtin_prefetch(&t->buckets[home_of(t, pointer)], 1);
}

int live_insert(struct live *t, uint64_t pointer, const struct live_entry *e,
                struct live_entry *stale)
{
    struct live_cell *cell = cell_of(t, pointer, true);
    if (__builtin_expect(!cell, 0))
        return insert_into_buckets(t, pointer, e, stale);
    uint64_t was = atomic_load_explicit(&cell->size, memory_order_relaxed);
    if (__builtin_expect(was != 0, 0))
        unpack(was, cell->birth, stale);
    cell->birth = e->birth;
    atomic_store_explicit(&cell->size, pack(e), memory_order_relaxed);
    return was != 0;
}

bool live_remove(struct live *t, uint64_t pointer, struct live_entry *out)
{
    struct live_cell *cell = cell_of(t, pointer, false);
    if (__builtin_expect(!cell, 0))
        return remove_from_buckets(t, pointer, out);
    uint64_t was = atomic_load_explicit(&cell->size, memory_order_relaxed);
    if (__builtin_expect(!was, 0))
        return false;
    unpack(was, cell->birth, out);
    atomic_store_explicit(&cell->size, 0, memory_order_relaxed);
    return true;
}

// Of a cell; false: it is free.
static bool read_cell(const struct live_cell *cell, struct live_entry *out)
{
    uint64_t size = atomic_load_explicit(&cell->size, memory_order_relaxed);
    if (size)
        unpack(size, cell->birth, out);
    return size != 0;
}

bool live_find(const struct live *t, uint64_t pointer, struct live_entry *out)
{
    const struct live_cell *cell = cell_of(t, pointer, false);
    return cell ? read_cell(cell, out) : find_in_buckets(t, pointer, out);
}

bool live_holder(const struct live *t, uint64_t address, uint64_t *pointer, struct live_entry *out)
{
    const uint64_t step = UINT64_C(1) << LIVE_CELL_SHIFT;
    uint64_t at = address & ~(step - 1);
    for (uint64_t n = 0; t->regions && n <= LIVE_HOLDER_BYTES / step && at; n++, at -= step) {
        const struct live_cell *cell = cell_of(t, at, false);
        if (cell && read_cell(cell, out) && address - at < out->size) {
            *pointer = at;
            return true;
        }
    }
    return holder_in_buckets(t, address, pointer, out);
}
