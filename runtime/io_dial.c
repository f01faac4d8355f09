// SPDX-License-Identifier: MIT
//
// From names to sockets. A host has several addresses: they are tried in their order, each with its share of
// the time that is left, as Go has it.

#include "runtime/poll.h"
#include "runtime/sys.h"

#include "fiberscope/io.h"

#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

enum { SHARE_MIN_NS = 2000000000 };

// With errno: not inlined, as a caller that can switch would keep its address.
#define NOT_INLINED __attribute__((noinline))

static NOT_INLINED int new_socket(int family)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    poll_forget(fd);
    return fd;
}

// --- Unix sockets.

static const char *unix_path(const char *host)
{
    return host && !strncmp(host, "unix:", 5) ? host + 5 : NULL;
}

// "@NAME" is an abstract name, as in Go and ss(8). The size; -ENAMETOOLONG.
static int unix_address(const char *path, struct sockaddr_un *a)
{
    size_t n = strlen(path);
    *a = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (!n)
        return -EINVAL;
    if (n >= sizeof a->sun_path)
        return -ENAMETOOLONG;
    memcpy(a->sun_path, path, n);
    bool is_abstract = path[0] == '@';
    if (is_abstract)
        a->sun_path[0] = 0;
    return (int)(offsetof(struct sockaddr_un, sun_path) + n + !is_abstract);
}

// --- Names.

static int error_of_resolver(int rc)
{
    switch (rc) {
    case 0: return 0;
    case EAI_SYSTEM: return errno ? -errno : -EIO;
    case EAI_MEMORY: return -ENOMEM;
    case EAI_AGAIN: return -EHOSTUNREACH; // the server did not answer
    case EAI_NONAME:
    case EAI_NODATA:
    case EAI_ADDRFAMILY: return -ENOENT;
    default: return -EINVAL;
    }
}

static NOT_INLINED int resolve(const char *host, uint16_t port, int flags, struct addrinfo **out)
{
    char service[8];
    snprintf(service, sizeof service, "%u", port);
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | flags};
    if (host && !*host)
        host = NULL;
    // errno, for EAI_SYSTEM, is the thread's, which may be another one behind the call.
    fib_blocking_enter();
    int rc = error_of_resolver(getaddrinfo(host, service, &hints, out));
    fib_blocking_exit();
    return rc;
}

// --- Dialing.

// end: by clock_now; 0: no limit.
static int dial_address(int family, const struct sockaddr *a, socklen_t size, int64_t end)
{
    int fd = new_socket(family);
    if (fd < 0)
        return fd;
    ssize_t rc = sys_connect(fd, a, size);
    if (rc == -EINPROGRESS || rc == -EAGAIN || rc == -EINTR) {
        rc = end ? fib_set_deadline(fd, FIB_WRITE, end) : 0;
        if (!rc)
            rc = fib_connect(fd, a, size);
        if (rc == -EISCONN) // since the first call
            rc = 0;
        if (!rc && end)
            rc = fib_set_deadline(fd, FIB_WRITE, 0);
    }
    if (!rc)
        return fd;
    fib_close(fd);
    return (int)rc;
}

// The end of one of `count` addresses' share.
static int64_t share_end(int64_t end, int count)
{
    if (!end)
        return 0;
    int64_t now = clock_now();
    int64_t share = (end - now) / count;
    if (share < SHARE_MIN_NS)
        share = SHARE_MIN_NS;
    return now + share < end ? now + share : end;
}

static int dial_all(const struct addrinfo *list, int64_t end)
{
    int rc = -ENOENT, count = 0;
    for (const struct addrinfo *a = list; a; a = a->ai_next)
        count++;
    int first = 0;
    for (const struct addrinfo *a = list; a; a = a->ai_next, count--) {
        if (end && clock_now() >= end)
            return -ETIMEDOUT;
        rc = dial_address(a->ai_family, a->ai_addr, a->ai_addrlen, share_end(end, count));
        if (rc >= 0)
            return rc;
        if (!first)
            first = rc; // the one of the address that is preferred says most
    }
    return first;
}

FIB_PUBLIC int fib_dial(const char *host, uint16_t port, int64_t timeout_ns)
{
    int64_t end = timeout_ns < 0 ? 0 : clock_now() + timeout_ns;
    const char *path = unix_path(host);
    if (path) {
        struct sockaddr_un a;
        int size = unix_address(path, &a);
        return size < 0 ? size : dial_address(AF_UNIX, (struct sockaddr *)&a, (socklen_t)size, end);
    }
    struct addrinfo *list = NULL;
    int rc = resolve(host, port, AI_ADDRCONFIG, &list);
    if (rc)
        return rc;
    rc = dial_all(list, end);
    freeaddrinfo(list);
    return rc;
}

// --- Listening.

static NOT_INLINED int listen_address(int family, const struct sockaddr *a, socklen_t size,
                                      int backlog)
{
    int fd = new_socket(family);
    if (fd < 0)
        return fd;
    int on = 1, off = 0, rc = 0;
    if (family != AF_UNIX && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on))
        rc = -errno;
    if (family == AF_INET6) // the wildcard takes both
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (!rc && (bind(fd, a, size) || listen(fd, backlog > 0 ? backlog : SOMAXCONN)))
        rc = -errno;
    uint64_t flags = POLL_EVENTS | POLL_SOCKET | POLL_STREAM;
    flags |= family == AF_UNIX ? POLL_UNIX : POLL_LINGERS;
    if (!rc)
        rc = poll_open_new(fd, flags);
    if (!rc)
        return fd;
    sys_close(fd);
    return rc;
}

// Any address: of both families where the system has them.
static int listen_any(uint16_t port, int backlog)
{
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    int fd = listen_address(AF_INET6, (struct sockaddr *)&six, sizeof six, backlog);
    if (fd != -EAFNOSUPPORT && fd != -EADDRNOTAVAIL)
        return fd;
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(port)};
    return listen_address(AF_INET, (struct sockaddr *)&four, sizeof four, backlog);
}

FIB_PUBLIC int fib_listen(const char *host, uint16_t port, int backlog)
{
    const char *path = unix_path(host);
    if (path) {
        struct sockaddr_un a;
        int size = unix_address(path, &a);
        return size < 0 ? size
                        : listen_address(AF_UNIX, (struct sockaddr *)&a, (socklen_t)size, backlog);
    }
    if (!host || !*host)
        return listen_any(port, backlog);
    struct addrinfo *list = NULL;
    int rc = resolve(host, port, AI_PASSIVE | AI_ADDRCONFIG, &list);
    if (rc)
        return rc;
    rc = listen_address(list->ai_family, list->ai_addr, list->ai_addrlen, backlog);
    freeaddrinfo(list);
    return rc;
}
