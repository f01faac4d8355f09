// SPDX-License-Identifier: MIT
//
// Random programs of locks under the deterministic scheduler do exactly what sync_spec.h says: who gets in, who waits, who is
// woken by which call, and in which order. The same seed gives the same run.
//
//     sync_model [SEEDS [FIRST]]       each seed in a process of its own, as a runtime starts once
//
// Linked with --wrap for g_park, g_park_for, g_ready, g_ready_last, g_ready_and_yield and seed_point_slow: an
// operation begins where its seed point ends, and runs from there undisturbed until it waits, hands over or returns.

#include "fiberscope/sync.h"
#include "runtime/sched.h"
#include "tests/runtime/check.h"
#include "tests/runtime/sync_spec.h"

#include <errno.h>
#include <string.h>
#include <sys/wait.h>

enum { MUTEXES = 2, WORKERS = 6, CLOSER = 7, SEM_COUNT = 3 };
enum { STEP = 100000 }; // ns: of all times, so that limits and others' doings often coincide

static struct fib_mutex mutexes[MUTEXES];
static struct fib_rwmutex rw;
static struct fib_semaphore sem;
static struct fib_cond cond; // with the last mutex
static struct spec_mutex spec_mutexes[MUTEXES];
static struct spec_rw spec_rw;
static struct spec_sem spec_sem;
static struct spec_cond spec_cond;

enum kind {
    NONE,
    LOCK,
    UNLOCK,
    READ,
    READ_UNLOCK,
    WRITE,
    WRITE_UNLOCK,
    ACQUIRE,
    RELEASE,
    WAIT,
    RELOCK, // the second half of WAIT
    SIGNAL,
    BROADCAST,
};

static struct actor {
    uint64_t random;
    struct spec_mutex *mutex;
    struct spec_try attempt;
    int64_t weight;
    struct spec_list want; // to be readied by what goes on now
    int index;
    enum kind kind;
    bool has_waited, has_timed_out, is_settled;
} actors[SPEC_ACTORS];

static struct spec_list readied; // by what runs now
static uint64_t run_hash = UINT64_C(0xcbf29ce484222325);
static uint32_t alive;

static void note(int actor, int what)
{
    run_hash = (run_hash ^ (uint64_t)(actor * 64 + what)) * UINT64_C(0x100000001b3);
    run_hash = (run_hash ^ (uint64_t)fib_now_ns()) * UINT64_C(0x100000001b3);
}

static struct actor *actor_of(struct g *g)
{
    struct actor *a = g->arg;
    return a >= actors && a < actors + SPEC_ACTORS ? a : NULL;
}

// What the specification wanted to be woken was, in this order, and nobody else.
static void settle(struct actor *a)
{
    bool same = a->want.count == readied.count;
    for (int i = 0; same && i < readied.count; i++)
        same = a->want.at[i] == readied.at[i];
    CHECK(same, "actor %d, kind %d: %d woken, first %d; wanted %d, first %d", a->index, a->kind,
          readied.count, readied.at[0], a->want.count, a->want.at[0]);
    a->want.count = readied.count = 0;
}

// --- What happens in the midst of operations.

static void before_park(struct actor *a, int64_t timeout_ns)
{
    int64_t now = fib_now_ns();
    int64_t until = timeout_ns < 0 ? NEVER : now + timeout_ns;
    note(a->index, 1);
    switch (a->kind) {
    case LOCK:
    case RELOCK: spec_mutex_park(a->mutex, a->index, &a->attempt, now); break;
    case READ: spec_rw_read_park(&spec_rw, a->index, now); break;
    case WRITE: spec_rw_write_park(&spec_rw, a->index, &a->attempt, now); break;
    case ACQUIRE: spec_sem_park(&spec_sem, a->index, a->weight, now, until); break;
    case WAIT:
        spec_cond_park(&spec_cond, a->index, now, until);
        spec_mutex_unlock(a->mutex, a->index, now, &a->want);
        break;
    default: CHECK(a->kind == NONE, "actor %d: kind %d waits", a->index, a->kind); return;
    }
    a->has_waited = true;
    settle(a);
}

static void after_park(struct actor *a, bool is_woken)
{
    int64_t now = fib_now_ns();
    note(a->index, is_woken ? 2 : 3);
    readied.count = 0;
    switch (a->kind) {
    case LOCK:
    case RELOCK:
        if (is_woken)
            spec_mutex_wake(a->mutex, a->index);
        else
            spec_mutex_timeout(a->mutex, a->index, &a->attempt, now);
        break;
    case WRITE: spec_rw_write_wake(&spec_rw, a->index); break;
    case ACQUIRE:
        if (!is_woken)
            spec_sem_timeout(&spec_sem, a->index, now, &a->want);
        break;
    case WAIT:
        if (is_woken)
            spec_cond_wake(&spec_cond, a->index);
        else
            spec_cond_timeout(&spec_cond, a->index, now);
        a->kind = RELOCK;
        a->attempt = (struct spec_try){.until_ns = NEVER};
        break;
    default:;
    }
    a->has_timed_out = !is_woken;
}

static void unlocked(struct actor *a)
{
    int64_t now = fib_now_ns();
    if (a->kind == UNLOCK)
        spec_mutex_unlock(a->mutex, a->index, now, &a->want);
    else
        spec_rw_write_unlock(&spec_rw, a->index, now, &a->want);
    settle(a);
    a->is_settled = true;
}

void __real_g_park(enum wait_reason reason, const void *object, park_after_fn *after, void *arg);
bool __real_g_park_for(enum wait_reason reason, const void *object, park_after_fn *after, void *arg,
                       int64_t timeout_ns);
void __real_g_ready(struct g *g);
void __real_g_ready_last(struct g *g);
void __real_g_ready_and_yield(struct g *g);
void __real_seed_point_slow(void);
void __wrap_g_park(enum wait_reason reason, const void *object, park_after_fn *after, void *arg);
bool __wrap_g_park_for(enum wait_reason reason, const void *object, park_after_fn *after, void *arg,
                       int64_t timeout_ns);
void __wrap_g_ready(struct g *g);
void __wrap_g_ready_last(struct g *g);
void __wrap_g_ready_and_yield(struct g *g);
void __wrap_seed_point_slow(void);

void __wrap_g_park(enum wait_reason reason, const void *object, park_after_fn *after, void *arg)
{
    struct actor *a = actor_of(this_g());
    if (a)
        before_park(a, -1);
    __real_g_park(reason, object, after, arg);
    if (a)
        after_park(a, true);
}

bool __wrap_g_park_for(enum wait_reason reason, const void *object, park_after_fn *after, void *arg,
                       int64_t timeout_ns)
{
    struct actor *a = actor_of(this_g());
    if (a)
        before_park(a, timeout_ns);
    bool is_woken = __real_g_park_for(reason, object, after, arg, timeout_ns);
    if (a)
        after_park(a, is_woken);
    return is_woken;
}

static void note_ready(struct g *g)
{
    struct actor *a = actor_of(g);
    if (!a)
        return;
    CHECK(readied.count < SPEC_ACTORS);
    readied.at[readied.count++] = a->index;
}

void __wrap_g_ready(struct g *g)
{
    note_ready(g);
    __real_g_ready(g);
}

void __wrap_g_ready_last(struct g *g)
{
    note_ready(g);
    __real_g_ready_last(g);
}

void __wrap_g_ready_and_yield(struct g *g)
{
    struct actor *a = actor_of(this_g());
    note_ready(g);
    CHECK(a && (a->kind == UNLOCK || a->kind == WRITE_UNLOCK));
    unlocked(a);
    __real_g_ready_and_yield(g);
    readied.count = 0;
}

void __wrap_seed_point_slow(void)
{
    __real_seed_point_slow();
    readied.count = 0;
}

// --- Operations.

static void begin(struct actor *a, enum kind kind, int64_t timeout_ns)
{
    a->kind = kind;
    a->has_waited = a->has_timed_out = a->is_settled = false;
    int64_t now = fib_now_ns();
    a->attempt = (struct spec_try){.until_ns = timeout_ns < 0 ? NEVER : now + timeout_ns};
    a->want.count = 0;
    note(a->index, 8 + (int)kind);
}

static void end(struct actor *a, int rc)
{
    if (!a->is_settled)
        settle(a);
    a->kind = NONE;
    note(a->index, 32 + (rc != 0));
}

static uint32_t draw(struct actor *a, uint32_t below)
{
    a->random = a->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(a->random >> 33) % below;
}

// Sometimes no limit, sometimes none at all, sometimes one around what others hold a lock.
static int64_t draw_timeout(struct actor *a)
{
    switch (draw(a, 4)) {
    case 0: return 0;
    case 1: return (int64_t)draw(a, 30) * STEP;
    default: return -1;
    }
}

static bool lock(struct actor *a, int index)
{
    int64_t timeout = draw_timeout(a);
    bool is_try = timeout == 0 && draw(a, 2);
    int rc = 0;
    a->mutex = &spec_mutexes[index];
    begin(a, LOCK, timeout);
    if (is_try)
        rc = fib_mutex_trylock(&mutexes[index]) ? 0 : -ETIMEDOUT;
    else if (timeout < 0)
        fib_mutex_lock(&mutexes[index]);
    else
        rc = fib_mutex_lock_for(&mutexes[index], timeout);
    CHECK(rc == 0 || rc == -ETIMEDOUT);
    if (!rc)
        spec_mutex_got(a->mutex, a->index);
    else if (!a->has_timed_out)
        spec_mutex_failed(a->mutex, a->index, &a->attempt, fib_now_ns());
    end(a, rc);
    return !rc;
}

static void unlock(struct actor *a, int index)
{
    a->mutex = &spec_mutexes[index];
    begin(a, UNLOCK, -1);
    fib_mutex_unlock(&mutexes[index]);
    if (!a->is_settled)
        unlocked(a);
    end(a, 0);
}

static bool read_lock(struct actor *a)
{
    bool is_try = draw(a, 4) == 0, ok = true;
    begin(a, READ, -1);
    if (is_try)
        ok = fib_rwmutex_tryrlock(&rw);
    else
        fib_rwmutex_rlock(&rw);
    if (ok)
        spec_rw_read_got(&spec_rw, a->index, a->has_waited);
    else
        spec_rw_read_failed(&spec_rw);
    end(a, !ok);
    return ok;
}

static void read_unlock(struct actor *a)
{
    begin(a, READ_UNLOCK, -1);
    fib_rwmutex_runlock(&rw);
    spec_rw_read_unlock(&spec_rw, &a->want);
    end(a, 0);
}

static bool write_lock(struct actor *a)
{
    bool is_try = draw(a, 4) == 0, ok = true;
    begin(a, WRITE, -1);
    if (is_try)
        ok = fib_rwmutex_trylock(&rw);
    else
        fib_rwmutex_lock(&rw);
    if (ok)
        spec_rw_write_got(&spec_rw, a->index);
    else
        spec_rw_write_failed(&spec_rw);
    end(a, !ok);
    return ok;
}

static void write_unlock(struct actor *a)
{
    begin(a, WRITE_UNLOCK, -1);
    fib_rwmutex_unlock(&rw);
    if (!a->is_settled)
        unlocked(a);
    end(a, 0);
}

static bool acquire(struct actor *a, int64_t n)
{
    int64_t timeout = draw_timeout(a);
    bool is_try = timeout == 0 && draw(a, 2);
    int rc = 0;
    a->weight = n;
    begin(a, ACQUIRE, timeout);
    if (is_try)
        rc = fib_semaphore_try(&sem, n) ? 0 : -ETIMEDOUT;
    else if (timeout < 0)
        fib_semaphore_acquire(&sem, n);
    else
        rc = fib_semaphore_acquire_for(&sem, n, timeout);
    if (!rc)
        spec_sem_got(&spec_sem, a->index, n, a->has_waited);
    else if (!a->has_timed_out)
        spec_sem_failed(&spec_sem, n);
    CHECK(!rc || (timeout >= 0 && a->attempt.until_ns <= fib_now_ns()));
    end(a, rc);
    return !rc;
}

static void release(struct actor *a, int64_t n)
{
    begin(a, RELEASE, -1);
    fib_semaphore_release(&sem, n);
    spec_sem_release(&spec_sem, n, fib_now_ns(), &a->want);
    end(a, 0);
}

static void wait_cond(struct actor *a)
{
    int64_t timeout = draw_timeout(a);
    a->mutex = &spec_mutexes[MUTEXES - 1];
    begin(a, WAIT, timeout);
    int64_t until = a->attempt.until_ns;
    int rc = 0;
    if (timeout < 0)
        fib_cond_wait(&cond, &mutexes[MUTEXES - 1]);
    else
        rc = fib_cond_wait_for(&cond, &mutexes[MUTEXES - 1], timeout);
    CHECK(a->kind == RELOCK, "it did not wait");
    CHECK(!rc || (rc == -ETIMEDOUT && fib_now_ns() >= until));
    spec_mutex_got(a->mutex, a->index);
    end(a, rc);
}

static void signal_cond(struct actor *a, bool all)
{
    begin(a, all ? BROADCAST : SIGNAL, -1);
    if (all)
        fib_cond_broadcast(&cond);
    else
        fib_cond_signal(&cond);
    spec_cond_signal(&spec_cond, fib_now_ns(), all, &a->want);
    end(a, 0);
}

// --- Programs: critical sections, nested in one order, so that nothing can deadlock.

static void pause_some(struct actor *a)
{
    switch (draw(a, 5)) {
    case 0: fib_sleep((int64_t)draw(a, 25) * STEP); break;
    case 1: fib_sleep((int64_t)draw(a, 4) * STEP); break;
    case 2: fib_yield(); break;
    default:;
    }
}

static void section(struct actor *a)
{
    int64_t n = draw(a, 3) == 0 ? 1 + draw(a, SEM_COUNT) : 0;
    if (n && !acquire(a, n))
        n = 0;
    bool has[MUTEXES];
    int count = n != 0;
    for (int i = 0; i < MUTEXES; i++) {
        has[i] = draw(a, 2) && lock(a, i);
        count += has[i];
    }
    uint32_t how = draw(a, 4);
    bool reads = how == 0 && read_lock(a), writes = how == 1 && write_lock(a);
    pause_some(a);
    if (has[MUTEXES - 1] && count == 1 && !reads && !writes && draw(a, 2))
        wait_cond(a);
    if (draw(a, 3) == 0)
        signal_cond(a, draw(a, 4) == 0);
    if (reads)
        read_unlock(a);
    if (writes)
        write_unlock(a);
    for (int i = MUTEXES - 1; i >= 0; i--)
        if (has[i])
            unlock(a, i);
    if (n)
        release(a, n);
}

static void run_worker(void *arg)
{
    struct actor *a = arg;
    for (int i = 0; i < 12; i++) {
        section(a);
        pause_some(a);
    }
    alive--;
}

// Those that still wait for a signal get one.
static void run_closer(void *arg)
{
    struct actor *a = arg;
    while (alive) {
        fib_sleep(200LL * STEP);
        signal_cond(a, true);
    }
}

static void run_program(void *arg)
{
    uint64_t seed = *(uint64_t *)arg;
    struct fib f[SPEC_ACTORS];
    alive = WORKERS;
    for (int i = 0; i < SPEC_ACTORS; i++) {
        actors[i] = (struct actor){.index = i, .random = seed * 1000 + (uint64_t)i};
        if (i < WORKERS || i == CLOSER)
            CHECK(!fib_go(&f[i], i == CLOSER ? run_closer : run_worker, &actors[i]));
    }
    for (int i = 0; i < SPEC_ACTORS; i++)
        if (i < WORKERS || i == CLOSER)
            fib_join(f[i]);
    for (int i = 0; i < MUTEXES; i++)
        CHECK(mutexes[i].owner == 0 && spec_mutexes[i].holder == NOBODY &&
              !spec_mutexes[i].queue.count);
    CHECK(fib_rwmutex_trylock(&rw) && fib_semaphore_try(&sem, SEM_COUNT));
    CHECK(!spec_cond.queue.count && !spec_sem.queue.count && !spec_rw.queue.count);
}

static void run_seed(uint64_t seed, int fd)
{
    alarm(60);
    for (int i = 0; i < MUTEXES; i++)
        spec_mutex_init(&spec_mutexes[i]);
    spec_rw_init(&spec_rw);
    spec_sem.count = SEM_COUNT;
    fib_semaphore_init(&sem, SEM_COUNT);
    struct fib_options options = {.size = sizeof options, .seed = seed};
    CHECK(!fib_init(&options));
    CHECK(!fib_main(run_program, &seed));
    CHECK(write(fd, &run_hash, sizeof run_hash) == sizeof run_hash);
    _exit(0);
}

static uint64_t run_child(uint64_t seed)
{
    int fds[2], status;
    uint64_t hash = 0;
    CHECK(!pipe(fds));
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (!pid)
        run_seed(seed, fds[1]);
    close(fds[1]);
    ssize_t n = read(fds[0], &hash, sizeof hash);
    close(fds[0]);
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(n == sizeof hash && status == 0, "seed %llu: status %#x", (unsigned long long)seed,
          (unsigned)status);
    return hash;
}

int main(int argc, char **argv)
{
    uint64_t count = check_rounds(argc > 1 ? strtoull(argv[1], NULL, 10) : 600);
    uint64_t first = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    uint32_t same = 0;
    uint64_t last = 0;
    for (uint64_t seed = first; seed < first + count; seed++) {
        uint64_t hash = run_child(seed);
        if (seed % 20 == 0)
            CHECK(run_child(seed) == hash, "seed %llu: two runs differ", (unsigned long long)seed);
        same += hash == last;
        last = hash;
    }
    CHECK(same < count / 10 + 1, "%u seeds gave the run of the one before", same);
    printf("ok: %llu seeds from %llu\n", (unsigned long long)count, (unsigned long long)first);
    return 0;
}
