// SPDX-License-Identifier: MIT
//
// The table of live allocations: which state entry a pointer was counted in, its size, its birth.
// Private to the target.
//
// What always holds
//   - Memory: one reserve given by the caller, zeroed, never moved. Only touched pages cost memory.
//     Neighbouring addresses lie in the same or in neighbouring buckets: `granule` bytes of address
//     space share a bucket of 64 bytes, so the table touches at most 64 / granule bytes (and
//     rounding to pages) per byte of heap that holds a tracked pointer. Parts touch as many as the heap has.
//   - Lock-free: nobody waits. A place is claimed by compare-and-swap of its pointer and freed by a
//     store of 0. An operation may be interrupted anywhere by a handler that does others.
//   - A pointer is live in one place at a time, and the allocator hands it over with what order that
//     needs. So operations on one key never race, and only the claims of places do.
//   - Where room was given for it (live_init_parts) a region of the address space has a part of its own, in
//     which each 16 bytes have a cell: no other pointer can want it, so that nothing is claimed, compared
//     or searched, and plain stores do. What has no part, for want of one or because it is no multiple of
//     16, goes to the buckets.
//   - No tombstones: a bucket counts those that had to go elsewhere: to a neighbour, or (where blocks lie
//     closer than glibc's do) to a place that does not depend on the neighbourhood. While that is 0,
//     one cache line is all that a look-up reads.
//
// Remove a pointer before its memory is given back, insert it after it was got: in between
// another thread may get the same address.

#ifndef FIBERSCOPE_AGENT_LIVE_H
#define FIBERSCOPE_AGENT_LIVE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    LIVE_PLACES = 2,       // of a bucket
    LIVE_BUCKETS_NEAR = 8, // where a pointer may be: its own bucket and those after it,
    LIVE_BUCKETS_FAR = 16, // and as many from a place that all its bits decide
    LIVE_STATE_BITS = 23,
    LIVE_HOLDER_BYTES = 64 << 10, // how far into its block live_holder finds an address
    LIVE_PART_SHIFT = 20,         // a part is for so many bytes of address space, and as large
    LIVE_CELL_SHIFT = 4,          // and a cell of it for so many
    LIVE_PARTS_SEARCHED = 8,      // where a region's part may be
};

#define LIVE_PART_BYTES (UINT64_C(1) << LIVE_PART_SHIFT)

#define LIVE_SIZE_MAX ((UINT64_C(1) << (64 - LIVE_STATE_BITS)) - 1)

struct live_place {
    _Atomic uint64_t pointer; // 0: free
    uint64_t birth;
    uint64_t size; // size << LIVE_STATE_BITS | state
};

struct live_bucket {
    struct live_place places[LIVE_PLACES];
    _Atomic uint64_t displaced; // live pointers of this bucket that lie elsewhere
    uint64_t reserved;
};

_Static_assert(sizeof(struct live_bucket) == 64, "one cache line");

struct live_cell {
    uint64_t birth;
    _Atomic uint64_t size; // as live_place.size; 0: free
};

_Static_assert(sizeof(struct live_cell) == 1 << LIVE_CELL_SHIFT,
               "a part is as large as its region");

struct live {
    _Atomic uint64_t *regions; // whose part i is: 1 + address >> LIVE_PART_SHIFT; 0: nobody's
    struct live_cell *cells;
    uint64_t part_mask; // number of parts - 1
    struct live_bucket *buckets;
    uint64_t mask; // number of buckets - 1
    uint32_t granule_shift;
    uint32_t region_shift; // in which neighbours stay neighbours; in buckets
};

struct live_entry {
    uint64_t size;  // at most LIVE_SIZE_MAX; more is cut
    uint64_t birth; // the caller's clock
    uint32_t state; // above 0, below 1 << LIVE_STATE_BITS
};

// memory: zeroed, bytes long, a power of two of at least 64 buckets. granule: bytes, a power of two.
void live_init(struct live *t, void *memory, uint64_t bytes, uint64_t granule);

// Gives the table parts, of bytes in all: a power of two of parts. memory: zeroed, and longer by
// live_regions_bytes.
void live_init_parts(struct live *t, void *memory, uint64_t bytes);
static inline uint64_t live_regions_bytes(uint64_t bytes)
{
    return bytes / LIVE_PART_BYTES * sizeof(uint64_t);
}

// Says that the pointer will be inserted or removed soon: its bucket is fetched meanwhile.
void live_expect(const struct live *t, uint64_t pointer);

// 0; 1: inserted, and a stale entry of this pointer, whose free was never seen, has become *stale;
// -1: no room.
int live_insert(struct live *t, uint64_t pointer, const struct live_entry *e,
                struct live_entry *stale);

// Takes the pointer out; false if it is not there.
bool live_remove(struct live *t, uint64_t pointer, struct live_entry *out);

// What is known of the pointer; false if it is not there.
bool live_find(const struct live *t, uint64_t pointer, struct live_entry *out);

// The block that address lies in, if it begins at most LIVE_HOLDER_BYTES before. It stays allocated meanwhile:
// that is what the caller knows of it. Others may come and go. Reads up to LIVE_HOLDER_BYTES / granule
// buckets, so it is for what happens seldom.
bool live_holder(const struct live *t, uint64_t address, uint64_t *pointer, struct live_entry *out);

#endif
