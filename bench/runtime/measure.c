// SPDX-License-Identifier: MIT
//
// Measuring: see bench.h.

#include "bench/runtime/bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { KEYS_MAX = 16 };

static struct snapshot {
    int64_t wall_ns, cpu_ns, wakes;
    long voluntary, involuntary;
} first;

static struct {
    const char *key;
    double value;
} keys[KEYS_MAX];
static int key_count;

static int64_t read_clock(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t clock_ns(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

static struct snapshot snapshot_take(void)
{
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return (struct snapshot){
        .wall_ns = clock_ns(),
        .cpu_ns = read_clock(CLOCK_PROCESS_CPUTIME_ID),
        .wakes = measure_wakes(),
        .voluntary = r.ru_nvcsw,
        .involuntary = r.ru_nivcsw,
    };
}

void measure_begin(void)
{
    first = snapshot_take();
}

void measure_end(long ops)
{
    struct snapshot s = snapshot_take();
    measure_add("ops", (double)ops);
    measure_add("wall_ns", (double)(s.wall_ns - first.wall_ns));
    measure_add("cpu_ns", (double)(s.cpu_ns - first.cpu_ns));
    // What the kernel counts beside the runtime: a thread woken in vain blocks again.
    measure_add("voluntary", (double)(s.voluntary - first.voluntary));
    measure_add("involuntary", (double)(s.involuntary - first.involuntary));
    if (s.wakes >= 0)
        measure_add("wakes", (double)(s.wakes - first.wakes));
}

void measure_add(const char *key, double value)
{
    MUST(key_count < KEYS_MAX);
    keys[key_count].key = key;
    keys[key_count++].value = value;
}

void measure_print(void)
{
    printf("{");
    for (int i = 0; i < key_count; i++)
        printf("%s\"%s\": %.17g", i ? ", " : "", keys[i].key, keys[i].value);
    printf("}\n");
    fflush(stdout);
}

int64_t memory_bytes(void)
{
    FILE *f = fopen("/proc/self/status", "re");
    MUST(f);
    char line[256];
    long rss_kib = 0, pte_kib = 0;
    while (fgets(line, sizeof line, f)) {
        if (!strncmp(line, "VmRSS:", 6))
            rss_kib = strtol(line + 6, NULL, 10);
        else if (!strncmp(line, "VmPTE:", 6))
            pte_kib = strtol(line + 6, NULL, 10);
    }
    fclose(f);
    MUST(rss_kib > 0 && pte_kib > 0);
    return ((int64_t)rss_kib + pte_kib) * 1024;
}

void must_fail(const char *what, const char *file, int line)
{
    fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, what);
    abort();
}
