// SPDX-License-Identifier: MIT
//
// A plain thread that makes known calls, each from a function named after it, for trace_api.py: call_X calls X, and
// tail_X, which from_X calls, leaves by X. What each waits for comes from main, some milliseconds later.

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#include "trace_api_calls.h"

enum { LATER_US = 10000 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static sem_t semaphore;
static int ends[2];
static pthread_t thread;
static char byte;
static const struct timespec soon = {0, 1000000};

static struct timespec *at_once(void)
{
    static struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return &now;
}

static void *waiter(void *arg);

// clang-format off: a call is on the line of its name
CALL(pthread_mutex_lock, pthread_mutex_lock(&mutex))
CALL(pthread_mutex_unlock, pthread_mutex_unlock(&mutex))
CALL(pthread_rwlock_rdlock, pthread_rwlock_rdlock(&rwlock))
CALL(pthread_rwlock_wrlock, pthread_rwlock_wrlock(&rwlock))
CALL(pthread_rwlock_unlock, pthread_rwlock_unlock(&rwlock))
CALL(pthread_cond_wait, pthread_cond_wait(&cond, &mutex))
CALL(pthread_cond_timedwait, pthread_cond_timedwait(&cond, &mutex, at_once()))
CALL(pthread_cond_signal, pthread_cond_signal(&cond))
CALL(sem_wait, sem_wait(&semaphore))
CALL(sem_post, sem_post(&semaphore))
CALL(read, read(ends[0], &byte, 1))
CALL(write, write(ends[1], "x", 1))
CALL(poll, poll(NULL, 0, 1))
CALL(nanosleep, nanosleep(&soon, NULL))
CALL(usleep, usleep(1000))
CALL(pthread_create, pthread_create(&thread, NULL, waiter, NULL))
CALL(pthread_join, pthread_join(thread, NULL))
TAIL(int, pthread_mutex_lock, pthread_mutex_lock(&mutex))
TAIL(int, pthread_cond_wait, pthread_cond_wait(&cond, &mutex))
TAIL(int, sem_wait, sem_wait(&semaphore))
TAIL(ssize_t, read, read(ends[0], &byte, 1))
TAIL(int, nanosleep, nanosleep(&soon, NULL))
THROUGH(pthread_mutex_lock, (&mutex))
THROUGH(sem_wait, (&semaphore))
// clang-format on

// What main is to do while the waiter makes its call: to give back what it has taken before, or to say that it goes on.
enum wish { NOTHING, MUTEX, RWLOCK, SIGNAL, POST, WRITE, END };
static _Atomic(enum wish) wish;

static void ask(enum wish w)
{
    atomic_store(&wish, w);
    while (atomic_load(&wish) != NOTHING)
        sched_yield();
}

static void *waiter(void *arg)
{
    ask(MUTEX), call_pthread_mutex_lock(), pthread_mutex_unlock(&mutex);
    ask(MUTEX), from_pthread_mutex_lock(), pthread_mutex_unlock(&mutex);
    ask(MUTEX), through_pthread_mutex_lock(), pthread_mutex_unlock(&mutex);
    ask(RWLOCK), call_pthread_rwlock_rdlock(), pthread_rwlock_unlock(&rwlock);
    ask(RWLOCK), call_pthread_rwlock_wrlock(), pthread_rwlock_unlock(&rwlock);
    pthread_mutex_lock(&mutex);
    ask(SIGNAL), call_pthread_cond_wait();
    ask(SIGNAL), from_pthread_cond_wait();
    call_pthread_cond_timedwait();
    pthread_mutex_unlock(&mutex);
    ask(POST), call_sem_wait();
    ask(POST), from_sem_wait();
    ask(POST), through_sem_wait();
    ask(WRITE), call_read();
    ask(WRITE), from_read();
    call_poll(), call_nanosleep(), from_nanosleep(), call_usleep();
    ask(END);
    usleep(LATER_US); // main is to wait for its end
    return arg;
}

static void fulfil(enum wish w)
{
    if (w == MUTEX)
        pthread_mutex_lock(&mutex);
    else if (w == RWLOCK)
        pthread_rwlock_wrlock(&rwlock);
    atomic_store(&wish, NOTHING);
    if (w == END)
        return;
    usleep(LATER_US);
    switch (w) {
    case MUTEX: call_pthread_mutex_unlock(); break;
    case RWLOCK: call_pthread_rwlock_unlock(); break;
    case SIGNAL:
        pthread_mutex_lock(&mutex); // free once it waits
        call_pthread_cond_signal();
        pthread_mutex_unlock(&mutex);
        break;
    case POST: call_sem_post(); break;
    default: call_write(); break;
    }
    keep();
}

int main(void)
{
    enum wish w = NOTHING;
    if (sem_init(&semaphore, 0, 0) || pipe(ends))
        return 1;
    call_pthread_create();
    while (w != END) {
        while (!(w = atomic_load(&wish)))
            usleep(100);
        fulfil(w);
    }
    call_pthread_join();
    return 0;
}
