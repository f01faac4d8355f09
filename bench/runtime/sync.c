// SPDX-License-Identifier: MIT
//
// Mutexes: free, and with 2 and 100 fibers.

#include "bench/runtime/bench.h"
#include "fiberscope/sync.h"

static struct fib_mutex mutex;
static long counter;

static void lock_loop(void *arg)
{
    for (long n = *(long *)arg; n > 0; n--) {
        fib_mutex_lock(&mutex);
        counter++;
        fib_mutex_unlock(&mutex);
    }
}

static void run_mutex(long ops)
{
    measure_begin();
    lock_loop(&ops);
    measure_end(ops);
    MUST(counter == ops);
}

static void run_many(long ops, int fibers)
{
    long each = ops / fibers;
    struct fib f[100];
    measure_begin();
    for (int i = 0; i < fibers; i++)
        MUST(!fib_go(&f[i], lock_loop, &each));
    for (int i = 0; i < fibers; i++)
        MUST(!fib_join(f[i]));
    measure_end(each * fibers);
    MUST(counter == each * fibers);
}

static void run_mutex2(long ops)
{
    run_many(ops, 2);
}

static void run_mutex100(long ops)
{
    run_many(ops, 100);
}

const struct bench_case sync_cases[] = {
    {"mutex", run_mutex},
    {"mutex2", run_mutex2},
    {"mutex100", run_mutex100},
    {0},
};
