// SPDX-License-Identifier: MIT
//
// Locks behave as those of Go's sync and x/sync/semaphore do, by the behaviours that their own tests check, and as
// sync.h says beyond. Contexts and what stands on them: structure_rows.c; what aborts: sync_misuse.c.

#include "tests/runtime/actor.h"

#include <errno.h>
#include <string.h>

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
    CHECK(h.m.state == 0 && h.m.owner == 0);
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
    CHECK(o.m.state == 0); // nothing is left of those that gave up
    fib_mutex_lock(&o.m);
    o.timeout_ns = (int64_t)LONG * MS;
    actor_start(&a, lock_limited, &o);
    actor_until_waiting(&a, "sync.Mutex.Lock");
    fib_mutex_unlock(&o.m);
    actor_end(&a);
    CHECK(o.rc == 0 && o.m.state == 0);
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
    CHECK(m.state == 0);
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
    CHECK(m.owner == (fib_self().id ? fib_self().id : m.owner) && m.owner);
    actor_start(&a, lock_one, &m);
    actor_until_waiting(&a, "sync.Mutex.Lock");
    if (!a.is_thread) {
        struct fib_info info = {.size = sizeof info};
        CHECK(!fib_info_read(a.f, &info));
        CHECK(info.object == &m && info.owner == m.owner, "owner %llx of %p",
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

// --- WaitGroup.

struct group {
    struct fib_waitgroup w;
    _Atomic int done, returned;
    _Atomic bool may_go;
    int64_t timeout_ns;
    int rc;
};

static void group_wait(void *arg)
{
    struct group *g = arg;
    fib_waitgroup_wait(&g->w);
    CHECK(g->done == 16);
    g->returned++;
}

static void group_work(void *arg)
{
    struct group *g = arg;
    while (!g->may_go)
        fib_sleep(MS / 10);
    g->done++;
    fib_waitgroup_done(&g->w);
}

static void group_waits_for_all(int n)
{
    (void)n;
    struct group g = {0};
    struct actor work[16], wait[4];
    fib_waitgroup_wait(&g.w); // nothing to wait for
    for (int round = 0; round < 8; round++) {
        g.done = g.returned = 0;
        g.may_go = false;
        fib_waitgroup_add(&g.w, 16);
        for (int i = 0; i < 16; i++)
            actor_start(&work[i], group_work, &g);
        for (int i = 0; i < 4; i++)
            actor_start(&wait[i], group_wait, &g);
        if (round == 0)
            for (int i = 0; i < 4; i++)
                actor_until_waiting(&wait[i], "sync.WaitGroup.Wait");
        CHECK(g.returned == 0);
        g.may_go = true;
        for (int i = 0; i < 4; i++)
            actor_end(&wait[i]);
        CHECK(g.w.state == 0); // it may be used again at once
        for (int i = 0; i < 16; i++)
            actor_end(&work[i]);
    }
}

static void group_add_one(void *arg)
{
    struct group *g = arg;
    g->done++;
    fib_waitgroup_done(&g->w);
}

// What the others did before done is seen after wait.
static void group_race(int n)
{
    (void)n;
    for (int i = 0; i < actor_rounds(300); i++) {
        struct group g = {0};
        struct actor a, b;
        fib_waitgroup_add(&g.w, 1);
        actor_start(&a, group_add_one, &g);
        fib_waitgroup_add(&g.w, 1);
        actor_start(&b, group_add_one, &g);
        fib_waitgroup_wait(&g.w);
        CHECK(g.done == 2);
        actor_end(&a);
        actor_end(&b);
    }
}

static void group_go_one(void *arg)
{
    struct group *g = arg;
    if (++g->done % 2)
        fib_exit(); // counts as done, too
}

static void group_go(int n)
{
    (void)n;
    struct group g = {0};
    for (int i = 0; i < 100; i++)
        CHECK(!fib_waitgroup_go(&g.w, group_go_one, &g));
    fib_waitgroup_wait(&g.w);
    CHECK(g.done == 100);
}

static void group_wait_limited(void *arg)
{
    struct group *g = arg;
    g->rc = fib_waitgroup_wait_for(&g->w, g->timeout_ns);
}

static void group_limit(int n)
{
    (void)n;
    struct group g = {.timeout_ns = 2 * MS};
    struct actor a;
    CHECK(fib_waitgroup_wait_for(&g.w, 0) == 0);
    fib_waitgroup_add(&g.w, 1);
    CHECK(fib_waitgroup_wait_for(&g.w, 0) == -ETIMEDOUT);
    actor_start(&a, group_wait_limited, &g);
    actor_end(&a);
    CHECK(g.rc == -ETIMEDOUT && g.w.state == (uint64_t)1 << 32);
    g.timeout_ns = (int64_t)LONG * MS;
    actor_start(&a, group_wait_limited, &g);
    actor_until_waiting(&a, "sync.WaitGroup.Wait");
    fib_waitgroup_done(&g.w);
    actor_end(&a);
    CHECK(g.rc == 0 && g.w.state == 0);
}

// --- Once.

struct once {
    struct fib_once o;
    _Atomic int calls, returned;
    bool does_exit;
};

static void once_fn(void *arg)
{
    struct once *o = arg;
    o->calls++;
    fib_sleep(MS);
    CHECK(o->returned == 0); // nobody returns before its end
    if (o->does_exit)
        fib_exit();
}

static void once_call(void *arg)
{
    struct once *o = arg;
    fib_once(&o->o, once_fn, o);
    o->returned++;
}

static void once_runs_once(int n)
{
    (void)n;
    struct once o = {0};
    struct actor a[ACTORS];
    for (int i = 0; i < ACTORS; i++)
        actor_start(&a[i], once_call, &o);
    for (int i = 0; i < ACTORS; i++)
        actor_end(&a[i]);
    CHECK(o.calls == 1 && o.returned == ACTORS);
    once_call(&o);
    CHECK(o.calls == 1);
}

static void once_exit_counts(int n)
{
    (void)n;
    struct once o = {.does_exit = true};
    struct fib f = go(once_call, &o);
    fib_join(f);
    CHECK(o.calls == 1 && o.returned == 0);
    once_call(&o);
    CHECK(o.calls == 1 && o.returned == 1);
}

// --- Cond.

struct cond {
    struct fib_mutex m;
    struct fib_cond c;
    _Atomic int waiting, awake, next;
    int rc;
    int64_t timeout_ns;
    bool is_set;
};

struct cond_waiter {
    struct cond *c;
    int index, place;
};

static void cond_wait(void *arg)
{
    struct cond_waiter *w = arg;
    fib_mutex_lock(&w->c->m);
    w->index = w->c->waiting++;
    fib_cond_wait(&w->c->c, &w->c->m);
    CHECK(!fib_mutex_trylock(&w->c->m)); // it holds the mutex
    w->place = w->c->awake++;
    fib_mutex_unlock(&w->c->m);
}

static void cond_start(struct cond *c, struct cond_waiter *w, struct actor *a, int n)
{
    for (int i = 0; i < n; i++) {
        w[i] = (struct cond_waiter){.c = c};
        actor_start(&a[i], cond_wait, &w[i]);
        actor_until_waiting(&a[i], "sync.Cond.Wait");
    }
}

static void cond_signal_wakes_in_order(int n)
{
    (void)n;
    struct cond c = {0};
    struct cond_waiter w[ACTORS];
    struct actor a[ACTORS];
    cond_start(&c, w, a, ACTORS);
    for (int i = 0; i < ACTORS; i++) {
        let_run();
        CHECK(c.awake == i); // one for each signal
        fib_mutex_lock(&c.m);
        fib_cond_signal(&c.c);
        fib_mutex_unlock(&c.m);
        until(&c.awake, i + 1);
        actor_end(&a[i]);
        CHECK(w[i].place == w[i].index);
    }
    fib_cond_signal(&c.c); // nobody waits
}

static void cond_broadcast_wakes_all(int n)
{
    (void)n;
    struct cond c = {0};
    struct cond_waiter w[ACTORS];
    struct actor a[ACTORS];
    for (int round = 1; round <= 4; round++) {
        cond_start(&c, w, a, ACTORS);
        fib_cond_broadcast(&c.c);
        for (int i = 0; i < ACTORS; i++)
            actor_end(&a[i]);
        CHECK(c.awake == round * ACTORS);
    }
    fib_cond_broadcast(&c.c);
}

// A signal is for one that waited then, not for one that comes after it.
static void cond_signal_is_not_stolen(int n)
{
    (void)n;
    for (int i = 0; i < actor_rounds(50); i++) {
        struct cond c = {0};
        struct cond_waiter w[2];
        struct actor a[2];
        cond_start(&c, w, a, 1);
        fib_mutex_lock(&c.m);
        fib_cond_signal(&c.c);
        fib_mutex_unlock(&c.m);
        cond_start(&c, w + 1, a + 1, 1);
        actor_end(&a[0]);
        CHECK(!a[1].is_done);
        fib_cond_broadcast(&c.c);
        actor_end(&a[1]);
    }
}

static void cond_wait_limited(void *arg)
{
    struct cond *c = arg;
    fib_mutex_lock(&c->m);
    c->waiting++;
    int64_t begin = fib_now_ns();
    c->rc = fib_cond_wait_for(&c->c, &c->m, c->timeout_ns);
    CHECK(!c->rc || fib_now_ns() - begin >= c->timeout_ns);
    CHECK(!fib_mutex_trylock(&c->m));
    fib_mutex_unlock(&c->m);
}

static void cond_limit(int n)
{
    (void)n;
    struct cond c = {.timeout_ns = 2 * MS};
    struct actor a, b;
    actor_start(&a, cond_wait_limited, &c);
    actor_end(&a);
    CHECK(c.rc == -ETIMEDOUT);
    c.timeout_ns = 0;
    actor_start(&a, cond_wait_limited, &c);
    actor_end(&a);
    CHECK(c.rc == -ETIMEDOUT);
    // One whose time is over takes no signal from the next.
    struct cond_waiter w = {.c = &c};
    c.timeout_ns = 100 * MS;
    actor_start(&a, cond_wait_limited, &c);
    actor_until_waiting(&a, "sync.Cond.Wait");
    actor_start(&b, cond_wait, &w);
    actor_until_waiting(&b, "sync.Cond.Wait");
    actor_end(&a);
    fib_cond_signal(&c.c);
    actor_end(&b);
    c.timeout_ns = (int64_t)LONG * MS;
    actor_start(&a, cond_wait_limited, &c);
    actor_until_waiting(&a, "sync.Cond.Wait");
    fib_cond_signal(&c.c);
    actor_end(&a);
    CHECK(c.rc == 0);
}

struct relay {
    struct fib_mutex m;
    struct fib_cond c;
    int x;
};

static void relay_two(void *arg)
{
    struct relay *r = arg;
    fib_mutex_lock(&r->m);
    while (r->x != 1)
        fib_cond_wait(&r->c, &r->m);
    r->x = 2;
    fib_cond_broadcast(&r->c);
    fib_mutex_unlock(&r->m);
}

static void relay_one(void *arg)
{
    struct relay *r = arg;
    fib_mutex_lock(&r->m);
    r->x = 1;
    fib_cond_broadcast(&r->c);
    while (r->x != 2)
        fib_cond_wait(&r->c, &r->m);
    r->x = 3;
    fib_cond_broadcast(&r->c);
    fib_mutex_unlock(&r->m);
}

static void relay_three(void *arg)
{
    struct relay *r = arg;
    fib_mutex_lock(&r->m);
    while (r->x != 3)
        fib_cond_wait(&r->c, &r->m);
    fib_mutex_unlock(&r->m);
}

static void cond_race(int n)
{
    (void)n;
    for (int i = 0; i < actor_rounds(200); i++) {
        struct relay r = {0};
        struct actor a[3];
        fib_fn *fns[3] = {relay_one, relay_two, relay_three};
        for (int k = 0; k < 3; k++)
            actor_start(&a[k], fns[(k + i) % 3], &r);
        for (int k = 0; k < 3; k++)
            actor_end(&a[k]);
        CHECK(r.x == 3);
    }
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
    {"wait waits for all, and again", "sync TestWaitGroup", group_waits_for_all, NULL},
    {"done comes before wait's end", "sync TestWaitGroupRace", group_race, NULL},
    {"a group's fibers are counted", "sync TestWaitGroupGo", group_go, NULL},
    {"a limited wait gives up", "sync.h", group_limit, NULL},
    {"once runs once", "sync TestOnce", once_runs_once, NULL},
    {"a once that exits has run", "sync TestOncePanic", once_exit_counts, NULL},
    {"signals wake in order", "sync TestCondSignalGenerations", cond_signal_wakes_in_order, NULL},
    {"broadcast wakes all", "sync TestCondBroadcast", cond_broadcast_wakes_all, NULL},
    {"a signal is not stolen", "sync TestCondSignalStealing", cond_signal_is_not_stolen, NULL},
    {"a limited cond wait gives up", "sync.h", cond_limit, NULL},
    {"three hand on", "sync TestRace", cond_race, NULL},
};

int main(int argc, char **argv)
{
    return sync_rows_run(rows, sizeof rows / sizeof rows[0], argc, argv);
}
