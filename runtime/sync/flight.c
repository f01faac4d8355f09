// SPDX-License-Identifier: MIT
//
// Single-flight: a hash table of the calls that run. A call outlives its place in the table until the last of those
// who wait for it has its result. If the fiber that runs it ends in the middle (fib_exit), there is no result, and
// those who waited start over: one of them runs its own.

#include "runtime/sync/owner.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { BUCKETS_MIN = 16 };

struct call {
    struct call *next;
    uint64_t hash;
    uint64_t owner; // who runs it
    _Atomic uint32_t refs;
    uint32_t others; // who wait for it, or did
    bool is_listed;
    bool has_ended_early;
    struct fib_flight *flight;
    struct fib_waitgroup running;
    void *result;
    char key[];
};

struct fib_flight {
    struct fib_mutex mutex;
    struct call **buckets; // a power of two of them
    uint32_t bucket_count, count;
};

FIB_PUBLIC struct fib_flight *fib_flight_new(void)
{
    struct fib_flight *f = calloc(1, sizeof *f);
    if (!f)
        return NULL;
    f->bucket_count = BUCKETS_MIN;
    f->buckets = calloc(BUCKETS_MIN, sizeof *f->buckets);
    if (!f->buckets) {
        free(f);
        return NULL;
    }
    return f;
}

FIB_PUBLIC void fib_flight_free(struct fib_flight *f)
{
    if (!f)
        return;
    if (f->count)
        rt_fatal("fib_flight_free", "%u calls are running", f->count);
    free(f->buckets);
    free(f);
}

static uint64_t hash_of(const char *key)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325); // FNV-1a
    for (const unsigned char *c = (const unsigned char *)key; *c; c++)
        h = (h ^ *c) * UINT64_C(0x100000001b3);
    return h;
}

static struct call **bucket_of(struct fib_flight *f, uint64_t hash)
{
    return &f->buckets[(hash ^ hash >> 32) & (f->bucket_count - 1)];
}

static struct call *find(struct fib_flight *f, const char *key, uint64_t hash)
{
    struct call *c = *bucket_of(f, hash);
    while (c && (c->hash != hash || strcmp(c->key, key)))
        c = c->next;
    return c;
}

// Without memory for it the chains get longer, that is all.
static void grow(struct fib_flight *f)
{
    uint32_t old_count = f->bucket_count;
    struct call **old = f->buckets;
    struct call **new = calloc((size_t)old_count * 2, sizeof *new);
    if (!new)
        return;
    f->buckets = new;
    f->bucket_count = old_count * 2;
    for (uint32_t i = 0; i < old_count; i++)
        for (struct call *c = old[i], *next; c; c = next) {
            next = c->next;
            struct call **to = bucket_of(f, c->hash);
            c->next = *to;
            *to = c;
        }
    free(old);
}

static void list(struct fib_flight *f, struct call *c)
{
    if (f->count == f->bucket_count)
        grow(f);
    struct call **to = bucket_of(f, c->hash);
    c->next = *to;
    *to = c;
    c->is_listed = true;
    f->count++;
}

static void unlist(struct fib_flight *f, struct call *c)
{
    if (!c->is_listed)
        return;
    struct call **at = bucket_of(f, c->hash);
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    c->is_listed = false;
    f->count--;
}

static void call_release(struct call *c)
{
    // acq_rel: the last one sees that the others have read the result
    if (atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) == 1)
        free(c);
}

static struct call *call_new(struct fib_flight *f, const char *key, uint64_t hash)
{
    size_t size = strlen(key) + 1;
    struct call *c = calloc(1, sizeof *c + size);
    if (!c)
        return NULL;
    memcpy(c->key, key, size);
    c->hash = hash;
    c->owner = owner_self();
    c->flight = f;
    atomic_init(&c->refs, 1);
    fib_waitgroup_add(&c->running, 1);
    return c;
}

// True: others wait for it.
static bool call_end(struct call *c)
{
    struct fib_flight *f = c->flight;
    fib_mutex_lock(&f->mutex);
    unlist(f, c);
    bool is_shared = c->others;
    fib_mutex_unlock(&f->mutex);
    fib_waitgroup_done(&c->running);
    call_release(c);
    return is_shared;
}

static void call_exit(void *arg)
{
    struct call *c = arg;
    c->has_ended_early = true;
    call_end(c);
}

static bool call_run(struct call *c, void *(*fn)(void *arg), void *arg, void **result)
{
    struct exit_hook hook;
    exit_hook_push(&hook, call_exit, c);
    c->result = fn(arg);
    exit_hook_pop(&hook);
    *result = c->result;
    return call_end(c);
}

FIB_PUBLIC int fib_flight_do(struct fib_flight *f, const char *key, void *(*fn)(void *arg),
                             void *arg, void **result, bool *is_shared)
{
    uint64_t hash = hash_of(key);
    bool shared = false;
    for (bool has_result = false; !has_result;) {
        fib_mutex_lock(&f->mutex);
        struct call *c = find(f, key, hash);
        if (!c) {
            c = call_new(f, key, hash);
            if (c)
                list(f, c);
            fib_mutex_unlock(&f->mutex);
            if (!c)
                return -ENOMEM;
            shared = call_run(c, fn, arg, result);
            break;
        }
        if (c->owner == owner_self())
            rt_fatal("fib_flight_do", "the call for \"%s\" would wait for itself", key);
        c->others++;
        atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed); // the table's keeps it
        fib_mutex_unlock(&f->mutex);
        fib_waitgroup_wait(&c->running);
        has_result = shared = !c->has_ended_early;
        if (has_result)
            *result = c->result;
        call_release(c);
    }
    if (is_shared)
        *is_shared = shared;
    return 0;
}

FIB_PUBLIC void fib_flight_forget(struct fib_flight *f, const char *key)
{
    fib_mutex_lock(&f->mutex);
    struct call *c = find(f, key, hash_of(key));
    if (c)
        unlist(f, c);
    fib_mutex_unlock(&f->mutex);
}
