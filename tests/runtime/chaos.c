// SPDX-License-Identifier: MIT
//
// FIB_DEBUG=chaos=1 moves a fiber to another thread at each wait, and errno and thread-local variables are then as
// fiberscope-runtime(7) has it: errno goes along, variables are the thread's, and a pointer kept to either is
// another's.
//
//     chaos on|off PROCS

#define FIB_ERRNO // as the manual asks of code that reads errno behind a wait
#include <errno.h>

#include "fiberscope/chan.h"
#include "fiberscope/fiber.h"
#include "fiberscope/io.h"
#include "fiberscope/sync.h"
#include "tests/runtime/check.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>

enum { ROUNDS = 200, MS = 1000000 };

static bool is_on;
static bool is_alone;       // one processor: nobody but the other thread is there to take a fiber
static __thread pid_t mine; // the thread's id, once it has been here

static pid_t thread_id(void)
{
    return (pid_t)syscall(SYS_gettid);
}

// --- Waits.

static struct fib_chan *there, *back, *want;
static struct fib_semaphore turn, turns;
static int pipes[2];

static void yield(void)
{
    fib_yield();
}

static void nap(void)
{
    fib_sleep(1000);
}

static void ping(void)
{
    fib_chan_send(there, NULL);
    CHECK(fib_chan_recv(back, NULL));
}

static void take_turn(void)
{
    fib_semaphore_release(&turns, 1);
    fib_semaphore_acquire(&turn, 1);
}

static void read_later(void)
{
    char byte;
    fib_chan_send(want, NULL); // has room
    CHECK(fib_read(pipes[0], &byte, 1) == 1);
}

static void answer(void *arg)
{
    (void)arg;
    while (fib_chan_recv(there, NULL))
        fib_chan_send(back, NULL);
}

static void give_turns(void *arg)
{
    (void)arg;
    for (int i = 0; i < ROUNDS; i++) {
        fib_semaphore_acquire(&turns, 1);
        fib_semaphore_release(&turn, 1);
    }
}

static void write_slowly(void *arg)
{
    (void)arg;
    for (int i = 0; i < ROUNDS; i++) {
        CHECK(fib_chan_recv(want, NULL));
        fib_sleep(MS / 10);
        CHECK(fib_write(pipes[1], "x", 1) == 1);
    }
}

static void take_idle(void *arg, const struct fib_metric *m)
{
    if (!strcmp(m->name, "/fib/threads/idle:threads"))
        *(uint64_t *)arg = m->value;
}

// There is a thread to move to: the one that it left last has come to rest.
static void rest(void)
{
    uint64_t idle = 0;
    for (int64_t end = fib_now_ns() + 10 * MS; is_on && !idle && fib_now_ns() < end;)
        fib_metrics_read(take_idle, &idle);
}

static int moves_of(void (*wait)(void))
{
    int moves = 0;
    for (int i = 0; i < ROUNDS; i++) {
        rest();
        pid_t before = thread_id();
        wait();
        moves += thread_id() != before;
    }
    return moves;
}

static void it_moves(void)
{
    const struct {
        const char *name;
        void (*wait)(void);
    } waits[] = {{"yield", yield},
                 {"sleep", nap},
                 {"channel", ping},
                 {"semaphore", take_turn},
                 {"read", read_later}};
    there = fib_chan_new(0, 0);
    back = fib_chan_new(0, 0);
    fib_semaphore_init(&turn, 1);
    fib_semaphore_init(&turns, ROUNDS);
    fib_semaphore_acquire(&turn, 1);
    fib_semaphore_acquire(&turns, ROUNDS);
    want = fib_chan_new(0, 1);
    CHECK(there && back && want && !pipe(pipes));
    fib_fn *const partners[] = {answer, give_turns, write_slowly};
    for (int i = 0; i < 3; i++)
        CHECK(!fib_go(NULL, partners[i], NULL));
    for (size_t i = 0; i < sizeof waits / sizeof *waits; i++) {
        int moves = moves_of(waits[i].wait);
        printf("%s: %d moves in %d waits\n", waits[i].name, moves, ROUNDS);
        CHECK(!is_alone || moves >= ROUNDS / 2, "%s: %d", waits[i].name, moves);
    }
    fib_chan_close(there);
}

// --- errno.

static void errno_goes_along(void)
{
    int elsewhere = 0;
    for (int i = 1; i < ROUNDS; i++) {
        rest();
        errno = i;
        int *kept = &errno; // as compilers do without FIB_ERRNO
        pid_t before = thread_id();
        fib_yield();
        CHECK(errno == i, "%d, not %d", errno, i);
        CHECK((&errno == kept) == (thread_id() == before));
        elsewhere += &errno != kept;
    }
    CHECK(!is_alone || elsewhere >= ROUNDS / 2, "%d", elsewhere);
}

// Each has its own, whoever runs on the thread in between.
static void keep_errno(void *arg)
{
    int own = (int)(uintptr_t)arg;
    errno = own;
    for (int i = 0; i < ROUNDS; i++) {
        fib_yield();
        CHECK(errno == own, "%d, not %d", errno, own);
    }
}

static void errnos_are_apart(void)
{
    struct fib f[8];
    for (uintptr_t i = 0; i < 8; i++)
        CHECK(!fib_go(&f[i], keep_errno, (void *)(1000 + i)));
    for (int i = 0; i < 8; i++)
        fib_join(f[i]);
}

// --- Thread-local variables.

static __attribute__((noinline)) pid_t *where(void)
{
    pid_t *at = &mine;
    __asm__ volatile("" : "+r"(at));
    return at;
}

static void variables_are_the_threads(void)
{
    int stale = 0;
    for (int i = 0; i < ROUNDS; i++) {
        rest();
        pid_t before = thread_id();
        mine = before;
        pid_t *kept = where();
        fib_yield();
        pid_t now = thread_id();
        CHECK(mine == 0 || mine == now, "%d in thread %d", mine, now); // read anew
        CHECK(*kept == before, "%d, not %d", *kept, before);           // what chaos is to find
        stale += *kept != now;
    }
    CHECK(!is_alone || stale >= ROUNDS / 2, "%d", stale);
}

static void ties_hold(void)
{
    pid_t here = thread_id();
    fib_pin();
    here = thread_id();
    for (int i = 0; i < ROUNDS; i++) {
        fib_yield();
        CHECK(thread_id() == here, "pinned");
    }
    fib_unpin();
    fib_lock_thread();
    here = thread_id();
    for (int i = 0; i < ROUNDS; i++) {
        fib_sleep(1000);
        CHECK(thread_id() == here, "locked");
    }
    fib_unlock_thread();
    CHECK(!is_alone || moves_of(yield) >= ROUNDS / 2, "free again");
}

static void run(void *arg)
{
    (void)arg;
    it_moves();
    errno_goes_along();
    errnos_are_apart();
    variables_are_the_threads();
    ties_hold();
}

int main(int argc, char **argv)
{
    CHECK(argc == 3, "chaos on|off PROCS");
    is_on = !strcmp(argv[1], "on");
    if (is_on)
        setenv("FIB_DEBUG", "chaos=1", 1);
    is_alone = is_on && strtoul(argv[2], NULL, 10) == 1;
    struct fib_options o = {.size = sizeof o, .procs = (uint32_t)strtoul(argv[2], NULL, 10)};
    CHECK(!fib_init(&o));
    return fib_main(run, NULL);
}
