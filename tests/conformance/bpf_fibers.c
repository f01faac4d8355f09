// SPDX-License-Identifier: MIT
//
// Fibers whose CPU time is known by construction, for bpf_walk: "small" ones do one part of the work, "large" ones, who have
// a name, three. And a plain thread. Runs until it is killed.

#include <fiberscope/fiber.h>
#include <fiberscope/profile.h>

#include <pthread.h>
#include <stdint.h>
#include <stddef.h>

enum {
    FIBERS = 4,
    STEP_LOOPS = 20000
}; // a turn is far shorter than those after which the runtime preempts

static volatile uint64_t sink;

__attribute__((noinline)) static void burn(int steps)
{
    for (int s = 0; s < steps; s++) {
        uint64_t x = sink;
        for (int i = 0; i < STEP_LOOPS; i++)
            x = x * 6364136223846793005u + 1;
        sink = x;
    }
}

static void start_small(void *arg)
{
    (void)arg;
    fib_label_set("kind", "small");
    for (;;) {
        burn(1);
        fib_yield();
    }
}

static void start_large(void *arg)
{
    (void)arg;
    fib_label_set("kind", "large");
    fib_set_name("a large one");
    for (;;) {
        burn(3);
        fib_yield();
    }
}

static void *thread_main(void *arg)
{
    (void)arg;
    for (;;)
        burn(1);
    return NULL;
}

static void fib_main_(void *arg)
{
    (void)arg;
    for (int i = 0; i < FIBERS; i++) {
        fib_go(NULL, start_small, NULL);
        fib_go(NULL, start_large, NULL);
    }
    for (;;)
        fib_sleep(1000000000);
}

int main(void)
{
    pthread_t t;
    if (pthread_create(&t, NULL, thread_main, NULL))
        return 1;
    return fib_main(fib_main_, NULL);
}
