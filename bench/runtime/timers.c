// SPDX-License-Identifier: MIT
//
// Timers that are stopped before they fire, as limits of requests are; and many that do fire.

#include "bench/runtime/bench.h"
#include "fiberscope/fiber.h"

#include <stdatomic.h>
#include <stdlib.h>

enum { TIMERS = 1024, STORM_FIBERS = 50000 };

static _Atomic long fired;

static void fire(void *arg)
{
    (void)arg;
    fired++;
}

// An op is start and stop, among 512 others that wait. None fires.
static void run_timers(long ops)
{
    static struct fib_timer timers[TIMERS];
    long stopped = 0;
    measure_begin();
    for (long i = 0; i < ops; i++) {
        fib_timer_start(&timers[i % TIMERS], (int64_t)(3600 + i % 7) * 1000000000, 0, fire, NULL);
        stopped += fib_timer_stop(&timers[(i + TIMERS / 2) % TIMERS]);
    }
    measure_end(ops);
    MUST(stopped == ops - TIMERS / 2 && fired == 0);
}

struct storm {
    long sleeps;
    _Atomic long early; // woke before its time: must not be
};

static void sleeper(void *arg)
{
    struct storm *s = arg;
    for (long i = 0; i < s->sleeps; i++) {
        int64_t before = fib_now_ns();
        fib_sleep(1000000);
        if (fib_now_ns() - before < 1000000)
            s->early++;
    }
}

// 50,000 fibers sleep 1 ms again and again: the timers come due faster than they can be handled. An op is a sleep.
static void run_sleep_storm(long ops)
{
    struct storm s = {.sleeps = ops / STORM_FIBERS};
    struct fib *f = malloc(STORM_FIBERS * sizeof *f);
    MUST(f && s.sleeps > 0);
    measure_begin();
    for (int i = 0; i < STORM_FIBERS; i++)
        MUST(!fib_go(&f[i], sleeper, &s));
    for (int i = 0; i < STORM_FIBERS; i++)
        MUST(!fib_join(f[i]));
    measure_end(s.sleeps * STORM_FIBERS);
    MUST(s.early == 0);
    free(f);
}

const struct bench_case timer_cases[] = {
    {"timers", run_timers},
    {"sleep_storm", run_sleep_storm},
    {0},
};
