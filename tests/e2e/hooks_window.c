// SPDX-License-Identifier: MIT
//
// Waits once, as its argument says, and is woken at the worst moment for a hook: see hooks_behind.c. Waited in vain, it ends by
// SIGALRM.
//   pause, sigsuspend   for a signal, which comes right behind one of ours
//   readers             a writer, for two readers that release the lock at the same time

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t got;
static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
static _Atomic int has_it;
static _Atomic int is_writer_waiting;

static void on_user(int number)
{
    (void)number;
    got++;
}

static void nap(long ms)
{
    struct timespec t = {0, ms * 1000000};
    nanosleep(&t, NULL);
}

static void *reader(void *arg)
{
    pthread_rwlock_rdlock(&lock);
    atomic_fetch_add(&has_it, 1);
    while (!atomic_load(&is_writer_waiting))
        nap(1);
    pthread_rwlock_unlock(&lock);
    while (!got) // so that none has ended, or waits, before the writer goes on
        ;
    return arg;
}

static void *writer(void *arg)
{
    pthread_rwlock_wrlock(&lock);
    got = 1;
    return arg;
}

static int readers(void)
{
    pthread_t threads[3];
    for (int i = 0; i < 2; i++)
        if (pthread_create(&threads[i], NULL, reader, NULL))
            return 3;
    while (atomic_load(&has_it) < 2)
        nap(1);
    if (pthread_create(&threads[2], NULL, writer, NULL))
        return 3;
    while (!(lock.__data.__readers & 2)) // a writer waits
        nap(1);
    nap(20);
    atomic_store(&is_writer_waiting, 1);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    return 0;
}

int main(int argc, char **argv)
{
    sigset_t mask, after;
    if (argc != 2)
        return 2;
    alarm(10);
    if (!strcmp(argv[1], "readers"))
        return readers();
    signal(SIGUSR1, on_user);
    sigprocmask(SIG_SETMASK, NULL, &mask);
    if (!strcmp(argv[1], "pause"))
        pause();
    else
        sigsuspend(&mask);
    sigprocmask(SIG_SETMASK, NULL, &after);
    printf("%d signals, mask %s\n", (int)got, memcmp(&mask, &after, 8) ? "changed" : "as it was");
    return 0;
}
