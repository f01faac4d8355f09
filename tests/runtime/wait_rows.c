// SPDX-License-Identifier: MIT
//
// WaitGroup, Once, Cond and Semaphore behave as those of Go's sync and x/sync do, by the behaviours that their own tests
// check, and as sync.h says beyond. What aborts: sync_misuse.c.

#include "tests/runtime/actor.h"

#include <errno.h>

enum { ACTORS = 8, LONG = 10000 };

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

// --- Semaphore.

struct sem {
    struct fib_semaphore s;
    int rounds;
    int64_t weight, timeout_ns;
    _Atomic int64_t in;
    _Atomic int got;
    int rc;
};

static void sem_hammer(void *arg)
{
    struct sem *s = arg;
    for (int i = 0; i < s->rounds; i++) {
        int64_t n = 1 + i % 4;
        if (i % 3 == 0 && !fib_semaphore_try(&s->s, n))
            continue;
        if (i % 3 == 1 && fib_semaphore_acquire_for(&s->s, n, i % 4 * 1000))
            continue;
        if (i % 3 == 2)
            fib_semaphore_acquire(&s->s, n);
        CHECK(atomic_fetch_add(&s->in, n) + n <= 8);
        if (i % 16 == 0)
            fib_yield();
        s->in -= n;
        fib_semaphore_release(&s->s, n);
    }
}

static void sem_bounds(int n)
{
    (void)n;
    struct sem s = {.rounds = actor_rounds(1500)};
    struct actor a[ACTORS];
    fib_semaphore_init(&s.s, 8);
    for (int i = 0; i < ACTORS; i++)
        actor_start(&a[i], sem_hammer, &s);
    for (int i = 0; i < ACTORS; i++)
        actor_end(&a[i]);
    CHECK(fib_semaphore_try(&s.s, 8)); // all has come back
    CHECK(!fib_semaphore_try(&s.s, 1));
}

static void sem_try(int n)
{
    (void)n;
    struct fib_semaphore s;
    fib_semaphore_init(&s, 2);
    CHECK(fib_semaphore_try(&s, 1));
    CHECK(fib_semaphore_try(&s, 1));
    CHECK(!fib_semaphore_try(&s, 1));
    CHECK(fib_semaphore_try(&s, 0));
    fib_semaphore_release(&s, 2);
    CHECK(fib_semaphore_try(&s, 2));
    CHECK(!fib_semaphore_try(&s, 3));
}

static void sem_take(void *arg)
{
    struct sem *s = arg;
    s->rc = fib_semaphore_acquire_for(&s->s, s->weight, s->timeout_ns);
    s->got += !s->rc;
}

// Who wants more than there will ever be waits out its time, and nobody else waits for it.
static void sem_too_much(int n)
{
    (void)n;
    struct sem s = {.weight = 3, .timeout_ns = 20 * MS};
    struct actor a;
    fib_semaphore_init(&s.s, 2);
    actor_start(&a, sem_take, &s);
    let_run();
    fib_semaphore_acquire(&s.s, 1);
    fib_semaphore_release(&s.s, 1);
    actor_end(&a);
    CHECK(s.rc == -ETIMEDOUT);
    CHECK(fib_semaphore_try(&s.s, 2));
}

static void sem_take_one(void *arg)
{
    struct sem *s = arg;
    fib_semaphore_acquire(&s->s, 1);
    s->got++;
}

// First come, first served: small ones do not overtake a large one.
static void sem_large_first(int n)
{
    (void)n;
    struct sem s = {.weight = 5, .timeout_ns = -1};
    struct actor a, b;
    fib_semaphore_init(&s.s, 5);
    fib_semaphore_acquire(&s.s, 3);
    actor_start(&a, sem_take, &s);
    actor_until_waiting(&a, "semacquire");
    actor_start(&b, sem_take_one, &s);
    actor_until_waiting(&b, "semacquire");
    CHECK(!fib_semaphore_try(&s.s, 1)); // 2 are free, but others wait
    fib_semaphore_release(&s.s, 3);
    actor_end(&a);
    let_run();
    CHECK(s.got == 1 && !b.is_done);
    fib_semaphore_release(&s.s, 5);
    actor_end(&b);
    CHECK(s.got == 2);
    fib_semaphore_release(&s.s, 1);
    CHECK(fib_semaphore_try(&s.s, 5));
}

// One that gives up at the front lets those behind it go on.
static void sem_cancel_lets_on(int n)
{
    (void)n;
    struct sem s = {.weight = 2, .timeout_ns = 100 * MS};
    struct actor a, b;
    fib_semaphore_init(&s.s, 2);
    fib_semaphore_acquire(&s.s, 1);
    actor_start(&a, sem_take, &s);
    actor_until_waiting(&a, "semacquire");
    actor_start(&b, sem_take_one, &s);
    actor_until_waiting(&b, "semacquire");
    actor_end(&a);
    CHECK(s.rc == -ETIMEDOUT);
    actor_end(&b);
    CHECK(s.got == 1);
}

static const struct row rows[] = {
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
    {"a semaphore bounds", "x/sync TestWeighted", sem_bounds, NULL},
    {"try does not wait", "x/sync TestWeightedTryAcquire", sem_try, NULL},
    {"too much blocks nobody", "x/sync TestWeightedDoesntBlockIfTooBig", sem_too_much, NULL},
    {"a large one is served", "x/sync TestLargeAcquireDoesntStarve", sem_large_first, NULL},
    {"giving up lets others on", "x/sync TestAllocCancelDoesntStarve", sem_cancel_lets_on, NULL},
};

int main(int argc, char **argv)
{
    return sync_rows_run(rows, sizeof rows / sizeof rows[0], argc, argv);
}
