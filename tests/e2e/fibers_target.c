// SPDX-License-Identifier: MIT
//
// Fibers whose CPU time, allocations and waits are known by construction; what is to be found is printed in
// lines that begin with "want".

#include <fiberscope/chan.h>
#include <fiberscope/fiber.h>
#include <fiberscope/profile.h>
#include <fiberscope/sync.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KEEP __attribute__((noinline))

enum { FIBERS = 8, STEPS = 400, STEP_LOOPS = 400000 };

static volatile uint64_t sink;
static void *volatile held;

static struct fib_chan *chan;
static struct fib_mutex mutex;

// --- cpu: who burns how much. A step is always the same work.

KEEP static void burn_step(void)
{
    uint64_t x = sink;
    for (int i = 0; i < STEP_LOOPS; i++)
        x = x * 6364136223846793005u + 1;
    sink = x;
}

KEEP static void burn(int steps)
{
    for (int i = 0; i < steps; i++) {
        burn_step();
        if (i % 8 == 0)
            fib_yield();
    }
}

KEEP static void start_small(void *arg)
{
    (void)arg;
    burn(STEPS / 4);
    sink++;
}

KEEP static void start_large(void *arg)
{
    (void)arg;
    burn(STEPS * 3 / 4);
    sink++;
}

static void cpu_main(void *arg)
{
    struct fib f[2 * FIBERS];
    (void)arg;
    for (int i = 0; i < FIBERS; i++) {
        {
            FSCOPE_LABEL("kind", "small");  // of this fiber, until here; its child keeps it
            fib_label_set("kind", "small"); // without a recording, too
            fib_go(&f[2 * i], start_small, NULL);
        }
        FSCOPE_LABEL("kind", "large");
        fib_label_set("kind", "large");
        fib_go(&f[2 * i + 1], start_large, NULL);
    }
    for (int i = 0; i < 2 * FIBERS; i++)
        fib_join(f[i]);
    printf("want small 0.25\nwant large 0.75\n");
    for (int i = 0; i < 2 * FIBERS; i++)
        printf("want id %llu\n", (unsigned long long)f[i].id);
}

// --- heap

KEEP static void make(size_t size)
{
    void *p = malloc(size);
    held = p;
    free(p);
}

KEEP static void make_many(int n)
{
    for (int i = 0; i < n; i++) {
        make(40);
        if (i % 16 == 0)
            fib_yield();
    }
}

KEEP static void start_allocator(void *arg)
{
    const char *kind = arg;
    FSCOPE_LABEL("kind", kind);
    make_many(strcmp(kind, "some") ? 3000 : 1000);
    sink++;
}

static void heap_main(void *arg)
{
    struct fib f[2 * FIBERS];
    (void)arg;
    for (int i = 0; i < 2 * FIBERS; i++)
        fib_go(&f[i], start_allocator, i % 2 ? "more" : "some");
    for (int i = 0; i < 2 * FIBERS; i++)
        fib_join(f[i]);
    for (int i = 0; i < 10; i++)
        make(40); // without a label
    printf("want some %d\nwant more %d\nwant none 10\n", 1000 * FIBERS, 3000 * FIBERS);
}

// --- locks: one holds a mutex while others come; a channel is waited for.

enum { WAITERS = 5, HOLD_NS = 100000000 };

KEEP static void start_waiter(void *arg)
{
    (void)arg;
    FSCOPE_LABEL("kind", "waiter");
    fib_mutex_lock(&mutex);
    sink++;
    fib_mutex_unlock(&mutex);
    sink++;
}

KEEP static void start_consumer(void *arg)
{
    int v;
    (void)arg;
    fib_chan_recv(chan, &v);
    sink++;
}

KEEP static void hold_and_unlock(void)
{
    fib_sleep(HOLD_NS);
    fib_mutex_unlock(&mutex);
    sink++;
}

static void locks_main(void *arg)
{
    struct fib f[WAITERS + 1];
    int v = 1;
    (void)arg;
    chan = fib_chan_new(sizeof v, 0);
    fib_mutex_lock(&mutex);
    for (int i = 0; i < WAITERS; i++)
        fib_go(&f[i], start_waiter, NULL);
    fib_go(&f[WAITERS], start_consumer, NULL);
    hold_and_unlock();
    fib_chan_send(chan, &v);
    for (int i = 0; i <= WAITERS; i++)
        fib_join(f[i]);
}

// --- parked: what waits, and for what.

KEEP static void start_receiver(void *arg)
{
    int v;
    (void)arg;
    fib_chan_recv(chan, &v);
    sink++;
}

KEEP static void start_locker(void *arg)
{
    (void)arg;
    fib_mutex_lock(&mutex);
    fib_mutex_unlock(&mutex);
    sink++;
}

KEEP static void start_sleeper(void *arg)
{
    (void)arg;
    fib_set_name("a sleeper");
    fib_sleep((int64_t)3600 * 1000000000);
    sink++;
}

static _Atomic int is_running;

KEEP static void start_runner(void *arg)
{
    (void)arg;
    is_running = 1;
    for (;;)
        burn_step();
}

static void spawn(int n, fib_fn *fn, const char *label)
{
    FSCOPE_LABEL("role", label);
    fib_label_set("role", label); // without a recording, too
    for (int i = 0; i < n; i++)
        fib_go(NULL, fn, NULL);
    fib_label_set("role", NULL);
}

static void parked_main(void *arg)
{
    const char *how = arg;
    bool runs = *how == 'r';
    chan = fib_chan_new(sizeof(int), 0);
    fib_mutex_lock(&mutex);
    spawn(50, start_receiver, "receiver");
    spawn(7, start_locker, "locker");
    spawn(3, start_sleeper, "sleeper");
    fib_sleep(200000000);
    if (runs)
        fib_go(NULL, start_runner, NULL);
    while (runs && !is_running)
        fib_sleep(1000000);
    printf("ready %d\n", (int)getpid());
    fflush(stdout);
    fib_sleep((int64_t)(*how == 's' ? 2 : 20) * 1000000000);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        fib_fn *fn;
        void *arg;
    } cases[] = {{"cpu", cpu_main, NULL},       {"heap", heap_main, NULL},
                 {"locks", locks_main, NULL},   {"parked", parked_main, "p"},
                 {"running", parked_main, "r"}, {"short", parked_main, "s"}};
    struct fib_options options = {.size = sizeof options, .procs = 2};
    for (size_t i = 0; argc > 1 && i < sizeof cases / sizeof *cases; i++)
        if (!strcmp(argv[1], cases[i].name))
            return fib_init(&options) ? 1 : fib_main(cases[i].fn, cases[i].arg);
    return 2;
}
