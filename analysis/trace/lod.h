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
// Memory: 17 bytes a span and 1.1 for the index.

#ifndef FIBERSCOPE_ANALYSIS_TRACE_LOD_H
#define FIBERSCOPE_ANALYSIS_TRACE_LOD_H

#include <stddef.h>
#include <stdint.h>

enum { LOD_CLASSES = 8, LOD_BLOCK = 64, LOD_FAN = 16, LOD_LEVELS = 8 };

struct lod {
    int64_t *begin_ns, *end_ns; // [count]
    uint8_t *class;             // [count]
    uint32_t count, capacity;
    int64_t (*sums)[LOD_CLASSES];  // [blocks + 1], of the spans before the block
    uint32_t *longest[LOD_LEVELS]; // spans; level 0 has one for each block, the next for LOD_FAN
    uint32_t level_count;
};

struct lod_column {
    int64_t busy_ns;  // at most the column's length
    int64_t class_ns; // of `class`
    uint32_t longest; // span; UINT32_MAX: the column is empty
    uint8_t class;    // with most of the time; the lowest of equals
};

// The next span of the lane, which is the caller's, zeroed at first. Begins before the span before
// it has ended: it begins then. 0, -ENOMEM, -EINVAL (ends before it begins), -EFBIG.
int lod_add(struct lod *l, int64_t begin_ns, int64_t end_ns, uint8_t class);
int lod_finish(struct lod *l); // 0 or -ENOMEM
void lod_free(struct lod *l);  // what it holds; accepts a zeroed one

// Columns of [begin_ns, end_ns): the i-th from begin + i * length / count. count > 0, end > begin.
void lod_columns(const struct lod *l, int64_t begin_ns, int64_t end_ns, uint32_t count,
                 struct lod_column *columns);

// How long each class has been on until time_ns.
void lod_until(const struct lod *l, int64_t time_ns, int64_t sums_ns[LOD_CLASSES]);

// The first span that ends after time_ns; count if there is none.
uint32_t lod_at(const struct lod *l, int64_t time_ns);

#endif
