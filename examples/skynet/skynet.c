// SPDX-License-Identifier: MIT
//
// Skynet: a fiber starts ten, each of which starts ten, down to a million; every leaf sends its number up, every
// node the sum of its children.
//
// What it shows: a fiber is cheap enough to be a function call that runs beside the caller. A child is the
// next to run on its parent's processor, so the tree is walked depth first and few stacks exist at a time: see
// the last line of the output, where a million fibers have used a small part of a million stacks.
//
//     skynet [LEAVES]        a power of ten; 1000000
//
// FIB_MAXPROCS=1 and 2 show what the second processor brings.

#include <fiberscope/chan.h>
#include <fiberscope/fiber.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct node {
    struct fib_chan *up;
    long number, leaves;
};

static _Noreturn void fail(const char *what)
{
    fprintf(stderr, "skynet: %s\n", what);
    exit(1);
}

static void node(void *arg)
{
    struct node me = *(struct node *)arg; // the parent's stack goes on without us after our sum
    if (me.leaves == 1) {
        fib_chan_send(me.up, &me.number);
        return;
    }
    struct fib_chan *c = fib_chan_new(sizeof(long), 0);
    struct node children[10];
    if (!c)
        fail("out of memory");
    for (int i = 0; i < 10; i++) {
        long part = me.leaves / 10;
        children[i] = (struct node){c, me.number + i * part, part};
        if (fib_go(NULL, node, &children[i]))
            fail("out of memory");
    }
    long sum = 0, one;
    for (int i = 0; i < 10; i++) {
        fib_chan_recv(c, &one);
        sum += one;
    }
    fib_chan_free(c);
    fib_chan_send(me.up, &sum);
}

static void resident_print(void)
{
    char line[256];
    FILE *f = fopen("/proc/self/status", "re");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, "VmHWM:", 6))
            printf("most memory: %ld MiB\n", strtol(line + 6, NULL, 10) / 1024);
    if (f)
        fclose(f);
}

static void start(void *arg)
{
    struct node root = {fib_chan_new(sizeof(long), 0), 0, *(long *)arg};
    long sum;
    if (!root.up)
        fail("out of memory");
    int64_t before = fib_now_ns();
    if (fib_go(NULL, node, &root))
        fail("out of memory");
    fib_chan_recv(root.up, &sum);
    int64_t ns = fib_now_ns() - before;
    fib_chan_free(root.up);
    printf("sum %ld, %ld leaves, %u processors, %.1f ms, %.0f ns a leaf\n", sum, root.leaves,
           fib_procs(0), (double)ns / 1e6, (double)ns / (double)root.leaves);
    resident_print();
}

int main(int argc, char **argv)
{
    long leaves = argc > 1 ? strtol(argv[1], NULL, 10) : 1000000;
    for (long n = leaves; n != 1; n /= 10)
        if (n < 10 || n % 10) {
            fprintf(stderr, "usage: skynet [LEAVES], a power of ten\n");
            return 2;
        }
    return fib_main(start, &leaves) ? 1 : 0;
}
