// SPDX-License-Identifier: MIT
//
// Reading, writing, accepting, connecting. Each is an attempt, a system call that does not block, in the one loop
// io_run; the loop and the attempt are compiled into each function.

#include "runtime/poll.h"
#include "runtime/sys.h"

#include "fiberscope/io.h"

#include <limits.h>

#define ALWAYS_INLINE inline __attribute__((always_inline))

// One attempt's arguments and results.
struct io {
    int fd;
    int flags; // msghdr's
    uint64_t life;
    void *buffer;
    const struct iovec *iov;
    struct msghdr *message;
    size_t size;         // how much is asked for
    bool is_whole;       // out: what is short of size is not the end of what there is
    bool is_retry_later; // out: -EAGAIN of which no event will tell the end
    bool is_connecting;
    int64_t pause_ns;
};

typedef ssize_t io_attempt(struct io *io);

// --- Around attempts.

// On a descriptor without events, or one that must stay blocking and is ready.
static __attribute__((noinline)) ssize_t io_block(struct io *io, io_attempt *attempt)
{
    ssize_t n;
    fib_blocking_enter();
    do
        n = attempt(io);
    while (n == -EINTR);
    fib_blocking_exit();
    return n;
}

static bool is_ready_now(int fd, int side)
{
    struct pollfd p = {fd, side == POLL_READ ? POLLIN | POLLRDHUP : POLLOUT, 0};
    struct timespec none = {0};
    return sys_poll(&p, 1, &none) > 0;
}

static __attribute__((noinline)) ssize_t io_shared(struct io *io, int side, io_attempt *attempt)
{
    return is_ready_now(io->fd, side) ? io_block(io, attempt) : -EAGAIN;
}

// What ends without an event is asked for again, after 1 ms, 2 ms, at most 16 ms. 0: now.
static __attribute__((noinline)) int io_pause(struct poll_desc *d, struct io *io, int side)
{
    enum { PAUSE_MIN_NS = 1000000, PAUSE_MAX_NS = 16000000 };
    io->pause_ns = io->pause_ns ? 2 * io->pause_ns : PAUSE_MIN_NS;
    if (io->pause_ns > PAUSE_MAX_NS)
        io->pause_ns = PAUSE_MAX_NS;
    poll_end_ready(d, side);
    return poll_wait_for(d, io->fd, 1u << side, io->pause_ns, true);
}

static ALWAYS_INLINE ssize_t io_loop(struct poll_desc *d, struct io *io, int side,
                                     io_attempt *attempt)
{
    if (__builtin_expect(!(io->life & POLL_EVENTS), 0))
        return io_block(io, attempt);
    for (;;) {
        int rc = poll_begin(d, io->fd, side);
        if (rc)
            return rc;
        ssize_t n = __builtin_expect(io->life & POLL_SHARED, 0) ? io_shared(io, side, attempt)
                                                                : attempt(io);
        if (n == -EAGAIN && __builtin_expect(io->is_retry_later, 0)) {
            rc = io_pause(d, io, side);
            if (rc)
                return rc;
        } else if (n == -EAGAIN) {
            poll_end_drained(d, side);
        } else if (n > 0 && (size_t)n < io->size && !io->is_whole) {
            poll_end_short(d, io->life, side);
            return n;
        } else {
            poll_end_ready(d, side);
            if (n != -EINTR)
                return n;
        }
    }
}

static ALWAYS_INLINE ssize_t io_run(struct io *io, int side, io_attempt *attempt)
{
    struct poll_desc *d;
    int rc = poll_hold(io->fd, &d, &io->life);
    if (__builtin_expect(rc, 0))
        return rc;
    ssize_t n = 0;
    if (__builtin_expect(io->size != 0 || !(io->life & POLL_STREAM), 1)) // else nothing to wait for
        n = io_loop(d, io, side, attempt);
    poll_release(d);
    return n;
}

// The most that one call moves: what is short of a larger size is not the end.
static size_t io_size(size_t size)
{
    enum { IO_MAX = INT_MAX & ~4095 };
    return size < IO_MAX ? size : IO_MAX;
}

// --- Bytes.

// A stream of AF_UNIX ends a read, too, where descriptors or credentials were sent along: only the message's flags
// tell.
static __attribute__((noinline)) ssize_t read_unix(struct io *io)
{
    struct iovec v = {io->buffer, io->size};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
    ssize_t n = sys_recvmsg(io->fd, &m, MSG_DONTWAIT);
    io->is_whole = m.msg_flags & MSG_CTRUNC;
    return n;
}

static ALWAYS_INLINE ssize_t attempt_read(struct io *io)
{
    if (__builtin_expect(!(io->life & POLL_SOCKET), 0))
        return sys_read(io->fd, io->buffer, io->size);
    if (__builtin_expect(io->life & POLL_UNIX, 0))
        return read_unix(io);
    return sys_recv(io->fd, io->buffer, io->size, MSG_DONTWAIT);
}

static ALWAYS_INLINE ssize_t attempt_write(struct io *io)
{
    if (__builtin_expect(!(io->life & POLL_SOCKET), 0))
        return sys_write(io->fd, io->buffer, io->size);
    return sys_send(io->fd, io->buffer, io->size, MSG_DONTWAIT | MSG_NOSIGNAL);
}

FIB_PUBLIC ssize_t fib_read(int fd, void *buffer, size_t size)
{
    struct io io = {.fd = fd, .buffer = buffer, .size = io_size(size)};
    return io_run(&io, POLL_READ, attempt_read);
}

FIB_PUBLIC ssize_t fib_write(int fd, const void *buffer, size_t size)
{
    struct io io = {.fd = fd, .buffer = (void *)(uintptr_t)buffer, .size = io_size(size)};
    return io_run(&io, POLL_WRITE, attempt_write);
}

// All of it, under one hold: what is closed meanwhile is not another file.
static ALWAYS_INLINE ssize_t io_run_full(struct io *io, size_t size, int side, io_attempt *attempt)
{
    struct poll_desc *d;
    int rc = poll_hold(io->fd, &d, &io->life);
    if (rc)
        return rc;
    size_t done = 0;
    ssize_t n = 0;
    while (done < size) {
        io->size = io_size(size - done);
        n = io_loop(d, io, side, attempt);
        if (n <= 0)
            break;
        done += (size_t)n;
        io->buffer = (char *)io->buffer + n;
    }
    poll_release(d);
    return n < 0 ? n : (ssize_t)done;
}

FIB_PUBLIC ssize_t fib_read_full(int fd, void *buffer, size_t size)
{
    struct io io = {.fd = fd, .buffer = buffer};
    return io_run_full(&io, size, POLL_READ, attempt_read);
}

FIB_PUBLIC ssize_t fib_write_full(int fd, const void *buffer, size_t size)
{
    struct io io = {.fd = fd, .buffer = (void *)(uintptr_t)buffer};
    return io_run_full(&io, size, POLL_WRITE, attempt_write);
}

// --- Vectors and messages.

static size_t iov_size(const struct iovec *iov, size_t count)
{
    size_t size = 0;
    for (size_t i = 0; i < count; i++)
        if (__builtin_add_overflow(size, iov[i].iov_len, &size))
            return SIZE_MAX;
    return size;
}

static ssize_t attempt_readv(struct io *io)
{
    if (!(io->life & POLL_SOCKET))
        return sys_readv(io->fd, io->iov, io->flags);
    struct msghdr m = {.msg_iov = (struct iovec *)(uintptr_t)io->iov,
                       .msg_iovlen = (size_t)io->flags};
    ssize_t n = sys_recvmsg(io->fd, &m, MSG_DONTWAIT);
    io->is_whole = m.msg_flags & MSG_CTRUNC;
    return n;
}

static ssize_t attempt_writev(struct io *io)
{
    if (!(io->life & POLL_SOCKET))
        return sys_writev(io->fd, io->iov, io->flags);
    struct msghdr m = {.msg_iov = (struct iovec *)(uintptr_t)io->iov,
                       .msg_iovlen = (size_t)io->flags};
    return sys_sendmsg(io->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static ssize_t io_vector(int fd, const struct iovec *iov, int count, int side, io_attempt *attempt)
{
    if (count < 0 || count > IOV_MAX)
        return -EINVAL;
    struct io io = {.fd = fd, .iov = iov, .flags = count};
    io.size = io_size(iov_size(iov, (size_t)count));
    return io_run(&io, side, attempt);
}

FIB_PUBLIC ssize_t fib_readv(int fd, const struct iovec *iov, int count)
{
    return io_vector(fd, iov, count, POLL_READ, attempt_readv);
}

FIB_PUBLIC ssize_t fib_writev(int fd, const struct iovec *iov, int count)
{
    return io_vector(fd, iov, count, POLL_WRITE, attempt_writev);
}

static ssize_t attempt_recvmsg(struct io *io)
{
    struct msghdr m = *io->message; // an attempt that fails changes nothing
    ssize_t n = sys_recvmsg(io->fd, &m, io->flags | MSG_DONTWAIT);
    if (n < 0)
        return n;
    *io->message = m;
    io->is_whole = (io->flags & ~(MSG_CMSG_CLOEXEC | MSG_NOSIGNAL | MSG_DONTWAIT)) ||
                   m.msg_controllen || (m.msg_flags & (MSG_CTRUNC | MSG_OOB));
    return n;
}

FIB_PUBLIC ssize_t fib_recvmsg(int fd, struct msghdr *m, int flags)
{
    struct io io = {.fd = fd, .message = m, .flags = flags};
    io.size = io_size(iov_size(m->msg_iov, m->msg_iovlen));
    return io_run(&io, POLL_READ, attempt_recvmsg);
}

static ssize_t attempt_sendmsg(struct io *io)
{
    ssize_t n = sys_sendmsg(io->fd, io->message, io->flags | MSG_DONTWAIT | MSG_NOSIGNAL);
    // A datagram to a unix socket whose queue is full: the kernel tells only those that are connected.
    io->is_retry_later = n == -EAGAIN && io->message->msg_name && (io->life & POLL_UNIX);
    return n;
}

FIB_PUBLIC ssize_t fib_sendmsg(int fd, const struct msghdr *m, int flags)
{
    struct io io = {.fd = fd, .message = (struct msghdr *)(uintptr_t)m, .flags = flags};
    io.size = io_size(iov_size(m->msg_iov, m->msg_iovlen));
    return io_run(&io, POLL_WRITE, attempt_sendmsg);
}

// --- Connections.

struct io_address {
    struct io io;
    struct sockaddr *to; // accept: out, or NULL
    const struct sockaddr *from;
    socklen_t *size;
    socklen_t size_in;
};

static ssize_t attempt_accept(struct io *io)
{
    struct io_address *a = (struct io_address *)io;
    socklen_t size = a->size_in;
    ssize_t fd = sys_accept4(io->fd, a->to, a->size ? &size : NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd == -ECONNABORTED) // gone before we came
        return -EINTR;
    if (fd >= 0 && a->size)
        *a->size = size;
    return fd;
}

FIB_PUBLIC int fib_accept(int fd, struct sockaddr *address, socklen_t *size)
{
    struct io_address a = {
        .io = {.fd = fd, .size = SIZE_MAX, .is_whole = true}, .to = address, .size = size};
    a.size_in = size ? *size : 0;
    int new = (int)io_run(&a.io, POLL_READ, attempt_accept);
    if (new < 0)
        return new;
    uint64_t kind = a.io.life & (POLL_STREAM | POLL_SOCKET | POLL_UNIX | POLL_LINGERS);
    int rc = poll_open_new(new, kind | POLL_EVENTS);
    if (!rc)
        return new;
    sys_close(new);
    return rc;
}

// connect again tells how it went.
static ssize_t attempt_connect(struct io *io)
{
    struct io_address *a = (struct io_address *)io;
    ssize_t rc = sys_connect(io->fd, a->from, a->size_in);
    if (rc == -EISCONN && io->is_connecting)
        return 0;
    io->is_retry_later = rc == -EAGAIN; // a unix socket whose queue is full
    if (rc == -EINPROGRESS || rc == -EALREADY || rc == -EINTR) {
        io->is_connecting = true;
        return -EAGAIN;
    }
    return rc;
}

static void set_nonblocking(int fd)
{
    int mode = fcntl(fd, F_GETFL);
    if (mode >= 0 && !(mode & O_NONBLOCK))
        fcntl(fd, F_SETFL, mode | O_NONBLOCK);
}

// Before it connects, the kernel reports a socket of TCP as hung up, which then would stick: so it is registered
// only afterwards.
static bool is_registered(int fd)
{
    struct poll_desc *d = poll_find(fd);
    return d && (atomic_load(&d->life) & POLL_OPEN);
}

static void forget_hup(int fd)
{
    struct poll_desc *d = poll_find(fd);
    for (int i = 0; d && i < POLL_SIDES; i++)
        atomic_store(&d->sides[i].is_hup, 0);
}

FIB_PUBLIC int fib_connect(int fd, const struct sockaddr *address, socklen_t size)
{
    struct io_address a = {
        .io = {.fd = fd, .size = SIZE_MAX, .is_whole = true}, .from = address, .size_in = size};
    if (!is_registered(fd)) {
        set_nonblocking(fd);
        ssize_t rc = attempt_connect(&a.io);
        if (rc != -EAGAIN)
            return (int)rc;
        return (int)io_run(&a.io, POLL_WRITE, attempt_connect);
    }
    int rc = (int)io_run(&a.io, POLL_WRITE, attempt_connect);
    if (!rc)
        forget_hup(fd);
    return rc;
}

// --- Readiness and deadlines.

static int ready_now(int fd, int what)
{
    struct pollfd p = {
        fd, (short)((what & FIB_READ ? POLLIN | POLLRDHUP : 0) | (what & FIB_WRITE ? POLLOUT : 0)),
        0};
    struct timespec none = {0};
    ssize_t n;
    do
        n = sys_poll(&p, 1, &none);
    while (n == -EINTR);
    if (n <= 0)
        return (int)n;
    int ready = p.revents & (POLLHUP | POLLERR | POLLNVAL) ? what : 0;
    if (p.revents & (POLLIN | POLLRDHUP))
        ready |= FIB_READ;
    if (p.revents & POLLOUT)
        ready |= FIB_WRITE;
    return ready & what;
}

// The sides count as drained, so that what comes after the look at them is noticed.
static void expect_events(struct poll_desc *d, uint32_t mask)
{
    for (int i = 0; i < POLL_SIDES; i++) {
        uintptr_t ready = POLL_READY;
        if (mask & (1u << i))
            atomic_compare_exchange_strong(&d->sides[i].state, &ready, POLL_DRAINED);
    }
}

static int poll_loop(struct poll_desc *d, int fd, int what, int64_t timeout_ns)
{
    uint32_t mask =
        (what & FIB_READ ? 1u << POLL_READ : 0) | (what & FIB_WRITE ? 1u << POLL_WRITE : 0);
    int64_t end = timeout_ns < 0 ? -1 : clock_now() + timeout_ns;
    for (;;) {
        int rc = 0;
        for (int i = 0; i < POLL_SIDES && !rc; i++)
            rc = mask & (1u << i) ? poll_check(d, i) : 0;
        if (rc)
            return rc;
        expect_events(d, mask);
        rc = ready_now(fd, what);
        int64_t left = end < 0 ? -1 : end - clock_now();
        if (!rc && end >= 0 && left <= 0)
            return 0;
        if (!rc)
            rc = poll_wait_for(d, fd, mask, left, false);
        if (!rc)
            continue;
        // It does not take what came: the next call may.
        for (int i = 0; i < POLL_SIDES; i++)
            if (mask & (1u << i))
                poll_end_ready(d, i);
        return rc;
    }
}

FIB_PUBLIC int fib_poll(int fd, int what, int64_t timeout_ns)
{
    if (!(what & (FIB_READ | FIB_WRITE)) || (what & ~(FIB_READ | FIB_WRITE)))
        return -EINVAL;
    struct poll_desc *d;
    uint64_t life;
    int rc = poll_hold(fd, &d, &life);
    if (rc)
        return rc;
    if (life & POLL_EVENTS)
        rc = poll_loop(d, fd, what, timeout_ns);
    else
        rc = what;
    poll_release(d);
    return rc;
}

FIB_PUBLIC int fib_set_deadline(int fd, int what, int64_t when_ns)
{
    if (!(what & (FIB_READ | FIB_WRITE)) || (what & ~(FIB_READ | FIB_WRITE)) || when_ns < 0)
        return -EINVAL;
    struct poll_desc *d;
    uint64_t life;
    int rc = poll_hold(fd, &d, &life);
    if (rc)
        return rc;
    if (!(life & POLL_EVENTS))
        rc = -EOPNOTSUPP;
    if (!rc && (what & FIB_READ))
        poll_set_deadline(d, POLL_READ, when_ns);
    if (!rc && (what & FIB_WRITE))
        poll_set_deadline(d, POLL_WRITE, when_ns);
    poll_release(d);
    return rc;
}
