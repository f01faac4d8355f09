// SPDX-License-Identifier: MIT
//
// io.h in plain threads: the same results, first without a runtime, then beside fibers.

#include "fiberscope/fiber.h"
#include "fiberscope/io.h"
#include "tests/runtime/check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

enum { MS = 1000000 };

struct call {
    int fd;
    ssize_t result;
    _Atomic int is_done;
    pthread_t thread;
};

static void *read_one(void *arg)
{
    struct call *c = arg;
    char b[64];
    c->result = fib_read(c->fd, b, sizeof b);
    c->is_done = 1;
    return NULL;
}

static void *poll_one(void *arg)
{
    struct call *c = arg;
    c->result = fib_poll(c->fd, FIB_READ, -1);
    c->is_done = 1;
    return NULL;
}

static void start(struct call *c, int fd, void *(*fn)(void *))
{
    *c = (struct call){.fd = fd};
    CHECK(!pthread_create(&c->thread, NULL, fn, c));
}

static ssize_t result(struct call *c)
{
    CHECK(!pthread_join(c->thread, NULL));
    return c->result;
}

static void pair(int fds[2], int i)
{
    CHECK(!(i ? socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) : pipe2(fds, O_CLOEXEC)));
}

static void reading(int i)
{
    int fds[2];
    struct call c;
    char b[8];
    pair(fds, i);
    for (int k = 0; k < 20; k++) {
        start(&c, fds[0], read_one);
        usleep(k % 2 ? 0 : 1000);
        CHECK(fib_write(fds[1], "thread", 6) == 6);
        CHECK(result(&c) == 6);
    }
    CHECK(!fib_set_deadline(fds[0], FIB_READ, 1) && fib_read(fds[0], b, 8) == -ETIMEDOUT);
    int64_t when = fib_now_ns() + 5 * MS;
    CHECK(!fib_set_deadline(fds[0], FIB_READ, when) && fib_read(fds[0], b, 8) == -ETIMEDOUT);
    CHECK(fib_now_ns() >= when);
    CHECK(!fib_set_deadline(fds[0], FIB_READ, 0));
    start(&c, fds[0], read_one); // set while it waits
    usleep(2000);
    CHECK(!c.is_done && !fib_set_deadline(fds[0], FIB_READ, fib_now_ns() + MS));
    CHECK(result(&c) == -ETIMEDOUT);
    CHECK(!fib_set_deadline(fds[0], FIB_READ, 0));
    CHECK(fib_poll(fds[0], FIB_READ, 0) == 0 && fib_poll(fds[0], FIB_READ, MS) == 0);
    CHECK(!fib_close(fds[1]) && fib_read(fds[0], b, 8) == 0 && !fib_close(fds[0]));
}

// -EBADF: it came too late to wait.
static bool is_closed(ssize_t n)
{
    return n == -ECANCELED || n == -EBADF;
}

static void closing(int i)
{
    enum { WAITERS = 10 };
    struct call c[WAITERS];
    int fds[2];
    pair(fds, i);
    for (int k = 0; k < WAITERS; k++)
        start(&c[k], fds[0], k % 3 ? read_one : poll_one);
    usleep(3000);
    CHECK(!fib_close(fds[0]));
    for (int k = 0; k < WAITERS; k++) {
        ssize_t n = result(&c[k]);
        CHECK(is_closed(n), "%zd", n);
    }
    CHECK(!fib_close(fds[1]));
}

static void *echo(void *arg)
{
    struct call *c = arg;
    char b[4096];
    ssize_t n;
    while ((n = fib_read(c->fd, b, sizeof b)) > 0)
        if (fib_write_full(c->fd, b, (size_t)n) != n)
            return NULL;
    CHECK(!fib_close(c->fd));
    c->result = n;
    return NULL;
}

static uint16_t port_of(int listener)
{
    struct sockaddr_in a;
    socklen_t size = sizeof a;
    CHECK(!getsockname(listener, (struct sockaddr *)&a, &size));
    return ntohs(a.sin_port);
}

static void *accept_one(void *arg)
{
    struct call *c = arg;
    c->fd = fib_accept(c->fd, NULL, NULL);
    CHECK(c->fd >= 0);
    return echo(c);
}

static void echo_client(int fd)
{
    enum { SIZE = 300000 };
    char *out = malloc(SIZE), *in = malloc(SIZE);
    CHECK(out && in);
    for (int i = 0; i < SIZE; i++)
        out[i] = (char)(i * 7);
    for (int done = 0; done < SIZE; done += SIZE / 100) {
        CHECK(fib_write_full(fd, out + done, SIZE / 100) == SIZE / 100);
        CHECK(fib_read_full(fd, in + done, SIZE / 100) == SIZE / 100);
    }
    CHECK(!memcmp(in, out, SIZE));
    free(out);
    free(in);
}

static void connections(void)
{
    int l = fib_listen("127.0.0.1", 0, 0);
    CHECK(l >= 0);
    struct call c;
    start(&c, l, accept_one);
    int fd = fib_dial("127.0.0.1", port_of(l), 10000LL * MS);
    CHECK(fd >= 0, "%s", strerror(-fd));
    echo_client(fd);
    CHECK(!fib_close(fd) && result(&c) == 0 && !fib_close(l));
}

static void all(void)
{
    for (int i = 0; i < 2; i++) {
        reading(i);
        closing(i);
    }
    connections();
}

// --- Beside fibers.

static void fiber_echo(void *arg)
{
    echo(arg);
}

static void fiber_reads(void *arg)
{
    struct call *c = arg;
    char b[8];
    c->result = fib_read(c->fd, b, 8);
    c->is_done = 1;
}

static void beside_fibers(void)
{
    int fds[2];
    pair(fds, 1);
    struct call c = {.fd = fds[0]};
    struct fib f;
    CHECK(!fib_go(&f, fiber_echo, &c));
    echo_client(fds[1]);
    CHECK(!fib_close(fds[1]));
    fib_join(f);
    pair(fds, 0); // a thread and a fiber wait for the same
    struct call t, of_fiber = {.fd = fds[0]};
    start(&t, fds[0], read_one);
    CHECK(!fib_go(&f, fiber_reads, &of_fiber));
    usleep(3000);
    CHECK(!t.is_done && !of_fiber.is_done && !fib_close(fds[0]));
    fib_join(f);
    ssize_t n = result(&t);
    CHECK(is_closed(n) && is_closed(of_fiber.result), "%zd, %zd", n, of_fiber.result);
    CHECK(!fib_close(fds[1]));
}

int main(void)
{
    all();
    struct fib_options options = {.size = sizeof options, .procs = 2};
    int rc = fib_init(&options);
    CHECK(!rc, "%s", strerror(-rc));
    all();
    for (int i = 0; i < 20; i++)
        beside_fibers();
    puts("ok");
    return 0;
}
