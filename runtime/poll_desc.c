// SPDX-License-Identifier: MIT
//
// The table from a descriptor's number to its struct poll_desc; opening and closing. See poll.h.

#include "runtime/poll.h"
#include "runtime/core.h"
#include "runtime/os/os.h"
#include "runtime/sys.h"

#include "fiberscope/io.h"

#include <netinet/in.h>
#include <sys/stat.h>

struct poll_desc *_Atomic poll_chunks[POLL_CHUNKS];

struct poll_desc *poll_at(int fd)
{
    struct poll_desc *d = poll_find(fd);
    if (d || (uint32_t)fd >= POLL_CHUNK * POLL_CHUNKS)
        return d;
    struct poll_desc *chunk = os_pages(POLL_CHUNK * sizeof *chunk), *none = NULL;
    if (!chunk)
        return NULL;
    // release: its zeros are seen by who finds it
    if (!atomic_compare_exchange_strong_explicit(&poll_chunks[(uint32_t)fd / POLL_CHUNK], &none,
                                                 chunk, memory_order_acq_rel, memory_order_acquire))
        os_pages_free(chunk, POLL_CHUNK * sizeof *chunk);
    return poll_find(fd);
}

// --- What a descriptor is. Functions with errno are not inlined: in a caller that can switch, its address
// would be kept.
#define NOT_INLINED __attribute__((noinline))

static bool is_family_of_streams(int family)
{
    return family == AF_INET || family == AF_INET6 || family == AF_UNIX;
}

static uint64_t socket_flags(int fd)
{
    uint64_t flags = POLL_SOCKET;
    int type = 0, family = 0;
    socklen_t size = sizeof type;
    getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size);
    size = sizeof family;
    getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &size);
    if (family == AF_UNIX)
        flags |= POLL_UNIX;
    if (type == SOCK_STREAM && is_family_of_streams(family))
        flags |= POLL_STREAM;
    if (type == SOCK_STREAM && family != AF_UNIX)
        flags |= POLL_LINGERS;
    return flags;
}

// What fd is: flags; or -errno.
static NOT_INLINED int64_t look_at(int fd)
{
    struct stat st;
    if (fstat(fd, &st))
        return -errno;
    if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode))
        return 0;
    uint64_t flags = POLL_EVENTS;
    if (S_ISSOCK(st.st_mode))
        flags |= socket_flags(fd);
    else if (S_ISFIFO(st.st_mode))
        flags |= POLL_PIPE | POLL_STREAM;
    return (int64_t)flags;
}

// Standard input and output are often shared with processes that do not expect them to be non-blocking.
static NOT_INLINED int64_t make_nonblocking(int fd, uint64_t flags)
{
    int mode = fcntl(fd, F_GETFL);
    if (mode < 0)
        return -errno;
    if (mode & O_NONBLOCK)
        return (int64_t)flags;
    if (fd <= 2 && !(flags & POLL_SOCKET))
        return (int64_t)((flags | POLL_SHARED) & ~(uint64_t)POLL_STREAM);
    return fcntl(fd, F_SETFL, mode | O_NONBLOCK) ? -errno : (int64_t)flags;
}

// --- Opening.

// d->lock held. The number has a new file: nothing of the former one remains but those who wait for it.
static void renew(struct poll_desc *d)
{
    atomic_fetch_add_explicit(&d->seq, 1, memory_order_relaxed);
    for (int i = 0; i < POLL_SIDES; i++) {
        struct poll_side *s = &d->sides[i];
        atomic_store_explicit(&s->deadline, 0, memory_order_relaxed);
        atomic_store_explicit(&s->is_hup, 0, memory_order_relaxed);
        atomic_store_explicit(&s->is_eager, i == POLL_READ, memory_order_relaxed);
    }
}

// Whoever waits looks again; both sides are ready to be tried. d->lock held.
static void wake_all_locked(struct poll_desc *d)
{
    for (int i = 0; i < POLL_SIDES; i++) {
        uint32_t n = poll_wake_word(d, i, true, NULL);
        if (n) {
            atomic_fetch_add_explicit(&netpoll_woken, n, memory_order_relaxed);
            poll_wake_word(d, i, true, NULL);
        }
        poll_wake_more(d, i, NULL);
    }
    poll_thread_wake(d);
}

static void wake_all(struct poll_desc *d)
{
    rt_lock(&d->lock);
    wake_all_locked(d);
    rt_unlock(&d->lock);
}

// d->lock held, d is not open. flags: what it is; of -1 nothing is known.
static int open_locked(struct poll_desc *d, int fd, int64_t flags)
{
    bool is_known = flags >= 0;
    if (!is_known)
        flags = look_at(fd);
    if (flags < 0)
        return (int)flags;
    renew(d);
    wake_all_locked(d);
    if (flags & POLL_EVENTS) {
        int rc = netpoll_add(fd, atomic_load_explicit(&d->seq, memory_order_relaxed));
        if (rc == -EPERM)
            flags = 0; // has no poll: a device such as /dev/null
        else if (rc)
            return rc;
    }
    if ((flags & POLL_EVENTS) && !is_known) {
        flags = make_nonblocking(fd, (uint64_t)flags);
        if (flags < 0) {
            netpoll_remove(fd);
            return (int)flags;
        }
    }
    if (flags & POLL_PIPE)
        atomic_store_explicit(&d->sides[POLL_READ].is_hup, 1, memory_order_relaxed);
    // release: pairs with the acquire in poll_hold
    atomic_fetch_or(&d->life, (uint64_t)flags | POLL_OPEN);
    return 0;
}

static void let_others_run(void)
{
    struct m *m = this_m();
    if (m && m->cur != &m->g0 && !m->cur->live->blocking)
        g_yield();
    os_yield();
}

int poll_hold_slow(int fd, struct poll_desc **out, uint64_t *life)
{
    if ((uint32_t)fd >= POLL_CHUNK * POLL_CHUNKS)
        return -EBADF;
    struct poll_desc *d = poll_at(fd);
    if (!d)
        return -ENOMEM;
    *out = d;
    for (;;) {
        *life = atomic_fetch_add(&d->life, POLL_HOLD);
        int rc = 0;
        if (*life & POLL_ENDING) { // the number may be a new file's, whose time comes in a moment
            poll_release(d);
            let_others_run();
            continue;
        }
        if (*life & POLL_CLOSING)
            rc = -ECANCELED;
        else if (!(*life & POLL_OPEN)) {
            rt_lock(&d->lock);
            // With the hold, nobody closes between this look and open_locked's end.
            uint64_t now = atomic_load(&d->life);
            if (!(now & (POLL_OPEN | POLL_CLOSING)))
                rc = open_locked(d, fd, -1);
            rt_unlock(&d->lock);
            if (!rc) {
                poll_release(d);
                continue; // is it still ours
            }
        }
        if (rc)
            poll_release(d);
        return rc;
    }
}

// The number is the caller's alone: whoever used it before has it no more, though it may not have gone
// through fib_close. d->lock is held on return.
static struct poll_desc *take_new(int fd)
{
    struct poll_desc *d = poll_at(fd);
    if (!d)
        return NULL;
    for (;;) {
        rt_lock(&d->lock);
        uint64_t life = atomic_load(&d->life);
        if (!(life & (POLL_ENDING | POLL_CLOSING)))
            break;
        rt_unlock(&d->lock);
        let_others_run();
    }
    atomic_fetch_and(&d->life, ~(uint64_t)POLL_FLAGS);
    return d;
}

int poll_open_new(int fd, uint64_t flags)
{
    struct poll_desc *d = take_new(fd);
    if (!d)
        return -ENOMEM;
    int rc = open_locked(d, fd, (int64_t)flags);
    rt_unlock(&d->lock);
    return rc;
}

void poll_forget(int fd)
{
    struct poll_desc *d = poll_find(fd);
    if (!d || !(atomic_load(&d->life) & POLL_OPEN))
        return;
    d = take_new(fd);
    renew(d);
    rt_unlock(&d->lock);
    wake_all(d);
}

// --- Closing.

void poll_closer_wake(struct poll_desc *d)
{
    struct g *g = atomic_exchange(&d->closer, NULL);
    if (g)
        g_ready(g);
}

// The closer's registers are saved.
static void closer_after(struct m *m, struct g *g, void *arg)
{
    struct poll_desc *d = arg;
    atomic_store(&d->closer, g); // seq_cst: before the count is read; pairs with poll_release
    if (atomic_load(&d->life) < POLL_HOLD && atomic_exchange(&d->closer, NULL) == g)
        poll_resume(m, g);
}

static void stop_timers(struct poll_desc *d)
{
    for (int i = 0; i < POLL_SIDES; i++) {
        timer_remove(&d->rest[i].timer);
        atomic_store(&d->rest[i].timer_end, 0);
    }
}

// A socket that lingers blocks in close(2) after its number has become free. So the number is freed first.
static int dup_to_linger(int fd, uint64_t life)
{
    struct linger l = {0};
    socklen_t size = sizeof l;
    if (!(life & POLL_LINGERS) || getsockopt(fd, SOL_SOCKET, SO_LINGER, &l, &size) || !l.l_onoff ||
        !l.l_linger)
        return -1;
    return fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

static int close_blocking(int fd)
{
    fib_blocking_enter();
    int rc = (int)sys_close(fd);
    fib_blocking_exit();
    return rc;
}

// EINTR: Linux has closed it all the same.
static int close_number(struct poll_desc *d, int fd)
{
    uint64_t life = atomic_fetch_or(&d->life, POLL_ENDING);
    int lingering = dup_to_linger(fd, life);
    int rc = life & POLL_EVENTS ? (int)sys_close(fd) : close_blocking(fd);
    rt_lock(&d->lock);
    renew(d);
    rt_unlock(&d->lock);
    atomic_fetch_and(&d->life, ~(uint64_t)POLL_FLAGS);
    if (lingering >= 0)
        close_blocking(lingering);
    return rc == -EINTR ? 0 : rc;
}

FIB_PUBLIC int fib_close(int fd)
{
    if (fd < 0)
        return -EBADF;
    struct poll_desc *d = poll_at(fd);
    if (!d)
        return close_blocking(fd);
    for (;;) {
        uint64_t life = atomic_fetch_or(&d->life, POLL_CLOSING);
        if (!(life & POLL_CLOSING))
            break;
        if (!(life & POLL_ENDING))
            return -EBADF;
        let_others_run();
    }
    wake_all(d);
    while (atomic_load(&d->life) >= POLL_HOLD)
        g_park(WAIT_IO, d, closer_after, d);
    if (atomic_load(&d->life) & POLL_EVENTS)
        netpoll_remove(fd); // a copy of it (dup, a child) would go on telling
    stop_timers(d);
    return close_number(d, fd);
}
