// SPDX-License-Identifier: MIT
//
// Channels: ping-pong, a buffered stream, select.

#include "bench/runtime/bench.h"
#include "fiberscope/chan.h"
#include "fiberscope/fiber.h"

struct pair {
    struct fib_chan *there, *back, *quit;
    long ops;
};

static void echo(void *arg)
{
    struct pair *p = arg;
    long v;
    while (fib_chan_recv(p->there, &v))
        fib_chan_send(p->back, &v);
}

// An op is a round trip over two unbuffered channels.
static void run_pingpong(long ops)
{
    struct pair p = {fib_chan_new(sizeof(long), 0), fib_chan_new(sizeof(long), 0), NULL, ops};
    struct fib f;
    MUST(p.there && p.back);
    MUST(!fib_go(&f, echo, &p));
    measure_begin();
    for (long i = 0; i < ops; i++) {
        long v;
        fib_chan_send(p.there, &i);
        MUST(fib_chan_recv(p.back, &v) && v == i);
    }
    measure_end(ops);
    fib_chan_close(p.there);
    fib_join(f);
    fib_chan_free(p.there);
    fib_chan_free(p.back);
}

static void produce(void *arg)
{
    struct pair *p = arg;
    for (long i = 0; i < p->ops; i++)
        fib_chan_send(p->there, &i);
    fib_chan_close(p->there);
}

// One producer, one consumer, 128 places; an op is a value.
static void run_buffered(long ops)
{
    struct pair p = {fib_chan_new(sizeof(long), 128), NULL, NULL, ops};
    struct fib f;
    MUST(p.there);
    measure_begin();
    MUST(!fib_go(&f, produce, &p));
    long v, n = 0;
    while (fib_chan_recv(p.there, &v))
        MUST(v == n++);
    measure_end(ops);
    MUST(n == ops);
    fib_join(f);
    fib_chan_free(p.there);
}

static void echo_select(void *arg)
{
    struct pair *p = arg;
    long v;
    for (;;) {
        struct fib_case cases[] = {FIB_RECV(p->there, &v), FIB_RECV(p->quit, NULL)};
        if (fib_select(cases, 2) == 1)
            return;
        fib_chan_send(p->back, &v);
    }
}

// As ping-pong, but both sides receive in a select of two cases.
static void run_select(long ops)
{
    struct pair p = {fib_chan_new(sizeof(long), 0), fib_chan_new(sizeof(long), 0),
                     fib_chan_new(0, 0), ops};
    struct fib f;
    MUST(p.there && p.back && p.quit);
    MUST(!fib_go(&f, echo_select, &p));
    measure_begin();
    for (long i = 0; i < ops; i++) {
        long v;
        fib_chan_send(p.there, &i);
        struct fib_case cases[] = {FIB_RECV(p.back, &v), FIB_RECV(p.quit, NULL)};
        MUST(fib_select(cases, 2) == 0 && v == i);
    }
    measure_end(ops);
    fib_chan_close(p.quit);
    fib_join(f);
    fib_chan_free(p.there);
    fib_chan_free(p.back);
    fib_chan_free(p.quit);
}

const struct bench_case chan_cases[] = {
    {"pingpong", run_pingpong},
    {"buffered128", run_buffered},
    {"select", run_select},
    {0},
};
