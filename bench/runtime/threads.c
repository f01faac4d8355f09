// SPDX-License-Identifier: MIT
//
// The peer on plain threads, where there is one: yield, spawning, ping-pong by futex and by condition variable,
// mutex. Usage: runtime_threads CASE OPS. "One P" for it is one CPU, by affinity.

#include "bench/runtime/bench.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int64_t measure_wakes(void)
{
    return -1;
}

static void spawn(pthread_t *t, void *(*fn)(void *), void *arg)
{
    MUST(!pthread_create(t, NULL, fn, arg));
}

static void *yielder(void *arg)
{
    for (long n = *(long *)arg; n > 0; n--)
        sched_yield();
    return NULL;
}

static void run_yield(long ops)
{
    long each = ops / 2;
    pthread_t t[2];
    measure_begin();
    for (int i = 0; i < 2; i++)
        spawn(&t[i], yielder, &each);
    for (int i = 0; i < 2; i++)
        pthread_join(t[i], NULL);
    measure_end(2 * each);
}

static _Atomic long ran;

static void *count(void *arg)
{
    (void)arg;
    atomic_fetch_add_explicit(&ran, 1, memory_order_relaxed);
    return NULL;
}

static void run_spawn_sequential(long ops)
{
    measure_begin();
    for (long i = 0; i < ops; i++) {
        pthread_t t;
        spawn(&t, count, NULL);
        pthread_join(t, NULL);
    }
    measure_end(ops);
    MUST(ran == ops);
}

// --- Ping-pong: a value there and back, as two unbuffered channels do it.

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed[2];
    _Atomic uint32_t turn; // whose: 0, 1
    long ops;
} pp = {.mutex = PTHREAD_MUTEX_INITIALIZER,
        .changed = {PTHREAD_COND_INITIALIZER, PTHREAD_COND_INITIALIZER}};

static void cond_turn(uint32_t me)
{
    pthread_mutex_lock(&pp.mutex);
    while (pp.turn != me)
        pthread_cond_wait(&pp.changed[me], &pp.mutex);
    pp.turn = !me;
    pthread_cond_signal(&pp.changed[!me]);
    pthread_mutex_unlock(&pp.mutex);
}

static void *cond_echo(void *arg)
{
    (void)arg;
    for (long i = 0; i < pp.ops; i++)
        cond_turn(1);
    return NULL;
}

static void futex_turn(uint32_t me)
{
    while (atomic_load_explicit(&pp.turn, memory_order_acquire) != me)
        syscall(SYS_futex, &pp.turn, FUTEX_WAIT_PRIVATE, !me, NULL, NULL, 0);
    atomic_store_explicit(&pp.turn, !me, memory_order_release);
    syscall(SYS_futex, &pp.turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void *futex_echo(void *arg)
{
    (void)arg;
    for (long i = 0; i < pp.ops; i++)
        futex_turn(1);
    return NULL;
}

static void pingpong(long ops, void *(*echo)(void *), void (*turn)(uint32_t))
{
    pthread_t t;
    pp.ops = ops;
    measure_begin();
    spawn(&t, echo, NULL);
    for (long i = 0; i < ops; i++)
        turn(0);
    pthread_join(t, NULL);
    measure_end(ops);
}

static void run_pingpong(long ops)
{
    pingpong(ops, cond_echo, cond_turn);
}

static void run_pingpong_futex(long ops)
{
    pingpong(ops, futex_echo, futex_turn);
}

// --- Mutex.

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static long counter;

static void *lock_loop(void *arg)
{
    for (long n = *(long *)arg; n > 0; n--) {
        pthread_mutex_lock(&mutex);
        counter++;
        pthread_mutex_unlock(&mutex);
    }
    return NULL;
}

static void *idle(void *arg)
{
    (void)arg;
    pause();
    return NULL;
}

// glibc leaves the atomic instruction out while a process has one thread; fibers always have several.
static void run_mutex(long ops)
{
    pthread_t t;
    spawn(&t, idle, NULL);
    measure_begin();
    lock_loop(&ops);
    measure_end(ops);
    MUST(counter == ops);
}

static void run_mutex_many(long ops, int threads)
{
    long each = ops / threads;
    pthread_t t[100];
    measure_begin();
    for (int i = 0; i < threads; i++)
        spawn(&t[i], lock_loop, &each);
    for (int i = 0; i < threads; i++)
        pthread_join(t[i], NULL);
    measure_end(each * threads);
    MUST(counter == each * threads);
}

static void run_mutex2(long ops)
{
    run_mutex_many(ops, 2);
}

static void run_mutex100(long ops)
{
    run_mutex_many(ops, 100);
}

static const struct bench_case cases[] = {
    {"yield", run_yield},       {"spawn_sequential", run_spawn_sequential},
    {"pingpong", run_pingpong}, {"pingpong_futex", run_pingpong_futex},
    {"mutex", run_mutex},       {"mutex2", run_mutex2},
    {"mutex100", run_mutex100}, {0},
};

int main(int argc, char **argv)
{
    for (const struct bench_case *c = cases; argc == 3 && c->name; c++)
        if (!strcmp(c->name, argv[1])) {
            c->run(strtol(argv[2], NULL, 10));
            measure_print();
            return 0;
        }
    fprintf(stderr, "usage: runtime_threads CASE OPS\n");
    return 2;
}
