// SPDX-License-Identifier: MIT
//
// The CPU benchmark's load: THREADS threads hash for a fixed amount of work, 34 calls deep over 512
// paths. The work is the same on every run, so CPU seconds compare. With a floor the threads interrupt
// themselves as cpu_floor.h says, with no profiler. Usage: cpu_load [ROUNDS [THREADS [FLOOR]]]

#include "bench/cpu_floor.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { DEPTH = 32, STEPS = 4000 };

static uint64_t rounds = 1500;
static bool has_floor;

static uint64_t hash(uint64_t h, unsigned path)
{
    for (unsigned i = 0; i < STEPS; i++) {
        h ^= h >> 33;
        h *= UINT64_C(0xff51afd7ed558ccd) + path;
    }
    return h;
}

__attribute__((noinline)) static uint64_t descend_left(uint64_t h, unsigned path, unsigned depth);

__attribute__((noinline)) static uint64_t descend_right(uint64_t h, unsigned path, unsigned depth)
{
    uint64_t r = depth == 0          ? hash(h, path)
                 : path >> depth & 1 ? descend_left(h, path, depth - 1)
                                     : descend_right(h, path, depth - 1);
    __asm__ volatile("" : "+r"(r)); // no tail call: the frame must stay
    return r + depth;
}

__attribute__((noinline)) static uint64_t descend_left(uint64_t h, unsigned path, unsigned depth)
{
    uint64_t r = depth == 0          ? hash(h, path)
                 : path >> depth & 1 ? descend_right(h, path, depth - 1)
                                     : descend_left(h, path, depth - 1);
    __asm__ volatile("" : "+r"(r));
    return r * 3;
}

static void *work(void *arg)
{
    uint64_t h = (uint64_t)(uintptr_t)arg;
    if (has_floor && floor_begin())
        exit(1);
    for (uint64_t r = 0; r < rounds; r++)
        for (unsigned path = 0; path < 512; path += 3)
            h = descend_left(h, path, DEPTH - 1);
    return (void *)(uintptr_t)h;
}

int main(int argc, char **argv)
{
    rounds = argc > 1 ? strtoull(argv[1], NULL, 10) : rounds;
    int n = argc > 2 ? atoi(argv[2]) : 2;
    pthread_t threads[64];
    has_floor = argc > 3;
    if (n < 1 || n > 64 || (has_floor && floor_parse(argv[3])))
        return 2;
    for (int i = 1; i < n; i++)
        if (pthread_create(&threads[i], NULL, work, (void *)(uintptr_t)(unsigned)i))
            return 1;
    uint64_t h = (uint64_t)(uintptr_t)work((void *)(uintptr_t)99);
    for (int i = 1; i < n; i++) {
        void *r;
        pthread_join(threads[i], &r);
        h ^= (uint64_t)(uintptr_t)r;
    }
    printf("%016llx\n", (unsigned long long)h);
    if (has_floor)
        printf("%llu samples\n", (unsigned long long)floor_samples());
    return 0;
}
