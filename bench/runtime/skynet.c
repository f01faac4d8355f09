// SPDX-License-Identifier: MIT
//
// Skynet: a tree of fibers, ten children each, whose leaves' numbers are summed up over channels. An op is a leaf.

#include "bench/runtime/bench.h"
#include "fiberscope/chan.h"
#include "fiberscope/fiber.h"

struct node {
    struct fib_chan *up;
    long number, size;
};

static void node(void *arg)
{
    struct node me = *(struct node *)arg;
    if (me.size == 1) {
        fib_chan_send(me.up, &me.number);
        return;
    }
    struct fib_chan *c = fib_chan_new(sizeof(long), 0);
    struct node children[10];
    MUST(c);
    for (int i = 0; i < 10; i++) {
        children[i] = (struct node){c, me.number + i * (me.size / 10), me.size / 10};
        MUST(!fib_go(NULL, node, &children[i]));
    }
    long sum = 0;
    for (int i = 0; i < 10; i++) {
        long v;
        MUST(fib_chan_recv(c, &v));
        sum += v;
    }
    fib_chan_free(c);
    fib_chan_send(me.up, &sum);
}

static void run_skynet(long ops)
{
    struct node root = {fib_chan_new(sizeof(long), 0), 0, ops};
    long sum;
    MUST(root.up);
    measure_begin();
    MUST(!fib_go(NULL, node, &root));
    MUST(fib_chan_recv(root.up, &sum));
    measure_end(ops);
    MUST(sum == ops * (ops - 1) / 2);
    fib_chan_free(root.up);
}

const struct bench_case skynet_cases[] = {
    {"skynet", run_skynet},
    {0},
};
