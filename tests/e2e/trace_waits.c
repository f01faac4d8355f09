// SPDX-License-Identifier: MIT
//
// A thread for each call that waits, in a function of that name, one after the other: each begins to wait at once, and
// does so until main lets it go on after HOLD_MS, or for so long. See trace_waits.py.

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

enum { HOLD_MS = 50 };

static const struct timespec hold = {0, HOLD_MS * 1000000};
static const char fifo[] = "fifo", lock[] = "lock";
static int set, lock_fd, last_fd = -1;
static volatile sig_atomic_t signals;
static atomic_int word;

static void check(int is_right, const char *what)
{
    if (!is_right) {
        perror(what);
        exit(1);
    }
}

static void rest(void)
{
    struct timespec t = hold;
    while (nanosleep(&t, &t))
        ;
}

static pid_t child(void)
{
    pid_t pid = fork();
    if (!pid) {
        rest();
        _exit(3);
    }
    check(pid > 0, "fork");
    return pid;
}

// --- What waits.

static void *in_wait(void *arg)
{
    int status;
    pid_t pid = child();
    check(wait(&status) == pid && WEXITSTATUS(status) == 3, "wait");
    return arg;
}

static void *in_wait3(void *arg)
{
    int status;
    pid_t pid = child();
    check(wait3(&status, 0, NULL) == pid && WEXITSTATUS(status) == 3, "wait3");
    return arg;
}

static void *in_wait4(void *arg)
{
    int status;
    pid_t pid = child();
    check(wait4(pid, &status, 0, NULL) == pid && WEXITSTATUS(status) == 3, "wait4");
    return arg;
}

static void *in_waitid(void *arg)
{
    siginfo_t info;
    pid_t pid = child();
    check(waitid(P_PID, (id_t)pid, &info, WEXITED) == 0 && info.si_status == 3, "waitid");
    return arg;
}

// Of no descriptors: it sleeps.
static void *in_poll(void *arg)
{
    check(poll(NULL, 0, HOLD_MS) == 0, "poll");
    return arg;
}

static void *in_ppoll(void *arg)
{
    check(ppoll(NULL, 0, &hold, NULL) == 0, "ppoll");
    return arg;
}

static void *in_select(void *arg)
{
    struct timeval t = {0, HOLD_MS * 1000};
    check(select(0, NULL, NULL, NULL, &t) == 0, "select");
    return arg;
}

static void *in_poll_of_one(void *arg)
{
    int ends[2];
    check(!pipe(ends), "pipe");
    struct pollfd one = {.fd = ends[0], .events = POLLIN};
    check(poll(&one, 1, HOLD_MS) == 0, "poll");
    close(ends[0]);
    close(ends[1]);
    return arg;
}

static void *in_system(void *arg)
{
    int status = system("sleep 0.05; exit 3");
    check(WEXITSTATUS(status) == 3, "system");
    return arg;
}

static void *in_pclose(void *arg)
{
    FILE *f = popen("sleep 0.05; exit 3", "w");
    int status = f ? pclose(f) : 0;
    check(WEXITSTATUS(status) == 3, "pclose");
    return arg;
}

static void *in_pause(void *arg)
{
    check(pause() == -1 && errno == EINTR && signals == 1, "pause");
    return arg;
}

static void *in_sigwait(void *arg)
{
    int number;
    sigset_t s;
    sigemptyset(&s);
    sigaddset(&s, SIGUSR2);
    check(sigwait(&s, &number) == 0 && number == SIGUSR2, "sigwait");
    return arg;
}

static void *in_sigwaitinfo(void *arg)
{
    sigset_t s;
    sigemptyset(&s);
    sigaddset(&s, SIGUSR2);
    check(sigwaitinfo(&s, NULL) == SIGUSR2, "sigwaitinfo");
    return arg;
}

static void *in_sigtimedwait(void *arg)
{
    sigset_t s;
    sigemptyset(&s);
    sigaddset(&s, SIGUSR2);
    check(sigtimedwait(&s, NULL, &hold) == -1 && errno == EAGAIN, "sigtimedwait");
    return arg;
}

static void *in_flock(void *arg)
{
    int fd = open(lock, O_RDWR);
    check(fd >= 0 && !flock(fd, LOCK_EX), "flock");
    close(fd);
    return arg;
}

static void *in_open(void *arg)
{
    int fd = open(fifo, O_RDONLY);
    check(fd >= 0, "open");
    close(fd);
    return arg;
}

static void *in_openat(void *arg)
{
    int fd = openat(AT_FDCWD, fifo, O_RDONLY);
    check(fd >= 0, "openat");
    close(fd);
    return arg;
}

static void *in_semop(void *arg)
{
    struct sembuf down = {0, -1, 0};
    check(semop(set, &down, 1) == 0, "semop");
    return arg;
}

static void *in_semtimedop(void *arg)
{
    struct sembuf down = {0, -1, 0};
    check(semtimedop(set, &down, 1, &hold) == -1 && errno == EAGAIN, "semtimedop");
    return arg;
}

static void *in_thrd_sleep(void *arg)
{
    check(thrd_sleep(&hold, NULL) == 0, "thrd_sleep");
    return arg;
}

static void *in_futex(void *arg)
{
    while (!atomic_load(&word))
        syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL);
    return arg;
}

// --- What lets them go on.

static void none(pthread_t t)
{
    (void)t;
}

static void handled(pthread_t t)
{
    pthread_kill(t, SIGUSR1);
}

static void waited_for(pthread_t t)
{
    pthread_kill(t, SIGUSR2);
}

static void unlocked(pthread_t t)
{
    (void)t;
    check(flock(lock_fd, LOCK_UN) == 0, "flock");
}

static void opened(pthread_t t)
{
    (void)t;
    last_fd = open(fifo, O_WRONLY);
    check(last_fd >= 0, fifo);
}

static void posted(pthread_t t)
{
    struct sembuf up = {0, 1, 0};
    (void)t;
    check(semop(set, &up, 1) == 0, "semop");
}

static void stored(pthread_t t)
{
    (void)t;
    atomic_store(&word, 1);
    check(syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1) == 1, "futex");
}

static void on_signal(int number)
{
    (void)number;
    signals++;
}

int main(void)
{
    static const struct {
        void *(*function)(void *);
        void (*wake)(pthread_t t);
    } all[] = {
        {in_wait, none},         {in_wait3, none},         {in_wait4, none},
        {in_waitid, none},       {in_system, none},        {in_pclose, none},
        {in_pause, handled},     {in_sigwait, waited_for}, {in_sigwaitinfo, waited_for},
        {in_sigtimedwait, none}, {in_flock, unlocked},     {in_open, opened},
        {in_openat, opened},     {in_semop, posted},       {in_semtimedop, none},
        {in_thrd_sleep, none},   {in_futex, stored},       {in_poll, none},
        {in_ppoll, none},        {in_select, none},        {in_poll_of_one, none},
    };
    sigset_t s;
    sigemptyset(&s);
    sigaddset(&s, SIGUSR2);
    sigprocmask(SIG_BLOCK, &s, NULL);
    signal(SIGUSR1, on_signal);
    set = semget(IPC_PRIVATE, 1, 0600);
    lock_fd = open(lock, O_RDWR | O_CREAT, 0600);
    check(set >= 0, "semget");
    check(lock_fd >= 0 && !flock(lock_fd, LOCK_EX) && !mkfifo(fifo, 0600), "files");
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        pthread_t t;
        check(!pthread_create(&t, NULL, all[i].function, NULL), "pthread_create");
        rest();
        all[i].wake(t);
        pthread_join(t, NULL);
        if (last_fd >= 0)
            close(last_fd);
        last_fd = -1;
    }
    semctl(set, 0, IPC_RMID);
    return 0;
}
