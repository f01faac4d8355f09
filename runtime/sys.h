// SPDX-License-Identifier: MIT
//
// The system calls of io*.c: results are the kernel's, -errno for errors. Under the thread sanitizer they go
// through libc, whose functions it knows: bytes through a pipe order what came before them.

#ifndef FIBERSCOPE_RUNTIME_SYS_H
#define FIBERSCOPE_RUNTIME_SYS_H

#include "runtime/arch/syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define SYS_ARG(x) ((uintptr_t)(x))

#ifdef ARCH_SYSCALL_BY_LIBC
// Not inlined: errno's address is of the thread that runs now.
#define SYS_FN static __attribute__((noinline, unused))
#define SYS_CALL(libc, ...)                                                                        \
    do {                                                                                           \
        ssize_t n_ = (libc);                                                                       \
        return n_ < 0 ? -errno : n_;                                                               \
    } while (0)
#else
#define SYS_FN              static inline
#define SYS_CALL(libc, ...) return arch_syscall(__VA_ARGS__)
#endif

SYS_FN ssize_t sys_read(int fd, void *b, size_t n)
{
    SYS_CALL(read(fd, b, n), SYS_read, SYS_ARG(fd), SYS_ARG(b), n, 0, 0, 0);
}

SYS_FN ssize_t sys_write(int fd, const void *b, size_t n)
{
    SYS_CALL(write(fd, b, n), SYS_write, SYS_ARG(fd), SYS_ARG(b), n, 0, 0, 0);
}

SYS_FN ssize_t sys_readv(int fd, const struct iovec *v, int n)
{
    SYS_CALL(readv(fd, v, n), SYS_readv, SYS_ARG(fd), SYS_ARG(v), SYS_ARG(n), 0, 0, 0);
}

SYS_FN ssize_t sys_writev(int fd, const struct iovec *v, int n)
{
    SYS_CALL(writev(fd, v, n), SYS_writev, SYS_ARG(fd), SYS_ARG(v), SYS_ARG(n), 0, 0, 0);
}

SYS_FN ssize_t sys_recv(int fd, void *b, size_t n, int flags)
{
    SYS_CALL(recv(fd, b, n, flags), SYS_recvfrom, SYS_ARG(fd), SYS_ARG(b), n, SYS_ARG(flags), 0, 0);
}

SYS_FN ssize_t sys_send(int fd, const void *b, size_t n, int flags)
{
    SYS_CALL(send(fd, b, n, flags), SYS_sendto, SYS_ARG(fd), SYS_ARG(b), n, SYS_ARG(flags), 0, 0);
}

SYS_FN ssize_t sys_recvmsg(int fd, struct msghdr *m, int flags)
{
    SYS_CALL(recvmsg(fd, m, flags), SYS_recvmsg, SYS_ARG(fd), SYS_ARG(m), SYS_ARG(flags), 0, 0, 0);
}

SYS_FN ssize_t sys_sendmsg(int fd, const struct msghdr *m, int flags)
{
    SYS_CALL(sendmsg(fd, m, flags), SYS_sendmsg, SYS_ARG(fd), SYS_ARG(m), SYS_ARG(flags), 0, 0, 0);
}

SYS_FN ssize_t sys_accept4(int fd, struct sockaddr *a, socklen_t *size, int flags)
{
    SYS_CALL(accept4(fd, a, size, flags), SYS_accept4, SYS_ARG(fd), SYS_ARG(a), SYS_ARG(size),
             SYS_ARG(flags), 0, 0);
}

SYS_FN ssize_t sys_connect(int fd, const struct sockaddr *a, socklen_t size)
{
    SYS_CALL(connect(fd, a, size), SYS_connect, SYS_ARG(fd), SYS_ARG(a), size, 0, 0, 0);
}

SYS_FN ssize_t sys_close(int fd)
{
    SYS_CALL(close(fd), SYS_close, SYS_ARG(fd), 0, 0, 0, 0, 0);
}

SYS_FN ssize_t sys_poll(struct pollfd *p, nfds_t n, const struct timespec *timeout)
{
    SYS_CALL(ppoll(p, n, timeout, NULL), SYS_ppoll, SYS_ARG(p), n, SYS_ARG(timeout), 0, 0, 0);
}

SYS_FN ssize_t sys_epoll_ctl(int epoll, int op, int fd, struct epoll_event *e)
{
    SYS_CALL(epoll_ctl(epoll, op, fd, e), SYS_epoll_ctl, SYS_ARG(epoll), SYS_ARG(op), SYS_ARG(fd),
             SYS_ARG(e), 0, 0);
}

#endif
