// SPDX-License-Identifier: MIT
//
// What a parked fiber takes: VmRSS + VmPTE of the process with OPS of them that wait on a channel, less
// what it was before, by their number. And how long it takes to make them wait, and to end them.

#include "bench/runtime/bench.h"
#include "fiberscope/chan.h"
#include "fiberscope/fiber.h"
#include "fiberscope/sync.h"

#include <stdatomic.h>

struct hall {
    struct fib_chan *gate;
    _Atomic long arrived;
    struct fib_waitgroup left;
};

static void wait_at_gate(void *arg)
{
    struct hall *h = arg;
    atomic_fetch_add(&h->arrived, 1);
    MUST(!fib_chan_recv(h->gate, NULL));
    fib_waitgroup_done(&h->left);
}

static void run_parked(long ops)
{
    static struct hall h;
    h.gate = fib_chan_new(0, 0);
    MUST(h.gate);
    fib_waitgroup_add(&h.left, (int32_t)ops);
    int64_t before = memory_bytes();
    measure_begin();
    int64_t started = clock_ns();
    for (long i = 0; i < ops; i++)
        MUST(!fib_go(NULL, wait_at_gate, &h));
    // With one processor who has arrived waits once we run again.
    while (atomic_load(&h.arrived) < ops)
        fib_yield();
    int64_t parked = clock_ns();
    int64_t after = memory_bytes();
    int64_t closed = clock_ns();
    fib_chan_close(h.gate);
    fib_waitgroup_wait(&h.left);
    int64_t ended = clock_ns();
    measure_end(ops);
    measure_add("bytes", (double)(after - before) / (double)ops);
    measure_add("park_ns", (double)(parked - started));
    measure_add("end_ns", (double)(ended - closed));
}

const struct bench_case memory_cases[] = {
    {"parked", run_parked},
    {0},
};
