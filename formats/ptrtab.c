// SPDX-License-Identifier: MIT

#include "formats/ptrtab.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

uint64_t ptrtab_seed(void)
{
    static _Atomic uint64_t seed;
    // relaxed: the value is all there is, nothing is published with it
    uint64_t now = atomic_load_explicit(&seed, memory_order_relaxed);
    if (now)
        return now;
    uint64_t fresh = 0, none = 0;
    if (getrandom(&fresh, sizeof fresh, GRND_NONBLOCK) != sizeof fresh)
        fresh = (uintptr_t)&seed;
    fresh |= 1;
    if (atomic_compare_exchange_strong_explicit(&seed, &none, fresh, memory_order_relaxed,
                                                memory_order_relaxed))
        return fresh;
    return none; // another thread was first
}

uint64_t ptrtab_hash_bytes(const void *bytes, size_t n)
{
    const unsigned char *b = bytes;
    uint64_t h = ptrtab_mix(ptrtab_seed(), n);
    for (; n >= 8; n -= 8, b += 8) {
        uint64_t w;
        memcpy(&w, b, 8);
        h = ptrtab_mix(h, w);
    }
    if (n) {
        uint64_t w = 0;
        memcpy(&w, b, n);
        h = ptrtab_mix(h, w);
    }
    return h;
}

const void *ptrtab_find(const struct ptrtab *t, uint64_t hash, ptrtab_equal *equal, const void *key)
{
    if (!t->capacity)
        return NULL;
    size_t mask = t->capacity - 1;
    for (size_t i = hash & mask; t->slots[i].item; i = (i + 1) & mask)
        if (t->slots[i].hash == hash && equal(t->slots[i].item, key))
            return t->slots[i].item;
    return NULL;
}

static void place(struct ptrtab_slot *slots, size_t mask, struct ptrtab_slot s)
{
    size_t i = s.hash & mask;
    while (slots[i].item)
        i = (i + 1) & mask;
    slots[i] = s;
}

static int grow(struct ptrtab *t)
{
    size_t capacity = t->capacity ? 2 * t->capacity : 256;
    struct ptrtab_slot *slots = calloc(capacity, sizeof *slots);
    if (!slots)
        return -ENOMEM;
    for (size_t i = 0; i < t->capacity; i++)
        if (t->slots[i].item)
            place(slots, capacity - 1, t->slots[i]);
    free(t->slots);
    t->slots = slots;
    t->capacity = capacity;
    return 0;
}

int ptrtab_add(struct ptrtab *t, uint64_t hash, const void *item)
{
    if (t->count >= t->capacity / 2 && grow(t))
        return -ENOMEM;
    place(t->slots, t->capacity - 1, (struct ptrtab_slot){.hash = hash, .item = item});
    t->count++;
    return 0;
}

void ptrtab_remove(struct ptrtab *t, uint64_t hash, const void *item)
{
    if (!t->capacity)
        return;
    size_t mask = t->capacity - 1;
    size_t i = hash & mask;
    while (t->slots[i].item && t->slots[i].item != item)
        i = (i + 1) & mask;
    if (!t->slots[i].item)
        return;
    t->slots[i].item = NULL;
    t->count--;
    // What probed past the hole must still be found: place the rest of the run again.
    for (i = (i + 1) & mask; t->slots[i].item; i = (i + 1) & mask) {
        struct ptrtab_slot s = t->slots[i];
        t->slots[i].item = NULL;
        place(t->slots, mask, s);
    }
}

void ptrtab_finish(struct ptrtab *t)
{
    free(t->slots);
    *t = (struct ptrtab){0};
}
