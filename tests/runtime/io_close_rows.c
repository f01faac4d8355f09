// SPDX-License-Identifier: MIT
//
// Closing: whoever waits is told, nobody meets the number's next file, and of the last file nothing remains. Go:
// os TestClosedPipeRace*, TestPipeCloseRace; net TestCloseUnblocksRead, TestListenerClose.

#include "tests/runtime/io_ends.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>

static void it_wakes_who_waits(int kind)
{
    struct ends e = ends_of(kind);
    struct io_op read, write, poll;
    fill(e.w);
    op_fill(&write, e.w);
    until_waiting(write.f, "IO wait");
    CHECK(!fib_close(e.w));
    CHECK(op_result(&write) == -ECANCELED, "%zd", write.result);
    e.w = -1;
    ends_close(&e);
    e = ends_of(kind);
    op_read(&read, e.r, 8);
    op_poll(&poll, e.r, FIB_READ);
    until_waiting(read.f, "IO wait");
    until_waiting(poll.f, "IO wait");
    CHECK(!fib_close(e.r));
    CHECK(op_result(&read) == -ECANCELED && op_result(&poll) == -ECANCELED);
    e.r = -1;
    ends_close(&e);
}

static void it_wakes_all_of_them(int kind)
{
    enum { READERS = 30 };
    struct ends e = ends_of(kind);
    struct io_op ops[READERS];
    for (int i = 0; i < READERS; i++)
        op_read(&ops[i], e.r, 1);
    for (int i = 0; i < READERS; i++)
        until_waiting(ops[i].f, "IO wait");
    CHECK(!fib_close(e.r));
    for (int i = 0; i < READERS; i++)
        CHECK(op_result(&ops[i]) == -ECANCELED);
    e.r = -1;
    ends_close(&e);
}

static void a_listener(int kind)
{
    (void)kind;
    uint16_t port;
    int l = tcp_listener(&port);
    struct io_op a, b;
    op_accept(&a, l);
    op_accept(&b, l);
    until_waiting(a.f, "IO wait");
    until_waiting(b.f, "IO wait");
    CHECK(!fib_close(l));
    CHECK(op_result(&a) == -ECANCELED && op_result(&b) == -ECANCELED);
    CHECK(fib_dial("127.0.0.1", port, -1) == -ECONNREFUSED);
}

static void *close_in_thread(void *arg)
{
    struct io_op *op = arg;
    CHECK(!fib_close(op->fd));
    return NULL;
}

static void from_a_plain_thread(int kind)
{
    struct ends e = ends_of(kind);
    struct io_op op;
    op_read(&op, e.r, 8);
    until_waiting(op.f, "IO wait");
    pthread_t t;
    CHECK(!pthread_create(&t, NULL, close_in_thread, &op));
    CHECK(op_result(&op) == -ECANCELED);
    pthread_join(t, NULL);
    e.r = -1;
    ends_close(&e);
}

static void twice_or_never_opened(int kind)
{
    (void)kind;
    struct ends e = ends_of(PIPE);
    CHECK(!fib_close(e.r));
    CHECK(fib_close(e.r) == -EBADF);
    CHECK(fib_close(-1) == -EBADF && fib_close(1 << 30) == -EBADF);
    char b;
    CHECK(fib_read(e.r, &b, 1) == -EBADF && fib_write(-5, &b, 1) == -EBADF);
    CHECK(fib_poll(e.r, FIB_READ, 0) == -EBADF);
    CHECK(!fib_close(e.w));
}

// Neither deadline nor drained hint nor waiters of the number's last file are the next one's.
static void the_number_starts_anew(int kind)
{
    for (int i = 0; i < 300; i++) {
        struct ends e = ends_of(kind);
        char b;
        put(e.w, "1");
        expect(e.r, "1"); // drained
        if (i % 3 == 0) {
            CHECK(!fib_set_deadline(e.r, FIB_READ | FIB_WRITE, 1));
        } else if (i % 3 == 1) {
            CHECK(!fib_set_deadline(e.r, FIB_READ, fib_now_ns() + 100000));
            CHECK(fib_read(e.r, &b, 1) == -ETIMEDOUT);
        } else {
            CHECK(!fib_close(e.w));
            CHECK(fib_read(e.r, &b, 1) == 0); // hung up
            e.w = -1;
        }
        ends_close(&e);
        e = ends_of(kind);
        struct io_op op;
        op_read(&op, e.r, 8);
        if (i % 10 == 0)
            until_waiting(op.f, "IO wait");
        put(e.w, "2");
        CHECK(op_result(&op) == 1 && op.bytes[0] == '2');
        ends_close(&e);
    }
}

static void a_copy_lives_on(int kind)
{
    struct ends e = ends_of(kind);
    struct io_op op;
    op_read(&op, e.r, 8);
    until_waiting(op.f, "IO wait");
    int copy = fcntl(e.r, F_DUPFD_CLOEXEC, 0);
    CHECK(!fib_close(e.r));
    CHECK(op_result(&op) == -ECANCELED);
    for (int i = 0; i < 3; i++) {
        op_read(&op, copy, 8);
        until_waiting(op.f, "IO wait");
        put(e.w, "c");
        CHECK(op_result(&op) == 1);
    }
    e.r = copy;
    ends_close(&e);
}

// A descriptor that was closed behind the library's back: numbers that it gets from the kernel itself are known
// to be new.
static void closed_behind_its_back(int kind)
{
    (void)kind;
    uint16_t port;
    int l = tcp_listener(&port);
    for (int i = 0; i < 20; i++) {
        struct ends e = ends_of(PIPE);
        put(e.w, "x");
        expect(e.r, "x");
        CHECK(!fib_set_deadline(e.r, FIB_READ, 1));
        close(e.r);
        close(e.w);
        struct io_op op;
        int c = fib_dial("127.0.0.1", port, -1), s = fib_accept(l, NULL, NULL);
        CHECK(c >= 0 && s >= 0);
        op_read(&op, c, 8);
        until_waiting(op.f, "IO wait");
        put(s, "new");
        CHECK(op_result(&op) == 3);
        fib_close(c);
        fib_close(s);
    }
    fib_close(l);
}

static void lingering(int kind)
{
    struct ends e = ends_of(kind);
    struct linger on = {1, 1};
    CHECK(!setsockopt(e.w, SOL_SOCKET, SO_LINGER, &on, sizeof on));
    size_t full = fill(e.w);
    int64_t begin = fib_now_ns();
    CHECK(!fib_close(e.w)); // up to a second
    CHECK(fib_now_ns() - begin < 5000LL * MS && full);
    e.w = -1;
    ends_close(&e);
}

// One long call, closed at any point of it, while its bytes trickle in and the number's next file has others: it
// ends, and has been given its own file's bytes alone.
struct trickle {
    struct ends e;
    char tag;
    char bytes[4096];
    ssize_t result;
};

static void run_long_read(void *arg)
{
    struct trickle *t = arg;
    t->result = fib_read_full(t->e.r, t->bytes, sizeof t->bytes);
}

static void run_trickle(void *arg)
{
    struct trickle *t = arg;
    char b[16];
    memset(b, t->tag, sizeof b);
    for (size_t i = 0; i < sizeof t->bytes / sizeof b - 1; i++) {
        ssize_t n = fib_write(t->e.w, b, sizeof b);
        CHECK(n == sizeof b || n == -EPIPE || n == -ECONNRESET, "%zd", n);
        if (n < 0)
            break;
        fib_yield();
    }
    CHECK(!fib_close(t->e.w));
}

static void calls_race_with_it(int kind)
{
    enum { AT_A_TIME = 8 };
    signal(SIGPIPE, SIG_IGN);
    static struct trickle t[AT_A_TIME];
    struct fib f[AT_A_TIME][2];
    long cut_short = 0;
    for (int i = 0; i < (int)check_rounds(1000); i++) {
        struct trickle *now = &t[i % AT_A_TIME];
        for (int k = 0; i >= AT_A_TIME && k < 2; k++)
            fib_join(f[i % AT_A_TIME][k]);
        for (size_t k = 0; k < sizeof now->bytes; k++)
            CHECK(!now->bytes[k] || now->bytes[k] == now->tag);
        bool is_all = now->result == sizeof now->bytes - 16; // the writer was faster
        CHECK(i < AT_A_TIME || is_all || now->result == -ECANCELED, "%zd", now->result);
        cut_short += !now->bytes[sizeof now->bytes / 2];
        *now = (struct trickle){.e = ends_of(kind), .tag = (char)(1 + i % 100)};
        f[i % AT_A_TIME][0] = go(run_long_read, now);
        until_waiting(f[i % AT_A_TIME][0], "IO wait");
        f[i % AT_A_TIME][1] = go(run_trickle, now);
        for (int k = 0; k < i % 37; k++)
            fib_yield();
        CHECK(!fib_close(now->e.r));
    }
    for (int i = 0; i < AT_A_TIME; i++)
        for (int k = 0; k < 2; k++)
            fib_join(f[i][k]);
    CHECK(cut_short > 0);
    signal(SIGPIPE, SIG_DFL);
}

static const struct row rows[] = {
    {"it wakes who waits", "net: TestCloseUnblocksRead", it_wakes_who_waits, all_kinds},
    {"it wakes all of them", "os: TestPipeThreads", it_wakes_all_of_them, all_kinds},
    {"a listener", "net: TestListenerClose", a_listener, NULL},
    {"from a plain thread", "io.h", from_a_plain_thread, all_kinds},
    {"twice or never opened", "os: TestDoubleCloseError", twice_or_never_opened, NULL},
    {"the number starts anew", "io.h", the_number_starts_anew, all_kinds},
    {"a copy lives on", "close(2)", a_copy_lives_on, all_kinds},
    {"closed behind its back", "poll.h", closed_behind_its_back, NULL},
    {"lingering", "socket(7)", lingering, (const int[]){TCP, -1}},
    {"calls race with it", "os: TestPipeCloseRace, TestClosedPipeRaceRead", calls_race_with_it,
     all_kinds},
};

int main(int argc, char **argv)
{
    return rows_run(rows, sizeof rows / sizeof *rows, argc, argv);
}
