// SPDX-License-Identifier: MIT
//
// See lod.h.

#include "analysis/trace/lod.h"

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
    if (!grow(&l->own_low, sizeof *l->own_low, n) || !grow(&l->end_low, sizeof *l->end_low, n) ||
        !grow(&l->own_high, sizeof *l->own_high, n) ||
        !grow(&l->end_high, sizeof *l->end_high, n) || !grow(&l->class, sizeof *l->class, n))
        return -ENOMEM;
    l->begin_low = l->own_low;
    l->begin_high = l->own_high;
    l->capacity = n;
    return 0;
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
    l->end_low[l->count] = (uint32_t)end;
    l->end_high[l->count] = (uint16_t)(end >> 32);
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
    free(l->end_low);
    free(l->end_high);
    free(l->class);
    free(l->sums);
    for (uint32_t i = 0; i < l->level_count; i++)
        free(l->longest[i]);
    *l = (struct lod){0};
}

static uint32_t longer(const struct lod *l, uint32_t a, uint32_t b)
{
    int64_t x = a == UINT32_MAX ? 0 : lod_length_ns(l, a);
    return b != UINT32_MAX && lod_length_ns(l, b) > x ? b : a; // none, of those without a length
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

// Gives back what was not used.
static void trim(struct lod *l)
{
    uint32_t n = l->count;
    if (!n || n >= l->capacity) // a borrowed one has none
        return;
    if (grow(&l->own_low, sizeof *l->own_low, n) && grow(&l->end_low, sizeof *l->end_low, n) &&
        grow(&l->own_high, sizeof *l->own_high, n) && grow(&l->end_high, sizeof *l->end_high, n) &&
        grow(&l->class, sizeof *l->class, n))
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
    while (low + step < l->count && step < l->count - low && lod_end_ns(l, low + step) <= time_ns) {
        low += step;
        step *= 2;
    }
    if (step < l->count - low)
        high = low + step;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (lod_end_ns(l, mid) <= time_ns)
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

// What the span has until end_ns.
static void add(const struct lod *l, uint32_t span, int64_t end_ns, int64_t sums[LOD_CLASSES])
{
    uint8_t class = lod_class(l, span);
    if (class != LOD_NONE)
        sums[class] += end_ns - lod_begin_ns(l, span);
}

// Sums until time_ns, of which `span` is the first that ends after it.
static void sums_at(const struct lod *l, uint32_t span, int64_t time_ns, int64_t sums[LOD_CLASSES])
{
    uint32_t block = span / LOD_BLOCK;
    memcpy(sums, l->sums[block], sizeof l->sums[block]);
    for (uint32_t i = block * LOD_BLOCK; i < span; i++)
        add(l, i, lod_end_ns(l, i), sums);
    if (span < l->count && lod_begin_ns(l, span) < time_ns)
        add(l, span, time_ns, sums);
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

// The class with most of the time, and all of it. sums_ns may be NULL.
static void judge(struct lod_column *c, const int64_t ns[LOD_CLASSES], int64_t *sums_ns)
{
    for (int k = 0; sums_ns && k < LOD_CLASSES; k++)
        sums_ns[k] += ns[k];
    c->first_ns = ns[0];
    for (int k = 0; k < LOD_CLASSES; k++) {
        c->busy_ns += ns[k];
        if (ns[k] > c->class_ns) {
            c->class_ns = ns[k];
            c->class = (uint8_t)k;
        }
    }
}

// A column of few spans, [first, end): each as far as it is in it.
static void walk_column(const struct lod *l, int64_t from_ns, int64_t to_ns, uint32_t first,
                        uint32_t end, struct lod_column *c, int64_t *sums_ns)
{
    int64_t ns[LOD_CLASSES] = {0}, longest_ns = 0;
    *c = (struct lod_column){.longest = UINT32_MAX};
    for (uint32_t i = first; i < end; i++) {
        uint8_t class = lod_class(l, i);
        if (class == LOD_NONE)
            continue;
        int64_t begin_ns = lod_begin_ns(l, i), end_ns = lod_end_ns(l, i);
        if (end_ns - begin_ns > longest_ns) {
            longest_ns = end_ns - begin_ns;
            c->longest = i;
        }
        begin_ns = begin_ns > from_ns ? begin_ns : from_ns;
        ns[class] += (end_ns < to_ns ? end_ns : to_ns) - begin_ns;
    }
    judge(c, ns, sums_ns);
}

// begin + i * length / count, without overflow.
static int64_t edge(int64_t begin_ns, int64_t length_ns, uint32_t i, uint32_t count)
{
    if (length_ns >> 40 == 0 && count >> 22 == 0) // always, but for days: no long division
        return begin_ns + length_ns * i / count;
    return begin_ns + (int64_t)((__int128)length_ns * i / count);
}

void lod_columns(const struct lod *l, int64_t begin_ns, int64_t end_ns, uint32_t count,
                 struct lod_column *columns)
{
    lod_add_columns(l, begin_ns, end_ns, count, columns, NULL);
}

void lod_add_columns(const struct lod *l, int64_t begin_ns, int64_t end_ns, uint32_t count,
                     struct lod_column *columns, int64_t (*sums_ns)[LOD_CLASSES])
{
    int64_t sums[2][LOD_CLASSES] = {0};
    uint32_t span = lod_at(l, begin_ns);
    int64_t from_ns = begin_ns, to_ns;
    bool summed = false; // sums[0] is up to from_ns
    for (uint32_t i = 0; i < count; i++, from_ns = to_ns) {
        to_ns = edge(begin_ns, end_ns - begin_ns, i + 1, count);
        if (span >= l->count || lod_begin_ns(l, span) >= to_ns || from_ns == to_ns) {
            columns[i] = (struct lod_column){.longest = UINT32_MAX};
            continue; // nothing since the last edge: the sums are those of it
        }
        uint32_t next = first_after(l, span, to_ns);
        uint32_t last = next + (next < l->count && lod_begin_ns(l, next) < to_ns);
        if (last - span <= LOD_BLOCK) {
            walk_column(l, from_ns, to_ns, span, last, &columns[i], sums_ns ? sums_ns[i] : NULL);
            summed = false;
        } else {
            if (!summed)
                sums_at(l, span, from_ns, sums[0]);
            sums_at(l, next, to_ns, sums[1]);
            for (int k = 0; k < LOD_CLASSES; k++) {
                int64_t until_ns = sums[1][k];
                sums[1][k] -= sums[0][k];
                sums[0][k] = until_ns;
            }
            columns[i] = (struct lod_column){.longest = longest_of(l, span, last)};
            judge(&columns[i], sums[1], sums_ns ? sums_ns[i] : NULL);
            summed = true;
        }
        span = next;
    }
}

size_t lod_bytes(const struct lod *l)
{
    size_t blocks = level_size(l, 0), n = (blocks + 1) * sizeof *l->sums;
    for (uint32_t i = 0; i < l->level_count; i++)
        n += level_size(l, i) * sizeof *l->longest[0];
    return n + (size_t)l->capacity * 13;
}
