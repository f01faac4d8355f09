// SPDX-License-Identifier: MIT
//
// Pairs of descriptors and calls on them: see io_ends.h.

#include "tests/runtime/io_ends.h"

#include <arpa/inet.h>
#include <fcntl.h>

const int all_kinds[] = {PIPE, UNIX, TCP, -1}, socket_kinds[] = {UNIX, TCP, -1};

int tcp_listener(uint16_t *port)
{
    int fd = fib_listen("127.0.0.1", 0, 128);
    CHECK(fd >= 0, "%s", strerror(-fd));
    struct sockaddr_in a;
    socklen_t size = sizeof a;
    CHECK(!getsockname(fd, (struct sockaddr *)&a, &size));
    *port = ntohs(a.sin_port);
    return fd;
}

struct ends ends_of(int kind)
{
    int fds[2];
    if (kind == PIPE) {
        CHECK(!pipe2(fds, O_CLOEXEC));
    } else if (kind == UNIX) {
        CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
    } else {
        uint16_t port;
        int l = tcp_listener(&port);
        fds[1] = fib_dial("127.0.0.1", port, -1);
        CHECK(fds[1] >= 0, "%s", strerror(-fds[1]));
        fds[0] = fib_accept(l, NULL, NULL);
        CHECK(fds[0] >= 0, "%s", strerror(-fds[0]));
        CHECK(!fib_close(l));
    }
    return (struct ends){fds[0], fds[1]};
}

void ends_close(struct ends *e)
{
    if (e->r >= 0)
        CHECK(!fib_close(e->r));
    if (e->w >= 0)
        CHECK(!fib_close(e->w));
}

// --- Calls.

static void begin(struct io_op *op, int fd, size_t size, fib_fn *fn)
{
    CHECK(size <= sizeof op->bytes);
    *op = (struct io_op){.fd = fd, .size = size};
    op->f = go(fn, op);
}

static void end(struct io_op *op, ssize_t result, int64_t since)
{
    op->result = result;
    op->took_ns = fib_now_ns() - since;
    op->is_done = true;
}

static void run_read(void *arg)
{
    struct io_op *op = arg;
    int64_t since = fib_now_ns();
    end(op, fib_read(op->fd, op->bytes, op->size), since);
}

static void run_fill(void *arg)
{
    struct io_op *op = arg;
    int64_t since = fib_now_ns();
    static const char zeros[65536];
    ssize_t n;
    while ((n = fib_write(op->fd, zeros, sizeof zeros)) > 0)
        op->size += (size_t)n;
    end(op, n, since);
}

static void run_accept(void *arg)
{
    struct io_op *op = arg;
    int64_t since = fib_now_ns();
    end(op, fib_accept(op->fd, NULL, NULL), since);
}

static void run_poll(void *arg)
{
    struct io_op *op = arg;
    int64_t since = fib_now_ns();
    end(op, fib_poll(op->fd, (int)op->size, -1), since);
}

void op_read(struct io_op *op, int fd, size_t size)
{
    begin(op, fd, size, run_read);
}

void op_fill(struct io_op *op, int fd)
{
    begin(op, fd, 0, run_fill);
}

void op_accept(struct io_op *op, int fd)
{
    begin(op, fd, 0, run_accept);
}

void op_poll(struct io_op *op, int fd, int what)
{
    begin(op, fd, (size_t)what, run_poll);
}

ssize_t op_result(struct io_op *op)
{
    fib_join(op->f);
    CHECK(op->is_done);
    return op->result;
}

size_t fill(int fd)
{
    struct io_op op;
    op_fill(&op, fd);
    until_waiting(op.f, "IO wait");
    CHECK(!fib_set_deadline(fd, FIB_WRITE, 1));
    CHECK(op_result(&op) == -ETIMEDOUT, "%zd", op.result);
    CHECK(!fib_set_deadline(fd, FIB_WRITE, 0));
    return op.size;
}

void put(int fd, const char *text)
{
    ssize_t n = fib_write(fd, text, strlen(text));
    CHECK(n == (ssize_t)strlen(text), "%zd", n);
}

void expect(int fd, const char *text)
{
    char b[256];
    ssize_t n = fib_read(fd, b, sizeof b);
    CHECK(n == (ssize_t)strlen(text) && !memcmp(b, text, (size_t)n), "'%s': %zd", text, n);
}

// --- Patterns.

static uint32_t next(uint32_t *state)
{
    return *state = *state * 1664525 + 1013904223;
}

static char byte_at(size_t at, unsigned seed)
{
    return (char)((at * 2654435761u + seed * 40503u) >> 13);
}

void pattern_write(int fd, size_t size, unsigned seed)
{
    static const size_t sizes[] = {1, 7, 100, 4096, 5000, 65536, 200000};
    char *b = malloc(200000);
    uint32_t random = seed;
    for (size_t at = 0; at < size;) {
        size_t n = sizes[next(&random) % 7];
        n = n < size - at ? n : size - at;
        for (size_t i = 0; i < n; i++)
            b[i] = byte_at(at + i, seed);
        ssize_t rc = fib_write_full(fd, b, n);
        CHECK(rc == (ssize_t)n, "%zd of %zu at %zu", rc, n, at);
        at += n;
    }
    free(b);
}

void pattern_read(int fd, size_t size, unsigned seed)
{
    static const size_t sizes[] = {1, 3, 64, 4096, 10000, 65536, 150000};
    char *b = malloc(150000);
    uint32_t random = seed + 1;
    for (size_t at = 0; at < size;) {
        size_t want = sizes[next(&random) % 7];
        ssize_t n = fib_read(fd, b, want < size - at ? want : size - at);
        CHECK(n > 0, "%zd at %zu of %zu", n, at, size);
        for (size_t i = 0; i < (size_t)n; i++)
            CHECK(b[i] == byte_at(at + i, seed), "byte %zu", at + i);
        at += (size_t)n;
    }
    free(b);
}
