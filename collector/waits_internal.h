// SPDX-License-Identifier: MIT
//
// Shared by waits_look.c (one look at all threads and fibers), waits_graph.c (circles, and whether to believe
// them) and waits.c (what is told of it).

#ifndef FIBERSCOPE_COLLECTOR_WAITS_INTERNAL_H
#define FIBERSCOPE_COLLECTOR_WAITS_INTERNAL_H

#include "collector/fibers.h"
#include "collector/waits.h"

struct look_fiber { // what is kept of a struct fiber
    uint64_t id, object, owner, switches, waiting_ns;
    uint32_t tid, last_tid;
    bool is_waiting, is_join, has_run;
    char name[FIBERS_TEXT], state[FIBERS_TEXT];
};

struct look_thread {
    struct sync_wait sync;
    bool is_in_runtime; // then `wait` holds: it waits there as a fiber would
    struct look_fiber wait;
    bool is_worker, is_idle; // is_idle: in its scheduler, or waits there for work
    uint64_t runs;           // id of the fiber; 0: none
};

struct look {
    struct thread_list list;
    struct look_thread *threads; // as the list
    struct look_fiber *fibers;   // by id
    size_t fiber_count, fiber_capacity;
};

// What follows from a look. Nodes: threads, then fibers.
struct graph {
    size_t count, threads;
    struct waits_edge {
        enum waits_holder holder;
        uint32_t to, next; // as in struct waits_node
        uint64_t holder_id;
        bool holder_is_fiber;
    } * edges;
    struct waits_deadlock *circles;
    size_t circle_count;
};

// f NULL: no fibers.
int look_take(struct look *out, struct target *t, struct fibers *f, struct fscope_error *err);
void look_free(struct look *l);
uint32_t look_find_thread(const struct look *l, uint64_t own_tid); // index, or WAITS_NONE
uint32_t look_find_fiber(const struct look *l, uint64_t id);

int graph_make(struct graph *out, const struct look *l);
void graph_free(struct graph *g);
// Keeps the circles whose nodes are in a and b, too, and have not run from one to the other. How many went.
size_t graph_believe(struct graph *g, const struct look *its, const struct look *a,
                     const struct look *b);

#endif
