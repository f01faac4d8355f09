// SPDX-License-Identifier: MIT
//
// Threads that take one mutex in turn. `turns`: five, 20 ms each, that begin 1 ms apart; each waits for the one before.
// `loop [MS]`: three, 60 ms each, or MS, until the program is killed.
// `alone`: main, in a select of no descriptors, likewise.

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <unistd.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static useconds_t loop_us = 60000;

static void *turn(void *arg)
{
    pthread_mutex_lock(&mutex);
    usleep(20000);
    pthread_mutex_unlock(&mutex);
    return arg;
}

static void *loop(void *arg)
{
    for (;;) {
        pthread_mutex_lock(&mutex);
        usleep(loop_us);
        pthread_mutex_unlock(&mutex);
        usleep(1000);
    }
    return arg;
}

int main(int argc, char **argv)
{
    pthread_t t[5];
    if (argc > 1 && !strcmp(argv[1], "loop")) {
        if (argc > 2)
            loop_us = (useconds_t)atoi(argv[2]) * 1000;
        for (int i = 0; i < 3; i++)
            pthread_create(&t[i], NULL, loop, NULL);
        for (;;)
            poll(NULL, 0, -1);
    }
    if (argc > 1 && !strcmp(argv[1], "alone"))
        return select(0, NULL, NULL, NULL, NULL);
    for (int i = 0; i < 5; i++) {
        pthread_create(&t[i], NULL, turn, NULL);
        usleep(1000);
    }
    for (int i = 0; i < 5; i++)
        pthread_join(t[i], NULL);
    return 0;
}
