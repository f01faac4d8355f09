// SPDX-License-Identifier: MIT
//
// Leak: asks three replicas at once and takes the first answer. The channel has no room, so those who come second
// and third wait forever to hand over theirs: two fibers stay behind for every query.
//
// What it shows: fib_leakcheck lists, at the end of main or of a test, the fibers that still are, by the place
// that started them. `leak fixed` gives the channel room for all answers; then nobody stays. Exit status 1: fibers
// were left.

#include <fiberscope/chan.h>
#include <fiberscope/fiber.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { QUERIES = 5, REPLICAS = 3 };

static size_t room;
static uint32_t left;

struct ask {
    struct fib_chan *answers;
    int replica;
};

static void ask(void *arg)
{
    struct ask a = *(struct ask *)arg;
    free(arg);
    fib_sleep((1 + a.replica) * 1000000L); // the network
    fib_chan_send(a.answers, &a.replica);
}

// Not inlined, so that it is the place by its own name.
static __attribute__((noinline)) int query(void)
{
    struct fib_chan *answers = fib_chan_new(sizeof(int), room);
    int first = -1;
    for (int i = 0; i < REPLICAS; i++) {
        struct ask *a = malloc(sizeof *a);
        if (!answers || !a)
            abort();
        *a = (struct ask){answers, i};
        if (fib_go(NULL, ask, a))
            abort();
    }
    fib_chan_recv(answers, &first);
    return first; // the channel is left to those who still hold it, as a garbage collector would
}

static void start(void *arg)
{
    (void)arg;
    for (int i = 0; i < QUERIES; i++)
        printf("query %d: replica %d was first\n", i, query());
    fib_sleep(20 * 1000000L); // the slower ones have their answers
    fflush(stdout);
    left = fib_leakcheck(STDERR_FILENO);
}

int main(int argc, char **argv)
{
    room = argc > 1 && !strcmp(argv[1], "fixed") ? REPLICAS : 0;
    if (fib_main(start, NULL))
        return 2;
    printf("fibers left: %u\n", left);
    return left ? 1 : 0;
}
