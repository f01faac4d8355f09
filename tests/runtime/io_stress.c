// SPDX-License-Identifier: MIT
//
// Many connections, each with a fiber at either end that sends numbered messages and waits for the
// answer; deadlines of random length run out, other fibers close descriptors at random, and what is closed is
// opened anew at once, so that numbers are used again all the time. Usage: io_stress SECONDS CONNECTIONS.
//
// What must hold: a message that arrives is of this connection and the next in order; every call ends with
// one of the results that there are; nobody waits for ever (the test's limit tells).
//
// A stranger may close a descriptor only while its user is inside a call: before and after, the user would go
// on with a number that may be another's by then. So a user counts its calls in `state`, and a stranger that has
// seen it wait closes only if it is still the same call.

#include "fiberscope/fiber.h"
#include "fiberscope/io.h"
#include "fiberscope/sync.h"
#include "tests/runtime/check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

enum { MS = 1000000 };

struct message {
    uint32_t connection, number;
    uint64_t generation;
    char fill[48];
};

enum { IN_CALL = 1, CLOSED = 2, CALL = 4 };

struct end {
    struct connection *c;
    int fd;
    bool is_first;
    uint64_t random;
    _Atomic uint64_t state;
    struct fib f;
    struct fib_mutex lock; // of f and is_started
    bool is_started;       // f is set
};

struct connection {
    uint32_t id;
    int kind;
    uint64_t generation;
    struct end ends[2];
};

static struct {
    struct connection *connections;
    uint32_t count;
    int listener;
    uint16_t port;
    _Atomic bool is_over;
    _Atomic uint64_t messages, timeouts, canceled, ended, opened, closes;
} s;

static uint64_t next(uint64_t *state)
{
    *state = *state * 6364136223846793005 + 1442695040888963407;
    return *state >> 33;
}

// What a call may end with when the other end, or a stranger, closes.
static bool is_end(ssize_t n)
{
    return n == 0 || n == -ECANCELED || n == -ECONNRESET || n == -EPIPE || n == -EBADF;
}

static void count_end(ssize_t n)
{
    if (n == -ECANCELED || n == -EBADF)
        s.canceled++;
    else
        s.ended++;
}

static void maybe_deadline(struct end *e)
{
    uint64_t r = next(&e->random);
    int64_t when = 0;
    if (r % 4 == 0)
        when = fib_now_ns() + (int64_t)(r >> 4) % (2 * MS);
    if (r % 4 < 3) {
        int rc = fib_set_deadline(e->fd, r & 1 ? FIB_READ : FIB_READ | FIB_WRITE, when);
        CHECK(!rc || is_end(rc), "%d", rc);
    }
}

static ssize_t call(struct end *e, void *bytes, size_t size, bool is_write)
{
    uint64_t in = atomic_fetch_add(&e->state, IN_CALL) + IN_CALL;
    ssize_t n = is_write ? fib_write(e->fd, bytes, size) : fib_read(e->fd, bytes, size);
    if (atomic_compare_exchange_strong(&e->state, &in, in - IN_CALL + CALL))
        return n;
    // Closed meanwhile: it may have ended before.
    return -ECANCELED;
}

// All of it, whatever deadlines do. False: it has ended.
static bool move(struct end *e, void *bytes, size_t size, bool is_write)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = call(e, (char *)bytes + done, size - done, is_write);
        if (n > 0) {
            done += (size_t)n;
        } else if (n == -ETIMEDOUT) {
            s.timeouts++;
            CHECK(!fib_set_deadline(e->fd, FIB_READ | FIB_WRITE, 0));
        } else {
            CHECK(is_end(n), "%s: %zd", is_write ? "write" : "read", n);
            count_end(n);
            return false;
        }
    }
    return true;
}

static void close_end(struct end *e, uint64_t state)
{
    if (state & CLOSED || !atomic_compare_exchange_strong(&e->state, &state, state | CLOSED))
        return;
    int fd = e->fd, rc = fib_close(fd);
    CHECK(!rc, "%d: %d", fd, rc);
    s.closes++;
}

static void run_end(void *arg)
{
    struct end *e = arg;
    struct connection *c = e->c;
    for (uint32_t number = 0; !s.is_over; number++) {
        struct message m = {c->id, number, c->generation, {0}}, got;
        maybe_deadline(e);
        if (e->is_first && !move(e, &m, sizeof m, true))
            break;
        if (!move(e, &got, sizeof got, false))
            break;
        CHECK(!memcmp(&got, &m, sizeof m), "connection %u: message %u of %u, got %u: %u of %u",
              c->id, number, (unsigned)c->generation, got.connection, got.number,
              (unsigned)got.generation);
        if (!e->is_first && !move(e, &m, sizeof m, true))
            break;
        s.messages++;
    }
    close_end(e, e->state);
}

static void open_tcp(int fds[2])
{
    // Another's connection may be accepted between: so one at a time.
    static struct fib_mutex lock;
    fib_mutex_lock(&lock);
    fds[0] = fib_dial("127.0.0.1", s.port, -1);
    CHECK(fds[0] >= 0, "%s", strerror(-fds[0]));
    fds[1] = fib_accept(s.listener, NULL, NULL);
    CHECK(fds[1] >= 0, "%s", strerror(-fds[1]));
    struct linger l = {1, 0}; // no TIME_WAIT: ports are few
    CHECK(!setsockopt(fds[0], SOL_SOCKET, SO_LINGER, &l, sizeof l));
    fib_mutex_unlock(&lock);
}

static void open_connection(struct connection *c, int fds[2])
{
    if (c->kind)
        CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
    else
        open_tcp(fds);
    s.opened++;
}

static void run_connection(void *arg)
{
    struct connection *c = arg;
    while (!s.is_over) {
        int fds[2];
        open_connection(c, fds);
        c->generation++;
        for (int i = 0; i < 2; i++) {
            struct end *e = &c->ends[i];
            e->c = c;
            e->fd = fds[i];
            e->is_first = !i;
            e->random += c->id * 77 + (uint64_t)i;
            atomic_store(&e->state, (e->state | CLOSED | IN_CALL) + 1 + CALL); // as never before
            CHECK(!(e->state & (CLOSED | IN_CALL)));
        }
        for (int i = 0; i < 2; i++) {
            fib_mutex_lock(&c->ends[i].lock);
            CHECK(!fib_go(&c->ends[i].f, run_end, &c->ends[i]));
            c->ends[i].is_started = true;
            fib_mutex_unlock(&c->ends[i].lock);
        }
        for (int i = 0; i < 2; i++)
            fib_join(c->ends[i].f);
        for (int i = 0; i < 2; i++) {
            fib_mutex_lock(&c->ends[i].lock);
            c->ends[i].is_started = false;
            fib_mutex_unlock(&c->ends[i].lock);
        }
    }
}

// Whether e's user waits inside the call that `state` is of.
static bool is_waiting(struct end *e)
{
    struct fib_info info = {.size = sizeof info};
    fib_mutex_lock(&e->lock);
    bool is_started = e->is_started;
    struct fib f = e->f;
    fib_mutex_unlock(&e->lock);
    return is_started && !fib_info_read(f, &info) && info.status == FIB_WAITING &&
           !strcmp(info.reason, "IO wait");
}

static void run_closer(void *arg)
{
    uint64_t random = (uint64_t)(uintptr_t)arg;
    while (!s.is_over) {
        struct end *e = &s.connections[next(&random) % s.count].ends[next(&random) & 1];
        uint64_t state = e->state;
        if ((state & IN_CALL) && is_waiting(e))
            close_end(e, state);
        if (next(&random) % 4 == 0)
            fib_sleep((int64_t)(next(&random) % (2 * MS)));
        else
            fib_yield();
    }
}

static void start(void *arg)
{
    int64_t seconds = *(int64_t *)arg;
    s.listener = fib_listen("127.0.0.1", 0, 1024);
    CHECK(s.listener >= 0);
    struct sockaddr_storage a;
    socklen_t size = sizeof a;
    CHECK(!getsockname(s.listener, (struct sockaddr *)&a, &size));
    memcpy(&s.port, (char *)&a + 2, 2);
    s.port = (uint16_t)(s.port << 8 | s.port >> 8);
    struct fib *f = calloc(s.count + 4, sizeof *f);
    CHECK(f);
    for (uint32_t i = 0; i < s.count; i++) {
        s.connections[i].id = i;
        s.connections[i].kind = i % 4 != 0;
        s.connections[i].ends[0].state = s.connections[i].ends[1].state = CLOSED;
        CHECK(!fib_go(&f[i], run_connection, &s.connections[i]));
    }
    for (uint32_t i = 0; i < 4; i++)
        CHECK(!fib_go(&f[s.count + i], run_closer, (void *)(uintptr_t)(i + 1)));
    fib_sleep(seconds * 1000 * MS);
    s.is_over = true;
    for (uint32_t i = 0; i < s.count + 4; i++)
        fib_join(f[i]);
    CHECK(!fib_close(s.listener));
    free(f);
}

int main(int argc, char **argv)
{
    int64_t seconds = argc > 1 ? atoi(argv[1]) : 2;
    s.count = argc > 2 ? (uint32_t)atoi(argv[2]) : 1000;
    s.connections = calloc(s.count, sizeof *s.connections);
    struct fib_options options = {.size = sizeof options, .procs = 4};
    CHECK(s.connections && !fib_init(&options) && !fib_main(start, &seconds));
    printf("%llu messages, %llu timeouts, %llu canceled, %llu ended, %llu opened, %llu closed\n",
           (unsigned long long)s.messages, (unsigned long long)s.timeouts,
           (unsigned long long)s.canceled, (unsigned long long)s.ended,
           (unsigned long long)s.opened, (unsigned long long)s.closes);
    CHECK(s.messages && s.timeouts && s.canceled && s.ended && s.opened > s.count);
    free(s.connections);
    return 0;
}
