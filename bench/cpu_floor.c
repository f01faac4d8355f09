// SPDX-License-Identifier: MIT
//
// See cpu_floor.h.

#include "bench/cpu_floor.h"

#include "unwind/unwind.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum floor_handler { FLOOR_NONE, FLOOR_EMPTY, FLOOR_CLOCK, FLOOR_WALK };
enum { FRAMES_MAX = 512 };

static const struct floor {
    const char *name;
    enum floor_handler handler;
    bool is_trap, is_tick;
} floors[] = {
    {"timer", FLOOR_NONE, false, false}, {"empty", FLOOR_EMPTY, false, false},
    {"trap", FLOOR_EMPTY, true, false},  {"clock", FLOOR_CLOCK, false, false},
    {"walk", FLOOR_WALK, false, false},  {"tick", FLOOR_EMPTY, false, true},
};

static const struct floor *chosen;
static uint64_t period_ns;
static _Atomic uint64_t samples;
static __thread struct unwind_thread *walker __attribute__((tls_model("initial-exec")));

static void read_clock(void)
{
    struct timespec t;
    syscall(SYS_clock_gettime, CLOCK_THREAD_CPUTIME_ID, &t);
}

static void on_signal(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)info;
    int saved = errno;
    atomic_fetch_add_explicit(&samples, 1, memory_order_relaxed);
    if (chosen->handler >= FLOOR_CLOCK)
        read_clock();
    if (chosen->handler == FLOOR_WALK) {
        const uint64_t *pcs;
        struct unwind_registers regs;
        enum unwind_end end;
        unwind_registers_from_context(&regs, context);
        unwind_walk(walker, &regs, &pcs, FRAMES_MAX, &end);
    }
    errno = saved;
}

static int fail(const char *what)
{
    fprintf(stderr, "cpu_load: %s: %s\n", what, strerror(errno));
    return -1;
}

int floor_parse(const char *what)
{
    size_t n = strcspn(what, ":");
    for (size_t i = 0; i < sizeof floors / sizeof *floors; i++)
        if (strlen(floors[i].name) == n && memcmp(what, floors[i].name, n) == 0)
            chosen = &floors[i];
    long hz = what[n] ? atol(what + n + 1) : 0;
    if (!chosen || hz < 1 || hz > 10000) {
        fprintf(stderr,
                "cpu_load: %s: not WHAT:HZ; WHAT is timer, empty, trap, clock, walk, tick\n", what);
        return -1;
    }
    period_ns = 1000000000u / (uint64_t)hz;
    if (chosen->handler == FLOOR_WALK && unwind_init())
        return fail("unwind_init");
    struct sigaction act = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigfillset(&act.sa_mask);
    return sigaction(chosen->is_trap ? SIGTRAP : SIGPROF, &act, NULL) ? fail("sigaction") : 0;
}

static int begin_tick(pid_t tid)
{
    struct sigevent to = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGPROF};
    struct itimerspec when = {.it_interval = {0, (long)period_ns},
                              .it_value = {0, (long)period_ns}};
    timer_t timer;
    to._sigev_un._tid = tid;
    if (timer_create(CLOCK_THREAD_CPUTIME_ID, &to, &timer) || timer_settime(timer, 0, &when, NULL))
        return fail("timer_create");
    return 0;
}

static int begin_walk(void)
{
    pthread_attr_t attr;
    void *low;
    size_t size;
    walker = calloc(1, unwind_thread_size());
    if (!walker || pthread_getattr_np(pthread_self(), &attr))
        return fail("the walker");
    pthread_attr_getstack(&attr, &low, &size);
    pthread_attr_destroy(&attr);
    unwind_thread_init(walker, (uintptr_t)low, (uintptr_t)low + size);
    return 0;
}

int floor_begin(void)
{
    pid_t tid = (pid_t)syscall(SYS_gettid);
    if (chosen->is_tick)
        return begin_tick(tid);
    if (chosen->handler == FLOOR_WALK && begin_walk())
        return -1;
    struct perf_event_attr attr = {
        .type = PERF_TYPE_SOFTWARE,
        .size = sizeof attr,
        .config = PERF_COUNT_SW_TASK_CLOCK,
        .sample_period = period_ns,
        .disabled = 1,
        .exclude_hv = 1,
        .remove_on_exec = 1,
        .sigtrap = chosen->is_trap,
    };
    int fd = (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
    if (fd < 0)
        return fail("perf_event_open");
    struct f_owner_ex owner = {.type = F_OWNER_TID, .pid = tid};
    if (chosen->handler != FLOOR_NONE && !chosen->is_trap &&
        (fcntl(fd, F_SETSIG, SIGPROF) || fcntl(fd, F_SETOWN_EX, &owner) ||
         fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK | O_ASYNC)))
        return fail("the event's signal");
    return ioctl(fd, PERF_EVENT_IOC_ENABLE, 0) ? fail("PERF_EVENT_IOC_ENABLE") : 0;
}

uint64_t floor_samples(void)
{
    return atomic_load_explicit(&samples, memory_order_relaxed);
}
