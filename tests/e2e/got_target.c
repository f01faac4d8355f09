// SPDX-License-Identifier: MIT
//
// Waits whose number and least length are known: LOCKS times a thread waits WAIT_MS for a mutex that another
// holds, whose unlock ends it. Then plugins: allocations of a library that is loaded later.
// Usage: got_target locks|fresh LIBRARY|deepbind LIBRARY.

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LOCKS = 10, WAIT_MS = 20, BLOCKS = 10 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t both;

__attribute__((noinline)) static void site_unlock(void)
{
    pthread_mutex_unlock(&mutex);
    __asm__ volatile("");
}

__attribute__((noinline)) static void site_lock(void)
{
    pthread_mutex_lock(&mutex);
    __asm__ volatile("");
}

static void *waiter(void *unused)
{
    for (int i = 0; i < LOCKS; i++) {
        pthread_barrier_wait(&both);
        site_lock();
        site_unlock();
        pthread_barrier_wait(&both);
    }
    return unused;
}

static void locks(void)
{
    const struct timespec while_held = {0, (WAIT_MS + 5) * 1000000};
    pthread_t id;
    pthread_barrier_init(&both, NULL, 2);
    if (pthread_create(&id, NULL, waiter, NULL))
        abort();
    for (int i = 0; i < LOCKS; i++) {
        site_lock();
        pthread_barrier_wait(&both);
        nanosleep(&while_held, NULL);
        site_unlock();
        pthread_barrier_wait(&both);
    }
    pthread_join(id, NULL);
}

int main(int argc, char **argv)
{
    void *blocks[BLOCKS];
    if (argc > 1 && strcmp(argv[1], "locks") == 0) {
        locks();
    } else if (argc > 2 && strcmp(argv[1], "fresh") == 0) {
        void *handle = dlopen(argv[2], RTLD_NOW | RTLD_LOCAL);
        void *found = handle ? dlsym(handle, "plugin_allocate") : NULL;
        void (*allocate)(void **, int);
        if (!found)
            return 1;
        memcpy(&allocate, &found, sizeof allocate);
        allocate(blocks, BLOCKS);
        for (int i = 0; i < BLOCKS / 2; i++)
            free(blocks[i]);
    } else if (argc > 2 && strcmp(argv[1], "deepbind") == 0) {
        // Its constructor has allocated, its destructor frees, both with libc's allocator.
        void *handle = dlopen(argv[2], RTLD_LAZY | RTLD_LOCAL | RTLD_DEEPBIND);
        if (!handle || !dlsym(handle, "malloc") || dlclose(handle))
            return 1;
    } else {
        return 2;
    }
    return 0;
}
