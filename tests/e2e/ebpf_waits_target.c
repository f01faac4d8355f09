// SPDX-License-Identifier: MIT
//
// Threads that wait, each in a function of its own and for as long as it says itself: "NAME tid wall_ns cpu_ns delay_ns" for
// each, delay being what the kernel's schedstat has of time in the run queue. Arguments: what to do, one after the other.

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { NAPS = 100, NAP_NS = 5000000, HOLDS = 8, HOLD_NS = 50000000, KNOCKS = 200 };
#define COMPETE_NS 400000000u

static pthread_mutex_t door_lock = PTHREAD_MUTEX_INITIALIZER;
static sem_t may_try, has_tried;
static int door[2], answer[2];

static uint64_t now_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void nap(long ns)
{
    struct timespec t = {.tv_nsec = ns};
    nanosleep(&t, NULL);
}

struct times {
    uint64_t wall, cpu, delay;
};

static struct times look(void)
{
    unsigned long long delay = 0;
    FILE *f = fopen("/proc/thread-self/schedstat", "re");
    if (f && fscanf(f, "%*u %llu", &delay) != 1)
        delay = 0;
    if (f)
        fclose(f);
    return (struct times){now_ns(CLOCK_MONOTONIC), now_ns(CLOCK_THREAD_CPUTIME_ID), delay};
}

static void timed(const char *name, void (*fn)(void))
{
    pthread_setname_np(pthread_self(), name);
    struct times before = look();
    fn();
    struct times after = look();
    printf("%s %d %llu %llu %llu\n", name, (int)syscall(SYS_gettid),
           (unsigned long long)(after.wall - before.wall),
           (unsigned long long)(after.cpu - before.cpu),
           (unsigned long long)(after.delay - before.delay));
}

__attribute__((noinline)) static void take_naps(void)
{
    for (int i = 0; i < NAPS; i++)
        nap(NAP_NS);
}

__attribute__((noinline)) static void compete(void)
{
    cpu_set_t first;
    CPU_ZERO(&first);
    CPU_SET(0, &first);
    sched_setaffinity(0, sizeof first, &first);
    uint64_t end = now_ns(CLOCK_THREAD_CPUTIME_ID) + COMPETE_NS;
    while (now_ns(CLOCK_THREAD_CPUTIME_ID) < end) {
    }
}

__attribute__((noinline)) static void wait_for_lock(void)
{
    pthread_mutex_lock(&door_lock);
    pthread_mutex_unlock(&door_lock);
}

__attribute__((noinline)) static void try_locks(void)
{
    for (int i = 0; i < HOLDS; i++) {
        sem_wait(&may_try);
        wait_for_lock();
        sem_post(&has_tried);
    }
}

static void hold_locks(void)
{
    for (int i = 0; i < HOLDS; i++) {
        pthread_mutex_lock(&door_lock);
        sem_post(&may_try);
        nap(HOLD_NS);
        pthread_mutex_unlock(&door_lock);
        sem_wait(&has_tried);
    }
}

__attribute__((noinline)) static void stand_at_door(void)
{
    char c;
    for (int i = 0; i < KNOCKS && read(door[0], &c, 1) == 1; i++)
        if (write(answer[1], &c, 1) != 1)
            abort();
}

__attribute__((noinline)) static void knock(void)
{
    char c = 'k';
    for (int i = 0; i < KNOCKS; i++) {
        nap(1000000);
        if (write(door[1], &c, 1) != 1 || read(answer[0], &c, 1) != 1)
            abort();
    }
}

__attribute__((noinline)) static void wait_for_ever(void)
{
    for (;;)
        pause();
}

// Until we are told to go on.
__attribute__((noinline)) static void wait_for_word(void)
{
    char c;
    if (read(STDIN_FILENO, &c, 1) < 0)
        abort();
}

#define THREAD(name, fn)                                                                           \
    static void *name(void *arg)                                                                   \
    {                                                                                              \
        timed(#name, fn);                                                                          \
        return arg;                                                                                \
    }
THREAD(napper, take_naps)
THREAD(rival, compete)
THREAD(trier, try_locks)
THREAD(porter, stand_at_door)
THREAD(idler, wait_for_ever)

static void with(void *(*first)(void *), void *(*second)(void *), void (*fn)(void))
{
    pthread_t a, b;
    if (pthread_create(&a, NULL, first, NULL) || (second && pthread_create(&b, NULL, second, NULL)))
        abort();
    if (fn)
        fn();
    pthread_join(a, NULL);
    if (second)
        pthread_join(b, NULL);
}

__attribute__((noinline)) static void child_nap(void)
{
    nap(300000000);
}

static void of_child(char **argv)
{
    pid_t pid = fork();
    if (pid == 0) {
        child_nap();
        execv("/proc/self/exe", (char *[]){argv[0], "nap", NULL});
        _exit(1);
    }
    waitpid(pid, NULL, 0);
}

static void run(const char *what, char **argv)
{
    if (!strcmp(what, "nap"))
        with(napper, NULL, NULL);
    else if (!strcmp(what, "compete"))
        with(rival, rival, NULL);
    else if (!strcmp(what, "lock"))
        with(trier, NULL, hold_locks);
    else if (!strcmp(what, "knock"))
        with(porter, NULL, knock);
    else if (!strcmp(what, "child"))
        of_child(argv);
    else if (!strcmp(what, "word"))
        wait_for_word();
    else if (!strcmp(what, "idle"))
        with(idler, NULL, NULL);
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (pipe2(door, O_CLOEXEC) || pipe2(answer, O_CLOEXEC) || sem_init(&may_try, 0, 0) ||
        sem_init(&has_tried, 0, 0))
        return 1;
    printf("ready %d\n", (int)getpid());
    for (int i = 1; i < argc; i++)
        run(argv[i], argv);
    return 0;
}
