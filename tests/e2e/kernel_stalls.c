// SPDX-License-Identifier: MIT
//
// Stalls that are known, for `fiberscope trace lost`:
//
//     kernel_stalls fibers SECONDS CPU      a fiber on this CPU, in turn in three regions: "compute" looks at the clock
//                                           all the time, "fault" touches FAULT_PAGES fresh pages, "call" makes CALLS
//                                           system calls
//     kernel_stalls bursts ON_MS PERIOD_MS [COUNT]
//                                           a process that has its CPU before all others (SCHED_FIFO) for ON_MS of each
//                                           PERIOD_MS, COUNT times or until it is killed; a line "begin end"
//                                           (CLOCK_MONOTONIC, ns) each
//
// The first ends with "seen NS", what "compute" missed of the clock in gaps of GAP_NS and more, and a line "NAME begin
// end" for each region.

#include <fiberscope/fiber.h>
#include <fiberscope/trace.h>

#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { FAULT_PAGES = 2000, CALLS = 5000, PAGE_BYTES = 4096, TURNS_MAX = 4000 };
#define GAP_NS  UINT64_C(200000)
#define TURN_NS UINT64_C(20000000)

static uint64_t until_ns, seen_ns;
static struct turn {
    const char *name;
    uint64_t begin_ns, end_ns;
} turns[TURNS_MAX];
static int turn_count;

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void compute(void)
{
    uint64_t begin = now(), before = begin;
    while (before - begin < TURN_NS) {
        uint64_t t = now();
        if (t - before >= GAP_NS)
            seen_ns += t - before;
        before = t;
    }
}

static void fault(void)
{
    char *p = mmap(NULL, (size_t)FAULT_PAGES * PAGE_BYTES, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        abort();
    madvise(p, (size_t)FAULT_PAGES * PAGE_BYTES, MADV_NOHUGEPAGE);
    for (size_t i = 0; i < FAULT_PAGES; i++)
        p[i * PAGE_BYTES] = 1;
    munmap(p, (size_t)FAULT_PAGES * PAGE_BYTES);
}

static void call(void)
{
    for (int i = 0; i < CALLS; i++)
        syscall(SYS_getppid);
}

static const struct work {
    const char *name;
    void (*run)(void);
} works[] = {{"compute", compute}, {"fault", fault}, {"call", call}};

static void turn(const struct work *w)
{
    struct turn *t = &turns[turn_count++];
    struct fscope_region region = fscope_region_begin(0, w->name);
    t->name = w->name;
    t->begin_ns = now();
    w->run();
    t->end_ns = now();
    fscope_region_end(&region);
}

static void start(void *arg)
{
    (void)arg;
    for (int i = 0; now() < until_ns && turn_count < TURNS_MAX; i++) {
        turn(&works[i % 3]);
        fib_yield();
    }
}

static int bursts(uint64_t on_ns, uint64_t period_ns, int count)
{
    struct sched_param p = {.sched_priority = 10};
    uint64_t next = now() + period_ns;
    prctl(PR_SET_NAME, "bursts"); // the threads of the other one have its own
    if (sched_setscheduler(0, SCHED_FIFO, &p))
        return 1;
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    for (int i = 0; i < count; i++, next += period_ns) {
        struct timespec at = {(time_t)(next / 1000000000), (long)(next % 1000000000)};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
        uint64_t begin = now(), end = begin;
        while (end - begin < on_ns)
            end = now();
        printf("%" PRIu64 " %" PRIu64 "\n", begin, end);
        fflush(stdout);
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc >= 4 && !strcmp(argv[1], "bursts"))
        return bursts((uint64_t)(atof(argv[2]) * 1e6), (uint64_t)(atof(argv[3]) * 1e6),
                      argc > 4 ? atoi(argv[4]) : TURNS_MAX);
    if (argc > 3) {
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET((size_t)atoi(argv[3]), &one);
        sched_setaffinity(0, sizeof one, &one);
    }
    until_ns = now() + (uint64_t)((argc > 2 ? atof(argv[2]) : 1) * 1e9);
    int rc = fib_main(start, NULL);
    printf("seen %" PRIu64 "\n", seen_ns);
    for (int i = 0; i < turn_count; i++)
        printf("%s %" PRIu64 " %" PRIu64 "\n", turns[i].name, turns[i].begin_ns, turns[i].end_ns);
    return rc;
}
