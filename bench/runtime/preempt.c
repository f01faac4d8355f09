// SPDX-License-Identifier: MIT
//
// What one forced preemption costs. Two fibers compute without end on one P, so that each turn of one ends by
// force and lets the other's go on. Each notes the time stamp as it loops. Where the other's note is younger than
// one's own last, the other has run in between, and what lies between its last note and now is the preempting
// signal, its handler, the switch to this thread, and the return from the handler there: one fiber out and
// one fiber in, as they see it: wall time, with the timer that woke sysmon and whatever else the machine did.
// preempt_self.c has the CPU time. OPS is how many gaps to take.

#include "bench/runtime/bench.h"
#include "fiberscope/fiber.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <x86intrin.h>

struct turns {
    _Atomic uint64_t note[2];
    _Atomic long count;
    long wanted;
    uint64_t *ticks;
    _Atomic uint64_t preempted; // by the runtime's count
};

static struct turns t;

static void compute(void *arg)
{
    int me = (int)(intptr_t)arg;
    uint64_t mine = __rdtsc();
    while (atomic_load_explicit(&t.count, memory_order_relaxed) < t.wanted) {
        uint64_t now = __rdtsc();
        uint64_t other = atomic_load_explicit(&t.note[!me], memory_order_relaxed);
        if (other > mine && now > other) {
            long i = atomic_fetch_add_explicit(&t.count, 1, memory_order_relaxed);
            if (i < t.wanted)
                t.ticks[i] = now - other;
        }
        mine = now;
        atomic_store_explicit(&t.note[me], now, memory_order_relaxed);
    }
    struct fib_info info = {.size = sizeof info};
    MUST(!fib_info_read(fib_self(), &info));
    atomic_fetch_add(&t.preempted, info.preempted);
}

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void run_preempt(long ops)
{
    struct fib f[2];
    t.wanted = ops;
    t.ticks = calloc((size_t)ops, sizeof *t.ticks);
    MUST(t.ticks);
    measure_begin();
    int64_t wall = clock_ns();
    uint64_t tsc = __rdtsc();
    for (uintptr_t i = 0; i < 2; i++)
        MUST(!fib_go(&f[i], compute, (void *)i));
    for (int i = 0; i < 2; i++)
        MUST(!fib_join(f[i]));
    wall = clock_ns() - wall;
    double tick_ns = (double)wall / (double)(__rdtsc() - tsc);
    measure_end(ops);
    qsort(t.ticks, (size_t)ops, sizeof *t.ticks, ascending);
    double sum = 0;
    for (long i = 0; i < ops; i++)
        sum += (double)t.ticks[i];
    measure_add("median_ns", (double)t.ticks[ops / 2] * tick_ns);
    measure_add("tenth_ns", (double)t.ticks[ops / 10] * tick_ns);
    measure_add("mean_ns", sum / (double)ops * tick_ns);
    measure_add("preempted", (double)t.preempted);
    free(t.ticks);
}

const struct bench_case preempt_cases[] = {
    {"preempt", run_preempt},
    {0},
};
