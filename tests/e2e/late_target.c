// SPDX-License-Identifier: MIT
//
// A program that is recorded while it runs: late_target MODE [SECONDS]. It says "ready" when it does what its mode is, and
// at the end what it has seen itself.
//
//   work      two functions burn CPU time 3 : 1, threads wait for each other, memory grows
//   waits     threads that wait in all ways that a handler ends early, and count what ended before its time
//   closes    closes all descriptors from 3 up, again and again
//   forks     forks children that burn for a moment
//   blocks    all threads block SIGPROF
//   joins     its main thread waits for another one in pthread_join
//   untimed   as work, but the kernel has no timers for it
//   pauses    its only thread sits in pause
//   master    at SIGUSR1 forks a worker and says its pid
//   sleeper   at SIGUSR1 forks a child that says for how many ms it has slept; it meant to for 1

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 3, WAIT_MS = 15 };

static _Atomic int over;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static volatile unsigned long sink;
static _Atomic unsigned long broken, waits, rounds;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void spin(double cpu_s)
{
    struct timespec t;
    double end = 0;
    do {
        for (int i = 0; i < 2000; i++)
            sink += (unsigned long)i;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
        double used = (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
        end = end > 0 ? end : used + cpu_s;
        if (used >= end)
            break;
    } while (!over);
}

__attribute__((noinline)) void burn_three(void)
{
    spin(0.003);
    sink++;
}

__attribute__((noinline)) void burn_one(void)
{
    spin(0.001);
    sink++;
}

__attribute__((noinline)) void *grow(void)
{
    char *p = malloc(100000);
    memset(p, 1, 100);
    return p;
}

static void *work(void *arg)
{
    (void)arg;
    while (!over) {
        pthread_mutex_lock(&lock);
        burn_three();
        burn_one();
        sink += grow() != NULL;
        pthread_mutex_unlock(&lock);
        usleep(500);
        rounds++;
    }
    return NULL;
}

static void judge(const char *what, double began, int rc, int error)
{
    double took = now() - began;
    if (over)
        return; // SIGTERM may have come to this thread
    waits++;
    if ((rc < 0 && error == EINTR) || took < WAIT_MS * 1e-3 - 0.0005) {
        broken++;
        fprintf(stderr, "%s: rc %d, errno %d after %.4f s\n", what, rc, error, took);
    }
}

static void *waiter(void *arg)
{
    const struct timespec t = {0, WAIT_MS * 1000000L};
    int kind = (int)(long)arg, epoll = epoll_create1(EPOLL_CLOEXEC);
    sem_t sem;
    sem_init(&sem, 0, 0);
    while (!over) {
        double began = now();
        struct timeval tv = {0, WAIT_MS * 1000};
        struct timespec until;
        struct epoll_event e;
        int rc = 0;
        errno = 0;
        switch (kind) {
        case 0: rc = nanosleep(&t, NULL); break;
        case 1: rc = poll(NULL, 0, WAIT_MS); break;
        case 2: rc = epoll_wait(epoll, &e, 1, WAIT_MS); break;
        case 3: rc = select(0, NULL, NULL, NULL, &tv); break;
        case 4: rc = usleep(WAIT_MS * 1000); break;
        case 5: rc = ppoll(NULL, 0, &t, NULL); break;
        case 6: rc = -(errno = clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL)); break;
        default:
            clock_gettime(CLOCK_REALTIME, &until);
            until.tv_nsec += WAIT_MS * 1000000L;
            until.tv_sec += until.tv_nsec / 1000000000;
            until.tv_nsec %= 1000000000;
            rc = sem_timedwait(&sem, &until);
        }
        judge("wait", began, rc, errno);
    }
    close(epoll);
    return NULL;
}

static void *idle(void *arg)
{
    (void)arg;
    while (!over)
        usleep(2000);
    return NULL;
}

static void refuse_timers(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_timer_create, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EAGAIN),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, 2, &program))
        perror("seccomp");
}

static void fork_children(void)
{
    while (!over) {
        pid_t pid = fork();
        if (pid == 0) {
            for (int i = 0; i < 50; i++)
                burn_three();
            _exit(0);
        }
        waitpid(pid, NULL, 0);
        rounds++;
    }
}

static volatile sig_atomic_t asked;

static void on_usr1(int signal)
{
    (void)signal;
    asked = 1;
}

static void fork_worker(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        for (int i = 0; i < 1000; i++) {
            sink += grow() != NULL;
            usleep(20000);
        }
        _exit(0);
    }
    printf("%d\n", pid);
    fflush(stdout);
}

static void fork_sleeper(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        double begin = now();
        usleep(1000);
        printf("%.0f\n", (now() - begin) * 1000);
        fflush(stdout);
        for (int i = 0; i < 100; i++)
            usleep(1000);
        _exit(0);
    }
    waitpid(pid, NULL, 0);
}

static void on_term(int signal)
{
    (void)signal;
    over = 1;
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "work";
    double end = now() + (argc > 2 ? atof(argv[2]) : 30);
    pthread_t t[8];
    int n = 0;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGPROF);
    signal(SIGTERM, on_term);
    signal(SIGUSR1, on_usr1);
    if (!strcmp(mode, "blocks"))
        pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (!strcmp(mode, "untimed"))
        refuse_timers();
    if (!strcmp(mode, "work") || !strcmp(mode, "untimed"))
        for (; n < THREADS; n++)
            pthread_create(&t[n], NULL, work, NULL);
    if (!strcmp(mode, "waits"))
        for (; n < 8; n++)
            pthread_create(&t[n], NULL, waiter, (void *)(long)n);
    if (!strcmp(mode, "closes"))
        for (; n < 2; n++)
            pthread_create(&t[n], NULL, idle, NULL);
    if (!strcmp(mode, "joins"))
        pthread_create(&t[n++], NULL, idle, NULL);
    printf("ready\n");
    fflush(stdout);
    if (!strcmp(mode, "joins"))
        pthread_join(t[--n], NULL);
    if (!strcmp(mode, "pauses")) {
        pause();
        over = 1;
    }
    while (!over && now() < end) {
        if (!strcmp(mode, "master") && asked) {
            asked = 0;
            fork_worker();
        }
        if (!strcmp(mode, "sleeper") && asked) {
            asked = 0;
            fork_sleeper();
        }
        if (!strcmp(mode, "forks"))
            fork_children();
        if (!strcmp(mode, "closes"))
            for (int fd = 3; fd < 1024; fd++)
                close(fd);
        usleep(20000);
    }
    over = 1;
    for (int i = 0; i < n; i++)
        pthread_join(t[i], NULL);
    printf("rounds %lu waits %lu broken %lu\n", rounds, waits, broken);
    return broken != 0;
}
