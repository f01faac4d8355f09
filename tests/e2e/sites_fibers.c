// SPDX-License-Identifier: MIT
//
// Fibers of which it is known how often they are spawned, park, are woken and end, and how long they wait for a mutex and a
// channel. Says "ready PID", waits for a line, and prints "truth NAME NUMBER..." lines at the end.

#include <fiberscope/chan.h>
#include <fiberscope/fiber.h>
#include <fiberscope/profile.h>
#include <fiberscope/sync.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define KEEP __attribute__((noinline))

enum { RECEIVERS = 50, MESSAGES = 20, ROUNDS = 40, HOLD_NS = 5000000 };

static volatile uint64_t sink;
static struct fib_chan *chan, *back;
static struct fib_mutex mutex;
static uint64_t waited_ns;

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

KEEP static void receive_here(void)
{
    int v;
    fib_chan_recv(chan, &v);
    sink++;
}

KEEP static void start_receiver(void *arg)
{
    int v = 0;
    for (int i = 0; i < MESSAGES; i++) {
        receive_here();
        fib_chan_send(back, &v);
    }
    sink++;
    (void)arg;
}

KEEP static void spawn_here(struct fib *f)
{
    fib_go(f, start_receiver, NULL);
    sink++;
}

// Each message finds all receivers waiting: nobody receives without having parked.
static void messages(void)
{
    struct fib f[RECEIVERS];
    int v = 0;
    chan = fib_chan_new(sizeof v, 0);
    back = fib_chan_new(sizeof v, RECEIVERS);
    for (int i = 0; i < RECEIVERS; i++)
        spawn_here(&f[i]);
    for (int round = 0; round < MESSAGES; round++) {
        fib_sleep(20000000);
        for (int i = 0; i < RECEIVERS; i++)
            fib_chan_send(chan, &v);
        for (int i = 0; i < RECEIVERS; i++)
            fib_chan_recv(back, &v);
    }
    for (int i = 0; i < RECEIVERS; i++)
        fib_join(f[i]);
}

KEEP static void wait_for_mutex(void)
{
    uint64_t began = now_ns();
    fib_mutex_lock(&mutex);
    waited_ns += now_ns() - began;
    fib_mutex_unlock(&mutex);
    sink++;
}

KEEP static void hold_and_unlock(void)
{
    fib_sleep(HOLD_NS);
    fib_mutex_unlock(&mutex);
    sink++;
}

KEEP static void start_waiter(void *arg)
{
    (void)arg;
    fib_label_set("kind", "waiter");
    wait_for_mutex();
    sink++;
}

static void locks(void)
{
    for (int i = 0; i < ROUNDS; i++) {
        struct fib f;
        fib_mutex_lock(&mutex);
        fib_go(&f, start_waiter, NULL);
        hold_and_unlock();
        fib_join(f);
    }
}

static void start(void *arg)
{
    char line[16];
    (void)arg;
    printf("ready %d\n", (int)getpid());
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin))
        exit(1);
    messages();
    locks();
    printf("truth spawn spawn_here %d\n", RECEIVERS);
    printf("truth park receive_here %d\n", RECEIVERS * MESSAGES);
    printf("truth exit - %d\n", RECEIVERS + ROUNDS); // the start function has returned
    printf("truth locks %d %llu\n", ROUNDS, (unsigned long long)waited_ns);
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin))
        exit(1);
}

int main(void)
{
    struct fib_options options = {.size = sizeof options, .procs = 2};
    return fib_init(&options) ? 1 : fib_main(start, NULL);
}
