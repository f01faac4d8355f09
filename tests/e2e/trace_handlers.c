// SPDX-License-Identifier: MIT
//
// Handlers that make calls which are told, in a thread that is told of all the time: wherever it is interrupted, also in the
// midst of an event, it has to go on. And a signal that came is never waited for a second time, whatever timers of ours do.

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t calls, got;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void on_alarm(int number)
{
    int saved = errno;
    (void)number;
    int fd = open("/dev/null", O_WRONLY);
    if (fd >= 0 && write(fd, "x", 1) == 1)
        close(fd);
    waitpid(-1, NULL, WNOHANG);
    poll(NULL, 0, 0);
    calls++;
    errno = saved;
}

static void on_user(int number)
{
    (void)number;
    got++;
}

static void *ends_at_once(void *arg)
{
    return arg;
}

// A reader and a writer of pipes, 8 bytes at a time: two waits and four events each.
static void *echo(void *arg)
{
    int *ends = arg;
    char byte;
    while (read(ends[0], &byte, 1) == 1 && write(ends[1], &byte, 1) == 1)
        ;
    return NULL;
}

static void interrupted(double seconds)
{
    int there[2], back[2], ends[2];
    char byte = 'x';
    pthread_t t;
    sigset_t alarm_set;
    if (pipe(there) || pipe(back))
        exit(2);
    ends[0] = there[0];
    ends[1] = back[1];
    sigemptyset(&alarm_set);
    sigaddset(&alarm_set, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &alarm_set, NULL); // for the thread
    if (pthread_create(&t, NULL, echo, ends))
        exit(2);
    pthread_sigmask(SIG_UNBLOCK, &alarm_set, NULL);
    struct sigaction act = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &act, NULL);
    const struct itimerval often = {{0, 150}, {0, 150}}, never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &often, NULL);
    for (double end = now() + seconds; now() < end;)
        if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1)
            exit(3);
    setitimer(ITIMER_REAL, &never, NULL);
    close(there[1]);
    pthread_join(t, NULL);
    close(there[0]);
    close(back[0]);
    close(back[1]);
}

static void *waits(void *arg)
{
    sigset_t none;
    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, NULL, &none);
    sigdelset(&none, SIGUSR1);
    for (int i = 0; i < *(int *)arg; i++)
        while (got <= i)
            sigsuspend(&none);
    return NULL;
}

// Threads end, and their timers with them, while another waits in sigsuspend for as many signals as it is sent, one by one.
static void signalled(int rounds)
{
    sigset_t user;
    pthread_t t, other;
    sigemptyset(&user);
    sigaddset(&user, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &user, NULL);
    signal(SIGUSR1, on_user);
    if (pthread_create(&t, NULL, waits, &rounds))
        exit(2);
    for (int i = 0; i < rounds; i++) {
        if (pthread_create(&other, NULL, ends_at_once, NULL))
            exit(2);
        pthread_join(other, NULL);
        pthread_kill(t, SIGUSR1);
        for (double end = now() + 5; got <= i;)
            if (now() > end) {
                printf("signal %d was lost\n", i);
                exit(4);
            }
    }
    pthread_join(t, NULL);
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? atof(argv[1]) : 1;
    interrupted(seconds);
    signalled(200);
    printf("%d handlers, %d signals\n", (int)calls, (int)got);
    return 0;
}
