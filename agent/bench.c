// SPDX-License-Identifier: MIT
//
// fscope_bench_run. How often a function runs is Go's rule: testing/benchmark.go of Go 1.26, launch.

#include "agent/api.h"

#include "fiberscope/profile.h"

#include "agent/arch/x86_64.h"
#include "agent/bench_line.h"
#include "agent/capture.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { TIME_NS_DEFAULT = 1000000000 };

struct fscope_bench_state {
    uint32_t is_running;
    uint64_t began_ns, ns;
    struct fscope_allocs began, allocs;
};

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

EXPORTED void fscope_bench_start(struct fscope_bench *b)
{
    struct fscope_bench_state *s = b->state;
    if (s->is_running)
        return;
    fscope_thread_allocs(NULL, &s->began);
    s->is_running = 1;
    s->began_ns = now_ns();
}

EXPORTED void fscope_bench_stop(struct fscope_bench *b)
{
    struct fscope_bench_state *s = b->state;
    struct fscope_allocs n;
    if (!s->is_running)
        return;
    s->ns += now_ns() - s->began_ns;
    fscope_thread_allocs(&s->began, &n);
    s->allocs.objects += n.objects; // 0 where they cannot be seen
    s->allocs.bytes += n.bytes;
    s->is_running = 0;
}

EXPORTED void fscope_bench_reset(struct fscope_bench *b)
{
    struct fscope_bench_state *s = b->state;
    uint32_t was_running = s->is_running;
    s->is_running = 0;
    s->ns = 0;
    s->allocs = (struct fscope_allocs){0, 0};
    if (was_running)
        fscope_bench_start(b);
}

static void run(struct fscope_bench *b, fscope_bench_fn *fn, void *arg, uint64_t n)
{
    b->n = n;
    fscope_bench_reset(b);
    fscope_bench_start(b);
    fn(b, arg);
    fscope_bench_stop(b);
    // For the gate: a profile holds the first, short runs as well.
    uint32_t was = capture_hold();
    if (agent_live())
        atomic_fetch_add_explicit(&agent.space->seg.header->heap.bench_ops, b->n,
                                  memory_order_relaxed);
    capture_release(was);
}

static void measure(struct fscope_bench *b, fscope_bench_fn *fn, void *arg, uint64_t time_ns,
                    uint64_t iterations)
{
    run(b, fn, arg, 1);
    if (iterations > 1)
        run(b, fn, arg, iterations);
    while (!iterations && b->state->ns < time_ns && b->n < BENCH_N_MAX)
        run(b, fn, arg, bench_predict(time_ns, b->n, b->state->ns));
}

// What Go calls GOMAXPROCS, as it is at first.
static uint32_t processors(void)
{
    uint64_t mask[128] = {0}; // 8192 processors
    uint32_t n = 0;
    long bytes = sys3(SYS_sched_getaffinity, 0, sizeof mask, mask);
    for (long i = 0; i < bytes / 8; i++)
        n += (uint32_t)__builtin_popcountll(mask[i]);
    return n ? n : 1;
}

EXPORTED int fscope_bench_run(const char *name, fscope_bench_fn *fn, void *arg,
                              const struct fscope_bench_options *options,
                              struct fscope_bench_result *result)
{
    struct fscope_bench_options o = {0};
    struct fscope_allocs ever;
    if (!name || !*name)
        return -EINVAL;
    if (options) // a caller of an older build has a shorter struct
        memcpy(&o, options, options->size < sizeof o ? options->size : sizeof o);
    bool is_seen = !fscope_thread_allocs(NULL, &ever);
    uint32_t procs = processors();
    for (uint32_t i = 0; i < (o.count ? o.count : 1); i++) {
        struct fscope_bench_state state = {0};
        struct fscope_bench b = {.state = &state};
        measure(&b, fn, arg, o.time_ns ? o.time_ns : TIME_NS_DEFAULT, o.iterations);
        struct bench_line line = {
            .name = name,
            .processors = procs,
            .n = b.n,
            .ns = state.ns,
            .set_bytes = b.set_bytes,
            .has_allocs = is_seen,
            .alloc_objects = state.allocs.objects,
            .alloc_bytes = state.allocs.bytes,
        };
        if (result)
            *result = (struct fscope_bench_result){b.n, state.ns, state.allocs.objects,
                                                   state.allocs.bytes};
        char text[BENCH_LINE_BYTES];
        uint32_t n = bench_line_print(&line, text);
        long done = sys3(SYS_write, o.fd ? o.fd : STDOUT_FILENO, text, n);
        if (done != (long)n)
            return done < 0 ? (int)done : -EIO;
    }
    return 0;
}
