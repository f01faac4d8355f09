// SPDX-License-Identifier: MIT
//
// Programs of which it is known by construction what their traces have to say: trace_gaps MODE, see trace_gaps.py.
//
//   forks        three forked children, which do not execute anything else: one writes, one computes, one waits for the
//                lock of a thread of its own
//   hangs        a thread waits for ever, and main for it
//   held         each of ROUNDS times a condition is signalled with its mutex held, which is kept for HOLD_MS
//   retaken      likewise, but the mutex is free at the signal, and taken again at once
//   tried        likewise, but taken by a trylock
//   readers      a writer waits for two readers, of which one goes, and sleeps, HOLD_MS before the other does
//   late         waits for conditions of four kinds time out after HOLD_MS, and their mutex is another's until 3 HOLD_MS
//   crowd        CROWD waiters are woken at once, and each keeps the mutex for HOLD_MS
//   computes     main and a thread that nobody waits for compute, for 0.3 s of CPU time each, and do nothing else
//   brief        a condition is signalled with its mutex held, which is released at once
//   blocked      threads wait in all ways before a trace begins; "ready" is said, and a line of input lets them go
//   deaf         ignores SIGINT, for two seconds

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = 5, HOLD_MS = 20, CROWD = 4 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER, asked = PTHREAD_COND_INITIALIZER;
static int tokens, waiters;
static volatile unsigned long sink;

static void rest(long ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&t, &t))
        ;
}

__attribute__((noinline)) static void compute(double seconds)
{
    struct timespec t;
    double end = 0, now;
    do {
        for (int i = 0; i < 10000; i++)
            sink += (unsigned long)i;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
        now = (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
        end = end > 0 ? end : now + seconds;
    } while (now < end);
}

static atomic_bool is_done;

static void *computer(void *arg)
{
    compute(0.3);
    atomic_store(&is_done, true);
    return arg;
}

static int computes(void)
{
    pthread_t t;
    if (pthread_create(&t, NULL, computer, NULL))
        return 1;
    pthread_detach(t);
    compute(0.3);
    while (!atomic_load(&is_done))
        ;
    return 0;
}

// --- Children.

__attribute__((noinline)) static void writing_child(void)
{
    FILE *null = fopen("/dev/null", "w");
    for (int i = 0; i < 10; i++)
        if (write(fileno(null), "x", 1) != 1)
            _exit(1);
    _exit(0);
}

static void *locker(void *arg)
{
    pthread_mutex_lock(&mutex);
    pthread_mutex_unlock(&mutex);
    return arg;
}

__attribute__((noinline)) static void locking_child(void)
{
    pthread_t t;
    pthread_mutex_lock(&mutex);
    if (pthread_create(&t, NULL, locker, NULL))
        exit(1);
    rest(HOLD_MS);
    pthread_mutex_unlock(&mutex);
    pthread_join(t, NULL);
    exit(0);
}

static int forks(void)
{
    void (*const children[])(void) = {writing_child, NULL, locking_child};
    for (int i = 0; i < 3; i++) {
        int status;
        pid_t pid = fork();
        if (!pid && children[i])
            children[i]();
        if (!pid) {
            compute(0.1);
            _exit(0);
        }
        printf("%d\n", (int)pid);
        fflush(stdout); // else the next child has it to say, too
        if (waitpid(pid, &status, 0) != pid || status)
            return 1;
    }
    return 0;
}

// --- Waits.

static void *stuck(void *arg)
{
    pthread_mutex_lock(&mutex);
    for (;;)
        pthread_cond_wait(&condition, &mutex);
    return arg;
}

static int hangs(void)
{
    pthread_t t;
    if (pthread_create(&t, NULL, stuck, NULL))
        return 1;
    rest(10);
    puts("hangs");
    fflush(stdout);
    return pthread_join(t, NULL);
}

static void *taker(void *arg)
{
    long hold_ms = (long)arg;
    int rounds = hold_ms ? 1 : ROUNDS;
    for (int i = 0; i < rounds; i++) {
        pthread_mutex_lock(&mutex);
        waiters++;
        pthread_cond_signal(&asked);
        while (!tokens)
            pthread_cond_wait(&condition, &mutex);
        tokens--;
        if (hold_ms)
            rest(hold_ms);
        pthread_mutex_unlock(&mutex);
    }
    return arg;
}

static void await_waiters(int n)
{
    while (waiters < n)
        pthread_cond_wait(&asked, &mutex);
    waiters = 0;
}

static int gives(bool is_held, bool tries, long hold_ms)
{
    pthread_t t;
    if (pthread_create(&t, NULL, taker, NULL))
        return 1;
    for (int i = 0; i < ROUNDS; i++) {
        pthread_mutex_lock(&mutex);
        await_waiters(1);
        tokens++;
        if (!is_held) {
            pthread_mutex_unlock(&mutex);
            pthread_cond_signal(&condition);
            // Long before the other has woken up.
            if (!tries || pthread_mutex_trylock(&mutex))
                pthread_mutex_lock(&mutex);
        } else {
            pthread_cond_signal(&condition);
        }
        if (hold_ms)
            rest(hold_ms);
        pthread_mutex_unlock(&mutex);
    }
    return pthread_join(t, NULL);
}

static int crowd(void)
{
    pthread_t t[CROWD];
    for (int i = 0; i < CROWD; i++)
        if (pthread_create(&t[i], NULL, taker, (void *)(long)HOLD_MS))
            return 1;
    pthread_mutex_lock(&mutex);
    await_waiters(CROWD);
    tokens = CROWD;
    pthread_mutex_unlock(&mutex);
    pthread_cond_broadcast(&condition);
    for (int i = 0; i < CROWD; i++)
        pthread_join(t[i], NULL);
    return 0;
}

static cnd_t c11_condition;
static mtx_t c11_mutex;
static pthread_barrier_t barrier;

static struct timespec in_hold(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    t.tv_nsec += HOLD_MS * 1000000;
    t.tv_sec += t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    return t;
}

static void *timed(void *arg)
{
    struct timespec wall, mono;
    pthread_condattr_t attr;
    pthread_cond_t by_mono;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&by_mono, &attr);
    for (int i = 0; i < 3; i++) {
        pthread_mutex_lock(&mutex);
        pthread_barrier_wait(&barrier);
        wall = in_hold(CLOCK_REALTIME);
        mono = in_hold(CLOCK_MONOTONIC);
        int rc = i == 0   ? pthread_cond_timedwait(&condition, &mutex, &wall)
                 : i == 1 ? pthread_cond_timedwait(&by_mono, &mutex, &mono)
                          : pthread_cond_clockwait(&condition, &mutex, CLOCK_MONOTONIC, &mono);
        if (rc != ETIMEDOUT)
            exit(1);
        pthread_mutex_unlock(&mutex);
    }
    mtx_lock(&c11_mutex);
    pthread_barrier_wait(&barrier);
    wall = in_hold(CLOCK_REALTIME);
    if (cnd_timedwait(&c11_condition, &c11_mutex, &wall) != thrd_timedout)
        exit(1);
    mtx_unlock(&c11_mutex);
    return arg;
}

static int late(void)
{
    pthread_t t;
    cnd_init(&c11_condition);
    mtx_init(&c11_mutex, mtx_timed);
    pthread_barrier_init(&barrier, NULL, 2);
    if (pthread_create(&t, NULL, timed, NULL))
        return 1;
    for (int i = 0; i < 4; i++) {
        pthread_barrier_wait(&barrier);
        if (i < 3)
            pthread_mutex_lock(&mutex);
        else
            mtx_lock(&c11_mutex);
        rest(3 * HOLD_MS);
        if (i < 3)
            pthread_mutex_unlock(&mutex);
        else
            mtx_unlock(&c11_mutex);
    }
    return pthread_join(t, NULL);
}

static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;

static void *reader(void *arg)
{
    pthread_rwlock_rdlock(&rwlock);
    rest((long)arg * HOLD_MS);
    pthread_rwlock_unlock(&rwlock);
    rest(2 * HOLD_MS);
    return NULL;
}

static void *writer(void *arg)
{
    pthread_rwlock_wrlock(&rwlock);
    pthread_rwlock_unlock(&rwlock);
    return arg;
}

static int readers(void)
{
    pthread_t t[3];
    for (long i = 0; i < 2; i++)
        if (pthread_create(&t[i], NULL, reader, (void *)(i + 2)))
            return 1;
    rest(HOLD_MS);
    if (pthread_create(&t[2], NULL, writer, NULL))
        return 1;
    for (int i = 0; i < 3; i++)
        pthread_join(t[i], NULL);
    return 0;
}

// --- Before a trace.

static int lines[2];
static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;
static sem_t semaphore;

static void *in_poll(void *arg)
{
    struct pollfd p = {.fd = lines[0], .events = POLLIN};
    poll(&p, 1, -1);
    return arg;
}

static void *in_read(void *arg)
{
    char byte;
    return read(lines[0], &byte, 1) == 1 ? arg : NULL;
}

static void *in_mutex(void *arg)
{
    pthread_mutex_lock(&held);
    pthread_mutex_unlock(&held);
    return arg;
}

static void *in_semaphore(void *arg)
{
    while (sem_wait(&semaphore))
        ;
    return arg;
}

static void *in_sleep(void *arg)
{
    rest(60000);
    return arg;
}

static void *in_loop(void *arg)
{
    compute(60);
    return arg;
}

static int blocked(void)
{
    void *(*const all[])(void *) = {in_poll, in_read, in_mutex, in_semaphore, in_sleep, in_loop};
    enum { COUNT = sizeof all / sizeof *all };
    pthread_t t[COUNT];
    char byte, line[2];
    sem_init(&semaphore, 0, 0);
    pthread_mutex_lock(&held);
    if (pipe(lines))
        return 1;
    for (int i = 0; i < COUNT; i++)
        if (pthread_create(&t[i], NULL, all[i], NULL))
            return 1;
    rest(50);
    puts("ready");
    fflush(stdout);
    if (read(0, line, sizeof line) != sizeof line)
        return 1;
    pthread_mutex_unlock(&held);
    sem_post(&semaphore);
    if (write(lines[1], "xx", 2) != 2)
        return 1;
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    puts("gone");
    fflush(stdout);
    return read(0, &byte, 1) < 0;
}

static int deaf(void)
{
    signal(SIGINT, SIG_IGN);
    puts("deaf");
    fflush(stdout);
    for (int i = 0; i < 20; i++)
        rest(100);
    return 0;
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";
    if (!strcmp(mode, "forks"))
        return forks();
    if (!strcmp(mode, "hangs"))
        return hangs();
    if (!strcmp(mode, "held") || !strcmp(mode, "retaken") || !strcmp(mode, "tried"))
        return gives(!strcmp(mode, "held"), !strcmp(mode, "tried"), HOLD_MS);
    if (!strcmp(mode, "brief"))
        return gives(true, false, 0);
    if (!strcmp(mode, "late"))
        return late();
    if (!strcmp(mode, "readers"))
        return readers();
    if (!strcmp(mode, "computes"))
        return computes();
    if (!strcmp(mode, "crowd"))
        return crowd();
    if (!strcmp(mode, "blocked"))
        return blocked();
    if (!strcmp(mode, "deaf"))
        return deaf();
    return 2;
}
