// SPDX-License-Identifier: MIT
//
// What a probe costs most: a program that does nothing but what the probe sees, some 34 frames deep, on one processor.
//
//     probe_load switches N   pass a byte to and fro between two threads: two switches and two wakeups
//     probe_load free N       lock and unlock a mutex that nobody else wants
//     probe_load held N       lock and unlock one that another thread waits for: a wait in futex(2) and a wake
//     probe_load faults N     touch a page for the first time (each 256 are given back in one call)
//     probe_load maps N       mmap and munmap
//     probe_load malloc N     malloc and free
//
// It says "ready PID", does its work for each line that it reads, and prints how many ns each took; of `held` also how
// often a thread waited, for each.

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { DEPTH = 30, PAGE = 4096, PAGES = 256, MAP_BYTES = 65536, MALLOC_BYTES = 100 };
#define KEEP __attribute__((noinline))

static int there[2], back[2];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_int is_working;
static void *volatile kept;

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

KEEP static void nest(void (*fn)(long), long n, int depth)
{
    if (depth)
        nest(fn, n, depth - 1);
    else
        fn(n);
    __asm__ volatile("" ::: "memory"); // no tail call: the frame must stay
}

// --- What is done.

KEEP static void switches(long n)
{
    char c = 0;
    for (long i = 0; i < n; i++)
        if (write(there[1], &c, 1) != 1 || read(back[0], &c, 1) != 1)
            abort();
}

KEEP static void answer(long n)
{
    char c;
    (void)n;
    while (read(there[0], &c, 1) == 1)
        if (write(back[1], &c, 1) != 1)
            abort();
}

KEEP static void lock_free(long n)
{
    for (long i = 0; i < n; i++) {
        pthread_mutex_lock(&lock);
        pthread_mutex_unlock(&lock);
    }
}

// The other thread runs as we yield, and finds it held; and takes it as we yield again.
KEEP static void lock_held(long n)
{
    for (long i = 0; i < n; i++) {
        pthread_mutex_lock(&lock);
        sched_yield();
        pthread_mutex_unlock(&lock);
        sched_yield();
    }
}

KEEP static void want(long n)
{
    (void)n;
    while (atomic_load(&is_working)) {
        pthread_mutex_lock(&lock);
        pthread_mutex_unlock(&lock);
        sched_yield();
    }
}

KEEP static void faults(long n)
{
    char *p = kept;
    for (long i = 0; i < n; i++) {
        p[i % PAGES * PAGE] = 1;
        if (i % PAGES == PAGES - 1 && madvise(p, PAGES * PAGE, MADV_DONTNEED))
            abort();
    }
}

KEEP static void maps(long n)
{
    for (long i = 0; i < n; i++) {
        void *p = mmap(NULL, MAP_BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED || munmap(p, MAP_BYTES))
            abort();
    }
}

KEEP static void allocate(long n)
{
    for (long i = 0; i < n; i++) {
        kept = malloc(MALLOC_BYTES);
        free(kept);
    }
}

// ---

static const struct work {
    const char *name;
    void (*fn)(long), (*other)(long); // in a thread of its own
} works[] = {{"switches", switches, answer}, {"free", lock_free, NULL}, {"held", lock_held, want},
             {"faults", faults, NULL},       {"maps", maps, NULL},      {"malloc", allocate, NULL}};

static void *in_thread(void *fn)
{
    nest(*(void (**)(long))fn, 0, DEPTH);
    return NULL;
}

static long waits(void)
{
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return r.ru_nvcsw;
}

static void run(const struct work *w, long n)
{
    void (*other)(long) = w->other;
    pthread_t thread;
    atomic_store(&is_working, 1);
    if (other && pthread_create(&thread, NULL, in_thread, &other))
        abort();
    long before = waits();
    uint64_t begin = now();
    nest(w->fn, n, DEPTH);
    uint64_t end = now();
    printf("%.1f %.2f\n", (double)(end - begin) / (double)n,
           (double)(waits() - before) / (double)n);
    fflush(stdout);
    atomic_store(&is_working, 0);
    if (other == answer)
        close(there[1]);
    if (other)
        pthread_join(thread, NULL);
    if (other == answer && pipe(there)) // for the next one
        abort();
}

int main(int argc, char **argv)
{
    const struct work *w = works, *end = works + sizeof works / sizeof *works;
    long n = argc > 2 ? atol(argv[2]) : 0;
    cpu_set_t one;
    char line[16];
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    while (argc > 1 && w < end && strcmp(argv[1], w->name))
        w++;
    if (n < 1 || w == end || sched_setaffinity(0, sizeof one, &one) || pipe(there) || pipe(back))
        return 2;
    if (!strcmp(w->name, "faults")) {
        kept = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (kept == MAP_FAILED || madvise(kept, PAGES * PAGE, MADV_NOHUGEPAGE))
            return 1;
    }
    printf("ready %d\n", (int)getpid());
    fflush(stdout);
    while (fgets(line, sizeof line, stdin))
        run(w, n);
    return 0;
}
