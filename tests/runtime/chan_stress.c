// SPDX-License-Identifier: MIT
//
// Channels under load from several processors: senders, receivers and plain threads, each operation in a
// random way. Each value comes exactly once, whole, and to one receiver in the order in which it was sent on
// its channel.
//
//     chan_stress PROCS ROUNDS [SEED]      PROCS 0: plain threads alone, without a runtime

#include "fiberscope/chan.h"
#include "fiberscope/fiber.h"
#include "tests/runtime/check.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

enum { CHANS_MAX = 8, SENDERS_MAX = 16, RECEIVERS_MAX = 12, VALUES = 1500, ELEM_MAX = 1024 };

struct value {
    uint32_t sender, number;
    uint64_t check; // of all bytes but these
    unsigned char filling[];
};

static struct {
    uint32_t chans, senders, receivers;
    struct fib_chan *c[CHANS_MAX];
    size_t elem_bytes[CHANS_MAX];
    _Atomic uint32_t senders_left;
    _Atomic uint64_t received, timed_out;
    _Atomic unsigned char seen[SENDERS_MAX][VALUES];
} all;

struct actor {
    uint32_t index;
    uint64_t random;
    bool is_open[CHANS_MAX];
    uint32_t last[SENDERS_MAX][CHANS_MAX]; // received; plus 1
};

static uint32_t below(struct actor *a, uint32_t n)
{
    uint64_t x = a->random += 0x9e3779b97f4a7c15u; // splitmix64
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return (uint32_t)((x ^ x >> 31) % n);
}

static uint64_t check_of(const struct value *v, size_t bytes)
{
    uint64_t h = (uint64_t)v->sender << 32 | v->number;
    for (size_t i = 0; i < bytes - sizeof *v; i++)
        h = (h ^ v->filling[i]) * 0x100000001b3u;
    return h;
}

static void make(struct value *v, struct actor *a, uint32_t number, size_t bytes)
{
    v->sender = a->index;
    v->number = number;
    memset(v->filling, (int)(number * 7 + a->index), bytes - sizeof *v);
    v->check = check_of(v, bytes);
}

static void pause_some(struct actor *a)
{
    uint32_t kind = below(a, 64);
    if (kind < 8)
        fib_yield();
    else if (kind == 8)
        fib_sleep(1000 * below(a, 100));
}

static void send_somehow(struct actor *a, uint32_t number)
{
    _Alignas(16) unsigned char bytes[CHANS_MAX][ELEM_MAX];
    struct fib_case k[CHANS_MAX];
    uint32_t first = below(a, all.chans), count = below(a, 2) ? 1 : 1 + below(a, all.chans);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t c = (first + i) % all.chans;
        make((struct value *)bytes[i], a, number, all.elem_bytes[c]);
        k[i] = (struct fib_case)FIB_SEND(all.c[c], bytes[i]);
    }
    switch (count == 1 ? below(a, 3) : 3 + below(a, 3)) {
    case 0: fib_chan_send(all.c[first], bytes[0]); break;
    case 1:
        while (fib_chan_send_for(all.c[first], bytes[0], 1000 * below(a, 400)))
            all.timed_out++;
        break;
    case 2:
        for (uint32_t i = 1; fib_chan_send_for(all.c[first], bytes[0], 0); i++)
            fib_sleep(i % 16 ? 0 : 50000); // 0 yields; for others that poll, too
        break;
    case 3:
        while (fib_select_for(k, count, 1000 * below(a, 400)) == FIB_SELECT_NONE)
            all.timed_out++;
        break;
    default: fib_select(k, count);
    }
}

static void run_sender(void *arg)
{
    struct actor *a = arg;
    for (uint32_t i = 0; i < VALUES; i++) {
        send_somehow(a, i);
        pause_some(a);
    }
    if (--all.senders_left == 0)
        for (uint32_t c = 0; c < all.chans; c++)
            fib_chan_close(all.c[c]);
}

static void take(struct actor *a, uint32_t c, const struct value *v)
{
    CHECK(v->sender < all.senders && v->number < VALUES, "%u, %u", v->sender, v->number);
    CHECK(v->check == check_of(v, all.elem_bytes[c]), "a torn value of %u", v->sender);
    CHECK(all.seen[v->sender][v->number]++ == 0, "%u of %u came twice", v->number, v->sender);
    CHECK(v->number + 1 > a->last[v->sender][c], "%u of %u after %u", v->number, v->sender,
          a->last[v->sender][c] - 1);
    a->last[v->sender][c] = v->number + 1;
    all.received++;
}

// From one or several channels that are still open; the channel, or -1.
static int recv_somehow(struct actor *a, unsigned char (*bytes)[ELEM_MAX], uint32_t *at, bool *ok)
{
    struct fib_case k[CHANS_MAX];
    uint32_t chans[CHANS_MAX], count = 0;
    uint32_t first = below(a, all.chans), max = below(a, 2) ? 1 : all.chans;
    for (uint32_t i = 0; i < all.chans && count < max; i++) {
        uint32_t c = (first + i) % all.chans;
        if (!a->is_open[c])
            continue;
        chans[count] = c;
        k[count] = (struct fib_case)FIB_RECV(all.c[c], bytes[count]);
        count++;
    }
    int chosen = 0, rc = 0;
    // A plain receive would wait for one channel while the senders wait for another, with nobody there.
    int64_t limit = 1000 * below(a, 600);
    if (count == 1 && below(a, 2)) {
        rc = fib_chan_recv_for(all.c[chans[0]], bytes[0], limit);
        *ok = !rc;
        chosen = rc == -ETIMEDOUT ? -1 : 0;
    } else {
        chosen = fib_select_for(k, count, count < all.chans ? limit : -1);
        *ok = chosen >= 0 && k[chosen].ok;
    }
    *at = chosen < 0 ? 0 : (uint32_t)chosen;
    all.timed_out += chosen < 0;
    return chosen < 0 ? -1 : (int)chans[chosen];
}

static void run_receiver(void *arg)
{
    struct actor *a = arg;
    _Alignas(16) unsigned char bytes[CHANS_MAX][ELEM_MAX];
    uint32_t open = all.chans, at;
    memset(a->is_open, 1, sizeof a->is_open);
    while (open) {
        bool ok;
        int c = recv_somehow(a, bytes, &at, &ok);
        if (c >= 0 && ok) {
            take(a, (uint32_t)c, (const struct value *)bytes[at]);
        } else if (c >= 0) {
            a->is_open[c] = false;
            open--;
        }
        pause_some(a);
    }
}

enum threads { NO_THREADS, SOME_THREADS, ALL_THREADS };

struct task {
    fib_fn *fn;
    struct actor *arg;
    bool is_thread;
    pthread_t thread;
    struct fib fib;
};

static void *thread_main(void *arg)
{
    struct task *t = arg;
    t->fn(t->arg);
    return NULL;
}

static void task_start(struct task *t)
{
    if (t->is_thread)
        CHECK(!pthread_create(&t->thread, NULL, thread_main, t));
    else
        CHECK(!fib_go(&t->fib, t->fn, t->arg));
}

static void task_join(struct task *t, enum threads threads)
{
    if (!t->is_thread) {
        fib_join(t->fib);
        return;
    }
    if (threads == SOME_THREADS)
        fib_blocking_enter();
    pthread_join(t->thread, NULL);
    if (threads == SOME_THREADS)
        fib_blocking_exit();
}

static void set_up(struct actor *dice)
{
    static const size_t sizes[] = {16, 24, 40, 64, 200, ELEM_MAX};
    memset(&all, 0, sizeof all);
    all.chans = 1 + below(dice, CHANS_MAX);
    all.senders = 1 + below(dice, SENDERS_MAX);
    all.receivers = 1 + below(dice, RECEIVERS_MAX);
    all.senders_left = all.senders;
    for (uint32_t c = 0; c < all.chans; c++) {
        all.elem_bytes[c] = sizes[below(dice, sizeof sizes / sizeof *sizes)];
        all.c[c] = fib_chan_new(all.elem_bytes[c], below(dice, 2) ? 0 : 1 + below(dice, 20));
        CHECK(all.c[c]);
    }
}

static void one_round(uint64_t seed, enum threads threads)
{
    static struct actor actors[SENDERS_MAX + RECEIVERS_MAX];
    struct task tasks[SENDERS_MAX + RECEIVERS_MAX];
    struct actor dice = {.random = seed};
    set_up(&dice);
    uint32_t count = all.senders + all.receivers;
    for (uint32_t i = 0; i < count; i++) {
        bool is_sender = i < all.senders;
        actors[i] = (struct actor){.index = is_sender ? i : i - all.senders, .random = seed + i};
        tasks[i] = (struct task){.fn = is_sender ? run_sender : run_receiver, .arg = &actors[i]};
        tasks[i].is_thread =
            threads == ALL_THREADS || (threads == SOME_THREADS && (i == 0 || i == count - 1));
    }
    for (uint32_t i = 0; i < count; i++)
        task_start(&tasks[i]);
    for (uint32_t i = 0; i < count; i++)
        task_join(&tasks[i], threads);
    CHECK(all.received == (uint64_t)all.senders * VALUES, "%llu of %u",
          (unsigned long long)all.received, all.senders * VALUES);
    for (uint32_t c = 0; c < all.chans; c++) {
        CHECK(fib_chan_len(all.c[c]) == 0);
        fib_chan_free(all.c[c]);
    }
}

static uint64_t rounds, first_seed = 1;
static bool is_threads_only;

static void run(void *arg)
{
    (void)arg;
    uint64_t received = 0, timed_out = 0;
    for (uint64_t i = 0; i < rounds; i++) {
        one_round(first_seed + i, is_threads_only ? ALL_THREADS
                                  : i % 3 == 2    ? SOME_THREADS
                                                  : NO_THREADS);
        received += all.received;
        timed_out += all.timed_out;
    }
    printf("%llu rounds, %llu values, %llu limits over\n", (unsigned long long)rounds,
           (unsigned long long)received, (unsigned long long)timed_out);
    CHECK(timed_out > 0);
}

int main(int argc, char **argv)
{
    CHECK(argc >= 3, "PROCS ROUNDS [SEED]");
    struct fib_options options = {.size = sizeof options};
    options.procs = (uint32_t)strtoul(argv[1], NULL, 10);
    rounds = check_rounds(strtoull(argv[2], NULL, 10));
    if (argc > 3)
        first_seed = strtoull(argv[3], NULL, 10);
    is_threads_only = !options.procs;
    if (is_threads_only) {
        run(NULL);
        return 0;
    }
    CHECK(!fib_init(&options));
    struct fib f;
    CHECK(!fib_go(&f, run, NULL));
    return fib_join(f);
}
