// SPDX-License-Identifier: MIT
//
// A target for `fiberscope top -p`: what it does is split 60 : 30 : 10 over three functions, for ever, in steps of a
// hundredth of a second, so that any window of some seconds shows the split.
//
//   top_target cpu [SECONDS]   CPU time of light, middle and heavy, each below work
//   top_target heap            bytes that each allocates and frees again, but for heavy, which keeps a tenth
//   top_target block           time that each waits for a lock which another thread has for so long
//   top_target phases          heavy alone for 2 s of CPU time, then light alone

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static volatile uint64_t sink;
static uint64_t deadline_ns = UINT64_MAX;

static uint64_t now_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

// All of it in the function itself: an inlined one would be a frame of its own.
#define BURNER(name)                                                                               \
    __attribute__((noinline)) static void name(uint64_t ns)                                        \
    {                                                                                              \
        uint64_t end = now_ns(CLOCK_THREAD_CPUTIME_ID) + ns;                                       \
        while (now_ns(CLOCK_THREAD_CPUTIME_ID) < end)                                              \
            for (int i = 0; i < 100000; i++)                                                       \
                sink = sink * 31 + (uint64_t)i + __LINE__;                                         \
        sink++;                                                                                    \
    }
BURNER(heavy)
BURNER(middle)
BURNER(light)

__attribute__((noinline)) static void work(void)
{
    heavy(6000000);
    middle(3000000);
    light(1000000);
    sink++;
}

static void run_cpu(void)
{
    while (now_ns(CLOCK_MONOTONIC) < deadline_ns)
        work();
}

static void run_phases(void)
{
    for (int i = 0; i < 333; i++)
        heavy(6000000);
    for (;;)
        light(1000000);
}

// --- The heap.

#define ALLOCATOR(name)                                                                            \
    __attribute__((noinline)) static void *name(size_t size)                                       \
    {                                                                                              \
        void *p = malloc(size);                                                                    \
        memset(p, __LINE__, size);                                                                 \
        return p;                                                                                  \
    }
ALLOCATOR(heavy_alloc)
ALLOCATOR(middle_alloc)
ALLOCATOR(light_alloc)

static void run_heap(void)
{
    for (int i = 0;; i++) {
        void *a = heavy_alloc(60000), *b = middle_alloc(30000), *c = light_alloc(10000);
        if (i % 10)
            free(a);
        free(b);
        free(c);
        usleep(1000);
    }
}

// --- Locks. The holder says when it has the lock, and keeps it until the time is over.

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t barrier;
static volatile uint64_t hold_ns;

static void *hold(void *unused)
{
    for (;;) {
        pthread_mutex_lock(&lock);
        pthread_barrier_wait(&barrier);
        struct timespec t = {0, (long)hold_ns};
        nanosleep(&t, NULL);
        pthread_mutex_unlock(&lock);
        pthread_barrier_wait(&barrier);
    }
    return unused;
}

#define WAITER(name)                                                                               \
    __attribute__((noinline)) static void name(uint64_t ns)                                        \
    {                                                                                              \
        hold_ns = ns;                                                                              \
        pthread_barrier_wait(&barrier);                                                            \
        pthread_mutex_lock(&lock);                                                                 \
        sink += __LINE__;                                                                          \
        pthread_mutex_unlock(&lock);                                                               \
        pthread_barrier_wait(&barrier);                                                            \
        sink++;                                                                                    \
    }
WAITER(heavy_wait)
WAITER(middle_wait)
WAITER(light_wait)

static void run_block(void)
{
    pthread_t thread;
    pthread_barrier_init(&barrier, NULL, 2);
    hold_ns = 60000000;
    pthread_create(&thread, NULL, hold, NULL);
    for (;;) {
        heavy_wait(60000000);
        middle_wait(30000000);
        light_wait(10000000);
    }
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    if (argc > 2)
        deadline_ns = now_ns(CLOCK_MONOTONIC) + strtoull(argv[2], NULL, 10) * 1000000000;
    puts("ready");
    fflush(stdout);
    if (!strcmp(what, "cpu"))
        run_cpu();
    else if (!strcmp(what, "heap"))
        run_heap();
    else if (!strcmp(what, "block"))
        run_block();
    else if (!strcmp(what, "phases"))
        run_phases();
    return 0;
}
