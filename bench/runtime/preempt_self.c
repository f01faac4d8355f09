// SPDX-License-Identifier: MIT
//
// What one forced preemption costs in CPU time, without the timer that decides on it: two fibers on one P and one CPU ask
// for their own preemption, again and again, as sysmon does it for those who run long. Each time the signal's
// handler gives the P away, and returns when the fiber has it again. CPU time is the whole process', over
// all threads, so others on the machine do not count.
//
// Beside it, in the same process: the signal alone (the handler declines), and a round trip of two plain threads
// over futexes, which is the least that two switches between threads cost here.
//
// Usage: runtime_preempt ROUNDS, under FIB_MAXPROCS=1 and an affinity to one CPU. Linked with the runtime's inside.

#include "bench/runtime/bench.h"
#include "fiberscope/fiber.h"
#include "runtime/core.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <linux/futex.h>
#include <time.h>
#include <unistd.h>

int64_t measure_wakes(void)
{
    return -1;
}

static long rounds;
static long process;
static _Atomic uint64_t preempted;

static int64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

// m_preempt of this thread. Not through libc's syscall(), as the handler does not preempt in libc.
static void preempt_self(void)
{
    struct m *m = this_m();
    atomic_store_explicit(&m->preempt, PREEMPT_RUNNING, memory_order_release);
    long rc = SYS_tgkill;
    __asm__ volatile("syscall"
                     : "+a"(rc)
                     : "D"(process), "S"((long)m->tid), "d"((long)SIGURG)
                     : "rcx", "r11", "memory");
    MUST(rc == 0);
}

static void preempted_often(void *arg)
{
    (void)arg;
    for (long i = 0; i < rounds / 2; i++)
        preempt_self();
    struct fib_info info = {.size = sizeof info};
    MUST(!fib_info_read(fib_self(), &info));
    preempted += info.preempted;
}

static int64_t time_preemptions(void)
{
    struct fib f[2];
    int64_t before = cpu_ns();
    for (int i = 0; i < 2; i++)
        MUST(!fib_go(&f[i], preempted_often, NULL));
    for (int i = 0; i < 2; i++)
        MUST(!fib_join(f[i]));
    return cpu_ns() - before;
}

static int64_t time_signals(void)
{
    fib_preempt_disable();
    int64_t before = cpu_ns();
    for (long i = 0; i < rounds; i++)
        preempt_self();
    int64_t ns = cpu_ns() - before;
    fib_preempt_enable();
    return ns;
}

static _Atomic uint32_t turn;

static void take_turns(uint32_t me)
{
    for (long i = 0; i < rounds; i++) {
        while (atomic_load(&turn) != me)
            syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, !me, NULL, NULL, 0);
        atomic_store(&turn, !me);
        syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    }
}

static void *other_side(void *arg)
{
    (void)arg;
    take_turns(1);
    return NULL;
}

static int64_t time_futexes(void)
{
    pthread_t t;
    MUST(!pthread_create(&t, NULL, other_side, NULL));
    int64_t before = cpu_ns();
    take_turns(0);
    pthread_join(t, NULL);
    return cpu_ns() - before;
}

static void start(void *arg)
{
    (void)arg;
    int64_t ns = time_preemptions();
    // All but the last ones, when there is no other fiber to go on.
    MUST(preempted >= (uint64_t)rounds * 9 / 10);
    measure_add("preempt_ns", (double)ns / (double)preempted);
    measure_add("signal_ns", (double)time_signals() / (double)rounds);
}

int main(int argc, char **argv)
{
    process = getpid();
    rounds = argc == 2 ? strtol(argv[1], NULL, 10) : 0;
    if (rounds < 2)
        return 2;
    measure_add("futex_ns", (double)time_futexes() / (double)rounds);
    if (fib_main(start, NULL))
        return 1;
    measure_add("preempted", (double)preempted);
    measure_print();
    return 0;
}
