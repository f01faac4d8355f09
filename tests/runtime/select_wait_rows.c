// SPDX-License-Identifier: MIT
//
// Selects that wait: who wakes them, what they leave behind in the other channels, and many cases.

#include "tests/runtime/rows.h"

#include <errno.h>
#include <string.h>

// A select of receiving cases in a fiber of its own.
struct waiter {
    struct fib_case cases[4];
    int64_t got[4];
    size_t count;
    int64_t timeout_ns;
    int chosen;
    _Atomic bool is_done;
    struct fib f;
};

static void run_waiter(void *arg)
{
    struct waiter *w = arg;
    w->chosen = fib_select_for(w->cases, w->count, w->timeout_ns);
    w->is_done = true;
}

static void waiter_start(struct waiter *w, struct fib_chan *const *c, size_t count,
                         int64_t timeout_ns)
{
    *w = (struct waiter){.count = count, .timeout_ns = timeout_ns, .chosen = -2};
    for (size_t i = 0; i < count; i++) {
        w->got[i] = -1;
        w->cases[i] = (struct fib_case)FIB_RECV(c[i], &w->got[i]);
    }
    w->f = go(run_waiter, w);
    until_waiting(w->f, "select");
    CHECK(!w->is_done);
}

static void waiter_end(struct waiter *w)
{
    fib_join(w->f);
    CHECK(w->is_done);
}

// A waits for c twice and d, B for c: the wake by d must take both of A's waiters out of c, and not B's.
static void same_channel_twice(int cap)
{
    struct fib_chan *c = chan_of(cap), *d = chan_of(cap);
    struct waiter a;
    struct op b;
    waiter_start(&a, (struct fib_chan *[]){c, c, d}, 3, -1);
    op_recv(&b, c);
    until_waiting(b.f, "chan receive");
    send(d, 7);
    waiter_end(&a);
    CHECK(a.chosen == 2 && a.cases[2].ok && a.got[2] == 7 && a.got[0] == -1 && a.got[1] == -1);
    send(c, 8);
    op_end(&b);
    CHECK(b.value == 8);
    waiter_start(&a, (struct fib_chan *[]){c, c, d}, 3, -1);
    send(c, 9);
    waiter_end(&a);
    CHECK((a.chosen == 0 || a.chosen == 1) && a.got[a.chosen] == 9 && a.got[!a.chosen] == -1);
    fib_chan_free(c);
    fib_chan_free(d);
}

// Selects at the head, in the middle and at the end of a queue leave it; the others stay.
static void leaves_the_others(int cap)
{
    enum { N = 5 };
    struct fib_chan *c = chan_of(cap), *d[N];
    for (int left = 0; left < 1 << N; left++) {
        struct waiter w[N];
        for (int i = 0; i < N; i++) {
            d[i] = chan_of(0);
            waiter_start(&w[i], (struct fib_chan *[]){d[i], c}, 2, -1);
        }
        for (int i = 0; i < N; i++) {
            if (left & 1 << i) {
                send(d[i], 100 + i);
                waiter_end(&w[i]);
                CHECK(w[i].chosen == 0 && w[i].got[0] == 100 + i && w[i].got[1] == -1);
            }
        }
        for (int i = 0; i < N; i++) {
            if (left & 1 << i)
                continue;
            send(c, i); // to the first that still waits
            waiter_end(&w[i]);
            CHECK(w[i].chosen == 1 && w[i].got[1] == i && w[i].got[0] == -1);
        }
        CHECK(!try_send(d[0], 1));
        for (int i = 0; i < N; i++)
            fib_chan_free(d[i]);
    }
    CHECK(fib_chan_len(c) == 0);
    fib_chan_free(c);
}

// A select that is woken elsewhere is last in c's queue; waits that come to c later are still woken.
static void failed_case_leaves_queue_whole(int cap)
{
    (void)cap;
    struct fib_chan *c = chan_of(0), *d = chan_of(0);
    struct op first, later;
    struct waiter w;
    op_recv(&first, c);
    until_waiting(first.f, "chan receive");
    waiter_start(&w, (struct fib_chan *[]){c, d}, 2, -1);
    send(d, 1);
    waiter_end(&w);
    op_recv(&later, c);
    until_waiting(later.f, "chan receive");
    send(c, 2);
    send(c, 3);
    op_end(&first);
    op_end(&later);
    CHECK(first.value == 2 && later.value == 3);
    fib_chan_free(c);
    fib_chan_free(d);
}

// --- Who wakes whom: each way of sending meets each way of receiving.

enum { PLAIN, POLL, SELECT, SELECT_TWO, LIMITED, WAYS };

struct meeting {
    struct fib_chan *c, *other;
    int way;
    int64_t value;
};

static void run_meet_send(void *arg)
{
    struct meeting *m = arg;
    struct fib_case k[] = {FIB_SEND(m->c, &m->value), FIB_RECV(m->other, NULL)};
    switch (m->way) {
    case PLAIN: fib_chan_send(m->c, &m->value); break;
    case POLL:
        while (fib_chan_send_for(m->c, &m->value, 0))
            fib_sleep(10000); // a yield would stop the deterministic clock
        break;
    case SELECT: CHECK(fib_select(k, 1) == 0); break;
    case SELECT_TWO: CHECK(fib_select(k, 2) == 0); break;
    default: CHECK(!fib_chan_send_for(m->c, &m->value, 10000LL * MS)); break;
    }
}

static void run_meet_recv(void *arg)
{
    struct meeting *m = arg;
    struct fib_case k[] = {FIB_RECV(m->other, NULL), FIB_RECV(m->c, &m->value)};
    switch (m->way) {
    case PLAIN: CHECK(fib_chan_recv(m->c, &m->value)); break;
    case POLL:
        while (fib_chan_recv_for(m->c, &m->value, 0))
            fib_sleep(10000);
        break;
    case SELECT: CHECK(fib_select(k + 1, 1) == 0); break;
    case SELECT_TWO: CHECK(fib_select_for(k, 2, 10000LL * MS) == 1 && k[1].ok); break;
    default: CHECK(!fib_chan_recv_for(m->c, &m->value, 10000LL * MS)); break;
    }
}

static void all_ways_meet(int cap)
{
    for (int way = 0; way < WAYS * WAYS * 2; way++) {
        int s = way / 2 % WAYS, r = way / 2 / WAYS;
        if (s == POLL && r == POLL && cap == 0)
            continue; // neither waits for the other
        struct meeting a = {chan_of(cap), chan_of(0), s, 77}, b = {a.c, a.other, r, 0};
        struct fib f[2];
        f[0] = way % 2 ? go(run_meet_send, &a) : go(run_meet_recv, &b);
        fib_sleep(MS / 20);
        f[1] = way % 2 ? go(run_meet_recv, &b) : go(run_meet_send, &a);
        fib_join(f[0]);
        fib_join(f[1]);
        CHECK(b.value == 77, "way %d to send, %d to receive", s, r);
        fib_chan_free(a.c);
        fib_chan_free(a.other);
    }
}

static void close_wakes_all(int cap)
{
    enum { N = 50 };
    struct waiter w[N];
    struct fib_chan *c = chan_of(cap), *d = chan_of(0);
    for (int i = 0; i < N; i++)
        waiter_start(&w[i], (struct fib_chan *[]){d, c, NULL}, 3, i % 2 ? -1 : 10000LL * MS);
    fib_chan_close(c);
    for (int i = 0; i < N; i++) {
        waiter_end(&w[i]);
        CHECK(w[i].chosen == 1 && !w[i].cases[1].ok && w[i].got[1] == 0 && w[i].got[0] == -1);
    }
    fib_chan_free(c);
    fib_chan_free(d);
}

static void in_order_with_others(int cap)
{
    enum { N = 9 };
    struct fib_chan *c = chan_of(cap), *d = chan_of(0);
    struct waiter w[N];
    struct op ops[N];
    for (int i = 0; i < N; i++) {
        if (i % 3 == 0) {
            op_recv(&ops[i], c);
            until_waiting(ops[i].f, "chan receive");
        } else {
            waiter_start(&w[i], (struct fib_chan *[]){c, d}, 2, i % 3 == 1 ? -1 : 10000LL * MS);
        }
    }
    for (int i = 0; i < N; i++)
        send(c, i);
    for (int i = 0; i < N; i++) {
        if (i % 3 == 0)
            op_end(&ops[i]);
        else
            waiter_end(&w[i]);
        CHECK((i % 3 ? w[i].got[0] : ops[i].value) == i);
    }
    fib_chan_free(c);
    fib_chan_free(d);
}

// --- The end of the time.

static void time_over_leaves_nothing(int cap)
{
    struct fib_chan *c = chan_of(cap), *d = chan_of(cap);
    struct waiter w;
    // Long enough to be seen waiting.
    waiter_start(&w, (struct fib_chan *[]){c, d, c}, 3, (rows_are_slow ? 200 : 10) * (int64_t)MS);
    waiter_end(&w);
    CHECK(w.chosen == FIB_SELECT_NONE && w.got[0] == -1 && w.got[1] == -1);
    for (int i = 0; i < cap; i++)
        CHECK(try_send(c, i));
    CHECK(!try_send(c, 1));
    for (int i = 0; i < 1000; i++) {
        int64_t v = 0;
        struct fib_case k[] = {FIB_RECV(d, &v), FIB_SEND(c, &v)};
        CHECK(fib_select_for(k, 2, 1000) == FIB_SELECT_NONE);
    }
    fib_chan_free(c); // aborts if one is left
    fib_chan_free(d);
}

struct crowd {
    struct fib_chan *c[3];
    int rounds;
    _Atomic int sent, received;
    _Atomic bool is_over;
};

static void run_crowd_send(void *arg)
{
    struct crowd *w = arg;
    int64_t v = 1;
    for (int i = 0; i < w->rounds; i++) {
        struct fib_case k[] = {FIB_SEND(w->c[0], &v), FIB_SEND(w->c[1], &v), FIB_SEND(w->c[2], &v)};
        w->sent += fib_select_for(k, 3, i % 4 * 15000) != FIB_SELECT_NONE;
    }
}

static void run_crowd_recv(void *arg)
{
    struct crowd *w = arg;
    for (int i = 0; !w->is_over || i == 0; i++) {
        int64_t v = 0;
        struct fib_case k[] = {FIB_RECV(w->c[2], &v), FIB_RECV(w->c[0], &v), FIB_RECV(w->c[1], &v)};
        bool came = fib_select_for(k, 3, i % 5 * 10000) != FIB_SELECT_NONE;
        CHECK(v == came);
        w->received += came;
        fib_yield();
    }
}

static void time_over_loses_no_value(int cap)
{
    struct crowd w = {.c = {chan_of(0), chan_of(cap), chan_of(0)},
                      .rounds = (int)check_rounds(1000)};
    struct fib s[3], r[3];
    for (int i = 0; i < 3; i++) {
        s[i] = go(run_crowd_send, &w);
        r[i] = go(run_crowd_recv, &w);
    }
    for (int i = 0; i < 3; i++)
        fib_join(s[i]);
    w.is_over = true;
    for (int i = 0; i < 3; i++)
        fib_join(r[i]);
    CHECK(w.sent > 0 && w.sent == w.received + (int)fib_chan_len(w.c[1]), "%d, %d", w.sent,
          w.received);
    for (int i = 0; i < 3; i++)
        fib_chan_free(w.c[i]);
}

// --- Many cases.

struct many {
    struct fib_chan **c;
    int count, at;
};

static void run_send_at(void *arg)
{
    struct many *m = arg;
    fib_yield();
    send(m->c[m->at], m->at);
}

static void many_cases(int count)
{
    struct many m = {calloc((size_t)count, sizeof *m.c), count, 0};
    struct fib_case *k = calloc((size_t)count, sizeof *k);
    int64_t v, none = 5;
    for (int i = 0; i < count; i++) {
        int at = (int)((int64_t)i * 7919 % count); // not in the order of their addresses
        m.c[at] = chan_of(0);
    }
    for (int i = 0; i < count; i++)
        k[i] = (struct fib_case)FIB_RECV(m.c[i], &v);
    int rounds = count < 40 ? count : count < 10000 ? 40 : 4;
    for (int i = 0; i < rounds; i++) {
        m.at = (int)((int64_t)i * (count - 1) / rounds);
        struct fib f = go(run_send_at, &m);
        CHECK(fib_select(k, (size_t)count) == m.at && v == m.at && k[m.at].ok);
        fib_join(f);
    }
    CHECK(fib_select_for(k, (size_t)count, 0) == FIB_SELECT_NONE);
    CHECK(fib_select_for(k, (size_t)count, 1000) == FIB_SELECT_NONE);
    for (int i = 0; i < count; i++)
        k[i] = (struct fib_case)FIB_SEND(m.c[0], &none);
    struct op op;
    op_recv(&op, m.c[0]);
    int at = fib_select(k, (size_t)count);
    CHECK(at >= 0 && at < count);
    op_end(&op);
    CHECK(op.value == 5);
    for (int i = 0; i < count; i++)
        fib_chan_free(m.c[i]);
    free(m.c);
    free(k);
}

int main(int argc, char **argv)
{
    static const int few[] = {0, 1, 7, -1}, zero_one[] = {0, 1, -1},
                     counts[] = {1, 2, 7, 8, 9, 100, 1000, FIB_SELECT_MAX, -1};
    static const struct row rows[] = {
        {"the same channel in several cases", "TestSelectDuplicateChannel", same_channel_twice,
         few},
        {"leaves the other waiters in their queues", "TestSelectDuplicateChannel",
         leaves_the_others, zero_one},
        {"a failed case leaves its queue whole", "chan/select6.go", failed_case_leaves_queue_whole,
         NULL},
        {"all ways to send meet all ways to receive", "chan/select7.go", all_ways_meet, zero_one},
        {"close wakes all selects, writes the chosen only", "TestSelectStackAdjust",
         close_wakes_all, few},
        {"waits in order with single receivers", "chan.h", in_order_with_others, few},
        {"a wait that ended leaves nothing behind", "chan/select2.go", time_over_leaves_nothing,
         few},
        {"the end of the time loses no value", "chan.h", time_over_loses_no_value, few},
        {"any number of cases", "chan.h", many_cases, counts},
    };
    return rows_run(rows, sizeof rows / sizeof *rows, argc, argv);
}
