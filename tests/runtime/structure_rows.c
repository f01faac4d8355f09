// SPDX-License-Identifier: MIT
//
// Pools, task groups, single-flight, worker pools and fiber-local values behave as Go's sync.Pool,
// errgroup and singleflight do, and as sync.h and fiber.h say beyond.

#include "tests/runtime/actor.h"

#include <errno.h>
#include <string.h>

enum { ACTORS = 8, LONG = 10000 };

// --- Pool.

struct things {
    _Atomic int made, destroyed, alive;
    int rounds;
    struct fib_pool *p;
};

static void *thing_make(void *arg)
{
    struct things *t = arg;
    t->alive++;
    t->made++;
    _Atomic int *thing = malloc(sizeof *thing);
    CHECK(thing);
    *thing = 0;
    return (void *)(uintptr_t)thing;
}

static void thing_destroy(void *arg, void *item)
{
    struct things *t = arg;
    _Atomic int *users = item;
    CHECK(*users == 0);
    *users = -1;
    t->alive--;
    t->destroyed++;
    free(item);
}

static void pool_reuses_and_ages(int n)
{
    (void)n;
    struct things t = {0};
    struct fib_pool *p = fib_pool_new(thing_make, thing_destroy, &t);
    void *items[100];
    for (int i = 0; i < 100; i++)
        items[i] = fib_pool_get(p);
    CHECK(t.made == 100);
    for (int i = 0; i < 100; i++)
        fib_pool_put(p, items[i]);
    fib_pool_put(p, NULL); // ignored
    fib_pool_age(p);       // victims are still given out
    for (int i = 0; i < 100; i++)
        items[i] = fib_pool_get(p);
    CHECK(t.made == 100 && t.destroyed == 0);
    for (int i = 0; i < 100; i++)
        fib_pool_put(p, items[i]);
    fib_pool_age(p);
    fib_pool_age(p);
    CHECK(t.destroyed == 100);
    fib_pool_put(p, fib_pool_get(p));
    CHECK(t.made == 101);
    fib_pool_free(p);
    CHECK(t.alive == 0);
    p = fib_pool_new(NULL, NULL, NULL);
    CHECK(!fib_pool_get(p));
    fib_pool_put(p, &t);
    CHECK(fib_pool_get(p) == &t);
    fib_pool_free(p);
}

static void pool_use(void *arg)
{
    struct things *t = arg;
    for (int i = 0; i < t->rounds; i++) {
        _Atomic int *users[8];
        int count = 1 + i % 8;
        for (int k = 0; k < count; k++) {
            users[k] = fib_pool_get(t->p);
            CHECK((*users[k])++ == 0); // given to one at a time
        }
        if (i % 8 == 0)
            fib_yield();
        if (i % 100 == 0)
            fib_pool_age(t->p);
        for (int k = 0; k < count; k++) {
            CHECK((*users[k])-- == 1);
            fib_pool_put(t->p, (void *)(uintptr_t)users[k]);
        }
    }
}

static void pool_gives_to_one(int n)
{
    (void)n;
    struct things t = {.rounds = actor_rounds(2000)};
    struct actor a[ACTORS];
    t.p = fib_pool_new(thing_make, thing_destroy, &t);
    for (int i = 0; i < ACTORS; i++)
        actor_start(&a[i], pool_use, &t);
    for (int i = 0; i < ACTORS; i++)
        actor_end(&a[i]);
    fib_pool_free(t.p);
    CHECK(t.alive == 0 && t.made == t.destroyed);
}

// --- Task group.

struct tasks {
    _Atomic int running, most, done;
    int limit;
    _Atomic bool may_go;
    struct fib_group *g;
};

static int task_ok(void *arg, struct fib_ctx *ctx)
{
    struct tasks *t = arg;
    CHECK(ctx == fib_group_ctx(t->g));
    int now = ++t->running;
    CHECK(!t->limit || now <= t->limit);
    while (!t->may_go)
        fib_sleep(MS / 10);
    t->running--;
    t->done++;
    return 0;
}

static int task_fails(void *arg, struct fib_ctx *ctx)
{
    (void)ctx;
    return *(int *)arg;
}

static int task_until_cancelled(void *arg, struct fib_ctx *ctx)
{
    _Atomic int *error = arg;
    *error = fib_ctx_sleep(ctx, (int64_t)LONG * MS);
    return *error;
}

static int task_exits(void *arg, struct fib_ctx *ctx)
{
    (void)arg, (void)ctx;
    fib_exit();
}

static void group_first_error(int n)
{
    (void)n;
    struct fib_group *g = fib_group_new(NULL, 0);
    CHECK(fib_group_wait(g) == 0); // without tasks
    fib_group_free(g);
    g = fib_group_new(NULL, 0);
    _Atomic int error = 0;
    int mine = -EPROTO, none = 0;
    CHECK(!fib_group_go(g, task_until_cancelled, &error));
    CHECK(!fib_group_go(g, task_fails, &none));
    CHECK(!fib_group_go(g, task_exits, NULL));
    let_run();
    CHECK(!fib_ctx_error(fib_group_ctx(g)));
    CHECK(!fib_group_go(g, task_fails, &mine));
    CHECK(fib_group_wait(g) == -EPROTO);
    CHECK(error == -ECANCELED); // the others were cancelled by it
    CHECK(fib_ctx_error(fib_group_ctx(g)) == -ECANCELED);
    CHECK(fib_ctx_cause(fib_group_ctx(g)) == -EPROTO);
    fib_group_free(g);
}

static void group_ends_its_ctx(int n)
{
    (void)n;
    struct fib_ctx *parent = fib_ctx_with_cancel(fib_ctx_background());
    struct fib_group *g = fib_group_new(parent, 0);
    int none = 0;
    CHECK(!fib_group_go(g, task_fails, &none));
    CHECK(fib_group_wait(g) == 0);
    CHECK(fib_ctx_error(fib_group_ctx(g)) == -ECANCELED && !fib_ctx_error(parent));
    fib_group_free(g);
    g = fib_group_new(parent, 0);
    _Atomic int error = 0;
    CHECK(!fib_group_go(g, task_until_cancelled, &error));
    fib_ctx_cancel(parent, 0);
    CHECK(fib_group_wait(g) == -ECANCELED);
    fib_group_free(g);
    fib_ctx_unref(parent);
}

static void group_starter(void *arg)
{
    struct tasks *t = arg;
    for (int i = 0; i < 50; i++)
        CHECK(!fib_group_go(t->g, task_ok, t));
}

static void group_limits(int n)
{
    (void)n;
    struct tasks t = {.limit = 3, .g = fib_group_new(NULL, 3)};
    struct actor a;
    for (int i = 0; i < 3; i++)
        CHECK(!fib_group_try(t.g, task_ok, &t));
    CHECK(fib_group_try(t.g, task_ok, &t) == -EAGAIN);
    actor_start(&a, group_starter, &t);
    actor_until_waiting(&a, "semacquire");
    t.may_go = true;
    actor_end(&a);
    CHECK(fib_group_wait(t.g) == 0);
    CHECK(t.done == 53);
    fib_group_free(t.g);
}

// --- Single-flight.

struct flight {
    struct fib_flight *f;
    const char *key;
    _Atomic int calls, waiting, shared;
    _Atomic bool may_go, exits_first;
    int results[2];
};

static void *flight_fn(void *arg)
{
    struct flight *f = arg;
    int number = f->calls++;
    while (!f->may_go)
        fib_sleep(MS / 10);
    if (number == 0 && f->exits_first)
        fib_exit();
    return f;
}

static void flight_call(void *arg)
{
    struct flight *f = arg;
    void *result = NULL;
    bool is_shared;
    f->waiting++;
    CHECK(!fib_flight_do(f->f, f->key, flight_fn, f, &result, &is_shared));
    CHECK(result == f);
    f->shared += is_shared;
}

static void flight_shares(int n)
{
    (void)n;
    struct flight f = {.f = fib_flight_new(), .key = "k", .may_go = true};
    struct actor a[ACTORS];
    flight_call(&f);
    CHECK(f.calls == 1 && f.shared == 0); // alone
    f.may_go = false;
    f.calls = f.waiting = 0;
    for (int i = 0; i < ACTORS; i++)
        actor_start(&a[i], flight_call, &f);
    for (int i = 1; i < ACTORS; i++)
        until(&f.waiting, ACTORS);
    let_run();
    f.may_go = true;
    for (int i = 0; i < ACTORS; i++)
        actor_end(&a[i]);
    // As in Go's test: those that were late have run it anew.
    CHECK(f.calls >= 1 && f.calls < ACTORS, "%d calls", f.calls);
    CHECK(f.shared >= 2);
    fib_flight_free(f.f);
}

static void flight_keys_are_apart(int n)
{
    (void)n;
    enum { KEYS = 40 }; // more than the table begins with
    struct fib_flight *table = fib_flight_new();
    struct flight f[KEYS];
    char keys[KEYS][8];
    struct actor a[KEYS];
    for (int i = 0; i < KEYS; i++) {
        snprintf(keys[i], sizeof keys[i], "k%d", i);
        f[i] = (struct flight){.f = table, .key = keys[i]};
        actor_start(&a[i], flight_call, &f[i]);
    }
    for (int i = 0; i < KEYS; i++)
        until(&f[i].calls, 1); // all of them run at the same time
    for (int i = 0; i < KEYS; i++)
        f[i].may_go = true;
    for (int i = 0; i < KEYS; i++)
        actor_end(&a[i]);
    fib_flight_free(table);
}

static void flight_forgets(int n)
{
    (void)n;
    struct flight f = {.f = fib_flight_new(), .key = "k"}, g = {.f = f.f, .key = "k"};
    struct actor a, b;
    fib_flight_forget(f.f, "k"); // there is none
    actor_start(&a, flight_call, &f);
    until(&f.calls, 1);
    fib_flight_forget(f.f, "k");
    actor_start(&b, flight_call, &g); // a second runs beside the first
    until(&g.calls, 1);
    f.may_go = true;
    actor_end(&a);
    CHECK(!b.is_done);
    g.may_go = true;
    actor_end(&b);
    CHECK(f.shared == 0 && g.shared == 0);
    fib_flight_free(f.f);
}

// A fiber that ends in fn leaves nobody waiting.
static void flight_survives_exit(int n)
{
    (void)n;
    struct flight f = {.f = fib_flight_new(), .key = "k", .exits_first = true};
    struct fib first = go(flight_call, &f);
    until(&f.calls, 1);
    struct actor a[3];
    for (int i = 0; i < 3; i++) {
        actor_start(&a[i], flight_call, &f);
        actor_until_waiting(&a[i], "sync.WaitGroup.Wait");
    }
    f.may_go = true;
    fib_join(first);
    for (int i = 0; i < 3; i++)
        actor_end(&a[i]);
    CHECK(f.calls >= 2);
    fib_flight_free(f.f);
}

// --- Worker pool.

struct jobs {
    struct fib_workers *w;
    _Atomic int runs, cancelled, running;
    _Atomic bool may_go;
    int rc;
};

static int job(void *arg, struct fib_ctx *ctx)
{
    struct jobs *j = arg;
    if (fib_ctx_error(ctx)) {
        j->cancelled++;
        return -ECANCELED;
    }
    CHECK(++j->running <= 2);
    j->runs++;
    while (!j->may_go)
        fib_sleep(MS / 10);
    j->running--;
    return 0;
}

static struct fib_workers *workers_of(enum fib_overflow overflow, int64_t timeout_ns)
{
    struct fib_workers_options o = {.size = sizeof o,
                                    .workers = 2,
                                    .queue = 4,
                                    .overflow = overflow,
                                    .task_timeout_ns = timeout_ns};
    struct fib_workers *w = fib_workers_new(NULL, &o);
    CHECK(w);
    return w;
}

static struct fib_workers_counts counts_of(struct fib_workers *w)
{
    struct fib_workers_counts c;
    fib_workers_counts(w, &c);
    CHECK(c.submitted == c.done + c.dropped + c.queued + c.running);
    return c;
}

static void fill(struct jobs *j)
{
    for (int i = 0; i < 2; i++)
        CHECK(!fib_workers_submit(j->w, job, j));
    until(&j->runs, 2);
    for (int i = 0; i < 4; i++)
        CHECK(!fib_workers_submit(j->w, job, j));
    struct fib_workers_counts c = counts_of(j->w);
    CHECK(c.queued == 4 && c.running == 2);
}

static void workers_reject(int n)
{
    (void)n;
    struct jobs j = {.w = workers_of(FIB_REJECT, 0)};
    fill(&j);
    CHECK(fib_workers_submit(j.w, job, &j) == -EAGAIN);
    j.may_go = true;
    fib_workers_drain(j.w);
    CHECK(fib_workers_submit(j.w, job, &j) == -ESHUTDOWN);
    struct fib_workers_counts c = counts_of(j.w);
    CHECK(c.rejected == 1 && c.done == 6 && c.submitted == 6 && j.runs == 6 && !c.failed);
    fib_workers_free(j.w);
}

static void workers_drop(int n)
{
    (void)n;
    struct jobs j = {.w = workers_of(FIB_DROP_OLDEST, 0)};
    fill(&j);
    for (int i = 0; i < 3; i++)
        CHECK(!fib_workers_submit(j.w, job, &j));
    CHECK(j.cancelled == 3); // the dropped ones, to clean up
    j.may_go = true;
    fib_workers_drain(j.w);
    struct fib_workers_counts c = counts_of(j.w);
    CHECK(c.dropped == 3 && c.done == 6 && c.submitted == 9 && j.runs == 6);
    fib_workers_free(j.w);
}

static void submit_one(void *arg)
{
    struct jobs *j = arg;
    j->rc = fib_workers_submit(j->w, job, j);
}

static void drain(void *arg)
{
    fib_workers_drain(arg);
}

static void workers_block(int n)
{
    (void)n;
    struct jobs j = {.w = workers_of(FIB_BLOCK, 0), .rc = 1};
    struct actor a, b;
    fill(&j);
    actor_start(&a, submit_one, &j);
    actor_until_waiting(&a, "sync.Cond.Wait");
    j.may_go = true;
    actor_end(&a);
    CHECK(!j.rc);
    until(&j.runs, 7);
    while (counts_of(j.w).running) // the last one may not have seen yet that it may go
        fib_sleep(MS / 10);
    // Draining sends those away that wait for room.
    j.may_go = false;
    j.runs = 0;
    fill(&j);
    actor_start(&a, submit_one, &j);
    actor_until_waiting(&a, "sync.Cond.Wait");
    actor_start(&b, drain, j.w);
    actor_end(&a);
    CHECK(j.rc == -ESHUTDOWN && !b.is_done);
    j.may_go = true;
    actor_end(&b);
    CHECK(counts_of(j.w).done == 13);
    fib_workers_free(j.w);
}

static int job_until_deadline(void *arg, struct fib_ctx *ctx)
{
    (void)arg;
    int64_t when;
    CHECK(fib_ctx_deadline(ctx, &when));
    return fib_ctx_sleep(ctx, (int64_t)LONG * MS);
}

static int job_exits(void *arg, struct fib_ctx *ctx)
{
    (void)ctx;
    ++*(_Atomic int *)arg;
    fib_exit();
}

static void workers_deadline_and_exit(int n)
{
    (void)n;
    struct fib_workers *w = workers_of(FIB_BLOCK, 5 * MS);
    _Atomic int exits = 0;
    for (int i = 0; i < 3; i++)
        CHECK(!fib_workers_submit(w, job_until_deadline, NULL));
    for (int i = 0; i < 5; i++)
        CHECK(!fib_workers_submit(w, job_exits, &exits)); // more than there are workers
    fib_workers_drain(w);
    struct fib_workers_counts c = counts_of(w);
    CHECK(exits == 5 && c.done == 8 && c.failed == 8 && c.timed_out == 3, "%d %d %d", (int)c.done,
          (int)c.failed, (int)c.timed_out);
    fib_workers_free(w);
}

// --- Fiber-local values.

static fib_key keys[6];
static _Atomic int destroyed;

static void local_destroy(void *value)
{
    CHECK(value);
    destroyed++;
    // As with pthread keys, what a destructor sets is destroyed in another round.
    if (value == &keys[1])
        CHECK(!fib_local_set(keys[2], &keys[2]));
}

static void local_use(void *arg)
{
    for (int i = 0; i < 6; i++)
        CHECK(!fib_local_get(keys[i]));
    for (int i = 0; i < 6; i++)
        CHECK(!fib_local_set(keys[i], arg));
    fib_yield();
    for (int i = 0; i < 6; i++)
        CHECK(fib_local_get(keys[i]) == arg);
    CHECK(!fib_local_set(keys[1], NULL) && !fib_local_get(keys[1]));
    if (arg == &keys[0] && fib_self().id)
        fib_exit();
}

static void local_plain(void *arg)
{
    CHECK(!fib_local_set(keys[5], arg) && fib_local_get(keys[5]) == arg);
}

static void local_chain(void *arg)
{
    CHECK(!fib_local_set(keys[1], arg));
}

static void locals(int n)
{
    (void)n;
    static int values[3];
    if (!keys[5])
        for (int i = 0; i < 6; i++)
            CHECK(!fib_key_create(&keys[i], i == 5 ? NULL : local_destroy));
    destroyed = 0;
    struct actor a[3];
    fib_join(go(local_use, &keys[0]));
    for (int i = 1; i < 3; i++)
        actor_start(&a[i], local_use, &values[i]);
    for (int i = 1; i < 3; i++)
        actor_end(&a[i]);
    CHECK(destroyed == 3 * 4, "%d", destroyed);
    destroyed = 0;
    fib_join(go(local_chain, &keys[1]));
    CHECK(destroyed == 2);
    actor_start(&a[0], local_plain, values);
    actor_end(&a[0]);
    CHECK(fib_local_set(63, values) == -EINVAL && fib_local_set(1000, values) == -EINVAL);
    CHECK(!fib_local_get(63) && !fib_local_get(1000));
    fib_key last;
    for (int i = 6; i < 64; i++)
        CHECK(!fib_key_create(&last, NULL));
    CHECK(fib_key_create(&last, NULL) == -EAGAIN);
}

static const struct row rows[] = {
    {"a pool reuses and ages", "sync TestPool, TestPoolRelease", pool_reuses_and_ages, NULL},
    {"a pool gives a thing to one", "sync TestPoolStress", pool_gives_to_one, NULL},
    {"the first error counts", "errgroup TestZeroGroup, TestWithContext", group_first_error, NULL},
    {"a group ends its context", "errgroup TestWithContext", group_ends_its_ctx, NULL},
    {"a group's limit holds", "errgroup TestGoLimit, TestTryGo", group_limits, NULL},
    {"a flight is shared", "singleflight TestDo, TestDoDupSuppress", flight_shares, NULL},
    {"flights of keys are apart", "singleflight", flight_keys_are_apart, NULL},
    {"a forgotten flight", "singleflight TestForget", flight_forgets, NULL},
    {"an exit in a flight", "singleflight TestGoexitDo", flight_survives_exit, NULL},
    {"full workers reject", "sync.h", workers_reject, NULL},
    {"full workers drop the oldest", "sync.h", workers_drop, NULL},
    {"full workers make wait", "sync.h", workers_block, NULL},
    {"deadlines and exits of tasks", "sync.h", workers_deadline_and_exit, NULL},
    {"values of fibers", "fiber.h", locals, NULL},
};

int main(int argc, char **argv)
{
    return sync_rows_run(rows, sizeof rows / sizeof rows[0], argc, argv);
}
