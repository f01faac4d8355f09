// SPDX-License-Identifier: MIT
//
// Calls that block a thread, with the processor left to others meanwhile.
//
// errno is read before fib_blocking_exit: behind it the fiber may be in another thread.

#include "runtime/poll.h"
#include "runtime/sys.h"

#include "fiberscope/io.h"

#include <netdb.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

// Between enter and exit: the call until it is not interrupted, as -errno.
#define BLOCKING(type, call)                                                                       \
    type rc_;                                                                                      \
    fib_blocking_enter();                                                                          \
    do {                                                                                           \
        rc_ = (call);                                                                              \
        if (rc_ < 0)                                                                               \
            rc_ = (type)-errno;                                                                    \
    } while (rc_ == -EINTR);                                                                       \
    fib_blocking_exit();                                                                           \
    return rc_

static int open_blocking(const char *path, int flags, mode_t mode)
{
    BLOCKING(int, open(path, flags, mode));
}

FIB_PUBLIC int fib_open(const char *path, int flags, mode_t mode)
{
    int fd = open_blocking(path, flags, mode);
    if (fd >= 0)
        poll_forget(fd);
    return fd;
}

FIB_PUBLIC ssize_t fib_pread(int fd, void *buffer, size_t size, off_t offset)
{
    BLOCKING(ssize_t, pread(fd, buffer, size, offset));
}

FIB_PUBLIC ssize_t fib_pwrite(int fd, const void *buffer, size_t size, off_t offset)
{
    BLOCKING(ssize_t, pwrite(fd, buffer, size, offset));
}

FIB_PUBLIC int fib_fsync(int fd)
{
    BLOCKING(int, fsync(fd));
}

FIB_PUBLIC int fib_stat(const char *path, struct stat *out)
{
    BLOCKING(int, stat(path, out));
}

FIB_PUBLIC int fib_unlink(const char *path)
{
    BLOCKING(int, unlink(path));
}

FIB_PUBLIC int fib_rename(const char *from, const char *to)
{
    BLOCKING(int, rename(from, to));
}

FIB_PUBLIC pid_t fib_waitpid(pid_t pid, int *status, int options)
{
    BLOCKING(pid_t, waitpid(pid, status, options));
}

FIB_PUBLIC int fib_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                               struct addrinfo **out)
{
    fib_blocking_enter();
    int rc = getaddrinfo(node, service, hints, out);
    fib_blocking_exit();
    return rc;
}
