// SPDX-License-Identifier: MIT

#include "formats/trace/intern.h"
#include "formats/ptrtab.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void trace_intern_finish(struct trace_intern *in)
{
    free(in->strings.items);
    free(in->strings.slots);
    free(in->stacks.items);
    free(in->stacks.slots);
    arena_finish(&in->arena);
}

static int table_rehash(struct intern_table *t, uint32_t slot_count)
{
    uint32_t *slots = calloc(slot_count, sizeof *slots);
    if (!slots)
        return -ENOMEM;
    for (uint32_t i = 0; i < t->count; i++) {
        uint32_t s = t->items[i].hash & (slot_count - 1);
        while (slots[s])
            s = (s + 1) & (slot_count - 1);
        slots[s] = i + 1;
    }
    free(t->slots);
    t->slots = slots;
    t->slot_count = slot_count;
    return 0;
}

// Room for one more item.
static int table_grow(struct intern_table *t)
{
    if (t->count == t->capacity) {
        uint32_t capacity = t->capacity ? 2 * t->capacity : 256;
        struct intern_item *items = realloc(t->items, capacity * sizeof *items);
        if (!items)
            return -ENOMEM;
        t->bytes_used += (capacity - t->capacity) * sizeof *items;
        t->items = items;
        t->capacity = capacity;
    }
    if (2 * (t->count + 1) > t->slot_count) {
        uint32_t slot_count = t->slot_count ? 2 * t->slot_count : 512;
        t->bytes_used += (slot_count - t->slot_count) * sizeof *t->slots;
        return table_rehash(t, slot_count);
    }
    return 0;
}

static uint32_t table_put(struct trace_intern *in, struct intern_table *t, uint64_t wide_hash,
                          const void *data, uint32_t count, size_t size_bytes, int *rc)
{
    uint32_t hash = (uint32_t)(wide_hash ^ wide_hash >> 32), mask = t->slot_count - 1;
    uint32_t s = hash & mask;
    for (; t->slot_count && t->slots[s]; s = (s + 1) & mask) {
        const struct intern_item *item = &t->items[t->slots[s] - 1];
        if (item->hash == hash && item->count == count && memcmp(item->data, data, size_bytes) == 0)
            return t->slots[s];
    }
    // TRACE_ID_TRANSIENT is not an id of ours.
    uint64_t used = in->strings.bytes_used + in->stacks.bytes_used + size_bytes;
    bool is_full =
        t == &in->strings && t->bytes_used + size_bytes > in->bytes_max / INTERN_STRINGS_PART;
    if (is_full || used > in->bytes_max || t->count >= TRACE_ID_TRANSIENT / 2)
        return 0;
    *rc = table_grow(t);
    void *copy = *rc ? NULL : arena_alloc(&in->arena, size_bytes);
    if (!copy) {
        *rc = -ENOMEM;
        return 0;
    }
    memcpy(copy, data, size_bytes);
    t->bytes_used += size_bytes;
    t->items[t->count] = (struct intern_item){copy, hash, count};
    for (s = hash & (t->slot_count - 1); t->slots[s];)
        s = (s + 1) & (t->slot_count - 1);
    t->slots[s] = ++t->count;
    return t->count;
}

uint32_t trace_intern_string(struct trace_intern *in, const char *bytes, uint32_t n, int *rc)
{
    uint64_t hash = in->seed;
    uint32_t i = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t word;
        memcpy(&word, bytes + i, 8);
        hash = ptrtab_mix(hash, word);
    }
    uint64_t tail = n;
    for (; i < n; i++)
        tail = tail << 8 | (unsigned char)bytes[i];
    return table_put(in, &in->strings, ptrtab_mix(hash, tail), bytes, n, n, rc);
}

uint32_t trace_intern_stack(struct trace_intern *in, const struct trace_frame *frames,
                            uint32_t count, int *rc)
{
    uint64_t hash = in->seed;
    for (uint32_t i = 0; i < count; i++) {
        hash = ptrtab_mix(hash, frames[i].pc);
        hash = ptrtab_mix(hash, frames[i].line ^ (uint64_t)frames[i].function << 32 ^
                                    (uint64_t)frames[i].file << 12);
    }
    return table_put(in, &in->stacks, hash, frames, count, count * sizeof *frames, rc);
}
