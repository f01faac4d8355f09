// SPDX-License-Identifier: MIT
//
// Where plain threads wait in the kernel, for execution traces: files as system calls, sockets and polling as waits for
// the network, sleeps as such. Without a trace each is one load more.
//
// Threads that run fibers pass by: their waits are the runtime's to tell. A thread that is cancelled in such a
// call leaves it unended, which its end puts right.

#include "agent/hooks.h"
#include "agent/trace.h"
#include "emit/emit.h"

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

static inline bool is_on(void)
{
    if (__builtin_expect(!hooks_ready(), 0))
        hooks_resolve_locks();
    return emit_is_on();
}

static void begin(int reason)
{
    int saved = errno;
    if (reason)
        emit_self_block((enum emit_reason)reason, 0);
    else
        emit_self_call(false);
    errno = saved;
}

static void end(int reason)
{
    int saved = errno;
    if (reason)
        emit_self_wake();
    else
        emit_self_call(true);
    emit_tick();
    errno = saved;
}

enum { CALL = 0, NET = EMIT_REASON_NETWORK, SLEEP = EMIT_REASON_SLEEP };

#define WAIT(type, kind, call)                                                                     \
    do {                                                                                           \
        if (!is_on())                                                                              \
            return call;                                                                           \
        begin(kind);                                                                               \
        type rc_ = call;                                                                           \
        end(kind);                                                                                 \
        return rc_;                                                                                \
    } while (0)

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

INTERPOSED int poll(struct pollfd *fds, nfds_t n, int timeout)
{
    WAIT(int, NET, real.poll(fds, n, timeout));
}

INTERPOSED int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
                     const sigset_t *mask)
{
    WAIT(int, NET, real.ppoll(fds, n, timeout, mask));
}

INTERPOSED int select(int n, fd_set *r, fd_set *w, fd_set *e, struct timeval *timeout)
{
    WAIT(int, NET, real.select(n, r, w, e, timeout));
}

INTERPOSED int epoll_wait(int fd, struct epoll_event *events, int n, int timeout)
{
    WAIT(int, NET, real.epoll_wait(fd, events, n, timeout));
}

INTERPOSED int epoll_pwait(int fd, struct epoll_event *events, int n, int timeout,
                           const sigset_t *mask)
{
    WAIT(int, NET, real.epoll_pwait(fd, events, n, timeout, mask));
}

INTERPOSED int nanosleep(const struct timespec *wanted, struct timespec *left)
{
    WAIT(int, SLEEP, real.nanosleep(wanted, left));
}

INTERPOSED int clock_nanosleep(clockid_t clock, int flags, const struct timespec *wanted,
                               struct timespec *left)
{
    WAIT(int, SLEEP, real.clock_nanosleep(clock, flags, wanted, left));
}

INTERPOSED int usleep(useconds_t us)
{
    WAIT(int, SLEEP, real.usleep(us));
}

INTERPOSED unsigned sleep(unsigned s)
{
    WAIT(unsigned, SLEEP, real.sleep(s));
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
