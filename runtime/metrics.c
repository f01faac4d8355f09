// SPDX-License-Identifier: MIT
//
// fib_metrics_read. Names are those of Go's runtime/metrics where they mean the same; ours begin with /fib/.

#include "runtime/core.h"
#include "runtime/netpoll.h"

#include <math.h>

enum { BUCKETS = 64 };

static struct totals {
    uint64_t by_status[G_PREEMPTED + 1];
    uint64_t spawns, switches, steals, wakes_issued, parks;
    uint64_t latency[BUCKETS];
} total(void)
{
    struct totals t = {.spawns = atomic_load(&sched.spawns_outside)};
    struct g *g;
    for (uint32_t i = 0; (g = g_at(i)); i++) {
        uint8_t s = atomic_load_explicit(&g->status, memory_order_relaxed);
        if (atomic_load_explicit(&g->id, memory_order_relaxed) && s <= G_PREEMPTED)
            t.by_status[s]++;
    }
    for (uint32_t i = 0; i < PROCS_MAX && sched.ps[i]; i++) {
        struct p *p = sched.ps[i];
        t.spawns += atomic_load_explicit(&p->spawns, memory_order_relaxed);
        t.switches += atomic_load_explicit(&p->schedules, memory_order_relaxed);
        t.steals += atomic_load_explicit(&p->steals, memory_order_relaxed);
        for (int b = 0; b < BUCKETS; b++)
            t.latency[b] += atomic_load_explicit(&p->latency[b], memory_order_relaxed);
    }
    for (struct m *m = atomic_load(&sched.all_ms); m; m = m->all_link) {
        t.wakes_issued += atomic_load_explicit(&m->wakes_issued, memory_order_relaxed);
        t.parks += atomic_load_explicit(&m->parks, memory_order_relaxed);
    }
    return t;
}

// Bucket b holds waits of [2^b, 2^(b+1)) ns, the first also those of none.
static void set_bounds(double *bounds)
{
    double at = 1e-9;
    for (int b = 1; b < BUCKETS; b++)
        bounds[b] = at *= 2;
    bounds[0] = 0;
    bounds[BUCKETS] = (double)INFINITY;
}

FIB_LOOKS FIB_PUBLIC void fib_metrics_read(void (*fn)(void *arg, const struct fib_metric *m),
                                           void *arg)
{
    const struct totals t = total();
    double bounds[BUCKETS + 1];
    set_bounds(bounds);
    const uint64_t *n = t.by_status;
    uint64_t stacks = 0, stacks_free = 0;
    stacks_count(&stacks, &stacks_free);
    const struct fib_metric metrics[] = {
        {"/sched/gomaxprocs:threads", .value = atomic_load(&sched.procs),
         .description = "How many fibers may run at a time."},
        {"/sched/goroutines-created:goroutines", .value = t.spawns,
         .description = "Fibers created since the start."},
        {"/sched/goroutines/not-in-go:goroutines", .value = n[G_SYSCALL],
         .description = "Fibers in blocking calls."},
        {"/sched/goroutines/runnable:goroutines", .value = n[G_RUNNABLE] + n[G_PREEMPTED],
         .description = "Fibers that wait for a processor."},
        {"/sched/goroutines/running:goroutines", .value = n[G_RUNNING],
         .description = "Fibers that run."},
        {"/sched/goroutines/waiting:goroutines", .value = n[G_WAITING],
         .description = "Fibers that wait for something else."},
        {"/sched/goroutines:goroutines",
         .value = n[G_SYSCALL] + n[G_RUNNABLE] + n[G_PREEMPTED] + n[G_RUNNING] + n[G_WAITING],
         .description = "Living fibers."},
        {"/sched/latencies:seconds", .buckets = t.latency, .bounds = bounds,
         .bucket_count = BUCKETS,
         .description = "Waits of runnable fibers for a processor, estimated from one in 8."},
        {"/sched/threads/total:threads", .value = sched.ms + sched.fixed_threads,
         .description = "Threads of the runtime."},
        {"/fib/switches:events", .value = t.switches,
         .description = "Times that a fiber began to run on a processor."},
        {"/fib/steals:events", .value = t.steals,
         .description = "Times that a processor took fibers from another's queue."},
        {"/fib/threads/wakes:events", .value = t.wakes_issued,
         .description = "Wakes of sleeping threads."},
        {"/fib/threads/parks:events", .value = t.parks,
         .description = "Times that a thread went to sleep for want of work."},
        {"/fib/threads/idle:threads", .value = sched.idle_ms,
         .description = "Threads that sleep for want of work."},
        {"/fib/preempted:fibers", .value = n[G_PREEMPTED],
         .description = "Preempted fibers, each of which holds a thread in its signal handler."},
        {"/fib/netpoll/waiting:fibers", .value = netpoll_waiters(),
         .description = "Fibers that wait for a descriptor."},
        {"/fib/stacks:stacks", .value = stacks, .description = "Stacks made so far, which stay."},
        {"/fib/stacks/free:stacks", .value = stacks_free,
         .description = "Stacks that no fiber has."},
    };
    for (size_t i = 0; i < sizeof metrics / sizeof *metrics; i++)
        fn(arg, &metrics[i]);
}
