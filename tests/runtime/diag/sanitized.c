// SPDX-License-Identifier: MIT
//
// Fibers as a sanitizer sees them: sanitized fine must have no report, sanitized bad must have one.
//
// fine: frames with arrays are left by fib_exit, and their stacks used again; fibers wait deep in calls, move between
// threads, hand data on by channels, locks and joins.

#include "fiberscope/chan.h"
#include "fiberscope/fiber.h"
#include "fiberscope/sync.h"
#include "tests/runtime/check.h"

#include <stdatomic.h>
#include <string.h>

enum { FIBERS = 3000, AT_ONCE = 50 };

static struct fib_mutex mutex;
static uint64_t counted, shared;
static struct fib_chan *channel;

static __attribute__((noinline)) int deep(int depth, volatile char *above, bool ends)
{
    volatile char mine[64];
    mine[depth % 64] = (char)depth;
    if (depth == 20) {
        fib_yield();
        if (above[19] == 19 && ends)
            fib_exit(); // frames below stay as they are
        return 0;
    }
    return deep(depth + 1, mine, ends) + mine[depth % 64];
}

static void worker(void *arg)
{
    uint64_t *value = arg;
    fib_mutex_lock(&mutex);
    bool ends = counted++ % 3 == 0;
    fib_yield();
    fib_mutex_unlock(&mutex);
    fib_chan_send(channel, &value);
    volatile char nothing[64] = {0};
    deep(0, nothing, ends);
}

static void fine(void *arg)
{
    static uint64_t values[AT_ONCE];
    struct fib f[AT_ONCE];
    (void)arg;
    channel = fib_chan_new(sizeof(uint64_t *), 4);
    for (int round = 0; round < FIBERS / AT_ONCE; round++) {
        for (int i = 0; i < AT_ONCE; i++) {
            values[i] = (uint64_t)i;
            CHECK(!fib_go(&f[i], worker, &values[i]), "a fiber");
        }
        uint64_t sum = 0, *got;
        for (int i = 0; i < AT_ONCE; i++) {
            fib_chan_recv(channel, &got);
            sum += *got;
        }
        CHECK(sum == AT_ONCE * (AT_ONCE - 1) / 2, "%d", (int)sum);
        for (int i = 0; i < AT_ONCE; i++)
            fib_join(f[i]);
    }
    CHECK(counted == FIBERS, "%d", (int)counted);
    puts("fine");
}

static __attribute__((noinline)) void run_over(volatile int *array, int n)
{
    fib_yield();
    array[n] = 1;
}

// Both run at the same time; relaxed: nothing is passed on by it. But one that is preempted meanwhile, or begins
// where the other has ended, is ordered after it: so several pairs, one after the other.
enum { PAIRS = 50 };
static _Atomic int here;

static void racer(void *arg)
{
    atomic_fetch_add_explicit(&here, 1, memory_order_relaxed);
    while (atomic_load_explicit(&here, memory_order_relaxed) < 2)
        ;
    for (int i = 0; i < 100; i++)
        shared += (uint64_t)(uintptr_t)arg;
}

static void bad(void *arg)
{
    struct fib one, two;
    volatile int array[8];
    if (*(char *)arg == 'a') {
        run_over(array, 8);
        return;
    }
    for (int i = 0; i < PAIRS; i++) {
        atomic_store(&here, 0);
        CHECK(!fib_go(&one, racer, &one) && !fib_go(&two, racer, &two), "fibers");
        fib_join(one);
        fib_join(two);
    }
}

int main(int argc, char **argv)
{
    CHECK(argc == 2, "fine, address or thread");
    return fib_main(strcmp(argv[1], "fine") ? bad : fine, argv[1]);
}
