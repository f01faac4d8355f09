// SPDX-License-Identifier: MIT
//
// Cases of lock_target.c, which has what they use: locks as they are seen from outside.

#ifndef FIBERSCOPE_TESTS_LOCK_CASES_H
#define FIBERSCOPE_TESTS_LOCK_CASES_H

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>

// A lock that the program makes of futex(2) itself, as Rust's and Go's libraries do: nothing between can be hooked.
static uint32_t word_lock;

static long futex(uint32_t *word, int op, uint32_t value)
{
    return syscall(SYS_futex, word, op | FUTEX_PRIVATE_FLAG, value, NULL, NULL, 0);
}

static NOINLINE int take_word(uint32_t *word)
{
    uint32_t free = 0;
    if (!__atomic_compare_exchange_n(word, &free, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
        while (__atomic_exchange_n(word, 2, __ATOMIC_ACQUIRE))
            futex(word, FUTEX_WAIT, 2);
    return 0;
}

static NOINLINE int give_word(uint32_t *word)
{
    if (__atomic_exchange_n(word, 0, __ATOMIC_RELEASE) == 2)
        futex(word, FUTEX_WAKE, 1);
    return 0;
}

WAITER(wait_word, take_word(&word_lock), give_word(&word_lock))

static NOINLINE void release_word(void)
{
    uint64_t ns = owed();
    CHECK(!give_word(&word_lock));
    printf("mutex release_word 1 %llu\n", (unsigned long long)ns);
}

static void case_word(void)
{
    pthread_t t[WAITERS];
    CHECK(!take_word(&word_lock));
    start(t, wait_word);
    release_word();
    join(t);
    report("wait_word");
}

// Nobody ever gives it back.
WAITER(wait_stuck, pthread_mutex_lock(&known_mutex), )

static void case_stuck(void)
{
    pthread_t t[WAITERS];
    CHECK(!pthread_mutex_lock(&known_mutex));
    start(t, wait_stuck);
    printf("stuck %d\n", (int)getpid());
    fflush(stdout);
    for (;;)
        pause();
}

// --- Threads that take turns, so that nearly all of the time somebody waits.

enum { TURNERS = 3, TURN_NS = 1000000, TURNS = 300 };

static NOINLINE void *turn(void *arg)
{
    const struct timespec t = {.tv_nsec = TURN_NS};
    for (int i = 0; i < TURNS; i++) {
        pthread_mutex_lock(&known_mutex);
        nanosleep(&t, NULL);
        pthread_mutex_unlock(&known_mutex);
        sched_yield();
    }
    return arg;
}

static void case_turns(void)
{
    pthread_t t[TURNERS];
    for (int i = 0; i < TURNERS; i++)
        CHECK(!pthread_create(&t[i], NULL, turn, NULL));
    for (int i = 0; i < TURNERS; i++)
        CHECK(!pthread_join(t[i], NULL));
}

// --- Until it is killed: work with the lock held.

static NOINLINE void burn(uint64_t ns)
{
    uint64_t until = now() + ns;
    while (now() < until)
        ;
}

static NOINLINE void *work_locked(void *arg)
{
    for (;;) {
        pthread_mutex_lock(&known_mutex);
        burn(3000000);
        pthread_mutex_unlock(&known_mutex);
        sleep_ms(1);
    }
    return arg;
}

static void case_busy(void)
{
    pthread_t t[TURNERS];
    for (int i = 0; i < TURNERS; i++)
        CHECK(!pthread_create(&t[i], NULL, work_locked, NULL));
    printf("busy\n");
    fflush(stdout);
    pthread_join(t[0], NULL);
}

enum { MANY = 3000 };

static pthread_mutex_t many[2 * MANY];
static _Atomic int held, released;

static NOINLINE void *want_many(void *arg)
{
    for (int i = 0; i < 2 * MANY; i++) {
        while (held <= i)
            sched_yield();
        pthread_mutex_lock(&many[i]);
        pthread_mutex_unlock(&many[i]);
        released++;
    }
    return arg;
}

static void wait_for_word(void)
{
    printf("many\n");
    fflush(stdout);
    CHECK(getchar() != EOF);
}

// Each of many locks is waited for once; before each half of them, and at the end, a word lets us go on.
static void case_many(void)
{
    pthread_t t;
    CHECK(!pthread_create(&t, NULL, want_many, NULL));
    for (int i = 0; i < 2 * MANY; i++) {
        if (i % MANY == 0)
            wait_for_word();
        pthread_mutex_lock(&many[i]);
        held++;
        while (*(volatile int *)&many[i] != 2) // glibc's word for one that is waited for
            sched_yield();
        usleep(20); // it is on its way into the kernel
        pthread_mutex_unlock(&many[i]);
        while (released <= i)
            sched_yield();
    }
    wait_for_word();
    pthread_join(t, NULL);
}

#endif
