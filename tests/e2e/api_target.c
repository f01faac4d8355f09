// SPDX-License-Identifier: MIT
//
// Uses include/fiberscope/profile.h in ways whose truth is known by construction, one case per name; a
// case checks what it can in the program, prints what the recording must hold as "want ..." lines, and
// saves the recording to the file that it is given.

#include "target.h"

#include <fiberscope/profile.h>

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *out;
static void *volatile keep;
static volatile unsigned long sink;

static double cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static NOINLINE void burn_ms(double ms)
{
    for (double end = cpu_ns() + ms * 1e6; cpu_ns() < end;)
        for (int i = 0; i < 10000; i++)
            sink = sink + 1;
}

static void pause_ms(long ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&t, &t))
        ;
}

static NOINLINE void make(int n, size_t size)
{
    for (int i = 0; i < n; i++) {
        keep = malloc(size);
        free(keep);
    }
}

// --- Heap: exact counts between start and stop, nothing outside.

static void heap_exact(void)
{
    make(100, 64);
    CHECK(fscope_heap_stop() == -EINVAL);
    CHECK(fscope_write(1) == -ENODATA);
    CHECK(!fscope_heap_start(1));
    make(1000, 64);
    CHECK(!fscope_heap_start(1)); // again: nothing changes
    CHECK(fscope_heap_start(4096) == -EBUSY);
    CHECK(!fscope_heap_stop());
    CHECK(fscope_heap_stop() == -EINVAL);
    make(100, 64);
    CHECK(!fscope_heap_start(1));
    make(500, 64);
    CHECK(!fscope_heap_stop());
    CHECK(fscope_cpu_stop() == -EINVAL);
    CHECK(!fscope_save(out));
    printf("want heap 1500 %d\n", 1500 * 64);
}

static void heap_sampled(void)
{
    CHECK(!fscope_heap_start(4096));
    CHECK(fscope_heap_start(1) == -EBUSY);
    CHECK(fscope_heap_start(8192) == -EBUSY);
    make(200000, 512);
    CHECK(!fscope_cpu_start(NULL));
    CHECK(!fscope_cpu_stop()); // must not stop the heap
    make(200000, 512);
    CHECK(!fscope_heap_stop());
    make(200000, 512);
    CHECK(!fscope_save(out));
    printf("want heap_sampled %d 512 4096\n", 400000);
}

static void exact_comes_first(void)
{
    CHECK(!fscope_block_start(0));
    CHECK(fscope_heap_start(1) == -EBUSY);
    CHECK(!fscope_heap_start(0));
    CHECK(!fscope_save(out));
}

// --- Locks.

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static sem_t held;
static long hold_ms;

static void *holder(void *arg)
{
    pthread_mutex_lock(&mutex);
    sem_post(&held);
    pause_ms(hold_ms);
    pthread_mutex_unlock(&mutex);
    return arg;
}

// Waits for a mutex that another thread holds for ms.
static void contend(long ms)
{
    pthread_t t;
    hold_ms = ms;
    sem_init(&held, 0, 0);
    pthread_create(&t, NULL, holder, NULL);
    while (sem_trywait(&held))
        pause_ms(1);
    pthread_mutex_lock(&mutex);
    pthread_mutex_unlock(&mutex);
    while (pthread_tryjoin_np(t, NULL))
        pause_ms(1);
}

static void locks(void)
{
    contend(20);
    CHECK(fscope_block_stop() == -EINVAL && fscope_mutex_stop() == -EINVAL);
    CHECK(!fscope_block_start(1) && !fscope_mutex_start(1));
    contend(200);
    CHECK(!fscope_block_stop());
    contend(100);
    CHECK(!fscope_mutex_stop());
    contend(50);
    CHECK(!fscope_save(out));
    printf("want block 1 200000000\nwant mutex 2 300000000\n");
}

// --- The order of locks.

static pthread_mutex_t lock_a = PTHREAD_MUTEX_INITIALIZER, lock_b = PTHREAD_MUTEX_INITIALIZER,
                       lock_c = PTHREAD_MUTEX_INITIALIZER;

static void *a_then_b(void *arg)
{
    pthread_mutex_lock(&lock_a);
    pthread_mutex_lock(&lock_b);
    pthread_mutex_unlock(&lock_b);
    pthread_mutex_unlock(&lock_a);
    return arg;
}

static void *b_then_a(void *arg)
{
    pthread_mutex_lock(&lock_b);
    pthread_mutex_lock(&lock_a);
    pthread_mutex_unlock(&lock_a);
    pthread_mutex_unlock(&lock_b);
    return arg;
}

static void *c_then_a(void *arg)
{
    pthread_mutex_lock(&lock_c);
    pthread_mutex_lock(&lock_a);
    pthread_mutex_unlock(&lock_a);
    pthread_mutex_unlock(&lock_c);
    return arg;
}

static void in_thread(void *(*fn)(void *))
{
    pthread_t t;
    CHECK(!pthread_create(&t, NULL, fn, NULL) && !pthread_join(t, NULL));
}

// b and a are taken in both orders while that is watched, c before a only while it is not.
static void order(void)
{
    char path[4096];
    snprintf(path, sizeof path, "%s.child", out);
    in_thread(c_then_a);
    CHECK(fscope_order_stop() == -EINVAL);
    CHECK(!fscope_order_start());
    in_thread(a_then_b);
    CHECK(!fscope_order_start()); // it is on, and nothing is forgotten
    in_thread(b_then_a);
    CHECK(!fscope_order_stop() && fscope_order_stop() == -EINVAL);
    in_thread(c_then_a);
    CHECK(!fscope_save(out));
    pid_t child = fork();
    if (!child) { // its own recording has it off, as its parent's
        in_thread(c_then_a);
        CHECK(fscope_order_stop() == -EINVAL && !fscope_order_start());
        in_thread(c_then_a);
        _exit(fscope_save(path) ? 1 : 0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && !status);
}

static void order_without_room(void)
{
    CHECK(fscope_order_start() == -EBUSY && fscope_order_stop() == -EINVAL);
    CHECK(!fscope_mutex_start(1) && !fscope_save(out));
}

// --- Labels.

static NOINLINE void labelled(int n)
{
    make(n, 32);
}

static void *unlabelled_thread(void *arg)
{
    labelled(7); // a new thread has none
    return arg;
}

static NOINLINE void scoped(void)
{
    FSCOPE_LABEL("request", "/login");
    labelled(10);
    {
        FSCOPE_LABEL("user", "ann");
        FSCOPE_LABEL("request", "/again");
        labelled(20);
    }
    labelled(30);
    uint32_t before = fscope_label_set("request", NULL);
    labelled(40);
    fscope_labels_restore(before);
    labelled(50);
}

static void labels(void)
{
    pthread_t t;
    char key[4], longer[400];
    CHECK(fscope_label_set("early", "x") == 0); // no recording
    CHECK(!fscope_heap_start(1));
    scoped();
    labelled(60);
    {
        FSCOPE_LABEL("a", "1");
        CHECK(!pthread_create(&t, NULL, unlabelled_thread, NULL) && !pthread_join(t, NULL));
    }
    uint32_t none = fscope_label_set(NULL, "x");
    CHECK(none == 0);
    for (int i = 0; i < 20; i++) { // 16 fit
        snprintf(key, sizeof key, "k%02d", i);
        uint32_t before = fscope_label_set(key, "v");
        CHECK(i == 0 ? before == 0 : before != 0);
    }
    labelled(70);
    fscope_labels_restore(0);
    memset(longer, 'y', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    fscope_label_set("long", longer);
    labelled(80);
    fscope_labels_restore(0);
    fscope_label_set("empty", "");
    labelled(90);
    fscope_labels_restore(0);
    CHECK(!fscope_heap_stop());
    CHECK(!fscope_save(out));
}

static void labels_cpu(void)
{
    struct fscope_cpu_options o = {sizeof o, 999, 0};
    CHECK(!fscope_cpu_start(&o));
    fscope_label_set("phase", "one");
    burn_ms(300);
    fscope_label_set("phase", "two");
    burn_ms(600);
    fscope_labels_restore(0);
    CHECK(!fscope_cpu_stop());
    CHECK(!fscope_save(out));
}

// In the child: no labels, and a scope of the parent's ends without.
static void labels_fork(void)
{
    int status;
    char path[1000];
    snprintf(path, sizeof path, "%s.child", out);
    CHECK(!fscope_heap_start(1));
    uint32_t before = fscope_label_set("who", "parent");
    uint32_t parents = fscope_label_set("more", "x");
    CHECK(before == 0 && parents != 0);
    labelled(10);
    pid_t pid = fork();
    if (!pid) {
        labelled(20);
        CHECK(fscope_label_set("who", "child") == 0);
        labelled(30);
        fscope_labels_restore(parents);
        labelled(40);
        CHECK(!fscope_save(path));
        _exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid && !status);
    fscope_labels_restore(parents);
    labelled(50);
    CHECK(!fscope_save(out));
}

// --- Custom profiles.

static NOINLINE int open_here(struct fscope_profile *p, uintptr_t i)
{
    int rc = fscope_profile_add(p, (const void *)i);
    __asm__ volatile("" : "+r"(rc)); // no tail call
    return rc;
}

static NOINLINE int open_there(struct fscope_profile *p, uintptr_t i)
{
    int rc = fscope_profile_add(p, (const void *)i);
    __asm__ volatile("nop"
                     : "+r"(rc)); // other code than open_here's: the compiler would merge them
    return rc;
}

static void custom(void)
{
    char name[65];
    memset(name, 'n', 64);
    name[64] = '\0';
    CHECK(!fscope_profile_get("") && !fscope_profile_get(NULL) && !fscope_profile_get("heap") &&
          !fscope_profile_get(name));
    name[63] = '\0';
    CHECK(fscope_profile_get(name));
    struct fscope_profile *p = fscope_profile_get("app.conns"),
                          *q = fscope_profile_get("app.files");
    CHECK(p && q && p != q && fscope_profile_get("app.conns") == p && fscope_profile_count(p) == 0);
    CHECK(fscope_profile_remove(p, &p) == -ENOENT);
    for (uintptr_t i = 0; i < 1000; i++) // 0 is an object as good as any
        CHECK(!open_here(p, i));
    CHECK(open_there(p, 5) == -EEXIST);
    CHECK(!open_there(q, 5)); // another profile
    for (uintptr_t i = 0; i < 400; i++)
        CHECK(!fscope_profile_remove(p, (const void *)(i * 2)));
    CHECK(fscope_profile_remove(p, (const void *)2) == -ENOENT && fscope_profile_count(p) == 600);
    CHECK(!open_there(p, 2) && fscope_profile_count(p) == 601);
    CHECK(!fscope_save(out));
    for (int i = 3; i < 64; i++) {
        snprintf(name, sizeof name, "many%d", i);
        CHECK(fscope_profile_get(name));
    }
    CHECK(!fscope_profile_get("one more"));
    printf("want custom app.conns 1000 400 1 0\nwant custom app.files 1 0\n");
}

static void custom_full(void)
{
    struct fscope_profile *p = fscope_profile_get("full");
    for (uintptr_t i = 0; i < 65536; i++)
        CHECK(!open_here(p, i * 64));
    CHECK(open_here(p, 1) == -ENOSPC);
    for (uintptr_t round = 0; round < 3; round++) // what was removed makes room
        for (uintptr_t i = 0; i < 65536; i++) {
            CHECK(!fscope_profile_remove(p, (const void *)(round << 32 | i * 64)));
            CHECK(!open_here(p, (round + 1) << 32 | i * 64));
        }
    CHECK(fscope_profile_count(p) == 65536);
    CHECK(!fscope_save(out));
    printf("want custom full %d %d\n", 4 * 65536, 3 * 65536);
}

enum { CUSTOM_THREADS = 4, CUSTOM_OBJECTS = 2000, CUSTOM_ROUNDS = 20 };

static struct fscope_profile *shared;

static void *custom_churn(void *arg)
{
    uintptr_t base = (uintptr_t)arg * CUSTOM_OBJECTS;
    for (int r = 0; r < CUSTOM_ROUNDS; r++) {
        for (uintptr_t i = 0; i < CUSTOM_OBJECTS; i++)
            CHECK(!open_here(shared, base + i));
        for (uintptr_t i = 0; i < CUSTOM_OBJECTS; i++)
            if (r + 1 < CUSTOM_ROUNDS || i % 2)
                CHECK(!fscope_profile_remove(shared, (const void *)(base + i)));
    }
    return NULL;
}

static void custom_threads(void)
{
    pthread_t t[CUSTOM_THREADS];
    const int added = CUSTOM_THREADS * CUSTOM_OBJECTS * CUSTOM_ROUNDS,
              stay = CUSTOM_THREADS * CUSTOM_OBJECTS / 2;
    shared = fscope_profile_get("shared");
    for (uintptr_t i = 0; i < CUSTOM_THREADS; i++)
        CHECK(!pthread_create(&t[i], NULL, custom_churn, (void *)i));
    for (int i = 0; i < CUSTOM_THREADS; i++)
        pthread_join(t[i], NULL);
    CHECK(fscope_profile_count(shared) == (uint64_t)stay);
    CHECK(!fscope_save(out));
    printf("want custom shared %d %d\n", added, added - stay);
}

static void custom_fork(void)
{
    int status;
    char path[1000];
    struct fscope_profile *p = fscope_profile_get("app.conns");
    snprintf(path, sizeof path, "%s.child", out);
    CHECK(!open_here(p, 1) && !open_here(p, 2));
    pid_t pid = fork();
    if (!pid) {
        CHECK(fscope_profile_count(p) == 0);
        CHECK(fscope_profile_remove(p, (const void *)1) == -ENOENT);
        CHECK(!open_here(p, 1) && fscope_profile_count(p) == 1);
        CHECK(!fscope_save(path));
        _exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid && !status && fscope_profile_count(p) == 2);
    CHECK(!fscope_profile_remove(p, (const void *)1));
    CHECK(!fscope_save(out));
    printf("want custom app.conns 2 1\n");
}

// No signal may be queued, so no timer can be had: nothing is left half started.
static void no_timers(void)
{
    struct rlimit none, some;
    CHECK(!getrlimit(RLIMIT_SIGPENDING, &some));
    none = (struct rlimit){0, some.rlim_max};
    CHECK(!setrlimit(RLIMIT_SIGPENDING, &none));
    CHECK(fscope_cpu_start(NULL) == -EAGAIN);
    CHECK(fscope_cpu_stop() == -EINVAL);
    CHECK(!setrlimit(RLIMIT_SIGPENDING, &some));
    CHECK(!fscope_cpu_start(NULL));
    burn_ms(200);
    CHECK(!fscope_cpu_stop());
    CHECK(!fscope_save(out));
}

// --- A forked child goes on with what its parent records, and may begin by itself.

static void fork_cpu(void)
{
    int status;
    char path[1000];
    struct fscope_cpu_options o = {sizeof o, 999, 0};
    snprintf(path, sizeof path, "%s.child", out);
    CHECK(!fscope_cpu_start(&o));
    pid_t pid = fork();
    if (!pid) {
        CHECK(fscope_cpu_start(&o) == -EALREADY);
        burn_ms(200);
        CHECK(!fscope_cpu_stop());
        burn_ms(200);
        CHECK(!fscope_save(path));
        _exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid && !status);
    CHECK(!fscope_cpu_stop());
    pid = fork();
    if (!pid) { // nothing is sampled here
        burn_ms(200);
        CHECK(fscope_cpu_stop() == -EINVAL);
        _exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid && !status);
    CHECK(!fscope_save(out));
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } cases[] = {
        {"heap_exact", heap_exact},
        {"heap_sampled", heap_sampled},
        {"exact_comes_first", exact_comes_first},
        {"locks", locks},
        {"order", order},
        {"order_without_room", order_without_room},
        {"labels", labels},
        {"labels_cpu", labels_cpu},
        {"labels_fork", labels_fork},
        {"custom", custom},
        {"custom_full", custom_full},
        {"custom_threads", custom_threads},
        {"custom_fork", custom_fork},
        {"fork_cpu", fork_cpu},
        {"no_timers", no_timers},
    };
    if (argc < 3)
        return 2;
    out = argv[2];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (!strcmp(argv[1], cases[i].name)) {
            cases[i].run();
            puts("ok");
            return 0;
        }
    return 2;
}
