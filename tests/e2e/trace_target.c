// SPDX-License-Identifier: MIT
//
// Does things of known number for trace_record.py.
//
//   trace_target fibers N     two fibers hand a number to and fro N times; 0: for ever (at most 20 s), with rests
//   trace_target rush 0       the same without rests
//   trace_target idle 0       two fibers that wait for ever
//   trace_target asleep 0     the same of threads
//   trace_target tasks N      N fibers each of a wait group and a group, and N tasks of a pool of two workers, sleep 10 ms
//                             each; one more fiber never runs
//   trace_target threads N    three threads sleep N times under one mutex, and use some CPU time

#include "fiberscope/chan.h"
#include "fiberscope/fiber.h"
#include "fiberscope/sync.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct fib_chan *ping, *pong;
static long rounds;
static bool rests;

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void echo_main(void *arg)
{
    long n;
    (void)arg;
    while (fib_chan_recv(ping, &n))
        fib_chan_send(pong, &n);
}

static void fibers_main(void *arg)
{
    long n, i;
    double end = now_s() + 20;
    (void)arg;
    ping = fib_chan_new(sizeof n, 0);
    pong = fib_chan_new(sizeof n, 0);
    if (!ping || !pong || fib_go(NULL, echo_main, NULL))
        exit(1);
    for (i = 0; rounds ? i < rounds : now_s() < end; i++) {
        fib_chan_send(ping, &i);
        fib_chan_recv(pong, &n);
        if (rests && i % 20 == 0)
            fib_sleep(1000000);
    }
    fib_chan_close(ping);
    printf("rounds %ld\n", i);
}

static void wait_main(void *arg)
{
    long n;
    fib_chan_recv(arg, &n);
}

static void idle_main(void *arg)
{
    ping = fib_chan_new(sizeof(long), 0);
    (void)arg;
    if (!ping || fib_go(NULL, wait_main, ping) || fib_go(NULL, wait_main, ping))
        exit(1);
    fib_sleep(20000000000);
}

static void in_waitgroup(void *arg)
{
    (void)arg;
    fib_sleep(10000000);
}

static int in_group(void *arg, struct fib_ctx *ctx)
{
    (void)arg;
    (void)ctx;
    fib_sleep(10000000);
    return 0;
}

static int in_pool(void *arg, struct fib_ctx *ctx)
{
    (void)arg;
    (void)ctx;
    fib_sleep(10000000);
    return 0;
}

static void in_no_time(void *arg)
{
    (void)arg;
}

static void tasks_main(void *arg)
{
    const struct fib_workers_options o = {.size = sizeof o, .workers = 2};
    struct fib_waitgroup w = {0};
    struct fib_group *g = fib_group_new(NULL, 0);
    struct fib_workers *pool = fib_workers_new(NULL, &o);
    (void)arg;
    if (!g || !pool)
        exit(1);
    for (long i = 0; i < rounds; i++)
        if (fib_waitgroup_go(&w, in_waitgroup, NULL) || fib_group_go(g, in_group, NULL) ||
            fib_workers_submit(pool, in_pool, NULL))
            exit(1);
    fib_waitgroup_wait(&w);
    if (fib_group_wait(g))
        exit(1);
    fib_group_free(g);
    fib_workers_free(pool);
    if (fib_waitgroup_go(&w, in_no_time, NULL))
        exit(1);
    exit(0);
}

static void *asleep_main(void *arg)
{
    sleep(20);
    return arg;
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static volatile unsigned long burnt;

static void *thread_main(void *arg)
{
    for (long i = 0; i < *(long *)arg; i++) {
        pthread_mutex_lock(&lock);
        usleep(1000);
        pthread_mutex_unlock(&lock);
    }
    for (double end = now_s() + 0.2; now_s() < end;)
        burnt++;
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    rounds = strtol(argv[2], NULL, 10);
    rests = !rounds && strcmp(argv[1], "rush") != 0;
    bool is_asleep = strcmp(argv[1], "asleep") == 0;
    if (strcmp(argv[1], "idle") == 0)
        return fib_main(idle_main, NULL) ? 1 : 0;
    if (strcmp(argv[1], "tasks") == 0)
        return fib_main(tasks_main, NULL) ? 1 : 0;
    if (strcmp(argv[1], "threads") != 0 && !is_asleep)
        return fib_main(fibers_main, NULL) ? 1 : 0;
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        if (pthread_create(&threads[i], NULL, is_asleep ? asleep_main : thread_main, &rounds))
            return 1;
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    return 0;
}
