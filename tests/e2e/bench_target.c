// SPDX-License-Identifier: MIT
//
// Benchmarks of known functions, for bench.py: each run is a line "run N NS" on stderr, NS being what the
// function itself measured of the time that counts.

#include <fiberscope/profile.h>

#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void *volatile keep;

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void wait_ns(uint64_t ns)
{
    for (uint64_t end = now_ns() + ns; now_ns() < end;)
        ;
}

// 10 us and 3 allocations of 48 bytes together, each time.
static void known(struct fscope_bench *b, void *arg)
{
    if (arg)
        b->set_bytes = 1000;
    uint64_t began = now_ns();
    for (uint64_t i = 0; i < b->n; i++) {
        uint64_t end = now_ns() + 10000;
        for (int k = 0; k < 3; k++) {
            keep = malloc(8u * (unsigned)(k + 1)); // 8, 16, 24
            free(keep);
        }
        while (now_ns() < end)
            ;
    }
    began = now_ns() - began;
    fscope_bench_stop(b); // stdio allocates
    fprintf(stderr, "run %llu %llu\n", (unsigned long long)b->n, (unsigned long long)began);
}

// Half of its time and all of its allocations are left out.
static void paused(struct fscope_bench *b, void *arg)
{
    (void)arg;
    keep = malloc(100000); // set-up
    free(keep);
    wait_ns(5000000);
    fscope_bench_reset(b);
    uint64_t began = now_ns(), sum = 0;
    for (uint64_t i = 0; i < b->n; i++) {
        wait_ns(10000);
        sum += now_ns() - began;
        fscope_bench_stop(b);
        fscope_bench_stop(b); // changes nothing
        keep = malloc(10);
        free(keep);
        wait_ns(10000);
        fscope_bench_start(b);
        fscope_bench_start(b);
        began = now_ns();
    }
    fprintf(stderr, "run %llu %llu\n", (unsigned long long)b->n, (unsigned long long)sum);
}

static void nothing(struct fscope_bench *b, void *arg)
{
    (void)arg;
    fprintf(stderr, "run %llu 0\n", (unsigned long long)b->n);
}

int main(int argc, char **argv)
{
    struct fscope_bench_options o = {.size = sizeof o, .time_ns = 50000000};
    struct fscope_bench_result r;
    setlocale(LC_ALL, "");
    if (argc < 2)
        return 2;
    if (!strcmp(argv[1], "known")) {
        o.count = 3;
        if (fscope_bench_run("known", known, argv, &o, &r) ||
            fscope_bench_run("", known, 0, 0, 0) != -EINVAL)
            return 3;
        fprintf(stderr, "result %llu %llu %llu %llu\n", (unsigned long long)r.n,
                (unsigned long long)r.ns, (unsigned long long)r.alloc_objects,
                (unsigned long long)r.alloc_bytes);
    } else if (!strcmp(argv[1], "paused")) {
        return fscope_bench_run("Paused of course", paused, NULL, &o, NULL) ? 3 : 0;
    } else if (!strcmp(argv[1], "nothing")) {
        return fscope_bench_run("Nothing", nothing, NULL, NULL, NULL) ? 3 : 0;
    } else if (!strcmp(argv[1], "fixed")) {
        o.iterations = 123;
        return fscope_bench_run("Fixed", known, NULL, &o, NULL) ? 3 : 0;
    } else if (!strcmp(argv[1], "times") && argc > 2) {
        o.iterations = strtoull(argv[2], NULL, 10);
        return fscope_bench_run("Times", known, NULL, &o, NULL) ||
                       fscope_bench_run("Again", known, NULL, &o, NULL)
                   ? 3
                   : 0;
    } else if (!strcmp(argv[1], "closed")) {
        o.fd = 1000;
        o.iterations = 1;
        return fscope_bench_run("Closed", known, NULL, &o, NULL) == -EBADF ? 0 : 3;
    }
    return 0;
}
