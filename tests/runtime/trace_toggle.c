// SPDX-License-Identifier: MIT
//
// Preloaded into a program beside the agent, starts and stops traces of it at random moments, and generations in
// between: so that any program of the tests is one whose traces begin and end anywhere
// (tests/conformance/trace_stress.py). Also in forked children.
//
//     TRACE_TOGGLE=SEED LD_PRELOAD=libtrace_toggle.so PROGRAM
//
// With TRACE_MARK=FILE it makes FILE once a trace has an event, which then is there whenever the program is killed.

#include "emit/emit.h"
#include "fiberscope/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#pragma weak fscope_trace_start
#pragma weak fscope_trace_stop
#pragma weak fscope_region_begin
#pragma weak fscope_region_end
#pragma weak emit_advance

static uint64_t seed;

static uint32_t next(uint64_t *random)
{
    *random = *random * 6364136223846793005 + 1442695040888963407;
    return (uint32_t)(*random >> 33);
}

// Short ones are many: up to limit_us, and half of them up to half of it, and so on.
static void nap(uint64_t *random, uint32_t limit_us)
{
    uint32_t us = next(random) % ((limit_us >> next(random) % 8) + 1);
    struct timespec t = {0, (long)us * 1000};
    clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
}

static void check(int rc, int other)
{
    if (!rc || rc == other)
        return;
    fprintf(stderr, "trace_toggle: %d\n", rc);
    abort();
}

static void *toggle(void *arg)
{
    uint64_t random = (seed * 1000003 + (uint64_t)getpid()) * 0x9E3779B97F4A7C15;
    (void)arg;
    for (;;) {
        nap(&random, 30000);
        if (next(&random) % 2) {
            emit_advance();
            nap(&random, 10000);
        }
        check(fscope_trace_stop(), -EINVAL);
        if (next(&random) % 2)
            nap(&random, 4000);
        check(fscope_trace_start(NULL), -EALREADY);
    }
    return NULL;
}

// A region that was not recorded has no id.
static void *mark(void *path)
{
    for (;;) {
        struct fscope_region r = fscope_region_begin(0, "mark");
        uint64_t id = r.id;
        fscope_region_end(&r);
        if (id) {
            close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
            return NULL;
        }
        clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){0, 200000}, NULL);
    }
}

static void start_thread(void *(*run)(void *), void *arg)
{
    pthread_t t;
    pthread_attr_t a;
    if (pthread_attr_init(&a) || pthread_attr_setdetachstate(&a, PTHREAD_CREATE_DETACHED) ||
        pthread_create(&t, &a, run, arg))
        abort();
    pthread_attr_destroy(&a);
}

static void start(void)
{
    start_thread(toggle, NULL);
}

__attribute__((constructor)) static void begin(void)
{
    const char *text = getenv("TRACE_TOGGLE");
    char *file = getenv("TRACE_MARK");
    if (file && fscope_region_begin && fscope_region_end)
        start_thread(mark, file);
    if (!text || !fscope_trace_start || !fscope_trace_stop || !emit_advance)
        return; // the program that starts the recording has it in its environment, too
    seed = strtoull(text, NULL, 10);
    start();
    pthread_atfork(NULL, NULL, start);
}
