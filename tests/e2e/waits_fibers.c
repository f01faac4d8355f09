// SPDX-License-Identifier: MIT
//
// Fibers, and threads among them, that wait for each other; prints as waits_target.c, with who is meant: "g7" or
// "t4711".

#include <fiberscope/chan.h>
#include <fiberscope/fiber.h>
#include <fiberscope/sync.h>

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define KEEP __attribute__((noinline))

enum { HOUR_S = 3600, STRESS_FIBERS = 200, STRESS_LOCKS = 6, STRESS_THREADS = 2, CROWD = 10000 };

struct fib_mutex g_left, g_right, g_ring[3];
struct fib_rwmutex g_table;
pthread_mutex_t g_posix = PTHREAD_MUTEX_INITIALIZER;

static volatile unsigned long sink;
static struct fib_chan *gate; // what has been taken; then all go on
static pid_t thread_id;
static uint64_t fiber_ids[3];

static void wait_long(void)
{
    fib_sleep((int64_t)HOUR_S * 1000000000);
}

static void ready(void)
{
    fib_sleep(200000000); // by then the others wait
    printf("ready\n");
    fflush(stdout);
}

static void nap(void)
{
    fib_sleep(20000000);
}

// What both sides have taken; only then they want more, however slow the machine is.
static _Atomic int taken, wanted;

static void took(void)
{
    for (taken++; taken < 2;)
        fib_sleep(1000000);
    wanted++;
}

static void thread_took(void) // blocks its thread: no other fiber runs there
{
    for (taken++; taken < 2;)
        usleep(1000);
    wanted++;
}

static void until_wanted(int n)
{
    while (wanted < n)
        nap();
}

// --- Fibers alone.

KEEP static void lock_second(struct fib_mutex *m)
{
    fib_mutex_lock(m);
    sink++;
}

static void start_left(void *arg)
{
    (void)arg;
    fiber_ids[0] = fib_self().id;
    fib_set_name("left");
    fib_mutex_lock(&g_left);
    took();
    lock_second(&g_right);
}

static void start_right(void *arg)
{
    (void)arg;
    fiber_ids[1] = fib_self().id;
    fib_mutex_lock(&g_right);
    took();
    lock_second(&g_left);
}

static void two_main(void *arg)
{
    (void)arg;
    fib_go(NULL, start_left, NULL);
    fib_go(NULL, start_right, NULL);
    until_wanted(2);
    printf("want g%lu g_right g%lu\nwant g%lu g_left g%lu\n", fiber_ids[0], fiber_ids[1],
           fiber_ids[1], fiber_ids[0]);
    ready();
    wait_long();
}

// Three: a mutex, a rwmutex that is written, and the end of another.
static struct fib joined;

static void start_writer(void *arg)
{
    (void)arg;
    fiber_ids[0] = fib_self().id;
    fib_rwmutex_lock(&g_table);
    took();
    lock_second(&g_left);
}

static void start_reader(void *arg)
{
    (void)arg;
    fiber_ids[1] = fib_self().id;
    until_wanted(2);
    wanted++;
    fib_rwmutex_rlock(&g_table);
    sink++;
}

static void start_joiner(void *arg)
{
    (void)arg;
    fiber_ids[2] = fib_self().id;
    fib_mutex_lock(&g_left);
    took();
    fib_join(joined);
    sink++;
}

static void three_main(void *arg)
{
    (void)arg;
    fib_go(NULL, start_writer, NULL);
    fib_go(&joined, start_reader, NULL);
    fib_go(NULL, start_joiner, NULL);
    until_wanted(3);
    printf("want g%lu g_left g%lu\nwant g%lu g_table g%lu\nwant g%lu join g%lu\n", fiber_ids[0],
           fiber_ids[2], fiber_ids[1], fiber_ids[0], fiber_ids[2], fiber_ids[1]);
    ready();
    wait_long();
}

// --- A thread and a fiber.

// Has the runtime's lock and wants the pthread mutex, or the other way round.
static void *thread_wants_posix(void *arg)
{
    thread_id = gettid();
    pthread_setname_np(pthread_self(), "plain thread");
    fib_mutex_lock(&g_left);
    thread_took();
    pthread_mutex_lock(&g_posix);
    sink++;
    return arg;
}

static void *thread_wants_fiber_lock(void *arg)
{
    thread_id = gettid();
    pthread_mutex_lock(&g_posix);
    thread_took();
    fib_mutex_lock(&g_left);
    sink++;
    return arg;
}

static pid_t fiber_thread; // where the fiber ran when it took the mutex

static void start_blocked(void *arg)
{
    (void)arg;
    fiber_ids[0] = fib_self().id;
    fib_mutex_lock(&g_left);
    took();
    fiber_thread = gettid();
    pthread_mutex_lock(&g_posix); // blocks its thread
    sink++;
}

static void blocked_main(void *arg)
{
    pthread_t t;
    fib_go(NULL, start_blocked, arg);
    pthread_create(&t, NULL, thread_wants_fiber_lock, NULL);
    until_wanted(2);
    nap();
    printf("want t%d g_left g%lu\nwant t%d g_posix t%d\nruns g%lu t%d\n", thread_id, fiber_ids[0],
           fiber_thread, thread_id, fiber_ids[0], fiber_thread);
    ready();
    wait_long();
}

static void start_tied(void *arg)
{
    if (arg)
        fib_lock_thread();
    fiber_ids[0] = fib_self().id;
    fiber_thread = gettid();
    pthread_mutex_lock(&g_posix);
    thread_took(); // parked it would move
    if (arg)
        nap(); // tied it does not
    lock_second(&g_left);
}

static void tied(void *tie, const char *word, bool joins)
{
    pthread_t t;
    pthread_create(&t, NULL, thread_wants_posix, NULL);
    struct fib f;
    fib_go(&f, start_tied, tie);
    until_wanted(2);
    printf("%s t%d g_posix t%d\n%s g%lu g_left t%d\n", word, thread_id, fiber_thread, word,
           fiber_ids[0], thread_id);
    printf("tie t%d g%lu\n", fiber_thread, fiber_ids[0]);
    ready();
    if (joins)
        fib_join(f);
    wait_long();
}

static void tied_main(void *arg)
{
    (void)arg;
    tied("yes", "want", false);
}

static void untied_main(void *arg)
{
    (void)arg;
    tied(NULL, "maybe", false);
}

// The same, and all other fibers wait for that one.
static void alone_main(void *arg)
{
    (void)arg;
    tied(NULL, "want", true);
}

// --- Much locking without a deadlock, in fibers and threads.

static struct fib_mutex stress[STRESS_LOCKS];
static pthread_mutex_t stress_posix[STRESS_LOCKS];
static struct fib_rwmutex stress_rw;

static void lock_some(unsigned long set, int may_park)
{
    for (int i = 0; i < STRESS_LOCKS; i++)
        if (set >> i & 1)
            fib_mutex_lock(&stress[i]);
    if (set >> 20 & 1)
        fib_rwmutex_lock(&stress_rw);
    else
        fib_rwmutex_rlock(&stress_rw);
    for (int i = 0; i < STRESS_LOCKS; i++) // no wait of the runtime's while these are held
        if (set >> (i + 8) & 1)
            pthread_mutex_lock(&stress_posix[i]);
    sink++;
    for (int i = 0; i < STRESS_LOCKS; i++)
        if (set >> (i + 8) & 1)
            pthread_mutex_unlock(&stress_posix[i]);
    if (may_park && set >> 30 & 1)
        fib_yield();
    if (set >> 20 & 1)
        fib_rwmutex_unlock(&stress_rw);
    else
        fib_rwmutex_runlock(&stress_rw);
    for (int i = STRESS_LOCKS - 1; i >= 0; i--)
        if (set >> i & 1)
            fib_mutex_unlock(&stress[i]);
}

static void start_stress(void *arg)
{
    unsigned long x = (unsigned long)arg * 2654435761u + 1;
    for (;;) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        lock_some(x >> 24, 1);
        if (x >> 58 == 0)
            fib_sleep(200000);
    }
}

static void *thread_stress(void *arg)
{
    unsigned long x = (unsigned long)arg * 40503u + 7;
    for (;;) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        lock_some(x >> 24, 0);
        usleep(200);
    }
    return NULL;
}

static void stress_main(void *arg)
{
    pthread_t t;
    (void)arg;
    for (long i = 0; i < STRESS_FIBERS; i++)
        fib_go(NULL, start_stress, (void *)i);
    for (long i = 0; i < STRESS_THREADS; i++)
        pthread_create(&t, NULL, thread_stress, (void *)i);
    ready();
    wait_long();
}

// --- A crowd for one lock, and others in a channel.

static _Atomic int crowd;

static void start_in_crowd(void *arg)
{
    int v;
    crowd++;
    if (arg)
        fib_mutex_lock(&g_left);
    else
        fib_chan_recv(gate, &v);
    sink++;
}

static void crowd_main(void *arg)
{
    gate = fib_chan_new(sizeof(int), 0);
    fib_mutex_lock(&g_left);
    for (int i = 0; i < CROWD; i++)
        fib_go(NULL, start_in_crowd, i % 2 ? "lock" : arg);
    while (crowd < CROWD)
        fib_sleep(1000000);
    printf("crowd g%lu\n", fib_self().id);
    ready();
    wait_long();
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        fib_fn *fn;
    } cases[] = {{"two", two_main},       {"three", three_main},   {"blocked", blocked_main},
                 {"tied", tied_main},     {"untied", untied_main}, {"alone", alone_main},
                 {"stress", stress_main}, {"crowd", crowd_main}};
    struct fib_options options = {.size = sizeof options, .procs = 2};
    for (size_t i = 0; argc > 1 && i < sizeof cases / sizeof *cases; i++)
        if (!strcmp(argv[1], cases[i].name))
            return fib_init(&options) ? 1 : fib_main(cases[i].fn, NULL);
    return 2;
}
