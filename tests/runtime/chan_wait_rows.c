// SPDX-License-Identifier: MIT
//
// How long channels make wait: NULL channels forever, others up to a limit, which loses no value; and
// plain threads as fibers.

#include "tests/runtime/rows.h"

#include <errno.h>
#include <pthread.h>

// --- NULL channels and limits.

static void run_nil_recv(void *arg)
{
    fib_chan_recv(NULL, arg);
    CHECK(false, "it returned");
}

static void run_nil_send(void *arg)
{
    fib_chan_send(NULL, arg);
    CHECK(false, "it returned");
}

static void null_waits_forever(int cap)
{
    (void)cap;
    int64_t begin = fib_now_ns();
    until_waiting(go(run_nil_recv, NULL), "chan receive (nil chan)");
    until_waiting(go(run_nil_send, NULL), "chan send (nil chan)");
    CHECK(fib_chan_recv_for(NULL, NULL, 0) == -ETIMEDOUT);
    CHECK(fib_chan_send_for(NULL, NULL, 0) == -ETIMEDOUT);
    CHECK(fib_chan_recv_for(NULL, NULL, 3 * MS) == -ETIMEDOUT);
    CHECK(fib_chan_send_for(NULL, NULL, 3 * MS) == -ETIMEDOUT);
    CHECK(fib_now_ns() - begin >= 6 * MS);
}

static void limits_end_waits(int cap)
{
    struct fib_chan *c = chan_of(cap);
    int64_t v = 3, begin = fib_now_ns();
    CHECK(fib_chan_recv_for(c, &v, 3 * MS) == -ETIMEDOUT && v == 3);
    CHECK(fib_now_ns() - begin >= 3 * MS);
    for (int i = 0; i < cap; i++)
        CHECK(!fib_chan_send_for(c, &(int64_t){i}, 3 * MS));
    begin = fib_now_ns();
    CHECK(fib_chan_send_for(c, &v, 3 * MS) == -ETIMEDOUT);
    CHECK(fib_now_ns() - begin >= 3 * MS);
    for (int i = 0; i < cap; i++)
        CHECK(recv(c) == i);
    CHECK(!try_recv(c, &v)); // the one that gave up left nothing
    struct op op;
    op_send(&op, c, 8);
    CHECK(!fib_chan_recv_for(c, &v, 10000LL * MS) && v == 8);
    op_end(&op);
    op_recv(&op, c);
    if (cap == 0)
        until_waiting(op.f, "chan receive");
    CHECK(!fib_chan_send_for(c, &v, 10000LL * MS));
    op_end(&op);
    fib_chan_free(c);
}

static void run_recv_limited(void *arg)
{
    struct op *op = arg;
    op->ok = fib_chan_recv_for(op->c, &op->value, 10000LL * MS) == -EPIPE;
    op->is_done = true;
}

static void close_ends_limited_waits(int cap)
{
    struct op op = {.c = chan_of(cap), .value = 5};
    op.f = go(run_recv_limited, &op);
    until_waiting(op.f, "chan receive");
    fib_chan_close(op.c);
    op_end(&op);
    CHECK(op.ok && op.value == 0);
    fib_chan_free(op.c);
}

struct race {
    struct fib_chan *c;
    int rounds;
    _Atomic int sent, received;
    _Atomic bool is_over;
};

static void run_race_send(void *arg)
{
    struct race *r = arg;
    for (int i = 0; i < r->rounds; i++)
        r->sent += !fib_chan_send_for(r->c, &(int64_t){i}, i % 4 * 20000);
}

static void run_race_recv(void *arg)
{
    struct race *r = arg;
    int64_t v;
    for (int i = 0; !r->is_over || i == 0; i++) {
        r->received += !fib_chan_recv_for(r->c, &v, i % 5 * 15000);
        fib_yield();
    }
    while (!fib_chan_recv_for(r->c, &v, 0))
        r->received++;
}

static void limits_lose_no_value(int cap)
{
    struct race r = {.c = chan_of(cap), .rounds = (int)check_rounds(1000)};
    struct fib s[3], t[3];
    for (int i = 0; i < 3; i++) {
        s[i] = go(run_race_send, &r);
        t[i] = go(run_race_recv, &r);
    }
    for (int i = 0; i < 3; i++)
        fib_join(s[i]);
    r.is_over = true;
    for (int i = 0; i < 3; i++)
        fib_join(t[i]);
    CHECK(r.sent == r.received, "%d sent, %d received", r.sent, r.received);
    CHECK(r.sent > 0);
    fib_chan_free(r.c);
}

// --- Plain threads.

struct echo {
    struct fib_chan *in, *out;
};

static void *thread_echo(void *arg)
{
    struct echo *l = arg;
    int64_t v;
    while (fib_chan_recv(l->in, &v))
        send(l->out, v + 1);
    fib_chan_close(l->out);
    return NULL;
}

static void plain_threads_too(int cap)
{
    if (rows_are_seeded)
        return; // threads are the kernel's to interleave
    struct echo l = {.in = chan_of(cap), .out = chan_of(cap)};
    struct echo m = {.in = l.out, .out = chan_of(cap)};
    pthread_t a, b;
    CHECK(!pthread_create(&a, NULL, thread_echo, &l));
    CHECK(!pthread_create(&b, NULL, thread_echo, &m));
    for (int i = 0; i < 500; i++) {
        send(l.in, i);
        CHECK(recv(m.out) == i + 2);
    }
    fib_chan_close(l.in);
    CHECK(!fib_chan_recv(m.out, NULL));
    fib_blocking_enter();
    pthread_join(a, NULL);
    pthread_join(b, NULL);
    fib_blocking_exit();
    fib_chan_free(l.in);
    fib_chan_free(m.in);
    fib_chan_free(m.out);
}

int main(int argc, char **argv)
{
    static const int few[] = {0, 1, 7, -1};
    static const struct row rows[] = {
        {"a NULL channel waits forever", "chan/select3.go", null_waits_forever, NULL},
        {"limits end waits", "chan.h", limits_end_waits, few},
        {"close ends waits with a limit", "chan.h", close_ends_limited_waits, few},
        {"limits lose no value", "chan.h", limits_lose_no_value, few},
        {"plain threads take part", "chan.h", plain_threads_too, few},
    };
    return rows_run(rows, sizeof rows / sizeof *rows, argc, argv);
}
