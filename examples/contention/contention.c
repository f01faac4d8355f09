// SPDX-License-Identifier: MIT
//
// Contention: fibers count words into one hash table under one mutex, and then into the same table under a mutex
// for every sixteenth part of it.
//
// What it shows: a mutex hot spot, and what removes it. The time that fibers waited for the lock is what `fiberscope
// record --mutex` would show; here it is measured by trylock and the clock. The counts must be the same.
//
//     contention [FIBERS [WORDS]]    100 fibers, 2,000,000 words

#include <fiberscope/fiber.h>
#include <fiberscope/sync.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum { SHARDS = 16, SLOTS = 1024, VOCABULARY = 5000 }; // SLOTS of a shard, a third in use

struct shard {
    _Alignas(64) struct fib_mutex mutex;
    struct entry {
        uint64_t word, count;
    } entries[SLOTS];
};

struct trial {
    struct shard *shards;
    unsigned locks; // 1 or SHARDS
    long words_each;
    struct fib_waitgroup *done;
    _Atomic uint64_t waits, wait_ns, seeds;
};

static uint64_t mix(uint64_t x)
{
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdULL;
    x ^= x >> 33;
    return x;
}

// The lock of a shard, and how long it took.
static void lock_counted(struct trial *t, struct fib_mutex *m)
{
    if (fib_mutex_trylock(m))
        return;
    int64_t before = fib_now_ns();
    fib_mutex_lock(m);
    atomic_fetch_add_explicit(&t->waits, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&t->wait_ns, (uint64_t)(fib_now_ns() - before), memory_order_relaxed);
}

// Under the lock. Hashes as long as a word of some length takes.
static void count_word(struct shard *s, uint64_t word)
{
    uint64_t hash = word;
    for (int i = 0; i < 20; i++)
        hash = mix(hash + 1);
    size_t i = hash % SLOTS;
    while (s->entries[i].count && s->entries[i].word != word)
        i = (i + 1) % SLOTS;
    s->entries[i].word = word;
    s->entries[i].count++;
}

static void counter(void *arg)
{
    struct trial *t = arg;
    uint64_t x = atomic_fetch_add(&t->seeds, 1) + 1;
    for (long i = 0; i < t->words_each; i++) {
        x = mix(x + 0x9e3779b97f4a7c15ULL);
        uint64_t word = x % VOCABULARY;
        struct shard *s = &t->shards[word % SHARDS];
        struct fib_mutex *m = &t->shards[t->locks == 1 ? 0 : word % SHARDS].mutex;
        lock_counted(t, m);
        count_word(s, word);
        fib_mutex_unlock(m);
        if (i % 1000 == 999)
            fib_yield(); // as a request ends now and then
    }
    fib_waitgroup_done(t->done);
}

// Runs one trial and returns a checksum of the counts.
static uint64_t run(unsigned locks, int fibers, long words)
{
    struct fib_waitgroup done = {0};
    struct shard *shards = aligned_alloc(64, sizeof(struct shard) * SHARDS);
    if (!shards)
        abort();
    for (int i = 0; i < SHARDS; i++)
        shards[i] = (struct shard){0};
    struct trial t = {
        .shards = shards, .locks = locks, .words_each = words / fibers, .done = &done};
    fib_waitgroup_add(&done, fibers);
    int64_t before = fib_now_ns();
    for (int i = 0; i < fibers; i++)
        if (fib_go(NULL, counter, &t))
            abort();
    fib_waitgroup_wait(&done);
    double ns = (double)(fib_now_ns() - before);
    uint64_t sum = 0, total = 0;
    for (int i = 0; i < SHARDS; i++)
        for (int j = 0; j < SLOTS; j++) {
            struct entry *e = &shards[i].entries[j];
            total += e->count;
            sum += mix(e->word + 1) * e->count;
        }
    printf("%2u lock%s %8.1f ns a word, %8llu waits, %10.3f ms waited, %llu words\n", locks,
           locks == 1 ? ": " : "s:", ns / (double)total, (unsigned long long)t.waits,
           (double)t.wait_ns / 1e6, (unsigned long long)total);
    free(shards);
    return sum;
}

struct arguments {
    int fibers;
    long words;
    bool is_same;
};

static void start(void *arg)
{
    struct arguments *a = arg;
    printf("%d fibers, %u processors\n", a->fibers, fib_procs(0));
    uint64_t one = run(1, a->fibers, a->words);
    a->is_same = run(SHARDS, a->fibers, a->words) == one;
    printf("counts: %s\n", a->is_same ? "the same" : "DIFFERENT");
}

int main(int argc, char **argv)
{
    struct arguments a = {100, 2000000, false};
    if (argc > 1)
        a.fibers = (int)strtol(argv[1], NULL, 10);
    if (argc > 2)
        a.words = strtol(argv[2], NULL, 10);
    if (a.fibers < 1 || a.words < a.fibers) {
        fprintf(stderr, "usage: contention [FIBERS [WORDS]]\n");
        return 2;
    }
    return fib_main(start, &a) || !a.is_same ? 1 : 0;
}
