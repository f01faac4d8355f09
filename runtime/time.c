// SPDX-License-Identifier: MIT
//
// Time: ticks of the time stamp counter where it can be trusted, for what is measured at each switch;
// CLOCK_MONOTONIC for what others see.

#include "runtime/core.h"
#include "runtime/os/os.h"

#include <time.h>

static struct {
    uint64_t ticks;
    int64_t ns;
    _Atomic uint64_t ns_per_tick_32; // times 2^32
    _Atomic uint64_t rescale_at;
    _Atomic uint64_t ticks_per_ns_32; // times 2^32
    _Atomic uint64_t anchor_ticks;    // and when that was; renewed by sysmon
    _Atomic int64_t anchor_ns;
} base;

bool ticks_are_tsc;
static _Atomic uint64_t
    soon_ticks; // how long clock_soon may do without the clock; 0: not yet known
static _Atomic int64_t seed_clock = 1000000000;

// Both at one moment: this thread may lose its processor between the two, so whoever came through quickly
// counts. The ticks are the earlier ones.
static void read_both(uint64_t *ticks, int64_t *ns)
{
    enum { TRIES = 8, QUICK_TICKS = 2000 };
    for (int i = 0; i < TRIES; i++) {
        *ticks = ticks_now();
        *ns = os_clock_ns();
        if (ticks_now() - *ticks < QUICK_TICKS)
            return;
    }
}

void clock_init(void)
{
    ticks_are_tsc = arch_tsc_is_invariant();
    read_both(&base.ticks, &base.ns);
    while (os_clock_ns() - base.ns < 200000) // a first estimate: 0.2 ms, good to 1e-3
        arch_pause();
    ticks_to_ns(0);
    clock_anchor();
}

uint64_t ticks_slow(void)
{
    return (uint64_t)os_clock_ns();
}

// The longer since the start, the better the estimate; renewed as that time doubles.
static __attribute__((noinline)) uint64_t rescale(void)
{
    enum { SOON_NS = 1000000, GOOD_NS = 10000000 };
    uint64_t ticks;
    int64_t ns;
    read_both(&ticks, &ns);
    ns -= base.ns;
    ticks -= base.ticks;
    uint64_t s = ticks ? (uint64_t)(((unsigned __int128)ns << 32) / ticks) : (uint64_t)1 << 32;
    atomic_store_explicit(&base.ns_per_tick_32, s, memory_order_relaxed);
    if (ns > 0)
        atomic_store_explicit(&base.ticks_per_ns_32,
                              (uint64_t)(((unsigned __int128)ticks << 32) / (uint64_t)ns),
                              memory_order_relaxed);
    atomic_store_explicit(&base.rescale_at, base.ticks + 2 * ticks, memory_order_relaxed);
    if (ns >= GOOD_NS && ticks_are_tsc)
        atomic_store_explicit(&soon_ticks, ns_to_ticks(SOON_NS), memory_order_relaxed);
    return s;
}

uint64_t ticks_to_ns(uint64_t ticks)
{
    uint64_t s = atomic_load_explicit(&base.ns_per_tick_32, memory_order_relaxed);
    uint64_t now = ticks_now();
    if (now >= atomic_load_explicit(&base.rescale_at, memory_order_relaxed))
        s = rescale();
    return (uint64_t)(((unsigned __int128)ticks * s) >> 32);
}

uint64_t ns_to_ticks(int64_t ns)
{
    uint64_t r = atomic_load_explicit(&base.ticks_per_ns_32, memory_order_relaxed);
    return ns <= 0 ? 0 : (uint64_t)(((unsigned __int128)ns * r) >> 32);
}

uint64_t ticks_at(int64_t ns)
{
    int64_t anchor_ns = atomic_load_explicit(&base.anchor_ns, memory_order_relaxed);
    uint64_t anchor = atomic_load_explicit(&base.anchor_ticks, memory_order_relaxed);
    return ns >= anchor_ns ? anchor + ns_to_ticks(ns - anchor_ns)
                           : anchor - ns_to_ticks(anchor_ns - ns);
}

// The two are written one by one: between two anchors, a tick apart, the difference is that of the clocks' rates.
void clock_anchor(void)
{
    uint64_t ticks;
    int64_t ns;
    read_both(&ticks, &ns);
    atomic_store_explicit(&base.anchor_ticks, ticks, memory_order_relaxed);
    atomic_store_explicit(&base.anchor_ns, ns, memory_order_relaxed);
}

int64_t clock_now(void)
{
    if (__builtin_expect(sched_is_seeded, 0))
        return atomic_load_explicit(&seed_clock, memory_order_relaxed);
    return os_clock_ns();
}

// The clock, read at most a millisecond ago, and the ticks since: a five-hundredth more, as the clock may be slewed by
// one in 2,000 and the rate is known to 1e-4.
int64_t clock_soon(void)
{
    struct m *m = this_m();
    if (__builtin_expect(!m || sched_is_seeded, 0))
        return clock_now();
    uint64_t ticks = ticks_now() - m->clock_ticks;
    if (ticks < atomic_load_explicit(&soon_ticks, memory_order_relaxed)) {
        uint64_t ns =
            (ticks * (atomic_load_explicit(&base.ns_per_tick_32, memory_order_relaxed) >> 12)) >>
            20;
        return m->clock_ns + (int64_t)(ns + (ns >> 9) + 1);
    }
    ticks_to_ns(0); // the rate may have to be renewed
    read_both(&m->clock_ticks, &m->clock_ns);
    return m->clock_ns;
}

FIB_PUBLIC int64_t fib_now_ns(void)
{
    return clock_now();
}

bool seed_clock_advance(void)
{
    int64_t first = timers_first();
    if (first == INT64_MAX)
        return false;
    if (first > atomic_load_explicit(&seed_clock, memory_order_relaxed))
        atomic_store_explicit(&seed_clock, first, memory_order_relaxed);
    return true;
}

const void *ticks_scale(void)
{
    return &base.ns_per_tick_32;
}
