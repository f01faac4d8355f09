// SPDX-License-Identifier: MIT
//
// Plain threads that wake each other. Usage:
//   trace_wakers relay ROUNDS    four threads hand a token round, each by the next one's semaphore (first and third) or
//                                condition: each is woken by the one before it and by nobody else
//   trace_wakers contend MS      eight threads fight for a mutex, a read-write lock, conditions and semaphores

#define _GNU_SOURCE

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { FIGHTERS = 8 };

static int rounds;
static sem_t tokens[2];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t conditions[2] = {PTHREAD_COND_INITIALIZER, PTHREAD_COND_INITIALIZER};
static bool has_token[2];

static void give_semaphore(int i)
{
    sem_post(&tokens[i]);
}

static void take_semaphore(int i)
{
    while (sem_wait(&tokens[i]))
        ;
}

static void give_condition(int i)
{
    pthread_mutex_lock(&mutex);
    has_token[i] = true;
    pthread_mutex_unlock(&mutex);
    pthread_cond_signal(&conditions[i]);
}

static void take_condition(int i)
{
    pthread_mutex_lock(&mutex);
    while (!has_token[i])
        pthread_cond_wait(&conditions[i], &mutex);
    has_token[i] = false;
    pthread_mutex_unlock(&mutex);
}

static void *first(void *arg)
{
    for (int i = 0; i < rounds; i++) {
        take_semaphore(0);
        give_condition(0);
    }
    return arg;
}

static void *second(void *arg)
{
    for (int i = 0; i < rounds; i++) {
        take_condition(0);
        give_semaphore(1);
    }
    return arg;
}

static void *third(void *arg)
{
    for (int i = 0; i < rounds; i++) {
        take_semaphore(1);
        give_condition(1);
    }
    return arg;
}

static void *fourth(void *arg)
{
    for (int i = 0; i < rounds; i++) {
        take_condition(1);
        give_semaphore(0);
    }
    return arg;
}

static int relay(void)
{
    void *(*const stages[])(void *) = {first, second, third, fourth};
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        if (pthread_create(&threads[i], NULL, stages[i], NULL))
            return 1;
    struct timespec t = {.tv_nsec = 20000000}; // until all of them wait
    nanosleep(&t, NULL);
    give_semaphore(0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    return 0;
}

static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static volatile bool is_over;
static unsigned shared;

static void *fighter(void *arg)
{
    unsigned seed = (unsigned)(size_t)arg;
    while (!is_over) {
        switch (rand_r(&seed) % 6) {
        case 0:
            pthread_rwlock_wrlock(&rwlock);
            shared++;
            pthread_rwlock_unlock(&rwlock);
            break;
        case 1:
            pthread_rwlock_rdlock(&rwlock);
            for (volatile int i = 0; i < 300; i++)
                ;
            pthread_rwlock_unlock(&rwlock);
            break;
        case 2: sem_post(&tokens[0]); break;
        case 3: {
            struct timespec t;
            clock_gettime(CLOCK_REALTIME, &t);
            t.tv_nsec = (t.tv_nsec + 200000) % 1000000000;
            sem_timedwait(&tokens[0], &t);
            break;
        }
        case 4: {
            struct timespec t;
            clock_gettime(CLOCK_REALTIME, &t);
            t.tv_nsec = (t.tv_nsec + 200000) % 1000000000;
            pthread_mutex_lock(&mutex);
            pthread_cond_timedwait(&conditions[0], &mutex, &t);
            pthread_mutex_unlock(&mutex);
            break;
        }
        default:
            pthread_mutex_lock(&mutex);
            for (volatile int i = 0; i < 1000; i++)
                ;
            if (shared % 3)
                pthread_cond_signal(&conditions[0]);
            else
                pthread_cond_broadcast(&conditions[0]);
            pthread_mutex_unlock(&mutex);
            break;
        }
    }
    return arg;
}

static int contend(int ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000L};
    pthread_t threads[FIGHTERS];
    for (size_t i = 0; i < FIGHTERS; i++)
        if (pthread_create(&threads[i], NULL, fighter, (void *)(i + 1)))
            return 1;
    nanosleep(&t, NULL);
    is_over = true;
    for (int i = 0; i < FIGHTERS; i++)
        pthread_join(threads[i], NULL);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    sem_init(&tokens[0], 0, 0);
    sem_init(&tokens[1], 0, 0);
    rounds = atoi(argv[2]);
    return strcmp(argv[1], "relay") ? contend(rounds) : relay();
}
