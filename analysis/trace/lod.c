// SPDX-License-Identifier: MIT
//
// See lod.h.

#include "analysis/trace/lod.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

int lod_add(struct lod *l, int64_t begin_ns, int64_t end_ns, uint8_t class)
{
    if (end_ns < begin_ns || class >= LOD_CLASSES)
        return -EINVAL;
    if (l->count && begin_ns < l->end_ns[l->count - 1])
        begin_ns = l->end_ns[l->count - 1];
    if (end_ns <= begin_ns)
        return 0; // nothing is left to be seen
    if (l->count == l->capacity) {
        uint32_t n = l->capacity ? l->capacity * 2 : 256;
        if (n < l->capacity)
            return -EFBIG;
        int64_t *begins = reallocarray(l->begin_ns, n, sizeof *begins);
        l->begin_ns = begins ? begins : l->begin_ns;
        int64_t *ends = reallocarray(l->end_ns, n, sizeof *ends);
        l->end_ns = ends ? ends : l->end_ns;
        uint8_t *classes = realloc(l->class, n);
        l->class = classes ? classes : l->class;
        if (!begins || !ends || !classes)
            return -ENOMEM;
        l->capacity = n;
    }
    l->begin_ns[l->count] = begin_ns;
    l->end_ns[l->count] = end_ns;
    l->class[l->count++] = class;
    return 0;
}

void lod_free(struct lod *l)
{
    free(l->begin_ns);
    free(l->end_ns);
    free(l->class);
    free(l->sums);
    for (uint32_t i = 0; i < l->level_count; i++)
        free(l->longest[i]);
    *l = (struct lod){0};
}

static int64_t length(const struct lod *l, uint32_t span)
{
    return l->end_ns[span] - l->begin_ns[span];
}

static uint32_t longer(const struct lod *l, uint32_t a, uint32_t b)
{
    if (a == UINT32_MAX || b == UINT32_MAX)
        return a == UINT32_MAX ? b : a;
    return length(l, b) > length(l, a) ? b : a;
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
                to[i] = longer(l, to[i], l->longest[level - 1][k]);
        }
    }
    return 0;
}

int lod_finish(struct lod *l)
{
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
            l->sums[b + 1][l->class[i]] += length(l, i);
            l->longest[0][b] = longer(l, l->longest[0][b], i);
        }
    }
    return build_levels(l);
}

// The first span from `from` on that ends after time_ns.
static uint32_t first_after(const struct lod *l, uint32_t from, int64_t time_ns)
{
    uint32_t low = from, high = l->count, step = 1;
    // Columns go from left to right: the answer is mostly near.
    while (low + step < l->count && step < l->count - low && l->end_ns[low + step] <= time_ns) {
        low += step;
        step *= 2;
    }
    if (step < l->count - low)
        high = low + step;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (l->end_ns[mid] <= time_ns)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

uint32_t lod_at(const struct lod *l, int64_t time_ns)
{
    return l->count ? first_after(l, 0, time_ns) : 0;
}

// Sums until time_ns, of which `span` is the first that ends after it.
static void sums_at(const struct lod *l, uint32_t span, int64_t time_ns, int64_t sums[LOD_CLASSES])
{
    uint32_t block = span / LOD_BLOCK;
    memcpy(sums, l->sums[block], sizeof l->sums[block]);
    for (uint32_t i = block * LOD_BLOCK; i < span; i++)
        sums[l->class[i]] += length(l, i);
    if (span < l->count && l->begin_ns[span] < time_ns)
        sums[l->class[span]] += time_ns - l->begin_ns[span];
}

void lod_until(const struct lod *l, int64_t time_ns, int64_t sums_ns[LOD_CLASSES])
{
    sums_at(l, lod_at(l, time_ns), time_ns, sums_ns);
}

// The longest of the spans [first, end).
static uint32_t longest_of(const struct lod *l, uint32_t first, uint32_t end)
{
    uint32_t best = UINT32_MAX;
    for (; first < end && first % LOD_BLOCK; first++)
        best = longer(l, best, first);
    for (; first < end && end % LOD_BLOCK; end--)
        best = longer(l, best, end - 1);
    uint32_t low = first / LOD_BLOCK, high = end / LOD_BLOCK;
    for (uint32_t level = 0; low < high; level++) {
        const uint32_t *items = l->longest[level];
        bool last = level + 1 >= l->level_count;
        for (; low < high && (last || low % LOD_FAN); low++)
            best = longer(l, best, items[low]);
        for (; low < high && high % LOD_FAN; high--)
            best = longer(l, best, items[high - 1]);
        low /= LOD_FAN;
        high /= LOD_FAN;
    }
    return best;
}

static void column(const struct lod *l, const int64_t from[LOD_CLASSES],
                   const int64_t to[LOD_CLASSES], uint32_t first, uint32_t end,
                   struct lod_column *c)
{
    *c = (struct lod_column){.longest = longest_of(l, first, end)};
    for (int k = 0; k < LOD_CLASSES; k++) {
        int64_t ns = to[k] - from[k];
        c->busy_ns += ns;
        if (ns > c->class_ns) {
            c->class_ns = ns;
            c->class = (uint8_t)k;
        }
    }
}

// begin + i * length / count, without overflow.
static int64_t edge(int64_t begin_ns, int64_t length_ns, uint32_t i, uint32_t count)
{
    return begin_ns + (int64_t)((__int128)length_ns * i / count);
}

void lod_columns(const struct lod *l, int64_t begin_ns, int64_t end_ns, uint32_t count,
                 struct lod_column *columns)
{
    int64_t sums[2][LOD_CLASSES] = {0};
    uint32_t span = lod_at(l, begin_ns);
    int64_t from_ns = begin_ns;
    if (l->count)
        sums_at(l, span, begin_ns, sums[0]);
    for (uint32_t i = 0; i < count; i++) {
        int64_t to_ns = edge(begin_ns, end_ns - begin_ns, i + 1, count);
        bool none = span >= l->count || l->begin_ns[span] >= to_ns || from_ns == to_ns;
        from_ns = to_ns;
        if (none) {
            columns[i] = (struct lod_column){.longest = UINT32_MAX};
            continue; // nothing since the last edge: the sums are those of it
        }
        uint32_t next = first_after(l, span, to_ns);
        sums_at(l, next, to_ns, sums[1]);
        uint32_t last = next + (next < l->count && l->begin_ns[next] < to_ns);
        column(l, sums[0], sums[1], span, last, &columns[i]);
        memcpy(sums[0], sums[1], sizeof sums[0]);
        span = next;
    }
}
