// SPDX-License-Identifier: MIT
//
// A target that notices when it is disturbed: 50 threads, and with WITH_FIBERS 10,000 parked fibers.
//
// Some compute and look at the clock: gaps in which they were neither running nor runnable, and gave up their processor
// as only one that is stopped does, are stops. Others wait in
// system calls, each in two ways: so that its stack can be walked without rbp, and so that it cannot (a function with a
// variable array). They say when a call returns that should not have, or ends with EINTR, or too early. Prints "ready",
// and after a line on its standard input what it noticed:
//   stops COUNT LONGEST_NS SUM_NS ran STEPS
//   wrong WHAT RESULT ERRNO   for each such return

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#ifdef WITH_FIBERS
#include <fiberscope/chan.h>
#include <fiberscope/fiber.h>
#endif

#define KEEP __attribute__((noinline))

enum { THREADS = 50, SPINNERS = 4, FIBERS = 10000, SHORT_MS = 40, WRITE_BYTES = 1 << 20 };

static volatile uint64_t sink;
static _Atomic int is_over;
static _Atomic uint64_t stops, longest_ns, sum_ns, steps;
static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;
static sem_t none;
static int never[2], full[2], pair[2], poller, sems;

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void wrong(const char *what, long result, int error)
{
    if (atomic_load(&is_over))
        return;
    printf("wrong %s %ld %d\n", what, result, error);
    fflush(stdout);
}

// --- Those that compute. What the kernel calls the run queue's delay is no stop.

static uint64_t delay_ns(int fd)
{
    char text[128];
    unsigned long long ran, delayed;
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    return sscanf(text, "%llu %llu", &ran, &delayed) == 2 ? delayed : 0;
}

static long given_up(void)
{
    struct rusage u;
    getrusage(RUSAGE_THREAD, &u);
    return u.ru_nvcsw;
}

static void note_stop(uint64_t away)
{
    uint64_t most = atomic_load(&longest_ns);
    stops++;
    sum_ns += away;
    while (away > most && !atomic_compare_exchange_weak(&longest_ns, &most, away))
        ;
}

KEEP static void compute(int fd)
{
    uint64_t last = now_ns(), delayed = delay_ns(fd);
    long voluntary = given_up();
    while (!atomic_load_explicit(&is_over, memory_order_relaxed)) {
        uint64_t now = now_ns();
        steps++;
        if (now - last > 5000) { // else it was running
            uint64_t d = delay_ns(fd), gap = now - last;
            long v = given_up();
            if (v != voluntary)
                note_stop(gap > d - delayed ? gap - (d - delayed) : 0);
            voluntary = v;
            delayed = d;
            now = now_ns(); // what looking took is no gap
        }
        last = now;
    }
}

static void *spinner(void *arg)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%d/schedstat", gettid());
    int fd = open(path, O_RDONLY);
    compute(fd);
    close(fd);
    return arg;
}

// --- Those that wait. Each returns what the call did.

static long in_read(void)
{
    char c;
    return read(never[0], &c, 1);
}

static long in_recv(void)
{
    char c;
    return recv(pair[0], &c, 1, 0);
}

static long in_futex(void)
{
    return pthread_mutex_lock(&held);
}

static long in_sem(void)
{
    return sem_wait(&none);
}

static long in_poll(void)
{
    struct pollfd p = {.fd = never[0], .events = POLLIN};
    return poll(&p, 1, -1);
}

static long in_select(void)
{
    fd_set set;
    FD_ZERO(&set);
    FD_SET(never[0], &set);
    return select(never[0] + 1, &set, NULL, NULL, NULL);
}

static long in_epoll(void)
{
    struct epoll_event e;
    return epoll_wait(poller, &e, 1, -1);
}

static long in_epoll_hour(void)
{
    struct epoll_event e;
    return epoll_wait(poller, &e, 1, 3600000);
}

static long in_semop(void)
{
    struct sembuf b = {.sem_op = -1};
    return semop(sems, &b, 1);
}

static long in_sigwait(void)
{
    sigset_t s;
    sigemptyset(&s);
    sigaddset(&s, SIGUSR2);
    return sigwaitinfo(&s, NULL);
}

static long in_sleep(void)
{
    struct timespec t = {.tv_sec = 3600};
    return nanosleep(&t, NULL);
}

static long in_write(void)
{
    static char bytes[WRITE_BYTES];
    return write(full[1], bytes, sizeof bytes); // more than the pipe takes
}

// These end by themselves, at the right time: checked by who calls.
static long in_short_sleep(void)
{
    struct timespec t = {.tv_nsec = SHORT_MS * 1000000};
    return nanosleep(&t, NULL);
}

static long in_short_poll(void)
{
    return poll(NULL, 0, SHORT_MS);
}

static long in_short_epoll(void)
{
    struct epoll_event e;
    return epoll_wait(poller, &e, 1, SHORT_MS);
}

static long in_short_futex(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_nsec += SHORT_MS * 1000000;
    t.tv_sec += t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    return sem_timedwait(&none, &t) && errno == ETIMEDOUT ? 0 : -1;
}

struct wait {
    const char *name;
    long (*fn)(void);
    int is_short;
};
static const struct wait waits[] = {
    {"read", in_read, 0},
    {"recv", in_recv, 0},
    {"futex", in_futex, 0},
    {"sem", in_sem, 0},
    {"poll", in_poll, 0},
    {"select", in_select, 0},
    {"epoll", in_epoll, 0},
    {"epoll_hour", in_epoll_hour, 0},
    {"semop", in_semop, 0},
    {"sigwait", in_sigwait, 0},
    {"sleep", in_sleep, 0},
    {"write", in_write, 0},
    {"short_sleep", in_short_sleep, 1},
    {"short_poll", in_short_poll, 1},
    {"short_epoll", in_short_epoll, 1},
    {"short_futex", in_short_futex, 1},
};
enum { WAITS = sizeof waits / sizeof *waits };

static void check(const struct wait *w, uint64_t before, long result)
{
    int error = errno;
    // A millisecond: poll and epoll round to those.
    if (!w->is_short || result || now_ns() - before < (SHORT_MS - 1) * UINT64_C(1000000))
        wrong(w->name, result, error);
}

KEEP static void wait_plainly(const struct wait *w)
{
    uint64_t before = now_ns();
    errno = 0;
    check(w, before, w->fn());
    sink++;
}

// Its callers are found by rbp alone, which those that it calls leave where it is.
KEEP static void wait_with_frame(const struct wait *w, size_t n)
{
    char bytes[n];
    uint64_t before = now_ns();
    memset(bytes, 0, n);
    __asm__ volatile("" : : "r"(bytes) : "memory");
    errno = 0;
    check(w, before, w->fn());
    __asm__ volatile("" : : "r"(bytes) : "memory");
}

static void *waiter(void *arg)
{
    size_t i = (size_t)arg;
    const struct wait *w = &waits[i % WAITS];
    pthread_setname_np(pthread_self(), w->name);
    do {
        if (i / WAITS % 2)
            wait_with_frame(w, 100 + i);
        else
            wait_plainly(w);
    } while (!atomic_load(&is_over) && w->is_short);
    for (;;)
        pause();
}

static void make_waits(void)
{
    sigset_t s;
    sigemptyset(&s);
    sigaddset(&s, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &s, NULL);
    sem_init(&none, 0, 0);
    poller = epoll_create1(0);
    sems = semget(IPC_PRIVATE, 1, 0600);
    if (pipe(never) || pipe(full) || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) || sems < 0)
        exit(3);
    pthread_mutex_lock(&held);
}

static void run(void)
{
    pthread_t t, spinners[SPINNERS];
    make_waits();
    for (size_t i = 0; i < THREADS - SPINNERS - 1; i++)
        pthread_create(&t, NULL, waiter, (void *)i);
    for (int i = 0; i < SPINNERS; i++)
        pthread_create(&spinners[i], NULL, spinner, NULL);
    usleep(200000);
    printf("ready\n");
    fflush(stdout);
    if (getchar() == EOF)
        perror("stdin");
    atomic_store(&is_over, 1);
    for (int i = 0; i < SPINNERS; i++)
        pthread_join(spinners[i], NULL);
    semctl(sems, 0, IPC_RMID);
    printf("stops %lu %lu %lu ran %lu\n", stops, longest_ns, sum_ns, steps);
    fflush(stdout);
    _exit(0);
}

#ifdef WITH_FIBERS
static _Atomic int parked;

static void start_parked(void *arg)
{
    int v;
    parked++;
    fib_chan_recv(arg, &v);
    sink++;
}

static void fibers(void *arg)
{
    struct fib_chan *c = fib_chan_new(sizeof(int), 0);
    (void)arg;
    for (int i = 0; i < FIBERS; i++)
        fib_go(NULL, start_parked, c);
    while (parked < FIBERS)
        fib_sleep(1000000);
    fib_sleep(100000000);
    run();
}

int main(void)
{
    struct fib_options o = {.size = sizeof o, .procs = 2};
    return fib_init(&o) ? 1 : fib_main(fibers, NULL);
}
#else
int main(void)
{
    run();
}
#endif
