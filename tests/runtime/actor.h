// SPDX-License-Identifier: MIT
//
// Who takes part in a row about synchronization: a fiber or a plain thread, as the command line wants, so that each
// behaviour is checked among fibers, among threads and between the two.

#ifndef FIBERSCOPE_TESTS_RUNTIME_ACTOR_H
#define FIBERSCOPE_TESTS_RUNTIME_ACTOR_H

#include "tests/runtime/rows.h"

#include "fiberscope/sync.h"

#include <pthread.h>
#include <sys/types.h>

struct actor {
    fib_fn *fn;
    void *arg;
    struct fib f;
    pthread_t t;
    _Atomic pid_t tid;
    bool is_thread;
    _Atomic bool is_done;
};

void actor_start(struct actor *a, fib_fn *fn, void *arg);
void actor_end(struct actor *a); // waits for it
// Until it waits for what dumps call `reason`; of a thread only that it sleeps is known.
void actor_until_waiting(struct actor *a, const char *reason);

void until(_Atomic int *value, int wanted); // it is at least that
// Time passes for all who can run; then nothing should have happened.
void let_run(void);

// The rows of sync.h: [--procs N] [--actors fibers|threads|mixed] and as rows_run.
int sync_rows_run(const struct row *rows, size_t count, int argc, char **argv);
int actor_rounds(int n); // fewer where it is slow

#endif
