// SPDX-License-Identifier: MIT
//
// An allocator of the program's own, in which threads are all the time: who attaches to it finds calls on their way. Says
// "ready PID", waits for a line, lets each thread allocate so often at `counted`, and prints "truth NAME OBJECTS".

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define KEEP __attribute__((noinline))

enum { THREADS = 8, EACH = 20, ARENA_BYTES = 64 << 20, SLOW_BYTES = 77, SLOW_NS = 500000 };

static char arena[ARENA_BYTES];
static _Atomic size_t used;
static atomic_bool may_go;
static _Atomic uint64_t sink;

KEEP void *malloc(size_t bytes)
{
    struct timespec t = {.tv_nsec = SLOW_NS};
    if (bytes == SLOW_BYTES)
        nanosleep(&t, NULL);
    size_t at = atomic_fetch_add(&used, (bytes + 31) & ~(size_t)15);
    if (at + bytes + 16 > sizeof arena)
        _exit(3);
    memcpy(arena + at, &bytes, sizeof bytes);
    return arena + at + 16;
}

KEEP void free(void *p)
{
    sink += p != NULL;
}

KEEP void *calloc(size_t n, size_t bytes)
{
    return malloc(n * bytes); // of memory that was never used
}

KEEP void *realloc(void *old, size_t bytes)
{
    size_t was = 0;
    char *p = malloc(bytes);
    if (old)
        memcpy(&was, (char *)old - 16, sizeof was);
    return old ? memcpy(p, old, was < bytes ? was : bytes) : p;
}

KEEP static void before(void)
{
    free(malloc(SLOW_BYTES));
    sink++;
}

KEEP static void counted(void)
{
    free(malloc(SLOW_BYTES));
    sink += 2;
}

static void *allocate(void *arg)
{
    while (!may_go)
        before();
    for (int i = 0; i < EACH; i++)
        counted();
    return arg;
}

int main(void)
{
    char line[16];
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, allocate, NULL))
            return 2;
    printf("ready %d\n", (int)getpid());
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin))
        return 1;
    may_go = 1;
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    printf("truth counted %d\n", THREADS * EACH);
    fflush(stdout);
    return fgets(line, sizeof line, stdin) ? 0 : 1;
}
