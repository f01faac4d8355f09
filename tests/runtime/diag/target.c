// SPDX-License-Identifier: MIT
//
// What the diagnosis is tried on: target MODE. Functions with names that the tests know, in known states.

#include "fiberscope/fiber.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef __clang__
#define STAYS static __attribute__((noinline))
#else
#define STAYS static __attribute__((noinline, noclone))
#endif

static struct fib first, second;
static _Atomic int step;

STAYS void inner_wait(struct fib *other)
{
    fib_join(*other);
    atomic_fetch_add(&step, 1);
}

static _Atomic bool are_both_there;

STAYS void first_waiter(void *arg)
{
    fib_set_name("number one");
    while (!atomic_load(&are_both_there)) // else it might join one that is not there yet
        fib_yield();
    inner_wait(arg);
    atomic_fetch_add(&step, 1);
}

STAYS void second_waiter(void *arg)
{
    inner_wait(arg);
    atomic_fetch_add(&step, 1);
}

STAYS void start_both(void)
{
    if (fib_go(&first, first_waiter, &second) || fib_go(&second, second_waiter, &first))
        abort();
    atomic_store(&are_both_there, true);
}

STAYS void main_of_deadlock(void *arg)
{
    (void)arg;
    start_both();
    fib_join(first);
}

static void *other_thread(void *arg)
{
    usleep(300000);
    fputs(arg, stderr);
    return NULL;
}

static void *thread_for_ever(void *arg)
{
    for (;;)
        pause();
    return arg;
}

// --- Running and sleeping.

static volatile uint64_t sink;

STAYS void busy_loop(int64_t ns)
{
    for (int64_t end = fib_now_ns() + ns; fib_now_ns() < end;)
        for (int i = 0; i < 1000; i++)
            sink++;
}

STAYS void busy_fiber(void *arg)
{
    busy_loop(*(int64_t *)arg);
}

STAYS void sleeping_fiber(void *arg)
{
    (void)arg;
    fib_sleep(INT64_MAX);
    atomic_fetch_add(&step, 1);
}

STAYS void blocked_fiber(void *arg)
{
    (void)arg;
    fib_blocking_enter();
    sleep(100);
    fib_blocking_exit();
}

static int64_t long_time = 100000000000;

STAYS void main_of_dump(void *arg)
{
    struct fib f;
    if (fib_go(&f, sleeping_fiber, NULL) || fib_go(&f, busy_fiber, &long_time) ||
        fib_go(&f, blocked_fiber, NULL))
        abort();
    fib_sleep(100000000);
    if (arg)
        kill(getpid(), SIGQUIT);
    else
        fib_dump(1);
    fib_sleep(arg ? long_time : 0);
}

STAYS void main_of_ready(void *arg)
{
    (void)arg;
    struct fib f;
    if (fib_go(&f, sleeping_fiber, NULL) || fib_go(&f, busy_fiber, &long_time) ||
        fib_go(&f, blocked_fiber, NULL))
        abort();
    fib_sleep(100000000);
    start_both();
    fib_sleep(10000000);
    puts("ready");
    fflush(stdout);
    fib_sleep(long_time);
}

STAYS void main_of_two_busy(void *arg)
{
    struct fib f;
    if (fib_go(&f, busy_fiber, arg) || fib_go(&f, busy_fiber, arg))
        abort();
    fib_sleep(100000000);
    puts("ready");
    fflush(stdout);
    fib_sleep(long_time);
}

STAYS void yielder(void *arg)
{
    for (int i = 0; i < *(int *)arg; i++) {
        fib_yield();
        atomic_fetch_add(&step, 1); // not the last thing it does: no jump
    }
}

STAYS void main_of_yield(void *arg)
{
    if (fib_go(&first, yielder, arg) || fib_go(&second, yielder, arg))
        abort();
    fib_join(first);
    fib_join(second);
    printf("%d\n", step);
}

// --- Overflow.

STAYS int recurse(int n)
{
    volatile char frame[512];
    frame[0] = (char)n;
    return n == 0 ? 0 : recurse(n + 1) + frame[0];
}

STAYS void overflowing_fiber(void *arg)
{
    (void)arg;
    sink = (uint64_t)recurse(1);
}

STAYS void main_of_overflow(void *arg)
{
    (void)arg;
    struct fib f;
    struct fib_go_options o = {.size = sizeof o, .name = "deep", .stack_bytes = 64 << 10};
    if (fib_go_with(&f, &o, overflowing_fiber, NULL))
        abort();
    fib_join(f);
}

STAYS void main_of_null(void *arg)
{
    *(volatile int *)arg = 1;
}

static void on_segv(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)context;
    static const char text[] = "the program's handler\n";
    if (!info->si_addr || write(2, text, sizeof text - 1) < 0)
        _exit(3);
    _exit(5);
}

// --- Leaks, stalls.

STAYS void leak_three(void)
{
    struct fib f;
    for (volatile int i = 0; i < 3; i = i + 1) // one call, however it is optimised
        if (fib_go(&f, sleeping_fiber, NULL))
            abort();
}

STAYS void main_of_leak(void *arg)
{
    (void)arg;
    struct fib f;
    leak_three();
    second = fib_self();
    atomic_store(&are_both_there, true);
    if (fib_go(&f, first_waiter, &second))
        abort();
    fib_sleep(20000000);
    printf("%u\n", fib_leakcheck(1));
}

STAYS void main_of_stall(void *arg)
{
    fib_set_name("greedy");
    busy_loop(*(int64_t *)arg);
}

STAYS void main_of_trace(void *arg)
{
    fib_sleep(*(int64_t *)arg);
}

static int run(const char *mode)
{
    static int few = 200, many = 8000000;
    static int64_t ms_900 = 900000000, ms_250 = 250000000;
    pthread_t t;
    if (!strcmp(mode, "deadlock"))
        return fib_main(main_of_deadlock, NULL);
    if (!strcmp(mode, "deadlock-thread-ends")) {
        pthread_create(&t, NULL, other_thread, (char *)"the thread ends\n");
        pthread_detach(t);
        return fib_main(main_of_deadlock, NULL);
    }
    if (!strcmp(mode, "deadlock-thread-stays")) {
        pthread_create(&t, NULL, thread_for_ever, NULL);
        return fib_main(main_of_deadlock, NULL);
    }
    if (!strcmp(mode, "dump"))
        return fib_main(main_of_dump, NULL);
    if (!strcmp(mode, "quit"))
        return fib_main(main_of_dump, &step);
    if (!strcmp(mode, "ready"))
        return fib_main(main_of_ready, NULL);
    if (!strcmp(mode, "two-busy"))
        return fib_main(main_of_two_busy, &long_time);
    if (!strcmp(mode, "yield"))
        return fib_main(main_of_yield, &few);
    if (!strcmp(mode, "yield-long"))
        return fib_main(main_of_yield, &many);
    if (!strcmp(mode, "overflow"))
        return fib_main(main_of_overflow, NULL);
    if (!strcmp(mode, "overflow-handler")) {
        struct sigaction sa = {.sa_sigaction = on_segv, .sa_flags = SA_SIGINFO | SA_ONSTACK};
        sigaction(SIGSEGV, &sa, NULL);
        return fib_main(main_of_overflow, NULL);
    }
    if (!strcmp(mode, "null"))
        return fib_main(main_of_null, NULL);
    if (!strcmp(mode, "leak"))
        return fib_main(main_of_leak, NULL);
    if (!strcmp(mode, "stall"))
        return fib_main(main_of_stall, &ms_900);
    if (!strcmp(mode, "trace"))
        return fib_main(main_of_trace, &ms_250);
    return 64;
}

int main(int argc, char **argv)
{
    return argc == 2 ? run(argv[1]) : 64;
}
