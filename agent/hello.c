// SPDX-License-Identifier: MIT
//
// Messages to the collector, as protocol.h has them: a fresh CLOEXEC socket per message, so that no
// descriptor stays in the target and a dead collector is noticed here and nowhere else. System calls
// alone: a forked child says HELLO from its signal handler.

#include "agent/agent.h"
#include "agent/arch/x86_64.h"
#include "agent/protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

// wait_ms: for a collector that is slow; 0: not at all.
static int connect_collector(const char *name, int wait_ms)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    size_t n = strlen(name);
    if (n + 1 > sizeof to.sun_path)
        return -ENAMETOOLONG;
    memcpy(to.sun_path + 1, name, n); // abstract: the name starts with a NUL and ends with its size
    int type = SOCK_SEQPACKET | SOCK_CLOEXEC | (wait_ms ? 0 : SOCK_NONBLOCK);
    int fd = (int)sys3(SYS_socket, AF_UNIX, type, 0);
    if (fd < 0)
        return fd;
    // A collector with a full backlog must not hold the target: SO_SNDTIMEO bounds connect too.
    struct timeval limit = {wait_ms / 1000, wait_ms % 1000 * 1000L};
    if (wait_ms)
        sys5(SYS_setsockopt, fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    size_t size = offsetof(struct sockaddr_un, sun_path) + 1 + n;
    int rc = (int)sys3(SYS_connect, fd, &to, size);
    if (rc) {
        sys1(SYS_close, fd);
        return rc;
    }
    return fd;
}

// Field 22 of /proc/self/stat; the program's name in field 2 may hold anything, so count from its
// last parenthesis.
static uint64_t start_ticks(void)
{
    char text[1024];
    int fd = (int)sys4(SYS_openat, AT_FDCWD, "/proc/self/stat", O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return 0;
    long n = sys3(SYS_read, fd, text, sizeof text - 1);
    sys1(SYS_close, fd);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    const char *p = strrchr(text, ')');
    for (int field = 2; p && field < 22; field++) {
        p = strchr(p, ' ');
        if (p)
            p++;
    }
    uint64_t ticks = 0;
    for (; p && *p >= '0' && *p <= '9'; p++)
        ticks = ticks * 10 + (uint64_t)(*p - '0');
    return ticks;
}

static int send_with_segment(int socket_fd, const void *data, size_t size, int segment_fd)
{
    union { // aligned as the kernel wants it
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec part = {.iov_len = size};
    memcpy(&part.iov_base, &data, sizeof data); // iovec has no const
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (segment_fd >= 0) {
        memset(&control, 0, sizeof control);
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof control.bytes;
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &segment_fd, sizeof segment_fd);
    }
    long n;
    do
        n = sys3(SYS_sendmsg, socket_fd, &message, MSG_NOSIGNAL);
    while (n == -EINTR);
    return n == (long)size ? 0 : n < 0 ? (int)n : -EIO;
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

// Waits for CONFIG. What counts is in the control words; the answer says that they are there.
static int await_config(int fd, int wait_ms)
{
    int64_t until = now_ms() + wait_ms;
    struct agent_config config;
    for (;;) {
        int64_t left = until - now_ms();
        if (left <= 0)
            return -ETIMEDOUT;
        struct pollfd p = {.fd = fd, .events = POLLIN};
        long ready = sys3(SYS_poll, &p, 1, left);
        if (ready < 0 && ready != -EINTR)
            return (int)ready;
        if (ready <= 0)
            continue;
        long n =
            sys6(SYS_recvfrom, SYS_ARG(fd), SYS_ARG(&config), sizeof config, MSG_DONTWAIT, 0, 0);
        if (n == 0)
            return -ECONNRESET; // the collector closed without an answer
        if (n < 0 && n != -EINTR && n != -EAGAIN)
            return (int)n;
        if (n >= (long)sizeof config && config.header.magic == AGENT_PROTOCOL_MAGIC &&
            config.header.message == AGENT_CONFIG)
            return 0;
    }
}

static int send_hello(const struct agent *a, const char *socket, uint32_t why, bool wait,
                      uint32_t tid)
{
    const struct agent_space *space = a->space;
    int segment = space->seg.fd >= 0 ? space->seg.fd : agent_segment_fd();
    struct agent_hello hello = {
        .header = {AGENT_PROTOCOL_MAGIC, AGENT_PROTOCOL_VERSION, AGENT_HELLO, sizeof hello, 0},
        .pid = space->pid,
        .tid = tid,
        .parent = a->is_child ? (uint32_t)a->parent : 0,
        .why = why,
        .start_ticks = start_ticks(),
        .cpu_period_ns = a->env.cpu_hz ? 1000000000 / a->env.cpu_hz : 0,
        .wall_period_ns = a->env.wall_hz ? 1000000000 / a->env.wall_hz : 0,
    };
    memcpy(hello.program, a->program, sizeof hello.program);
    hello.header.flags = (wait ? 0 : AGENT_NO_ANSWER) | (a->env.segment[0] ? AGENT_BLACK_BOX : 0u) |
                         (signals_target_uses() ? AGENT_SIGPROF_USED : 0u) |
                         (segment < 0 ? AGENT_NO_SEGMENT : 0u);
    int wait_ms = !wait                   ? 0
                  : why == AGENT_WHY_FORK ? AGENT_CHILD_TIMEOUT_MS
                                          : AGENT_ANSWER_TIMEOUT_MS;
    bool is_first = !atomic_load_explicit(&space->hello_tries, memory_order_relaxed);
    int fd = connect_collector(socket, is_first ? wait_ms : 0);
    if (fd < 0)
        return fd;
    int rc = send_with_segment(fd, &hello, sizeof hello, segment);
    if (!rc && wait)
        rc = await_config(fd, wait_ms);
    sys1(SYS_close, fd);
    return rc;
}

int hello_send(const struct agent *a, uint32_t why, bool wait, uint32_t tid)
{
    return send_hello(a, a->env.socket, why, wait, tid);
}

int hello_call(const struct agent *a, const char *socket)
{
    return send_hello(a, socket, AGENT_WHY_CALL, false, (uint32_t)sys0(SYS_gettid));
}

int hello_thread(const struct agent *a, uint32_t tid)
{
    const struct agent_thread message = {
        .header = {AGENT_PROTOCOL_MAGIC, AGENT_PROTOCOL_VERSION, AGENT_THREAD, sizeof message, 0},
        .pid = a->space->pid,
        .tid = tid,
    };
    int fd = connect_collector(a->env.socket, 0);
    if (fd < 0)
        return fd;
    int rc = send_with_segment(fd, &message, sizeof message, -1);
    sys1(SYS_close, fd);
    return rc;
}
