// SPDX-License-Identifier: MIT
//
// A target of deep stacks without frame pointers (it is built with -fomit-frame-pointer): recursion with
// frames of several sizes, qsort callbacks, signal handlers on the stack and on an alternate one, and
// C++ exceptions, each of them in main and in threads at once. Usage: frameless MS [pause]
// MS is the CPU time of each thread; with `pause` it says "ready", starts upon a line on stdin, and has
// no alternate stacks: from outside, what lies below a handler on one cannot be seen.

#include "tests/e2e/frameless.h"

#include <alloca.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { DEPTH = 60, SORTED = 700, THREADS = 3 };

static volatile uint64_t sink;
static bool has_alternate = true;

__attribute__((noinline)) void leaf_work(uint64_t rounds)
{
    uint64_t s = sink;
    for (uint64_t i = 0; i < rounds * 50; i++)
        s = s * 31 + i;
    sink = s;
}

__attribute__((noinline)) static void descend_small(unsigned depth);

// A frame of a size known only when it runs: its CFA cannot be the stack pointer plus a constant.
__attribute__((noinline)) static void descend_alloca(unsigned depth)
{
    volatile char *room = alloca(16 + (depth * 37) % 300);
    room[0] = (char)depth;
    descend_small(depth - 1);
    sink += (uint64_t)room[0];
}

__attribute__((noinline)) static void descend_large(unsigned depth)
{
    volatile uint64_t room[100];
    for (unsigned i = 0; i < 100; i += 9)
        room[i] = depth;
    descend_alloca(depth - 1);
    sink += room[9];
}

__attribute__((noinline)) static void descend_small(unsigned depth)
{
    if (depth < 3)
        leaf_work(200);
    else
        descend_large(depth - 1);
    sink++;
}

__attribute__((noinline)) static int compare_numbers(const void *a, const void *b)
{
    uint32_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    leaf_work(1);
    return x < y ? -1 : x > y;
}

__attribute__((noinline)) static void sort_numbers(void)
{
    uint32_t numbers[SORTED];
    for (uint32_t i = 0; i < SORTED; i++)
        numbers[i] = i * 2654435761u;
    qsort(numbers, SORTED, sizeof *numbers, compare_numbers);
    sink += numbers[7];
}

static void on_signal(int signo)
{
    (void)signo;
    descend_small(12);
}

__attribute__((noinline)) static void signal_self(int signo)
{
    raise(signo);
    sink++;
}

static uint64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

__attribute__((noinline)) static void everything(uint64_t ns)
{
    uint64_t end = cpu_ns() + ns;
    while (cpu_ns() < end) {
        for (int i = 0; i < 20; i++)
            descend_small(DEPTH);
        sort_numbers();
        for (int i = 0; i < 10; i++) {
            signal_self(SIGUSR1);
            signal_self(SIGUSR2);
        }
        throw_deep(DEPTH);
    }
    sink++;
}

static void *thread_main(void *arg)
{
    const uint64_t *ns = arg;
    stack_t alternate = {.ss_size = 65536};
    if (has_alternate) {
        alternate.ss_sp = malloc(alternate.ss_size);
        if (!alternate.ss_sp || sigaltstack(&alternate, NULL))
            abort();
    }
    everything(*ns);
    alternate.ss_flags = SS_DISABLE;
    sigaltstack(&alternate, NULL);
    free(alternate.ss_sp);
    return NULL;
}

int main(int argc, char **argv)
{
    uint64_t ns = argc > 1 ? strtoull(argv[1], NULL, 10) * 1000000 : 0;
    struct sigaction sa = {.sa_handler = on_signal};
    sigaction(SIGUSR1, &sa, NULL);
    sa.sa_flags = SA_ONSTACK;
    sigaction(SIGUSR2, &sa, NULL);
    if (argc > 2) {
        has_alternate = false;
        puts("ready");
        fflush(stdout);
        if (getchar() == EOF)
            return 0;
    }
    pthread_t ids[THREADS];
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&ids[i], NULL, thread_main, &ns))
            return 1;
    everything(ns);
    for (int i = 0; i < THREADS; i++)
        pthread_join(ids[i], NULL);
    return 0;
}
