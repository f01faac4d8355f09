// SPDX-License-Identifier: MIT
//
// As order_target.c, with the runtime's locks: held by fibers, which change threads while they hold them.

#include <fiberscope/chan.h>
#include <fiberscope/fiber.h>
#include <fiberscope/sync.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct fib_mutex g_a, g_b, g_c, g_gate;
struct fib_rwmutex g_ra, g_rb;
struct fib_cond g_cond;
pthread_mutex_t g_posix = PTHREAD_MUTEX_INITIALIZER;

static void in_fiber(fib_fn *fn)
{
    struct fib h;
    if (fib_go(&h, fn, NULL))
        abort();
    fib_join(h);
}

// Parks with the lock held: the next one goes on elsewhere, perhaps.
static void nap(void)
{
    fib_sleep(2000000);
}

static void take_ab(void *arg)
{
    (void)arg;
    fib_mutex_lock(&g_a);
    nap();
    fib_mutex_lock(&g_b);
    nap();
    fib_mutex_unlock(&g_b);
    fib_mutex_unlock(&g_a);
}

static void take_ba(void *arg)
{
    (void)arg;
    fib_mutex_lock(&g_b);
    nap();
    fib_mutex_lock(&g_a);
    fib_mutex_unlock(&g_a);
    fib_mutex_unlock(&g_b);
}

static void try_ba(void *arg)
{
    (void)arg;
    fib_mutex_lock(&g_b);
    if (!fib_mutex_trylock(&g_a))
        abort();
    fib_mutex_unlock(&g_a);
    if (fib_mutex_lock_for(&g_a, 1000000000))
        abort();
    fib_mutex_unlock(&g_a);
    fib_mutex_unlock(&g_b);
}

static void gate_ab(void *arg)
{
    fib_mutex_lock(&g_gate);
    take_ab(arg);
    fib_mutex_unlock(&g_gate);
}

static void gate_ba(void *arg)
{
    fib_mutex_lock(&g_gate);
    take_ba(arg);
    fib_mutex_unlock(&g_gate);
}

// Two fibers, one at a time on a thread, each with one lock: a thread that held both would have an order.
static void hold_a(void *arg)
{
    (void)arg;
    fib_mutex_lock(&g_a);
    for (int i = 0; i < 5; i++)
        nap();
    fib_mutex_unlock(&g_a);
}

static void hold_b(void *arg)
{
    (void)arg;
    fib_mutex_lock(&g_b);
    for (int i = 0; i < 5; i++)
        nap();
    fib_mutex_unlock(&g_b);
}

static void read_ab(void *arg)
{
    (void)arg;
    fib_rwmutex_rlock(&g_ra);
    fib_rwmutex_rlock(&g_rb);
    fib_rwmutex_runlock(&g_rb);
    fib_rwmutex_runlock(&g_ra);
}

static void write_ba(void *arg)
{
    (void)arg;
    fib_rwmutex_lock(&g_rb);
    fib_rwmutex_lock(&g_ra);
    fib_rwmutex_unlock(&g_ra);
    fib_rwmutex_unlock(&g_rb);
}

static void wait_a_in_b(void *arg)
{
    (void)arg;
    fib_mutex_lock(&g_a);
    fib_mutex_lock(&g_b);
    fib_cond_wait_for(&g_cond, &g_a, 10000000);
    fib_mutex_unlock(&g_b);
    fib_mutex_unlock(&g_a);
}

// One of each kind, in a fiber and in a thread.
static void posix_then_a(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&g_posix);
    fib_mutex_lock(&g_a);
    fib_mutex_unlock(&g_a);
    pthread_mutex_unlock(&g_posix);
}

static void *a_then_posix(void *arg)
{
    fib_mutex_lock(&g_a);
    pthread_mutex_lock(&g_posix);
    pthread_mutex_unlock(&g_posix);
    fib_mutex_unlock(&g_a);
    return arg;
}

static void in_thread(void *(*fn)(void *))
{
    pthread_t t;
    if (pthread_create(&t, NULL, fn, NULL) || pthread_join(t, NULL))
        abort();
}

static void both(void *arg)
{
    take_ab(arg);
    take_ba(arg);
}

static void many(void *arg)
{
    struct fib h[64];
    (void)arg;
    for (int i = 0; i < 64; i++)
        if (fib_go(&h[i], i % 2 ? hold_a : hold_b, NULL))
            abort();
    for (int i = 0; i < 64; i++)
        fib_join(h[i]);
}

static void run(void *arg)
{
    const char *name = arg;
    const struct {
        const char *name;
        fib_fn *first, *second;
    } cases[] = {
        {"abba", take_ab, take_ba},
        {"trylock", take_ab, try_ba},
        {"gate", gate_ab, gate_ba},
        {"one_fiber", both, NULL},
        {"read_write", read_ab, write_ba},
        {"cond", wait_a_in_b, take_ab},
        {"crowd", many, NULL},
        {"mixed", posix_then_a, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (strcmp(cases[i].name, name) != 0)
            continue;
        in_fiber(cases[i].first);
        if (cases[i].second)
            in_fiber(cases[i].second);
    }
    if (!strcmp(name, "mixed"))
        in_thread(a_then_posix);
    puts("ready");
    fflush(stdout);
    getchar();
}

int main(int argc, char **argv)
{
    return argc == 2 ? fib_main(run, argv[1]) : 2;
}
