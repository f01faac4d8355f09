// SPDX-License-Identifier: MIT
//
// The clock of events: ticks, and units in each generation.

#include "emit/internal.h"

#include <cpuid.h>
#include <time.h>

enum { SECOND = 1000000000 };

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec ts = {0};
    clock_gettime(clock, &ts);
    return (uint64_t)ts.tv_sec * SECOND + (uint64_t)ts.tv_nsec;
}

uint64_t emit_now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

static bool is_tsc_invariant(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(0x80000007, &a, &b, &c, &d) && (d & (1u << 8));
}

uint64_t emit_ticks(void)
{
    static _Atomic uint8_t known; // 1: TSC, 2: not
    uint8_t k = atomic_load_explicit(&known, memory_order_relaxed);
    if (__builtin_expect(!k, 0)) {
        k = is_tsc_invariant() ? 1 : 2;
        atomic_store_explicit(&known, k, memory_order_relaxed);
    }
    return k == 1 ? __builtin_ia32_rdtsc() : emit_now_ns();
}

// Both clocks at one moment: of several readings the one that took least.
struct emit_moment emit_now_of_both(void)
{
    struct emit_moment best = {0};
    uint64_t least = UINT64_MAX;
    for (int i = 0; i < 5; i++) {
        uint64_t before = emit_ticks();
        uint64_t ns = emit_now_ns();
        uint64_t after = emit_ticks();
        if (after - before < least) {
            least = after - before;
            best = (struct emit_moment){before + (after - before) / 2, ns};
        }
    }
    return best;
}

// Units per tick, times 2^64, as measured since the first start.
static uint64_t scale_at(struct emit_moment now)
{
    uint64_t ticks = now.ticks - emit.base_ticks, ns = now.ns - emit.base_ns;
    if (!ticks)
        return (UINT64_C(1) << 58);
    return (uint64_t)(((unsigned __int128)ns << 58) / ticks);
}

// The clock of a coming generation goes on where the one before is now, and is steered so that a second later
// it shows CLOCK_MONOTONIC again; by a hundredth at most. It never goes back.
void emit_set_clock(uint64_t generation, bool is_first)
{
    struct emit_moment now = emit_now_of_both();
    struct emit_clock *c = &emit.clocks[generation & 1];
    uint64_t scale = scale_at(now), truth = now.ns / 64;
    atomic_store_explicit(&emit.claimed, 0, memory_order_relaxed);
    c->ticks = now.ticks;
    if (is_first) {
        c->units = truth;
        c->scale = scale;
    } else {
        c->units = emit_units(generation - 1, now.ticks);
        int64_t behind = (int64_t)(truth - c->units); // units
        int64_t limit = SECOND / 64 / 100;
        behind = behind > limit ? limit : behind < -limit ? -limit : behind;
        c->scale =
            (uint64_t)((unsigned __int128)scale * (uint64_t)(SECOND / 64 + behind) / (SECOND / 64));
    }
    emit.generation_began = now.ns;
    struct seg_trace_clock *out = &emit.trace->clocks[generation % SEG_TRACE_CLOCKS];
    out->units = c->units;
    out->mono_ns = now.ns;
    out->real_ns = clock_ns(CLOCK_REALTIME);
    atomic_store_explicit(&out->generation, generation, memory_order_release);
}
