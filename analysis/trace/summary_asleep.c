// SPDX-License-Identifier: MIT
//
// Fibers that have done nothing yet but to be there, or to be made: most of those in a trace of a
// program that has very many. And the summary's memory in general. See summary_internal.h.

#include "analysis/trace/summary_internal.h"

#include <errno.h>
#include <stdlib.h>

// All that there is to know about such a one.
struct asleep {
    union {
        int64_t id;
        struct asleep *next_free;
    };
    int64_t created_ns, since, creator;
    uint64_t pc;
    uint32_t name, blocked_in, reason, proc_slot;
    struct trace_place place;
    uint8_t state;
};

#define TAG ((uintptr_t)1) // of a slot whose fiber is asleep

static struct asleep *asleep_of(const void *slot)
{
    return (uintptr_t)slot & TAG ? (struct asleep *)((uintptr_t)slot - TAG) : NULL;
}

bool summary_has_room(const struct summary_state *st, uint64_t bytes)
{
    uint64_t used = st->bytes_used + st->names->arena.used_bytes, max = st->options.bytes_max;
    return used <= max && bytes <= max - used;
}

int summary_charge(struct summary_state *st, uint64_t bytes)
{
    if (!summary_has_room(st, bytes))
        return -EFBIG;
    st->bytes_used += bytes;
    return 0;
}

int summary_charge_waits(struct summary_state *st, const struct trace_times *t, uint32_t before)
{
    return summary_charge(st, (t->wait_capacity - before) * sizeof *t->waits);
}

struct fiber *summary_fiber_take(struct summary_state *st)
{
    struct fiber *f = st->free_fibers;
    if (f) {
        st->free_fibers = f->next_free;
        return f;
    }
    st->rc = st->rc ? st->rc : summary_charge(st, sizeof *f);
    return st->rc ? NULL : calloc(1, sizeof *f);
}

void summary_fiber_give(struct summary_state *st, struct fiber *f)
{
    summary_regions_drop(st, f);
    f->next_free = st->free_fibers;
    st->free_fibers = f;
}

void summary_fiber_begin(struct fiber *f, int64_t id, int64_t now)
{
    struct trace_times times = f->pub.times;
    *f = (struct fiber){.since = now, .proc_lost_at = SUMMARY_NEVER, .total_from = now};
    f->pub.times = (struct trace_times){.waits = times.waits, .wait_capacity = times.wait_capacity};
    f->pub.id = f->pub.run.fiber = f->pub.wait.fiber = id;
    f->pub.first_run_ns = f->pub.ended_ns = SUMMARY_NEVER;
    f->proc_slot = TRACE_NO_SLOT;
    for (int i = 0; i < TRACE_RANGES; i++)
        f->range_since[i] = SUMMARY_NEVER;
}

struct fiber *summary_fiber_at(struct summary_state *st, uint32_t slot)
{
    void *at = slot < st->fiber_capacity ? st->fibers[slot] : NULL;
    struct asleep *a = asleep_of(at);
    if (!a)
        return at;
    struct fiber *f = summary_fiber_take(st);
    if (!f)
        return NULL;
    summary_fiber_begin(f, a->id, a->since);
    f->pub.created_ns = a->created_ns;
    f->pub.creator = a->creator;
    f->pub.pc = a->pc;
    f->pub.name = a->name;
    f->pub.reason = a->reason;
    f->blocked_in = a->blocked_in;
    f->place = a->place;
    f->proc_slot = a->proc_slot;
    f->state = a->state;
    a->next_free = st->free_asleep;
    st->free_asleep = a;
    st->fibers[slot] = f;
    return f;
}

// The first event of a fiber is dealt with.
int summary_fiber_sleep(struct summary_state *st, uint32_t slot)
{
    struct fiber *f = st->fibers[slot];
    const struct trace_moments *m = &f->pub.moments;
    struct asleep *a = st->free_asleep;
    if ((f->state != TRACE_GO_WAITING && f->state != TRACE_GO_RUNNABLE) || f->regions ||
        f->since == SUMMARY_NEVER || f->since != f->total_from || f->early_wait_count ||
        f->pub.times.wait_count || m->blocks || f->edge)
        return 0;
    if (a)
        st->free_asleep = a->next_free;
    else if (summary_charge(st, sizeof *a))
        return -EFBIG;
    else if (!(a = arena_alloc(&st->asleep, sizeof *a)))
        return -ENOMEM;
    *a = (struct asleep){
        .id = f->pub.id,
        .created_ns = f->pub.created_ns,
        .since = f->since,
        .creator = f->pub.creator,
        .pc = f->pub.pc,
        .name = f->pub.name,
        .blocked_in = f->blocked_in,
        .place = f->place,
        .reason = f->pub.reason,
        .proc_slot = f->proc_slot,
        .state = f->state,
    };
    summary_fiber_give(st, f);
    st->fibers[slot] = (void *)((uintptr_t)a | TAG);
    return 0;
}

void summary_fibers_drop(struct summary_state *st)
{
    for (uint32_t i = 0; i < st->fiber_capacity; i++) {
        if (st->fibers[i] && !asleep_of(st->fibers[i]))
            summary_fiber_give(st, st->fibers[i]);
    }
    for (struct fiber *f = st->free_fibers, *next; f; f = next) {
        next = f->next_free;
        trace_times_finish(&f->pub.times);
        free(f);
    }
    arena_finish(&st->asleep);
    free(st->fibers);
}
