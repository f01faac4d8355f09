// SPDX-License-Identifier: MIT
//
// Ways in and out of calls that are told: handlers that make calls within others, jump out of them, threads that are
// cancelled in them or make some as they end; and one release with many waiters. See trace_waits.py.

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { HOLD_MS = 300 };

static int null_fd;

static double seconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

__attribute__((noinline)) static void compute(void)
{
    for (double end = seconds(CLOCK_MONOTONIC) + HOLD_MS / 1e3; seconds(CLOCK_MONOTONIC) < end;)
        ;
}

static pthread_t begin(void *(*function)(void *), void *arg)
{
    pthread_t t;
    sigset_t alarm_set;
    sigemptyset(&alarm_set);
    sigaddset(&alarm_set, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &alarm_set, NULL); // for the thread
    if (pthread_create(&t, NULL, function, arg))
        exit(2);
    pthread_sigmask(SIG_UNBLOCK, &alarm_set, NULL);
    return t;
}

static void handle(void (*handler)(int), int flags)
{
    struct sigaction act = {.sa_handler = handler, .sa_flags = SA_RESTART | flags};
    sigaction(SIGALRM, &act, NULL);
}

// --- Handlers that wait as their thread's wait ends.

static sem_t there, back;
static volatile int handled;

static void on_timer(int number)
{
    int saved = errno;
    (void)number;
    handled++;
    poll(NULL, 0, 0);
    errno = saved;
}

static void *answers(void *arg)
{
    for (;;) {
        sem_wait(&there);
        sem_post(&back);
    }
    return arg;
}

static void ending_waits(double how_long)
{
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGALRM};
    const struct itimerspec often = {{0, 37000}, {0, 37000}};
    event._sigev_un._tid = gettid();
    sem_init(&there, 0, 0);
    sem_init(&back, 0, 0);
    handle(on_timer, 0);
    begin(answers, NULL);
    timer_create(CLOCK_MONOTONIC, &event, &timer);
    timer_settime(timer, 0, &often, NULL);
    for (double end = seconds(CLOCK_MONOTONIC) + how_long; seconds(CLOCK_MONOTONIC) < end;) {
        sem_post(&there);
        while (sem_wait(&back) && errno == EINTR)
            ;
    }
    timer_delete(timer);
    printf("%d handlers\n", handled);
    fflush(stdout);
    _exit(0);
}

// --- Handlers that write while their thread reads, on this stack and on one of their own.

static void on_alarm(int number)
{
    (void)number;
    if (write(null_fd, "x", 1) != 1)
        _exit(3);
}

static void *in_read(void *arg)
{
    int *ends = arg;
    char byte, own[32768];
    stack_t other = {.ss_sp = own, .ss_size = sizeof own};
    sigset_t none;
    sigemptyset(&none);
    if (ends[1] && sigaltstack(&other, NULL))
        exit(2);
    pthread_sigmask(SIG_SETMASK, &none, NULL);
    if (read(ends[0], &byte, 1) != 1)
        exit(3);
    other.ss_flags = SS_DISABLE;
    sigaltstack(&other, NULL);
    return NULL;
}

static void *in_read_below(void *arg)
{
    return in_read(arg);
}

static void restarted(int flags)
{
    int ends[2], arg[2] = {0, flags & SA_ONSTACK};
    if (pipe(ends))
        exit(2);
    arg[0] = ends[0];
    handle(on_alarm, flags);
    pthread_t t = begin(flags ? in_read_below : in_read, arg);
    for (int i = 0; i < 10; i++) {
        struct timespec part = {0, HOLD_MS * 100000};
        nanosleep(&part, NULL);
        pthread_kill(t, SIGALRM);
    }
    if (write(ends[1], "x", 1) != 1)
        exit(3);
    pthread_join(t, NULL);
}

// --- Out of a call by a jump, and by cancellation: then it computes. The mutex is gone by when the condition is signalled.

static sigjmp_buf after;
static pthread_mutex_t *mutex;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;

static void jumps(int number)
{
    (void)number;
    poll(NULL, 0, 0);
    siglongjmp(after, 1);
}

static void *in_jump(void *arg)
{
    int ends[2];
    char byte;
    sigset_t none;
    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, &none, NULL);
    if (pipe(ends))
        exit(2);
    if (!sigsetjmp(after, 1) && read(ends[0], &byte, 1) >= 0)
        exit(3);
    compute();
    return arg;
}

static void jumped(void)
{
    const struct timespec hold = {0, HOLD_MS * 1000000};
    handle(jumps, 0);
    pthread_t t = begin(in_jump, NULL);
    nanosleep(&hold, NULL);
    pthread_kill(t, SIGALRM);
    pthread_join(t, NULL);
}

static void cleans(void *arg)
{
    (void)arg;
    pthread_mutex_unlock(mutex);
    munmap(mutex, 4096);
    compute();
}

static void *in_cancelled(void *arg)
{
    pthread_mutex_lock(mutex);
    pthread_cleanup_push(cleans, NULL);
    for (;;)
        pthread_cond_wait(&condition, mutex);
    pthread_cleanup_pop(0);
    return arg;
}

static void cancelled(void)
{
    const struct timespec hold = {0, HOLD_MS * 1000000}, half = {0, HOLD_MS * 500000};
    mutex = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_mutex_init(mutex, NULL);
    pthread_t t = begin(in_cancelled, NULL);
    nanosleep(&hold, NULL);
    pthread_cancel(t);
    nanosleep(&half, NULL);
    pthread_cond_signal(&condition);
    pthread_join(t, NULL);
}

// --- Threads that write as late as they can.

static pthread_key_t key;

static void destroys(void *value)
{
    long round = (long)value;
    if (write(null_fd, "x", 1) == 1 && round < 4)
        pthread_setspecific(key, (void *)(round + 1));
}

static void *in_late(void *arg)
{
    pthread_setspecific(key, (void *)1);
    return write(null_fd, "x", 1) == 1 ? arg : NULL;
}

static void late(int threads)
{
    pthread_key_create(&key, destroys);
    for (int i = 0; i < threads; i++)
        pthread_join(begin(in_late, NULL), NULL);
}

// --- All wait for one condition. The CPU time of one broadcast, for each.

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t all_wait = PTHREAD_COND_INITIALIZER, go = PTHREAD_COND_INITIALIZER;
static int waiting, round_now;

static void *in_crowd(void *arg)
{
    const int *shape = arg; // threads, rounds
    pthread_mutex_lock(&gate);
    for (int r = 0; r < shape[1]; r++) {
        int mine = round_now;
        if (++waiting == shape[0])
            pthread_cond_signal(&all_wait);
        while (round_now == mine)
            pthread_cond_wait(&go, &gate);
    }
    pthread_mutex_unlock(&gate);
    return NULL;
}

static void crowd(int threads)
{
    int shape[2] = {threads, 5};
    pthread_t *t = calloc((size_t)threads, sizeof *t);
    double used = 0;
    for (int i = 0; i < threads; i++)
        t[i] = begin(in_crowd, shape);
    for (int r = 0; r < shape[1]; r++) {
        pthread_mutex_lock(&gate);
        while (waiting < threads)
            pthread_cond_wait(&all_wait, &gate);
        waiting = 0;
        round_now++;
        double before = seconds(CLOCK_THREAD_CPUTIME_ID);
        pthread_cond_broadcast(&go);
        used += seconds(CLOCK_THREAD_CPUTIME_ID) - before;
        pthread_mutex_unlock(&gate);
    }
    for (int i = 0; i < threads; i++)
        pthread_join(t[i], NULL);
    free(t);
    printf("%.0f ns\n", used * 1e9 / shape[1] / threads);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    int n = argc > 2 ? atoi(argv[2]) : 0;
    null_fd = open("/dev/null", O_WRONLY);
    if (!strcmp(what, "ending"))
        ending_waits(n);
    else if (!strcmp(what, "restarted"))
        restarted(0), restarted(SA_ONSTACK);
    else if (!strcmp(what, "left"))
        jumped(), cancelled();
    else if (!strcmp(what, "late"))
        late(n);
    else if (!strcmp(what, "crowd"))
        crowd(n);
    else
        return 1;
    return 0;
}
