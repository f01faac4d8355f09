// SPDX-License-Identifier: MIT
//
// Threads that are stopped within an event of the trace, or leave it for good: see trace_stuck.py.
//   stop S    a handler stops one thread while another, which stopped it, goes on (as collectors stop the world)
//   jump S    siglongjmp out of write
//   vfork S   children of vfork are killed within write
//   fork N    a handler forks; the child returns from it and goes on
//   first N   threads that were there before the trace make their first calls while handlers make some, too
//   again N   N times a trace is stopped and another begun while threads wake each other
// Prints how often what is not concerned went on.

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MS = 1000000, STOP_NS = 2 * MS };

static int null;
static _Atomic unsigned long rounds;

static long long now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void tell(void)
{
    if (write(null, "x", 1) != 1)
        abort();
}

static void on(int signal, void (*handler)(int))
{
    struct sigaction a = {.sa_handler = handler, .sa_flags = SA_RESTART};
    sigfillset(&a.sa_mask);
    sigaction(signal, &a, NULL);
}

static void begin_timer(long ns)
{
    timer_t timer;
    struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
    struct itimerspec every = {{0, ns}, {0, ns}};
    timer_create(CLOCK_MONOTONIC, &e, &timer);
    timer_settime(timer, 0, &every, NULL);
}

static void *tell_for_ever(void *unused)
{
    for (;;)
        tell();
    return unused;
}

// Once a millisecond, and no handler's.
static void *sleep_for_ever(void *unused)
{
    for (;; rounds++)
        usleep(1000);
    return unused;
}

static pthread_t begin(void *(*run)(void *), bool takes_signals)
{
    pthread_t t;
    sigset_t all, was;
    sigfillset(&all);
    pthread_sigmask(takes_signals ? SIG_UNBLOCK : SIG_BLOCK, &all, &was);
    if (pthread_create(&t, NULL, run, NULL))
        abort();
    pthread_sigmask(SIG_SETMASK, &was, NULL);
    return t;
}

// --- stop

static sem_t stopped;
static volatile sig_atomic_t resumed;

static void on_stop(int signal)
{
    int saved = errno, was = resumed;
    sigset_t mask;
    (void)signal;
    sem_post(&stopped);
    sigfillset(&mask);
    sigdelset(&mask, SIGUSR2);
    while (resumed == was)
        sigsuspend(&mask);
    errno = saved;
}

static void on_resume(int signal)
{
    (void)signal;
}

static void stop(long long end)
{
    sem_init(&stopped, 0, 0);
    on(SIGUSR1, on_stop);
    on(SIGUSR2, on_resume);
    pthread_t t = begin(tell_for_ever, true);
    for (; now_ns() < end; rounds++) {
        pthread_kill(t, SIGUSR1);
        while (sem_wait(&stopped))
            ;
        for (long long until = now_ns() + STOP_NS; now_ns() < until; tell())
            for (long long next = now_ns() + STOP_NS / 40; now_ns() < next;)
                ;
        resumed++;
        pthread_kill(t, SIGUSR2);
        usleep(300);
    }
}

// --- jump

static sigjmp_buf back;
static volatile sig_atomic_t is_armed;

static void on_alarm(int signal)
{
    (void)signal;
    if (is_armed) {
        is_armed = 0;
        siglongjmp(back, 1);
    }
}

static void jump(long long end)
{
    begin(sleep_for_ever, false);
    on(SIGALRM, on_alarm);
    begin_timer(MS / 7);
    while (now_ns() < end)
        if (!sigsetjmp(back, 1)) {
            is_armed = 1;
            tell();
            is_armed = 0;
        }
}

// --- vfork

static void kill_children(long long end)
{
    begin(sleep_for_ever, false);
    while (now_ns() < end) {
        struct itimerval after = {{0, 0}, {0, 300 + random() % 700}};
        pid_t child = vfork();
        if (!child) {
            setitimer(ITIMER_REAL, &after, NULL);
            for (;;)
                tell();
        }
        waitpid(child, NULL, 0);
    }
}

// --- fork

static volatile sig_atomic_t is_child, forks;

static void on_alarm_fork(int signal)
{
    (void)signal;
    pid_t child = fork();
    is_child = !child;
    forks += child > 0;
}

static void fork_in_handlers(long count)
{
    int status;
    on(SIGALRM, on_alarm_fork);
    begin_timer(2 * MS);
    while (forks < count) {
        tell();
        for (int i = 0; is_child && i < 10; i++)
            tell();
        if (is_child)
            _exit(0);
    }
    signal(SIGALRM, SIG_IGN);
    while (wait(&status) > 0)
        rounds += !status;
}

// --- first

enum { THREADS_MAX = 256 };

static _Atomic int turn;
static _Atomic int is_done[THREADS_MAX + 1];

static void on_first(int signal)
{
    (void)signal;
    tell();
}

// No call that anybody tells of.
static void rest(void)
{
    const struct timespec t = {0, MS / 5};
    long rc = 35; // nanosleep
    __asm__ volatile("syscall" : "+a"(rc) : "D"(&t), "S"(NULL) : "rcx", "r11", "memory");
}

static void *wait_turn(void *arg)
{
    int number = (int)(long)arg;
    while (turn < number - 1)
        rest();
    while (turn < number)
        ;
    tell();
    is_done[number] = 1;
    for (;;)
        pause();
    return NULL;
}

static int (*start)(const void *options);
static int (*stop_trace)(void);

static void find_api(void)
{
    start = (int (*)(const void *))dlsym(RTLD_DEFAULT, "fscope_trace_start");
    stop_trace = (int (*)(void))dlsym(RTLD_DEFAULT, "fscope_trace_stop");
    if (!start || !stop_trace)
        abort();
}

static void begin_late(int count)
{
    pthread_t threads[THREADS_MAX + 1];
    find_api();
    on(SIGUSR1, on_first);
    if (stop_trace() || count > THREADS_MAX)
        abort();
    for (long i = 1; i <= count; i++)
        if (pthread_create(&threads[i], NULL, wait_turn, (void *)i))
            abort();
    usleep(20 * MS / 1000);
    if (start(NULL))
        abort();
    for (int i = 1; i <= count; i++, rounds++) {
        usleep(600); // it looks all the time
        turn = i;
        for (volatile long spin = random() % 3000; spin; spin = spin - 1)
            ;
        pthread_kill(threads[i], SIGUSR1);
        while (!is_done[i])
            usleep(100);
    }
}

// --- again

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;

static void *wake_each_other(void *unused)
{
    for (unsigned n = 0;; n++) {
        pthread_mutex_lock(&mutex);
        pthread_cond_broadcast(&cond);
        pthread_cond_wait(&cond, &mutex);
        if (n % 4 == 0)
            tell();
        pthread_mutex_unlock(&mutex);
    }
    return unused;
}

static void *broadcast(void *unused)
{
    for (;;) {
        usleep(100);
        pthread_cond_broadcast(&cond);
    }
    return unused;
}

static void begin_again(long count)
{
    find_api();
    for (int i = 0; i < 6; i++)
        begin(wake_each_other, false);
    begin(broadcast, false);
    for (; rounds < (unsigned long)count; rounds++) {
        usleep(300 + random() % 2000);
        if (stop_trace())
            abort();
        usleep(random() % 200);
        if (start(NULL))
            abort();
    }
}

int main(int argc, char **argv)
{
    long n = argc > 2 ? atol(argv[2]) : 0;
    long long end = now_ns() + n * 1000000000LL;
    null = open("/dev/null", O_WRONLY);
    if (!n)
        return 2;
    if (!strcmp(argv[1], "stop"))
        stop(end);
    else if (!strcmp(argv[1], "jump"))
        jump(end);
    else if (!strcmp(argv[1], "vfork"))
        kill_children(end);
    else if (!strcmp(argv[1], "first"))
        begin_late((int)n);
    else if (!strcmp(argv[1], "again"))
        begin_again(n);
    else
        fork_in_handlers(n);
    printf("%lu rounds\n", rounds);
    fflush(stdout);
    _exit(0);
}
