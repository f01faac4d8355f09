// SPDX-License-Identifier: MIT
//
// Input and output that makes the fiber wait, not the thread: sockets and pipes by a netpoller on epoll,
// everything else as a blocking call in which others get the processor.
//
// What always holds
//   - Descriptors are the kernel's. The first call with one makes it non-blocking, if it can be polled; a
//     regular file cannot, and its calls are blocking calls. Standard input, output and error stay as they
//     are: others may share them.
//   - One fiber at a time reads a descriptor, and one writes it, for the order of bytes; more may wait,
//     and are all woken.
//   - fib_close wakes all who wait on the descriptor: they get -ECANCELED; it returns when no call uses it any
//     more. A descriptor that was used here is to be closed by fib_close.
//   - Functions return what the system call returns, or a negative errno; they never return -EINTR or
//     -EAGAIN. A deadline that has passed gives -ETIMEDOUT, until it is set anew.
//   - In a plain thread they block the thread (poll), with the same results, also before the runtime runs.
//   - Sockets raise no SIGPIPE; pipes do, as write(2).

#ifndef FIBERSCOPE_IO_H
#define FIBERSCOPE_IO_H

#include <fiberscope/fiber.h>

#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

struct addrinfo;
struct stat;

ssize_t fib_read(int fd, void *buffer, size_t size);
ssize_t fib_write(int fd, const void *buffer, size_t size); // may be short, as write
ssize_t fib_readv(int fd, const struct iovec *iov, int count);
ssize_t fib_writev(int fd, const struct iovec *iov, int count);
// All of it: size, or an error (and then some may have been moved). read_full: less only at the end of file.
ssize_t fib_read_full(int fd, void *buffer, size_t size);
ssize_t fib_write_full(int fd, const void *buffer, size_t size);
ssize_t fib_recvmsg(int fd, struct msghdr *m, int flags);
ssize_t fib_sendmsg(int fd, const struct msghdr *m, int flags);

// A non-blocking, close-on-exec descriptor.
int fib_accept(int fd, struct sockaddr *address, socklen_t *size);
int fib_connect(int fd, const struct sockaddr *address, socklen_t size);
int fib_close(int fd);

enum { FIB_READ = 1, FIB_WRITE = 2 };
// Waits until fd may be read or written: which of `what`; 0: the time is over.
int fib_poll(int fd, int what, int64_t timeout_ns);

// Calls that wait for reading or writing fail with -ETIMEDOUT from `when_ns` (fib_now_ns) on, those
// that wait already, too; 0: no deadline. -EOPNOTSUPP: the file cannot be polled.
int fib_set_deadline(int fd, int what, int64_t when_ns);

// TCP and unix sockets. host: a name or number, resolved as a blocking call; "unix:PATH" for a unix socket (then
// port is not used; "unix:@NAME": abstract). timeout_ns for all of it. host of fib_listen NULL: any
// address. -ENOENT: no such host; -EHOSTUNREACH: or no answer from the name server.
int fib_dial(const char *host, uint16_t port, int64_t timeout_ns); // a connected descriptor
int fib_listen(const char *host, uint16_t port, int backlog);      // a listening one, SO_REUSEADDR

// --- Blocking calls, each as the function of that name, but with -errno.
int fib_open(const char *path, int flags, mode_t mode);
ssize_t fib_pread(int fd, void *buffer, size_t size, off_t offset);
ssize_t fib_pwrite(int fd, const void *buffer, size_t size, off_t offset);
int fib_fsync(int fd);
int fib_stat(const char *path, struct stat *out);
int fib_unlink(const char *path);
int fib_rename(const char *from, const char *to);
int fib_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                    struct addrinfo **out); // EAI_ codes, as getaddrinfo
pid_t fib_waitpid(pid_t pid, int *status, int options);

#ifdef __cplusplus
} // extern "C"
#endif

#endif
