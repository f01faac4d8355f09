// SPDX-License-Identifier: MIT

#include "delay.h"

#include <fiberscope/chan.h>
#include <fiberscope/fiber.h>
#include <fiberscope/io.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { DELAYS_MAX = 8 };

const char *const delay_names[DELAY_KINDS] = {"lock",     "syscall", "block", "busy",
                                              "function", "channel", "io",    "sleep"};

static struct delay {
    enum delay_kind kind;
    uint64_t every;
    int64_t ns;
    _Atomic uint64_t turn;
} delays[DELAYS_MAX];
static int delay_count;

static struct delay_record *records; // of requests that have ended
static _Atomic uint64_t record_count;
static _Atomic int64_t lock_released_ns; // when the last holder let go of the lock

// --- What helps: a fiber of its own, and what it shares with the request. The last of the two that is done frees it.

struct helper {
    _Atomic int users;
    int64_t ns;
    struct fib_mutex *lock;
    struct fib_chan *has_lock; // a byte, when the helper has it
    struct fib_chan *answers;  // a byte, late
    int pipe[2];               // the same; -1: none
    _Atomic int begun;         // neighbours
    _Atomic int64_t
        ended_ns; // when it did what the request waits for; of neighbours the last to end
};

static struct helper *helper_new(int users, int64_t ns)
{
    struct helper *h = calloc(1, sizeof *h);
    if (!h)
        return NULL;
    *h = (struct helper){.users = users, .ns = ns, .pipe = {-1, -1}};
    h->has_lock = fib_chan_new(1, 1);
    h->answers = fib_chan_new(1, 1);
    if (h->has_lock && h->answers)
        return h;
    fib_chan_free(h->has_lock);
    fib_chan_free(h->answers);
    free(h);
    return NULL;
}

static void helper_put(struct helper *h, int users)
{
    if (atomic_fetch_sub(&h->users, users) != users)
        return;
    fib_chan_free(h->has_lock);
    fib_chan_free(h->answers);
    for (int i = 0; i < 2; i++)
        if (h->pipe[i] >= 0)
            fib_close(h->pipe[i]);
    free(h);
}

// --- The kinds. Each has a function of its own that a report can name.

static int64_t cpu_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

// Uses so much CPU time, by who is not preempted. The clock is asked now and then only: it is not what the time is to
// be spent on.
static inline __attribute__((always_inline)) void spin(int64_t ns)
{
    volatile uint64_t x = 1;
    int64_t until_ns = cpu_now_ns() + ns;
    do
        for (int i = 0; i < 100000; i++)
            x = x * 6364136223846793005u + 1;
    while (cpu_now_ns() < until_ns);
}

static void lock_holder(void *arg)
{
    struct helper *h = arg;
    fib_mutex_lock(h->lock);
    fib_chan_send(h->has_lock, "");
    fib_sleep(h->ns);
    lock_released_ns = fib_now_ns();
    fib_mutex_unlock(h->lock);
    helper_put(h, 1);
}

// How long the request waits it says itself: delay_had_lock.
static void delay_lock(struct fib_mutex *lock, int64_t ns)
{
    struct helper *h = helper_new(2, ns);
    char byte;
    if (!h)
        return;
    h->lock = lock;
    if (fib_go(NULL, lock_holder, h)) {
        helper_put(h, 2);
        return;
    }
    fib_chan_recv(h->has_lock, &byte);
    helper_put(h, 1);
}

static int64_t sleep_in_kernel(int64_t ns)
{
    int64_t before_ns = fib_now_ns(), until_ns = before_ns + ns;
    struct timespec until = {until_ns / 1000000000, until_ns % 1000000000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR) {
    }
    return fib_now_ns() - before_ns;
}

static __attribute__((noinline)) void slow_syscall(struct delay_record *r, int64_t ns)
{
    fib_blocking_enter();
    r->ns[DELAY_SYSCALL] += sleep_in_kernel(ns);
    fib_blocking_exit();
}

static __attribute__((noinline)) void block_unannounced(struct delay_record *r, int64_t ns)
{
    r->ns[DELAY_BLOCK] += sleep_in_kernel(ns);
}

// Not preempted, so that the request has its processor for as long as it says, neither more nor less.
static __attribute__((noinline)) void slow_function(struct delay_record *r, int64_t ns)
{
    fib_preempt_disable();
    int64_t before_ns = fib_now_ns();
    spin(ns);
    r->ns[DELAY_FUNCTION] += fib_now_ns() - before_ns;
    fib_preempt_enable();
}

// For how long neighbours have had all processors so far.
static struct {
    atomic_flag lock; // held for moments, by who is not preempted
    int busy;
    int64_t since_ns, full_ns;
} processors = {.lock = ATOMIC_FLAG_INIT};

static int64_t processors_full_ns(int more_busy)
{
    int procs = (int)fib_procs(0);
    fib_preempt_disable();
    while (atomic_flag_test_and_set(&processors.lock)) {
    }
    int64_t now_ns = fib_now_ns();
    if (processors.busy >= procs)
        processors.full_ns += now_ns - processors.since_ns;
    processors.since_ns = now_ns;
    processors.busy += more_busy;
    int64_t full_ns = processors.full_ns;
    atomic_flag_clear(&processors.lock);
    fib_preempt_enable();
    return full_ns;
}

static void busy_neighbour(void *arg)
{
    struct helper *h = arg;
    fib_preempt_disable();
    processors_full_ns(1);
    h->begun++;
    spin(h->ns);
    processors_full_ns(-1);
    h->ended_ns = fib_now_ns();
    fib_preempt_enable();
    helper_put(h, 1);
}

// A neighbour for each processor, one after the other: while the last but one begins, this fiber moves to another
// processor. It never waits for anything but a processor. How long, it says at its end: delay_end.
static void delay_busy(int64_t ns)
{
    int procs = (int)fib_procs(0), started = 0;
    struct helper *h = helper_new(procs + 1, ns);
    if (!h)
        return;
    for (; started < procs && !fib_go(NULL, busy_neighbour, h); started++)
        while (started < procs - 1 && h->begun <= started)
            fib_yield();
    while (started && !h->ended_ns)
        fib_yield();
    helper_put(h, 1 + procs - started);
}

static void late_sender(void *arg)
{
    struct helper *h = arg;
    fib_sleep(h->ns);
    h->ended_ns = fib_now_ns();
    fib_chan_send(h->answers, "");
    helper_put(h, 1);
}

static __attribute__((noinline)) void wait_for_sender(struct delay_record *r, int64_t ns)
{
    struct helper *h = helper_new(2, ns);
    char byte;
    if (!h)
        return;
    if (fib_go(NULL, late_sender, h)) {
        helper_put(h, 2);
        return;
    }
    int64_t before_ns = fib_now_ns();
    fib_chan_recv(h->answers, &byte);
    r->ns[DELAY_CHANNEL] += h->ended_ns - before_ns;
    helper_put(h, 1);
}

static void late_writer(void *arg)
{
    struct helper *h = arg;
    fib_sleep(h->ns);
    h->ended_ns = fib_now_ns();
    fib_write(h->pipe[1], "", 1);
    helper_put(h, 1);
}

static __attribute__((noinline)) void wait_for_writer(struct delay_record *r, int64_t ns)
{
    struct helper *h = helper_new(2, ns);
    char byte;
    if (!h)
        return;
    if (pipe2(h->pipe, O_CLOEXEC | O_NONBLOCK) || fib_go(NULL, late_writer, h)) {
        helper_put(h, 2);
        return;
    }
    int64_t before_ns = fib_now_ns();
    fib_read(h->pipe[0], &byte, 1);
    r->ns[DELAY_IO] += h->ended_ns - before_ns;
    helper_put(h, 1);
}

static __attribute__((noinline)) void sleep_long(struct delay_record *r, int64_t ns)
{
    int64_t before_ns = fib_now_ns();
    fib_sleep(ns);
    r->ns[DELAY_SLEEP] += fib_now_ns() - before_ns;
}

void delay_redirect(struct delay_record *r, struct fib_mutex *lock)
{
    int64_t lock_ns = 0;
    for (int i = 0; i < delay_count; i++) {
        struct delay *d = &delays[i];
        if (++d->turn % d->every)
            continue;
        switch (d->kind) {
        case DELAY_LOCK: lock_ns = d->ns; break;
        case DELAY_SYSCALL: slow_syscall(r, d->ns); break;
        case DELAY_BLOCK: block_unannounced(r, d->ns); break;
        case DELAY_BUSY: delay_busy(d->ns); break;
        case DELAY_FUNCTION: slow_function(r, d->ns); break;
        case DELAY_CHANNEL: wait_for_sender(r, d->ns); break;
        case DELAY_IO: wait_for_writer(r, d->ns); break;
        case DELAY_SLEEP: sleep_long(r, d->ns); break;
        case DELAY_KINDS: break;
        }
    }
    if (lock_ns) // last, so that it is still held when the request wants it
        delay_lock(lock, lock_ns);
    r->lock_from_ns = delay_count ? fib_now_ns() : 0;
}

// Whoever had to wait for a holder gets the lock after it let go.
void delay_had_lock(struct delay_record *r)
{
    int64_t released_ns = lock_released_ns;
    if (r->lock_from_ns && released_ns > r->lock_from_ns)
        r->ns[DELAY_LOCK] += released_ns - r->lock_from_ns;
}

// --- Options.

static int kind_of(const char *text, size_t length)
{
    for (int i = 0; i < DELAY_KINDS; i++)
        if (strlen(delay_names[i]) == length && !strncmp(text, delay_names[i], length))
            return i;
    return -EINVAL;
}

int delay_add(const char *text)
{
    const char *every = strchr(text, ':');
    char *end;
    if (delay_count == DELAYS_MAX)
        return -ENOSPC;
    int kind = every ? kind_of(text, (size_t)(every - text)) : -EINVAL;
    if (kind < 0 || every[1] < '1' || every[1] > '9')
        return -EINVAL;
    uint64_t n = strtoull(every + 1, &end, 10);
    if (*end != ':' || end[1] < '0' || end[1] > '9')
        return -EINVAL;
    double amount = strtod(end + 1, &end);
    double unit = !strcmp(end, "us") ? 1e3 : !strcmp(end, "ms") ? 1e6 : !strcmp(end, "s") ? 1e9 : 0;
    if (!(amount * unit >= 1000 && amount * unit <= 60e9))
        return -EINVAL;
    struct delay *d = &delays[delay_count++];
    d->kind = (enum delay_kind)kind;
    d->every = n;
    d->ns = (int64_t)(amount * unit);
    return 0;
}

// --- The account.

int delay_account(void)
{
    records = calloc(DELAY_REQUESTS_MAX, sizeof *records);
    return records ? 0 : -ENOMEM;
}

void delay_begin(struct delay_record *r)
{
    *r = (struct delay_record){0};
    if (!records)
        return;
    r->ns[DELAY_BUSY] = -processors_full_ns(0);
    r->begin_ns = fib_now_ns();
}

void delay_end(struct delay_record *r)
{
    if (!records)
        return;
    r->end_ns = fib_now_ns();
    r->ns[DELAY_BUSY] += processors_full_ns(0);
    uint64_t i = record_count++;
    if (i < DELAY_REQUESTS_MAX)
        records[i] = *r;
}

int delay_account_write(FILE *file)
{
    uint64_t n = record_count < DELAY_REQUESTS_MAX ? record_count : DELAY_REQUESTS_MAX;
    fprintf(file, "%15s %12s", "begin_us", "all_us");
    for (int k = 0; k < DELAY_KINDS; k++)
        fprintf(file, " %12s", delay_names[k]);
    fputc('\n', file);
    for (uint64_t i = 0; i < n; i++) {
        const struct delay_record *r = &records[i];
        fprintf(file, "%15.3f %12.3f", (double)r->begin_ns / 1e3,
                (double)(r->end_ns - r->begin_ns) / 1e3);
        for (int k = 0; k < DELAY_KINDS; k++)
            fprintf(file, " %12.3f", (double)r->ns[k] / 1e3);
        fputc('\n', file);
    }
    if (record_count > n)
        fprintf(stderr, "shorten: the account is of the first %" PRIu64 " requests\n", n);
    return fflush(file) || ferror(file) ? -EIO : 0;
}
