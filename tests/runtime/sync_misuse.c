// SPDX-License-Identifier: MIT
//
// Bad use of what sync.h names aborts, and says which call and which rule.

#include "fiberscope/sync.h"
#include "tests/runtime/misuse.h"

#include <errno.h>

enum { MS = 1000000 }; // ns

static void in_other(fib_fn *fn, void *arg)
{
    struct fib f;
    CHECK(!fib_go(&f, fn, arg));
    fib_join(f);
}

// --- Mutex.

static void lock(void *m)
{
    fib_mutex_lock(m);
}

static void unlock_free(void *arg)
{
    (void)arg;
    struct fib_mutex m = {0};
    fib_mutex_unlock(&m);
}

static void unlock_twice(void *arg)
{
    (void)arg;
    struct fib_mutex m = {0};
    fib_mutex_lock(&m);
    fib_mutex_unlock(&m);
    fib_mutex_unlock(&m);
}

static void unlock_others(void *arg)
{
    (void)arg;
    static struct fib_mutex m;
    in_other(lock, &m);
    fib_mutex_unlock(&m);
}

static void lock_own(void *arg)
{
    (void)arg;
    struct fib_mutex m = {0};
    fib_mutex_lock(&m);
    fib_mutex_lock(&m);
}

static void lock_own_limited(void *arg)
{
    (void)arg;
    struct fib_mutex m = {0};
    CHECK(fib_mutex_trylock(&m));
    fib_mutex_lock_for(&m, MS);
}

// --- RWMutex.

static void rw_unlock_free(void *arg)
{
    (void)arg;
    struct fib_rwmutex m = {0};
    fib_rwmutex_unlock(&m);
}

static void rw_unlock_read(void *arg)
{
    (void)arg;
    struct fib_rwmutex m = {0};
    fib_rwmutex_rlock(&m);
    fib_rwmutex_unlock(&m);
}

static void rw_runlock_free(void *arg)
{
    (void)arg;
    struct fib_rwmutex m = {0};
    fib_rwmutex_runlock(&m);
}

static void rw_runlock_written(void *arg)
{
    (void)arg;
    struct fib_rwmutex m = {0};
    fib_rwmutex_lock(&m);
    fib_rwmutex_runlock(&m);
}

static void rw_runlock_twice(void *arg)
{
    (void)arg;
    struct fib_rwmutex m = {0};
    fib_rwmutex_rlock(&m);
    fib_rwmutex_runlock(&m);
    fib_rwmutex_runlock(&m);
}

static void rw_lock_own(void *arg)
{
    (void)arg;
    struct fib_rwmutex m = {0};
    fib_rwmutex_lock(&m);
    fib_rwmutex_lock(&m);
}

static void rw_read_own(void *arg)
{
    (void)arg;
    struct fib_rwmutex m = {0};
    CHECK(fib_rwmutex_trylock(&m));
    fib_rwmutex_rlock(&m);
}

// --- WaitGroup.

static void group_below(void *arg)
{
    (void)arg;
    struct fib_waitgroup w = {0};
    fib_waitgroup_add(&w, 1);
    fib_waitgroup_done(&w);
    fib_waitgroup_done(&w);
}

static void group_add_below(void *arg)
{
    (void)arg;
    struct fib_waitgroup w = {0};
    fib_waitgroup_add(&w, 3);
    fib_waitgroup_add(&w, -4);
}

static void group_too_many(void *arg)
{
    (void)arg;
    struct fib_waitgroup w = {0};
    fib_waitgroup_add(&w, INT32_MAX);
    fib_waitgroup_add(&w, 1);
}

static void group_wait(void *w)
{
    fib_waitgroup_wait(w);
}

static void group_below_waited(void *arg)
{
    (void)arg;
    static struct fib_waitgroup w;
    fib_waitgroup_add(&w, 1);
    CHECK(!fib_go(NULL, group_wait, &w));
    fib_sleep(5 * MS);
    fib_waitgroup_add(&w, -2);
}

// --- Once and Cond.

static void once_again(void *o)
{
    fib_once(o, once_again, o);
}

static void once_in_itself(void *arg)
{
    (void)arg;
    struct fib_once o = {0};
    fib_once(&o, once_again, &o);
}

static void cond_without(void *arg)
{
    (void)arg;
    struct fib_mutex m = {0};
    struct fib_cond c = {0};
    fib_cond_wait(&c, &m);
}

static void cond_with_others(void *arg)
{
    (void)arg;
    static struct fib_mutex m;
    struct fib_cond c = {0};
    in_other(lock, &m);
    fib_cond_wait_for(&c, &m, MS);
}

// --- Semaphore.

static void sem_negative(void *arg)
{
    (void)arg;
    struct fib_semaphore s;
    fib_semaphore_init(&s, -1);
}

static void sem_acquire_negative(void *arg)
{
    (void)arg;
    struct fib_semaphore s;
    fib_semaphore_init(&s, 1);
    fib_semaphore_acquire(&s, -1);
}

static void sem_release_negative(void *arg)
{
    (void)arg;
    struct fib_semaphore s;
    fib_semaphore_init(&s, 1);
    fib_semaphore_release(&s, -1);
}

static void sem_release_more(void *arg)
{
    (void)arg;
    struct fib_semaphore s;
    fib_semaphore_init(&s, 5);
    fib_semaphore_acquire(&s, 1);
    fib_semaphore_release(&s, 2);
}

static void sem_never(void *arg)
{
    (void)arg;
    struct fib_semaphore s;
    fib_semaphore_init(&s, 2);
    fib_semaphore_acquire(&s, 3);
}

// --- Context.

static void ctx_cancel_background(void *arg)
{
    (void)arg;
    fib_ctx_cancel(fib_ctx_background(), 0);
}

static void ctx_cancel_value(void *arg)
{
    fib_ctx_cancel(fib_ctx_with_value(fib_ctx_background(), "k", arg), 0);
}

static void ctx_positive_cause(void *arg)
{
    (void)arg;
    fib_ctx_cancel(fib_ctx_with_cancel(fib_ctx_background()), EIO);
}

static void ctx_null_parent(void *arg)
{
    (void)arg;
    fib_ctx_with_cancel(NULL);
}

static void ctx_null_parent_timeout(void *arg)
{
    (void)arg;
    fib_ctx_with_timeout(NULL, MS);
}

static void ctx_null_parent_value(void *arg)
{
    fib_ctx_with_value(NULL, "k", arg);
}

static struct fib_ctx *only_held_by_child(void)
{
    struct fib_ctx *c = fib_ctx_with_cancel(fib_ctx_background());
    CHECK(fib_ctx_with_cancel(c));
    fib_ctx_unref(c);
    return c;
}

static void ctx_unref_twice(void *arg)
{
    (void)arg;
    fib_ctx_unref(only_held_by_child());
}

static void ctx_ref_late(void *arg)
{
    (void)arg;
    fib_ctx_ref(only_held_by_child());
}

// --- Flight and workers.

static struct fib_flight *flight;

static void *flight_again(void *arg)
{
    void *result;
    fib_flight_do(flight, "the key", flight_again, arg, &result, NULL);
    return NULL;
}

static void flight_in_itself(void *arg)
{
    flight = fib_flight_new();
    flight_again(arg);
}

static void *flight_free_inside(void *arg)
{
    (void)arg;
    fib_flight_free(flight);
    return NULL;
}

static void flight_free_early(void *arg)
{
    void *result;
    flight = fib_flight_new();
    fib_flight_do(flight, "k", flight_free_inside, arg, &result, NULL);
}

static void workers_without_size(void *arg)
{
    (void)arg;
    fib_workers_new(NULL, &(struct fib_workers_options){.workers = 1});
}

static const struct misuse rows[] = {
    {"unlock of a free mutex", unlock_free, "fib_mutex_unlock", "it is not locked"},
    {"unlock twice", unlock_twice, "fib_mutex_unlock", "it is not locked"},
    {"unlock of another's", unlock_others, "fib_mutex_unlock",
     "the caller does not hold it; fiber "},
    {"lock of one's own", lock_own, "fib_mutex_lock", "the caller holds it already"},
    {"limited lock of one's own", lock_own_limited, "fib_mutex_lock_for",
     "the caller holds it already"},
    {"unlock of a free rwmutex", rw_unlock_free, "fib_rwmutex_unlock", "it is not locked"},
    {"unlock of a read one", rw_unlock_read, "fib_rwmutex_unlock", "it is not locked"},
    {"runlock of a free one", rw_runlock_free, "fib_rwmutex_runlock",
     "it is not locked for reading"},
    {"runlock of a written one", rw_runlock_written, "fib_rwmutex_runlock",
     "it is not locked for reading"},
    {"runlock twice", rw_runlock_twice, "fib_rwmutex_runlock", "it is not locked for reading"},
    {"write lock of one's own", rw_lock_own, "fib_rwmutex_lock", "the caller holds it already"},
    {"read lock of one's own", rw_read_own, "fib_rwmutex_rlock", "the caller holds it for writing"},
    {"done below 0", group_below, "fib_waitgroup_done", "the counter would be negative: 0-1"},
    {"add below 0", group_add_below, "fib_waitgroup_add", "the counter would be negative: 3-4"},
    {"add below 0 under a waiter", group_below_waited, "fib_waitgroup_add",
     "the counter would be negative: 1-2"},
    {"too many", group_too_many, "fib_waitgroup_add",
     "the counter would be above 2^31: 2147483647+1"},
    {"once in itself", once_in_itself, "fib_once", "the caller holds it already"},
    {"cond wait without the mutex", cond_without, "fib_cond_wait", "it is not locked"},
    {"cond wait with another's", cond_with_others, "fib_cond_wait_for",
     "the caller does not hold it"},
    {"a negative semaphore", sem_negative, "fib_semaphore_init", "the count is negative: -1"},
    {"acquire of less than 0", sem_acquire_negative, "fib_semaphore_acquire",
     "the weight is negative: -1"},
    {"release of less than 0", sem_release_negative, "fib_semaphore_release",
     "the weight is negative: -1"},
    {"release of more than taken", sem_release_more, "fib_semaphore_release",
     "2 given back, but only 1 taken"},
    {"acquire without end of too much", sem_never, "fib_semaphore_acquire",
     "3 of 2 can never be had"},
    {"cancel of the background", ctx_cancel_background, "fib_ctx_cancel", "the background and"},
    {"cancel of a value", ctx_cancel_value, "fib_ctx_cancel", "the background and"},
    {"a positive cause", ctx_positive_cause, "fib_ctx_cancel",
     "the cause is a negative errno or 0, not 5"},
    {"no parent", ctx_null_parent, "fib_ctx_with_cancel", "the parent is NULL"},
    {"no parent of a timeout", ctx_null_parent_timeout, "fib_ctx_with_timeout",
     "the parent is NULL"},
    {"no parent of a value", ctx_null_parent_value, "fib_ctx_with_value", "the parent is NULL"},
    {"unref without a reference", ctx_unref_twice, "fib_ctx_unref", "no reference to it was left"},
    {"ref without a reference", ctx_ref_late, "fib_ctx_ref", "no reference to it was left"},
    {"a flight in itself", flight_in_itself, "fib_flight_do",
     "the call for \"the key\" would wait for itself"},
    {"free of a running flight", flight_free_early, "fib_flight_free", "1 calls are running"},
    {"workers' options without size", workers_without_size, "fib_workers_new", "options.size is 0"},
};

int main(int argc, char **argv)
{
    return misuse_run(rows, sizeof rows / sizeof *rows, argc, argv);
}
