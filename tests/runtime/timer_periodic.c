// SPDX-License-Identifier: MIT
//
// A timer with a period runs until it is stopped: who stops or restarts it, also in the moment when it fires on
// another processor, is told that it ran, and it fires no more.
//
//     timer_periodic [MILLISECONDS [PROCS]]

#include "fiberscope/sync.h"
#include "tests/runtime/check.h"

#include <stdatomic.h>

enum { FIBERS = 6, MS = 1000000 };

static struct fib_waitgroup all;
static _Atomic uint64_t fired, stopped;
static int64_t end;

static void fire(void *arg)
{
    (void)arg;
    fired++;
}

static void owner(void *arg)
{
    struct fib_timer t = {0};
    for (uint32_t i = (uint32_t)(uintptr_t)arg; fib_now_ns() < end; i++) {
        CHECK(!fib_timer_start(&t, 0, 200, fire, NULL), "it ran before it was started");
        for (volatile uint32_t k = 0; k < i * 37 % 4000; k++)
            ;
        CHECK(i % 5 || fib_timer_reset(&t, 0), "a reset did not find it running");
        CHECK(fib_timer_stop(&t), "a stop did not find it running");
        stopped++;
        if (i % 64 == 0)
            fib_yield();
    }
}

static void run(void *arg)
{
    end = fib_now_ns() + *(const int64_t *)arg;
    for (uintptr_t i = 0; i < FIBERS; i++)
        CHECK(!fib_waitgroup_go(&all, owner, (void *)(i * 1000)));
    fib_waitgroup_wait(&all);
    // What has fired is a fiber that may not have run yet.
    uint64_t before, rounds = 0;
    do {
        before = fired;
        fib_sleep(20 * MS);
        CHECK(rounds++ < 250, "they still fire after all were stopped");
    } while (fired != before);
    // On one processor one fires only if its owner is preempted between start and stop.
    CHECK((before || fib_procs(0) == 1) && stopped);
    printf("%ld stopped, %ld fired\n", (long)stopped, (long)fired);
}

int main(int argc, char **argv)
{
    int64_t ns = (argc > 1 ? atol(argv[1]) : 1000) * (int64_t)MS;
    if (argc > 2)
        setenv("FIB_MAXPROCS", argv[2], 1);
    return fib_main(run, &ns);
}
