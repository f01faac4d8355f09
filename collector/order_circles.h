// SPDX-License-Identifier: MIT
//
// Circles among the orders in which locks were taken. An edge: somebody waited for lock `to`, or would have, with `from`
// held. A circle of edges is a deadlock that may happen if all of them can be at once:
//
//   threads   each edge is of another thread (or fiber): one alone does one after the other
//   guards    nobody holds what another one holds as well: under a common lock they take turns
//   readers   who waits to read does not wait for a reader, but where a waiting writer stops new readers
//
// What always holds
//   - Circles are minimal: no circle that is told has the locks of a smaller one of the same kind or of a worse one.
//   - A circle that fails by the guards alone, or by the threads alone, is told as that.
//   - The search is bounded: circles of up to ORDER_CIRCLE_MAX locks, and some million steps; is_cut says that there was
//     more.
//
// Pure.

#ifndef FIBERSCOPE_COLLECTOR_ORDER_CIRCLES_H
#define FIBERSCOPE_COLLECTOR_ORDER_CIRCLES_H

#include "segment/layout.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ORDER_CIRCLE_MAX = 8, ORDER_CIRCLES_MAX = 1000 };

struct order_guard {
    uint32_t lock;
    bool is_read;
};

struct order_edge {
    uint32_t from, to; // locks, below their count
    uint32_t flags;    // enum seg_order_flag
    uint32_t guard_count;
    struct order_guard guards[SEG_ORDER_GUARDS];
    uint64_t who[2]; // as seg_order_edge
    bool others;
    uint64_t count, first_ns;
    uint32_t from_stack, to_stack;
};

enum order_kind {
    ORDER_INVERSION,
    ORDER_FEW_THREADS, // it would be, had there been a thread for each edge
    ORDER_GUARDED,     // it would be, were it not for a common lock
    ORDER_KIND_COUNT,
};

struct order_circle {
    enum order_kind kind;
    uint32_t count;                   // of edges, and of locks
    uint32_t edges[ORDER_CIRCLE_MAX]; // in order: each one's `to` is the next one's `from`
};

struct order_circles {
    struct order_circle *list; // by kind, then by count
    size_t count;
    bool is_cut;
};

// Sorts edges, and makes one of those that are equal: *count is how many there are then. 0 or -ENOMEM. The caller owns
// out->list (free).
int order_circles_find(struct order_edge *edges, size_t *count, uint32_t lock_count,
                       struct order_circles *out);

#endif
