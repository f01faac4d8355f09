// SPDX-License-Identifier: MIT
//
// See order.h.

#include "collector/order.h"

#include "collector/call.h"
#include "segment/consumer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEAD UINT32_C(0x80000000) // of a guard that was destroyed: a number of its own

struct reading {
    struct seg_reader *reader;
    struct order *order;
    uint32_t places;   // of locks in the segment
    uint32_t *lock_at; // by place: index + 1 of the lock; 0: none
    uint32_t *numbers; // by place: of the lock that was found there
    size_t edge_capacity;
};

static int add_lock(void *arg, const struct seg_order_lock *l, uint32_t index)
{
    struct reading *k = arg;
    struct order *o = k->order;
    uint64_t address = atomic_load_explicit(&l->address, memory_order_relaxed);
    uint32_t type = atomic_load_explicit(&l->type, memory_order_relaxed);
    size_t i = 0;
    while (i < o->lock_count && o->locks[i].address != address)
        i++; // two threads may have given it two places
    if (i == o->lock_count)
        o->locks[o->lock_count++] = (struct order_lock){
            .address = address,
            .type = type <= SEG_LOCK_FUTEX ? (enum seg_lock_type)type : SEG_LOCK_UNKNOWN};
    k->lock_at[index] = (uint32_t)i + 1;
    k->numbers[index] = atomic_load_explicit(&l->number, memory_order_relaxed);
    return 0;
}

static uint32_t lock_of(const struct reading *k, struct seg_order_name n)
{
    return n.index < k->places && k->lock_at[n.index] && k->numbers[n.index] == n.number
               ? k->lock_at[n.index] - 1
               : DEAD | n.index;
}

static uint64_t value(const _Atomic uint64_t *w)
{
    return atomic_load_explicit(w, memory_order_relaxed);
}

static int add_edge(void *arg, const struct seg_order_edge *s)
{
    struct reading *k = arg;
    struct order *o = k->order;
    struct order_edge e = {
        .from = lock_of(k, s->from),
        .to = lock_of(k, s->to),
        .flags = s->flags,
        .guard_count = s->guard_count,
        .who = {value(&s->who[0]), value(&s->who[1])},
        .others = value(&s->others),
        .count = value(&s->count),
        .first_ns = s->first_ns,
        .from_stack = s->from_stack,
        .to_stack = s->to_stack,
    };
    if (e.from == e.to || (e.from | e.to) & DEAD)
        return 0; // of locks that came or went meanwhile
    for (uint32_t i = 0; i < e.guard_count; i++) {
        struct seg_order_name n = s->guards[i];
        e.guards[i].is_read = n.index & SEG_ORDER_SHARED;
        n.index &= ~SEG_ORDER_SHARED;
        e.guards[i].lock = lock_of(k, n);
    }
    if (o->edge_count == k->edge_capacity) {
        size_t n = k->edge_capacity * 2 + 64;
        struct order_edge *grown = reallocarray(o->edges, n, sizeof *grown);
        if (!grown)
            return -ENOMEM;
        o->edges = grown;
        k->edge_capacity = n;
    }
    o->edges[o->edge_count++] = e;
    return 0;
}

static int read_tables(struct reading *k)
{
    struct seg_order head;
    struct order *o = k->order;
    int rc = seg_reader_order(k->reader, &head);
    if (rc)
        return rc;
    o->is_on = atomic_load_explicit(&head.wanted, memory_order_relaxed);
    o->since_ns = value(&head.since_ns);
    o->locks_full = value(&head.locks_full);
    o->edges_full = value(&head.edges_full);
    o->held_full = value(&head.held_full);
    k->places = head.lock_count;
    k->lock_at = calloc(k->places, sizeof *k->lock_at);
    k->numbers = calloc(k->places, sizeof *k->numbers);
    o->locks = calloc((size_t)k->places + 1, sizeof *o->locks);
    if (!k->lock_at || !k->numbers || !o->locks)
        return -ENOMEM;
    int64_t n = seg_reader_order_locks(k->reader, add_lock, k);
    if (n >= 0)
        n = seg_reader_order_edges(k->reader, add_edge, k);
    return n < 0 ? (int)n : 0;
}

// Those of circles: nothing else is shown with a stack.
static int take_stacks(struct reading *k, uint32_t pid, bool symbolize)
{
    struct order *o = k->order;
    bool *is_in = calloc(o->edge_count + 1, sizeof *is_in);
    int rc = is_in ? stack_table_new_recorded(&o->stacks, k->reader, pid) : -ENOMEM;
    for (size_t i = 0; !rc && i < o->circles.count; i++)
        for (uint32_t m = 0; m < o->circles.list[i].count; m++)
            is_in[o->circles.list[i].edges[m]] = true;
    for (size_t i = 0; !rc && i < o->edge_count; i++) {
        struct order_edge *e = &o->edges[i];
        int64_t from = 0, to = 0;
        if (is_in[i]) {
            from = stack_table_add_recorded(o->stacks, k->reader, e->from_stack);
            to = stack_table_add_recorded(o->stacks, k->reader, e->to_stack);
        }
        rc = from < 0 || to < 0 ? -ENOMEM : 0;
        e->from_stack = (uint32_t)from;
        e->to_stack = (uint32_t)to;
    }
    free(is_in);
    return rc ? rc : stack_table_finish(o->stacks, symbolize);
}

// t NULL: locks stay without names.
static int read_order(struct order **out, struct seg_reader *reader, struct target *t, uint32_t pid,
                      const struct order_options *opts, struct fscope_error *err)
{
    struct order *o = calloc(1, sizeof *o);
    struct reading k = {.reader = reader, .order = o};
    int rc = o ? read_tables(&k) : -ENOMEM;
    if (!rc)
        rc = order_circles_find(o->edges, &o->edge_count, (uint32_t)o->lock_count, &o->circles);
    for (size_t i = 0; !rc && i < o->circles.count; i++)
        o->kinds[o->circles.list[i].kind]++;
    for (size_t i = 0; !rc && t && i < o->lock_count; i++)
        target_variable_at(t, o->locks[i].address, o->locks[i].name, ORDER_NAME);
    if (!rc && opts->stacks)
        rc = take_stacks(&k, pid, opts->symbolize);
    free(k.lock_at);
    free(k.numbers);
    if (rc) {
        order_free(o);
        return error_set(err, rc, 0, "lock order: %s",
                         rc == -ENODATA  ? "the segment has no room for it"
                         : rc == -EINVAL ? "the segment is damaged"
                                         : strerror(-rc));
    }
    *out = o;
    return 0;
}

int order_read(struct order **out, struct target *t, const char *path,
               const struct order_options *o, struct fscope_error *err)
{
    struct seg_reader *reader = NULL;
    *out = NULL;
    int rc = target_open_segment(t, path, &reader, err);
    if (!rc)
        rc = read_order(out, reader, t, target_is_core(t) ? 0 : target_pid(t), o, err);
    seg_reader_close(reader);
    return rc;
}

int order_read_file(struct order **out, const char *path, const struct order_options *o,
                    struct fscope_error *err)
{
    struct seg_reader *reader = NULL;
    *out = NULL;
    int rc = seg_reader_open_file(&reader, path, err);
    if (!rc)
        rc = read_order(out, reader, NULL, 0, o, err);
    seg_reader_close(reader);
    return rc;
}

void order_free(struct order *o)
{
    if (!o)
        return;
    stack_table_free(o->stacks);
    free(o->circles.list);
    free(o->locks);
    free(o->edges);
    free(o);
}

int order_switch(uint32_t pid, bool on, struct fscope_error *err)
{
    struct call call = {0};
    struct agent_hello hello;
    struct seg_reader *reader = NULL;
    int segment = -1;
    int rc = call_open(&call, pid, err);
    if (rc)
        return rc;
    rc = call_fetch(&call, &segment, &hello, err);
    if (!rc)
        rc = seg_reader_open_parts(&reader, segment, SEG_READER_STATE, err);
    if (!rc) {
        rc = seg_reader_order_want(reader, on);
        if (rc)
            error_set(err, rc, 0, "process %u: its segment has no room for the order of locks",
                      pid);
    }
    if (!rc)
        rc = call_ask(&call, reader, &(struct call_wish){.what = SEG_ASK_LOOK}, err);
    if (rc && reader) // nor shall it come with the next call, of somebody else
        seg_reader_order_want(reader, !on);
    seg_reader_close(reader);
    call_close(&call);
    return rc;
}
