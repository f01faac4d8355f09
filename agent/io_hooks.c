// SPDX-License-Identifier: MIT
//
// Where plain threads wait in the kernel, for execution traces: files as system calls, sockets and polling as waits for
// the network, sleeps as such. Without a trace each is one load more.
//
// Threads that run fibers pass by: their waits are the runtime's to tell. A thread that is cancelled in such a
// call leaves it unended, which its end puts right.

#include "agent/told_wait.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define INTERPOSED __attribute__((visibility("default")))

static struct {
    ssize_t (*read)(int fd, void *at, size_t n);
    ssize_t (*write)(int fd, const void *at, size_t n);
    ssize_t (*readv)(int fd, const struct iovec *v, int n);
    ssize_t (*writev)(int fd, const struct iovec *v, int n);
    int (*fsync)(int fd);
    int (*fdatasync)(int fd);
    pid_t (*waitpid)(pid_t pid, int *status, int options);
    ssize_t (*recv)(int fd, void *at, size_t n, int flags);
    ssize_t (*recvfrom)(int fd, void *at, size_t n, int flags, __SOCKADDR_ARG from,
                        socklen_t *size);
    ssize_t (*recvmsg)(int fd, struct msghdr *m, int flags);
    ssize_t (*send)(int fd, const void *at, size_t n, int flags);
    ssize_t (*sendto)(int fd, const void *at, size_t n, int flags, __CONST_SOCKADDR_ARG to,
                      socklen_t size);
    ssize_t (*sendmsg)(int fd, const struct msghdr *m, int flags);
    int (*accept)(int fd, __SOCKADDR_ARG from, socklen_t *size);
    int (*accept4)(int fd, __SOCKADDR_ARG from, socklen_t *size, int flags);
    int (*connect)(int fd, __CONST_SOCKADDR_ARG to, socklen_t size);
    int (*poll)(struct pollfd *fds, nfds_t n, int timeout);
    int (*ppoll)(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
                 const sigset_t *mask);
    int (*select)(int n, fd_set *r, fd_set *w, fd_set *e, struct timeval *timeout);
    int (*epoll_wait)(int fd, struct epoll_event *events, int n, int timeout);
    int (*epoll_pwait)(int fd, struct epoll_event *events, int n, int timeout,
                       const sigset_t *mask);
    int (*nanosleep)(const struct timespec *wanted, struct timespec *left);
    int (*clock_nanosleep)(clockid_t clock, int flags, const struct timespec *wanted,
                           struct timespec *left);
    int (*usleep)(useconds_t us);
    unsigned (*sleep)(unsigned s);
} real;

INTERPOSED ssize_t read(int fd, void *at, size_t n)
{
    WAIT(ssize_t, CALL, real.read(fd, at, n));
}

INTERPOSED ssize_t write(int fd, const void *at, size_t n)
{
    WAIT(ssize_t, CALL, real.write(fd, at, n));
}

INTERPOSED ssize_t readv(int fd, const struct iovec *v, int n)
{
    WAIT(ssize_t, CALL, real.readv(fd, v, n));
}

INTERPOSED ssize_t writev(int fd, const struct iovec *v, int n)
{
    WAIT(ssize_t, CALL, real.writev(fd, v, n));
}

INTERPOSED int fsync(int fd)
{
    WAIT(int, CALL, real.fsync(fd));
}

INTERPOSED int fdatasync(int fd)
{
    WAIT(int, CALL, real.fdatasync(fd));
}

INTERPOSED pid_t waitpid(pid_t pid, int *status, int options)
{
    WAIT(pid_t, CALL, real.waitpid(pid, status, options));
}

INTERPOSED ssize_t recv(int fd, void *at, size_t n, int flags)
{
    WAIT(ssize_t, NET, real.recv(fd, at, n, flags));
}

INTERPOSED ssize_t recvfrom(int fd, void *at, size_t n, int flags, __SOCKADDR_ARG from,
                            socklen_t *size)
{
    WAIT(ssize_t, NET, real.recvfrom(fd, at, n, flags, from, size));
}

INTERPOSED ssize_t recvmsg(int fd, struct msghdr *m, int flags)
{
    WAIT(ssize_t, NET, real.recvmsg(fd, m, flags));
}

INTERPOSED ssize_t send(int fd, const void *at, size_t n, int flags)
{
    WAIT(ssize_t, NET, real.send(fd, at, n, flags));
}

INTERPOSED ssize_t sendto(int fd, const void *at, size_t n, int flags, __CONST_SOCKADDR_ARG to,
                          socklen_t size)
{
    WAIT(ssize_t, NET, real.sendto(fd, at, n, flags, to, size));
}

INTERPOSED ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
    WAIT(ssize_t, NET, real.sendmsg(fd, m, flags));
}

INTERPOSED int accept(int fd, __SOCKADDR_ARG from, socklen_t *size)
{
    WAIT(int, NET, real.accept(fd, from, size));
}

INTERPOSED int accept4(int fd, __SOCKADDR_ARG from, socklen_t *size, int flags)
{
    WAIT(int, NET, real.accept4(fd, from, size, flags));
}

INTERPOSED int connect(int fd, __CONST_SOCKADDR_ARG to, socklen_t size)
{
    WAIT(int, NET, real.connect(fd, to, size));
}

// --- Waits that a handler ends early.

static int whole_poll(struct pollfd *fds, nfds_t n, int timeout)
{
    struct patience p = patience(timeout * INT64_C(1000000));
    int rc;
    while ((rc = real.poll(fds, n, timeout)) < 0 && goes_on(&p, errno))
        timeout = left_ms(&p, timeout);
    return rc;
}

static int whole_ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
                       const sigset_t *mask)
{
    struct patience p = patience(time_ns(timeout));
    struct timespec left;
    int rc;
    while ((rc = real.ppoll(fds, n, timeout, mask)) < 0 && goes_on(&p, errno))
        if (timeout) {
            left = left_time(&p);
            timeout = &left;
        }
    return rc;
}

// Linux leaves the time that is left in *timeout, and the sets alone.
static int whole_select(int n, fd_set *r, fd_set *w, fd_set *e, struct timeval *timeout)
{
    struct patience p = patience(-1);
    int rc;
    while ((rc = real.select(n, r, w, e, timeout)) < 0 && goes_on(&p, errno))
        ;
    return rc;
}

static int whole_epoll_wait(int fd, struct epoll_event *events, int n, int timeout)
{
    struct patience p = patience(timeout * INT64_C(1000000));
    int rc;
    while ((rc = real.epoll_wait(fd, events, n, timeout)) < 0 && goes_on(&p, errno))
        timeout = left_ms(&p, timeout);
    return rc;
}

static int whole_epoll_pwait(int fd, struct epoll_event *events, int n, int timeout,
                             const sigset_t *mask)
{
    struct patience p = patience(timeout * INT64_C(1000000));
    int rc;
    while ((rc = real.epoll_pwait(fd, events, n, timeout, mask)) < 0 && goes_on(&p, errno))
        timeout = left_ms(&p, timeout);
    return rc;
}

static int whole_nanosleep(const struct timespec *wanted, struct timespec *left)
{
    struct patience p = patience(-1);
    struct timespec rest, next;
    int rc;
    while ((rc = real.nanosleep(wanted, &rest)) < 0 && goes_on(&p, errno)) {
        next = rest;
        wanted = &next;
    }
    if (rc < 0 && errno == EINTR && left)
        *left = rest;
    return rc;
}

static int whole_clock_nanosleep(clockid_t clock, int flags, const struct timespec *wanted,
                                 struct timespec *left)
{
    struct patience p = patience(-1);
    struct timespec rest, next;
    int rc;
    while ((rc = real.clock_nanosleep(clock, flags, wanted, &rest)) && goes_on(&p, rc))
        if (!(flags & TIMER_ABSTIME)) {
            next = rest;
            wanted = &next;
        }
    if (rc == EINTR && left && !(flags & TIMER_ABSTIME))
        *left = rest;
    return rc;
}

static int whole_usleep(useconds_t us)
{
    const struct timespec t = {us / 1000000, (long)(us % 1000000) * 1000};
    return whole_nanosleep(&t, NULL);
}

// As sleep(3): what is left, to the nearest second.
static unsigned whole_sleep(unsigned s)
{
    struct timespec t = {(time_t)s, 0};
    int saved = errno;
    if (!whole_nanosleep(&t, &t)) {
        errno = saved;
        return 0;
    }
    return (unsigned)t.tv_sec + (t.tv_nsec >= 500000000);
}

// Of no descriptors it is a way to sleep.
INTERPOSED int poll(struct pollfd *fds, nfds_t n, int timeout)
{
    WAIT(int, n ? NET : SLEEP, whole_poll(fds, n, timeout));
}

INTERPOSED int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
                     const sigset_t *mask)
{
    WAIT(int, n ? NET : SLEEP, whole_ppoll(fds, n, timeout, mask));
}

INTERPOSED int select(int n, fd_set *r, fd_set *w, fd_set *e, struct timeval *timeout)
{
    WAIT(int, r || w || e ? NET : SLEEP, whole_select(n, r, w, e, timeout));
}

INTERPOSED int epoll_wait(int fd, struct epoll_event *events, int n, int timeout)
{
    WAIT(int, NET, whole_epoll_wait(fd, events, n, timeout));
}

INTERPOSED int epoll_pwait(int fd, struct epoll_event *events, int n, int timeout,
                           const sigset_t *mask)
{
    WAIT(int, NET, whole_epoll_pwait(fd, events, n, timeout, mask));
}

INTERPOSED int nanosleep(const struct timespec *wanted, struct timespec *left)
{
    WAIT(int, SLEEP, whole_nanosleep(wanted, left));
}

INTERPOSED int clock_nanosleep(clockid_t clock, int flags, const struct timespec *wanted,
                               struct timespec *left)
{
    WAIT(int, SLEEP, whole_clock_nanosleep(clock, flags, wanted, left));
}

INTERPOSED int usleep(useconds_t us)
{
    WAIT(int, SLEEP, whole_usleep(us));
}

INTERPOSED unsigned sleep(unsigned s)
{
    WAIT(unsigned, SLEEP, whole_sleep(s));
}

static const struct hook hooks[] = {
    HOOK(read, real.read),
    HOOK(write, real.write),
    HOOK(readv, real.readv),
    HOOK(writev, real.writev),
    HOOK(fsync, real.fsync),
    HOOK(fdatasync, real.fdatasync),
    HOOK(waitpid, real.waitpid),
    HOOK(recv, real.recv),
    HOOK(recvfrom, real.recvfrom),
    HOOK(recvmsg, real.recvmsg),
    HOOK(send, real.send),
    HOOK(sendto, real.sendto),
    HOOK(sendmsg, real.sendmsg),
    HOOK(accept, real.accept),
    HOOK(accept4, real.accept4),
    HOOK(connect, real.connect),
    HOOK(poll, real.poll),
    HOOK(ppoll, real.ppoll),
    HOOK(select, real.select),
    HOOK(epoll_wait, real.epoll_wait),
    HOOK(epoll_pwait, real.epoll_pwait),
    HOOK(nanosleep, real.nanosleep),
    HOOK(clock_nanosleep, real.clock_nanosleep),
    HOOK(usleep, real.usleep),
    HOOK(sleep, real.sleep),
};

const struct hook_table io_hooks = {hooks, sizeof hooks / sizeof *hooks};
