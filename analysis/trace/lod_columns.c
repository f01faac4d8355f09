// SPDX-License-Identifier: MIT
//
// Pixels of a lane, and sums until a moment. See lod.h.
//
// A frame asks for a hundred thousand columns, so this is what a frame costs. Columns go from left to right, and spans with
// them: most columns are within one span, or have a few of them, which are added one by one; only where a column has more than
// a block do the sums and the pyramid pay.

#include "analysis/trace/lod_internal.h"

#include <stdbool.h>
#include <string.h>

#define LOD_HOT static inline __attribute__((always_inline))

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
        best = lod_longer(l, best, first);
    for (; first < end && end % LOD_BLOCK; end--)
        best = lod_longer(l, best, end - 1);
    uint32_t low = first / LOD_BLOCK, high = end / LOD_BLOCK;
    for (uint32_t level = 0; low < high; level++) {
        const uint32_t *items = l->longest[level];
        bool last = level + 1 >= l->level_count;
        for (; low < high && (last || low % LOD_FAN); low++)
            best = lod_longer(l, best, items[low]);
        for (; low < high && high % LOD_FAN; high--)
            best = lod_longer(l, best, items[high - 1]);
        low /= LOD_FAN;
        high /= LOD_FAN;
    }
    return best;
}

// --- Columns.

// Edges: begin + i * length / count, step by step instead of by a division each.
struct edges {
    int64_t at_ns, step_ns;
    uint64_t rest, error, count;
};

LOD_HOT int64_t next_edge(struct edges *e)
{
    e->error += e->rest;
    bool carry = e->error >= e->count;
    e->error -= carry ? e->count : 0;
    return e->at_ns += e->step_ns + carry;
}

// A span's times and class, where all of the lane's are added, or all borrowed.
struct seen {
    int64_t begin_ns, end_ns;
    uint8_t class;
};

LOD_HOT struct seen see(const struct lod *l, bool own, uint32_t span)
{
    if (own) {
        int64_t begin_ns = lod_begin_ns(l, span), end_ns = begin_ns + l->length[span];
        if (__builtin_expect(l->length[span] == LOD_LONG, 0))
            end_ns = lod_long_end_ns(l, span);
        return (struct seen){begin_ns, end_ns, l->class[span]};
    }
    return (struct seen){lod_begin_ns(l, span), lod_end_ns(l, span), l->class_of[l->kind[span]]};
}

// The class with most of the time, the lowest of equals, and all of it. sums_ns may be NULL.
LOD_HOT void judge(struct lod_column *c, const int64_t *ns, int64_t *sums_ns)
{
    int64_t most_ns = 0, busy_ns = 0;
    unsigned class = 0;
    for (unsigned k = 0; k < LOD_CLASSES; k++) {
        busy_ns += ns[k];
        class = ns[k] > most_ns ? k : class;
        most_ns = ns[k] > most_ns ? ns[k] : most_ns;
    }
    for (int k = 0; sums_ns && k < LOD_CLASSES; k++)
        sums_ns[k] += ns[k];
    c->busy_ns = busy_ns;
    c->class_ns = most_ns;
    c->first_ns = ns[0];
    c->class = (uint8_t) class;
}

LOD_HOT uint8_t bits_of(uint64_t length)
{
    return length ? (uint8_t)(64 - __builtin_clzll(length)) : 0;
}

// Within one span.
LOD_HOT void fill_column(struct lod_column *c, int64_t ns, uint32_t span, const struct seen *s,
                         int64_t *sums_ns)
{
    if (s->class == LOD_NONE) {
        *c = (struct lod_column){.longest = UINT32_MAX};
        return;
    }
    *c = (struct lod_column){.busy_ns = ns,
                             .class_ns = ns,
                             .first_ns = s->class ? 0 : ns,
                             .longest = span,
                             .class = s->class,
                             .bits = bits_of((uint64_t)(s->end_ns - s->begin_ns))};
    if (sums_ns)
        sums_ns[s->class] += ns;
}

enum {
    NONE_BIT = 15,   // where LOD_NONE's time goes, which nobody reads
    ORDER_BITS = 8,  // of a span among those of a column
    ORDER_MAX = 255, // more than LOD_BLOCK and one
};

// A column of few spans, from `first` on, each as far as it is in it. The first that ends after it.
LOD_HOT uint32_t walk_column(const struct lod *l, bool own, int64_t from_ns, int64_t to_ns,
                             uint32_t first, struct lod_column *c, int64_t *sums_ns)
{
    int64_t ns[NONE_BIT + 1] = {0};
    uint64_t longest =
        ORDER_MAX; // a length, and behind it how early it stands: the first of equals is taken
    uint32_t i = first;
    for (; i < l->count; i++) {
        struct seen s = see(l, own, i);
        if (s.begin_ns >= to_ns)
            break;
        uint64_t length = s.class == LOD_NONE ? 0 : (uint64_t)(s.end_ns - s.begin_ns);
        uint64_t key = length << ORDER_BITS | (ORDER_MAX - (i - first));
        longest = key > longest ? key : longest;
        int64_t begin_ns = s.begin_ns > from_ns ? s.begin_ns : from_ns;
        ns[s.class & NONE_BIT] += (s.end_ns < to_ns ? s.end_ns : to_ns) - begin_ns;
        if (s.end_ns > to_ns)
            break;
    }
    judge(c, ns, sums_ns);
    c->longest =
        longest > ORDER_MAX ? first + (uint32_t)(ORDER_MAX - (longest & ORDER_MAX)) : UINT32_MAX;
    c->bits = bits_of(longest >> ORDER_BITS);
    return i;
}

// A column of many. sums: until the edges on both sides; summed: the first is known.
static uint32_t sum_column(const struct lod *l, int64_t from_ns, int64_t to_ns, uint32_t first,
                           struct lod_column *c, int64_t *sums_ns, int64_t sums[2][LOD_CLASSES],
                           bool summed)
{
    uint32_t next = first_after(l, first + LOD_BLOCK, to_ns);
    uint32_t last = next + (next < l->count && lod_begin_ns(l, next) < to_ns);
    if (!summed)
        sums_at(l, first, from_ns, sums[0]);
    sums_at(l, next, to_ns, sums[1]);
    for (int k = 0; k < LOD_CLASSES; k++) {
        int64_t until_ns = sums[1][k];
        sums[1][k] -= sums[0][k];
        sums[0][k] = until_ns;
    }
    judge(c, sums[1], sums_ns);
    c->longest = longest_of(l, first, last);
    c->bits = c->longest == UINT32_MAX ? 0 : bits_of((uint64_t)lod_length_ns(l, c->longest));
    return next;
}

LOD_HOT void all_columns(const struct lod *l, bool own, struct edges e, uint32_t count,
                         struct lod_column *columns, int64_t (*sums_ns)[LOD_CLASSES])
{
    int64_t sums[2][LOD_CLASSES] = {0}, from_ns = e.at_ns, to_ns;
    uint32_t span = lod_at(l, from_ns);
    struct seen s = {INT64_MAX, INT64_MAX, LOD_NONE};
    bool summed = false; // sums[0] is up to from_ns
    if (span < l->count)
        s = see(l, own, span);
    for (uint32_t i = 0; i < count; i++, from_ns = to_ns) {
        int64_t *add_ns = sums_ns ? sums_ns[i] : NULL;
        to_ns = next_edge(&e);
        if (s.begin_ns >= to_ns || from_ns == to_ns) {
            columns[i] = (struct lod_column){.longest = UINT32_MAX};
            continue; // nothing since the last edge: the sums are those of it
        }
        if (s.begin_ns <= from_ns && s.end_ns > to_ns) {
            fill_column(&columns[i], to_ns - from_ns, span, &s, add_ns);
            summed = false;
            continue;
        }
        bool many = l->count - span > LOD_BLOCK && lod_end_ns(l, span + LOD_BLOCK) <= to_ns;
        if (many)
            span = sum_column(l, from_ns, to_ns, span, &columns[i], add_ns, sums, summed);
        else
            span = walk_column(l, own, from_ns, to_ns, span, &columns[i], add_ns);
        summed = many;
        s = span < l->count ? see(l, own, span) : (struct seen){INT64_MAX, INT64_MAX, LOD_NONE};
    }
}

void lod_add_columns(const struct lod *l, int64_t begin_ns, int64_t end_ns, uint32_t count,
                     struct lod_column *columns, int64_t (*sums_ns)[LOD_CLASSES])
{
    uint64_t length = (uint64_t)(end_ns - begin_ns);
    const struct edges e = {.at_ns = begin_ns,
                            .step_ns = (int64_t)(length / count),
                            .rest = length % count,
                            .count = count};
    if (l->length)
        all_columns(l, true, e, count, columns, sums_ns);
    else
        all_columns(l, false, e, count, columns, sums_ns);
}

void lod_columns(const struct lod *l, int64_t begin_ns, int64_t end_ns, uint32_t count,
                 struct lod_column *columns)
{
    lod_add_columns(l, begin_ns, end_ns, count, columns, NULL);
}
