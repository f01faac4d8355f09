// SPDX-License-Identifier: MIT
//
// Making a lane and its index. See lod.h; lod_columns.c reads them.

#include "analysis/trace/lod_internal.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

// A larger array; the old one stays valid where there is no memory.
static bool grow(void *array, size_t size, uint32_t n)
{
    void *old, *new;
    memcpy(&old, array, sizeof old);
    new = reallocarray(old, n, size);
    if (new)
        memcpy(array, &new, sizeof new);
    return new != NULL;
}

static int make_room(struct lod *l)
{
    uint32_t n = l->capacity ? l->capacity + l->capacity / 2 : 64;
    if (l->count < l->capacity)
        return 0;
    if (n < l->capacity)
        return -EFBIG;
    if (!grow(&l->own_low, sizeof *l->own_low, n) || !grow(&l->length, sizeof *l->length, n) ||
        !grow(&l->own_high, sizeof *l->own_high, n) || !grow(&l->class, sizeof *l->class, n))
        return -ENOMEM;
    l->begin_low = l->own_low;
    l->begin_high = l->own_high;
    l->capacity = n;
    return 0;
}

static int add_long(struct lod *l, int64_t end_ns)
{
    if (l->long_count == l->long_capacity) {
        uint32_t n = l->long_capacity ? l->long_capacity * 2 : 4;
        if (!grow(&l->longs, sizeof *l->longs, n))
            return -ENOMEM;
        l->long_capacity = n;
    }
    l->longs[l->long_count++] = (struct lod_long){l->count, end_ns};
    return 0;
}

int64_t lod_long_end_ns(const struct lod *l, uint32_t span)
{
    uint32_t low = 0, high = l->long_count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (l->longs[mid].span < span)
            low = mid + 1;
        else
            high = mid;
    }
    return l->longs[low].end_ns;
}

int lod_add(struct lod *l, int64_t begin_ns, int64_t end_ns, uint8_t class)
{
    if (end_ns < begin_ns || class >= LOD_CLASSES)
        return -EINVAL;
    int rc = make_room(l);
    if (rc)
        return rc;
    int64_t last_ns = l->count ? lod_end_ns(l, l->count - 1) : begin_ns;
    if (!l->count)
        l->base_ns = begin_ns;
    begin_ns = begin_ns > last_ns ? begin_ns : last_ns;
    end_ns = end_ns > begin_ns ? end_ns : begin_ns;
    uint64_t begin = (uint64_t)(begin_ns - l->base_ns), end = (uint64_t)(end_ns - l->base_ns);
    if (end >> 48)
        return -EFBIG;
    l->own_low[l->count] = (uint32_t)begin;
    l->own_high[l->count] = (uint16_t)(begin >> 32);
    l->length[l->count] = end - begin < LOD_LONG ? (uint32_t)(end - begin) : LOD_LONG;
    if (l->length[l->count] == LOD_LONG && add_long(l, end_ns))
        return -ENOMEM;
    l->class[l->count++] = class;
    return 0;
}

void lod_borrow(struct lod *l, int64_t base_ns, const uint32_t *begin_low,
                const uint16_t *begin_high, const uint16_t *kind, const uint8_t *class_of,
                uint32_t count, int64_t last_ns)
{
    *l = (struct lod){.base_ns = base_ns,
                      .begin_low = begin_low,
                      .begin_high = begin_high,
                      .kind = kind,
                      .class_of = class_of,
                      .count = count,
                      .last_ns = last_ns};
}

void lod_free(struct lod *l)
{
    free(l->own_low);
    free(l->own_high);
    free(l->length);
    free(l->longs);
    free(l->class);
    free(l->sums);
    for (uint32_t i = 0; i < l->level_count; i++)
        free(l->longest[i]);
    *l = (struct lod){0};
}

// How many items a level has.
static uint32_t level_size(const struct lod *l, uint32_t level)
{
    uint64_t n = ((uint64_t)l->count + LOD_BLOCK - 1) / LOD_BLOCK;
    for (; level; level--)
        n = (n + LOD_FAN - 1) / LOD_FAN;
    return (uint32_t)n;
}

static int build_levels(struct lod *l)
{
    for (uint32_t level = 1; level < LOD_LEVELS && level_size(l, level - 1) > 1; level++) {
        uint32_t n = level_size(l, level), below = level_size(l, level - 1);
        uint32_t *to = calloc(n, sizeof *to);
        if (!to)
            return -ENOMEM;
        l->longest[l->level_count++] = to;
        for (uint32_t i = 0; i < n; i++) {
            to[i] = UINT32_MAX;
            for (uint32_t k = i * LOD_FAN; k < below && k < (i + 1) * LOD_FAN; k++)
                to[i] = lod_longer(l, to[i], l->longest[level - 1][k]);
        }
    }
    return 0;
}

// Gives back what was not used.
static void trim(struct lod *l)
{
    uint32_t n = l->count;
    if (!n || n >= l->capacity) // a borrowed one has none
        return;
    if (grow(&l->own_low, sizeof *l->own_low, n) && grow(&l->length, sizeof *l->length, n) &&
        grow(&l->own_high, sizeof *l->own_high, n) && grow(&l->class, sizeof *l->class, n))
        l->capacity = n;
    l->begin_low = l->own_low;
    l->begin_high = l->own_high;
}

int lod_finish(struct lod *l)
{
    trim(l);
    uint32_t blocks = level_size(l, 0);
    l->sums = calloc((size_t)blocks + 1, sizeof *l->sums);
    l->longest[0] = malloc((blocks + (size_t)1) * sizeof *l->longest[0]);
    l->level_count = 1;
    if (!l->sums || !l->longest[0])
        return -ENOMEM;
    for (uint32_t b = 0; b < blocks; b++) {
        memcpy(l->sums[b + 1], l->sums[b], sizeof l->sums[b]);
        l->longest[0][b] = UINT32_MAX;
        for (uint32_t i = b * LOD_BLOCK; i < l->count && i < (b + 1) * LOD_BLOCK; i++) {
            uint8_t class = lod_class(l, i);
            if (class != LOD_NONE)
                l->sums[b + 1][class] += lod_end_ns(l, i) - lod_begin_ns(l, i);
            l->longest[0][b] = lod_longer(l, l->longest[0][b], i);
        }
    }
    return build_levels(l);
}

size_t lod_bytes(const struct lod *l)
{
    size_t blocks = level_size(l, 0), n = (blocks + 1) * sizeof *l->sums;
    for (uint32_t i = 0; i < l->level_count; i++)
        n += level_size(l, i) * sizeof *l->longest[0];
    return n + (size_t)l->capacity * 11 + l->long_capacity * sizeof *l->longs;
}
