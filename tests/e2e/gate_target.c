// SPDX-License-Identifier: MIT
//
// What the gate judges by samples and clocks, each in a function of its own and as large as asked:
// `gate_target KIB SLEEP_MS HOLD_MS` allocates so much, sleeps so long, holds a lock so long that
// another thread wants.

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#define NOINLINE __attribute__((noinline, noclone))

enum { BLOCK_BYTES = 4096 };

static void *volatile keep;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic int is_waiting;

static void sleep_ms(long ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&t, &t) && errno == EINTR)
        ;
}

static NOINLINE void take_memory(long kib)
{
    for (long i = 0; i < kib * 1024 / BLOCK_BYTES; i++) {
        keep = malloc(BLOCK_BYTES);
        free(keep);
    }
}

static NOINLINE void sit_still(long ms)
{
    sleep_ms(ms);
    keep = NULL; // no tail call
}

static NOINLINE void *want_lock(void *arg)
{
    is_waiting = 1;
    pthread_mutex_lock(&lock);
    pthread_mutex_unlock(&lock);
    return arg;
}

static NOINLINE void let_go(void)
{
    pthread_mutex_unlock(&lock);
    keep = NULL;
}

static NOINLINE int hold_lock(long ms)
{
    pthread_t t;
    pthread_mutex_lock(&lock);
    if (pthread_create(&t, NULL, want_lock, NULL))
        return 3;
    while (!is_waiting)
        sleep_ms(1);
    sleep_ms(ms);
    let_go();
    return pthread_join(t, NULL) ? 3 : 0;
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    take_memory(atol(argv[1]));
    sit_still(atol(argv[2]));
    return hold_lock(atol(argv[3]));
}
