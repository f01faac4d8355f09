// SPDX-License-Identifier: MIT
//
// Waits whose length and number the program itself knows: `lock_target CASE`. Each line it prints is the
// truth: "block FUNCTION count ns", "mutex FUNCTION count ns", where FUNCTION is the one that called the
// pthread function and ns is what it measured around the call (or, for mutex, what the waiters had
// waited when the lock was released).

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))
#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                                \
            exit(3);                                                                               \
        }                                                                                          \
    } while (0)

enum { WAITERS = 4, HOLD_MS = 150 };

pthread_mutex_t known_mutex = PTHREAD_MUTEX_INITIALIZER; // named by its symbol
static pthread_rwlock_t known_rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static pthread_mutex_t cond_mutex = PTHREAD_MUTEX_INITIALIZER;
static sem_t sem;
static pthread_barrier_t barrier;
static mtx_t c11;
static pthread_mutex_t *made; // named by where it was initialised

static _Atomic int started, waited;
static _Atomic uint64_t block_ns, start_sum;

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void sleep_ms(unsigned ms)
{
    struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
    while (nanosleep(&t, &t) && errno == EINTR)
        ;
}

static void begin(uint64_t *t)
{
    *t = now();
    start_sum += *t;
    started++;
}

static void end(uint64_t t)
{
    block_ns += now() - t;
    waited++;
}

#define WAITER(name, wait, leave)                                                                  \
    static NOINLINE void *name(void *arg)                                                          \
    {                                                                                              \
        uint64_t t;                                                                                \
        begin(&t);                                                                                 \
        CHECK(!(wait));                                                                            \
        end(t);                                                                                    \
        leave;                                                                                     \
        return arg;                                                                                \
    }

WAITER(wait_mutex, pthread_mutex_lock(&known_mutex), pthread_mutex_unlock(&known_mutex))
WAITER(wait_made, pthread_mutex_lock(made), pthread_mutex_unlock(made))
WAITER(wait_write, pthread_rwlock_wrlock(&known_rwlock), pthread_rwlock_unlock(&known_rwlock))
WAITER(wait_read, pthread_rwlock_rdlock(&known_rwlock), pthread_rwlock_unlock(&known_rwlock))
WAITER(wait_sem, sem_wait(&sem), )
WAITER(wait_c11, mtx_lock(&c11), mtx_unlock(&c11))

static NOINLINE void *wait_barrier(void *arg)
{
    uint64_t t;
    begin(&t);
    pthread_barrier_wait(&barrier);
    end(t);
    return arg;
}

static NOINLINE void *wait_cond(void *arg)
{
    uint64_t t;
    pthread_mutex_lock(&cond_mutex);
    begin(&t);
    CHECK(!pthread_cond_wait(&cond, &cond_mutex));
    end(t);
    pthread_mutex_unlock(&cond_mutex);
    return arg;
}

static NOINLINE void *just_sleep(void *arg)
{
    sleep_ms(HOLD_MS);
    return arg;
}

static void start(pthread_t *threads, void *(*fn)(void *))
{
    for (int i = 0; i < WAITERS; i++)
        CHECK(!pthread_create(&threads[i], NULL, fn, NULL));
    while (started < WAITERS)
        sleep_ms(1);
    sleep_ms(HOLD_MS);
}

static NOINLINE void join(pthread_t *threads)
{
    for (int i = 0; i < WAITERS; i++)
        CHECK(!pthread_join(threads[i], NULL));
    CHECK(waited == WAITERS);
}

// What all waiters have waited by now.
static uint64_t owed(void)
{
    return (uint64_t)WAITERS * now() - start_sum;
}

static NOINLINE void release_mutex(pthread_mutex_t *m)
{
    uint64_t ns = owed();
    CHECK(!pthread_mutex_unlock(m));
    printf("mutex release_mutex 1 %llu\n", (unsigned long long)ns);
}

static NOINLINE void release_rwlock(void)
{
    uint64_t ns = owed();
    CHECK(!pthread_rwlock_unlock(&known_rwlock));
    printf("mutex release_rwlock 1 %llu\n", (unsigned long long)ns);
}

static NOINLINE void release_c11(void)
{
    uint64_t ns = owed();
    CHECK(mtx_unlock(&c11) == thrd_success);
    printf("mutex release_c11 1 %llu\n", (unsigned long long)ns);
}

static void report(const char *function)
{
    printf("block %s %d %llu\n", function, WAITERS, (unsigned long long)block_ns);
}

static void case_mutex(void)
{
    pthread_t t[WAITERS];
    CHECK(!pthread_mutex_lock(&known_mutex));
    start(t, wait_mutex);
    release_mutex(&known_mutex);
    join(t);
    report("wait_mutex");
}

static NOINLINE void make_lock(void)
{
    made = malloc(sizeof *made);
    CHECK(!pthread_mutex_init(made, NULL));
}

static void case_made(void)
{
    pthread_t t[WAITERS];
    make_lock();
    CHECK(!pthread_mutex_lock(made));
    start(t, wait_made);
    release_mutex(made);
    join(t);
    report("wait_made");
}

// A lock that no call initialises lies in a block of the heap; later that memory becomes another's.
struct holder {
    char name[24];
    pthread_mutex_t lock;
};

static const pthread_mutex_t unlocked = PTHREAD_MUTEX_INITIALIZER;

static NOINLINE struct holder *make_holder(void)
{
    struct holder *h = malloc(sizeof *h);
    CHECK(h);
    h->lock = unlocked;
    return h;
}

static NOINLINE struct holder *make_other(void)
{
    struct holder *h = malloc(sizeof *h);
    CHECK(h);
    h->lock = unlocked;
    return h;
}

static NOINLINE struct holder *make_called(void)
{
    struct holder *h = malloc(sizeof *h);
    CHECK(h && !pthread_mutex_init(&h->lock, NULL));
    return h;
}

static void contend(pthread_mutex_t *m)
{
    pthread_t t[WAITERS];
    made = m;
    started = waited = 0;
    CHECK(!pthread_mutex_lock(made));
    start(t, wait_made);
    release_mutex(made);
    join(t);
}

static void contend_in_turn(struct holder *(*first)(void), struct holder *(*then)(void))
{
    struct holder *h = first();
    uintptr_t was = (uintptr_t)h;
    contend(&h->lock);
    free(h);
    h = then();
    CHECK((uintptr_t)h == was); // or there is nothing to be seen here
    contend(&h->lock);
    free(h);
}

static void case_held(void)
{
    struct holder *h = make_holder();
    contend(&h->lock);
    report("wait_made");
}

static void case_reused(void)
{
    contend_in_turn(make_holder, make_other);
}

static void case_uncalled(void)
{
    contend_in_turn(make_called, make_other);
}

// The inner unlock of a recursive mutex lets nobody in: all is owed to the outer one.
static NOINLINE void release_inner(pthread_mutex_t *m)
{
    CHECK(!pthread_mutex_unlock(m));
    printf("mutex release_inner 0 0\n");
}

static void case_recursive(void)
{
    pthread_t t[WAITERS];
    pthread_mutexattr_t attr;
    made = malloc(sizeof *made);
    CHECK(!pthread_mutexattr_init(&attr));
    CHECK(!pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE));
    CHECK(!pthread_mutex_init(made, &attr));
    CHECK(!pthread_mutex_lock(made) && !pthread_mutex_lock(made));
    start(t, wait_made);
    release_inner(made);
    sleep_ms(50);
    release_mutex(made);
    join(t);
    report("wait_made");
}

static void case_write(void)
{
    pthread_t t[WAITERS];
    CHECK(!pthread_rwlock_rdlock(&known_rwlock));
    start(t, wait_write);
    release_rwlock();
    join(t);
    report("wait_write");
}

static void case_read(void)
{
    pthread_t t[WAITERS];
    CHECK(!pthread_rwlock_wrlock(&known_rwlock));
    start(t, wait_read);
    release_rwlock();
    join(t);
    report("wait_read");
}

static void case_c11(void)
{
    pthread_t t[WAITERS];
    CHECK(mtx_init(&c11, mtx_plain) == thrd_success && mtx_lock(&c11) == thrd_success);
    start(t, wait_c11);
    release_c11();
    join(t);
    report("wait_c11");
}

static void case_sem(void)
{
    pthread_t t[WAITERS];
    CHECK(!sem_init(&sem, 0, 0));
    start(t, wait_sem);
    for (int i = 0; i < WAITERS; i++)
        CHECK(!sem_post(&sem));
    join(t);
    report("wait_sem");
}

static void case_cond(void)
{
    pthread_t t[WAITERS];
    start(t, wait_cond);
    pthread_mutex_lock(&cond_mutex);
    CHECK(!pthread_cond_broadcast(&cond));
    pthread_mutex_unlock(&cond_mutex);
    join(t);
    report("wait_cond");
}

static void case_barrier(void)
{
    pthread_t t[WAITERS];
    CHECK(!pthread_barrier_init(&barrier, NULL, WAITERS + 1));
    start(t, wait_barrier);
    pthread_barrier_wait(&barrier);
    join(t);
    report("wait_barrier");
}

static NOINLINE void join_one(pthread_t t)
{
    uint64_t began = now();
    CHECK(!pthread_join(t, NULL));
    printf("block join_one 1 %llu\n", (unsigned long long)(now() - began));
}

static void case_join(void)
{
    pthread_t t;
    CHECK(!pthread_create(&t, NULL, just_sleep, NULL));
    join_one(t);
}

// --- Short waits, far below the rate: kept by chance, and unbiased. Two threads hand a lock to and fro;
// the waiter measures each wait that was one.

enum { SHORT_WAITS = 20000 };
#define SHORT_LIMIT_NS UINT64_C(10000000000)

static _Atomic int stop;

static NOINLINE void *hold_shortly(void *arg)
{
    while (!stop) {
        pthread_mutex_lock(&known_mutex);
        uint64_t until = now() + 20000;
        while (now() < until)
            ;
        pthread_mutex_unlock(&known_mutex);
        until = now() + 5000;
        while (now() < until)
            ;
    }
    return arg;
}

static NOINLINE int wait_shortly(uint64_t *ns)
{
    uint64_t t = now();
    if (pthread_mutex_trylock(&known_mutex) == 0) {
        pthread_mutex_unlock(&known_mutex);
        return 0;
    }
    pthread_mutex_lock(&known_mutex);
    *ns = now() - t;
    pthread_mutex_unlock(&known_mutex);
    return 1;
}

static void case_short(void)
{
    pthread_t t;
    uint64_t sum = 0, count = 0, ns;
    CHECK(!pthread_create(&t, NULL, hold_shortly, NULL));
    uint64_t limit = now() + SHORT_LIMIT_NS;
    while (count < SHORT_WAITS && now() < limit)
        if (wait_shortly(&ns)) {
            sum += ns;
            count++;
        }
    CHECK(count > 100);
    stop = 1;
    CHECK(!pthread_join(t, NULL));
    printf("block wait_shortly %llu %llu\n", (unsigned long long)count, (unsigned long long)sum);
}

#include "tests/e2e/lock_cases.h"

// --- Mutexes of all kinds keep their meaning.

static void lock_kind(int type)
{
    pthread_mutex_t m;
    pthread_mutexattr_t attr;
    CHECK(!pthread_mutexattr_init(&attr) && !pthread_mutexattr_settype(&attr, type));
    CHECK(!pthread_mutex_init(&m, &attr));
    CHECK(!pthread_mutex_lock(&m));
    int again = pthread_mutex_lock(&m);
    CHECK(again == (type == PTHREAD_MUTEX_RECURSIVE ? 0 : EDEADLK));
    if (!again)
        CHECK(!pthread_mutex_unlock(&m));
    CHECK(!pthread_mutex_unlock(&m));
    CHECK(pthread_mutex_unlock(&m) == EPERM);
    CHECK(!pthread_mutex_destroy(&m));
}

static void *die_holding(void *m)
{
    pthread_mutex_lock(m);
    return NULL;
}

static void *cancelled(void *arg)
{
    pthread_mutex_lock(&cond_mutex);
    pthread_cleanup_push((void (*)(void *))pthread_mutex_unlock, &cond_mutex);
    started++;
    pthread_cond_wait(&cond, &cond_mutex);
    pthread_cleanup_pop(1);
    return arg;
}

static void case_meaning(void)
{
    lock_kind(PTHREAD_MUTEX_RECURSIVE);
    lock_kind(PTHREAD_MUTEX_ERRORCHECK);
    pthread_mutex_t m;
    pthread_mutexattr_t attr;
    pthread_t t;
    CHECK(!pthread_mutexattr_init(&attr));
    CHECK(!pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST));
    CHECK(!pthread_mutex_init(&m, &attr));
    CHECK(!pthread_create(&t, NULL, die_holding, &m) && !pthread_join(t, NULL));
    CHECK(pthread_mutex_lock(&m) == EOWNERDEAD && !pthread_mutex_consistent(&m));
    CHECK(!pthread_mutex_unlock(&m));

    CHECK(!pthread_mutex_lock(&known_mutex));
    struct timespec limit;
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_nsec += 20000000;
    limit.tv_sec += limit.tv_nsec / 1000000000;
    limit.tv_nsec %= 1000000000;
    CHECK(pthread_mutex_timedlock(&known_mutex, &limit) == ETIMEDOUT);
    CHECK(!pthread_mutex_unlock(&known_mutex));
    CHECK(!sem_init(&sem, 0, 0));
    errno = 0;
    CHECK(sem_timedwait(&sem, &limit) == -1 && errno == ETIMEDOUT);
    CHECK(!sem_post(&sem));
    errno = ENOENT;
    CHECK(!sem_wait(&sem) && errno == ENOENT);

    CHECK(!pthread_create(&t, NULL, cancelled, NULL));
    while (!started)
        sleep_ms(1);
    sleep_ms(20);
    CHECK(!pthread_cancel(t) && !pthread_join(t, NULL));
    CHECK(!pthread_mutex_lock(&cond_mutex) && !pthread_mutex_unlock(&cond_mutex));
}

static const struct {
    const char *name;
    void (*run)(void);
} cases[] = {
    {"mutex", case_mutex}, {"made", case_made},     {"recursive", case_recursive},
    {"write", case_write}, {"read", case_read},     {"c11", case_c11},
    {"sem", case_sem},     {"cond", case_cond},     {"barrier", case_barrier},
    {"join", case_join},   {"short", case_short},   {"meaning", case_meaning},
    {"held", case_held},   {"reused", case_reused}, {"uncalled", case_uncalled},
    {"word", case_word},   {"stuck", case_stuck},   {"turns", case_turns},
    {"busy", case_busy},   {"many", case_many},
};

int main(int argc, char **argv)
{
    for (size_t i = 0; argc > 1 && i < sizeof cases / sizeof *cases; i++)
        if (!strcmp(argv[1], cases[i].name)) {
            cases[i].run();
            printf("ok\n");
            return 0;
        }
    return 2;
}
