// SPDX-License-Identifier: MIT
//
// Mutexes behave as those of Go's sync do, by the behaviours that its own tests check, and as sync.h says
// beyond. What aborts: sync_misuse.c.

#include "tests/runtime/actor.h"

#include <errno.h>

enum { ACTORS = 8, LONG = 10000 };

// --- Mutex.

struct hammer {
    struct fib_mutex m;
    int rounds;
    int value;            // guarded by m
    _Atomic int inside;   // who are in
    _Atomic int failures; // of trylock and lock_for
};

static void mutex_hammer(void *arg)
{
    struct hammer *h = arg;
    for (int i = 0; i < h->rounds; i++) {
        if (i % 3 == 0 && !fib_mutex_trylock(&h->m)) {
            h->failures++;
            continue;
        }
        if (i % 3 == 1 && fib_mutex_lock_for(&h->m, i % 5 * 1000)) {
            h->failures++;
            continue;
        }
        if (i % 3 == 2)
            fib_mutex_lock(&h->m);
        CHECK(h->inside++ == 0);
        h->value++;
        if (i % 16 == 0)
            fib_yield();
        CHECK(h->inside-- == 1);
        fib_mutex_unlock(&h->m);
    }
}

static void mutex_excludes(int n)
{
    (void)n;
    struct hammer h = {.rounds = actor_rounds(2000)};
    struct actor a[ACTORS];
    for (int i = 0; i < ACTORS; i++)
        actor_start(&a[i], mutex_hammer, &h);
    for (int i = 0; i < ACTORS; i++)
        actor_end(&a[i]);
    CHECK(h.value + h.failures == ACTORS * h.rounds);
    CHECK(h.m.owner == 0);
}

static void mutex_try(int n)
{
    (void)n;
    struct fib_mutex m = {0};
    fib_mutex_lock(&m);
    CHECK(!fib_mutex_trylock(&m));
    CHECK(fib_mutex_lock_for(&(struct fib_mutex){0}, 0) == 0);
    fib_mutex_unlock(&m);
    CHECK(fib_mutex_trylock(&m));
    CHECK(!fib_mutex_trylock(&m));
    fib_mutex_unlock(&m);
}

struct one {
    struct fib_mutex m;
    int64_t timeout_ns;
    int rc;
    _Atomic int stage;
    _Atomic bool is_over;
};

static void lock_limited(void *arg)
{
    struct one *o = arg;
    int64_t begin = fib_now_ns();
    o->rc = fib_mutex_lock_for(&o->m, o->timeout_ns);
    CHECK(!o->rc || fib_now_ns() - begin >= o->timeout_ns);
    if (!o->rc)
        fib_mutex_unlock(&o->m);
}

static void mutex_limit(int n)
{
    (void)n;
    struct one o = {.timeout_ns = 3 * MS};
    struct actor a;
    fib_mutex_lock(&o.m);
    actor_start(&a, lock_limited, &o);
    actor_end(&a);
    CHECK(o.rc == -ETIMEDOUT);
    o.timeout_ns = 0;
    actor_start(&a, lock_limited, &o);
    actor_end(&a);
    CHECK(o.rc == -ETIMEDOUT);
    fib_mutex_unlock(&o.m);
    CHECK(o.m.owner == 0); // nothing is left of those that gave up
    fib_mutex_lock(&o.m);
    o.timeout_ns = (int64_t)LONG * MS;
    actor_start(&a, lock_limited, &o);
    actor_until_waiting(&a, "sync.Mutex.Lock");
    fib_mutex_unlock(&o.m);
    actor_end(&a);
    CHECK(o.rc == 0 && o.m.owner == 0);
}

static void hold_mostly(void *arg)
{
    struct one *o = arg;
    for (;;) {
        fib_mutex_lock(&o->m);
        fib_sleep(MS / 10);
        bool is_over = o->is_over;
        fib_mutex_unlock(&o->m);
        if (is_over)
            return;
    }
}

// Two that are nearly always in cannot keep a third out.
static void mutex_fair(int n)
{
    (void)n;
    struct one o = {0};
    struct actor a[2];
    actor_start(&a[0], hold_mostly, &o);
    actor_start(&a[1], hold_mostly, &o);
    for (int i = 0; i < 10; i++) {
        fib_sleep(MS / 10);
        int64_t begin = fib_now_ns();
        fib_mutex_lock(&o.m);
        CHECK(fib_now_ns() - begin < 5000LL * MS, "%lld ns", (long long)(fib_now_ns() - begin));
        fib_mutex_unlock(&o.m);
    }
    o.is_over = true;
    actor_end(&a[0]);
    actor_end(&a[1]);
}

struct ordered {
    struct fib_mutex *m;
    int *order;
    int *count;
    int index;
};

static void lock_ordered(void *arg)
{
    struct ordered *o = arg;
    fib_mutex_lock(o->m);
    o->order[(*o->count)++] = o->index;
    fib_sleep(2 * MS); // longer than the others may wait before it starves them
    fib_mutex_unlock(o->m);
}

// Once the first waits too long, it goes from hand to hand, in the order of coming.
static void mutex_starving_order(int n)
{
    (void)n;
    struct fib_mutex m = {0};
    int order[ACTORS], count = 0;
    struct ordered o[ACTORS];
    struct actor a[ACTORS];
    fib_mutex_lock(&m);
    for (int i = 0; i < ACTORS; i++) {
        o[i] = (struct ordered){&m, order, &count, i};
        actor_start(&a[i], lock_ordered, &o[i]);
        actor_until_waiting(&a[i], "sync.Mutex.Lock");
    }
    fib_mutex_unlock(&m);
    for (int i = 0; i < ACTORS; i++)
        actor_end(&a[i]);
    for (int i = 0; i < ACTORS; i++)
        CHECK(order[i] == i, "place %d went to %d", i, order[i]);
    CHECK(m.owner == 0);
}

static void lock_one(void *arg)
{
    fib_mutex_lock(arg);
    fib_mutex_unlock(arg);
}

static void mutex_owner_is_seen(int n)
{
    (void)n;
    struct fib_mutex m = {0};
    struct actor a;
    fib_mutex_lock(&m);
    uint64_t owner = m.owner; // nobody waits: no flags
    CHECK(fib_self().id ? owner == fib_self().id : owner >> 63);
    actor_start(&a, lock_one, &m);
    actor_until_waiting(&a, "sync.Mutex.Lock");
    if (!a.is_thread) {
        struct fib_info info = {.size = sizeof info};
        CHECK(!fib_info_read(a.f, &info));
        CHECK(info.object == &m && info.owner == owner, "owner %llx of %p",
              (unsigned long long)info.owner, info.object);
    }
    fib_mutex_unlock(&m);
    actor_end(&a);
    CHECK(!m.owner);
}

// --- RWMutex.

struct rw {
    struct fib_rwmutex m;
    _Atomic int readers, writers, waiting, turn;
    _Atomic bool may_go, is_over;
    int rounds;
};

static void read_together(void *arg)
{
    struct rw *r = arg;
    fib_rwmutex_rlock(&r->m);
    r->readers++;
    until(&r->readers, ACTORS); // all of them are in at the same time
    fib_rwmutex_runlock(&r->m);
}

static void rw_readers_share(int n)
{
    (void)n;
    struct rw r = {0};
    struct actor a[ACTORS];
    for (int i = 0; i < ACTORS; i++)
        actor_start(&a[i], read_together, &r);
    for (int i = 0; i < ACTORS; i++)
        actor_end(&a[i]);
    CHECK(fib_rwmutex_trylock(&r.m));
    fib_rwmutex_unlock(&r.m);
}

static void rw_read_often(void *arg)
{
    struct rw *r = arg;
    for (int i = 0; i < r->rounds; i++) {
        if (i % 8 == 0 ? !fib_rwmutex_tryrlock(&r->m) : (fib_rwmutex_rlock(&r->m), 0))
            continue;
        int in = ++r->readers;
        CHECK(in >= 1 && in <= 1000 && r->writers == 0);
        if (i % 16 == 0)
            fib_yield();
        r->readers--;
        fib_rwmutex_runlock(&r->m);
    }
}

static void rw_write_often(void *arg)
{
    struct rw *r = arg;
    for (int i = 0; i < r->rounds; i++) {
        if (i % 8 == 0 ? !fib_rwmutex_trylock(&r->m) : (fib_rwmutex_lock(&r->m), 0))
            continue;
        CHECK(++r->writers == 1 && r->readers == 0);
        if (i % 16 == 0)
            fib_yield();
        CHECK(--r->writers == 0);
        fib_rwmutex_unlock(&r->m);
    }
}

static void rw_excludes(int n)
{
    (void)n;
    struct rw r = {.rounds = actor_rounds(1500)};
    struct actor a[ACTORS];
    for (int i = 0; i < ACTORS; i++)
        actor_start(&a[i], i % 4 == 0 ? rw_write_often : rw_read_often, &r);
    for (int i = 0; i < ACTORS; i++)
        actor_end(&a[i]);
    CHECK(fib_rwmutex_trylock(&r.m));
    fib_rwmutex_unlock(&r.m);
}

static void rw_try(int n)
{
    (void)n;
    struct fib_rwmutex m = {0};
    CHECK(fib_rwmutex_trylock(&m));
    CHECK(!fib_rwmutex_trylock(&m));
    CHECK(!fib_rwmutex_tryrlock(&m));
    fib_rwmutex_unlock(&m);
    CHECK(fib_rwmutex_tryrlock(&m));
    CHECK(fib_rwmutex_tryrlock(&m));
    CHECK(!fib_rwmutex_trylock(&m));
    fib_rwmutex_runlock(&m);
    CHECK(!fib_rwmutex_trylock(&m));
    fib_rwmutex_runlock(&m);
    CHECK(fib_rwmutex_trylock(&m));
    fib_rwmutex_unlock(&m);
}

static void rw_read_overlapping(void *arg)
{
    struct rw *r = arg;
    while (!r->is_over) {
        fib_rwmutex_rlock(&r->m);
        r->readers++;
        fib_sleep(MS / 10);
        fib_rwmutex_runlock(&r->m);
    }
}

static void rw_writer_is_not_starved(int n)
{
    (void)n;
    struct rw r = {0};
    struct actor a[ACTORS];
    for (int i = 0; i < ACTORS; i++)
        actor_start(&a[i], rw_read_overlapping, &r);
    until(&r.readers, ACTORS);
    for (int i = 0; i < 10; i++) {
        int64_t begin = fib_now_ns();
        fib_rwmutex_lock(&r.m);
        CHECK(fib_now_ns() - begin < 5000LL * MS);
        fib_rwmutex_unlock(&r.m);
        fib_yield();
    }
    r.is_over = true;
    for (int i = 0; i < ACTORS; i++)
        actor_end(&a[i]);
}

static void rw_write_turn(void *arg)
{
    struct rw *r = arg;
    fib_rwmutex_lock(&r->m);
    r->writers = ++r->turn; // the turn that the last writer had
    fib_rwmutex_unlock(&r->m);
}

static void rw_read_turn(void *arg)
{
    struct rw *r = arg;
    fib_rwmutex_rlock(&r->m);
    r->turn++;
    r->readers++;
    fib_rwmutex_runlock(&r->m);
}

// A waiting writer stops new readers; those who came while it wrote go before the next writer.
static void rw_turns(int n)
{
    (void)n;
    struct rw r = {0};
    struct actor w1, w2, a[3];
    fib_rwmutex_rlock(&r.m);
    actor_start(&w1, rw_write_turn, &r);
    actor_until_waiting(&w1, "sync.RWMutex.Lock");
    CHECK(!fib_rwmutex_tryrlock(&r.m));
    for (int i = 0; i < 3; i++) {
        actor_start(&a[i], rw_read_turn, &r);
        actor_until_waiting(&a[i], "sync.RWMutex.RLock");
    }
    actor_start(&w2, rw_write_turn, &r);
    actor_until_waiting(&w2, "sync.RWMutex.Lock");
    CHECK(r.turn == 0);
    fib_rwmutex_runlock(&r.m);
    actor_end(&w1);
    actor_end(&w2);
    for (int i = 0; i < 3; i++)
        actor_end(&a[i]);
    CHECK(r.writers == 5 && r.readers == 3, "the last writer had turn %d", r.writers);
}

static const struct row rows[] = {
    {"a mutex excludes", "sync TestMutex", mutex_excludes, NULL},
    {"trylock does not wait", "sync TestMutex", mutex_try, NULL},
    {"a limited lock gives up", "sync.h", mutex_limit, NULL},
    {"nobody is kept out of a mutex", "sync TestMutexFairness", mutex_fair, NULL},
    {"a starving mutex goes in order", "sync, Mutex fairness", mutex_starving_order, NULL},
    {"a waiter's owner is seen", "sync.h", mutex_owner_is_seen, NULL},
    {"readers share", "sync TestParallelReaders", rw_readers_share, NULL},
    {"writers exclude", "sync TestRWMutex", rw_excludes, NULL},
    {"tryrlock and trylock do not wait", "sync TestRWMutex", rw_try, NULL},
    {"readers do not starve a writer", "sync, RWMutex.Lock", rw_writer_is_not_starved, NULL},
    {"writers and readers take turns", "sync, RWMutex.RLock", rw_turns, NULL},
};

int main(int argc, char **argv)
{
    return sync_rows_run(rows, sizeof rows / sizeof rows[0], argc, argv);
}
