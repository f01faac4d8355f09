// SPDX-License-Identifier: MIT
//
// What one event of a trace costs, against its floor: reading the TSC and storing 32 bytes. The event is one with a
// stack of DEPTH frames, written as the runtime writes its own: in a fiber's transition, 64 times in each.
// Usage: trace_event DEPTH; prints JSON, ns of CPU per event and per floor, which take turns.

#include "emit/emit.h"
#include "fiberscope/fiber.h"
#include "fiberscope/trace.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { TURNS = 20, BATCHES = 2000, BATCH = 64, RING = 4096 };

static struct {
    int depth;
    double event_ns, floor_ns;
    uint64_t events_before;
} bench;

static int64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

// A ring as large as what a buffer keeps in the cache, so that the floor's stores are not cheaper than they can be.
static void floor_turn(void)
{
    static _Alignas(64) uint64_t ring[RING];
    for (uint32_t i = 0; i < BATCHES * BATCH; i++) {
        volatile uint64_t *at = &ring[(i * 4) % RING];
        uint64_t now = __builtin_ia32_rdtsc();
        at[0] = now;
        at[1] = i;
        at[2] = now;
        at[3] = i;
    }
}

static inline __attribute__((always_inline)) void event_batch(void)
{
    struct emit_thread *t = emit_enter();
    if (!t)
        abort();
    for (int i = 0; i < BATCH; i++)
        emit_log(t, emit_ticks(), 0, 0, 0, emit_stack_here(t));
    emit_leave(t);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static inline __attribute__((always_inline)) void measure(void)
{
    double event[TURNS], floor[TURNS], n = (double)BATCHES * BATCH;
    for (int turn = 0; turn < TURNS; turn++) {
        int64_t start = cpu_ns();
        floor_turn();
        int64_t middle = cpu_ns();
        for (int i = 0; i < BATCHES; i++)
            event_batch();
        int64_t end = cpu_ns();
        floor[turn] = (double)(middle - start) / n;
        event[turn] = (double)(end - middle) / n;
    }
    qsort(event, TURNS, sizeof *event, compare);
    qsort(floor, TURNS, sizeof *floor, compare);
    bench.event_ns = event[TURNS / 2];
    bench.floor_ns = floor[TURNS / 2];
}

// The stack that is told: these, start. (What asks for it calls nothing but as its last deed, so it is none of them.)
static __attribute__((noinline)) void descend(int more)
{
    if (more > 1)
        descend(more - 1);
    else
        measure();
    __asm__ volatile("" ::: "memory"); // not a tail call
}

static void start(void *arg)
{
    (void)arg;
    if (bench.depth > 1)
        descend(bench.depth - 1);
    else
        measure();
    __asm__ volatile("" ::: "memory");
}

int main(int argc, char **argv)
{
    bench.depth = argc == 2 ? atoi(argv[1]) : 0;
    if (bench.depth < 2) {
        fprintf(stderr, "usage: trace_event DEPTH (2 or more)\n");
        return 2;
    }
    struct fscope_trace_options o = {.size = sizeof o, .is_flight = 1};
    int rc = fscope_trace_start(&o);
    if (rc && rc != -EALREADY) {
        fprintf(stderr, "trace_event: fscope_trace_start: %d\n", rc);
        return 1;
    }
    if (fib_main(start, NULL))
        return 1;
    printf("{\"event_ns\": %.3f, \"floor_ns\": %.3f}\n", bench.event_ns, bench.floor_ns);
    return 0;
}
