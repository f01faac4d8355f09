// SPDX-License-Identifier: MIT
//
// Open addressing over ids, at most two thirds full; see intern.h.

#include "collector/intern.h"

#include <stdlib.h>
#include <string.h>

void intern_finish(struct intern *t)
{
    arena_finish(&t->arena);
    free(t->entries);
    free(t->slots);
    *t = (struct intern){0};
}

// FNV-1a over 8-byte words, then a finalizer: stacks are arrays of words that differ in few bits.
static uint32_t hash_bytes(const void *data, size_t size)
{
    const unsigned char *p = data;
    uint64_t h = UINT64_C(0xcbf29ce484222325) ^ size;
    for (; size >= 8; p += 8, size -= 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        h = (h ^ word) * UINT64_C(0x9fb21c651e98df25);
        h ^= h >> 29;
    }
    for (; size > 0; p++, size--)
        h = (h ^ *p) * UINT64_C(0x100000001b3);
    h ^= h >> 32;
    return (uint32_t)(h * UINT64_C(0x9e3779b1));
}

static uint32_t probe(const struct intern *t, const void *data, size_t size, uint32_t hash)
{
    uint32_t mask = t->slot_count - 1;
    uint32_t at = hash & mask;
    while (t->slots[at]) {
        const struct intern_entry *e = &t->entries[t->slots[at] - 1];
        if (e->hash == hash && e->size == size && (size == 0 || memcmp(e->data, data, size) == 0))
            return at;
        at = (at + 1) & mask;
    }
    return at;
}

uint32_t intern_find(const struct intern *t, const void *data, size_t size)
{
    if (t->slot_count == 0 || size > UINT32_MAX)
        return INTERN_NONE;
    uint32_t at = probe(t, data, size, hash_bytes(data, size));
    return t->slots[at] ? t->slots[at] - 1 : INTERN_NONE;
}

static int grow(struct intern *t)
{
    if (t->count == t->capacity) {
        uint32_t capacity = t->capacity ? t->capacity * 2 : 64;
        if (capacity < t->capacity)
            return -1;
        struct intern_entry *entries = reallocarray(t->entries, capacity, sizeof *entries);
        if (!entries)
            return -1;
        t->entries = entries;
        t->capacity = capacity;
    }
    if ((uint64_t)(t->count + 1) * 3 <= (uint64_t)t->slot_count * 2)
        return 0;
    uint32_t slot_count = t->slot_count ? t->slot_count * 2 : 128;
    uint32_t *slots = calloc(slot_count, sizeof *slots);
    if (!slots)
        return -1;
    free(t->slots);
    t->slots = slots;
    t->slot_count = slot_count;
    for (uint32_t id = 0; id < t->count; id++) {
        uint32_t at = t->entries[id].hash & (slot_count - 1);
        while (slots[at])
            at = (at + 1) & (slot_count - 1);
        slots[at] = id + 1;
    }
    return 0;
}

uint32_t intern_put(struct intern *t, const void *data, size_t size)
{
    if (size > UINT32_MAX || t->count >= INTERN_NONE - 1 || grow(t))
        return INTERN_NONE;
    uint32_t hash = hash_bytes(data, size);
    uint32_t at = probe(t, data, size, hash);
    if (t->slots[at])
        return t->slots[at] - 1;
    // One byte more, always 0: so strings are terminated and empty entries have an address.
    char *copy = arena_alloc(&t->arena, size + 1);
    if (!copy)
        return INTERN_NONE;
    if (size)
        memcpy(copy, data, size);
    t->entries[t->count] = (struct intern_entry){copy, (uint32_t)size, hash};
    t->slots[at] = ++t->count;
    return t->count - 1;
}

uint32_t intern_string(struct intern *t, const char *s)
{
    return intern_put(t, s ? s : "", s ? strlen(s) : 0);
}

const char *intern_text(const struct intern *t, uint32_t id)
{
    return id < t->count ? t->entries[id].data : "";
}
