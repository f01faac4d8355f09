// SPDX-License-Identifier: MIT
//
// Switching and spawning.

#include "bench/runtime/bench.h"
#include "fiberscope/fiber.h"
#include "fiberscope/sync.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

// Two fibers that yield to each other; an op is one yield.
static void yielder(void *arg)
{
    for (long n = *(long *)arg; n > 0; n--)
        fib_yield();
}

static void run_yield(long ops)
{
    long each = ops / 2;
    struct fib f[2];
    measure_begin();
    for (int i = 0; i < 2; i++)
        MUST(!fib_go(&f[i], yielder, &each));
    for (int i = 0; i < 2; i++)
        MUST(!fib_join(f[i]));
    measure_end(2 * each);
}

static _Atomic long ran;

static void count(void *arg)
{
    (void)arg;
    atomic_fetch_add_explicit(&ran, 1, memory_order_relaxed);
}

// One after the other: start, join.
static void run_spawn_sequential(long ops)
{
    measure_begin();
    for (long i = 0; i < ops; i++) {
        struct fib f;
        MUST(!fib_go(&f, count, NULL));
        MUST(!fib_join(f));
    }
    measure_end(ops);
    MUST(ran == ops);
}

// All started, then all joined.
static void batch_join(long ops, struct fib *f)
{
    for (long i = 0; i < ops; i++)
        MUST(!fib_go(&f[i], count, NULL));
    for (long i = 0; i < ops; i++)
        MUST(!fib_join(f[i]));
}

static void run_spawn_batch(long ops)
{
    struct fib *f = malloc((size_t)ops * sizeof *f);
    MUST(f);
    measure_begin();
    batch_join(ops, f);
    measure_end(ops);
    MUST(ran == ops);
    free(f);
}

// The same for the second time, when memory has been had from the kernel.
static void run_spawn_batch_again(long ops)
{
    struct fib *f = malloc((size_t)ops * sizeof *f);
    MUST(f);
    batch_join(ops, f);
    measure_begin();
    batch_join(ops, f);
    measure_end(ops);
    MUST(ran == 2 * ops);
    free(f);
}

// The floor of spawning cold: the kernel's work for the fresh memory of so many identities and handles, a byte written
// to each page.
static void run_pages(long ops)
{
    enum { PAGE = 4096, BYTES = 96 + sizeof(struct fib) };
    size_t size = (size_t)ops * BYTES;
    char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(p != MAP_FAILED);
    measure_begin();
    for (size_t i = 0; i < size; i += PAGE)
        p[i] = 1;
    measure_end(ops);
    munmap(p, size);
}

// With a wait group in place of a million joins, as the Go program does it.
static struct fib_waitgroup group;

static void count_in_group(void *arg)
{
    count(arg);
    fib_waitgroup_done(&group);
}

static void run_spawn_group(long ops)
{
    measure_begin();
    fib_waitgroup_add(&group, (int32_t)ops);
    for (long i = 0; i < ops; i++)
        MUST(!fib_go(NULL, count_in_group, NULL));
    fib_waitgroup_wait(&group);
    measure_end(ops);
    MUST(ran == ops);
}

const struct bench_case switch_cases[] = {
    {"yield", run_yield},
    {"spawn_sequential", run_spawn_sequential},
    {"spawn_batch", run_spawn_batch},
    {"spawn_batch_again", run_spawn_batch_again},
    {"spawn_group", run_spawn_group},
    {"pages", run_pages},
    {0},
};
