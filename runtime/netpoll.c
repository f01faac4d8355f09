// SPDX-License-Identifier: MIT
//
// The epoll. Each descriptor is registered once, for everything, edge-triggered; an event carries the
// number and the sequence number of its file, and leads to the descriptor's two words (poll.h).

#include "runtime/netpoll.h"
#include "runtime/core.h"
#include "runtime/os/os.h"
#include "runtime/poll.h"
#include "runtime/sys.h"

#include <sys/eventfd.h>

enum { EVENTS_MAX = 128 }; // as Go's
#define BREAK_EVENT UINT64_MAX

static struct {
    struct rt_lock lock;
    _Atomic int epoll;            // -1: there is none to be had; 0: not yet
    int break_fd;                 // an eventfd
    _Atomic uint32_t is_breaking; // it has been written; where there is no epoll, a futex
    _Atomic bool has_no_pwait2;   // a kernel before 5.11
} net;

static int make_epoll(void)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0)
        return -errno;
    net.break_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int rc = net.break_fd < 0 ? -errno : 0;
    // Level-triggered: a poll that does not wait must not take it from the one that does.
    struct epoll_event e = {.events = EPOLLIN, .data.u64 = BREAK_EVENT};
    if (!rc)
        rc = (int)sys_epoll_ctl(epoll, EPOLL_CTL_ADD, net.break_fd, &e);
    if (rc) {
        if (net.break_fd >= 0)
            sys_close(net.break_fd);
        sys_close(epoll);
        return rc;
    }
    return epoll;
}

int netpoll_init(void)
{
    int epoll = atomic_load_explicit(&net.epoll, memory_order_acquire);
    if (__builtin_expect(epoll > 0, 1))
        return 0;
    rt_lock(&net.lock);
    epoll = atomic_load_explicit(&net.epoll, memory_order_relaxed);
    if (epoll <= 0) {
        epoll = make_epoll();
        // release: break_fd comes first. A failure may be over when it is tried again.
        atomic_store_explicit(&net.epoll, epoll > 0 ? epoll : -1, memory_order_release);
    }
    rt_unlock(&net.lock);
    return epoll > 0 ? 0 : epoll;
}

bool netpoll_is_used(void)
{
    return atomic_load_explicit(&net.epoll, memory_order_relaxed) > 0;
}

uint32_t netpoll_waiters(void)
{
    if (!netpoll_is_used())
        return 0;
    int64_t n = atomic_load(&netpoll_others) - atomic_load(&netpoll_woken);
    for (uint32_t i = 0; i < PROCS_MAX && sched.ps[i]; i++)
        n += (int64_t)atomic_load_explicit(&sched.ps[i]->io_waits, memory_order_relaxed);
    return n > 0 ? (uint32_t)n : 0;
}

int netpoll_add(int fd, uint32_t seq)
{
    int rc = netpoll_init();
    if (rc)
        return rc;
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLET,
                            .data.u64 = (uint64_t)seq << 32 | (uint32_t)fd};
    int epoll = atomic_load_explicit(&net.epoll, memory_order_relaxed);
    rc = (int)sys_epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e);
    if (rc == -EEXIST) // of a file that was put at this number by dup2
        rc = (int)sys_epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &e);
    return rc;
}

void netpoll_remove(int fd)
{
    struct epoll_event e = {0};
    sys_epoll_ctl(atomic_load_explicit(&net.epoll, memory_order_relaxed), EPOLL_CTL_DEL, fd, &e);
}

// --- Breaking a wait.

void netpoll_break(void)
{
    if (atomic_exchange(&net.is_breaking, 1))
        return;
    uint64_t one = 1;
    // The poller may be about to make the epoll: it must find this break there.
    if (!netpoll_init())
        arch_syscall(SYS_write, SYS_ARG(net.break_fd), SYS_ARG(&one), sizeof one, 0, 0, 0);
    else
        arch_syscall(SYS_futex, SYS_ARG(&net.is_breaking), 1 /* FUTEX_WAKE */ | 128, 1, 0, 0, 0);
}

static void end_break(void)
{
    uint64_t count;
    arch_syscall(SYS_read, SYS_ARG(net.break_fd), SYS_ARG(&count), sizeof count, 0, 0, 0);
    // After the read: who breaks in between finds it set, and the poller awake.
    atomic_store(&net.is_breaking, 0);
}

// --- Waiting.

static long wait_pwait2(int epoll, struct epoll_event *events, int64_t timeout_ns)
{
    struct timespec t = {timeout_ns / 1000000000, timeout_ns % 1000000000};
    return arch_syscall(SYS_epoll_pwait2, SYS_ARG(epoll), SYS_ARG(events), EVENTS_MAX, SYS_ARG(&t),
                        0, 0);
}

static long wait_ms(int epoll, struct epoll_event *events, int64_t timeout_ns)
{
    int64_t ms = timeout_ns < 0 ? -1 : (timeout_ns + 999999) / 1000000;
    if (ms > INT32_MAX)
        ms = INT32_MAX;
    return arch_syscall(SYS_epoll_wait, SYS_ARG(epoll), SYS_ARG(events), EVENTS_MAX, SYS_ARG(ms), 0,
                        0);
}

static long wait_events(int epoll, struct epoll_event *events, int64_t timeout_ns)
{
    if (timeout_ns > 0 && !atomic_load_explicit(&net.has_no_pwait2, memory_order_relaxed)) {
        long n = wait_pwait2(epoll, events, timeout_ns);
        if (n != -ENOSYS && n != -EPERM)
            return n;
        atomic_store_explicit(&net.has_no_pwait2, true, memory_order_relaxed);
    }
    return wait_ms(epoll, events, timeout_ns);
}

static uint32_t take_event(const struct epoll_event *e, struct g_queue *out)
{
    struct poll_desc *d = poll_find((int)(uint32_t)e->data.u64);
    if (!d || atomic_load_explicit(&d->seq, memory_order_relaxed) != (uint32_t)(e->data.u64 >> 32))
        return 0;
    uint32_t events = e->events, n = 0;
    bool is_over = events & (EPOLLHUP | EPOLLERR);
    // seq_cst: before the state; pairs with poll_end_short
    if (is_over || (events & (EPOLLRDHUP | EPOLLPRI)))
        atomic_store(&d->sides[POLL_READ].is_hup, 1);
    if (is_over)
        atomic_store(&d->sides[POLL_WRITE].is_hup, 1);
    if (is_over || (events & (EPOLLIN | EPOLLRDHUP | EPOLLPRI)))
        n += poll_wake(d, POLL_READ, true, out);
    if (is_over || (events & EPOLLOUT))
        n += poll_wake(d, POLL_WRITE, true, out);
    return n;
}

// With a thousand connections nothing of them is in the near caches. What each of a batch needs is asked for
// here, for all of it, so that the waits overlap: what a look finds is what the next look goes through.

enum { SAVED_LINES = 5, LIVE_LINES = 3 }; // what a parked fiber's way back touches

static void prefetch_descs(const struct epoll_event *events, long count)
{
    for (long i = 0; i < count; i++)
        __builtin_prefetch(poll_find((int)(uint32_t)events[i].data.u64), 1);
}

static void prefetch_waiters(const struct epoll_event *events, long count)
{
    for (long i = 0; i < count; i++) {
        struct poll_desc *d = poll_find((int)(uint32_t)events[i].data.u64);
        if (d) // a number that is no address is no harm
            __builtin_prefetch(
                (void *)atomic_load_explicit(&d->sides[POLL_READ].state, memory_order_relaxed), 1);
    }
}

static void prefetch_fibers(const struct g *first)
{
    for (const struct g *g = first; g; g = g->link)
        for (int i = 0; i < LIVE_LINES; i++)
            __builtin_prefetch((const char *)g->live + (size_t)i * LINE, 1);
    for (const struct g *g = first; g; g = g->link)
        for (int i = 0; i < SAVED_LINES; i++)
            __builtin_prefetch((const char *)(uintptr_t)g->live->sp + (size_t)i * LINE, 1);
}

uint32_t netpoll_poll(int64_t timeout_ns, struct g_queue *out)
{
    if (netpoll_init()) { // no descriptors left: timers and breaks work all the same
        if (timeout_ns && !atomic_load(&net.is_breaking))
            os_futex_wait(&net.is_breaking, 0, timeout_ns);
        atomic_store(&net.is_breaking, 0);
        return 0;
    }
    struct epoll_event events[EVENTS_MAX];
    long count =
        wait_events(atomic_load_explicit(&net.epoll, memory_order_relaxed), events, timeout_ns);
    uint32_t before = out->count, from_words = 0;
    prefetch_descs(events, count);
    prefetch_waiters(events, count);
    for (long i = 0; i < count; i++) {
        if (events[i].data.u64 != BREAK_EVENT)
            from_words += take_event(&events[i], out);
        else if (timeout_ns)
            end_break();
    }
    if (from_words)
        atomic_fetch_add_explicit(&netpoll_woken, from_words, memory_order_relaxed);
    prefetch_fibers(out->head);
    return out->count - before;
}
