// SPDX-License-Identifier: MIT
//
// Reading and writing: bytes arrive once and in order, the end is seen, and no hint that a stream is drained
// makes a call wait for what is there already. As Go's net and os tests check it.

#include "tests/runtime/io_ends.h"

#include <netinet/in.h>
#include <signal.h>

struct transfer {
    int fd;
    size_t size;
    unsigned seed;
};

static void run_pattern_write(void *arg)
{
    struct transfer *t = arg;
    pattern_write(t->fd, t->size, t->seed);
}

static void run_pattern_read(void *arg)
{
    struct transfer *t = arg;
    pattern_read(t->fd, t->size, t->seed);
}

static size_t transfer_size(void)
{
    return rows_are_slow ? 2000000 : 8000000; // more than buffers hold
}

static void bytes_arrive_in_order(int kind)
{
    struct ends e = ends_of(kind);
    struct transfer t = {e.w, transfer_size(), 11};
    struct fib f = go(run_pattern_write, &t);
    pattern_read(e.r, t.size, t.seed);
    fib_join(f);
    ends_close(&e);
}

static void both_directions_at_once(int kind)
{
    struct ends e = ends_of(kind);
    struct transfer t[] = {{e.w, transfer_size(), 1}, {e.r, transfer_size(), 2}};
    struct transfer u[] = {{e.r, transfer_size(), 1}, {e.w, transfer_size(), 2}};
    struct fib f[4];
    for (int i = 0; i < 2; i++) {
        f[i] = go(run_pattern_write, &t[i]);
        f[i + 2] = go(run_pattern_read, &u[i]);
    }
    for (int i = 0; i < 4; i++)
        fib_join(f[i]);
    ends_close(&e);
}

static void a_read_waits_and_may_be_short(int kind)
{
    struct ends e = ends_of(kind);
    for (int i = 0; i < 20; i++) {
        struct io_op op;
        op_read(&op, e.r, sizeof op.bytes);
        until_waiting(op.f, "IO wait");
        put(e.w, "hello");
        CHECK(op_result(&op) == 5 && !memcmp(op.bytes, "hello", 5), "%zd", op.result);
    }
    put(e.w, "abcdef"); // and what is left is there at once
    char b[4];
    CHECK(fib_read(e.r, b, 4) == 4 && !memcmp(b, "abcd", 4));
    CHECK(fib_read(e.r, b, 4) == 2 && !memcmp(b, "ef", 2));
    ends_close(&e);
}

static void the_end_is_seen(int kind)
{
    char b[8];
    for (int i = 0; i < 3; i++) {
        struct ends e = ends_of(kind);
        struct io_op op;
        if (i == 1) { // while drained
            put(e.w, "x");
            expect(e.r, "x");
        }
        if (i < 2) {
            op_read(&op, e.r, 8);
            until_waiting(op.f, "IO wait");
        } else {
            put(e.w, "tail");
        }
        CHECK(!fib_close(e.w));
        if (i < 2)
            CHECK(op_result(&op) == 0, "%zd", op.result);
        else
            expect(e.r, "tail"); // and the end behind it gives no event of its own
        CHECK(fib_read(e.r, b, 8) == 0 && fib_read(e.r, b, 8) == 0);
        e.w = -1;
        ends_close(&e);
    }
}

struct writer {
    int fd;
    int delay;
};

static void run_write_close(void *arg)
{
    struct writer *w = arg;
    put(w->fd, "last");
    for (int i = 0; i < w->delay; i++)
        fib_yield();
    CHECK(!fib_close(w->fd));
}

static void the_end_may_come_any_time(int kind)
{
    for (int i = 0; i < (int)check_rounds(2000); i++) {
        struct ends e = ends_of(kind);
        struct writer w = {e.w, i % 4};
        struct fib f = go(run_write_close, &w);
        char b[64];
        size_t got = 0;
        ssize_t n;
        while ((n = fib_read(e.r, b, sizeof b)) > 0)
            got += (size_t)n;
        CHECK(n == 0 && got == 4, "%zd after %zu", n, got);
        fib_join(f);
        CHECK(!fib_close(e.r));
    }
}

static void half_closing(int kind)
{
    struct ends e = ends_of(kind);
    struct io_op op;
    op_read(&op, e.r, 8);
    until_waiting(op.f, "IO wait");
    CHECK(!shutdown(e.w, SHUT_WR));
    CHECK(op_result(&op) == 0);
    put(e.r, "back"); // the other way still works
    expect(e.w, "back");
    CHECK(fib_write(e.w, "x", 1) == -EPIPE); // and no SIGPIPE
    op_read(&op, e.w, 8);
    until_waiting(op.f, "IO wait");
    CHECK(!shutdown(e.w, SHUT_RD)); // one's own
    CHECK(op_result(&op) == 0, "%zd", op.result);
    ends_close(&e);
}

static void writing_waits_for_room(int kind)
{
    struct ends e = ends_of(kind);
    size_t full = fill(e.w);
    CHECK(full > 1000);
    struct io_op op;
    op_fill(&op, e.w);
    until_waiting(op.f, "IO wait");
    char *b = malloc(65536);
    size_t got = 0;
    while (got < 2 * full) { // more than there was: so the writer went on
        ssize_t n = fib_read(e.r, b, 65536);
        CHECK(n > 0);
        got += (size_t)n;
    }
    free(b);
    CHECK(!fib_set_deadline(e.w, FIB_WRITE, 1));
    CHECK(op_result(&op) == -ETIMEDOUT && op.size > 0);
    ends_close(&e);
}

static void nobody_reads_any_more(int kind)
{
    signal(SIGPIPE, kind == PIPE ? SIG_IGN : SIG_DFL); // sockets raise none
    struct ends e = ends_of(kind);
    struct io_op op;
    fill(e.w);
    op_fill(&op, e.w);
    until_waiting(op.f, "IO wait");
    CHECK(!fib_close(e.r));
    ssize_t rc = op_result(&op);
    CHECK(rc == -EPIPE || (rc == -ECONNRESET && kind != PIPE), "%zd", rc);
    rc = fib_write(e.w, "x", 1);
    CHECK(rc == -EPIPE, "%zd", rc);
    e.r = -1;
    ends_close(&e);
    signal(SIGPIPE, SIG_DFL);
}

static void a_reset_is_an_error(int kind)
{
    (void)kind;
    struct ends e = ends_of(TCP);
    struct io_op op;
    op_read(&op, e.r, 8);
    until_waiting(op.f, "IO wait");
    struct linger l = {1, 0};
    CHECK(!setsockopt(e.w, SOL_SOCKET, SO_LINGER, &l, sizeof l));
    CHECK(!fib_close(e.w));
    CHECK(op_result(&op) == -ECONNRESET, "%zd", op.result);
    char b;
    CHECK(fib_read(e.r, &b, 1) == 0);
    e.w = -1;
    ends_close(&e);
}

static void nothing_is_moved_at_once(int kind)
{
    struct ends e = ends_of(kind);
    char b;
    CHECK(fib_read(e.r, &b, 0) == 0); // Go: TestZeroByteRead
    CHECK(fib_write(e.w, &b, 0) == 0);
    put(e.w, "x");
    CHECK(fib_read(e.r, &b, 0) == 0);
    expect(e.r, "x");
    CHECK(fib_read(e.r, &b, 0) == 0); // drained
    CHECK(fib_read_full(e.r, &b, 0) == 0 && fib_write_full(e.w, &b, 0) == 0);
    ends_close(&e);
}

static void vectors(int kind)
{
    struct ends e = ends_of(kind);
    char a[4], b[8];
    struct iovec out[] = {{"abc", 3}, {"", 0}, {"defgh", 5}};
    struct iovec in[] = {{a, 4}, {b, 8}};
    for (int i = 0; i < 3; i++) { // the second read starts from drained
        CHECK(fib_writev(e.w, out, 3) == 8);
        CHECK(fib_readv(e.r, in, 2) == 8);
        CHECK(!memcmp(a, "abcd", 4) && !memcmp(b, "efgh", 4));
    }
    CHECK(fib_writev(e.w, out, -1) == -EINVAL && fib_readv(e.r, in, 100000) == -EINVAL);
    ends_close(&e);
}

static void full_ends_at_the_end(int kind)
{
    struct ends e = ends_of(kind);
    char b[16];
    put(e.w, "abc");
    CHECK(fib_read_full(e.r, b, 2) == 2);
    CHECK(!fib_close(e.w));
    CHECK(fib_read_full(e.r, b, 16) == 1 && b[0] == 'c');
    CHECK(fib_read_full(e.r, b, 16) == 0);
    e.w = -1;
    ends_close(&e);
}

static void several_readers(int kind)
{
    enum { READERS = 20 };
    struct ends e = ends_of(kind);
    struct io_op ops[READERS], poll;
    for (int i = 0; i < READERS; i++)
        op_read(&ops[i], e.r, 1);
    op_poll(&poll, e.r, FIB_READ);
    for (int i = 0; i < READERS; i++)
        until_waiting(ops[i].f, "IO wait");
    until_waiting(poll.f, "IO wait");
    for (int i = 0; i < READERS / 2; i++)
        put(e.w, "1"); // each byte wakes somebody
    for (int done = 0; done < READERS / 2; fib_sleep(MS / 10)) {
        done = 0;
        for (int i = 0; i < READERS; i++)
            done += ops[i].is_done;
    }
    CHECK(fib_write_full(e.w, "2222222222", READERS / 2) == READERS / 2); // all at once
    for (int i = 0; i < READERS; i++)
        CHECK(op_result(&ops[i]) == 1);
    if (!poll.is_done) // it may have seen nothing but what others took
        put(e.w, "3");
    CHECK(op_result(&poll) == FIB_READ);
    ends_close(&e);
}

static const struct row rows[] = {
    {"bytes arrive in order", "net: TestTCPBig", bytes_arrive_in_order, all_kinds},
    {"both directions at once", "net: TestTCPStress", both_directions_at_once, socket_kinds},
    {"a read waits and may be short", "os: TestPipe", a_read_waits_and_may_be_short, all_kinds},
    {"the end is seen", "os: TestPipeEOF; drained: io.h", the_end_is_seen, all_kinds},
    {"the end may come any time", "epoll(7): EPOLLRDHUP sticks", the_end_may_come_any_time,
     all_kinds},
    {"half closing", "net: TestCloseRead, TestCloseWrite", half_closing, socket_kinds},
    {"writing waits for room", "net: TestWriteTimeout", writing_waits_for_room, all_kinds},
    {"nobody reads any more", "os: TestEPIPE", nobody_reads_any_more, all_kinds},
    {"a reset is an error", "net: TestNotTemporaryRead", a_reset_is_an_error, NULL},
    {"nothing is moved at once", "net: TestZeroByteRead", nothing_is_moved_at_once, all_kinds},
    {"vectors", "net: TestBuffers_WriteTo", vectors, all_kinds},
    {"full ends at the end", "io: ReadFull", full_ends_at_the_end, all_kinds},
    {"several readers", "io.h: are all woken", several_readers, all_kinds},
};

int main(int argc, char **argv)
{
    return rows_run(rows, sizeof rows / sizeof *rows, argc, argv);
}
