// SPDX-License-Identifier: MIT
//
// Fibers are born and die at full speed, of all kinds, and nothing grows: neither memory nor address space, stacks,
// threads, descriptors.
//
//     churn SECONDS PROCS
//
// Before the first look as many fibers of each kind live at a time as ever can later, so that what is kept for
// them is there; then a round of the same follows another, with a look after each.

#include "fiberscope/chan.h"
#include "fiberscope/fiber.h"
#include "fiberscope/sync.h"
#include "tests/runtime/check.h"

#include <dirent.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

enum {
    SPAWNERS = 8,
    BATCH = 64,
    ROUNDS = 4,
    CLASSES = 3,
    CACHED = 64 + 1, // free stacks that a processor may keep for itself, of each size
    THREADS = 250,
    MS = 1000000,
};

static const size_t sizes[CLASSES] = {32 << 10, 256 << 10, 1 << 20};
static const uint64_t mib = 1 << 20;
static _Atomic bool is_over;
static _Atomic uint64_t born, dead, destroyed, valued;
static fib_key keys[6]; // more than fit into a fiber's own memory
static int64_t round_ns;
static uint32_t procs;

// --- Kinds of fibers.

static void at_once(void *arg)
{
    (void)arg;
    atomic_fetch_add_explicit(&dead, 1, memory_order_relaxed);
}

static void yields(void *arg)
{
    for (int i = 0; i < 3; i++)
        fib_yield();
    at_once(arg);
}

static void sleeps(void *arg)
{
    fib_sleep(MS / 20);
    at_once(arg);
}

static void has_values(void *arg)
{
    atomic_fetch_add_explicit(&valued, 6, memory_order_relaxed);
    for (int i = 0; i < 6; i++)
        CHECK(!fib_local_set(keys[i], &keys[i]));
    fib_label_set("kind", "has values");
    fib_set_name("one with values");
    fib_yield();
    at_once(arg);
}

static void (*volatile end)(void) = fib_exit; // gcc sees no end in what never returns

static __attribute__((noinline)) void end_below(volatile char *above, int depth)
{
    volatile char frame[2000];
    frame[0] = *above;
    if (depth)
        end_below(frame, depth - 1);
    else
        end();
    *above = frame[0];
}

static void is_deep(void *arg)
{
    volatile char frame = 0;
    at_once(arg);
    end_below(&frame, 8);
}

static void has_child(void *arg)
{
    struct fib f;
    atomic_fetch_add_explicit(&born, 1, memory_order_relaxed);
    int rc = fib_go(&f, at_once, NULL);
    CHECK(!rc, "%s", strerror(-rc));
    fib_join(f);
    at_once(arg);
}

static void fires(void *arg)
{
    fib_chan_send(arg, NULL);
}

static void has_timer_and_channel(void *arg)
{
    struct fib_chan *c = fib_chan_new(0, 1);
    struct fib_timer t = {0};
    CHECK(c);
    fib_timer_start(&t, 1, 0, fires, c);
    fib_chan_recv(c, NULL);
    fib_chan_free(c);
    at_once(arg);
}

static void ends_locked(void *arg) // and its thread with it
{
    fib_lock_thread();
    at_once(arg);
}

static fib_fn *const kinds[] = {at_once,    at_once, yields,    sleeps,
                                has_values, is_deep, has_child, has_timer_and_channel};

static uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    return *state ^= *state << 17;
}

static void batch(uint64_t *random)
{
    struct fib fibers[BATCH];
    uint64_t r = random_next(random);
    int n = 1 + (int)(r % BATCH);
    for (int i = 0; i < n; i++) {
        r = random_next(random);
        struct fib_go_options o = {.size = sizeof o, .stack_bytes = sizes[(r >> 8) % CLASSES]};
        fib_fn *fn = r % 5000 == 0 ? ends_locked : kinds[r % (sizeof kinds / sizeof *kinds)];
        int rc = r & 1024 ? fib_go(&fibers[i], fn, NULL) : fib_go_with(&fibers[i], &o, fn, NULL);
        CHECK(!rc, "%s", strerror(-rc));
    }
    atomic_fetch_add_explicit(&born, (uint64_t)n, memory_order_relaxed);
    for (int i = 0; i < n; i++)
        fib_join(fibers[i]);
}

static void spawner(void *arg)
{
    uint64_t random = (uint64_t)(uintptr_t)arg * 0x9E3779B97F4A7C15ULL;
    while (!is_over)
        batch(&random);
}

static void *spawner_thread(void *arg)
{
    spawner(arg);
    return NULL;
}

// --- What must not grow.

static struct look {
    uint64_t pages, resident, stacks, threads, alive, files;
} now;

static void take(void *arg, const struct fib_metric *m)
{
    (void)arg;
    if (!strcmp(m->name, "/fib/stacks:stacks"))
        now.stacks = m->value;
    if (!strcmp(m->name, "/sched/threads/total:threads"))
        now.threads = m->value;
    if (!strcmp(m->name, "/sched/goroutines:goroutines"))
        now.alive = m->value;
}

static uint64_t entries(const char *path)
{
    uint64_t n = 0;
    DIR *d = opendir(path);
    CHECK(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static struct look look(void)
{
    unsigned long pages = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    CHECK(f && fscanf(f, "%lu %lu", &pages, &resident) == 2);
    fclose(f);
    now = (struct look){.pages = pages, .resident = resident, .files = entries("/proc/self/fd")};
    fib_metrics_read(take, NULL);
    printf("%9llu fibers: %llu KiB in memory, %llu MiB reserved, %llu stacks, %llu threads\n",
           (unsigned long long)dead, (unsigned long long)now.resident * 4,
           (unsigned long long)now.pages * 4 / 1024, (unsigned long long)now.stacks,
           (unsigned long long)now.threads);
    fflush(stdout);
    return now;
}

static void count_destroyed(void *value)
{
    (void)value;
    atomic_fetch_add_explicit(&destroyed, 1, memory_order_relaxed);
}

// --- Rounds.

static _Atomic uint32_t waiting;

static void wait_gate(void *arg)
{
    volatile char frame[20000]; // as deep as the deepest
    frame[0] = 1;
    frame[sizeof frame - 1] = frame[0];
    waiting++;
    fib_chan_recv(arg, NULL);
}

// All that can live at a time, and what the processors may keep from each other.
static void fill(void)
{
    struct fib_chan *gate = fib_chan_new(0, 0);
    static struct fib fibers[1 << 16];
    uint32_t n = (SPAWNERS + 1) * BATCH * 2 + 2 * SPAWNERS + procs * CACHED, count = 0;
    CHECK(gate && n * CLASSES <= sizeof fibers / sizeof *fibers);
    for (uint32_t c = 0; c < CLASSES; c++) {
        for (uint32_t i = 0; i < n; i++) {
            struct fib_go_options o = {.size = sizeof o, .stack_bytes = sizes[c]};
            int rc = fib_go_with(&fibers[count++], &o, wait_gate, gate);
            CHECK(!rc, "%s", strerror(-rc));
        }
    }
    while (waiting < count)
        fib_sleep(MS);
    fib_chan_close(gate);
    for (uint32_t i = 0; i < count; i++)
        fib_join(fibers[i]);
    fib_chan_free(gate);
}

static void churn(void)
{
    struct fib spawners[SPAWNERS];
    pthread_t thread;
    is_over = false;
    for (uintptr_t i = 0; i < SPAWNERS; i++)
        CHECK(!fib_go(&spawners[i], spawner, (void *)(i + 1)));
    CHECK(!pthread_create(&thread, NULL, spawner_thread, (void *)(uintptr_t)(SPAWNERS + 1)));
    fib_sleep(round_ns);
    is_over = true;
    for (int i = 0; i < SPAWNERS; i++)
        fib_join(spawners[i]);
    fib_blocking_enter();
    pthread_join(thread, NULL);
    fib_blocking_exit();
    fib_sleep(20 * MS);
    CHECK(born == dead && valued == destroyed, "%llu of %llu died, %llu of %llu values",
          (unsigned long long)dead, (unsigned long long)born, (unsigned long long)destroyed,
          (unsigned long long)valued);
}

static void run(void *arg)
{
    (void)arg;
    for (int i = 0; i < 6; i++)
        CHECK(!fib_key_create(&keys[i], count_destroyed));
    fill();
    churn();
    const struct look first = look();
    for (int i = 1; i < ROUNDS; i++) {
        churn();
        const struct look l = look();
        CHECK(l.alive == 1, "%llu fibers", (unsigned long long)l.alive);
        CHECK(l.stacks == first.stacks, "%llu stacks after %llu", (unsigned long long)l.stacks,
              (unsigned long long)first.stacks);
        CHECK(l.files == first.files, "%llu files after %llu", (unsigned long long)l.files,
              (unsigned long long)first.files);
        // Threads stay, as many as were ever preempted or needed at a time; those whose fibers ended locked do not.
        CHECK(l.threads <= THREADS, "%llu threads", (unsigned long long)l.threads);
        CHECK(l.pages * 4096 < first.pages * 4096 + 258 * mib, "MiB reserved");
        CHECK(l.resident * 4096 < first.resident * 4096 + 6 * mib, "KiB in memory");
    }
}

int main(int argc, char **argv)
{
    mallopt(M_ARENA_MAX, 2); // else each thread may reserve 64 MiB for malloc
    CHECK(argc == 3, "churn SECONDS PROCS");
    procs = (uint32_t)strtoul(argv[2], NULL, 10);
    round_ns = strtol(argv[1], NULL, 10) * 1000 * MS / ROUNDS;
    struct fib_options o = {.size = sizeof o, .procs = procs};
    CHECK(procs && round_ns > 0 && !fib_init(&o));
    return fib_main(run, NULL);
}
