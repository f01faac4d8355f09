// SPDX-License-Identifier: MIT
//
// What the orderer knows about Goroutines, Procs, threads and tasks.
//
// Invariant: a resource's struct never moves; a Goroutine's is used again, with its slot, after its
// end (status 0). So a pointer to a Goroutine is checked with its id before use: state_go_of.

#ifndef FIBERSCOPE_FORMATS_TRACE_STATE_H
#define FIBERSCOPE_FORMATS_TRACE_STATE_H

#include "formats/trace/trace.h"

#include <stdlib.h>

// A string that must outlive its generation: stable, or a copy.
struct held_text {
    uint32_t id; // stable id, if not copy
    uint32_t size_bytes;
    char *copy;
};

struct state_region {
    uint64_t task;
    struct held_text type;
};

struct state_range {
    uint8_t begin; // wire event that begins it
    struct held_text reason;
};

struct state_ranges {
    struct state_range *items;
    uint32_t count, capacity;
};

struct state_seq {
    uint64_t generation, seq;
};

struct state_go {
    int64_t id;
    uint32_t slot;
    uint32_t no_reason; // 0: the first three are as in a transition without a reason
    struct state_seq seq;
    uint8_t status; // enum trace_go_status, 0: does not exist
    uint32_t region_count, region_capacity;
    struct state_region *regions;
    struct state_ranges ranges;
};

enum { STATE_HAS_THREAD = 1, STATE_HAS_PROC = 2, STATE_HAS_GO = 4, STATE_HAS_ALL = 7 };

struct state_thread;

struct state_proc {
    int64_t id;
    struct state_seq seq;
    struct state_thread *owner; // that has it bound
    uint32_t slot;
    uint8_t status; // enum trace_proc_status
    struct state_ranges ranges;
};

struct state_thread {
    int64_t id, proc_id, go_id; // what is bound, TRACE_NONE; in the order of struct trace_event
    uint32_t slot, proc_slot, go_slot;
    uint32_t list; // in the generation's lists
    uint8_t has;   // STATE_HAS_, what there is of the three ids
    bool is_seen;  // an event of it came to its turn, or another named it: then it exists to others
    struct state_proc *proc;
    struct state_go *go; // only valid if go->id == go_id && go->status
};

struct state_task {
    uint64_t id, parent;
    struct held_text type;
    uint32_t slot;
};

// Open addressing by id; at most half of the slots are taken.
struct state_map_slot {
    uint64_t id;
    void *item; // NULL: free
};

struct state_map {
    struct state_map_slot *slots;
    size_t count, mask; // mask + 1 slots, if any
    unsigned shift;
};

// Structs of one size in chunks, by slot.
struct state_slab {
    void **chunks;
    uint32_t chunk_count, chunk_capacity;
    uint32_t used; // slots that were ever given out
    size_t item_bytes;
    uint32_t *spare; // slots given back
    uint32_t spare_count, spare_capacity;
};

enum { STATE_RECENT = 1024 };

struct trace_state {
    struct state_map gos, procs, threads, tasks;
    struct state_slab go_slab, proc_slab, thread_slab, task_slab;
    struct state_thread nobody;            // context of events without a thread
    struct state_go no_go;                 // status 0
    struct state_go *recent[STATE_RECENT]; // by an id's low bits: the last one found, or no_go
    uint64_t seed;
    uint64_t bytes_used, bytes_max;
};

void state_init(struct trace_state *s, uint64_t bytes_max);
void state_finish(struct trace_state *s);

static inline size_t state_map_home(const struct state_map *m, uint64_t id, uint64_t seed)
{
    uint64_t h = (id ^ seed) * UINT64_C(0x9e3779b97f4a7c15);
    return (size_t)(h >> m->shift);
}

static inline void *state_map_find(const struct state_map *m, uint64_t id, uint64_t seed)
{
    if (!m->slots)
        return NULL;
    for (size_t i = state_map_home(m, id, seed); m->slots[i].item; i = (i + 1) & m->mask)
        if (m->slots[i].id == id)
            return m->slots[i].item;
    return NULL;
}

// Not more than a guess: the one asked for only if id and status say so.
static inline struct state_go *state_recent_go(const struct trace_state *s, uint64_t id)
{
    return s->recent[id % STATE_RECENT];
}

static inline struct state_go *state_find_go(struct trace_state *s, uint64_t id)
{
    struct state_go *g = state_recent_go(s, id);
    if (__builtin_expect(g->id == (int64_t)id && g->status, 1))
        return g;
    g = state_map_find(&s->gos, id, s->seed);
    if (g)
        s->recent[id % STATE_RECENT] = g;
    return g;
}

static inline struct state_proc *state_find_proc(const struct trace_state *s, uint64_t id)
{
    return state_map_find(&s->procs, id, s->seed);
}

static inline struct state_thread *state_find_thread(const struct trace_state *s, int64_t id)
{
    return state_map_find(&s->threads, (uint64_t)id, s->seed);
}

static inline struct state_task *state_find_task(const struct trace_state *s, uint64_t id)
{
    return state_map_find(&s->tasks, id, s->seed);
}

// Makes what is not there. 0, -ENOMEM, or -EFBIG beyond bytes_max.
int state_add_go(struct trace_state *s, uint64_t id, uint8_t status, struct state_go **out);
int state_add_proc(struct trace_state *s, uint64_t id, uint8_t status, struct state_proc **out);
int state_add_thread(struct trace_state *s, int64_t id, struct state_thread **out);
int state_add_task(struct trace_state *s, uint64_t id, struct state_task **out);

void state_remove_go(struct trace_state *s, struct state_go *g);
void state_remove_task(struct trace_state *s, struct state_task *t);

// Room for one more at the end, zeroed. NULL: no memory, or beyond bytes_max; *rc says which.
struct state_region *state_push_region(struct trace_state *s, struct state_go *g, int *rc);
struct state_range *state_push_range(struct trace_state *s, struct state_ranges *r, int *rc);

// Makes h a copy of n bytes. 0, -ENOMEM, -EFBIG.
int state_hold(struct trace_state *s, struct held_text *h, const char *bytes, uint32_t n);
void state_release(struct trace_state *s, struct held_text *h);

static inline void state_bind_go(struct state_thread *t, struct state_go *g)
{
    if (t->slot == TRACE_NO_SLOT)
        return;
    t->go = g;
    t->go_id = g ? g->id : TRACE_NONE;
    t->go_slot = g ? g->slot : TRACE_NO_SLOT;
    t->has = (uint8_t)((t->has & ~STATE_HAS_GO) | (t->go_id != TRACE_NONE ? STATE_HAS_GO : 0));
}

static inline void state_bind_proc(struct state_thread *t, struct state_proc *p)
{
    if (t->slot == TRACE_NO_SLOT)
        return;
    if (t->proc && t->proc->owner == t)
        t->proc->owner = NULL;
    if (p)
        p->owner = t;
    t->proc = p;
    t->proc_id = p ? p->id : TRACE_NONE;
    t->proc_slot = p ? p->slot : TRACE_NO_SLOT;
    t->has =
        (uint8_t)((t->has & ~STATE_HAS_PROC) | (t->proc_id != TRACE_NONE ? STATE_HAS_PROC : 0));
}

// The Goroutine bound to a thread, if it exists.
static inline struct state_go *state_go_of(struct trace_state *s, struct state_thread *t)
{
    struct state_go *g = t->go;
    if (__builtin_expect(g && g->status && g->id == t->go_id, 1))
        return g;
    g = t->go_id == TRACE_NONE ? NULL : state_find_go(s, (uint64_t)t->go_id);
    t->go = g;
    return g;
}

#endif
