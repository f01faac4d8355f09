// SPDX-License-Identifier: MIT
//
// Forensics: 1,000 fibers that compute for 10 ms each, all started at once. When do they end?
//
// What it shows: how the scheduler shares processors. Left alone, fibers run one after the other: the first ends after 10
// ms, the last after 10 s, and the median waits 5 s. With yields in the work all make progress together,
// and all end in the last moments: the mean is twice as bad, and no one starves. A fiber that sleeps gives way
// the same. Preemption does it by force, at 10 ms. A second processor halves all of it.
//
//     forensics [FIBERS [BUSY_MS]]
//
// Every row is a process of its own, as processors and preemption are settings of the process. Times are ms after the
// start; "work" is what a fiber's computing takes when alone, measured first, so on a busy machine all rows stretch.

#include <fiberscope/fiber.h>

#include <inttypes.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SLICES = 10 };
enum how { ALONE, YIELD, SLEEP };

struct trial {
    enum how how;
    int fibers;
    uint64_t loops; // of one fiber
    int64_t started_ns;
    int64_t *ended_ns;
    _Atomic int ended;
    _Atomic uint64_t preempted;
};

static struct trial t;

// Computes. Not inlined, so that it costs the same wherever it is called.
static __attribute__((noinline)) void compute(uint64_t loops)
{
    uint64_t x = 88172645463325252ULL;
    for (uint64_t i = 0; i < loops; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    __asm__ volatile("" : : "r"(x)); // it is wanted, for all the compiler knows
}

static void busy(void *arg)
{
    (void)arg;
    for (int i = 0; i < SLICES; i++) {
        compute(t.loops / SLICES);
        if (t.how == YIELD)
            fib_yield();
        else if (t.how == SLEEP)
            fib_sleep(1000000);
    }
    struct fib_info info = {.size = sizeof info};
    if (!fib_info_read(fib_self(), &info))
        t.preempted += info.preempted;
    t.ended_ns[t.ended++] = fib_now_ns();
}

static double ms_at(double share)
{
    int i = (int)(share * (t.fibers - 1));
    return (double)(t.ended_ns[i] - t.started_ns) / 1e6;
}

static int ascending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void trial_start(void *arg)
{
    const char *name = arg;
    struct fib *f = calloc((size_t)t.fibers, sizeof *f);
    t.ended_ns = calloc((size_t)t.fibers, sizeof *t.ended_ns);
    if (!f || !t.ended_ns)
        abort();
    t.started_ns = fib_now_ns();
    for (int i = 0; i < t.fibers; i++)
        if (fib_go(&f[i], busy, NULL))
            abort();
    for (int i = 0; i < t.fibers; i++)
        fib_join(f[i]);
    qsort(t.ended_ns, (size_t)t.fibers, sizeof *t.ended_ns, ascending);
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    double cpu_ms = (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1e3 +
                    (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e3;
    printf("%-20s %2u %9" PRIu64 " %8.0f %8.0f %8.0f %8.0f %8.0f %8.0f\n", name, fib_procs(0),
           (uint64_t)t.preempted, ms_at(0), ms_at(0.1), ms_at(0.5), ms_at(0.9), ms_at(1), cpu_ms);
    free(f);
    free(t.ended_ns);
}

// The loops of a millisecond, when undisturbed: the fastest of many short tries.
static uint64_t loops_of_ms(void)
{
    int64_t best = INT64_MAX;
    for (int i = 0; i < 50; i++) {
        int64_t before = fib_now_ns();
        compute(100000);
        int64_t took = fib_now_ns() - before;
        best = took < best ? took : best;
    }
    return 100000ULL * 1000000 / (uint64_t)best;
}

static const struct row {
    const char *name, *procs, *debug;
    enum how how;
} rows[] = {
    {"left alone", "1", NULL, ALONE},
    {"left alone", "2", NULL, ALONE},
    {"left alone", "", NULL, ALONE},
    {"preemption off", "1", "asyncpreemptoff=1", ALONE},
    {"yields 10 times", "1", NULL, YIELD},
    {"yields 10 times", "2", NULL, YIELD},
    {"sleeps 1 ms 10 times", "1", NULL, SLEEP},
    {"sleeps 1 ms 10 times", "2", NULL, SLEEP},
};

// A row in a process of its own: this program again, with the row's settings in the environment.
static int row_run(const char *self, int i, const char *fibers, const char *loops)
{
    char index[16];
    snprintf(index, sizeof index, "%d", i);
    if (rows[i].debug)
        setenv("FIB_DEBUG", rows[i].debug, 1);
    else
        unsetenv("FIB_DEBUG");
    if (*rows[i].procs)
        setenv("FIB_MAXPROCS", rows[i].procs, 1);
    else
        unsetenv("FIB_MAXPROCS");
    char *argv[] = {(char *)self, "row", index, (char *)fibers, (char *)loops, NULL};
    pid_t pid;
    int status = -1;
    if (posix_spawn(&pid, self, NULL, NULL, argv, environ) || waitpid(pid, &status, 0) != pid)
        return -1;
    return status;
}

int main(int argc, char **argv)
{
    if (argc == 5 && !strcmp(argv[1], "row")) {
        const struct row *r = &rows[strtol(argv[2], NULL, 10)];
        t.how = r->how;
        t.fibers = (int)strtol(argv[3], NULL, 10);
        t.loops = strtoull(argv[4], NULL, 10);
        return fib_main(trial_start, (void *)r->name) ? 1 : 0;
    }
    const char *fibers = argc > 1 ? argv[1] : "1000";
    double busy_ms = argc > 2 ? strtod(argv[2], NULL) : 10;
    if (argc > 3 || strtol(fibers, NULL, 10) < 1 || busy_ms <= 0) {
        fprintf(stderr, "usage: forensics [FIBERS [BUSY_MS]]\n");
        return 2;
    }
    char loops[32];
    snprintf(loops, sizeof loops, "%.0f", (double)loops_of_ms() * busy_ms);
    printf("%s fibers, work of %g ms each; ms until they end\n", fibers, busy_ms);
    printf("%-20s %2s %9s %8s %8s %8s %8s %8s %8s\n", "fibers that are", "Ps", "preempted", "first",
           "10 %", "half", "90 %", "last", "CPU");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        fflush(stdout);
        if (row_run("/proc/self/exe", (int)i, fibers, loops))
            return 1;
    }
    return 0;
}
