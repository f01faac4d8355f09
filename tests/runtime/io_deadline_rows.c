// SPDX-License-Identifier: MIT
//
// Deadlines: passed, to come, moved, cleared; of reading, writing, accepting and connecting. As Go's
// net/timeout_test.go has them.

#include "tests/runtime/io_ends.h"

#include <arpa/inet.h>
#include <fcntl.h>

enum { LONG_MS = 20000 };

static int64_t in_ms(int64_t ms)
{
    return fib_now_ns() + ms * MS;
}

static void a_passed_one_fails_at_once(int kind)
{
    struct ends e = ends_of(kind);
    char b[4] = {0};
    put(e.w, "data");
    CHECK(!fib_set_deadline(e.r, FIB_READ, 1));
    CHECK(!fib_set_deadline(e.w, FIB_WRITE, fib_now_ns()));
    for (int i = 0; i < 3; i++) { // though there is data, and room
        CHECK(fib_read(e.r, b, 4) == -ETIMEDOUT);
        CHECK(fib_readv(e.r, &(struct iovec){b, 4}, 1) == -ETIMEDOUT);
        CHECK(fib_write(e.w, b, 4) == -ETIMEDOUT);
        CHECK(fib_poll(e.r, FIB_READ, -1) == -ETIMEDOUT);
    }
    CHECK(!fib_set_deadline(e.r, FIB_READ, 0) && !fib_set_deadline(e.w, FIB_WRITE, in_ms(LONG_MS)));
    expect(e.r, "data");
    put(e.w, "more");
    expect(e.r, "more");
    ends_close(&e);
}

static void a_wait_ends(int kind)
{
    struct ends e = ends_of(kind);
    for (int i = 0; i < 5; i++) {
        int64_t when = in_ms(5);
        struct io_op op;
        CHECK(!fib_set_deadline(e.r, FIB_READ, when));
        op_read(&op, e.r, 8);
        CHECK(op_result(&op) == -ETIMEDOUT, "%zd", op.result);
        CHECK(fib_now_ns() >= when && fib_now_ns() < when + LONG_MS * (int64_t)MS);
        op_read(&op, e.r, 8);
        CHECK(op_result(&op) == -ETIMEDOUT && op.took_ns < 1000LL * MS); // and stays so
    }
    CHECK(!fib_set_deadline(e.r, FIB_READ, 0));
    put(e.w, "x");
    expect(e.r, "x");
    fill(e.w);
    int64_t when = in_ms(5);
    CHECK(!fib_set_deadline(e.w, FIB_WRITE, when));
    struct io_op op;
    op_fill(&op, e.w);
    CHECK(op_result(&op) == -ETIMEDOUT && fib_now_ns() >= when);
    ends_close(&e);
}

static void set_while_it_waits(int kind)
{
    struct ends e = ends_of(kind);
    struct io_op op;
    for (int i = 0; i < 4; i++) { // none or late before; soon or passed now
        CHECK(!fib_set_deadline(e.r, FIB_READ, i & 1 ? in_ms(LONG_MS) : 0));
        op_read(&op, e.r, 8);
        until_waiting(op.f, "IO wait");
        int64_t when = i & 2 ? in_ms(3) : 1;
        CHECK(!fib_set_deadline(e.r, FIB_READ, when));
        CHECK(op_result(&op) == -ETIMEDOUT && fib_now_ns() >= when);
    }
    ends_close(&e);
}

static void moved_on_it_does_not_end(int kind)
{
    struct ends e = ends_of(kind);
    struct io_op op;
    CHECK(!fib_set_deadline(e.r, FIB_READ, in_ms(200)));
    op_read(&op, e.r, 8);
    int64_t begin = fib_now_ns();
    while (fib_now_ns() - begin < 300LL * MS) {
        fib_sleep(3 * MS);
        CHECK(!fib_set_deadline(e.r, FIB_READ, in_ms(LONG_MS)));
    }
    CHECK(!op.is_done);
    put(e.w, "late");
    CHECK(op_result(&op) == 4);
    ends_close(&e);
}

static void cleared_it_waits_on(int kind)
{
    struct ends e = ends_of(kind);
    struct io_op op;
    CHECK(!fib_set_deadline(e.r, FIB_READ, in_ms(200)));
    op_read(&op, e.r, 8);
    until_waiting(op.f, "IO wait");
    CHECK(!fib_set_deadline(e.r, FIB_READ, 0));
    fib_sleep(300LL * MS);
    CHECK(!op.is_done);
    put(e.w, "late");
    CHECK(op_result(&op) == 4);
    ends_close(&e);
}

// A server that renews it before each request: the timer runs rarely, and yet ends the last wait.
static void renewed_before_each_call(int kind)
{
    struct ends e = ends_of(kind);
    char b;
    for (int i = 0; i < 3000; i++) {
        CHECK(!fib_set_deadline(e.r, FIB_READ, in_ms(500)));
        put(e.w, "r");
        CHECK(fib_read(e.r, &b, 1) == 1);
        struct io_op op;
        if (i % 100)
            continue;
        op_read(&op, e.r, 8);
        until_waiting(op.f, "IO wait");
        put(e.w, "r");
        CHECK(op_result(&op) == 1);
    }
    int64_t when = in_ms(20);
    CHECK(!fib_set_deadline(e.r, FIB_READ, when));
    CHECK(fib_read(e.r, &b, 1) == -ETIMEDOUT);
    CHECK(fib_now_ns() >= when && fib_now_ns() < when + 400LL * MS);
    ends_close(&e);
}

static void directions_have_their_own(int kind)
{
    struct ends e = ends_of(kind);
    char b;
    CHECK(!fib_set_deadline(e.r, FIB_READ, 1));
    put(e.r, "x");
    expect(e.w, "x");
    CHECK(fib_read(e.r, &b, 1) == -ETIMEDOUT);
    CHECK(!fib_set_deadline(e.r, FIB_WRITE, 1) && !fib_set_deadline(e.r, FIB_READ, 0));
    put(e.w, "y");
    expect(e.r, "y");
    CHECK(fib_write(e.r, &b, 1) == -ETIMEDOUT);
    CHECK(!fib_set_deadline(e.r, FIB_READ | FIB_WRITE, 1));
    CHECK(fib_read(e.r, &b, 1) == -ETIMEDOUT && fib_write(e.r, &b, 1) == -ETIMEDOUT);
    ends_close(&e);
}

static void nothing_is_lost_to_it(int kind)
{
    struct ends e = ends_of(kind);
    char b[8];
    put(e.w, "abc");
    CHECK(!fib_set_deadline(e.r, FIB_READ, in_ms(5)));
    CHECK(fib_read_full(e.r, b, 8) == -ETIMEDOUT); // it had moved three
    put(e.w, "def");
    CHECK(fib_read(e.r, b, 8) == -ETIMEDOUT);
    CHECK(!fib_set_deadline(e.r, FIB_READ, 0));
    expect(e.r, "def");
    ends_close(&e);
}

struct race {
    struct ends e;
    _Atomic bool is_over;
    _Atomic long reads, timeouts;
};

static void run_setting(void *arg)
{
    struct race *r = arg;
    unsigned n = 0;
    while (!r->is_over) {
        int64_t when = n % 3 == 0 ? 1 : n % 3 == 1 ? fib_now_ns() + 20000 : 0;
        CHECK(!fib_set_deadline(r->e.r, FIB_READ, when));
        if (++n % 16 == 0)
            fib_sleep(10000);
        else
            fib_yield();
    }
    CHECK(!fib_set_deadline(r->e.r, FIB_READ, 0));
}

static void run_writing(void *arg)
{
    struct race *r = arg;
    for (uint32_t i = 0; i < (rows_are_slow ? 500 : 3000); i++) {
        CHECK(fib_write_full(r->e.w, &i, 4) == 4);
        if (i % 8 == 0)
            fib_sleep(20000);
    }
    r->is_over = true;
    CHECK(!fib_close(r->e.w));
}

static void sets_race_with_calls(int kind)
{
    struct race r = {.e = ends_of(kind)};
    struct fib f[] = {go(run_setting, &r), go(run_setting, &r), go(run_writing, &r)};
    uint32_t expected = 0;
    unsigned char b[4];
    size_t have = 0;
    for (;;) {
        ssize_t n = fib_read(r.e.r, b + have, 4 - have);
        if (n == -ETIMEDOUT) {
            r.timeouts++;
            fib_yield();
            continue;
        }
        CHECK(n >= 0, "%zd", n);
        if (!n)
            break;
        have += (size_t)n;
        if (have < 4)
            continue;
        CHECK(!memcmp(b, &expected, 4), "number %u", expected);
        expected++;
        have = 0;
    }
    CHECK(expected == (rows_are_slow ? 500 : 3000) && r.timeouts > 0);
    for (int i = 0; i < 3; i++)
        fib_join(f[i]);
    CHECK(!fib_close(r.e.r));
}

static void accepting(int kind)
{
    (void)kind;
    uint16_t port;
    int l = tcp_listener(&port);
    CHECK(!fib_set_deadline(l, FIB_READ, 1) && fib_accept(l, NULL, NULL) == -ETIMEDOUT);
    int64_t when = in_ms(5);
    CHECK(!fib_set_deadline(l, FIB_READ, when) && fib_accept(l, NULL, NULL) == -ETIMEDOUT);
    CHECK(fib_now_ns() >= when);
    CHECK(!fib_set_deadline(l, FIB_READ, 0));
    struct io_op op;
    op_accept(&op, l);
    until_waiting(op.f, "IO wait");
    int c = fib_dial("127.0.0.1", port, -1);
    CHECK(c >= 0 && op_result(&op) >= 0);
    fib_close((int)op.result);
    fib_close(c);
    fib_close(l);
}

// A listener whose queue is full drops what comes: who connects waits.
static void connecting(int kind)
{
    enum { FULL = 2 };
    (void)kind;
    uint16_t port;
    int first[FULL], l = tcp_listener(&port);
    CHECK(!listen(l, 0));
    int64_t begin = fib_now_ns();
    int n = 0;
    while (n < FULL && (first[n] = fib_dial("127.0.0.1", port, 50 * MS)) >= 0)
        n++;
    int c = fib_dial("127.0.0.1", port, 50 * MS);
    CHECK(c == -ETIMEDOUT && fib_now_ns() - begin >= 50 * MS, "%d after %d", c, n);
    CHECK(fib_now_ns() - begin < 5000LL * MS);              // not the kernel's limit
    int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0); // a deadline that is set before
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(!fib_set_deadline(s, FIB_WRITE, in_ms(5)));
    CHECK(fib_connect(s, (struct sockaddr *)&to, sizeof to) == -ETIMEDOUT);
    CHECK(!fib_set_deadline(s, FIB_WRITE, 1));
    CHECK(fib_connect(s, (struct sockaddr *)&to, sizeof to) == -ETIMEDOUT);
    fib_close(s);
    for (int i = 0; i < n; i++)
        fib_close(first[i]);
    fib_close(l);
}

static void run_timeouts(void *arg)
{
    struct io_op *op = arg;
    for (int i = 1; i <= 10; i++) {
        int64_t when = fib_now_ns() + (int64_t)(op->size % 7 + 1) * MS / 2;
        CHECK(!fib_set_deadline(op->fd, FIB_READ, when));
        CHECK(fib_read(op->fd, op->bytes, 8) == -ETIMEDOUT);
        CHECK(fib_now_ns() >= when);
    }
}

static void many_at_once(int kind)
{
    enum { MANY = 200 };
    static struct io_op ops[MANY];
    static struct ends e[MANY];
    for (int i = 0; i < MANY; i++) {
        e[i] = ends_of(kind);
        ops[i] = (struct io_op){.fd = e[i].r, .size = (size_t)i};
        ops[i].f = go(run_timeouts, &ops[i]);
    }
    for (int i = 0; i < MANY; i++) {
        fib_join(ops[i].f);
        ends_close(&e[i]);
    }
}

static void what_cannot_have_one(int kind)
{
    (void)kind;
    int fd = fib_open("/dev/null", O_RDWR, 0), wrong = fib_open("/", O_RDONLY, 0);
    CHECK(fib_set_deadline(fd, FIB_READ, 1) == -EOPNOTSUPP);
    CHECK(fib_set_deadline(wrong, FIB_READ, 1) == -EOPNOTSUPP);
    CHECK(fib_set_deadline(fd, 0, 1) == -EINVAL && fib_set_deadline(fd, 4, 1) == -EINVAL);
    CHECK(fib_set_deadline(fd, FIB_READ, -1) == -EINVAL);
    CHECK(fib_set_deadline(-1, FIB_READ, 1) == -EBADF);
    CHECK(fib_set_deadline(999, FIB_READ, 1) == -EBADF);
    fib_close(fd);
    fib_close(wrong);
}

static const struct row rows[] = {
    {"a passed one fails at once", "TestReadTimeout", a_passed_one_fails_at_once, all_kinds},
    {"a wait ends", "TestReadTimeoutFluctuation, TestWriteTimeout", a_wait_ends, all_kinds},
    {"set while it waits", "TestReadTimeoutUnblocksRead", set_while_it_waits, all_kinds},
    {"moved on it does not end", "TestReadTimeoutMustNotReturn", moved_on_it_does_not_end,
     all_kinds},
    {"cleared it waits on", "TestReadTimeoutMustNotReturn", cleared_it_waits_on, all_kinds},
    {"renewed before each call", "TestVariousTimeouts", renewed_before_each_call, all_kinds},
    {"directions have their own", "TestReadWriteProlongedTimeout", directions_have_their_own,
     socket_kinds},
    {"nothing is lost to it", "TestReadTimeout", nothing_is_lost_to_it, all_kinds},
    {"sets race with calls", "TestReadWriteDeadlineRace, TestConcurrentSetDeadline",
     sets_race_with_calls, all_kinds},
    {"accepting", "TestAcceptTimeout, TestAcceptTimeoutMustReturn", accepting, NULL},
    {"connecting", "TestDialTimeout, TestConnectDeadlineInThePast", connecting, NULL},
    {"many at once", "TestVariousTimeouts", many_at_once, all_kinds},
    {"what cannot have one", "os: TestRegularFile deadlines", what_cannot_have_one, NULL},
};

int main(int argc, char **argv)
{
    return rows_run(rows, sizeof rows / sizeof *rows, argc, argv);
}
