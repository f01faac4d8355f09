// SPDX-License-Identifier: MIT
//
// Threads that wait for each other. What is to be found is printed: "want WAITER-TID LOCK HOLDER-TID" for each of a
// deadlock, "see TID WHAT" for what else must be in the table; then "ready". Locks are named as the variables are.

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define KEEP __attribute__((noinline))

enum { RING_MAX = 4, STRESS_THREADS = 8, STRESS_LOCKS = 5 };

pthread_mutex_t g_ring[RING_MAX];
pthread_mutex_t g_first = PTHREAD_MUTEX_INITIALIZER, g_other = PTHREAD_MUTEX_INITIALIZER;
pthread_rwlock_t g_table = PTHREAD_RWLOCK_INITIALIZER, g_index = PTHREAD_RWLOCK_INITIALIZER;
pthread_cond_t g_news = PTHREAD_COND_INITIALIZER;
sem_t g_slots;
pthread_barrier_t g_all, g_start;

static volatile unsigned long sink;
static pid_t tids[RING_MAX];

static void name_me(const char *name)
{
    pthread_setname_np(pthread_self(), name);
}

static pthread_t start(void *(*fn)(void *), void *arg)
{
    pthread_t t;
    if (pthread_create(&t, NULL, fn, arg))
        exit(3);
    return t;
}

static int is_main_to_end;

static void ready(void)
{
    usleep(100000); // by then the others wait
    printf("ready\n");
    fflush(stdout);
    if (is_main_to_end)
        pthread_exit(NULL);
    for (;;)
        pause();
}

static const char *ring_name(int i, char *buf)
{
    sprintf(buf, i ? "g_ring+0x%zx" : "g_ring", (size_t)i * sizeof(pthread_mutex_t));
    return buf;
}

// --- Rings of mutexes: each has its own, and wants the next one's.

struct ring {
    int count, type, robust;
};
static struct ring ring;

KEEP static void take_next(int i)
{
    pthread_mutex_lock(&g_ring[i]);
    sink++;
}

static void *ring_member(void *arg)
{
    int i = (int)(long)arg;
    name_me("ring member");
    tids[i] = gettid();
    pthread_mutex_lock(&g_ring[i]);
    if (ring.type == PTHREAD_MUTEX_RECURSIVE)
        pthread_mutex_lock(&g_ring[i]);
    if (ring.type == PTHREAD_MUTEX_ERRORCHECK && pthread_mutex_lock(&g_ring[i]) != EDEADLK)
        exit(4);
    pthread_barrier_wait(&g_start);
    take_next((i + 1) % ring.count);
    return NULL;
}

static void make_ring(int count, int type, int robust)
{
    pthread_mutexattr_t a;
    char name[32];
    ring = (struct ring){count, type, robust};
    pthread_mutexattr_init(&a);
    pthread_mutexattr_settype(&a, type);
    pthread_mutexattr_setrobust(&a, robust);
    pthread_barrier_init(&g_start, NULL, (unsigned)count + 1);
    for (int i = 0; i < count; i++)
        pthread_mutex_init(&g_ring[i], &a);
    for (int i = 0; i < count; i++)
        start(ring_member, (void *)(long)i);
    pthread_barrier_wait(&g_start);
    for (int i = 0; i < count; i++)
        printf("want %d %s %d\n", tids[i], ring_name((i + 1) % count, name), tids[(i + 1) % count]);
    ready();
}

static void two(void)
{
    make_ring(2, PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_STALLED);
}

static void headless(void)
{
    is_main_to_end = 1;
    two();
}

static void three(void)
{
    make_ring(3, PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_STALLED);
}

static void self(void)
{
    make_ring(1, PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_STALLED);
}

static void recursive(void)
{
    make_ring(2, PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_STALLED);
}

static void errorcheck(void)
{
    make_ring(3, PTHREAD_MUTEX_ERRORCHECK, PTHREAD_MUTEX_STALLED);
}

static void adaptive(void)
{
    make_ring(2, PTHREAD_MUTEX_ADAPTIVE_NP, PTHREAD_MUTEX_STALLED);
}

static void robust(void)
{
    make_ring(4, PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_ROBUST);
}

static void on_alarm(int signo)
{
    (void)signo;
    sink++;
}

// A deadlock whose threads are woken by signals all the time.
static void signals(void)
{
    struct itimerval often = {{0, 30000}, {0, 30000}};
    signal(SIGALRM, on_alarm);
    setitimer(ITIMER_REAL, &often, NULL);
    two();
}

// --- Two threads, each with one thing, that wants the other's.

struct pair {
    void (*have)(void), (*want)(void);
    const char *wants;
};
static struct pair pair[2];

static void *pair_member(void *arg)
{
    int i = (int)(long)arg;
    name_me(i ? "second" : "first");
    tids[i] = gettid();
    pair[i].have();
    pthread_barrier_wait(&g_start);
    pair[i].want();
    sink++;
    return NULL;
}

static void run_pair(struct pair a, struct pair b, const char *word)
{
    pair[0] = a;
    pair[1] = b;
    pthread_barrier_init(&g_start, NULL, 3);
    start(pair_member, (void *)0);
    start(pair_member, (void *)1);
    pthread_barrier_wait(&g_start);
    printf("%s %d %s %d\n", word, tids[0], a.wants, tids[1]);
    printf("%s %d %s %d\n", word, tids[1], b.wants, tids[0]);
    ready();
}

static void lock_first(void)
{
    pthread_mutex_lock(&g_first);
}

static void lock_other(void)
{
    pthread_mutex_lock(&g_other);
}

static void lock_other_for_long(void)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 3600;
    pthread_mutex_timedlock(&g_other, &until);
}

static void write_table(void)
{
    pthread_rwlock_wrlock(&g_table);
}

static void read_table(void)
{
    pthread_rwlock_rdlock(&g_table);
}

static void write_index(void)
{
    pthread_rwlock_wrlock(&g_index);
}

static void take_stderr(void)
{
    flockfile(stderr);
}

static void rwlock(void)
{
    run_pair((struct pair){write_table, write_index, "g_index"},
             (struct pair){write_index, read_table, "g_table"}, "want");
}

static void rwlock_mutex(void)
{
    run_pair((struct pair){write_table, lock_first, "g_first"},
             (struct pair){lock_first, write_table, "g_table"}, "want");
}

static void file(void)
{
    run_pair((struct pair){lock_first, take_stderr, "FILE"},
             (struct pair){take_stderr, lock_first, "g_first"}, "want");
}

static void timed(void)
{
    run_pair((struct pair){lock_first, lock_other_for_long, "g_other"},
             (struct pair){lock_other, lock_first, "g_first"}, "held");
}

// --- One joins the other, which wants what that one has.

static void *wants_first(void *arg)
{
    (void)arg;
    tids[1] = gettid();
    pthread_barrier_wait(&g_start);
    lock_first();
    sink++;
    return NULL;
}

static void *joins(void *arg)
{
    tids[0] = gettid();
    lock_first();
    pthread_t t = start(wants_first, NULL);
    pthread_barrier_wait(&g_start);
    pthread_join(t, NULL);
    sink++;
    return arg;
}

static void join(void)
{
    pthread_barrier_init(&g_start, NULL, 3);
    start(joins, NULL);
    pthread_barrier_wait(&g_start);
    printf("want %d join %d\nwant %d g_first %d\n", tids[0], tids[1], tids[1], tids[0]);
    ready();
}

// --- Everything that one can wait for, without a deadlock.

static int pipe_ends[2];

static void wait_news(void)
{
    pthread_mutex_lock(&g_other);
    pthread_cond_wait(&g_news, &g_other);
}

static void wait_slot(void)
{
    sem_wait(&g_slots);
}

static void wait_all(void)
{
    pthread_barrier_wait(&g_all);
}

static void wait_pipe(void)
{
    char c;
    if (read(pipe_ends[0], &c, 1) < 0)
        perror("read");
}

static void wait_poll(void)
{
    poll(NULL, 0, -1);
}

static void wait_sleep(void)
{
    sleep(3600);
}

static void wait_spin(void)
{
    for (;;)
        sink++;
}

static void *do_wait(void *arg)
{
    const struct {
        void (*fn)(void);
        const char *text;
    } *w = arg;
    printf("see %d %s\n", gettid(), w->text);
    fflush(stdout);
    w->fn();
    sink++;
    return NULL;
}

static void *hold_all(void *arg)
{
    lock_first();
    write_table();
    pthread_rwlock_rdlock(&g_index);
    tids[0] = gettid();
    pthread_barrier_wait(&g_start);
    pause();
    return arg;
}

static void kinds(void)
{
    static const struct {
        void (*fn)(void);
        const char *text;
    } waits[] = {{wait_news, "condition g_news"},
                 {wait_slot, "semaphore g_slots"},
                 {wait_all, "barrier g_all"},
                 {wait_pipe, "read on fd 3 (pipe:"},
                 {wait_poll, "poll"},
                 {wait_sleep, "sleep"},
                 {wait_spin, "running"},
                 {lock_first, "mutex g_first"},
                 {read_table, "rwlock to read g_table"},
                 {write_table, "rwlock to write g_table"},
                 {write_index, "rwlock to write g_index"}};
    sem_init(&g_slots, 0, 0);
    pthread_barrier_init(&g_all, NULL, 2);
    pthread_barrier_init(&g_start, NULL, 2);
    if (pipe(pipe_ends) || pipe_ends[0] != 3)
        exit(3);
    start(hold_all, NULL);
    pthread_barrier_wait(&g_start);
    for (size_t i = 0; i < sizeof waits / sizeof *waits; i++)
        start(do_wait, (void *)&waits[i]);
    printf("see %d pause\nholder %d\n", tids[0], tids[0]);
    ready();
}

// --- Held by one who has ended, and by another process.

static void *lock_and_end(void *arg)
{
    tids[0] = gettid();
    lock_first();
    return arg;
}

static void *wait_first(void *arg)
{
    printf("ended %d g_first %d\n", gettid(), tids[0]);
    lock_first();
    return arg;
}

static void dead(void)
{
    pthread_join(start(lock_and_end, NULL), NULL);
    start(wait_first, NULL);
    ready();
}

static void *wait_shared(void *arg)
{
    pthread_mutex_lock(arg);
    return NULL;
}

static void shared(void)
{
    int go[2];
    char c;
    pthread_mutexattr_t a;
    pthread_mutex_t *m =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_mutexattr_init(&a);
    pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(m, &a);
    if (pipe(go))
        exit(3);
    pid_t child = fork();
    if (!child) {
        pthread_mutex_lock(m);
        if (write(go[1], "x", 1) != 1)
            _exit(1);
        close(go[1]);
        while (getppid() != 1) // until the parent has ended
            usleep(10000);
        _exit(0);
    }
    if (read(go[0], &c, 1) != 1)
        exit(3);
    start(wait_shared, m);
    printf("outside %d\n", child);
    ready();
}

// --- Programs that lock much, and are never deadlocked: always in the same order.

static pthread_mutex_t stress[STRESS_LOCKS];
static pthread_rwlock_t stress_rw[STRESS_LOCKS];

static void *stresses(void *arg)
{
    unsigned long x = (unsigned long)arg * 2654435761u + 1;
    for (;;) {
        x = x * 6364136223846793005u + 1;
        unsigned long set = x >> 40;
        for (int i = 0; i < STRESS_LOCKS; i++) {
            if (set >> i & 1)
                pthread_mutex_lock(&stress[i]);
            if (set >> (i + 8) & 1 && set >> (i + 16) & 1)
                pthread_rwlock_wrlock(&stress_rw[i]);
            else if (set >> (i + 8) & 1)
                pthread_rwlock_rdlock(&stress_rw[i]);
        }
        sink++;
        if (x >> 60 == 0)
            usleep(100);
        for (int i = STRESS_LOCKS - 1; i >= 0; i--) {
            if (set >> (i + 8) & 1)
                pthread_rwlock_unlock(&stress_rw[i]);
            if (set >> i & 1)
                pthread_mutex_unlock(&stress[i]);
        }
    }
    return NULL;
}

static void stress_all(void)
{
    pthread_mutexattr_t a;
    pthread_mutexattr_init(&a);
    for (int i = 0; i < STRESS_LOCKS; i++) {
        pthread_mutexattr_settype(&a, i % 4);
        pthread_mutex_init(&stress[i], &a);
        pthread_rwlock_init(&stress_rw[i], NULL);
    }
    for (long i = 0; i < STRESS_THREADS; i++)
        start(stresses, (void *)i);
    ready();
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*fn)(void);
    } cases[] = {{"two", two},
                 {"headless", headless},
                 {"three", three},
                 {"self", self},
                 {"recursive", recursive},
                 {"errorcheck", errorcheck},
                 {"adaptive", adaptive},
                 {"robust", robust},
                 {"signals", signals},
                 {"rwlock", rwlock},
                 {"rwlock_mutex", rwlock_mutex},
                 {"file", file},
                 {"timed", timed},
                 {"join", join},
                 {"kinds", kinds},
                 {"dead", dead},
                 {"shared", shared},
                 {"stress", stress_all}};
    for (size_t i = 0; argc > 1 && i < sizeof cases / sizeof *cases; i++)
        if (!strcmp(argv[1], cases[i].name))
            cases[i].fn();
    return 2;
}
