// SPDX-License-Identifier: MIT
//
// Partial deadlocks: fibers and threads that wait for each other's locks in a circle, while others go on.
//
// sysmon looks at a few Gs at each tick. A pass over all collects who waits for a lock, and for whom: each
// waits for one, so following owners from anywhere ends, or is in a circle. Readings are not of one moment,
// so a circle is believed when the next pass, a second later, finds it with the same waits.

#include "runtime/core.h"
#include "runtime/dump.h"
#include "runtime/os/os.h"
#include "runtime/print.h"

#include <string.h>

enum { EDGES = 4096, EDGES_FULL = 3072, CYCLES = 16, PER_TICK = 256, PER_IDLE_TICK = 1024 };
enum { TICK_NS = 5000000, IDLE_TICK_NS = 400000000, PASS_NS = 1000000000 };

struct edge {
    uint64_t waiter, owner; // ids as this_owner has them; waiter 0: free
    struct g *g;
    const void *object;
    uint64_t since;
    uint32_t visit;
};

static struct edge edges[EDGES]; // by hash of waiter
static uint32_t edge_count;

static struct {
    bool is_passing, is_on_threads;
    uint32_t next; // G of this pass
    int64_t tick_at, pass_at;
    uint32_t idle_passes;
    uint64_t found[CYCLES], last[CYCLES], told[CYCLES]; // signatures
    uint32_t found_count, last_count, told_count;
} state;

static uint32_t slot_of(uint64_t id)
{
    return (uint32_t)(id * 0x9E3779B97F4A7C15ULL >> 52);
}

static struct edge *edge_of(uint64_t waiter)
{
    for (uint32_t i = slot_of(waiter);; i = (i + 1) % EDGES)
        if (!edges[i].waiter || edges[i].waiter == waiter)
            return &edges[i];
}

FIB_LOOKS static void look_at(struct g *g, uint64_t id)
{
    if (atomic_load_explicit(&g->status, memory_order_acquire) != G_WAITING || !id)
        return;
    struct live *l = g_live(g);
    if (!l || !l->wait_owner || l->wait_reason == WAIT_JOIN)
        return;
    struct edge e = {.waiter = id, .g = g, .object = l->wait_object, .since = l->wait_since_ticks};
    e.owner = owner_read(l->wait_owner);
    if (!e.owner || e.owner == id || edge_count >= EDGES_FULL)
        return;
    if (atomic_load_explicit(&g->status, memory_order_acquire) != G_WAITING ||
        l->wait_since_ticks != e.since)
        return;
    struct edge *to = edge_of(id);
    edge_count += !to->waiter;
    *to = e;
}

static void print_id(struct print *p, uint64_t id)
{
    if (id >> 63)
        print_format(p, "thread %u", id & 0xffffffff);
    else
        print_format(p, "goroutine %u", id);
}

static void tell(const struct edge *first)
{
    struct print p = {.fd = 2};
    uint32_t n = 0;
    const struct edge *e = first;
    do
        n++;
    while ((e = edge_of(e->owner)) != first);
    dump_lock();
    print_format(&p, "fiberscope-rt: partial deadlock: %u wait for each other for ever\n",
                 (uint64_t)n);
    do {
        print_text(&p, "\t");
        print_id(&p, e->waiter);
        const char *name = e->waiter >> 63 ? "" : g_name(e->g);
        if (*name) {
            print_text(&p, " (\"");
            print_name(&p, name, NAME_SIZE);
            print_text(&p, "\")");
        }
        print_format(&p, " waits for the lock at %x, which is held by ",
                     (uint64_t)(uintptr_t)e->object);
        print_id(&p, e->owner);
        print_text(&p, "\n");
    } while ((e = edge_of(e->owner)) != first);
    do {
        if (e->waiter >> 63)
            continue; // its registers are in the kernel
        print_text(&p, "\n");
        print_g(&p, e->g);
    } while ((e = edge_of(e->owner)) != first);
    print_text(&p, "\n");
    print_flush(&p);
    dump_unlock();
}

static bool has(const uint64_t *signatures, uint32_t count, uint64_t s)
{
    for (uint32_t i = 0; i < count && i < CYCLES; i++)
        if (signatures[i] == s)
            return true;
    return false;
}

static void note_cycle(const struct edge *first)
{
    uint64_t signature = 0;
    const struct edge *e = first;
    do
        signature += (e->waiter ^ e->since << 20) * 0x9E3779B97F4A7C15ULL;
    while ((e = edge_of(e->owner)) != first);
    if (state.found_count < CYCLES)
        state.found[state.found_count++] = signature;
    if (!has(state.last, state.last_count, signature) ||
        has(state.told, state.told_count, signature))
        return;
    state.told[state.told_count++ % CYCLES] = signature;
    tell(first);
}

static void end_pass(void)
{
    state.found_count = 0;
    for (uint32_t i = 0; edge_count && i < EDGES; i++) {
        struct edge *e = &edges[i];
        while (e->waiter && !e->visit) {
            e->visit = i + 1;
            e = edge_of(e->owner);
        }
        if (e->waiter && e->visit == i + 1 && edges[i].waiter)
            note_cycle(e);
        // Else: who owns it does not wait for a lock, or leads to what has been looked at.
    }
    memcpy(state.last, state.found, sizeof state.last);
    state.last_count = state.found_count;
    if (edge_count)
        memset(edges, 0, sizeof edges);
    edge_count = 0;
}

// True: the pass is over.
static bool go_on(uint32_t n)
{
    for (struct g *g; n; n--, state.next++) {
        pid_t tid = 0;
        g = state.is_on_threads ? thread_g_at(state.next, &tid) : g_at(state.next);
        if (!g && state.is_on_threads)
            return true;
        if (!g) {
            state.is_on_threads = true;
            state.next = UINT32_MAX; // becomes 0
            continue;
        }
        look_at(g, state.is_on_threads ? (tid ? (uint64_t)tid | (uint64_t)1 << 63 : 0)
                                       : atomic_load_explicit(&g->id, memory_order_relaxed));
    }
    return false;
}

bool partial_tick(int64_t now_ns, bool is_idle)
{
    if (!is_idle)
        state.idle_passes = 0;
    if (now_ns - state.tick_at < (is_idle ? IDLE_TICK_NS : TICK_NS))
        return state.idle_passes < 3;
    state.tick_at = now_ns;
    if (!state.is_passing) {
        if (now_ns - state.pass_at < PASS_NS)
            return state.idle_passes < 3;
        state.is_passing = true;
        state.is_on_threads = false;
        state.next = 0;
        state.pass_at = now_ns;
    }
    if (go_on(is_idle ? PER_IDLE_TICK : PER_TICK)) {
        end_pass();
        state.is_passing = false;
        state.idle_passes += is_idle;
    }
    return state.idle_passes < 3; // one may have begun before all were idle
}
