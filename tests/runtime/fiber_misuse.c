// SPDX-License-Identifier: MIT
//
// Bad use of what fiber.h names aborts, and says which call and which rule; and what looks like it does not.

#include "fiberscope/chan.h"
#include "fiberscope/io.h"
#include "fiberscope/sync.h"
#include "tests/runtime/misuse.h"

#include <stdatomic.h>
#include <string.h>

enum { MS = 1000000 }; // ns

// --- Ties, as far as fibers have them.

static void unpin_unpinned(void *arg)
{
    (void)arg;
    fib_unpin();
}

static void unpin_twice(void *arg)
{
    (void)arg;
    fib_pin();
    fib_pin();
    fib_unpin();
    fib_unpin();
    fib_yield();
    fib_unpin();
}

static void pin_without_end(void *arg)
{
    (void)arg;
    for (int i = 0; i < 256; i++)
        fib_pin();
}

static void pin(void *arg)
{
    (void)arg;
    fib_pin();
}

static void lock(void *arg)
{
    (void)arg;
    fib_lock_thread();
}

static void unlock_unlocked(void *arg)
{
    (void)arg;
    fib_unlock_thread();
}

static void unlock_a_pinned_one(void *arg)
{
    (void)arg;
    fib_pin();
    fib_unlock_thread();
}

static void enable_enabled(void *arg)
{
    (void)arg;
    fib_preempt_disable();
    fib_preempt_enable();
    fib_preempt_enable();
}

static void end(void *arg)
{
    (void)arg;
    fib_exit();
}

// --- Blocking calls.

static void exit_without_enter(void *arg)
{
    (void)arg;
    fib_blocking_exit();
}

static void exit_twice(void *arg)
{
    (void)arg;
    fib_blocking_enter();
    fib_blocking_enter();
    for (int i = 0; i < 3; i++)
        fib_blocking_exit();
}

static void end_inside(void *arg)
{
    (void)arg;
    fib_blocking_enter();
}

static void exit_inside(void *arg)
{
    (void)arg;
    fib_blocking_enter();
    fib_exit();
}

static void yield_inside(void *arg)
{
    (void)arg;
    fib_blocking_enter();
    fib_yield();
}

static void sleep_inside(void *arg)
{
    (void)arg;
    fib_blocking_enter();
    fib_sleep(MS);
}

static void sleep_0_inside(void *arg)
{
    (void)arg;
    fib_blocking_enter();
    fib_sleep(0);
}

static void nothing(void *arg)
{
    (void)arg;
}

static void receive_inside(void *arg)
{
    (void)arg;
    fib_blocking_enter();
    struct fib f;
    CHECK(!fib_go(&f, lock, NULL)); // may run meanwhile; but it may not be waited for
    struct fib_chan *c = fib_chan_new(0, 0);
    fib_chan_recv(c, NULL);
}

static void lock_mutex(void *m)
{
    fib_mutex_lock(m);
}

static void lock_inside(void *arg)
{
    static struct fib_mutex m;
    (void)arg;
    struct fib f;
    CHECK(!fib_go(&f, lock_mutex, &m));
    fib_join(f);
    fib_blocking_enter();
    fib_mutex_lock(&m);
}

static void read_inside(void *arg)
{
    int fds[2];
    char byte;
    (void)arg;
    CHECK(!pipe(fds));
    fib_blocking_enter();
    fib_read(fds[0], &byte, 1);
}

// --- Timers.

static struct fib_timer shared;

static void reset_never_started(void *arg)
{
    (void)arg;
    struct fib_timer t = {0};
    CHECK(!fib_timer_stop(&t));
    fib_timer_reset(&t, MS);
}

static struct fib_timer *no_timer(void)
{
    memset(&shared, 0xA5, sizeof shared);
    return &shared;
}

static void start_no_timer(void *arg)
{
    (void)arg;
    fib_timer_start(no_timer(), MS, 0, nothing, NULL);
}

static void stop_no_timer(void *arg)
{
    (void)arg;
    fib_timer_stop(no_timer());
}

static void reset_no_timer(void *arg)
{
    (void)arg;
    fib_timer_reset(no_timer(), MS);
}

static void start_without_function(void *arg)
{
    (void)arg;
    fib_timer_start(&shared, MS, 0, NULL, NULL);
}

static void stop_a_copy(void *arg)
{
    (void)arg;
    fib_timer_start(&shared, 3600000 * (int64_t)MS, 0, nothing, NULL);
    struct fib_timer copy = shared;
    fib_timer_stop(&copy);
}

#ifndef CHECK_IS_TSAN
// Its memory serves something else before it has fired.
static void free_a_running_one(void *arg)
{
    (void)arg;
    struct fib_timer *t = calloc(1, sizeof *t);
    CHECK(t);
    fib_timer_start(t, 20 * MS, 0, nothing, NULL);
    memset(t, 0, sizeof *t);
    fib_sleep(1000 * MS);
}
#endif

static const char *const inside = "a fiber waits between fib_blocking_enter and exit";
static const char *const no_fiber = "the caller is no fiber";

// --- What is allowed.

static void start_a_copy_of_a_stopped_one(void)
{
    fib_timer_start(&shared, 3600000 * (int64_t)MS, 0, nothing, NULL);
    CHECK(fib_timer_stop(&shared) && !fib_timer_stop(&shared));
    struct fib_timer copy = shared;
    CHECK(!fib_timer_reset(&copy, 3600000 * (int64_t)MS));
    CHECK(fib_timer_stop(&copy));
    CHECK(!fib_timer_start(&copy, INT64_MAX, INT64_MAX, nothing, NULL)); // never, and not at once
    CHECK(fib_timer_reset(&copy, INT64_MAX));
    fib_sleep(MS);
    CHECK(fib_timer_stop(&copy));
}

static void set(void *arg)
{
    *(_Atomic bool *)arg = true;
}

// What waits for nobody may stand in a blocking call: starting, waking, unlocking with a hand-off.
static void wake_inside(void)
{
    static struct fib_mutex m;
    static struct fib_semaphore s;
    static _Atomic bool is_started;
    struct fib waiter, starter;
    fib_semaphore_init(&s, 1);
    fib_semaphore_acquire(&s, 1);
    fib_mutex_lock(&m);
    CHECK(!fib_go(&waiter, lock_mutex, &m));
    fib_sleep(3 * MS); // long enough for the mutex to be handed over
    fib_blocking_enter();
    CHECK(!fib_go(&starter, set, &is_started));
    fib_semaphore_release(&s, 1);
    fib_mutex_unlock(&m);
    struct fib_chan *c = fib_chan_new(0, 1);
    fib_chan_send(c, NULL);
    fib_blocking_exit();
    CHECK(!fib_join(starter) && is_started);
    CHECK(!fib_join(waiter) && fib_chan_recv(c, NULL));
    fib_chan_free(c);
}

static void allowed(void *arg)
{
    (void)arg;
    for (int i = 0; i < 255; i++)
        fib_pin();
    for (int i = 0; i < 255; i++)
        fib_unpin();
    start_a_copy_of_a_stopped_one();
    wake_inside();
    puts("ok: what is allowed");
}

static const struct misuse rows[] = {
    {"unpin of an unpinned one", unpin_unpinned, "fib_unpin", "the fiber is not pinned",
     MISUSE_IN_FIBER},
    {"unpin once more", unpin_twice, "fib_unpin", "the fiber is not pinned", MISUSE_IN_FIBER},
    {"pin without end", pin_without_end, "fib_pin", "pinned 255 times: an fib_unpin is missing",
     MISUSE_IN_FIBER},
    {"pin", pin, "fib_pin", no_fiber, MISUSE_IN_THREAD},
    {"unpin", unpin_unpinned, "fib_unpin", no_fiber, MISUSE_IN_THREAD},
    {"lock of the thread", lock, "fib_lock_thread", no_fiber, MISUSE_IN_THREAD},
    {"unlock of the thread", unlock_unlocked, "fib_unlock_thread", no_fiber, MISUSE_IN_THREAD},
    {"unlock of an unlocked thread", unlock_unlocked, "fib_unlock_thread",
     "the fiber is not locked to its thread", MISUSE_IN_FIBER},
    {"unlock where it is pinned", unlock_a_pinned_one, "fib_unlock_thread",
     "the fiber is not locked to its thread", MISUSE_IN_FIBER},
    {"preemption enabled once more", enable_enabled, "fib_preempt_enable",
     "preemption was not disabled", MISUSE_IN_FIBER},
    {"fib_exit", end, "fib_exit", no_fiber, MISUSE_IN_THREAD},

    {"blocking exit without enter", exit_without_enter, "fib_blocking_exit",
     "there was no fib_blocking_enter", MISUSE_IN_FIBER},
    {"blocking exit once more", exit_twice, "fib_blocking_exit", "there was no fib_blocking_enter",
     MISUSE_IN_FIBER},
    {"a fiber returns in a blocking call", end_inside, "fib_exit",
     "a fiber ends between fib_blocking_enter and exit", MISUSE_IN_FIBER},
    {"fib_exit in a blocking call", exit_inside, "fib_exit",
     "a fiber ends between fib_blocking_enter and exit", MISUSE_IN_FIBER},
    {"yield in a blocking call", yield_inside, "fib_yield", inside, MISUSE_IN_FIBER},
    {"sleep of 0 in a blocking call", sleep_0_inside, "fib_yield", inside, MISUSE_IN_FIBER},
    {"sleep in a blocking call", sleep_inside, "fib_blocking_enter", inside, MISUSE_IN_FIBER},
    {"receive in a blocking call", receive_inside, "fib_blocking_enter", inside, MISUSE_IN_FIBER},
    {"lock in a blocking call", lock_inside, "fib_blocking_enter", inside, MISUSE_IN_FIBER},
    {"read in a blocking call", read_inside, "fib_blocking_enter", inside, MISUSE_IN_FIBER},

    {"reset of a timer never started", reset_never_started, "fib_timer_reset",
     "the timer was never started"},
    {"start of what is no timer", start_no_timer, "fib_timer_start", "it is no timer"},
    {"stop of what is no timer", stop_no_timer, "fib_timer_stop", "it is no timer"},
    {"reset of what is no timer", reset_no_timer, "fib_timer_reset", "it is no timer"},
    {"a timer without a function", start_without_function, "fib_timer_start",
     "the function is NULL"},
    {"stop of a timer's copy", stop_a_copy, "fib_timer",
     "the timer was copied or moved while it was running"},
#ifndef CHECK_IS_TSAN // it reports the bad use itself, as the race that it is
    {"free of a running timer", free_a_running_one, "fib_timer",
     "a running timer was freed, cleared or written over", .who = "in the scheduler:"},
#endif
};

int main(int argc, char **argv)
{
    int rc = misuse_run(rows, sizeof rows / sizeof *rows, argc, argv);
    if (!rc && argc == 1)
        CHECK(!fib_main(allowed, NULL));
    return rc;
}
