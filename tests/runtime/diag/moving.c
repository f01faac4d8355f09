// SPDX-License-Identifier: MIT
//
// Everything is looked at while it moves: fibers are spawned, wait, are preempted and end at full speed, and others dump
// them, walk their stacks, read their infos and metrics. Each stack that is given out has to begin in a function
// that fibers begin in.

#include "fiberscope/fiber.h"
#include "fiberscope/sync.h"
#include "tests/runtime/check.h"

#include <fcntl.h>
#include <stdatomic.h>

static _Atomic bool is_over;
static _Atomic uint64_t walked, spawned;
static struct fib_mutex mutex;

static __attribute__((noinline)) void leaf(void *arg)
{
    fib_mutex_lock(&mutex);
    fib_yield();
    fib_mutex_unlock(&mutex);
    if ((uintptr_t)arg % 7 == 0)
        fib_sleep(100000);
    if ((uintptr_t)arg % 64 == 0)
        for (int64_t end = fib_now_ns() + 2000000; fib_now_ns() < end;)
            ;
    atomic_fetch_add(&spawned, 1);
}

static __attribute__((noinline)) void spawner(void *arg)
{
    for (uintptr_t i = 1; !atomic_load(&is_over); i++) {
        struct fib f;
        CHECK(!fib_go(&f, leaf, (void *)i), "a fiber");
        if (i % 3 == 0)
            fib_join(f);
    }
    atomic_fetch_add((_Atomic int *)arg, 1);
}

static void looker(void *arg);

static bool is_in(uintptr_t pc, fib_fn *fn)
{
    return pc > (uintptr_t)fn && pc < (uintptr_t)fn + 1024;
}

static int look_at(void *arg, struct fib f)
{
    uintptr_t pcs[64];
    struct fib_info i = {.size = sizeof i};
    (void)arg;
    if (!fib_info_read(f, &i))
        CHECK(i.start == leaf || i.start == spawner || i.start == looker || i.creator == 0, "%lu",
              (unsigned long)i.id);
    int n = fib_stack(f, pcs, 64);
    if (n > 0) {
        uintptr_t last = pcs[n - 1];
        CHECK(i.creator == 0 || is_in(last, leaf) || is_in(last, spawner) || is_in(last, looker) ||
                  n <= 2, // about to begin or to end: the runtime's frames alone
              "%d frames, the last at %lx of fiber %lu", n, (unsigned long)last,
              (unsigned long)f.id);
        atomic_fetch_add(&walked, 1);
    }
    return 0;
}

static void no_metric(void *arg, const struct fib_metric *m)
{
    (void)arg, (void)m;
}

static __attribute__((noinline)) void looker(void *arg)
{
    int null = open("/dev/null", O_WRONLY);
    while (!atomic_load(&is_over)) {
        fib_each(look_at, NULL);
        fib_metrics_read(no_metric, NULL);
        fib_dump(null);
        fib_leakcheck(null);
        fib_yield();
    }
    atomic_fetch_add((_Atomic int *)arg, 1);
}

static void start(void *arg)
{
    static _Atomic int ended;
    struct fib f[5];
    (void)arg;
    for (int i = 0; i < 5; i++)
        CHECK(!fib_go(&f[i], i < 3 ? spawner : looker, &ended), "a fiber");
    fib_sleep(3000000000);
    atomic_store(&is_over, true);
    for (int i = 0; i < 5; i++)
        fib_join(f[i]);
    CHECK(ended == 5 && walked > 100 && spawned > 100, "%d, %lu stacks, %lu fibers", ended,
          (unsigned long)walked, (unsigned long)spawned);
    printf("%lu stacks of %lu fibers\n", (unsigned long)walked, (unsigned long)spawned);
}

int main(void)
{
    return fib_main(start, NULL);
}
