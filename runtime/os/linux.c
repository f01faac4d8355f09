// SPDX-License-Identifier: MIT
//
// os.h on Linux: memory, futexes, threads, clocks.

#include "runtime/os/os.h"
#include "runtime/sys.h"
#include "segment/decimal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102 // since Linux 6.13
#endif

void *os_pages(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

void os_pages_free(void *p, size_t bytes)
{
    if (p)
        munmap(p, bytes);
}

void *os_reserve(size_t bytes, size_t align)
{
    uint8_t *p = mmap(NULL, bytes + align, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    size_t skip = (align - ((uintptr_t)p & (align - 1))) & (align - 1);
    if (skip)
        munmap(p, skip);
    if (align - skip)
        munmap(p + skip + bytes, align - skip);
    return p + skip;
}

void os_forget(void *p, size_t bytes)
{
    madvise(p, bytes, MADV_DONTNEED);
}

bool os_guard(void *p, size_t bytes)
{
    static _Atomic bool has_no_guards; // a kernel before 6.13
    if (!atomic_load_explicit(&has_no_guards, memory_order_relaxed)) {
        if (!madvise(p, bytes, MADV_GUARD_INSTALL))
            return true;
        if (errno != EINVAL)
            return false;
        atomic_store_explicit(&has_no_guards, true, memory_order_relaxed);
    }
    return !mprotect(p, bytes, PROT_NONE);
}

uint32_t os_resident(const void *p, size_t bytes, uint8_t *pages)
{
    uint32_t n = 0;
    if (mincore((void *)(uintptr_t)p, bytes, pages))
        return 0;
    for (size_t i = 0; i < bytes / OS_PAGE; i++)
        n += pages[i] & 1;
    return n;
}

// Not by libc's syscall, which an agent may stand before: the runtime's threads sleep as nobody's wait.
int os_futex_wait(_Atomic uint32_t *word, uint32_t value, int64_t timeout_ns)
{
    struct timespec t = {timeout_ns / 1000000000, timeout_ns % 1000000000};
    return (int)arch_syscall(SYS_futex, SYS_ARG(word), FUTEX_WAIT_PRIVATE, value,
                             timeout_ns < 0 ? 0 : SYS_ARG(&t), 0, 0);
}

void os_futex_wake(_Atomic uint32_t *word, uint32_t count)
{
    arch_syscall(SYS_futex, SYS_ARG(word), FUTEX_WAKE_PRIVATE, count, 0, 0, 0);
}

int64_t os_clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

pid_t os_tid(void)
{
    return (pid_t)syscall(SYS_gettid);
}

int os_signal_thread(pid_t tid, int signal)
{
    return syscall(SYS_tgkill, getpid(), tid, signal) ? -errno : 0;
}

uint64_t os_thread_interrupted(void)
{
    struct rusage r;
    syscall(SYS_getrusage, RUSAGE_THREAD, &r);
    return (uint64_t)r.ru_nivcsw;
}

void os_yield(void)
{
    sched_yield();
}

void os_sleep(int64_t ns)
{
    struct timespec t = {ns / 1000000000, ns % 1000000000};
    syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &t, NULL); // not a cancellation point
}

uint64_t os_thread_cpu_ns(pid_t tid)
{
    struct timespec t;
    // As pthread_getcpuclockid makes it: CPUCLOCK_SCHED of a thread.
    clockid_t clock = (clockid_t)((~(unsigned)tid << 3) | 6);
    if (syscall(SYS_clock_gettime, clock, &t))
        return 0;
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

bool os_thread_sleeps(pid_t tid)
{
    char path[64] = "/proc/self/task/", text[128];
    memcpy(decimal_put(path + strlen(path), (uint32_t)tid), "/stat", sizeof "/stat");
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t got = read(fd, text, sizeof text - 1);
    close(fd);
    if (got <= 0)
        return false;
    text[got] = 0;
    const char *name_end = strrchr(text, ')'); // the name may hold anything, but fits
    return name_end && name_end[1] == ' ' && (name_end[2] == 'S' || name_end[2] == 'D');
}

void os_membarrier(void)
{
    static _Atomic int state; // 0: not yet registered, 1: private, 2: refused
    int s = atomic_load_explicit(&state, memory_order_relaxed);
    if (s == 0) {
        s = syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) ? 2 : 1;
        atomic_store_explicit(&state, s, memory_order_relaxed);
    }
    if (s == 1 && !syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0))
        return;
    syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
}
