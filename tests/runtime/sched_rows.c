// SPDX-License-Identifier: MIT
//
// The scheduler keeps what fiber.h and Go's own tests of it (proc_test.go, timer tests of package time)
// say: fibers run, end, wait, sleep, are tied to threads, leave blocking calls to others, are preempted.

#include "tests/runtime/rows.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static _Atomic long count;

static pid_t thread_id(void)
{
    return (pid_t)syscall(SYS_gettid);
}

static void increment(void *arg)
{
    (void)arg;
    atomic_fetch_add(&count, 1);
}

static int64_t wall_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void join_returns_after_the_end(int n)
{
    atomic_store(&count, 0);
    struct fib *f = calloc((size_t)n, sizeof *f);
    for (int i = 0; i < n; i++)
        CHECK(!fib_go(&f[i], increment, NULL));
    for (int i = 0; i < n; i++)
        CHECK(!fib_join(f[i]));
    CHECK(atomic_load(&count) == n);
    for (int i = 0; i < n; i++)
        CHECK(!fib_join(f[i]) && (!i || f[i].id > 0)); // long gone: at once
    free(f);
}

static void join_self(void *arg)
{
    (void)arg;
    CHECK(fib_join(fib_self()) == -EDEADLK);
}

static void joining_oneself_is_refused(int cap)
{
    (void)cap;
    fib_join(go(join_self, NULL));
}

static void ids_are_never_used_again(int cap)
{
    (void)cap;
    uint64_t last = 0;
    for (int i = 0; i < 1000; i++) {
        struct fib f = go(increment, NULL);
        CHECK(f.id && f.id != last);
        last = f.id;
        fib_join(f);
        struct fib_info info = {.size = sizeof info};
        CHECK(fib_info_read(f, &info) == -ESRCH);
    }
}

static void wait_long(void *arg)
{
    fib_sleep((int64_t)(intptr_t)arg);
}

static void a_join_has_a_limit(int cap)
{
    (void)cap;
    int64_t from = fib_now_ns(); // before it begins, perhaps elsewhere
    struct fib f = go(wait_long, (void *)(intptr_t)(30 * MS));
    CHECK(fib_join_for(f, 0) == -ETIMEDOUT);
    CHECK(fib_join_for(f, 5 * MS) == -ETIMEDOUT && fib_now_ns() - from >= 5 * MS);
    CHECK(!fib_join_for(f, 10000 * (int64_t)MS));
    CHECK(fib_now_ns() - from >= 30 * MS);
}

static _Atomic int order[8], ended;

static void sleep_and_note(void *arg)
{
    int k = (int)(intptr_t)arg;
    int64_t from = fib_now_ns();
    fib_sleep((int64_t)k * 20 * MS);
    CHECK(fib_now_ns() - from >= (int64_t)k * 20 * MS);
    order[atomic_fetch_add(&ended, 1)] = k;
}

static void sleepers_wake_in_order(int cap)
{
    (void)cap;
    struct fib f[5];
    atomic_store(&ended, 0);
    for (int i = 0; i < 5; i++)
        f[i] = go(sleep_and_note, (void *)(intptr_t)(5 - i));
    for (int i = 0; i < 5; i++)
        fib_join(f[i]);
    for (int i = 0; i < 5; i++)
        CHECK(order[i] == i + 1);
}

static void timers_fire_once_and_can_be_stopped(int cap)
{
    (void)cap;
    struct fib_timer a = {0}, b = {0}, c = {0};
    atomic_store(&count, 0);
    CHECK(!fib_timer_stop(&a));
    CHECK(!fib_timer_start(&a, 10 * MS, 0, increment, NULL));
    CHECK(!fib_timer_start(&b, 10 * MS, 0, increment, NULL));
    CHECK(fib_timer_stop(&b) && !fib_timer_stop(&b));
    CHECK(!fib_timer_start(&c, 3600000000000, 0, increment, NULL));
    CHECK(fib_timer_reset(&c, 5 * MS));
    fib_sleep(100 * MS);
    CHECK(atomic_load(&count) == 2);
    CHECK(!fib_timer_stop(&a) && !fib_timer_reset(&a, MS));
    fib_sleep(50 * MS);
    CHECK(atomic_load(&count) == 3);
}

static void a_periodic_timer_goes_on(int cap)
{
    (void)cap;
    struct fib_timer t = {0};
    atomic_store(&count, 0);
    fib_timer_start(&t, 5 * MS, 5 * MS, increment, NULL);
    for (int i = 0; i < 400 && atomic_load(&count) < 5; i++)
        fib_sleep(5 * MS);
    CHECK(fib_timer_stop(&t));
    fib_sleep(20 * MS); // what had fired may still have to run
    long n = atomic_load(&count);
    CHECK(n >= 5);
    fib_sleep(30 * MS);
    CHECK(atomic_load(&count) == n);
}

static void stay(void *arg)
{
    bool by_pin = arg;
    by_pin ? fib_pin() : fib_lock_thread();
    pid_t tid = thread_id();
    for (int i = 0; i < 60; i++) {
        if (i % 3)
            fib_yield();
        else
            fib_sleep(MS / 20);
        CHECK(thread_id() == tid);
    }
    by_pin ? fib_unpin() : fib_unlock_thread();
    fib_yield();
    atomic_fetch_add(&count, 1);
}

static void ties_to_the_thread_hold(int by_pin)
{
    struct fib f[20];
    atomic_store(&count, 0);
    for (int i = 0; i < 20; i++)
        f[i] = go(stay, by_pin ? f : NULL);
    for (int i = 0; i < 20; i++)
        fib_join(f[i]);
    CHECK(atomic_load(&count) == 20);
}

static _Atomic pid_t its_thread;

static void end_locked(void *arg)
{
    (void)arg;
    fib_lock_thread();
    atomic_store(&its_thread, thread_id());
}

static void a_fiber_that_ends_locked_takes_its_thread(int cap)
{
    (void)cap;
    fib_join(go(end_locked, NULL));
    for (int i = 0; i < 1000 && !syscall(SYS_tgkill, getpid(), atomic_load(&its_thread), 0); i++)
        fib_sleep(MS);
    CHECK(syscall(SYS_tgkill, getpid(), atomic_load(&its_thread), 0) && errno == ESRCH);
}

static void block(void *arg)
{
    (void)arg;
    struct timespec t = {0, 50 * MS};
    fib_blocking_enter();
    fib_blocking_enter();
    clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
    fib_blocking_exit();
    fib_blocking_exit();
}

static void blocking_calls_leave_the_processor(int cap)
{
    (void)cap;
    struct fib f[20];
    int64_t from = wall_ns();
    for (int i = 0; i < 20; i++)
        f[i] = go(block, NULL);
    for (int i = 0; i < 20; i++)
        fib_join(f[i]);
    int64_t took = wall_ns() - from;
    CHECK(took < 800 * (int64_t)MS, "20 calls of 50 ms took %lld ms", (long long)(took / MS));
}

static _Atomic bool stop;

static void spin(void *arg)
{
    (void)arg;
    while (!atomic_load(&stop))
        atomic_fetch_add(&count, 1);
}

static void fibers_that_never_wait_are_preempted(int cap)
{
    (void)cap;
    atomic_store(&stop, false);
    struct fib f[8];
    for (int i = 0; i < 8; i++)
        f[i] = go(spin, NULL);
    struct fib_info info = {.size = sizeof info};
    uint64_t preempted = 0;
    for (int round = 0; round < 500 && !preempted; round++) {
        fib_sleep(20 * MS); // with all processors taken: comes back only if somebody is preempted
        for (int i = 0; i < 8; i++) {
            CHECK(!fib_info_read(f[i], &info));
            preempted += info.preempted;
        }
    }
    atomic_store(&stop, true);
    for (int i = 0; i < 8; i++)
        fib_join(f[i]);
    CHECK(preempted > 0);
}

// With as many that compute as there are processors, nobody waits in a queue: the timer alone is due.
static void timers_fire_beside_fibers_that_compute(int cap)
{
    (void)cap;
    uint32_t n = fib_procs(0);
    struct fib f[16];
    atomic_store(&stop, false);
    for (uint32_t i = 0; i < n && i < 16; i++)
        f[i] = go(spin, NULL);
    fib_sleep(100 * MS); // they have all begun
    int64_t from = wall_ns();
    fib_sleep(20 * MS);
    CHECK(wall_ns() - from < 2000 * (int64_t)MS);
    atomic_store(&stop, true);
    for (uint32_t i = 0; i < n && i < 16; i++)
        fib_join(f[i]);
}

static struct fib_chan *ping, *pong;

static void wake_each_other(void *arg)
{
    struct fib_chan *in = arg ? ping : pong, *out = arg ? pong : ping;
    if (arg)
        send(out, 1);
    while (fib_chan_recv(in, NULL) && !atomic_load(&stop))
        send(out, 1);
    if (!arg || atomic_load(&stop)) { // lets the other one go
        int64_t value = 1;
        fib_chan_send_for(out, &value, 0);
    }
}

static void two_that_wake_each_other_leave_others_their_turn(int cap)
{
    (void)cap;
    atomic_store(&stop, false);
    ping = chan_of(1);
    pong = chan_of(1);
    struct fib a = go(wake_each_other, NULL), b = go(wake_each_other, &stop);
    for (int i = 0; i < 20; i++) {
        fib_yield();
        fib_sleep(MS);
    }
    atomic_store(&stop, true);
    fib_join(a);
    fib_join(b);
    fib_chan_free(ping);
    fib_chan_free(pong);
}

static _Atomic long with_it_off;

static void spin_alone(void *arg)
{
    (void)arg;
    fib_preempt_disable();
    for (int64_t end = wall_ns() + 100 * (int64_t)MS; wall_ns() < end;)
        ;
    struct fib_info info = {.size = sizeof info};
    CHECK(!fib_info_read(fib_self(), &info));
    atomic_store(&with_it_off, (long)info.preempted);
    fib_preempt_enable();
}

static void preemption_can_be_turned_off(int cap)
{
    (void)cap;
    struct fib f[4];
    for (int i = 0; i < 4; i++)
        f[i] = go(spin_alone, NULL);
    for (int i = 0; i < 4; i++)
        fib_join(f[i]);
    CHECK(atomic_load(&with_it_off) == 0);
}

static void keep_errno(void *arg)
{
    int mine = 1 + (int)(intptr_t)arg;
    for (int i = 0; i < 300; i++) {
        *fib_errno_location() = mine;
        fib_yield();
        CHECK(*fib_errno_location() == mine);
    }
}

static void errno_is_the_fibers(int cap)
{
    (void)cap;
    struct fib f[50];
    for (int i = 0; i < 50; i++)
        f[i] = go(keep_errno, (void *)(intptr_t)i);
    for (int i = 0; i < 50; i++)
        fib_join(f[i]);
}

static void use_stack(void *arg)
{
    volatile char big[200000];
    for (size_t i = 0; i < sizeof big; i += 512)
        big[i] = 1;
    fib_yield();
    for (size_t i = 0; i < sizeof big; i += 512)
        CHECK(big[i] == 1);
    *(struct fib_info *)arg = (struct fib_info){.size = sizeof(struct fib_info)};
    CHECK(!fib_info_read(fib_self(), arg));
}

static void stacks_have_their_size(int cap)
{
    (void)cap;
    struct fib_info info;
    fib_join(go(use_stack, &info));
    CHECK(info.stack_bytes == 256 << 10);
    CHECK(info.stack_used_bytes >= 200000 && info.stack_used_bytes <= 256 << 10);
    struct fib_go_options o = {.size = sizeof o, .stack_bytes = 1000000, .name = "wide"};
    struct fib f;
    CHECK(!fib_go_with(&f, &o, use_stack, &info) && !fib_join(f));
    CHECK(info.stack_bytes == 1 << 20 && !strcmp(info.name, "wide"));
}

static void look_at_labels(void *arg)
{
    *(int32_t *)arg = fib_label_set("k", NULL); // what it was
}

static void labels_are_inherited_and_restored(int cap)
{
    (void)cap;
    int32_t none = fib_label_set("route", "/a");
    int32_t a = fib_label_set("route", "/b");
    CHECK(none == 0 && a > 0);
    int32_t theirs = 0;
    fib_join(go(look_at_labels, &theirs));
    int32_t b = fib_label_set("route", "/a");
    CHECK(theirs == b && b != a);
    CHECK(fib_label_set("x", "y") == a); // the same labels are the same set
    fib_labels_restore(none);
    CHECK(fib_label_set("route", NULL) == 0);
}

static void nested(void *arg)
{
    long depth = (long)(intptr_t)arg;
    struct fib a, b;
    if (!depth) {
        atomic_fetch_add(&count, 1);
        return;
    }
    CHECK(!fib_go(&a, nested, (void *)(intptr_t)(depth - 1)));
    CHECK(!fib_go(&b, nested, (void *)(intptr_t)(depth - 1)));
    fib_join(a);
    fib_join(b);
}

static void trees_of_fibers_end(int cap)
{
    (void)cap;
    atomic_store(&count, 0);
    intptr_t depth = 0;
    while (check_rounds(4096) >> (depth + 1))
        depth++;
    fib_join(go(nested, (void *)depth));
    CHECK(atomic_load(&count) == 1 << depth);
}

static void change_procs(int cap)
{
    (void)cap;
    uint32_t was = fib_procs(0);
    for (int i = 0; i < 20; i++) {
        fib_procs(1 + (uint32_t)i % 4);
        trees_of_fibers_end(0);
    }
    fib_procs(was);
    CHECK(rows_are_seeded || fib_procs(0) == was);
}

static const int numbers[] = {1, 300, 20000, -1}, both[] = {0, 1, -1};

static const struct row rows[] = {
    {"join returns after the end", "fiber.h", join_returns_after_the_end, numbers},
    {"joining oneself is refused", "fiber.h", joining_oneself_is_refused, NULL},
    {"ids are never used again", "fiber.h", ids_are_never_used_again, NULL},
    {"a join has a limit", "fiber.h", a_join_has_a_limit, NULL},
    {"sleepers wake in order", "sleep_test.go", sleepers_wake_in_order, NULL},
    {"timers fire once and can be stopped", "sleep_test.go, tick_test.go",
     timers_fire_once_and_can_be_stopped, NULL},
    {"a periodic timer goes on", "tick_test.go", a_periodic_timer_goes_on, NULL},
    {"ties to the thread hold", "proc_test.go", ties_to_the_thread_hold, both},
    {"errno is the fiber's", "fiber.h", errno_is_the_fibers, NULL},
    {"stacks have their size", "fiber.h", stacks_have_their_size, NULL},
    {"labels are inherited and restored", "pprof/label_test.go", labels_are_inherited_and_restored,
     NULL},
    {"trees of fibers end", "proc_test.go", trees_of_fibers_end, NULL},
    {"procs can be changed", "proc_test.go", change_procs, NULL},
};

// In real time: not for the deterministic scheduler.
static const struct row timed_rows[] = {
    {"a fiber that ends locked takes its thread", "LockOSThread",
     a_fiber_that_ends_locked_takes_its_thread, NULL},
    {"blocking calls leave the processor", "proc_test.go", blocking_calls_leave_the_processor,
     NULL},
    {"fibers that never wait are preempted", "proc_test.go", fibers_that_never_wait_are_preempted,
     NULL},
    {"timers fire beside fibers that compute", "sleep_test.go",
     timers_fire_beside_fibers_that_compute, NULL},
    {"two that wake each other leave others their turn", "TestPingPongHog",
     two_that_wake_each_other_leave_others_their_turn, NULL},
    {"preemption can be turned off", "fiber.h", preemption_can_be_turned_off, NULL},
};

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "timed")) {
        argv[1] = argv[0];
        return rows_run(timed_rows, sizeof timed_rows / sizeof *timed_rows, argc - 1, argv + 1);
    }
    return rows_run(rows, sizeof rows / sizeof *rows, argc, argv);
}
