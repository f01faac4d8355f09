// SPDX-License-Identifier: MIT
//
// A process that ran before we came (agent/call.h): what it records already is left as it is, what we want besides is
// switched on, and off again at the end, unless another collector holds it, too (enum seg_held).

#include "collector/ingest_internal.h"

#include "agent/call.h"
#include "collector/thread_places.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static uint64_t load(const _Atomic uint64_t *w)
{
    return atomic_load_explicit(w, memory_order_relaxed);
}

static uint64_t period_of(const struct ingest *g, enum record_kind kind)
{
    return g->o.builders[kind] && g->o.hz[kind] ? UINT64_C(1000000000) / g->o.hz[kind] : 0;
}

enum { TRACE_END_MS = 500 }; // that one whose collector was killed may take

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

// The rings are ours, so nobody else samples for a collector.
static void want_samples(struct target *t, const struct seg_control *c, struct agent_config *config,
                         struct call_wish *w)
{
    const struct ingest *g = t->ingest;
    if (!t->drains)
        return;
    bool is_on = load(&c->cpu_period_ns) || load(&c->wall_period_ns);
    bool is_own = !(atomic_load(&c->held) & 1u << SEG_HELD_SAMPLES);
    if (is_on && is_own && atomic_load(&c->cpu_source) != SEG_CPU_COLLECTOR_PERF) {
        const struct fscope_error why = {.text = "the program samples itself (FIBERSCOPE, or "
                                                 "fscope_cpu_start)"};
        complain(t, "samples", -EBUSY, &why);
        t->drains = false;
        return;
    }
    config->cpu_period_ns = period_of(g, RECORD_CPU);
    config->wall_period_ns = period_of(g, RECORD_WALL);
    if (config->cpu_period_ns)
        target_open_clocks(t, config);
    if (!config->wall_period_ns && !config->cpu_period_ns)
        return;
    w->what |=
        SEG_ASK_ARM; // with the collector's events, too: forked children go by what it then knows
    w->hold |= 1u << SEG_HELD_SAMPLES;
    w->cpu_period_ns = config->cpu_period_ns;
    w->wall_period_ns = config->wall_period_ns;
    w->cpu_source = config->cpu_source;
    w->cpu_flags = config->header.flags & AGENT_KERNEL_EXCLUDED ? SEG_CPU_USER_ONLY : 0;
}

static void want_locks(const struct ingest *g, struct call_wish *w)
{
    if (g->o.builders[RECORD_BLOCK] && g->o.block_ns) {
        w->what |= SEG_ASK_BLOCK;
        w->hold |= 1u << SEG_HELD_BLOCK;
        w->block_ns = g->o.block_ns;
    }
    if (g->o.builders[RECORD_MUTEX] && g->o.mutex_fraction) {
        w->what |= SEG_ASK_MUTEX;
        w->hold |= 1u << SEG_HELD_MUTEX;
        w->mutex_fraction = g->o.mutex_fraction;
    }
}

static int ask(struct target *t, const char *name, const struct call_wish *w)
{
    struct fscope_error err = {0};
    int rc = call_ask(t->ingest->o.call, t->reader, w, &err);
    if (rc == -EALREADY && w->what & SEG_ASK_HEAP)
        rc = 0; // as it is recorded already, so it is shown
    if (rc)
        complain(t, name, rc, &err);
    return rc;
}

// A kind has one rate. Who came first, or the program, has it as it wants it.
static void tell_shared(struct target *t, const char *what, uint64_t wished, uint64_t is)
{
    struct ingest_stats *st = &t->ingest->stats;
    if (wished && is && wished != is && !st->late_why[0])
        snprintf(st->late_why, sizeof st->late_why,
                 "process %u: %s already: 1 in %llu, not in %llu as asked for", t->pid, what,
                 (unsigned long long)is, (unsigned long long)wished);
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

// Of a collector that was killed.
static void end_old_trace(struct target *t, const struct seg_control *c)
{
    const struct call_wish look = {.what = SEG_ASK_LOOK};
    for (int ms = 0; ms < TRACE_END_MS && atomic_load(&c->held) & 1u << SEG_HELD_TRACE; ms += 20) {
        if (call_ask(t->ingest->o.call, t->reader, &look, NULL))
            return;
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
}

// One that the program has begun is its own, to the end.
static void start_trace(struct target *t, const struct seg_control *c)
{
    const struct record_options *o = t->ingest->o.trace;
    const struct call_wish w = {
        .what = SEG_ASK_TRACE | (o->trace_flight ? SEG_ASK_FLIGHT : 0u),
        .hold = 1u << SEG_HELD_TRACE,
    };
    end_old_trace(t, c);
    thread_places_each(t->pid, see_place,
                       t->trace); // without them some would have no name for long
    drop_leftovers(t->reader);
    seg_reader_trace_limits(t->reader, o->trace_slow_ns);
    if (!ask(t, "trace", &w))
        return;
    t->feed.see_cpu = NULL;
    trace_build_free(t->trace);
    t->trace = NULL;
}

static void start_heap(struct target *t, const struct seg_control *c)
{
    const struct ingest *g = t->ingest;
    const struct call_wish w = {
        .what = SEG_ASK_HEAP, .hold = 1u << SEG_HELD_HEAP, .heap_bytes = g->o.heap_bytes};
    int rc = ask(t, "heap profile", &w);
    uint64_t rate = load(&c->heap_rate_bytes);
    if (rate)
        builder_set_rate(g->o.builders[RECORD_HEAP], rate);
    if (!rc)
        tell_shared(t, "bytes of the heap are recorded", g->o.heap_bytes, rate);
}

static int see_kind(void *arg, const struct seg_state *e, uint32_t index)
{
    uint32_t *seen = arg;
    (void)index;
    if (e->kind < SEG_KIND_COUNT && (load(&e->values[0]) || load(&e->values[1])))
        *seen |= 1u << e->kind;
    return 0;
}

// State is read as it is: what the agent has recorded before is in it.
static void tell_earlier(struct target *t)
{
    uint32_t seen = 0;
    const struct ingest *g = t->ingest;
    struct ingest_stats *st = &t->ingest->stats;
    seg_reader_states(t->reader, see_kind, &seen);
    bool heap = g->o.builders[RECORD_HEAP] && seen & 1u << SEG_KIND_HEAP;
    bool locks = (g->o.builders[RECORD_BLOCK] && seen & 1u << SEG_KIND_BLOCK) ||
                 (g->o.builders[RECORD_MUTEX] && seen & 1u << SEG_KIND_MUTEX);
    if (heap || locks)
        snprintf(st->earlier, sizeof st->earlier,
                 "process %u has recorded %s before: that is in the profile, too, not only the "
                 "time of this recording",
                 t->pid,
                 !locks ? "its heap"
                 : heap ? "its heap and locks"
                        : "its locks");
}

void target_start_late(struct target *t, struct agent_config *config)
{
    const struct ingest *g = t->ingest;
    struct seg_control *c = seg_reader_control(t->reader);
    if (!c)
        return;
    tell_earlier(t);
    if (g->o.inherit) // the locks are ours: new threads and children may come to us
        call_send(g->o.call, CALL_STAY);
    struct call_wish w = {0};
    want_samples(t, c, config, &w);
    want_locks(g, &w);
    if (w.what)
        ask(t, "samples", &w);
    tell_shared(t, "waits are recorded", w.block_ns, load(&c->block_rate_ns));
    tell_shared(t, "contended unlocks are recorded", w.mutex_fraction, load(&c->mutex_fraction));
    // Each of its own, so that one that cannot be had costs none of the others.
    if (g->o.builders[RECORD_HEAP] && g->o.heap_bytes)
        start_heap(t, c);
    else if (g->o.builders[RECORD_HEAP] && load(&c->heap_rate_bytes))
        builder_set_rate(g->o.builders[RECORD_HEAP], load(&c->heap_rate_bytes));
    if (t->trace)
        start_trace(t, c);
}

void target_stop_late(struct target *t)
{
    const struct call_wish w = {.what = SEG_ASK_LOOK, .let_go = ~0u};
    if ((seg_reader_is_holding(t->reader) || t->trace) && target_is_alive(t))
        call_ask(t->ingest->o.call, t->reader, &w, NULL);
}
