// SPDX-License-Identifier: MIT
//
// A program on fibers that counts in a file what its black box has to know after its death: the CPU time it burned, the
// objects it lost, those it grew by. Usage: blackbox_target FILE run|segv|grow

#include "fiberscope/chan.h"
#include "fiberscope/fiber.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { WAITERS = 3, LEAK_BYTES = 3000, GROW_BYTES = 1 << 20, ROUNDS_BEFORE_END = 40 };

static struct page {
    _Atomic uint64_t burned_ns, leaked, grown, rounds;
} * g_page;
static const char *g_how;
static struct fib_chan *g_never;
void *volatile g_kept;

static uint64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

__attribute__((noinline)) void burn_here(void)
{
    uint64_t start = cpu_ns(), now = start;
    while (now < start + 10000000) {
        for (volatile int i = 0; i < 20000; i++)
            ;
        uint64_t then = cpu_ns();
        g_page->burned_ns += then - now; // one writer
        now = then;
    }
}

__attribute__((noinline)) void leak_here(void)
{
    g_kept = malloc(LEAK_BYTES);
    g_page->leaked++;
}

__attribute__((noinline)) void return_here(void)
{
    g_kept = malloc(LEAK_BYTES);
    free(g_kept);
}

__attribute__((noinline)) void grow_here(void)
{
    char *p = malloc(GROW_BYTES);
    if (!p)
        abort();
    g_page->grown++;
    memset(p, 1, GROW_BYTES);
    g_kept = p;
}

__attribute__((noinline)) void crash_here(void)
{
    *(volatile int *)8 = 1;
}

static void waits_for_ever(void *arg)
{
    int n;
    (void)arg;
    fib_chan_recv(g_never, &n);
}

static void works(void *arg)
{
    (void)arg;
    for (;;) {
        burn_here();
        for (int i = 0; i < 5; i++) {
            leak_here();
            return_here();
        }
        if (++g_page->rounds > ROUNDS_BEFORE_END && !strcmp(g_how, "segv"))
            crash_here();
        if (g_page->rounds > ROUNDS_BEFORE_END && !strcmp(g_how, "grow"))
            for (;;)
                grow_here();
        fib_yield();
    }
}

static void start(void *arg)
{
    (void)arg;
    g_never = fib_chan_new(sizeof(int), 0);
    for (int i = 0; i < WAITERS; i++)
        fib_go(NULL, waits_for_ever, NULL);
    fib_go(NULL, works, NULL);
    waits_for_ever(NULL);
}

int main(int argc, char **argv)
{
    FILE *f = argc == 3 ? fopen(argv[1], "w+e") : NULL;
    if (!f || ftruncate(fileno(f), sizeof *g_page))
        return 2;
    g_page = mmap(NULL, sizeof *g_page, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(f), 0);
    if (g_page == MAP_FAILED)
        return 2;
    g_how = argv[2];
    return fib_main(start, NULL);
}
