// SPDX-License-Identifier: MIT
//
// Programs that take locks in some order, for order.py: `order_target CASE`. What is to be found in each is said in
// order.py. Threads run one after the other, so that nothing of it ever is a deadlock, but in `dead`. Says "ready" and
// goes on at the next line or the end of its input: `again` does its work once more for each line.

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#define MUTEX PTHREAD_MUTEX_INITIALIZER

static pthread_mutex_t g_a = MUTEX, g_b = MUTEX, g_c = MUTEX, g_gate = MUTEX, g_gate2 = MUTEX;
static pthread_mutex_t g_recursive = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static pthread_rwlock_t g_ra = PTHREAD_RWLOCK_INITIALIZER, g_rb = PTHREAD_RWLOCK_INITIALIZER;
static pthread_rwlock_t g_qa = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP,
                        g_qb = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
static pthread_cond_t g_cond = PTHREAD_COND_INITIALIZER;
static mtx_t g_ma, g_mb;

static void check(int rc)
{
    if (rc)
        abort();
}

static void lock(pthread_mutex_t *m)
{
    check(pthread_mutex_lock(m));
}

static void unlock(pthread_mutex_t *m)
{
    check(pthread_mutex_unlock(m));
}

static void soon(struct timespec *t)
{
    clock_gettime(CLOCK_REALTIME, t);
    t->tv_nsec += 20000000;
    t->tv_sec += t->tv_nsec / 1000000000;
    t->tv_nsec %= 1000000000;
}

// Runs fn in a thread of its own, to its end.
static void in_thread(void *(*fn)(void *))
{
    pthread_t t;
    check(pthread_create(&t, NULL, fn, NULL));
    check(pthread_join(t, NULL));
}

// A thread that takes these one after the other, and gives them back from the last on.
#define TAKES(name, ...)                                                                           \
    __attribute__((noinline)) static void *name(void *arg)                                         \
    {                                                                                              \
        pthread_mutex_t *const all[] = {__VA_ARGS__};                                              \
        const size_t n = sizeof all / sizeof *all;                                                 \
        for (size_t i = 0; i < n; i++)                                                             \
            lock(all[i]);                                                                          \
        for (size_t i = n; i--;)                                                                   \
            unlock(all[i]);                                                                        \
        return arg;                                                                                \
    }

TAKES(take_ab, &g_a, &g_b)
TAKES(take_ba, &g_b, &g_a)
TAKES(take_bc, &g_b, &g_c)
TAKES(take_ca, &g_c, &g_a)
TAKES(take_ac, &g_a, &g_c)
TAKES(take_gate_ab, &g_gate, &g_a, &g_b)
TAKES(take_gate_ba, &g_gate, &g_b, &g_a)
TAKES(take_gate2_ba, &g_gate2, &g_b, &g_a)
TAKES(take_a_gate_b, &g_a, &g_gate, &g_b)
TAKES(take_b_gate_a, &g_b, &g_gate, &g_a)
TAKES(take_recursive, &g_recursive, &g_recursive, &g_b, &g_recursive)
TAKES(take_b_recursive, &g_b, &g_recursive)

static void *try_a_in_b(void *arg)
{
    lock(&g_b);
    check(pthread_mutex_trylock(&g_a));
    unlock(&g_a);
    unlock(&g_b);
    return arg;
}

static void *b_in_tried_a(void *arg)
{
    check(pthread_mutex_trylock(&g_a));
    lock(&g_b);
    unlock(&g_b);
    unlock(&g_a);
    return arg;
}

static void *timed_a_in_b(void *arg)
{
    struct timespec t;
    soon(&t);
    lock(&g_b);
    check(pthread_mutex_timedlock(&g_a, &t));
    unlock(&g_a);
    unlock(&g_b);
    return arg;
}

// Hand over hand: what is held first is released first.
static void *chain(void *arg)
{
    lock(&g_a);
    lock(&g_b);
    unlock(&g_a);
    lock(&g_c);
    unlock(&g_b);
    unlock(&g_c);
    return arg;
}

static void *unlock_a(void *arg)
{
    unlock(&g_a);
    return arg;
}

// What it has taken another one releases: with g_b it holds nothing.
static void *handed(void *arg)
{
    lock(&g_a);
    in_thread(unlock_a);
    lock(&g_a);
    unlock(&g_a);
    lock(&g_b);
    unlock(&g_b);
    return arg;
}

// --- Reader-writer locks.

#define READS(name, first, lock_first, second, lock_second)                                        \
    static void *name(void *arg)                                                                   \
    {                                                                                              \
        check(lock_first(first));                                                                  \
        check(lock_second(second));                                                                \
        check(pthread_rwlock_unlock(second));                                                      \
        check(pthread_rwlock_unlock(first));                                                       \
        return arg;                                                                                \
    }

READS(read_ab, &g_ra, pthread_rwlock_rdlock, &g_rb, pthread_rwlock_rdlock)
READS(read_ba, &g_rb, pthread_rwlock_rdlock, &g_ra, pthread_rwlock_rdlock)
READS(queue_ab, &g_qa, pthread_rwlock_rdlock, &g_qb, pthread_rwlock_rdlock)
READS(queue_ba, &g_qb, pthread_rwlock_rdlock, &g_qa, pthread_rwlock_rdlock)
READS(upgrade_ab, &g_ra, pthread_rwlock_rdlock, &g_rb, pthread_rwlock_wrlock)
READS(upgrade_ba, &g_rb, pthread_rwlock_rdlock, &g_ra, pthread_rwlock_wrlock)
READS(write_ab, &g_ra, pthread_rwlock_wrlock, &g_rb, pthread_rwlock_rdlock)
READS(try_write_ba, &g_rb, pthread_rwlock_rdlock, &g_ra, pthread_rwlock_trywrlock)

// Two readers of a common lock stand in nobody's way; a reader and a writer do.
#define UNDER(name, how, fn)                                                                       \
    static void *name(void *arg)                                                                   \
    {                                                                                              \
        check(how(&g_ra));                                                                         \
        fn(NULL);                                                                                  \
        check(pthread_rwlock_unlock(&g_ra));                                                       \
        return arg;                                                                                \
    }

UNDER(under_read_ab, pthread_rwlock_rdlock, take_ab)
UNDER(under_read_ba, pthread_rwlock_rdlock, take_ba)
UNDER(under_write_ba, pthread_rwlock_wrlock, take_ba)

// --- Conditions: the mutex is taken again, with what else is held.

static void *wait_a_in_b(void *arg)
{
    struct timespec t;
    lock(&g_a);
    lock(&g_b);
    soon(&t);
    int rc = pthread_cond_timedwait(&g_cond, &g_a, &t);
    check(rc == ETIMEDOUT ? 0 : rc);
    unlock(&g_b);
    unlock(&g_a);
    return arg;
}

static void *wait_a(void *arg)
{
    struct timespec t;
    lock(&g_a);
    soon(&t);
    int rc = pthread_cond_timedwait(&g_cond, &g_a, &t);
    check(rc == ETIMEDOUT ? 0 : rc);
    lock(&g_b);
    unlock(&g_b);
    unlock(&g_a);
    return arg;
}

// --- C11.

static int mtx_ab(void *arg)
{
    (void)arg;
    mtx_lock(&g_ma);
    mtx_lock(&g_mb);
    mtx_unlock(&g_mb);
    mtx_unlock(&g_ma);
    return 0;
}

static int mtx_ba(void *arg)
{
    (void)arg;
    mtx_lock(&g_mb);
    mtx_lock(&g_ma);
    mtx_unlock(&g_ma);
    mtx_unlock(&g_mb);
    return 0;
}

static void c11(void)
{
    thrd_t t;
    mtx_init(&g_ma, mtx_plain);
    mtx_init(&g_mb, mtx_plain);
    for (int i = 0; i < 2; i++) {
        if (thrd_create(&t, i ? mtx_ba : mtx_ab, NULL) != thrd_success)
            abort();
        thrd_join(t, NULL);
    }
}

// --- Others.

static void renew(void)
{
    check(pthread_mutex_destroy(&g_a));
    check(pthread_mutex_destroy(&g_b));
    check(pthread_mutex_init(&g_a, NULL));
    check(pthread_mutex_init(&g_b, NULL));
}

// A child goes its own way, in memory of its own, with what is held at the fork.
static void forked(void)
{
    lock(&g_a);
    lock(&g_b);
    pid_t child = fork();
    unlock(&g_b);
    unlock(&g_a);
    if (!child) {
        in_thread(take_ba);
        _exit(0);
    }
    int status = 1;
    if (waitpid(child, &status, 0) != child || status)
        abort();
}

enum { MANY = 40, FLOOD = 3000 };

static void *take_many(void *arg)
{
    static pthread_mutex_t many[MANY];
    for (int i = 0; i < MANY; i++) {
        check(pthread_mutex_init(&many[i], NULL));
        lock(&many[i]);
    }
    for (int i = MANY; i--;)
        unlock(&many[i]);
    return arg;
}

static void *take_flood(void *arg)
{
    static pthread_mutex_t flood[2 * FLOOD];
    for (int i = 0; i < 2 * FLOOD; i++)
        check(pthread_mutex_init(&flood[i], NULL));
    for (int i = 0; i < FLOOD; i++) {
        lock(&flood[2 * i]);
        lock(&flood[2 * i + 1]);
        unlock(&flood[2 * i + 1]);
        unlock(&flood[2 * i]);
    }
    return arg;
}

// Locks that come and go, more than there is room for at a time.
static void *churn(void *arg)
{
    for (int i = 0; i < 10 * FLOOD; i++) {
        pthread_mutex_t pair[2];
        check(pthread_mutex_init(&pair[0], NULL));
        check(pthread_mutex_init(&pair[1], NULL));
        lock(&pair[i & 1]);
        lock(&pair[!(i & 1)]);
        unlock(&pair[0]);
        unlock(&pair[1]);
        check(pthread_mutex_destroy(&pair[0]));
        check(pthread_mutex_destroy(&pair[1]));
    }
    return arg;
}

static pthread_barrier_t g_meet;

static void *die_ab(void *arg)
{
    lock(&g_a);
    pthread_barrier_wait(&g_meet);
    lock(&g_b);
    return arg;
}

static void *die_ba(void *arg)
{
    lock(&g_b);
    pthread_barrier_wait(&g_meet);
    lock(&g_a);
    return arg;
}

static void dead(void)
{
    pthread_t t;
    check(pthread_barrier_init(&g_meet, NULL, 2));
    check(pthread_create(&t, NULL, die_ab, NULL));
    check(pthread_create(&t, NULL, die_ba, NULL));
    usleep(200000);
}

// Threads that take four locks in one order, some of them, each by itself, by all means.
static void *ordered(void *arg)
{
    pthread_mutex_t *const all[] = {&g_a, &g_b, &g_c, &g_gate};
    unsigned x = (unsigned)(size_t)arg * 2654435761u + 1;
    for (int round = 0; round < 20000; round++) {
        x = x * 1664525u + 1013904223u;
        unsigned set = x >> 28, held = 0;
        for (unsigned i = 0; i < 4; i++) {
            if (!(set >> i & 1))
                continue;
            if (x >> (8 + i) & 1)
                lock(all[i]);
            else if (pthread_mutex_trylock(all[i]))
                continue;
            held |= 1u << i;
        }
        // Against the order, but without waiting.
        if (!(held & 1) && !pthread_mutex_trylock(all[0]))
            held |= 1;
        for (unsigned i = 0; i < 4; i++) {
            unsigned k = (i + x) % 4;
            if (held >> k & 1)
                unlock(all[k]);
        }
    }
    return NULL;
}

static void stress(void)
{
    pthread_t t[8];
    for (size_t i = 0; i < 8; i++)
        check(pthread_create(&t[i], NULL, ordered, (void *)i));
    for (size_t i = 0; i < 8; i++)
        check(pthread_join(t[i], NULL));
}

static const struct {
    const char *name;
    void *(*threads[3])(void *);
    void (*fn)(void);
} cases[] = {
    {"abba", {take_ab, take_ba}, NULL},
    {"again", {take_ab, take_ba}, NULL},
    {"abc", {take_ab, take_bc, take_ca}, NULL},
    {"straight", {take_ab, take_bc, take_ac}, NULL},
    {"gate", {take_gate_ab, take_gate_ba}, NULL},
    {"half_gate", {take_gate_ab, take_ba}, NULL},
    {"two_gates", {take_gate_ab, take_gate2_ba}, NULL},
    {"inner_gate", {take_a_gate_b, take_b_gate_a}, NULL},
    {"gate_then_none", {take_gate_ab, take_gate_ba, take_ba}, NULL},
    {"trylock", {take_ab, try_a_in_b}, NULL},
    {"tried_first", {b_in_tried_a, take_ba}, NULL},
    {"timed", {take_ab, timed_a_in_b}, NULL},
    {"recursive", {take_recursive, take_recursive}, NULL},
    {"recursive_inverted", {take_recursive, take_b_recursive}, NULL},
    {"handed", {handed, take_ba}, NULL},
    {"chain", {chain, take_ca}, NULL},
    {"two_chains", {chain, chain, take_ca}, NULL},
    {"read_read", {read_ab, read_ba}, NULL},
    {"read_queues", {queue_ab, queue_ba}, NULL},
    {"read_write", {upgrade_ab, upgrade_ba}, NULL},
    {"write_read", {write_ab, read_ba}, NULL},
    {"try_write", {write_ab, try_write_ba}, NULL},
    {"read_gate", {under_read_ab, under_read_ba}, NULL},
    {"write_gate", {under_read_ab, under_write_ba}, NULL},
    {"cond", {wait_a_in_b, take_ab}, NULL},
    {"cond_plain", {wait_a, wait_a}, NULL},
    {"c11", {0}, c11},
    {"forked", {0}, forked},
    {"many", {take_many}, NULL},
    {"flood", {take_flood}, NULL},
    {"churn", {churn, churn}, NULL},
    {"dead", {0}, dead},
    {"stress", {0}, stress},
};

static void work(const char *name)
{
    if (!strcmp(name, "destroyed")) {
        in_thread(take_ab);
        renew();
        in_thread(take_ba);
        return;
    }
    if (!strcmp(name, "one_thread")) {
        take_ab(NULL);
        take_ba(NULL);
        return;
    }
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (strcmp(cases[i].name, name) != 0)
            continue;
        for (size_t k = 0; k < 3 && cases[i].threads[k]; k++)
            in_thread(cases[i].threads[k]);
        if (cases[i].fn)
            cases[i].fn();
        return;
    }
    fprintf(stderr, "order_target: no case %s\n", name);
    exit(2);
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    bool again = !strcmp(argv[1], "again");
    if (!again)
        work(argv[1]);
    do {
        puts("ready");
        fflush(stdout);
        if (getchar() == EOF)
            break;
        if (again)
            work(argv[1]);
    } while (again);
    return 0;
}
