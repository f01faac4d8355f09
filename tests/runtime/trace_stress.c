// SPDX-License-Identifier: MIT
//
// All that an execution trace can tell, at once and under random timing, while traces are started and stopped at random
// moments and generations last 5 to 20 ms. Whoever records it (tests/conformance/trace_stress.py) asks Go's reader
// whether the traces are valid.
//
//     trace_stress SEED MILLISECONDS [quiet]    quiet: traces are not started and stopped from here

#include "emit/emit.h"
#include "fiberscope/chan.h"
#include "fiberscope/io.h"
#include "fiberscope/profile.h"
#include "fiberscope/sync.h"
#include "fiberscope/trace.h"
#include "tests/runtime/check.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { US = 1000, MS = 1000000, CHANNELS = 4 };

static struct {
    struct fib_chan *channels[CHANNELS];
    struct fib_mutex mutex;
    struct fib_rwmutex rw;
    struct fib_cond cond;
    struct fib_semaphore semaphore;
    pthread_mutex_t plain_mutex;
    pthread_cond_t plain_cond;
    int pipe[2], sockets[2];
    _Atomic uint32_t children;
    uint64_t seed;
    _Atomic uint64_t number; // of seeds given out
    long length_ms;
} s = {.plain_mutex = PTHREAD_MUTEX_INITIALIZER, .plain_cond = PTHREAD_COND_INITIALIZER};

static uint32_t next(uint64_t *random)
{
    *random = *random * 6364136223846793005 + 1442695040888963407;
    return (uint32_t)(*random >> 33);
}

static uint64_t own_seed(void)
{
    uint64_t n = atomic_fetch_add(&s.number, 1);
    return (s.seed * 1000003 + n) * 0x9E3779B97F4A7C15;
}

// Not a libc call that the agent or the runtime knows.
static void nap(uint32_t us)
{
    poll(NULL, 0, (int)(us / 1000));
    struct timespec t = {0, (long)(us % 1000) * US};
    nanosleep(&t, NULL);
}

static void burn(uint64_t *random)
{
    for (volatile uint32_t i = 0, n = next(random) % 400000; i < n; i = i + 1)
        ;
}

// --- Waits. All with a limit, so that nobody waits for ever.

static int64_t limit(uint64_t *random)
{
    return next(random) % (2 * MS);
}

static struct fib_chan *channel(uint64_t *random)
{
    return s.channels[next(random) % CHANNELS];
}

static void wait_channel(uint64_t *random)
{
    int n = (int)next(random);
    if (n & 1)
        fib_chan_send_for(channel(random), &n, limit(random));
    else
        fib_chan_recv_for(channel(random), &n, limit(random));
}

static void wait_select(uint64_t *random)
{
    int sent = 1, got;
    struct fib_case cases[] = {
        FIB_RECV(channel(random), &got),
        FIB_SEND(channel(random), &sent),
        FIB_RECV(channel(random), &got),
    };
    fib_select_for(cases, 1 + next(random) % 3, limit(random));
}

static void wait_lock(uint64_t *random)
{
    if (fib_mutex_lock_for(&s.mutex, limit(random)))
        return;
    if (next(random) % 4 == 0)
        fib_yield();
    if (next(random) % 8 == 0)
        fib_cond_wait_for(&s.cond, &s.mutex, limit(random));
    fib_cond_signal(&s.cond);
    fib_mutex_unlock(&s.mutex);
}

static void wait_rwlock(uint64_t *random)
{
    if (next(random) % 4) {
        fib_rwmutex_rlock(&s.rw);
        fib_yield();
        fib_rwmutex_runlock(&s.rw);
    } else {
        fib_rwmutex_lock(&s.rw);
        fib_sleep(next(random) % (50 * US));
        fib_rwmutex_unlock(&s.rw);
    }
}

static void wait_semaphore(uint64_t *random)
{
    int64_t n = 1 + next(random) % 3;
    if (!fib_semaphore_acquire_for(&s.semaphore, n, limit(random))) {
        fib_yield();
        fib_semaphore_release(&s.semaphore, n);
    }
}

static void wait_io(uint64_t *random)
{
    char bytes[64] = {0};
    int fd = s.sockets[next(random) % 2];
    switch (next(random) % 4) {
    case 0: fib_write(s.pipe[1], bytes, sizeof bytes); break;
    case 1:
        fib_set_deadline(s.pipe[0], FIB_READ, fib_now_ns() + limit(random));
        fib_read(s.pipe[0], bytes, sizeof bytes);
        break;
    case 2:
        fib_set_deadline(fd, FIB_READ | FIB_WRITE, fib_now_ns() + limit(random));
        fib_read(fd, bytes, sizeof bytes);
        break;
    default: fib_write(fd, bytes, 1 + next(random) % sizeof bytes);
    }
}

static void call_blocking(uint64_t *random)
{
    if (next(random) % 2) {
        fib_blocking_enter();
        nap(next(random) % 3000);
        fib_blocking_exit();
    } else {
        nap(next(random) % 3000);
    }
}

static void lock_plainly(uint64_t *random)
{
    pthread_mutex_lock(&s.plain_mutex);
    burn(random);
    pthread_cond_broadcast(&s.plain_cond);
    pthread_mutex_unlock(&s.plain_mutex);
}

// --- Fibers that come and go.

static void child(void *arg)
{
    uint64_t random = (uint64_t)(uintptr_t)arg;
    fib_set_name("child");
    if (next(&random) % 2)
        fib_sleep(next(&random) % MS);
    if (next(&random) % 4 == 0)
        burn(&random);
    atomic_fetch_sub(&s.children, 1);
}

static bool spawn_one(struct fib *f)
{
    if (atomic_fetch_add(&s.children, 1) > 50) {
        atomic_fetch_sub(&s.children, 1);
        return false;
    }
    CHECK(!fib_go(f, child, (void *)(uintptr_t)own_seed()));
    return true;
}

static void spawn(uint64_t *random)
{
    struct fib f;
    if (spawn_one(&f) && next(random) % 2)
        fib_join_for(f, limit(random));
}

// A fiber that is in a blocking call has no processor when it starts another.
static void spawn_in_call(uint64_t *random)
{
    fib_blocking_enter();
    nap(next(random) % 500);
    struct fib f;
    spawn_one(&f);
    fib_blocking_exit();
}

static void hold_thread(uint64_t *random)
{
    bool is_pinned = next(random) % 2;
    is_pinned ? fib_pin() : fib_lock_thread();
    burn(random);
    if (!is_pinned)
        wait_channel(random);
    is_pinned ? fib_unpin() : fib_unlock_thread();
}

static void on_timer(void *arg)
{
    int n = 0;
    fib_chan_send_for(arg, &n, 0);
}

static void use_timer(uint64_t *random)
{
    struct fib_timer t = {0};
    int64_t period = next(random) % 2 ? 100 * US : 0;
    fib_timer_start(&t, limit(random) / 4, period, on_timer, channel(random));
    fib_sleep(limit(random));
    if (next(random) % 2)
        fib_timer_reset(&t, limit(random) / 4);
    fib_timer_stop(&t);
}

// --- What the program says of itself. Regions that end out of turn are refused.

static void speak(uint64_t *random)
{
    uint64_t task = fscope_task_begin("request", next(random) % 8 == 0 ? 77 : 0);
    struct fscope_region outer = fscope_region_begin(task, "outer");
    struct fscope_region inner = fscope_region_begin(task, "inner");
    fscope_log(task, "number", "one");
    if (next(random) % 2)
        fib_yield();
    if (next(random) % 4 == 0 && inner.id && outer.session == inner.session) {
        int rc = fscope_region_end(&outer);
        CHECK(rc == -EINVAL || rc == 0, "%d", rc);
    }
    if (next(random) % 2)
        wait_channel(random);
    fscope_region_end(&inner);
    fscope_region_end(&outer);
    if (next(random) % 8)
        fscope_task_end(task);
}

static void speak_labelled(uint64_t *random)
{
    int32_t before = fib_label_set("kind", next(random) % 2 ? "even" : "odd");
    fib_yield();
    speak(random);
    fib_labels_restore(before);
}

static void change_procs(uint64_t *random)
{
    static uint32_t most;
    if (next(random) % 64)
        return;
    if (!most)
        most = fib_procs(0);
    fib_procs(1 + next(random) % most);
}

static void worker(void *arg)
{
    static void (*const steps[])(uint64_t *) = {
        wait_channel,  wait_channel,  wait_select, wait_lock,    wait_rwlock,    wait_semaphore,
        wait_io,       call_blocking, burn,        lock_plainly, spawn,          spawn,
        spawn_in_call, hold_thread,   use_timer,   speak,        speak_labelled, change_procs,
    };
    uint64_t random = own_seed();
    (void)arg;
    for (;;) {
        steps[next(&random) % (sizeof steps / sizeof *steps)](&random);
        if (next(&random) % 2)
            fib_yield();
    }
}

// --- Plain threads.

static void *short_thread(void *arg)
{
    uint64_t random = own_seed();
    (void)arg;
    speak(&random);
    nap(next(&random) % 500);
    return NULL;
}

static void *plain_thread(void *arg)
{
    uint64_t random = own_seed();
    (void)arg;
    for (;;) {
        pthread_t t;
        struct timespec until;
        switch (next(&random) % 6) {
        case 0: spawn(&random); break;
        case 1: wait_channel(&random); break;
        case 2: speak(&random); break;
        case 3:
            pthread_mutex_lock(&s.plain_mutex);
            clock_gettime(CLOCK_REALTIME, &until);
            until.tv_nsec = (until.tv_nsec + MS) % 1000000000;
            pthread_cond_timedwait(&s.plain_cond, &s.plain_mutex, &until);
            pthread_mutex_unlock(&s.plain_mutex);
            break;
        case 4:
            CHECK(!pthread_create(&t, NULL, short_thread, NULL));
            CHECK(!pthread_join(t, NULL));
            break;
        default: wait_lock(&random);
        }
        nap(next(&random) % 1000);
    }
    return NULL;
}

static void *advance_thread(void *arg)
{
    uint64_t random = own_seed();
    (void)arg;
    for (;;) {
        nap(5000 + next(&random) % 15000);
        emit_advance(); // there may be nothing to advance
    }
    return NULL;
}

// --- Starting and stopping.

static void toggle(uint64_t *random, void (*pause)(uint64_t *random))
{
    for (;;) {
        int rc = fscope_trace_stop();
        CHECK(!rc || rc == -EINVAL, "%d", rc);
        if (next(random) % 2)
            pause(random);
        rc = fscope_trace_start(NULL);
        CHECK(!rc || rc == -EALREADY, "%d", rc);
        for (uint32_t n = next(random) % 20; n; n--)
            pause(random);
    }
}

static void pause_thread(uint64_t *random)
{
    nap(next(random) % 10000);
}

static void pause_fiber(uint64_t *random)
{
    fib_sleep(next(random) % (10 * MS));
}

static void *toggle_thread(void *arg)
{
    uint64_t random = own_seed();
    (void)arg;
    toggle(&random, pause_thread);
    return NULL;
}

static void toggle_fiber(void *arg)
{
    uint64_t random = own_seed();
    (void)arg;
    toggle(&random, pause_fiber);
}

static void start_thread(void *(*fn)(void *))
{
    pthread_t t;
    CHECK(!pthread_create(&t, NULL, fn, NULL));
}

static void run(void *arg)
{
    uint64_t random = own_seed();
    for (int i = 0; i < CHANNELS; i++)
        s.channels[i] = fib_chan_new(sizeof(int), (size_t)i);
    fib_semaphore_init(&s.semaphore, 4);
    CHECK(!pipe2(s.pipe, O_NONBLOCK) && !socketpair(AF_UNIX, SOCK_STREAM, 0, s.sockets));
    start_thread(advance_thread);
    for (int i = 0; i < 2; i++)
        start_thread(plain_thread);
    for (uint32_t n = 10 + next(&random) % 40; n; n--)
        CHECK(!fib_go(NULL, worker, NULL));
    if (!arg && next(&random) % 2)
        start_thread(toggle_thread);
    else if (!arg)
        CHECK(!fib_go(NULL, toggle_fiber, NULL));
    fib_sleep(s.length_ms * MS);
}

int main(int argc, char **argv)
{
    CHECK(argc > 2, "trace_stress SEED MILLISECONDS [quiet]");
    s.seed = strtoull(argv[1], NULL, 10);
    s.length_ms = atol(argv[2]);
    CHECK(!fib_main(run, argc > 3 ? argv[3] : NULL));
    return 0;
}
