// SPDX-License-Identifier: MIT
//
// Behaviours as a table: a row is a name, where the behaviour is known from, and a function that checks
// it in a fiber. And what several tables use.

#ifndef FIBERSCOPE_TESTS_RUNTIME_ROWS_H
#define FIBERSCOPE_TESTS_RUNTIME_ROWS_H

#include "fiberscope/chan.h"
#include "fiberscope/fiber.h"
#include "tests/runtime/check.h"

#include <stdatomic.h>

enum { MS = 1000000 }; // ns

struct row {
    const char *behaviour;
    const char *source; // of Go's tests; or "chan.h": what the header promises
    void (*check)(int cap);
    const int *caps; // capacities to run it with, ended by -1; NULL: once
};

// Runs the rows that the command line names, or all: [--procs N] [--seed N] [BEHAVIOUR ...]. Main's value.
int rows_run(const struct row *rows, size_t count, int argc, char **argv);
extern bool rows_are_seeded;
// Set before rows_run: check runs in a plain thread; in a fiber, but without fib_main.
extern bool rows_are_in_thread, rows_are_outside_main;
extern bool rows_are_slow; // under a sanitizer: fewer rounds

// One operation in a fiber of its own.
struct op {
    struct fib_chan *c;
    int64_t value; // sent, or received
    bool ok;
    _Atomic bool is_done;
    struct fib f;
};
void op_send(struct op *op, struct fib_chan *c, int64_t value);
void op_recv(struct op *op, struct fib_chan *c); // value is -1 until then
void op_end(struct op *op);                      // waits for it

struct fib go(fib_fn *fn, void *arg);
void until_waiting(struct fib f, const char *reason); // in the state that dumps call so
struct fib_chan *chan_of(int cap);                    // of int64_t
#define send rows_send                                // not libc's, which the runtime may call
#define recv rows_recv
void send(struct fib_chan *c, int64_t value);
int64_t recv(struct fib_chan *c); // must not be closed
bool try_recv(struct fib_chan *c, int64_t *value);
bool try_send(struct fib_chan *c, int64_t value);

#endif
