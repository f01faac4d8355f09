// SPDX-License-Identifier: MIT
//
// The heap benchmark's load: THREADS threads, PAIRS malloc/free pairs together, sizes mixed from 16 bytes
// to 48 KiB, 4096 blocks live in each thread, 34 calls deep over 512 paths. The work is the same on every
// run. A descent along a path ends in BATCH pairs, then the next path's begins: one after the other, or
// (with a fourth argument) in random order, which no branch predictor follows. BATCH decides what share
// of the run the load's own calls are: at 1 they take most of it, at 32 the allocator does.
// Usage: heap_load [PAIRS [THREADS [BATCH [random]]]]

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { DEPTH = 32, LIVE = 4096 };

static uint64_t pairs = 20000000;
static uint64_t batch = 32;
static int is_random; // the order of the paths

struct heap_work {
    uint64_t random, sum;
    uint64_t *live[LIVE];
    uint64_t todo; // pairs of this descent
};

static uint64_t next_random(struct heap_work *w)
{
    w->random ^= w->random << 13;
    w->random ^= w->random >> 7;
    w->random ^= w->random << 17;
    return w->random;
}

// Mostly small, seldom large, as programs are: half below 64 bytes, one in 256 up to 48 KiB.
static size_t next_size(uint64_t r)
{
    unsigned kind = r & 255;
    if (kind < 128)
        return 16 + (r >> 8) % 48;
    if (kind < 230)
        return 64 + (r >> 8) % 448;
    if (kind < 255)
        return 512 + (r >> 8) % 3584;
    return 4096 + (r >> 8) % (45 << 10);
}

static void one_pair(struct heap_work *w)
{
    uint64_t r = next_random(w);
    uint64_t **place = &w->live[r >> 40 & (LIVE - 1)];
    if (*place)
        w->sum += **place;
    free(*place);
    *place = malloc(next_size(r));
    if (!*place)
        abort();
    **place = r;
}

__attribute__((noinline)) static void one_batch(struct heap_work *w)
{
    for (uint64_t n = w->todo; n > 0; n--)
        one_pair(w);
}

__attribute__((noinline)) static void descend_left(struct heap_work *w, unsigned path,
                                                   unsigned depth);

__attribute__((noinline)) static void descend_right(struct heap_work *w, unsigned path,
                                                    unsigned depth)
{
    if (depth == 0)
        one_batch(w);
    else if (path >> depth & 1)
        descend_left(w, path, depth - 1);
    else
        descend_right(w, path, depth - 1);
    __asm__ volatile("" ::: "memory"); // no tail call: the frame must stay
}

__attribute__((noinline)) static void descend_left(struct heap_work *w, unsigned path,
                                                   unsigned depth)
{
    if (depth == 0)
        one_batch(w);
    else if (path >> depth & 1)
        descend_right(w, path, depth - 1);
    else
        descend_left(w, path, depth - 1);
    __asm__ volatile("" ::: "memory");
}

static void *work(void *arg)
{
    struct heap_work *w = calloc(1, sizeof *w);
    uint64_t n = *(const uint64_t *)arg;
    if (!w)
        abort();
    w->random = 88172645463325252u;
    for (uint64_t i = 0; n > 0; i++) {
        w->todo = n < batch ? n : batch;
        n -= w->todo;
        descend_left(w, (unsigned)((is_random ? w->random >> 20 : i) & 511) << 1, DEPTH - 1);
    }
    uint64_t sum = w->sum;
    for (int i = 0; i < LIVE; i++)
        free(w->live[i]);
    free(w);
    return (void *)(uintptr_t)sum;
}

int main(int argc, char **argv)
{
    pairs = argc > 1 ? strtoull(argv[1], NULL, 10) : pairs;
    unsigned n = argc > 2 ? (unsigned)atoi(argv[2]) : 2;
    batch = argc > 3 ? strtoull(argv[3], NULL, 10) : batch;
    is_random = argc > 4;
    pthread_t threads[64];
    if (n < 1 || n > 64 || batch < 1)
        return 2;
    uint64_t each = pairs / n, sum = 0;
    for (unsigned i = 1; i < n; i++)
        if (pthread_create(&threads[i], NULL, work, &each))
            return 1;
    sum = (uint64_t)(uintptr_t)work(&each);
    for (unsigned i = 1; i < n; i++) {
        void *r;
        pthread_join(threads[i], &r);
        sum ^= (uint64_t)(uintptr_t)r;
    }
    printf("%016llx\n", (unsigned long long)sum);
    return 0;
}
