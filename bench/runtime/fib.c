// SPDX-License-Identifier: MIT
//
// The benchmarks on fibers. Usage: runtime_fib CASE OPS, with FIB_MAXPROCS and FIB_STACK in the environment.

#include "bench/runtime/bench.h"
#include "fiberscope/fiber.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct bench_case *const tables[] = {
    switch_cases, chan_cases, sync_cases, timer_cases, memory_cases, skynet_cases, preempt_cases,
};

static const struct bench_case *chosen;
static long chosen_ops;

static void wakes_add(void *arg, const struct fib_metric *m)
{
    int64_t *wakes = arg;
    if (!strcmp(m->name, "/fib/threads/wakes:events"))
        *wakes = (int64_t)m->value;
}

int64_t measure_wakes(void)
{
    int64_t wakes = -1;
    fib_metrics_read(wakes_add, &wakes);
    return wakes;
}

static void start(void *arg)
{
    (void)arg;
    chosen->run(chosen_ops);
}

int main(int argc, char **argv)
{
    if (argc == 3)
        for (size_t t = 0; t < sizeof tables / sizeof *tables; t++)
            for (const struct bench_case *c = tables[t]; c->name; c++)
                if (!strcmp(c->name, argv[1]))
                    chosen = c;
    if (!chosen) {
        fprintf(stderr, "usage: runtime_fib CASE OPS\n");
        return 2;
    }
    chosen_ops = strtol(argv[2], NULL, 10);
    int rc = fib_main(start, NULL);
    measure_print();
    return rc ? 1 : 0;
}
