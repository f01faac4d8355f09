// SPDX-License-Identifier: MIT
//
// A process that ran before we came (agent/call.h): what it records already is left as it is, what we want besides is
// switched on, and off again at the end.

#include "collector/ingest_internal.h"

#include "agent/call.h"
#include "collector/thread_places.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static uint64_t load(const _Atomic uint64_t *w)
{
    return atomic_load_explicit(w, memory_order_relaxed);
}

static void store(_Atomic uint64_t *w, uint64_t value)
{
    atomic_store_explicit(w, value, memory_order_relaxed);
}

static uint64_t period_of(const struct ingest *g, enum record_kind kind)
{
    return g->o.builders[kind] && g->o.hz[kind] ? UINT64_C(1000000000) / g->o.hz[kind] : 0;
}

enum { LATE_MARK = 1 }; // in signal_cookie: the periods are a collector's

static void complain(struct target *t, const char *what, int rc, const struct fscope_error *err)
{
    struct ingest_stats *st = &t->ingest->stats;
    const char *why = err->text[0]      ? err->text
                      : rc == -EBUSY    ? "it can be recorded at one rate alone, and every "
                                          "allocation only from the program's start on"
                      : rc == -ENOTSUP  ? "its allocator cannot be seen"
                      : rc == -EALREADY ? "one is being recorded already"
                                        : strerror(-rc);
    if (!st->late_why[0])
        snprintf(st->late_why, sizeof st->late_why, "process %u: no %s: %.300s", t->pid, what, why);
}

// The rings are ours, so nobody else samples.
static uint32_t start_samples(struct target *t, struct seg_control *c, struct agent_config *config)
{
    const struct ingest *g = t->ingest;
    uint32_t what = 0;
    if (!t->drains)
        return 0;
    // Set by nobody who still reads: by the program, unless a collector that has died left its mark.
    bool is_own = load(&c->cpu_period_ns) || load(&c->wall_period_ns);
    if (is_own && atomic_load(&c->cpu_source) != SEG_CPU_COLLECTOR_PERF &&
        atomic_load(&c->signal_cookie) != LATE_MARK) {
        const struct fscope_error why = {.text = "the program samples itself (FIBERSCOPE, or "
                                                 "fscope_cpu_start)"};
        complain(t, "samples", -EBUSY, &why);
        t->drains = false;
        return 0;
    }
    atomic_store_explicit(&c->signal_cookie, LATE_MARK, memory_order_relaxed);
    config->cpu_period_ns = period_of(g, RECORD_CPU);
    config->wall_period_ns = period_of(g, RECORD_WALL);
    if (config->cpu_period_ns)
        target_open_clocks(t, config);
    store(&c->cpu_period_ns, config->cpu_period_ns);
    store(&c->wall_period_ns, config->wall_period_ns);
    uint64_t flags = config->header.flags & AGENT_KERNEL_EXCLUDED ? SEG_CPU_USER_ONLY : 0;
    store(&c->cpu_flags, flags);
    atomic_store_explicit(&c->cpu_source, config->cpu_source, memory_order_relaxed);
    if (config->wall_period_ns || config->cpu_period_ns) // forked children go by what it then knows
        what |= SEG_ASK_ARM;
    return what;
}

// A word for locks that is 0 is set.
static uint32_t start_word(struct target *t, _Atomic uint64_t *word, uint64_t rate, int kind)
{
    if (!t->ingest->o.builders[kind] || !rate || load(word))
        return 0;
    store(word, rate);
    t->switched |= 1u << kind;
    return SEG_ASK_LOOK;
}

static int ask(struct target *t, const char *name, uint32_t what, uint64_t heap_bytes, int kind)
{
    struct fscope_error err = {0};
    int rc = call_ask(t->ingest->o.call, t->reader, what, heap_bytes, &err);
    if (rc == -EALREADY && kind == RECORD_HEAP)
        return 0; // as it is recorded already, so it is shown
    if (rc)
        complain(t, name, rc, &err);
    else if (kind >= 0)
        t->switched |= 1u << kind;
    return rc;
}

static int drop_buffer(void *reader, const struct seg_trace_buffer *b, uint32_t index)
{
    (void)b;
    seg_reader_trace_free(reader, index);
    return 0;
}

// What an earlier flight recorder has left is no part of what comes now.
static void drop_leftovers(struct seg_reader *r)
{
    struct seg_trace now;
    if (!seg_reader_trace(r, &now) && !load(&now.generation))
        seg_reader_trace_buffers(r, drop_buffer, r);
}

static int see_place(void *arg, uint32_t tid, const uint64_t *pcs, uint32_t depth)
{
    return trace_build_early(arg, tid, pcs, depth);
}

// One that somebody else has begun is theirs, to the end.
static void start_trace(struct target *t)
{
    const struct record_options *o = t->ingest->o.trace;
    thread_places_each(t->pid, see_place,
                       t->trace); // without them some would have no name for long
    drop_leftovers(t->reader);
    seg_reader_trace_limits(t->reader, o->trace_slow_ns);
    if (!ask(t, "trace", SEG_ASK_TRACE | (o->trace_flight ? SEG_ASK_FLIGHT : 0), 0, -1))
        return;
    t->feed.see_cpu = NULL;
    trace_build_free(t->trace);
    t->trace = NULL;
}

void target_start_late(struct target *t, struct agent_config *config)
{
    const struct ingest *g = t->ingest;
    struct seg_control *c = seg_reader_control(t->reader);
    if (!c)
        return;
    if (g->o.inherit) // the locks are ours: new threads and children may come to us
        call_send(g->o.call, CALL_STAY);
    uint32_t what = start_samples(t, c, config);
    what |= start_word(t, &c->block_rate_ns, g->o.block_ns, RECORD_BLOCK);
    what |= start_word(t, &c->mutex_fraction, g->o.mutex_fraction, RECORD_MUTEX);
    if (what)
        ask(t, "samples", what, 0, -1);
    // Each of its own, so that one that cannot be had costs none of the others.
    if (g->o.builders[RECORD_HEAP] && load(&c->heap_rate_bytes))
        builder_set_rate(g->o.builders[RECORD_HEAP], load(&c->heap_rate_bytes));
    if (g->o.builders[RECORD_HEAP] && g->o.heap_bytes)
        ask(t, "heap profile", SEG_ASK_HEAP, g->o.heap_bytes, RECORD_HEAP);
    if (t->trace)
        start_trace(t);
}

void target_stop_late(struct target *t)
{
    struct seg_control *c = seg_reader_control(t->reader);
    uint32_t what = 0;
    if (!c || !target_is_alive(t))
        return;
    if (t->drains) {
        what |= SEG_ASK_DISARM;
        store(&c->cpu_period_ns, 0);
        store(&c->wall_period_ns, 0);
        store(&c->cpu_flags, 0);
        atomic_store_explicit(&c->signal_cookie, 0, memory_order_relaxed);
    }
    if (t->switched & 1u << RECORD_BLOCK)
        store(&c->block_rate_ns, 0);
    if (t->switched & 1u << RECORD_MUTEX)
        store(&c->mutex_fraction, 0);
    if (t->switched & 1u << RECORD_HEAP)
        what |= SEG_ASK_HEAP_STOP;
    if (what || t->switched || t->trace)
        call_ask(t->ingest->o.call, t->reader, what | SEG_ASK_LOOK, 0, NULL);
    if (t->drains)
        atomic_store_explicit(&c->cpu_source, SEG_CPU_NONE, memory_order_relaxed);
}
