// SPDX-License-Identifier: MIT
//
// A program whose fibers all wait uses no CPU: under 1 ms in a second, by the kernel's count for the whole
// process, with timers far away, descriptors waited for and a fiber in a blocking call.
//
//     idle PROCS WINDOWS
//
// The best of the windows counts: a machine with other work on it charges us for its interrupts.

#include "fiberscope/chan.h"
#include "fiberscope/fiber.h"
#include "fiberscope/io.h"
#include "fiberscope/sync.h"
#include "tests/runtime/check.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { PARKED = 1000, US = 1000, MS = 1000 * US, SECOND = 1000 * MS, LIMIT = MS };

static struct fib_chan *never;
static struct fib_mutex held;
static struct fib_waitgroup busy;
static int pipes[2];
static _Atomic int parked = PARKED;

static void park(void *arg)
{
    (void)arg;
    fib_chan_recv(never, NULL);
    parked--;
}

static void sleep_long(void *arg)
{
    (void)arg;
    fib_sleep((int64_t)3600 * SECOND);
}

static void wait_for_bytes(void *arg)
{
    char byte;
    (void)arg;
    fib_read(pipes[0], &byte, 1);
}

static void wait_for_lock(void *arg)
{
    (void)arg;
    fib_mutex_lock(&held);
}

static void block(void *arg)
{
    (void)arg;
    fib_blocking_enter();
    for (;;)
        pause();
}

// Work before: threads that spin, wake each other, steal and are preempted must all come to rest.
static void work(void *arg)
{
    int64_t end = fib_now_ns() + *(int64_t *)arg;
    while (fib_now_ns() < end)
        fib_yield();
    fib_waitgroup_done(&busy);
}

static void start(fib_fn *fn, void *arg, int count)
{
    for (int i = 0; i < count; i++) {
        int rc = fib_go(NULL, fn, arg);
        CHECK(!rc, "%s", strerror(-rc));
    }
}

static int64_t cpu_ns(struct rusage *u)
{
    CHECK(!getrusage(RUSAGE_SELF, u));
    return (u->ru_utime.tv_sec + u->ru_stime.tv_sec) * (int64_t)SECOND +
           (u->ru_utime.tv_usec + u->ru_stime.tv_usec) * (int64_t)US;
}

static int64_t window(void)
{
    struct rusage before, after;
    int64_t ns = -cpu_ns(&before);
    struct timespec t = {.tv_sec = 1};
    clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
    ns += cpu_ns(&after);
    printf("%lld us of CPU, %ld sleeps in a second\n", (long long)ns / US,
           after.ru_nvcsw - before.ru_nvcsw);
    return ns;
}

int main(int argc, char **argv)
{
    CHECK(argc == 3, "idle PROCS WINDOWS");
    struct fib_options o = {.size = sizeof o, .procs = (uint32_t)strtoul(argv[1], NULL, 10)};
    CHECK(!fib_init(&o) && !pipe(pipes) && (never = fib_chan_new(0, 0)));
    fib_mutex_lock(&held);
    static struct fib_timer timer;
    fib_timer_start(&timer, (int64_t)7200 * SECOND, 0, park, NULL);
    int64_t busy_ns = 50 * MS;
    fib_waitgroup_add(&busy, 8);
    start(work, &busy_ns, 8);
    start(park, NULL, PARKED);
    start(sleep_long, NULL, 10);
    start(wait_for_bytes, NULL, 1);
    start(wait_for_lock, NULL, 10);
    start(block, NULL, 1);
    fib_waitgroup_wait(&busy);

    window(); // coming to rest takes a moment
    int64_t best = SECOND;
    for (long left = strtol(argv[2], NULL, 10); left && best >= LIMIT; left--) {
        int64_t ns = window();
        best = ns < best ? ns : best;
    }
    CHECK(best < LIMIT, "%lld us", (long long)best / US);
    // It was rest, and not death.
    fib_chan_close(never);
    int64_t end = fib_now_ns() + 10 * (int64_t)SECOND;
    while (parked)
        CHECK(fib_now_ns() < end && !nanosleep(&(struct timespec){.tv_nsec = MS}, NULL), "%d",
              parked);
    return 0;
}
