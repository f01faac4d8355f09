// SPDX-License-Identifier: MIT
//
// Fibers and plain threads do random things with shared locks and contexts, with short limits everywhere, at full
// speed; what the locks guard stays consistent, nothing is lost, and in the end all are free.
//
//     sync_stress [SECONDS [SEED [PROCS]]]

#include "fiberscope/chan.h"
#include "fiberscope/sync.h"
#include "tests/runtime/check.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

enum { FIBERS = 24, THREADS = 4, MUTEXES = 3, CELLS = 8, SEM_COUNT = 5, RING = 4, US = 1000 };

static struct pair {
    struct fib_mutex m;
    int64_t a, b; // equal outside of m
} pairs[MUTEXES];

static struct {
    struct fib_rwmutex m;
    int64_t cells[CELLS]; // all equal outside of m
} table;

static struct {
    struct fib_semaphore s;
    _Atomic int64_t in;
} sem;

static struct {
    struct fib_mutex m;
    struct fib_cond has_item, has_room;
    int64_t items[RING];
    int count;
    int64_t put_sum, taken_sum; // by m
    int64_t put, taken;
} ring;

// One that is freed by whoever lets go of it last, right after its unlock.
struct counted {
    struct fib_mutex m;
    int refs;
};

static struct {
    struct fib_mutex m;
    struct counted *now;
} current;

static struct fib_pool *pool;
static struct fib_flight *flight;
static struct fib_ctx *root;
static _Atomic int64_t things, ops;
static _Atomic bool is_over;

struct actor {
    uint64_t random;
};

static uint32_t draw(struct actor *a, uint32_t below)
{
    a->random = a->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(a->random >> 33) % below;
}

static int64_t draw_limit(struct actor *a)
{
    return draw(a, 2) ? -1 : (int64_t)draw(a, 200) * US;
}

static void pause_some(struct actor *a)
{
    uint32_t what = draw(a, 64);
    if (what == 0)
        fib_sleep((int64_t)draw(a, 1500) * US);
    else if (what < 8)
        fib_yield();
}

static void use_pair(struct actor *a)
{
    struct pair *p = &pairs[draw(a, MUTEXES)];
    if (fib_mutex_lock_for(&p->m, draw_limit(a)))
        return;
    CHECK(p->a == p->b);
    p->a++;
    pause_some(a);
    p->b++;
    fib_mutex_unlock(&p->m);
}

static void use_table(struct actor *a)
{
    bool writes = draw(a, 4) == 0;
    if (writes) {
        fib_rwmutex_lock(&table.m);
        int64_t first = table.cells[0];
        for (int i = 0; i < CELLS; i++) {
            CHECK(table.cells[i] == first);
            table.cells[i]++;
        }
        pause_some(a);
        fib_rwmutex_unlock(&table.m);
        return;
    }
    if (draw(a, 4) == 0) {
        if (!fib_rwmutex_tryrlock(&table.m))
            return;
    } else {
        fib_rwmutex_rlock(&table.m);
    }
    int64_t first = table.cells[0];
    pause_some(a);
    for (int i = 0; i < CELLS; i++)
        CHECK(table.cells[i] == first);
    fib_rwmutex_runlock(&table.m);
}

static void use_sem(struct actor *a)
{
    int64_t n = draw(a, SEM_COUNT + 1);
    if (fib_semaphore_acquire_for(&sem.s, n, draw_limit(a)))
        return;
    CHECK(atomic_fetch_add(&sem.in, n) + n <= SEM_COUNT);
    pause_some(a);
    CHECK(atomic_fetch_sub(&sem.in, n) >= n);
    fib_semaphore_release(&sem.s, n);
}

static void use_ring(struct actor *a)
{
    bool puts = draw(a, 2);
    struct fib_cond *mine = puts ? &ring.has_room : &ring.has_item;
    fib_mutex_lock(&ring.m);
    // With a limit: there may be more who put than who take.
    while (ring.count == (puts ? RING : 0))
        if (fib_cond_wait_for(mine, &ring.m, (int64_t)draw(a, 300) * US))
            break;
    if (puts && ring.count < RING) {
        int64_t item = draw(a, 1000);
        ring.items[ring.count++] = item;
        ring.put_sum += item;
        ring.put++;
        fib_cond_signal(&ring.has_item);
    } else if (!puts && ring.count) {
        ring.taken_sum += ring.items[--ring.count];
        ring.taken++;
        if (draw(a, 8) == 0)
            fib_cond_broadcast(&ring.has_room);
        else
            fib_cond_signal(&ring.has_room);
    }
    fib_mutex_unlock(&ring.m);
}

static void let_go(struct counted *c)
{
    fib_mutex_lock(&c->m);
    int left = --c->refs;
    fib_mutex_unlock(&c->m);
    if (left)
        return;
    memset(c, 0xa5, sizeof *c);
    free(c);
}

static void use_counted(struct actor *a)
{
    fib_mutex_lock(&current.m);
    struct counted *c = current.now;
    fib_mutex_lock(&c->m);
    c->refs++;
    fib_mutex_unlock(&c->m);
    struct counted *old = NULL;
    if (draw(a, 3) == 0) {
        old = c;
        current.now = calloc(1, sizeof *c);
        current.now->refs = 1;
    }
    fib_mutex_unlock(&current.m);
    if (old)
        let_go(old);
    pause_some(a);
    let_go(c);
}

static void work_done(void *w)
{
    fib_waitgroup_done(w);
}

static void use_group(struct actor *a)
{
    // On the stack: it must not be touched any more when wait has returned.
    struct fib_waitgroup w = {0};
    int count = (int)draw(a, 4);
    fib_waitgroup_add(&w, count);
    for (int i = 0; i < count; i++)
        CHECK(!fib_go(NULL, work_done, &w));
    while (fib_waitgroup_wait_for(&w, (int64_t)draw(a, 50) * US))
        ;
    CHECK(w.state == 0);
    memset(&w, 0xa5, sizeof w);
}

static void *thing_make(void *arg)
{
    (void)arg;
    things++;
    return calloc(1, sizeof(_Atomic int));
}

static void thing_destroy(void *arg, void *item)
{
    (void)arg;
    things--;
    free(item);
}

static void use_pool(struct actor *a)
{
    _Atomic int *items[4];
    uint32_t count = 1 + draw(a, 4);
    for (uint32_t i = 0; i < count; i++) {
        items[i] = fib_pool_get(pool);
        CHECK(++*items[i] == 1);
    }
    pause_some(a);
    for (uint32_t i = 0; i < count; i++) {
        CHECK(--*items[i] == 0);
        fib_pool_put(pool, (void *)(uintptr_t)items[i]);
    }
    if (draw(a, 100) == 0)
        fib_pool_age(pool);
}

static void *flight_run(void *arg)
{
    pause_some(arg);
    return (void *)(uintptr_t)1;
}

static void use_flight(struct actor *a)
{
    char key[2] = {(char)('a' + draw(a, 3)), 0};
    void *result = NULL;
    CHECK(!fib_flight_do(flight, key, flight_run, a, &result, NULL));
    CHECK(result == (void *)(uintptr_t)1);
    if (draw(a, 10) == 0)
        fib_flight_forget(flight, key);
}

static int task(void *arg, struct fib_ctx *ctx)
{
    int64_t ns = *(int64_t *)arg;
    if (ns % 5 == 0)
        return -EIO;
    return fib_ctx_sleep(ctx, ns * US) ? -ECANCELED : 0;
}

static void use_tasks(struct actor *a)
{
    int64_t ns[5];
    struct fib_ctx *c = fib_ctx_with_timeout(root, (int64_t)draw(a, 400) * US);
    struct fib_ctx *v = fib_ctx_with_value(c, &things, a);
    struct fib_group *g = fib_group_new(v, draw(a, 3));
    CHECK(c && v && g);
    bool fails = false;
    for (int i = 0; i < 5; i++) {
        ns[i] = draw(a, 300);
        fails |= ns[i] % 5 == 0;
        CHECK(!fib_group_go(g, task, &ns[i]));
    }
    if (draw(a, 4) == 0)
        fib_ctx_cancel(c, -EPROTO);
    int rc = fib_group_wait(g);
    CHECK(rc == 0 || rc == -EIO || rc == -ECANCELED);
    CHECK(!fails || rc);
    CHECK(fib_ctx_value(fib_group_ctx(g), &things) == a);
    fib_group_free(g);
    fib_ctx_unref(v);
    fib_ctx_unref(c);
}

static void run_actor(void *arg)
{
    struct actor *a = arg;
    static void (*const uses[])(struct actor *) = {
        use_pair, use_pair,  use_table, use_table,   use_sem,    use_ring,
        use_ring, use_group, use_pool,  use_counted, use_flight, use_tasks,
    };
    while (!is_over) {
        uint32_t what = draw(a, 200);
        uses[what < 11 * 18 ? what / 18 : 11](a); // tasks less often: they cost more
        ops++;
    }
}

static void *run_thread(void *arg)
{
    run_actor(arg);
    return NULL;
}

static void check_end(void)
{
    for (int i = 0; i < MUTEXES; i++)
        CHECK(pairs[i].m.owner == 0 && pairs[i].a == pairs[i].b);
    CHECK(fib_rwmutex_trylock(&table.m));
    CHECK(sem.in == 0 && fib_semaphore_try(&sem.s, SEM_COUNT));
    int64_t left = 0;
    for (int i = 0; i < ring.count; i++)
        left += ring.items[i];
    CHECK(ring.put == ring.taken + ring.count && ring.put_sum == ring.taken_sum + left);
    fib_pool_free(pool);
    CHECK(things == 0, "%lld things are left", (long long)things);
    fib_flight_free(flight);
    CHECK(!fib_ctx_error(root));
    fib_ctx_unref(root);
    let_go(current.now);
}

int main(int argc, char **argv)
{
    int64_t seconds = argc > 1 ? strtoll(argv[1], NULL, 10) : 3;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : (uint64_t)time(NULL);
    struct fib_options options = {.size = sizeof options};
    options.procs = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 0;
    CHECK(!fib_init(&options));
    fib_semaphore_init(&sem.s, SEM_COUNT);
    pool = fib_pool_new(thing_make, thing_destroy, NULL);
    flight = fib_flight_new();
    root = fib_ctx_with_cancel(fib_ctx_background());
    current.now = calloc(1, sizeof *current.now);
    current.now->refs = 1;

    struct actor actors[FIBERS + THREADS];
    struct fib f[FIBERS];
    pthread_t t[THREADS];
    for (int i = 0; i < FIBERS + THREADS; i++) {
        actors[i].random = seed * 1000 + (uint64_t)i;
        if (i < FIBERS)
            CHECK(!fib_go(&f[i], run_actor, &actors[i]));
        else
            CHECK(!pthread_create(&t[i - FIBERS], NULL, run_thread, &actors[i]));
    }
    fib_sleep(seconds * 1000000000);
    is_over = true;
    for (int i = 0; i < FIBERS; i++)
        CHECK(!fib_join_for(f[i], 60000000000), "seed %llu: stuck", (unsigned long long)seed);
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    check_end();
    printf("ok: %lld operations, seed %llu\n", (long long)ops, (unsigned long long)seed);
    return 0;
}
