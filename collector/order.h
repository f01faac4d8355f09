// SPDX-License-Identifier: MIT
//
// The order of locks that an agent has recorded, and the circles in it: deadlocks that may happen though none has. What
// counts as an order is in agent/lock_order.h, what as a circle in order_circles.h.
//
// Nothing is sent to the process, nor is it stopped: state is read out of its memory. Nothing here prints.

#ifndef FIBERSCOPE_COLLECTOR_ORDER_H
#define FIBERSCOPE_COLLECTOR_ORDER_H

#include "collector/order_circles.h"
#include "collector/stack_table.h"

enum { ORDER_NAME = 256 };

struct order_lock {
    uint64_t address;
    enum seg_lock_type type;
    char name[ORDER_NAME]; // of its variable; "": it has none
};

struct order {
    bool is_on;        // being recorded
    uint64_t since_ns; // CLOCK_MONOTONIC, when it was switched on last; 0: never
    struct order_lock *locks;
    size_t lock_count;
    struct order_edge *edges; // with other numbers of stacks than the segment's: those of `stacks`
    size_t edge_count;
    struct order_circles circles;
    size_t kinds[ORDER_KIND_COUNT]; // circles of each kind
    uint64_t locks_full, edges_full, held_full;
    struct stack_table *stacks; // NULL: not wanted
};

struct order_options {
    bool stacks, symbolize;
};

// Of an open target; path: of its core file. -ENODATA: there is no agent, or it cannot record this. -EPROTO: of another
// version. *out is the caller's: order_free.
int order_read(struct order **out, struct target *t, const char *path,
               const struct order_options *o, struct fscope_error *err);
// Of a dump or a black box: locks have no names.
int order_read_file(struct order **out, const char *path, const struct order_options *o,
                    struct fscope_error *err);
void order_free(struct order *o); // accepts NULL

// Asks the agent in a process to record it from now on, or no more. 0; as call_open and call_ask say; -ENODATA: its
// segment has no room for it.
int order_switch(uint32_t pid, bool on, struct fscope_error *err);

#endif
