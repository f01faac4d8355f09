// SPDX-License-Identifier: MIT
//
// What USDT sites are to tell, by construction. Begins once there is a file "go"; its process id is then in "pid". Lines that
// begin with "want" say what is to be found.
//
// usage: usdt_target fibers | locks | heap

#include <fiberscope/chan.h>
#include <fiberscope/fiber.h>
#include <fiberscope/io.h>
#include <fiberscope/sync.h>

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define KEEP __attribute__((noinline))

enum { FIBERS = 20, YIELDS = 50, SLEEPS = 3, CALLS = 50, MS = 1000000 };

static struct fib made[1000];
static uint32_t made_count;
static volatile uint64_t sink;

static void want(const char *what, uint64_t value)
{
    printf("want %s %" PRIu64 "\n", what, value);
}

static void wait_for_go(void)
{
    FILE *f = fopen("pid.tmp", "w");
    fprintf(f, "%d", (int)getpid());
    fclose(f);
    rename("pid.tmp", "pid");
    while (access("go", F_OK))
        usleep(5000);
}

static uint64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

KEEP static void burn(uint64_t ns)
{
    for (uint64_t begun = cpu_ns(); cpu_ns() - begun < ns;)
        for (int i = 0; i < 1000; i++)
            sink = sink * 6364136223846793005u + 1;
}

static void go(fib_fn *fn, void *arg)
{
    fib_go(&made[made_count++], fn, arg);
}

static void join_all(uint32_t from)
{
    for (uint32_t i = from; i < made_count; i++)
        fib_join(made[i]);
}

// --- fibers: with one P, so that who yields or sends always meets those that are meant.

static uint64_t preempted;
static struct fib_chan *chan;

static void yielder(void *arg)
{
    (void)arg;
    for (int i = 0; i < YIELDS; i++)
        fib_yield();
}

static void sleeper(void *arg)
{
    (void)arg;
    for (int i = 0; i < SLEEPS; i++)
        fib_sleep(2 * MS);
}

static void receiver(void *arg)
{
    int v;
    (void)arg;
    fib_chan_recv(chan, &v);
}

static void caller(void *arg)
{
    (void)arg;
    for (int i = 0; i < CALLS; i++) {
        fib_blocking_enter();
        sink++;
        fib_blocking_exit();
    }
}

static void reader(void *arg)
{
    char c;
    fib_read(*(int *)arg, &c, 1);
}

static void burner(void *arg)
{
    struct fib_info info = {.size = sizeof info};
    burn((uint64_t)(uintptr_t)arg);
    fib_info_read(fib_self(), &info);
    preempted += info.preempted; // one P
}

static void long_caller(void *arg)
{
    (void)arg;
    fib_blocking_enter();
    usleep(60000);
    fib_blocking_exit();
}

static void short_burner(void *arg)
{
    (void)arg;
    burn(MS / 5);
}

static void metric(void *arg, const struct fib_metric *m)
{
    if (!strcmp(m->name, "/fib/steals:events"))
        *(uint64_t *)arg = m->value;
}

static void phase(int n, fib_fn *fn, void *arg)
{
    uint32_t from = made_count;
    for (int i = 0; i < n; i++)
        go(fn, arg);
    join_all(from);
}

static void waits(void)
{
    int pipe_fds[2], v = 1;
    uint32_t from = made_count;
    chan = fib_chan_new(sizeof(int), 0);
    for (int i = 0; i < FIBERS; i++)
        go(receiver, NULL);
    if (pipe(pipe_fds))
        abort();
    go(reader, &pipe_fds[0]);
    fib_sleep(20 * MS); // all wait
    for (int i = 0; i < FIBERS; i++)
        fib_chan_send(chan, &v);
    if (write(pipe_fds[1], "", 1) != 1)
        abort();
    join_all(from);
}

static void fibers_main(void *arg)
{
    (void)arg;
    made[made_count++] = fib_self();
    phase(FIBERS, yielder, NULL);
    phase(FIBERS, sleeper, NULL);
    waits();
    phase(1, caller, NULL);
    go(long_caller, NULL);
    phase(2, burner, (void *)(uintptr_t)(100 * MS));
    join_all(1);
    fib_procs(2);
    uint64_t steals = 0, ids = 0;
    phase(200, short_burner, NULL);
    fib_metrics_read(metric, &steals);
    for (uint32_t i = 0; i < made_count; i++)
        ids += made[i].id;
    want("fibers", made_count);
    want("ids", ids);
    want("sleeper", (uintptr_t)sleeper);
    want("preempt", preempted);
    want("steal", steals);
    fflush(stdout);
}

// --- locks: as of fibers_target.c; and of threads.

enum { WAITERS = 5, HOLD_MS = 100 };

static struct fib_mutex mutex;
static pthread_mutex_t thread_mutex = PTHREAD_MUTEX_INITIALIZER;

KEEP static void start_waiter(void *arg)
{
    (void)arg;
    fib_mutex_lock(&mutex);
    sink++;
    fib_mutex_unlock(&mutex);
    sink++;
}

KEEP static void hold_and_unlock(void)
{
    fib_sleep(HOLD_MS * MS);
    fib_mutex_unlock(&mutex);
    sink++;
}

static void locks_main(void *arg)
{
    (void)arg;
    int64_t begun = fib_now_ns();
    fib_mutex_lock(&mutex);
    for (int i = 0; i < WAITERS; i++)
        go(start_waiter, NULL);
    hold_and_unlock();
    join_all(0);
    want("fibers_ns", (uint64_t)(fib_now_ns() - begun));
    fflush(stdout);
}

KEEP static void *thread_waiter(void *arg)
{
    pthread_mutex_lock(&thread_mutex);
    sink++;
    pthread_mutex_unlock(&thread_mutex);
    return arg;
}

static void thread_locks(void)
{
    pthread_t threads[WAITERS];
    pthread_mutex_lock(&thread_mutex);
    for (int i = 0; i < WAITERS; i++)
        pthread_create(&threads[i], NULL, thread_waiter, NULL);
    usleep(HOLD_MS * 1000);
    pthread_mutex_unlock(&thread_mutex);
    for (int i = 0; i < WAITERS; i++)
        pthread_join(threads[i], NULL);
}

// --- heap: sizes that nobody else asks for. Every second one stays.

enum { SMALL = 1009, SMALL_COUNT = 200000, LARGE = 70001, LARGE_COUNT = 2000 };

static void *volatile kept[(SMALL_COUNT + LARGE_COUNT) / 2];

KEEP static void make_some(size_t size, int count, int at)
{
    for (int i = 0; i < count; i += 2) {
        void *volatile p = malloc(size);
        kept[at + i / 2] = malloc(size);
        free(p);
    }
    sink++;
}

static void heap_main(void)
{
    make_some(SMALL, SMALL_COUNT, 0);
    make_some(LARGE, LARGE_COUNT, SMALL_COUNT / 2);
}

int main(int argc, char **argv)
{
    struct fib_options options = {.size = sizeof options, .procs = 1};
    const char *how = argc > 1 ? argv[1] : "";
    if (strcmp(how, "heap") && fib_init(&options))
        return 1;
    wait_for_go();
    if (!strcmp(how, "fibers")) {
        int rc = fib_main(fibers_main, NULL);
        usleep(100000); // main is woken before the last fiber's site is met
        return rc;
    }
    if (!strcmp(how, "heap"))
        return heap_main(), 0;
    if (!strcmp(how, "locks"))
        return thread_locks(), fib_main(locks_main, NULL);
    return 2;
}
