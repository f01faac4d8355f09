// SPDX-License-Identifier: MIT
//
// What recording one sample costs: seg_stack of 36 frames that are interned already plus
// seg_record_put, against a memcpy of the same bytes (the floor: no hash, no compare, no publishing).
// Both alternate within each round; the ring is drained outside the clock.

#include "segment/consumer.h"
#include "segment/producer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { FRAMES = 36, BATCH = 500, BATCHES = 40, ROUNDS = 15, STACKS = 64 };

struct bytes {
    uint64_t pcs[FRAMES];
    struct seg_record record;
};

static struct bytes sink[1024];
static uint64_t stacks[STACKS][FRAMES];

static double now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static int ignore(void *arg, const struct seg_record *r)
{
    (void)arg;
    return r == NULL;
}

static double record_batch(struct seg *s, int slot)
{
    double start = now_ns();
    for (unsigned i = 0; i < BATCH; i++) {
        struct seg_record r = {.kind = SEG_KIND_CPU, .tid = 1, .values = {1, i}};
        r.user_stack = seg_stack(s, stacks[i % STACKS], FRAMES, 0, 0);
        seg_record_put(s, slot, SEG_CONTEXT_SIGNAL, &r);
    }
    return now_ns() - start;
}

static double copy_batch(void)
{
    double start = now_ns();
    for (unsigned i = 0; i < BATCH; i++) {
        struct bytes *to = &sink[i];
        struct seg_record r = {.kind = SEG_KIND_CPU, .tid = 1, .values = {1, i}};
        memcpy(to->pcs, stacks[i % STACKS], sizeof to->pcs);
        memcpy(&to->record, &r, sizeof r);
        __asm__ volatile("" ::"r"(to) : "memory");
    }
    return now_ns() - start;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void row(const char *name, double *v, const char *unit)
{
    qsort(v, ROUNDS, sizeof *v, by_value);
    printf("%-34s %8.1f %s   %.1f..%.1f\n", name, v[ROUNDS / 2], unit, v[0], v[ROUNDS - 1]);
}

int main(void)
{
    struct seg s;
    struct seg_reader *r;
    double record[ROUNDS], copy[ROUNDS], ratio[ROUNDS];
    if (seg_create(&s, NULL) || seg_reader_open(&r, dup(s.fd), NULL))
        return 1;
    int slot = seg_thread_enter(&s, 1, "bench");
    for (unsigned i = 0; i < STACKS; i++)
        for (unsigned k = 0; k < FRAMES; k++)
            stacks[i][k] = 0x400000 + i * 4096 + k * 64;
    record_batch(&s, slot); // interns, and touches the pages
    for (int round = 0; round < ROUNDS; round++) {
        double ours = 0, floor_ns = 0;
        for (int b = 0; b < BATCHES; b++) {
            seg_reader_drain(r, ignore, NULL, NULL);
            ours += record_batch(&s, slot);
            floor_ns += copy_batch();
        }
        record[round] = ours / BATCH / BATCHES;
        copy[round] = floor_ns / BATCH / BATCHES;
        ratio[round] = ours / floor_ns;
    }
    struct seg_losses losses;
    seg_reader_losses(r, &losses);
    if (losses.ring_full[SEG_KIND_CPU]) {
        fprintf(stderr, "bench_segment: records were folded; the figures mean nothing\n");
        return 1;
    }
    printf("one sample of %d frames              median      min..max of %d rounds\n", FRAMES,
           ROUNDS);
    row("seg_stack + seg_record_put", record, "ns");
    row("memcpy of the same bytes", copy, "ns");
    row("ratio", ratio, "x ");
    seg_reader_close(r);
    seg_close(&s);
    return 0;
}
