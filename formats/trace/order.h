// SPDX-License-Identifier: MIT
//
// What the parts of the orderer share. A handler of an event checks everything before it changes
// anything, puts its events into the ring, changes the state, and moves the cursor behind the
// arguments. It returns 1, 0 (not this thread's turn: nothing was changed), or -errno.

#ifndef FIBERSCOPE_FORMATS_TRACE_ORDER_H
#define FIBERSCOPE_FORMATS_TRACE_ORDER_H

#include "formats/trace/reader.h"

#include <errno.h>
#include <string.h>

int order_bad_args(struct trace_reader *r, const struct cursor *c);
int order_bad_context(struct trace_reader *r, const struct cursor *c, unsigned must, unsigned not );
int order_bad_id(struct trace_reader *r, const struct cursor *c, const char *what, uint64_t id);
int order_no_memory(struct trace_reader *r, const struct cursor *c, int rc);
int order_bad_status(struct trace_reader *r, const struct cursor *c, const struct state_go *g,
                     const char *wanted);

// Does events of one head after the other, while they are plain, the ring has room and no sample
// comes first, order_fast.c. false: the head's event is done, and its next one not yet pending.
bool order_fast(struct trace_reader *r);

// One event, order.c.
int order_advance(struct trace_reader *r, struct cursor *c);

// -EINVAL, error set: none of count threads can go on, of which this is the first.
int order_nobody(struct trace_reader *r, const struct cursor *c, uint32_t count);

// Puts the head, which cannot go on, aside, order_parked.c. 1 or -errno, error set.
int order_park_head(struct trace_reader *r);

// The next event or sample while there are threads aside. 1 or -errno, error set.
int order_parked_step(struct trace_reader *r);

// Handlers of what is rare, order_rare.c.
int order_rare(struct trace_reader *r, struct cursor *c);

// 0 if the cursor's thread has what it must and not what it must not.
TRACE_HOT int order_need(struct trace_reader *r, const struct cursor *c, unsigned must,
                         unsigned not )
{
    unsigned has = c->thread->has;
    if (__builtin_expect((has & (must | not )) == must, 1))
        return 0;
    return order_bad_context(r, c, must, not );
}

TRACE_HOT bool order_follows(const struct trace_reader *r, uint64_t seq,
                             const struct state_seq *last)
{
    return last->generation == r->gen.number && seq == last->seq + 1;
}

TRACE_HOT struct state_seq order_seq(const struct trace_reader *r, uint64_t seq)
{
    return (struct state_seq){r->gen.number, seq};
}

// The id for events of a stack in the file. 0 or -errno, error set.
TRACE_HOT int order_stack(struct trace_reader *r, const struct cursor *c, uint64_t file_id,
                          uint32_t *id)
{
    *id = id_find(&r->gen.stack_index, file_id);
    return __builtin_expect(*id || file_id == 0, 1) ? 0 : order_bad_id(r, c, "stack", file_id);
}

TRACE_HOT int order_string(struct trace_reader *r, const struct cursor *c, uint64_t file_id,
                           uint32_t *id)
{
    uint32_t place = id_find(&r->gen.string_index, file_id);
    *id = 0;
    if (!place)
        return file_id == 0 ? 0 : order_bad_id(r, c, "string", file_id);
    struct generation_string *s = &r->gen.strings[place - 1];
    *id = s->id ? s->id : generation_string_id(r, s);
    return r->error.code;
}

// An event of thread t, with everything but what depends on its kind.
TRACE_HOT struct trace_event *order_emit(struct trace_reader *r, const struct cursor *c,
                                         const struct state_thread *t, uint8_t kind, uint8_t what)
{
    struct trace_event *ev = &r->ring[r->ring_count++];
    int64_t time = c->time_ns > r->last_ns ? c->time_ns : r->last_ns + 1;
    ev->time_ns = r->last_ns = time;
    memcpy(&ev->thread, &t->id, 3 * sizeof ev->thread);
    ev->offset = c->data_to_offset + (uintptr_t)c->event;
    ev->batch = c->batch;
    ev->stack = 0;
    memcpy(&ev->thread_slot, &t->slot, 3 * sizeof ev->thread_slot);
    ev->kind = kind;
    ev->what = what;
    ev->wire = c->wire;
    ev->flags = 0;
    return ev;
}

TRACE_HOT struct trace_event *order_go_event(struct trace_reader *r, const struct cursor *c,
                                             const struct state_go *g, uint8_t from, uint8_t to)
{
    struct trace_event *ev =
        order_emit(r, c, c->thread, TRACE_TRANSITION, TRACE_RESOURCE_GOROUTINE);
    ev->transition.id = g->id;
    ev->transition.slot = g->slot;
    ev->transition.reason = 0;
    ev->transition.stack = 0;
    ev->transition.from = from;
    ev->transition.to = to;
    ev->transition.peer = TRACE_NONE;
    return ev;
}

TRACE_HOT struct trace_event *order_proc_event(struct trace_reader *r, const struct cursor *c,
                                               const struct state_proc *p, uint8_t from, uint8_t to)
{
    struct trace_event *ev = order_emit(r, c, c->thread, TRACE_TRANSITION, TRACE_RESOURCE_PROC);
    ev->transition.id = p->id;
    ev->transition.slot = p->slot;
    ev->transition.reason = 0;
    ev->transition.stack = 0;
    ev->transition.from = from;
    ev->transition.to = to;
    ev->transition.peer = TRACE_NONE;
    return ev;
}

TRACE_HOT int order_done(struct cursor *c, const unsigned char *at)
{
    c->at = at;
    return 1;
}

#endif
