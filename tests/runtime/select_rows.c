// SPDX-License-Identifier: MIT
//
// Select behaves as Go's does.

#include "tests/runtime/rows.h"

#include <errno.h>
#include <math.h>
#include <string.h>

// --- What is ready.

struct pair {
    struct fib_chan *a, *b;
};

static struct {
    struct pair *_Atomic next; // for the one that looks; NULL: it has looked
    _Atomic bool is_over;
} look;

static void run_one_of_two(void *arg)
{
    (void)arg;
    for (unsigned i = 0; !look.is_over; i++) {
        struct pair *p = look.next;
        if (!p) {
            if (i % 64 == 0)
                fib_yield();
            continue;
        }
        // In the other order, too: a look at one after the other could find both unready.
        struct fib_case k[] = {FIB_RECV(i % 4 ? p->b : p->a, NULL),
                               FIB_RECV(i % 4 ? p->a : p->b, NULL)};
        CHECK(fib_select_for(k, 2, 0) != FIB_SELECT_NONE, "one of both was ready all the time");
        look.next = NULL;
    }
}

// At each moment one of two channels is ready, first only a, then both, then only b.
static void one_moment(bool by_close)
{
    look.is_over = false;
    struct fib f = go(run_one_of_two, NULL);
    int64_t begin =
        fib_now_ns(); // two that spin are slow where the kernel gives them one processor
    for (int i = 0; i < (int)check_rounds(30000) && fib_now_ns() - begin < 2000LL * MS; i++) {
        struct pair p = {chan_of(1), chan_of(1)};
        int64_t v;
        send(p.a, 1);
        look.next = &p;
        for (volatile int pause = 0; pause < i % 100; pause++)
            ;
        if (by_close)
            fib_chan_close(p.b);
        else
            send(p.b, 1);
        try_recv(p.a, &v);
        while (look.next)
            fib_yield();
        fib_chan_free(p.a);
        fib_chan_free(p.b);
    }
    look.is_over = true;
    fib_join(f);
}

static void one_moment_send(int cap)
{
    (void)cap;
    one_moment(false);
}

static void one_moment_close(int cap)
{
    (void)cap;
    one_moment(true);
}

static void ready_goes_on(int cap)
{
    struct fib_chan *empty = chan_of(0), *c = chan_of(cap), *closed = chan_of(0);
    fib_chan_close(closed);
    int64_t x = 9, y = 9;
    for (int timeout = -1; timeout <= MS; timeout = timeout < 0 ? 0 : timeout ? 2 * MS : MS) {
        send(c, 42);
        struct fib_case k[] = {FIB_RECV(empty, &x), FIB_RECV(c, &y), FIB_RECV(NULL, &x)};
        CHECK(fib_select_for(k, 3, timeout) == 1 && k[1].ok && y == 42 && x == 9);
        struct fib_case s[] = {FIB_RECV(empty, &x), FIB_SEND(c, &y), FIB_SEND(NULL, &x)};
        CHECK(fib_select_for(s, 3, timeout) == 1);
        CHECK(recv(c) == 42);
        struct fib_case z[] = {FIB_SEND(empty, &x), FIB_RECV(empty, NULL), FIB_RECV(closed, &y)};
        z[2].ok = true;
        CHECK(fib_select_for(z, 3, timeout) == 2 && !z[2].ok && y == 0);
    }
    fib_chan_free(empty);
    fib_chan_free(c);
    fib_chan_free(closed);
}

static void none_ready(int cap)
{
    struct fib_chan *empty = chan_of(cap), *full = chan_of(cap);
    for (int i = 0; i < cap; i++)
        send(full, i);
    struct fib_case k[] = {FIB_RECV(empty, NULL), FIB_SEND(full, &cap), FIB_SEND(NULL, NULL),
                           FIB_RECV(NULL, NULL), FIB_RECV(empty, NULL)};
    CHECK(fib_select_for(NULL, 0, 0) == FIB_SELECT_NONE);
    for (size_t n = 1; n <= 5; n++)
        CHECK(fib_select_for(k, n, 0) == FIB_SELECT_NONE);
    CHECK(fib_select_for(k + 1, 1, 0) == FIB_SELECT_NONE);
    CHECK(fib_select_for(k + 2, 2, 0) == FIB_SELECT_NONE);
    int64_t begin = fib_now_ns();
    CHECK(fib_select_for(k, 5, 2 * MS) == FIB_SELECT_NONE);
    CHECK(fib_select_for(k + 2, 2, 2 * MS) == FIB_SELECT_NONE);
    CHECK(fib_select_for(NULL, 0, 2 * MS) == FIB_SELECT_NONE);
    CHECK(fib_now_ns() - begin >= 6 * MS);
    fib_chan_free(empty); // aborts if a waiter is left there
    fib_chan_free(full);
}

// Each of two ready cases sends once; a case without a channel never does.
static void null_disables(int cap)
{
    (void)cap;
    struct fib_chan *a = chan_of(1), *b = chan_of(1);
    int64_t bit = 1;
    struct fib_case k[] = {FIB_SEND(a, &bit), FIB_SEND(b, &bit)};
    int i, sent = 0;
    for (; (i = fib_select_for(k, 2, 0)) != FIB_SELECT_NONE; sent++) {
        k[i].chan = NULL;
        bit <<= 1;
    }
    CHECK(sent == 2 && (recv(a) | recv(b)) == 3);
    k[0].chan = a;
    CHECK(fib_select_for(k, 2, 0) == 0 && fib_select_for(k, 2, 0) == FIB_SELECT_NONE);
    CHECK(recv(a) == 4);
    fib_chan_free(a);
    fib_chan_free(b);
}

// --- What waits forever.

struct forever {
    struct fib_case *cases;
    size_t count;
};

static void run_forever(void *arg)
{
    struct forever f = *(struct forever *)arg;
    int i = fib_select(f.cases, f.count);
    CHECK(false, "case %d went on", i);
}

static void waits_forever(int cap)
{
    static int64_t v;
    (void)cap;
    struct fib_chan *c = chan_of(0);
    static struct fib_case nulls[] = {FIB_RECV(NULL, NULL), FIB_SEND(NULL, &v)};
    static struct fib_case both[] = {FIB_SEND(NULL, &v), FIB_RECV(NULL, NULL)};
    static struct fib_case one[] = {FIB_RECV(NULL, NULL)};
    both[0].chan = both[1].chan = c; // it does not meet itself
    one[0].chan = chan_of(0);
    static struct forever all[] = {{NULL, 0},  {nulls, 1}, {nulls + 1, 1},
                                   {nulls, 2}, {both, 2},  {one, 1}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        until_waiting(go(run_forever, &all[i]), i ? "select" : "select (no cases)");
    fib_sleep(2 * MS);
}

struct self {
    struct fib_chan *c;
    int64_t me;
    struct fib *peer;
    int rounds;
    _Atomic int *running;
};

static void run_self(void *arg)
{
    struct self *s = arg;
    for (int i = 0; i < s->rounds; i++) {
        int64_t got = -1;
        struct fib_case k[] = {FIB_SEND(s->c, &s->me), FIB_RECV(s->c, &got)};
        struct fib_case r[] = {FIB_RECV(s->c, &got), FIB_SEND(s->c, &s->me)};
        bool is_plain = s->me == 0 || i % 2 == 0;
        fib_select(is_plain ? k : r, 2);
        CHECK(fib_chan_cap(s->c) || got != s->me, "it received from itself");
    }
    --*s->running;
}

static void never_meets_itself(int cap)
{
    _Atomic int running = 2;
    struct self s[2];
    struct fib f[2];
    struct fib_chan *c = chan_of(cap);
    for (int i = 0; i < 2; i++) {
        s[i] = (struct self){.c = c, .me = i, .rounds = 1000, .running = &running};
        f[i] = go(run_self, &s[i]);
    }
    fib_join(f[0]);
    fib_join(f[1]);
    CHECK(running == 0);
    fib_chan_free(c);
}

// --- Many at the same channels.

enum { CHANS = 4 };
struct stress {
    struct fib_chan *c[CHANS];
    int index, count;
    bool is_send;
};

static void run_single(void *arg)
{
    struct stress *s = arg;
    for (int i = 0; i < s->count; i++) {
        if (s->is_send)
            send(s->c[s->index], 0);
        else
            recv(s->c[s->index]);
    }
}

static void run_any(void *arg)
{
    struct stress *s = arg;
    int64_t v = 0;
    int n[CHANS] = {0};
    static const int order[2][CHANS] = {{0, 1, 2, 3}, {3, 2, 0, 1}};
    struct fib_case k[CHANS];
    for (int i = 0; i < CHANS; i++) {
        struct fib_chan *c = s->c[order[s->is_send][i]];
        k[i] = (struct fib_case){c, &v, &v, s->is_send, false};
    }
    for (int i = 0; i < CHANS * s->count; i++) {
        int at = fib_select(k, CHANS);
        CHECK(k[at].chan, "a case without a channel");
        if (++n[at] == s->count)
            k[at].chan = NULL;
    }
}

static void stress(int cap)
{
    (void)cap;
    static const int caps[CHANS] = {0, 0, 2, 3};
    struct stress all[2 * CHANS + 2];
    struct fib f[2 * CHANS + 2];
    struct stress base = {.count = (int)check_rounds(10000)};
    for (int i = 0; i < CHANS; i++)
        base.c[i] = chan_of(caps[i]);
    for (int i = 0; i < 2 * CHANS + 2; i++) {
        all[i] = base;
        all[i].index = i / 2 % CHANS;
        all[i].is_send = i % 2;
        f[i] = go(i < 2 * CHANS ? run_single : run_any, &all[i]);
    }
    for (int i = 0; i < 2 * CHANS + 2; i++)
        fib_join(f[i]);
    for (int i = 0; i < CHANS; i++) {
        CHECK(fib_chan_len(base.c[i]) == 0);
        fib_chan_free(base.c[i]);
    }
}

static void run_spread(void *arg)
{
    struct stress *s = arg;
    struct fib_case k[CHANS];
    int64_t v;
    for (int i = 0; i < CHANS; i++)
        k[i] = (struct fib_case)FIB_SEND(s->c[i], &v);
    for (v = 0; v < s->count; v++)
        fib_select(k, CHANS);
    for (int i = 0; i < CHANS; i++)
        fib_chan_close(s->c[i]);
}

struct gather {
    struct fib_chan *in, *out;
    _Atomic int *open;
};

static void run_gather(void *arg)
{
    struct gather *g = arg;
    int64_t v;
    while (fib_chan_recv(g->in, &v))
        send(g->out, v);
    if (--*g->open == 0)
        fib_chan_close(g->out);
}

static void only_one_case(int cap)
{
    enum { N = 20000 };
    static bool seen[N];
    memset(seen, 0, sizeof seen);
    _Atomic int open = CHANS;
    struct stress s = {.count = (int)check_rounds(N)};
    struct gather g[CHANS];
    struct fib f[CHANS + 1];
    struct fib_chan *out = chan_of(cap);
    for (int i = 0; i < CHANS; i++) {
        s.c[i] = chan_of(cap);
        g[i] = (struct gather){s.c[i], out, &open};
        f[i] = go(run_gather, &g[i]);
    }
    f[CHANS] = go(run_spread, &s);
    int64_t v;
    int n = 0;
    for (; fib_chan_recv(out, &v); n++) {
        CHECK(!seen[v], "%lld came twice", (long long)v);
        seen[v] = true;
    }
    CHECK(n == s.count);
    for (int i = 0; i <= CHANS; i++)
        fib_join(f[i]);
    for (int i = 0; i < CHANS; i++)
        fib_chan_free(s.c[i]);
    fib_chan_free(out);
}

// --- Chance.

static void check_even(const int *n, int count, int total)
{
    double mean = (double)total / count, chi2 = 0;
    for (int i = 0; i < count; i++)
        chi2 += (n[i] - mean) * (n[i] - mean) / mean;
    // 10 standard deviations of chi-square above its mean
    CHECK(chi2 < count - 1 + 10 * sqrt(2.0 * (count - 1)), "%d of %d cases: chi-square %.1f", n[0],
          total, chi2);
}

static void ready_ones_alike(int ready)
{
    enum { TRIALS = 8000, MAX = 12 };
    struct fib_chan *c[MAX], *empty = chan_of(0);
    struct fib_case k[MAX + 2];
    int n[MAX + 2] = {0};
    for (int i = 0; i < ready; i++) {
        c[i] = chan_of(TRIALS);
        for (int t = 0; t < TRIALS; t++)
            send(c[i], i);
    }
    // The ready ones stand together behind two that are not: where the look begins must not matter.
    k[0] = k[1] = (struct fib_case)FIB_RECV(empty, NULL);
    for (int i = 0; i < ready; i++)
        k[i + 2] = (struct fib_case)FIB_RECV(c[i], NULL);
    for (int t = 0; t < TRIALS; t++)
        n[fib_select_for(k, (size_t)ready + 2, t % 3 - 1)]++;
    CHECK(n[0] == 0 && n[1] == 0);
    check_even(n + 2, ready, TRIALS);
    for (int i = 0; i < ready; i++)
        fib_chan_free(c[i]);
    fib_chan_free(empty);
}

struct random_send {
    struct fib_chan *c;
    int n[2], total;
};

static void run_random_recv(void *arg)
{
    struct random_send *r = arg;
    for (int i = 0; i < r->total; i++) {
        fib_yield();
        r->n[recv(r->c)]++;
    }
}

static void random_among_the_same(int cap)
{
    struct random_send r = {.c = chan_of(cap), .total = 1000};
    struct fib f = go(run_random_recv, &r);
    int64_t zero = 0, one = 1;
    for (int i = 0; i < r.total; i++) {
        struct fib_case k[] = {FIB_SEND(r.c, &one), FIB_SEND(r.c, &zero)};
        fib_select(k, 2);
    }
    fib_join(f);
    check_even(r.n, 2, r.total);
    fib_chan_free(r.c);
}

int main(int argc, char **argv)
{
    static const int some[] = {0, 1, 10, -1}, room[] = {1, 10, -1}, ready[] = {2, 3, 5, 12, -1},
                     many[] = {0, 1000, -1};
    static const struct row rows[] = {
        {"acts on one moment, sends", "TestNonblockSelectRace", one_moment_send, NULL},
        {"acts on one moment, close", "TestNonblockSelectRace2", one_moment_close, NULL},
        {"a ready case goes on", "chan/select3.go, chan/select4.go", ready_goes_on, room},
        {"default when none is ready, or the time is over", "chan/select3.go", none_ready, some},
        {"a NULL channel disables its case", "chan/select.go", null_disables, NULL},
        {"waits forever for nothing", "chan/select3.go", waits_forever, NULL},
        {"does not meet itself", "TestSelfSelect", never_meets_itself, some},
        {"stress of single and select, both ways", "TestSelectStress", stress, NULL},
        {"exactly one case goes on", "chan/doubleselect.go", only_one_case, some},
        {"ready cases have the same probability", "TestSelectFairness", ready_ones_alike, ready},
        {"random among cases of one channel", "TestPseudoRandomSend", random_among_the_same, many},
    };
    return rows_run(rows, sizeof rows / sizeof *rows, argc, argv);
}
