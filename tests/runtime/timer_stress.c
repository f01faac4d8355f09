// SPDX-License-Identifier: MIT
//
// Timers are started, started anew, reset and stopped at about the time when they fire, by fibers on all Ps and by plain
// threads, among others that sleep and wait with limits: each start is either called off, and the
// caller told so, or fires once; nobody wakes early; nothing is lost.
//
//     timer_stress [MILLISECONDS [SEED [PROCS]]]

#include "fiberscope/fiber.h"
#include "tests/runtime/check.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { FIBERS = 16, THREADS = 2, SLEEPERS = 300, TIMERS = 6, US = 1000, MS = 1000 * US };

struct owner {
    struct fib_timer timers[TIMERS];
    uint64_t random;
    int64_t starts, called_off;
    _Atomic int64_t fired;
};

static struct owner owners[FIBERS + THREADS];
static _Atomic bool is_over;
static _Atomic int64_t sleeps, timeouts;

static uint64_t draw(uint64_t *state, uint64_t below)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state % below;
}

static void fire(void *arg)
{
    struct owner *o = arg;
    o->fired++;
}

static void compute(int64_t ns)
{
    int64_t end = fib_now_ns() + ns;
    while (fib_now_ns() < end)
        ;
}

static void use_timer(struct owner *o)
{
    struct fib_timer *t = &o->timers[draw(&o->random, TIMERS)];
    int64_t ns = (int64_t)draw(&o->random, 60 * US);
    switch (draw(&o->random, 4)) {
    case 0:
    case 1:
        o->called_off += fib_timer_start(t, ns, 0, fire, o);
        o->starts++;
        break;
    case 2: o->called_off += fib_timer_stop(t); break;
    default: // one that has been started before
        o->called_off += fib_timer_reset(&o->timers[0], ns);
        o->starts++;
    }
}

static void wait_a_little(struct owner *o)
{
    int64_t ns = (int64_t)draw(&o->random, 40 * US), before = fib_now_ns();
    switch (draw(&o->random, 3)) {
    case 0: compute(ns); break;
    case 1:
        fib_sleep(ns);
        CHECK(fib_now_ns() - before >= ns);
        break;
    default: fib_yield();
    }
}

static void use_timers(struct owner *o)
{
    o->called_off += fib_timer_start(&o->timers[0], 0, 0, fire, o);
    o->starts++;
    while (!is_over) {
        use_timer(o);
        wait_a_little(o);
    }
    for (int i = 0; i < TIMERS; i++)
        o->called_off += fib_timer_stop(&o->timers[i]);
}

static void owner_fiber(void *arg)
{
    use_timers(arg);
}

static void *owner_thread(void *arg)
{
    use_timers(arg);
    return NULL;
}

static void sleeper(void *arg)
{
    uint64_t random = (uintptr_t)arg;
    while (!is_over) {
        int64_t ns = (int64_t)draw(&random, 2 * MS), before = fib_now_ns();
        fib_sleep(ns);
        CHECK(fib_now_ns() - before >= ns, "a sleep of %ld ns lasted %ld", (long)ns,
              (long)(fib_now_ns() - before));
        sleeps++;
    }
}

// Limits lie on the waiter's stack, each at the place of the last one.
static void limited(void *arg)
{
    uint64_t random = (uintptr_t)arg;
    while (!is_over) {
        struct fib f;
        CHECK(!fib_go(&f, sleeper, (void *)(uintptr_t)(1 + draw(&random, 1000))));
        for (int i = 0; i < 50 && !is_over; i++) {
            int64_t ns = (int64_t)draw(&random, 30 * US), before = fib_now_ns();
            int rc = fib_join_for(f, ns);
            CHECK(rc == 0 || (rc == -ETIMEDOUT && fib_now_ns() - before >= ns), "%d", rc);
            timeouts += rc != 0;
        }
    }
}

static int64_t run_ns;

static void run(void *arg)
{
    struct fib f[FIBERS];
    pthread_t t[THREADS];
    uint64_t seed = *(uint64_t *)arg;
    for (int i = 0; i < FIBERS + THREADS; i++)
        owners[i].random = seed * 7919 + (uint64_t)i + 1;
    for (int i = 0; i < FIBERS; i++)
        CHECK(!fib_go(&f[i], owner_fiber, &owners[i]));
    for (int i = 0; i < THREADS; i++)
        CHECK(!pthread_create(&t[i], NULL, owner_thread, &owners[FIBERS + i]));
    for (uintptr_t i = 0; i < SLEEPERS; i++)
        CHECK(!fib_go(NULL, sleeper, (void *)(seed + i + 1)));
    for (uintptr_t i = 0; i < 4; i++)
        CHECK(!fib_go(NULL, limited, (void *)(seed + i + 1)));
    fib_sleep(run_ns);
    is_over = true;
    for (int i = 0; i < FIBERS; i++)
        fib_join(f[i]);
    fib_blocking_enter();
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    fib_blocking_exit();
    int64_t starts = 0, called_off = 0;
    for (int i = 0; i < FIBERS + THREADS; i++) {
        struct owner *o = &owners[i];
        for (int k = 0; k < 2000 && o->starts != o->called_off + o->fired; k++)
            fib_sleep(MS); // what has fired is a fiber that may not have run yet
        CHECK(o->starts == o->called_off + o->fired, "%d: %ld starts, %ld called off, %ld fired", i,
              (long)o->starts, (long)o->called_off, (long)o->fired);
        starts += o->starts;
        called_off += o->called_off;
    }
    fib_sleep(5 * MS); // and no more than that
    for (int i = 0; i < FIBERS + THREADS; i++)
        CHECK(owners[i].starts == owners[i].called_off + owners[i].fired);
    CHECK(called_off && called_off < starts && sleeps && timeouts);
    printf("%ld starts, %ld called off, %ld sleeps, %ld limits reached\n", (long)starts,
           (long)called_off, (long)sleeps, (long)timeouts);
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    run_ns = (argc > 1 ? atol(argv[1]) : 1000) * (int64_t)MS;
    if (argc > 3)
        setenv("FIB_MAXPROCS", argv[3], 1);
    return fib_main(run, &seed);
}
