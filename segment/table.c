// SPDX-License-Identifier: MIT

#include "segment/table.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PROBES_MAX = 64 }; // beyond that the table counts as full; at 3/4 load 64 is ample
// The first entries share a few pages instead of taking one each: a page's first touch costs a
// target some 10 us, a probe 10 ns. A slot once taken stays so, so equal bytes are found again where
// they were put, whether or not the near slots have filled up since.
enum { NEAR_SLOTS = 4096, NEAR_PROBES = 8 };
#define NO_SLOT UINT32_MAX

// Multiply-fold over 8-byte words (the idea of wyhash). Not for adversaries: a target that makes
// its own stacks collide harms only its own profile.
static uint64_t fold(uint64_t a, uint64_t b)
{
    unsigned __int128 p = (unsigned __int128)a * b;
    return (uint64_t)p ^ (uint64_t)(p >> 64);
}

uint64_t seg_hash(const void *bytes, uint32_t size, uint64_t seed)
{
    const unsigned char *p = bytes;
    uint64_t h = seed ^ (size * UINT64_C(0x9e3779b97f4a7c15));
    uint32_t n = size;
    for (; n >= 8; n -= 8, p += 8) {
        uint64_t w;
        memcpy(&w, p, 8);
        h = fold(h ^ w, UINT64_C(0xa0761d6478bd642f));
    }
    uint64_t tail = 0;
    memcpy(&tail, p, n);
    h = fold(h ^ tail, UINT64_C(0xe7037ed1a0b428db));
    h &= SEG_SLOT_CLAIMED - 1;
    return h ? h : 1;
}

static int slot_equals(const struct seg_table *t, const struct seg_slot *slot, const void *bytes,
                       uint32_t size, struct seg_table_key key)
{
    return slot->size == size && slot->epoch == key.epoch && slot->kind == key.kind &&
           slot->flags == key.flags && memcmp((const char *)t + slot->offset, bytes, size) == 0;
}

void seg_keep_in_core(const void *start, uint64_t bytes, bool keep)
{
    int saved = errno;
    const uint64_t page = 4096;
    uint64_t from = (uint64_t)start, to = from + bytes;
    from = keep ? from & ~(page - 1) : (from + page - 1) & ~(page - 1);
    to = keep ? (to + page - 1) & ~(page - 1) : to & ~(page - 1);
    if (from < to)
        syscall(SYS_madvise, from, to - from, keep ? MADV_DODUMP : MADV_DONTDUMP);
    errno = saved;
}

// Room for size bytes in the table's arena; its offset from the table's start, or 0.
static uint64_t arena_take(struct seg_table *t, uint32_t size)
{
    uint64_t need = ((uint64_t)size + 7) & ~UINT64_C(7);
    // Looking before adding keeps a full arena's counter from running away and wrapping.
    if (atomic_load_explicit(&t->arena_used, memory_order_relaxed) + need > t->arena_size)
        return 0;
    uint64_t at = atomic_fetch_add_explicit(&t->arena_used, need, memory_order_relaxed);
    if (at + need > t->arena_size)
        return 0;
    uint64_t chunk = (at + need - 1) / SEG_CORE_CHUNK;
    if (at && chunk != (at - 1) / SEG_CORE_CHUNK)
        seg_keep_in_core((const char *)t + t->arena_offset + chunk * SEG_CORE_CHUNK, SEG_CORE_CHUNK,
                         true);
    return t->arena_offset + at;
}

struct entry {
    const void *bytes;
    uint32_t size;
    struct seg_table_key key;
    uint64_t hash;
};

// Writes what belongs to a slot that the caller has claimed; false if the arena is full.
static bool slot_write(struct seg_table *t, struct seg_slot *slot, const struct entry *e)
{
    uint64_t at = arena_take(t, e->size);
    if (!at) {
        // The slot goes back: others may still find room for a shorter entry.
        atomic_store_explicit(&slot->key, 0, memory_order_relaxed);
        return false;
    }
    memcpy((char *)t + at, e->bytes, e->size);
    slot->offset = at;
    slot->size = e->size;
    slot->epoch = e->key.epoch;
    slot->kind = e->key.kind;
    slot->flags = e->key.flags;
    atomic_fetch_add_explicit(&t->slots_used, 1, memory_order_relaxed);
    // release: pairs with the acquire in probe and in the reader
    atomic_store_explicit(&slot->key, SEG_SLOT_READY | e->hash, memory_order_release);
    return true;
}

// Looks for the entry in `probes` of the `count` slots from `first` on, and puts it into the first
// free one. Its id; 0 if the arena is full; NO_SLOT if there is none.
static uint32_t probe(struct seg_table *t, const struct entry *e, uint32_t first, uint32_t count,
                      uint32_t probes)
{
    struct seg_slot *slots = (struct seg_slot *)(t + 1) + first;
    uint32_t start = (uint32_t)((e->hash & UINT32_MAX) * count >> 32); // in proportion: no division
    for (uint32_t i = 0; i < probes && i < count; i++) {
        uint32_t at = start + i < count ? start + i : start + i - count;
        // acquire: pairs with the release in slot_write
        uint64_t now = atomic_load_explicit(&slots[at].key, memory_order_acquire);
        if (now == (SEG_SLOT_READY | e->hash) &&
            slot_equals(t, &slots[at], e->bytes, e->size, e->key))
            return first + at + 1;
        if (now == 0 && atomic_compare_exchange_strong_explicit(
                            &slots[at].key, &now, SEG_SLOT_CLAIMED | e->hash, memory_order_relaxed,
                            memory_order_relaxed))
            return slot_write(t, &slots[at], e) ? first + at + 1 : 0;
    }
    return NO_SLOT;
}

uint32_t seg_table_intern(struct seg_table *t, const void *bytes, uint32_t size,
                          struct seg_table_key key)
{
    uint64_t seed = ((uint64_t)key.epoch << 32) ^ ((uint64_t)key.kind << 8) ^ key.flags;
    const struct entry e = {bytes, size, key, seg_hash(bytes, size, seed)};
    uint32_t near = t->slot_count > NEAR_SLOTS ? NEAR_SLOTS : 0; // a small table is near as a whole
    uint32_t id = near ? probe(t, &e, 0, near, NEAR_PROBES) : NO_SLOT;
    if (id == NO_SLOT)
        id = probe(t, &e, near, t->slot_count - near, PROBES_MAX);
    return id == NO_SLOT ? 0 : id;
}
