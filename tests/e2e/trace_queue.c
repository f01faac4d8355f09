// SPDX-License-Identifier: MIT
//
// Threads that take one mutex in turn. `turns`: five, 20 ms each, that begin 1 ms apart; each waits for the one before.
// `loop`: three, 60 ms each, until the program is killed.

#include <pthread.h>
#include <string.h>
#include <unistd.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

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
        usleep(60000);
        pthread_mutex_unlock(&mutex);
        usleep(1000);
    }
    return arg;
}

int main(int argc, char **argv)
{
    pthread_t t[5];
    if (argc > 1 && !strcmp(argv[1], "loop")) {
        for (int i = 0; i < 3; i++)
            pthread_create(&t[i], NULL, loop, NULL);
        for (;;)
            pause();
    }
    for (int i = 0; i < 5; i++) {
        pthread_create(&t[i], NULL, turn, NULL);
        usleep(1000);
    }
    for (int i = 0; i < 5; i++)
        pthread_join(t[i], NULL);
    return 0;
}
