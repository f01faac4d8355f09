// SPDX-License-Identifier: MIT
//
// Threads that cannot go on, in a file where that is common. Go's reader sorts all threads and tries
// one after the other for each event whose turn has not come, and so does order.c while it is rare:
// with many threads and a hostile file that is time without bound. Here a thread is put aside with
// what it waits for, and is tried again when that is so.
//
// Invariant: none that is aside could go on. So the order is that of order.c, but for events of equal
// time of different threads, which Go's reader orders by the shape of its heap.

#include "formats/trace/order.h"

#include "formats/ptrtab.h"

#include <stdlib.h>

// What there is to wait for: a number of a Goroutine or a Proc, that a Proc leaves its system call,
// that a thread loses its Proc, a number of the GC.
enum { WAIT_GO, WAIT_PROC, WAIT_CALL, WAIT_UNBOUND, WAIT_GC };

struct parked_wait { // of a cursor
    uint64_t id, seq;
    uint32_t next;  // 1 + cursor that is aside in the same bucket
    uint32_t place; // in the heap
    uint8_t kind;
};

void order_parked_finish(struct order_parked *p)
{
    free(p->waits);
    free(p->buckets);
    free(p->heap);
}

static int reserve(struct trace_reader *r)
{
    struct order_parked *p = &r->parked;
    uint32_t count = r->cursor_capacity;
    if (p->capacity >= count)
        return 0;
    if (generation_charge(r, count * (sizeof *p->waits + sizeof *p->buckets + sizeof *p->heap)))
        return r->error.code;
    order_parked_finish(p);
    p->waits = malloc(count * sizeof *p->waits);
    p->buckets = calloc(count, sizeof *p->buckets); // a power of two
    p->heap = malloc(count * sizeof *p->heap);
    p->capacity = p->waits && p->buckets && p->heap ? count : 0;
    return p->capacity ? 0 : reader_fail(r, -ENOMEM, TRACE_RULE_SYSTEM, "out of memory");
}

// --- Those aside, as a heap by time.

static int64_t time_of(const struct trace_reader *r, uint32_t cursor)
{
    return r->cursors[cursor].time_ns;
}

static void heap_put(struct trace_reader *r, uint32_t place, uint32_t cursor)
{
    r->parked.heap[place] = cursor;
    r->parked.waits[cursor].place = place;
}

// Puts a cursor at a place, or as far up or down from there as it has to go.
static void heap_settle(struct trace_reader *r, uint32_t i, uint32_t cursor)
{
    const struct order_parked *p = &r->parked;
    int64_t time_ns = time_of(r, cursor);
    for (; i && time_of(r, p->heap[(i - 1) / 2]) > time_ns; i = (i - 1) / 2)
        heap_put(r, i, p->heap[(i - 1) / 2]);
    for (uint32_t child = 2 * i + 1; child < p->count; child = 2 * i + 1) {
        if (child + 1 < p->count)
            child += time_of(r, p->heap[child + 1]) < time_of(r, p->heap[child]);
        if (time_of(r, p->heap[child]) >= time_ns)
            break;
        heap_put(r, i, p->heap[child]);
        i = child;
    }
    heap_put(r, i, cursor);
}

static void heap_remove(struct trace_reader *r, uint32_t cursor)
{
    struct order_parked *p = &r->parked;
    uint32_t place = p->waits[cursor].place, last = p->heap[--p->count];
    if (place < p->count)
        heap_settle(r, place, last);
}

// --- What they wait for.

static uint32_t *bucket_of(const struct trace_reader *r, unsigned kind, uint64_t id, uint64_t seq)
{
    uint64_t hash = ptrtab_mix(ptrtab_mix(ptrtab_mix(r->state.seed, kind), id), seq);
    return &r->parked.buckets[hash & (r->parked.capacity - 1)];
}

static struct parked_wait wait_of(struct trace_reader *r, struct cursor *c)
{
    const unsigned char *at;
    uint64_t v[2] = {0};
    const struct state_thread *t = c->thread;
    const struct state_proc *p;
    unsigned count = trace_spec_of(c->wire)->arg_count;
    cursor_args(c, &at, v, count < 2 ? count : 2); // it was decoded before
    switch (c->wire) {
    case TRACE_EV_PROC_START:
        p = state_find_proc(&r->state, v[0]);
        if (p && p->status == TRACE_PROC_STATUS_IDLE && order_follows(r, v[1], &p->seq))
            return (struct parked_wait){.kind = WAIT_UNBOUND, .id = (uint64_t)t->id};
        return (struct parked_wait){.kind = WAIT_PROC, .id = v[0], .seq = v[1]};
    case TRACE_EV_PROC_STEAL:
        return (struct parked_wait){.kind = WAIT_PROC, .id = v[0], .seq = v[1]};
    case TRACE_EV_GO_SYSCALL_END_BLOCKED:
        return (struct parked_wait){.kind = WAIT_CALL, .id = (uint64_t)t->proc_id};
    case TRACE_EV_GO_START:
    case TRACE_EV_GO_UNBLOCK:
    case TRACE_EV_GO_SWITCH:
    case TRACE_EV_GO_SWITCH_DESTROY:
        return (struct parked_wait){.kind = WAIT_GO, .id = v[0], .seq = v[1]};
    default: return (struct parked_wait){.kind = WAIT_GC, .seq = v[0]};
    }
}

int order_park_head(struct trace_reader *r)
{
    struct order_parked *p = &r->parked;
    struct cursor *c = r->frontier[0].cursor;
    if (reserve(r))
        return r->error.code;
    uint32_t cursor = (uint32_t)(c - r->cursors);
    struct parked_wait *w = &p->waits[cursor];
    *w = wait_of(r, c);
    uint32_t *bucket = bucket_of(r, w->kind, w->id, w->seq);
    w->next = *bucket;
    *bucket = cursor + 1;
    frontier_remove(r, 0);
    heap_settle(r, p->count++, cursor);
    return 1;
}

static void wake(struct trace_reader *r, uint8_t kind, uint64_t id, uint64_t seq)
{
    struct parked_wait *waits = r->parked.waits;
    for (uint32_t *link = bucket_of(r, kind, id, seq); *link;) {
        uint32_t cursor = *link - 1;
        struct parked_wait *w = &waits[cursor];
        if (w->kind != kind || w->id != id || w->seq != seq) {
            link = &w->next;
            continue;
        }
        *link = w->next;
        heap_remove(r, cursor);
        frontier_insert(r, &r->cursors[cursor]);
    }
}

static void wake_by_go(struct trace_reader *r, int64_t id)
{
    const struct state_go *g = state_find_go(&r->state, (uint64_t)id);
    if (g && g->seq.generation == r->gen.number &&
        (g->status == TRACE_GO_STATUS_RUNNABLE || g->status == TRACE_GO_STATUS_WAITING))
        wake(r, WAIT_GO, (uint64_t)id, g->seq.seq + 1);
}

static void wake_by_proc(struct trace_reader *r, int64_t id)
{
    const struct state_proc *p = state_find_proc(&r->state, (uint64_t)id);
    if (p && p->seq.generation == r->gen.number && p->status != TRACE_PROC_STATUS_RUNNING)
        wake(r, WAIT_PROC, (uint64_t)id, p->seq.seq + 1);
    if (p && p->status != TRACE_PROC_STATUS_SYSCALL)
        wake(r, WAIT_CALL, (uint64_t)id, 0);
}

// Those that the event may have let go on, of which these are the events. Whatever has changed is
// named by one of them, or is the Proc of the thread.
static void wake_after(struct trace_reader *r, uint32_t from)
{
    for (uint32_t i = from; i < r->ring_count; i++) {
        const struct trace_event *ev = &r->ring[i];
        if (ev->kind == TRACE_TRANSITION && ev->what == TRACE_RESOURCE_GOROUTINE)
            wake_by_go(r, ev->transition.id);
        if (ev->kind == TRACE_TRANSITION && ev->what == TRACE_RESOURCE_PROC) {
            wake_by_proc(r, ev->transition.id);
            wake(r, WAIT_UNBOUND, (uint64_t)ev->transition.peer, 0);
        }
        if (ev->proc != TRACE_NONE)
            wake_by_proc(r, ev->proc);
        if (ev->what == TRACE_RANGE_GC_MARK &&
            (ev->kind == TRACE_RANGE_BEGIN || ev->kind == TRACE_RANGE_ACTIVE ||
             ev->kind == TRACE_RANGE_END))
            wake(r, WAIT_GC, 0, r->gc_seq + 1);
    }
}

int order_parked_step(struct trace_reader *r)
{
    const struct order_parked *p = &r->parked;
    int64_t first_ns = time_of(r, p->heap[0]);
    if (r->frontier_count && r->frontier[0].time_ns < first_ns)
        first_ns = r->frontier[0].time_ns;
    if (r->sample_ns < first_ns)
        return sample_emit(r);
    if (!r->frontier_count)
        return order_nobody(r, &r->cursors[p->heap[0]], p->count);
    struct cursor *c = r->frontier[0].cursor;
    uint32_t from = r->ring_count;
    c->thread->is_seen = true;
    int rc = order_advance(r, c);
    if (rc <= 0)
        return rc ? rc : order_park_head(r);
    rc = cursor_next(r, c);
    if (rc < 0)
        return rc;
    if (rc)
        frontier_update(r, 0);
    else
        frontier_remove(r, 0);
    wake_after(r, from);
    return 1;
}
