// SPDX-License-Identifier: MIT
//
// Channels behave as Go's do: values, order, close, elements of all sizes, and the usual patterns. Limits of time
// and plain threads: chan_wait_rows.c; select: select_rows.c; what aborts: chan_misuse.c.

#include "tests/runtime/rows.h"

#include <errno.h>
#include <string.h>

static void empty_waits(int cap)
{
    struct fib_chan *c = chan_of(cap);
    struct op a, b;
    int64_t v;
    op_recv(&a, c);
    op_recv(&b, c);
    until_waiting(a.f, "chan receive");
    until_waiting(b.f, "chan receive");
    CHECK(!a.is_done && !b.is_done);
    CHECK(!try_recv(c, &v));
    send(c, 7);
    send(c, 7);
    op_end(&a);
    op_end(&b);
    CHECK(a.ok && b.ok && a.value == 7 && b.value == 7);
    CHECK(fib_chan_len(c) == 0);
    fib_chan_free(c);
}

static void full_waits(int cap)
{
    struct fib_chan *c = chan_of(cap);
    for (int i = 0; i < cap; i++)
        send(c, i);
    struct op a;
    op_send(&a, c, cap);
    until_waiting(a.f, "chan send");
    CHECK(!a.is_done);
    CHECK(!try_send(c, 99));
    for (int i = 0; i <= cap; i++)
        CHECK(recv(c) == i); // the waiting one's value comes last
    op_end(&a);
    fib_chan_free(c);
}

static void closed_drains_then_zero(int cap)
{
    struct fib_chan *c = chan_of(cap);
    for (int i = 0; i < cap; i++)
        send(c, i + 1);
    fib_chan_close(c);
    for (int i = 0; i < cap; i++)
        CHECK(recv(c) == i + 1);
    for (int i = 0; i < 10; i++) {
        int64_t v = 5;
        CHECK(!fib_chan_recv(c, &v) && v == 0);
        v = 5;
        CHECK(fib_chan_recv_for(c, &v, 0) == -EPIPE && v == 0);
        v = 5;
        CHECK(fib_chan_recv_for(c, &v, MS) == -EPIPE && v == 0);
    }
    CHECK(!fib_chan_recv(c, NULL));
    fib_chan_free(c);
}

static void close_wakes_all(int cap)
{
    enum { N = 20 };
    struct fib_chan *c = chan_of(cap);
    struct op ops[N];
    for (int i = 0; i < N; i++) {
        op_recv(&ops[i], c);
        until_waiting(ops[i].f, "chan receive");
    }
    fib_chan_close(c);
    for (int i = 0; i < N; i++) {
        op_end(&ops[i]);
        CHECK(!ops[i].ok && ops[i].value == 0);
    }
    fib_chan_free(c);
}

struct stream {
    struct fib_chan *c;
    int64_t from, to;
    _Atomic int *seen; // by value
};

static void run_stream_send(void *arg)
{
    struct stream *s = arg;
    for (int64_t i = s->from; i < s->to; i++)
        send(s->c, i);
}

static void run_stream_recv(void *arg)
{
    struct stream *s = arg;
    for (int64_t i = s->from; i < s->to; i++)
        s->seen[recv(s->c)]++;
}

static void order_is_kept(int cap)
{
    struct stream s = {.c = chan_of(cap), .to = 300};
    struct fib f = go(run_stream_send, &s);
    for (int64_t i = 0; i < 300; i++) {
        int64_t v = -1;
        if (i < 100) {
            v = recv(s.c);
        } else if (i < 200) {
            CHECK(!fib_chan_recv_for(s.c, &v, -1));
        } else {
            struct fib_case k = FIB_RECV(s.c, &v);
            CHECK(fib_select(&k, 1) == 0 && k.ok);
        }
        CHECK(v == i, "%lld after %lld", (long long)v, (long long)i - 1);
    }
    fib_join(f);
    fib_chan_free(s.c);
}

static void each_value_once(int cap)
{
    enum { P = 4, L = 1000 };
    static _Atomic int seen[L];
    memset(seen, 0, sizeof seen);
    struct stream s = {.c = chan_of(cap), .to = L, .seen = seen};
    struct fib f[2 * P];
    for (int i = 0; i < P; i++) {
        f[2 * i] = go(run_stream_send, &s);
        f[2 * i + 1] = go(run_stream_recv, &s);
    }
    for (int i = 0; i < 2 * P; i++)
        fib_join(f[i]);
    for (int i = 0; i < L; i++)
        CHECK(seen[i] == P, "%d came %d times", i, seen[i]);
    fib_chan_free(s.c);
}

static void len_and_cap(int cap)
{
    struct fib_chan *c = chan_of(cap);
    CHECK(fib_chan_cap(c) == (size_t)cap);
    for (int i = 0; i < cap; i++) {
        CHECK(fib_chan_len(c) == (size_t)i);
        send(c, i);
    }
    CHECK(fib_chan_len(c) == (size_t)cap);
    fib_chan_close(c);
    CHECK(fib_chan_len(c) == (size_t)cap && fib_chan_cap(c) == (size_t)cap);
    CHECK(fib_chan_len(NULL) == 0 && fib_chan_cap(NULL) == 0);
    fib_chan_free(c);
    fib_chan_free(NULL);
}

static void run_nonblock_ready(void *arg)
{
    int64_t v;
    int rc = fib_chan_recv_for(arg, &v, 0);
    CHECK(rc == 0 || rc == -EPIPE, "neither the value nor closed: %d", rc);
}

static void never_unready_between(int cap)
{
    (void)cap;
    for (int i = 0; i < (int)check_rounds(3000); i++) {
        struct fib_chan *c = chan_of(1);
        int64_t v;
        send(c, 1);
        struct fib f = go(run_nonblock_ready, c);
        fib_chan_close(c);
        fib_chan_recv(c, &v);
        fib_join(f);
        fib_chan_free(c);
    }
}

struct link {
    struct fib_chan *values, *in, *out;
    int64_t value;
};

static void run_link(void *arg)
{
    struct link *l = arg;
    recv(l->in);
    CHECK(recv(l->values) == l->value);
    send(l->out, 1);
}

static void unbuffered_is_a_fifo(int cap)
{
    enum { N = 10 };
    (void)cap;
    struct fib_chan *values = chan_of(0), *ends[N + 1];
    struct link links[N];
    struct fib f[N];
    ends[0] = chan_of(0);
    for (int i = 0; i < N; i++) {
        ends[i + 1] = chan_of(0);
        links[i] = (struct link){values, ends[i], ends[i + 1], i};
        f[i] = go(run_link, &links[i]);
    }
    send(ends[0], 0);
    for (int i = 0; i < N; i++)
        send(values, i);
    recv(ends[N]);
    for (int i = 0; i < N; i++)
        fib_join(f[i]);
    for (int i = 0; i <= N; i++)
        fib_chan_free(ends[i]);
    fib_chan_free(values);
}

static void waiters_in_order(int cap)
{
    enum { N = 8 };
    struct fib_chan *c = chan_of(cap);
    struct op ops[N];
    for (int i = 0; i < N; i++) {
        op_recv(&ops[i], c);
        until_waiting(ops[i].f, "chan receive");
    }
    for (int i = 0; i < N; i++)
        send(c, i);
    for (int i = 0; i < N; i++) {
        op_end(&ops[i]);
        CHECK(ops[i].value == i);
    }
    for (int i = 0; i < cap; i++)
        send(c, 1000 + i);
    for (int i = 0; i < N; i++) {
        op_send(&ops[i], c, i);
        until_waiting(ops[i].f, "chan send");
    }
    for (int i = 0; i < cap; i++)
        CHECK(recv(c) == 1000 + i);
    for (int i = 0; i < N; i++)
        CHECK(recv(c) == i);
    for (int i = 0; i < N; i++)
        op_end(&ops[i]);
    fib_chan_free(c);
}

// --- Elements of all sizes.

struct sized {
    struct fib_chan *c;
    size_t bytes;
    int count;
};

static void fill(unsigned char *p, size_t bytes, int n)
{
    for (size_t i = 0; i < bytes; i++)
        p[i] = (unsigned char)((size_t)n * 31 + i * 7 + (i >> 8));
}

static void run_sized_send(void *arg)
{
    struct sized *s = arg;
    unsigned char *p = malloc(s->bytes + 1);
    for (int i = 0; i < s->count; i++) {
        fill(p, s->bytes, i);
        fib_chan_send(s->c, s->bytes ? p : NULL);
        memset(p, 0xee, s->bytes); // the channel has a copy
        if (i % 5 == 0)
            fib_yield();
    }
    free(p);
}

static void any_size(int cap)
{
    static const size_t sizes[] = {0, 1, 2, 3, 4, 7, 8, 9, 12, 16, 24, 32, 100, 4096, 65536};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        struct sized s = {.bytes = sizes[k], .count = 40};
        s.c = fib_chan_new(s.bytes, (size_t)cap);
        CHECK(s.c);
        unsigned char *got = malloc(s.bytes + 1), *want = malloc(s.bytes + 1);
        struct fib f = go(run_sized_send, &s);
        for (int i = 0; i < s.count; i++) {
            got[s.bytes] = 0xaa; // what lies behind stays
            CHECK(fib_chan_recv(s.c, got));
            fill(want, s.bytes, i);
            CHECK(!memcmp(got, want, s.bytes), "%zu bytes, element %d", s.bytes, i);
            CHECK(got[s.bytes] == 0xaa);
            if (i % 7 == 0)
                fib_yield();
        }
        fib_join(f);
        fib_chan_close(s.c);
        CHECK(!fib_chan_recv(s.c, got));
        for (size_t i = 0; i < s.bytes; i++)
            CHECK(!got[i]);
        CHECK(got[s.bytes] == 0xaa);
        free(got);
        free(want);
        fib_chan_free(s.c);
    }
}

static void sizes_have_limits(int cap)
{
    (void)cap;
    CHECK(!fib_chan_new(65537, 0));
    CHECK(!fib_chan_new(8, ((size_t)1 << 37) + 1));
    CHECK(!fib_chan_new(65536, SIZE_MAX));
    struct fib_chan *c = fib_chan_new(0, SIZE_MAX);
    CHECK(c && fib_chan_cap(c) == SIZE_MAX);
    for (int i = 0; i < 1000; i++)
        fib_chan_send(c, NULL);
    CHECK(fib_chan_len(c) == 1000);
    for (int i = 0; i < 1000; i++)
        CHECK(fib_chan_recv(c, NULL));
    CHECK(fib_chan_recv_for(c, NULL, 0) == -ETIMEDOUT);
    fib_chan_free(c);
}

static void dropped_values(int cap)
{
    struct stream s = {.c = chan_of(cap), .to = 10};
    struct fib f = go(run_stream_send, &s);
    for (int i = 0; i < 9; i++)
        CHECK(fib_chan_recv(s.c, NULL));
    CHECK(recv(s.c) == 9);
    fib_join(f);
    struct op op;
    int64_t v = 3;
    op = (struct op){0};
    op_send(&op, s.c, 1);
    CHECK(fib_chan_recv(s.c, NULL)); // from a waiting sender, or as one waits
    op_end(&op);
    CHECK(!try_recv(s.c, &v) && v == 3); // untouched when nothing came
    fib_chan_free(s.c);
}

// --- Patterns.

struct semaphore {
    struct fib_chan *c;
    _Atomic int inside, inside_max;
    int64_t total; // guarded by the channel where its capacity is 1
};

static void run_semaphore(void *arg)
{
    struct semaphore *s = arg;
    for (int i = 0; i < 200; i++) {
        fib_chan_send(s->c, &(int64_t){0});
        int now = ++s->inside, max = s->inside_max;
        while (now > max && !atomic_compare_exchange_weak(&s->inside_max, &max, now))
            ;
        if (fib_chan_cap(s->c) == 1) {
            int64_t total = s->total;
            if (i % 8 == 0)
                fib_yield();
            s->total = total + 1;
        } else {
            fib_yield();
        }
        s->inside--;
        fib_chan_recv(s->c, NULL);
    }
}

static void as_a_semaphore(int cap)
{
    enum { N = 10 };
    struct semaphore s = {.c = chan_of(cap)};
    struct fib f[N];
    for (int i = 0; i < N; i++)
        f[i] = go(run_semaphore, &s);
    for (int i = 0; i < N; i++)
        fib_join(f[i]);
    CHECK(s.inside == 0 && s.inside_max <= cap && s.inside_max >= 1);
    CHECK(cap != 1 || s.total == N * 200);
    fib_chan_free(s.c);
}

struct filter {
    struct fib_chan *in, *out;
    int64_t prime;
};
static _Atomic bool sieve_is_over;

static void run_generate(void *arg)
{
    for (int64_t i = 2; !sieve_is_over; i++)
        send(arg, i);
    fib_chan_close(arg);
}

static void run_filter(void *arg)
{
    struct filter *f = arg;
    int64_t i;
    while (fib_chan_recv(f->in, &i))
        if (i % f->prime)
            send(f->out, i);
    fib_chan_close(f->out);
}

static void prime_sieve(int cap)
{
    enum { N = 60 };
    struct filter filters[N];
    struct fib fibs[N + 1];
    struct fib_chan *c = chan_of(cap);
    int64_t prime = 0;
    sieve_is_over = false;
    fibs[N] = go(run_generate, c);
    for (int i = 0; i < N; i++) {
        prime = recv(c);
        filters[i] = (struct filter){c, chan_of(cap), prime};
        fibs[i] = go(run_filter, &filters[i]);
        c = filters[i].out;
    }
    CHECK(prime == 281, "the 60th prime: %lld", (long long)prime);
    sieve_is_over = true;
    while (fib_chan_recv(c, NULL))
        ;
    for (int i = 0; i <= N; i++)
        fib_join(fibs[i]);
    for (int i = 0; i < N; i++)
        fib_chan_free(filters[i].in);
    fib_chan_free(c);
}

static void run_pass(void *arg)
{
    struct link *l = arg;
    send(l->out, recv(l->in) + 1);
}

static void chain_of_fibers(int cap)
{
    (void)cap;
    int n = (int)check_rounds(10000);
    struct link *links = calloc((size_t)n, sizeof *links);
    struct fib_chan *first = chan_of(0), *last = first;
    for (int i = 0; i < n; i++) {
        links[i] = (struct link){.in = last, .out = chan_of(0)};
        last = links[i].out;
        go(run_pass, &links[i]);
    }
    struct op op;
    op_send(&op, first, 0);
    CHECK(recv(last) == n);
    op_end(&op);
    for (int i = 0; i < n; i++)
        fib_chan_free(links[i].in);
    fib_chan_free(last);
    free(links);
}

struct farm {
    struct fib_chan *in, *out;
    int count;
    _Atomic int workers;
};

static void run_worker(void *arg)
{
    struct farm *f = arg;
    int64_t v;
    while (fib_chan_recv(f->in, &v)) {
        if (v % 3 == 0)
            fib_yield();
        send(f->out, v);
    }
    if (--f->workers == 0)
        fib_chan_close(f->out);
}

static void run_feed(void *arg)
{
    struct farm *f = arg;
    for (int i = 0; i < f->count; i++)
        send(f->in, i);
    fib_chan_close(f->in);
}

static void many_consumers(int cap)
{
    enum { WORKERS = 23 };
    struct farm f = {.in = chan_of(cap * 3), .out = chan_of(cap * 3), .count = 20000};
    struct fib all[WORKERS + 1];
    f.workers = WORKERS;
    for (int i = 0; i < WORKERS; i++)
        all[i] = go(run_worker, &f);
    all[WORKERS] = go(run_feed, &f);
    int64_t n = 0, sum = 0, v;
    while (fib_chan_recv(f.out, &v)) {
        n++;
        sum += v;
    }
    CHECK(n == f.count && sum == n * (n - 1) / 2);
    for (int i = 0; i <= WORKERS; i++)
        fib_join(all[i]);
    fib_chan_free(f.in);
    fib_chan_free(f.out);
}

int main(int argc, char **argv)
{
    static const int some[] = {0, 1, 2, 3, 10, 100, -1}, few[] = {0, 1, 7, -1}, full[] = {1, 3, -1},
                     farm[] = {0, 23, -1};
    static const struct row rows[] = {
        {"receiving from an empty channel waits", "TestChan", empty_waits, some},
        {"sending to a full channel waits, and arrives last", "TestChan", full_waits, some},
        {"a closed channel gives what it has, then zero", "TestChan", closed_drains_then_zero,
         some},
        {"close wakes all receivers with zero", "TestChan", close_wakes_all, some},
        {"values keep their order", "TestChan", order_is_kept, some},
        {"4 senders, 4 receivers: each value once", "TestChan", each_value_once, some},
        {"len and cap", "TestChan", len_and_cap, some},
        {"value or closed, never neither", "TestNonblockRecvRace", never_unready_between, NULL},
        {"unbuffered channels are FIFOs", "chan/fifo.go", unbuffered_is_a_fifo, NULL},
        {"waiters are served in order", "chan.h", waiters_in_order, few},
        {"elements of any size", "chan/nonblock.go, chan/zerosize.go", any_size, few},
        {"sizes have limits", "chan.h", sizes_have_limits, NULL},
        {"receiving into NULL drops", "chan.h", dropped_values, few},
        {"a channel as a semaphore", "BenchmarkChanSem", as_a_semaphore, full},
        {"prime sieve", "chan/sieve1.go", prime_sieve, few},
        {"a chain of 10,000 fibers", "chan/goroutines.go", chain_of_fibers, NULL},
        {"23 workers, one feeder, one closer", "TestMultiConsumer", many_consumers, farm},
    };
    return rows_run(rows, sizeof rows / sizeof *rows, argc, argv);
}
