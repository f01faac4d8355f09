// SPDX-License-Identifier: MIT
//
// The socket side of ingest.h. Messages are one packet each, so a connection is read once; a stranger
// who connects and says nothing costs a descriptor out of a bounded number, the oldest goes first.

#include "collector/ingest_internal.h"

#include "agent/call.h"
#include "collector/message.h"
#include "collector/record_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { BACKLOG = 4096, ANCESTORS_MAX = 64, EVENTS = 32 };
#define HOUSEKEEPING_NS UINT64_C(1000000000)

static int listen_socket(struct ingest *g, struct fscope_error *err)
{
    unsigned char bits[AGENT_SOCKET_RANDOM_DIGITS / 2];
    if (getrandom(bits, sizeof bits, 0) != (ssize_t)sizeof bits)
        return error_set(err, -errno, 0, "getrandom: %s", strerror(errno));
    strcpy(g->name, AGENT_SOCKET_PREFIX);
    for (size_t i = 0; i < sizeof bits; i++)
        sprintf(g->name + strlen(g->name), "%02x", bits[i]);

    struct sockaddr_un at = {.sun_family = AF_UNIX};
    size_t n = strlen(g->name);
    memcpy(at.sun_path + 1, g->name, n);
    g->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct epoll_event ev = {.events = EPOLLIN, .data.fd = g->listen_fd};
    if (g->listen_fd < 0 ||
        bind(g->listen_fd, (const struct sockaddr *)&at,
             (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + n)) ||
        listen(g->listen_fd, BACKLOG) || epoll_ctl(g->epoll_fd, EPOLL_CTL_ADD, g->listen_fd, &ev))
        return error_set(err, -errno, 0, "the collector's socket: %s", strerror(errno));
    return 0;
}

static int listen_for_call(struct ingest *g, struct fscope_error *err)
{
    int rc = call_listen(g->o.call, err);
    if (rc)
        return rc;
    g->root = (pid_t)g->o.call->pid;
    g->listen_fd = fcntl(g->o.call->listen_fd, F_DUPFD_CLOEXEC, 0);
    struct epoll_event ev = {.events = EPOLLIN, .data.fd = g->listen_fd};
    if (g->listen_fd < 0 || epoll_ctl(g->epoll_fd, EPOLL_CTL_ADD, g->listen_fd, &ev))
        return error_set(err, -errno, 0, "the collector's socket: %s", strerror(errno));
    return 0;
}

int ingest_call(struct ingest *g, struct fscope_error *err)
{
    int rc = call_send(g->o.call, CALL_HELLO);
    return rc ? error_set(err, rc, 0, "process %u: %s", g->o.call->pid, strerror(-rc)) : 0;
}

int ingest_new(struct ingest **out, const struct ingest_options *opts, struct fscope_error *err)
{
    struct ingest *g = calloc(1, sizeof *g);
    if (!g)
        return error_set(err, -ENOMEM, 0, "out of memory");
    g->o = *opts;
    g->listen_fd = -1;
    g->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    int rc = 0;
    if (g->epoll_fd < 0)
        rc = error_set(err, -errno, 0, "epoll: %s", strerror(errno));
    else
        rc = opts->call ? listen_for_call(g, err) : listen_socket(g, err);
    if (rc) {
        ingest_free(g);
        return rc;
    }
    // A clock per thread and a file per mapping: the usual soft limit of 1,024 is soon used up.
    perf_raise_descriptor_limit(1 << 20);
    *out = g;
    return 0;
}

void ingest_free(struct ingest *g)
{
    if (!g)
        return;
    for (struct target *t = g->targets, *next; t; t = next) {
        next = t->next;
        target_free(t);
    }
    for (uint32_t i = 0; i < g->pending_count; i++)
        close(g->pending[i]);
    if (g->listen_fd >= 0)
        close(g->listen_fd);
    if (g->epoll_fd >= 0)
        close(g->epoll_fd);
    free(g);
}

const char *ingest_name(const struct ingest *g)
{
    return g->name;
}

void ingest_set_root(struct ingest *g, pid_t pid)
{
    g->root = pid;
}

int ingest_fd(const struct ingest *g)
{
    return g->epoll_fd;
}

void ingest_get_stats(const struct ingest *g, struct ingest_stats *out)
{
    *out = g->stats;
}

static pid_t parent_of(pid_t pid)
{
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *f = fopen(path, "re");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    if (f)
        fclose(f);
    text[n] = '\0';
    const char *after_name = strrchr(text, ')'); // a name may hold anything, ')' too
    int parent = 0;
    if (!after_name || sscanf(after_name + 1, " %*c %d", &parent) != 1)
        return 0;
    return parent;
}

// The socket's name is random but stands in /proc/net/unix for all to read.
static bool is_one_of_us(const struct ingest *g, const struct ucred *peer)
{
    if (peer->pid <= 0)
        return false; // of another pid namespace that we cannot see into
    if (peer->uid == geteuid() && geteuid() != 0)
        return true;
    pid_t pid = peer->pid;
    for (int i = 0; i < ANCESTORS_MAX && pid > 1; i++, pid = parent_of(pid))
        if (pid == g->root)
            return true;
    // A daemon's parent is init; it may have kept its session. One that is gone already has neither.
    return peer->uid == geteuid() || (g->root && getsid(peer->pid) == getsid(g->root));
}

static void forget_pending(struct ingest *g, int fd)
{
    for (uint32_t i = 0; i < g->pending_count; i++)
        if (g->pending[i] == fd) {
            memmove(&g->pending[i], &g->pending[i + 1],
                    (--g->pending_count - i) * sizeof *g->pending);
            break;
        }
    close(fd); // leaves the epoll set by itself: nobody else has a copy
}

union message {
    struct agent_header header;
    struct agent_hello hello;
    struct agent_thread thread;
};

// Of two calls that were answered both the second one tells nothing new.
static bool is_known(const struct ingest *g, uint32_t pid, const struct agent_hello *hello)
{
    for (const struct target *t = g->targets; t; t = t->next)
        if (t->pid == pid && !t->is_over && hello->why == AGENT_WHY_CALL)
            return true;
    return false;
}

static void handle_hello(struct ingest *g, int fd, int segment, uint32_t pid,
                         const struct agent_hello *hello)
{
    struct agent_config config = {
        .header = {AGENT_PROTOCOL_MAGIC, AGENT_PROTOCOL_VERSION, AGENT_CONFIG, sizeof config, 0}};
    if (is_known(g, pid, hello)) {
        close(segment);
        return;
    }
    int rc = target_add(g, segment, pid, hello, &config);
    // Also a target that we could not read gets its answer: periods of 0, so it does not sample.
    if (rc)
        config.cpu_period_ns = config.wall_period_ns = 0;
    if (!(hello->header.flags & AGENT_NO_ANSWER))
        (void)!send(fd, &config, sizeof config, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void handle_message(struct ingest *g, int fd, const union message *m, size_t n, int segment,
                           uint32_t pid)
{
    bool is_hello = n >= sizeof m->hello && m->header.message == AGENT_HELLO;
    if (n < sizeof m->header || m->header.magic != AGENT_PROTOCOL_MAGIC || m->header.size < n) {
        g->stats.refused++;
    } else if (is_hello && segment >= 0) {
        handle_hello(g, fd, segment, pid, &m->hello);
        return; // the segment is taken
    } else if (is_hello && m->hello.header.flags & AGENT_NO_SEGMENT) {
        g->stats.segments_broken++;
        snprintf(g->stats.broken_why, sizeof g->stats.broken_why, "process %u: %s", pid,
                 CALL_NO_SEGMENT);
    } else if (n >= sizeof m->thread && m->header.message == AGENT_THREAD) {
        for (struct target *t = g->targets; t; t = t->next)
            if (t->pid == pid && !t->is_over)
                target_thread(t, m->thread.tid);
    } else {
        g->stats.refused++;
    }
    if (segment >= 0)
        close(segment);
}

static void receive(struct ingest *g, int fd)
{
    union message m;
    int segment;
    ssize_t n = message_receive(fd, &m, sizeof m, &segment);
    if (n == -EAGAIN || n == -EINTR)
        return; // not yet
    struct ucred peer = {0};
    socklen_t size = sizeof peer;
    bool has_peer = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0;
    if (n > 0 && has_peer && is_one_of_us(g, &peer)) {
        handle_message(g, fd, &m, (size_t)n, segment, (uint32_t)peer.pid);
    } else {
        g->stats.refused += n > 0;
        if (segment >= 0)
            close(segment);
    }
    forget_pending(g, fd);
}

// Most have said it all when we come to accept them, so each is read at once: only who is silent waits.
static void accept_all(struct ingest *g)
{
    for (;;) {
        int fd = accept4(g->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0)
            return;
        if (g->pending_count == PENDING_MAX)
            forget_pending(g, g->pending[0]);
        g->pending[g->pending_count++] = fd;
        struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};
        if (epoll_ctl(g->epoll_fd, EPOLL_CTL_ADD, fd, &ev))
            forget_pending(g, fd);
        else
            receive(g, fd);
    }
}

static bool is_pending(const struct ingest *g, int fd)
{
    for (uint32_t i = 0; i < g->pending_count; i++)
        if (g->pending[i] == fd)
            return true;
    return false;
}

// Where fd is a process' pidfd, by now, and says so.
static void see_end(struct ingest *g, int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    struct target *t = g->targets;
    while (t && t->pidfd != fd)
        t = t->next;
    if (t && poll(&p, 1, 0) > 0)
        target_ended(t);
}

int ingest_dispatch(struct ingest *g)
{
    for (;;) {
        struct epoll_event events[EVENTS];
        int n = epoll_wait(g->epoll_fd, events, EVENTS, 0);
        if (n < 0)
            return errno == EINTR ? 0 : -errno;
        if (n == 0)
            return 0;
        // Those that wait before new ones: these may push them out, and reuse their numbers.
        for (int i = 0; i < n; i++)
            if (is_pending(g, events[i].data.fd))
                receive(g, events[i].data.fd);
        for (int i = 0; i < n; i++)
            if (events[i].data.fd == g->listen_fd)
                accept_all(g);
        // Last: what a process has said before it ended is taken by now.
        for (int i = 0; i < n; i++)
            see_end(g, events[i].data.fd);
    }
}

// Ended processes are dropped once they are drained: a build that runs ten thousand compilers must
// not keep ten thousand segments.
static int drop_ended(struct ingest *g)
{
    int first = 0;
    for (struct target **at = &g->targets; *at;) {
        struct target *t = *at;
        if (!t->is_over) {
            at = &t->next;
            continue;
        }
        int rc = target_finish(t);
        first = first ? first : rc;
        *at = t->next;
        target_free(t);
    }
    return first;
}

int ingest_tick(struct ingest *g)
{
    uint64_t now = record_now_ns(CLOCK_MONOTONIC);
    bool housekeeping = now >= g->housekeeping_ns;
    if (housekeeping)
        g->housekeeping_ns = now + HOUSEKEEPING_NS;
    int first = 0;
    for (struct target *t = g->targets; t; t = t->next) {
        int rc = target_pump(t, housekeeping);
        first = first ? first : rc;
    }
    int rc = drop_ended(g);
    return first ? first : rc;
}

void ingest_snapshot(struct ingest *g)
{
    for (struct target *t = g->targets; t; t = t->next)
        if (t->trace)
            trace_build_snapshot(t->trace);
}

int ingest_finish(struct ingest *g)
{
    int first = ingest_dispatch(g); // a segment may wait there whose process is dead already
    for (struct target *t = g->targets; t; t = t->next)
        target_ask_to_stop(
            t); // all of them first, so that the time it takes is not theirs added up
    while (g->targets) {
        struct target *t = g->targets;
        int rc = target_finish(t);
        first = first ? first : rc;
        g->targets = t->next;
        target_free(t);
    }
    return first;
}
