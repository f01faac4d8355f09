// SPDX-License-Identifier: MIT
//
// A lane of spans as pixel columns, however many spans there are: level of detail without loss.
//
// A lane is spans in order of time that do not overlap; each has a class (a colour). A column is
// the time [begin, end) of one pixel: it knows how long the lane was busy in it, which class has
// most of that time, and the longest span that touches it, so that an outlier is seen at any zoom.
// All are exact: sums over classes come from prefix sums at every LOD_BLOCK spans, the longest from
// a pyramid of maxima.
//
// Invariant: after lod_finish nothing changes, and any number of threads may read.
//
// The spans are either added one by one (lod_add), or stay where they are: a fiber's spans stand
// together in the columns of spans.h, each until the next one begins, so that a lane of them costs
// only its index (lod_borrow). A span's number is that of its adding, or of its place.
//
// Memory: 11 bytes a span that is added (16 more for one of more than four seconds), none for one that is borrowed; 1.1 for
// the index.

#ifndef FIBERSCOPE_ANALYSIS_TRACE_LOD_H
#define FIBERSCOPE_ANALYSIS_TRACE_LOD_H

#include <stddef.h>
#include <stdint.h>

enum {
    LOD_CLASSES = 8,
    LOD_NONE = 255, // of a borrowed span: as if it were not there
    LOD_BLOCK = 64,
    LOD_FAN = 16,
    LOD_LEVELS = 8,
};

struct lod_long { // an added span of LOD_LONG ns or more
    uint32_t span;
    int64_t end_ns;
};

#define LOD_LONG UINT32_MAX

struct lod {
    int64_t base_ns;
    const uint32_t *begin_low; // [count], of the time since base_ns
    const uint16_t *begin_high;
    const uint16_t *kind;       // borrowed: what class_of is asked for
    const uint8_t *class_of;    // borrowed
    int64_t last_ns;            // borrowed: the end of the last
    uint32_t *own_low, *length; // [capacity], added: begin_low is own_low; LOD_LONG: see `longs`
    uint16_t *own_high;
    uint8_t *class;
    struct lod_long *longs; // [long_count], by span
    uint32_t long_count, long_capacity;
    uint32_t count, capacity;
    int64_t (*sums)[LOD_CLASSES];  // [blocks + 1], of the spans before the block
    uint32_t *longest[LOD_LEVELS]; // spans; level 0 has one for each block, the next for LOD_FAN
    uint32_t level_count;
};

struct lod_column {
    int64_t busy_ns;  // at most the column's length
    int64_t class_ns; // of `class`
    int64_t first_ns; // of class 0
    uint32_t longest; // span; UINT32_MAX: the column is empty
    uint8_t class;    // with most of the time; the lowest of equals
    uint8_t
        bits; // of the longest's length: it is shorter than 2^bits ns, and not than half of that; 0: there is none
};

// The next span of the lane, which is the caller's, zeroed at first. Begins before the span before
// it has ended: it begins then. What has no length is counted and never seen. 0, -ENOMEM, -EINVAL
// (ends before it begins), -EFBIG (2^32 spans, or 2^48 ns).
int lod_add(struct lod *l, int64_t begin_ns, int64_t end_ns, uint8_t class);

// Instead of adding: count spans whose times since base_ns stand in these columns, each until the
// next begins and the last until last_ns, and whose classes are class_of[kind[i]]: below
// LOD_CLASSES, or LOD_NONE. The arrays stay the caller's.
void lod_borrow(struct lod *l, int64_t base_ns, const uint32_t *begin_low,
                const uint16_t *begin_high, const uint16_t *kind, const uint8_t *class_of,
                uint32_t count, int64_t last_ns);
int lod_finish(struct lod *l); // 0 or -ENOMEM
void lod_free(struct lod *l);  // what it holds; accepts a zeroed one

static inline int64_t lod_begin_ns(const struct lod *l, uint32_t span)
{
    return l->base_ns + (int64_t)((uint64_t)l->begin_high[span] << 32 | l->begin_low[span]);
}

int64_t lod_long_end_ns(const struct lod *l, uint32_t span); // of one of LOD_LONG

static inline int64_t lod_end_ns(const struct lod *l, uint32_t span)
{
    if (l->length)
        return __builtin_expect(l->length[span] != LOD_LONG, 1)
                   ? lod_begin_ns(l, span) + l->length[span]
                   : lod_long_end_ns(l, span);
    return span + 1 < l->count ? lod_begin_ns(l, span + 1) : l->last_ns;
}

static inline uint8_t lod_class(const struct lod *l, uint32_t span)
{
    return l->class ? l->class[span] : l->class_of[l->kind[span]];
}

// Columns of [begin_ns, end_ns): the i-th from begin + i * length / count. count > 0, end > begin.
void lod_columns(const struct lod *l, int64_t begin_ns, int64_t end_ns, uint32_t count,
                 struct lod_column *columns);

// The same, and what each class has of each column is added to sums_ns[count].
void lod_add_columns(const struct lod *l, int64_t begin_ns, int64_t end_ns, uint32_t count,
                     struct lod_column *columns, int64_t (*sums_ns)[LOD_CLASSES]);

// How long each class has been on until time_ns.
void lod_until(const struct lod *l, int64_t time_ns, int64_t sums_ns[LOD_CLASSES]);

// The first span that ends after time_ns; count if there is none.
uint32_t lod_at(const struct lod *l, int64_t time_ns);

// How long a span is; 0 if it is as if it were not there.
static inline int64_t lod_length_ns(const struct lod *l, uint32_t span)
{
    return lod_class(l, span) == LOD_NONE ? 0 : lod_end_ns(l, span) - lod_begin_ns(l, span);
}

// Spans that stand far apart will be looked at: their times and class are fetched all at once.
static inline void lod_expect(const struct lod *l, uint32_t span)
{
    __builtin_prefetch(l->begin_low + span);
    __builtin_prefetch(l->begin_high + span);
    if (!l->length)
        return;
    __builtin_prefetch(l->length + span);
    __builtin_prefetch(l->class + span);
}

// The bytes that it holds.
size_t lod_bytes(const struct lod *l);

#endif
