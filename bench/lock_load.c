// SPDX-License-Identifier: MIT
//
// Load for ./dev bench lock: `lock_load CASE ROUNDS`.
//
//   bare         one thread locks and unlocks a mutex and does nothing else: what an interposer costs most
//   uncontended  two threads, each with a mutex of its own around an update of a small table, and some
//                work between two of them, as a service's shards have it
//   contended    two threads, one mutex, the same update and work

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TABLE = 512, WORK = 60 };

struct shard {
    pthread_mutex_t lock;
    uint64_t table[TABLE];
    char pad[128];
};

struct worker {
    struct shard *shard;
    uint64_t seed, rounds, sum;
};

static uint64_t mix(uint64_t x)
{
    x ^= x >> 31;
    x *= UINT64_C(0x7fb5d329728ea185);
    x ^= x >> 27;
    return x * UINT64_C(0x81dadef4bc2dd44d);
}

static void *work(void *arg)
{
    struct worker *w = arg;
    uint64_t x = w->seed;
    for (uint64_t i = 0; i < w->rounds; i++) {
        for (int k = 0; k < WORK; k++)
            x = mix(x + (uint64_t)k);
        pthread_mutex_lock(&w->shard->lock);
        for (int k = 0; k < 8; k++)
            w->shard->table[(x >> (k * 7)) % TABLE] += x;
        pthread_mutex_unlock(&w->shard->lock);
    }
    w->sum = x;
    return NULL;
}

static void bare(uint64_t rounds)
{
    static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
    for (uint64_t i = 0; i < rounds; i++) {
        pthread_mutex_lock(&m);
        pthread_mutex_unlock(&m);
    }
}

int main(int argc, char **argv)
{
    static struct shard shards[2] = {{.lock = PTHREAD_MUTEX_INITIALIZER},
                                     {.lock = PTHREAD_MUTEX_INITIALIZER}};
    struct worker workers[2];
    pthread_t threads[2];
    if (argc != 3)
        return 2;
    uint64_t rounds = strtoull(argv[2], NULL, 10);
    if (!strcmp(argv[1], "bare")) {
        bare(rounds);
        return 0;
    }
    int contended = !strcmp(argv[1], "contended");
    for (unsigned i = 0; i < 2; i++) {
        workers[i] = (struct worker){&shards[contended ? 0 : i], i + 1, rounds, 0};
        if (pthread_create(&threads[i], NULL, work, &workers[i]))
            return 1;
    }
    for (unsigned i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    printf("%llu\n", (unsigned long long)(workers[0].sum ^ workers[1].sum));
    return 0;
}
