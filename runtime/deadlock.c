// SPDX-License-Identifier: MIT
//
// All fibers are asleep: nothing runs, nothing is on its way (it would hold a P), nothing will come from
// timers or descriptors, and there is no thread in the process that could still act: each is ours, or waits
// in one of our calls without a limit.

#include "runtime/core.h"
#include "runtime/dump.h"
#include "runtime/netpoll.h"
#include "runtime/print.h"
#include "runtime/tools.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

static _Atomic bool is_suspected;

bool dead_is_suspected(void)
{
    return atomic_load_explicit(&is_suspected, memory_order_relaxed);
}

static uint32_t all_ps(void)
{
    uint32_t n = 0;
    while (n < PROCS_MAX && sched.ps[n])
        n++;
    return n;
}

// Threads of the process; UINT32_MAX: not to be known.
static uint32_t threads(void)
{
    struct entry {
        uint64_t inode, offset;
        uint16_t bytes;
        uint8_t type;
        char name[];
    };
    _Alignas(8) char buffer[2048];
    int fd =
        (int)syscall(SYS_openat, AT_FDCWD, "/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return UINT32_MAX;
    uint32_t n = 0;
    long bytes;
    while ((bytes = syscall(SYS_getdents64, fd, buffer, sizeof buffer)) > 0) {
        for (long at = 0; at < bytes;) {
            const struct entry *e = (const struct entry *)(const void *)(buffer + at);
            n += e->name[0] != '.';
            at += e->bytes;
        }
    }
    syscall(SYS_close, fd);
#ifdef FIB_TSAN
    n--; // the sanitizer's own
#endif
    return n;
}

FIB_LOOKS static bool may_go_on(void)
{
    if (sched.running_ms || !sched.is_main_mode || !atomic_load(&sched.thread_gs_parked) ||
        atomic_load(&sched.idle_ps) != all_ps() || sched.global.count || sched.bound.count ||
        sched.stack_waits.count)
        return true;
    for (uint32_t i = 0; i < all_ps(); i++)
        if (!runq_is_empty(sched.ps[i]))
            return true;
    return timers_first() != INT64_MAX || netpoll_waiters();
}

FIB_LOOKS void dead_check(void)
{
    bool may = may_go_on(), is_foreign = false;
    if (!may)
        is_foreign =
            threads() > sched.ms + sched.fixed_threads + atomic_load(&sched.thread_gs_parked);
    // A thread that ends says nothing: sysmon looks again.
    atomic_store_explicit(&is_suspected, is_foreign, memory_order_relaxed);
    if (!may && !is_foreign)
        deadlock_report();
}

void deadlock_report(void)
{
    struct print p = {.fd = 2};
    print_text(&p, "fatal error: all goroutines are asleep - deadlock!\n\n");
    dump_all(&p);
    print_flush(&p);
    _exit(2);
}
