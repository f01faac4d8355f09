// SPDX-License-Identifier: MIT
//
// Linked into a program, it stands for an injector: before main, when all calls are bound, it loads the
// agent that GOT_AGENT names. What it allocated before is given back after.

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { BEFORE = 25 };

static void *before[BEFORE];

__attribute__((constructor)) static void load(void)
{
    const char *path = getenv("GOT_AGENT");
    pthread_mutex_t bound = PTHREAD_MUTEX_INITIALIZER;
    if (!path)
        return;
    for (int i = 0; i < BEFORE; i++)
        before[i] = malloc(1000);
    pthread_mutex_lock(&bound);
    pthread_mutex_unlock(&bound);
    if (!dlopen(path, RTLD_NOW)) {
        fprintf(stderr, "%s\n", dlerror());
        abort();
    }
    for (int i = 0; i < BEFORE; i++)
        free(before[i]);
}
