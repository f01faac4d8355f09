// SPDX-License-Identifier: MIT
//
// Budgets and allocation counts, one case per name. Cases that must abort do; the others check what they
// can and print "ok". Nothing is recorded in any of them.

#include "target.h"

#include <fiberscope/profile.h>

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

NOINLINE void offender_alloc(size_t size) // global: it is in .dynsym too
{
    void *volatile p = malloc(size); // volatile: or the compiler leaves both out
    free(p);
}

static NOINLINE void static_offender(size_t size)
{
    void *volatile p = calloc(1, size);
    free(p);
}

// --- Counting.

static void *others_allocate(void *arg)
{
    for (int i = 0; i < 1000; i++)
        offender_alloc(10);
    return arg;
}

static void counts(void)
{
    struct fscope_allocs mark, n;
    pthread_t t;
    CHECK(!fscope_thread_allocs(NULL, &mark));
    CHECK(!fscope_thread_allocs(&mark, &n) && n.objects == 0 && n.bytes == 0);
    offender_alloc(24);
    static_offender(100);
    CHECK(!fscope_thread_allocs(&mark, &n) && n.objects == 2 && n.bytes == 124);
    void *volatile p = malloc(10);
    p = realloc(p, 30); // counts, moved or not
    p = realloc(p, 5);
    free(p);
    CHECK(!fscope_thread_allocs(&mark, &n) && n.objects == 5 && n.bytes == 124 + 45);
    void *q = NULL;
    p = aligned_alloc(64, 128);
    free(p);
    CHECK(!posix_memalign(&q, 64, 3));
    free(q);
    p = strdup("12345");
    free(p);
    CHECK(!fscope_thread_allocs(&mark, &n) && n.objects == 8 && n.bytes == 169 + 128 + 3 + 6);
    p = malloc((size_t)-1 / 2); // fails: nothing was allocated
    CHECK(!p && !fscope_thread_allocs(&mark, &n) && n.objects == 8);
    CHECK(!pthread_create(&t, NULL, others_allocate, NULL) && !pthread_join(t, NULL));
    CHECK(!fscope_thread_allocs(&mark, &n) && n.objects < 20); // the new thread's are its own
}

// Run with another allocator before us.
static void blind(void)
{
    struct fscope_allocs n = {7, 7};
    CHECK(fscope_thread_allocs(NULL, &n) == -ENOTSUP && n.objects == 0 && n.bytes == 0);
    CHECK(fscope_heap_start(1) == -ENOTSUP && fscope_write(1) == -ENODATA);
    CHECK(!fscope_block_start(0));
}

// --- Aborting.

static NOINLINE void in_forbidden_alloc(void)
{
    FSCOPE_FORBID(FSCOPE_ALLOC);
    offender_alloc(24);
}

static NOINLINE void in_forbidden_static(void)
{
    FSCOPE_FORBID(FSCOPE_ALLOC | FSCOPE_BLOCK);
    static_offender(1);
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static sem_t sem, ready, done;

static void *hold_all(void *arg)
{
    pthread_mutex_lock(&mutex);
    pthread_rwlock_wrlock(&rwlock);
    sem_post(&ready);
    sem_wait(&done);
    pthread_mutex_unlock(&mutex);
    pthread_rwlock_unlock(&rwlock);
    return arg;
}

static pthread_t hold(void)
{
    pthread_t t;
    sem_init(&ready, 0, 0);
    sem_init(&done, 0, 0);
    CHECK(!pthread_create(&t, NULL, hold_all, NULL));
    sem_wait(&ready);
    return t;
}

static NOINLINE void offender_lock(void)
{
    struct timespec soon = {1, 0}; // long past
    pthread_mutex_timedlock(&mutex, &soon);
    __asm__ volatile("");
}

static void forbidden_lock(void)
{
    hold();
    FSCOPE_FORBID(FSCOPE_BLOCK);
    offender_lock();
}

static void forbidden_fork(void)
{
    FSCOPE_FORBID(FSCOPE_ALLOC);
    pid_t pid = fork();
    if (!pid)
        in_forbidden_alloc();
    int status = 0;
    CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

// --- Told by a function.

// volatile: the compiler knows malloc, and that it calls nobody back.
static volatile struct {
    uint32_t what, depth, calls;
    size_t bytes;
} got;

static void on_forbidden(void *arg, uint32_t what, size_t bytes, const uintptr_t *stack,
                         uint32_t depth)
{
    CHECK(arg == &got);
    got.calls++;
    got.what = what;
    got.bytes = bytes;
    got.depth = depth;
    void *volatile p = malloc(5000); // may
    free(p);
    FILE *f = fopen("/dev/null", "w");
    CHECK(f && fprintf(f, "%u", depth) > 0);
    fclose(f);
    if (arg && getenv("PRINT"))
        fscope_print_stack(1, stack, depth);
    errno = 0;
}

static int was_told(uint32_t what, size_t bytes)
{
    int is = got.calls == 1 && got.what == what && got.bytes == bytes && got.depth > 2;
    got.calls = got.what = got.depth = 0;
    return is;
}

static void callback(void)
{
    fscope_on_forbidden(on_forbidden, (void *)&got);
    uint32_t before = fscope_forbid(FSCOPE_ALLOC);
    CHECK(before == 0);
    errno = 77;
    void *volatile p = malloc(24);
    CHECK(p && errno == 77 && was_told(FSCOPE_ALLOC, 24)); // the call went on
    p = realloc(p, 48);
    CHECK(p && was_told(FSCOPE_ALLOC, 48));
    free(p); // is not forbidden
    CHECK(!got.calls);
    {
        FSCOPE_FORBID(FSCOPE_BLOCK); // nested: adds
        CHECK(fscope_forbid(0) == (FSCOPE_ALLOC | FSCOPE_BLOCK));
        offender_alloc(1);
        CHECK(was_told(FSCOPE_ALLOC, 1));
    }
    CHECK(fscope_forbid(0) == FSCOPE_ALLOC);
    uint32_t inner = fscope_forbid(FSCOPE_ALLOC);
    fscope_allow(0); // a stretch that may
    offender_alloc(1);
    CHECK(!got.calls);
    fscope_allow(inner);
    offender_alloc(1);
    CHECK(was_told(FSCOPE_ALLOC, 1));
    fscope_allow(before);
    offender_alloc(1);
    CHECK(!got.calls);
    if (getenv("PRINT")) {
        FSCOPE_FORBID(FSCOPE_ALLOC);
        static_offender(3);
    }
}

// Every wait that does wait is told, and no other.
static void waits(void)
{
    struct timespec past = {1, 0};
    void *result;
    pthread_mutex_t own = PTHREAD_MUTEX_INITIALIZER;
    pthread_rwlock_t free_rw = PTHREAD_RWLOCK_INITIALIZER;
    mtx_t c11;
    CHECK(mtx_init(&c11, mtx_timed) == thrd_success);
    pthread_t t = hold();
    sem_init(&sem, 0, 1);
    fscope_on_forbidden(on_forbidden, (void *)&got);
    FSCOPE_FORBID(FSCOPE_BLOCK);
    pthread_mutex_lock(&own);
    pthread_mutex_unlock(&own);
    pthread_rwlock_rdlock(&free_rw);
    pthread_rwlock_unlock(&free_rw);
    sem_wait(&sem);
    mtx_lock(&c11);
    mtx_unlock(&c11);
    CHECK(pthread_mutex_trylock(&mutex) == EBUSY);
    offender_alloc(1);
    CHECK(!got.calls); // none of these waits
    CHECK(pthread_mutex_timedlock(&mutex, &past) == ETIMEDOUT && was_told(FSCOPE_BLOCK, 0));
    CHECK(pthread_rwlock_timedrdlock(&rwlock, &past) == ETIMEDOUT && was_told(FSCOPE_BLOCK, 0));
    CHECK(pthread_rwlock_timedwrlock(&rwlock, &past) == ETIMEDOUT && was_told(FSCOPE_BLOCK, 0));
    CHECK(sem_timedwait(&sem, &past) == -1 && errno == ETIMEDOUT && was_told(FSCOPE_BLOCK, 0));
    pthread_mutex_lock(&own);
    CHECK(pthread_cond_timedwait(&condition, &own, &past) == ETIMEDOUT &&
          was_told(FSCOPE_BLOCK, 0));
    CHECK(pthread_timedjoin_np(t, &result, &past) == ETIMEDOUT && was_told(FSCOPE_BLOCK, 0));
    sem_post(&done);
    CHECK(!pthread_join(t, &result) && was_told(FSCOPE_BLOCK, 0));
}

// What one thread must not do, others may; many at once.
static _Atomic int told_count;

static void on_many(void *arg, uint32_t what, size_t bytes, const uintptr_t *stack, uint32_t depth)
{
    (void)arg;
    (void)stack;
    CHECK(what == FSCOPE_ALLOC && bytes == 24 && depth > 1);
    told_count++;
}

static void *careful(void *arg)
{
    for (int i = 0; i < 100; i++) {
        FSCOPE_FORBID(FSCOPE_ALLOC);
        offender_alloc(24);
    }
    return arg;
}

static void *careless(void *arg)
{
    for (int i = 0; i < 100000; i++)
        offender_alloc(24);
    return arg;
}

static void threads(void)
{
    pthread_t t[8];
    fscope_on_forbidden(on_many, NULL);
    for (int i = 0; i < 8; i++)
        CHECK(!pthread_create(&t[i], NULL, i % 2 ? careful : careless, NULL));
    for (int i = 0; i < 8; i++)
        CHECK(!pthread_join(t[i], NULL));
    CHECK(told_count == 400);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } cases[] = {
        {"counts", counts},
        {"blind", blind},
        {"alloc", in_forbidden_alloc},
        {"static", in_forbidden_static},
        {"lock", forbidden_lock},
        {"fork", forbidden_fork},
        {"callback", callback},
        {"waits", waits},
        {"threads", threads},
    };
    if (argc < 2)
        return 2;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (!strcmp(argv[1], cases[i].name)) {
            cases[i].run();
            puts("ok");
            return 0;
        }
    return 2;
}
