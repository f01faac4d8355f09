// SPDX-License-Identifier: MIT
//
// Circles of locks beside fibers that go on: partial MODE. What is printed is text_test.py's.

#include "fiberscope/fiber.h"
#include "fiberscope/sync.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static struct fib_mutex a, b, c;

static __attribute__((noinline)) void lock_two(struct fib_mutex *first, struct fib_mutex *second)
{
    fib_mutex_lock(first);
    fib_sleep(50000000);
    fib_mutex_lock(second);
    abort();
}

static void holds_a(void *arg)
{
    (void)arg;
    fib_set_name("philosopher");
    lock_two(&a, &b);
}

static void holds_b(void *arg)
{
    lock_two(&b, arg);
}

static void holds_c(void *arg)
{
    (void)arg;
    lock_two(&c, &a);
}

static void *thread_holds_b(void *arg)
{
    lock_two(&b, arg);
    return NULL;
}

// Waits for a lock in the circle, but nobody waits for it.
static void beside(void *arg)
{
    (void)arg;
    fib_sleep(70000000);
    fib_mutex_lock(&a);
}

// Not for ever: each is released after a while.
static void passes_on(void *arg)
{
    (void)arg;
    for (int i = 0; i < 10; i++) {
        fib_mutex_lock(&a);
        fib_sleep(300000000);
        fib_mutex_unlock(&a);
    }
}

static void start(void *arg)
{
    const char *mode = arg;
    struct fib f;
    pthread_t t;
    int rc = 0;
    if (!strcmp(mode, "none")) {
        rc |= fib_go(&f, passes_on, NULL) | fib_go(&f, passes_on, NULL);
    } else {
        rc |= fib_go(&f, holds_a, NULL);
        if (!strcmp(mode, "two"))
            rc |= fib_go(&f, holds_b, &a);
        if (!strcmp(mode, "three"))
            rc |= fib_go(&f, holds_b, &c) | fib_go(&f, holds_c, NULL);
        if (!strcmp(mode, "thread"))
            rc |= pthread_create(&t, NULL, thread_holds_b, &a);
        rc |= fib_go(&f, beside, NULL);
    }
    if (rc)
        abort();
    fib_sleep(3500000000);
}

int main(int argc, char **argv)
{
    return argc == 2 ? fib_main(start, argv[1]) : 64;
}
