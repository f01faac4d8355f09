// SPDX-License-Identifier: MIT
//
// The loop of a recording that an agent feeds; see record_internal.h.

#include "collector/record_internal.h"

#include <errno.h>
#include <poll.h>
#include <time.h>

enum {
    TRACE_TICK_MS_MIN = 5, // a busy target fills 1 MiB in this time, 64 MiB in some 300 ms
    TRACE_TICK_MS_MAX = 50,
    ASK_MS = 100, // who may say that it is over is asked so often
};
// After Ctrl-C: a command that ends because of it belongs into the profile to its end.
#define STOP_GRACE_NS UINT64_C(1000000000)
#define GRACE_SAID_NS UINT64_C(150000000)
// By then a program has its libraries, also one that a script has started with exec.
#define LOADED_NS UINT64_C(300000000)

void record_ingest_options(const struct record_options *o, struct record_result *result,
                           struct ingest_options *io)
{
    *io = (struct ingest_options){
        .size = sizeof *io,
        .heap_bytes = o->heap_bytes,
        .block_ns = o->block_ns,
        .mutex_fraction = o->mutex_fraction,
        .series = o->heap_bytes ? &result->series : NULL,
        .inherit = o->inherit,
        .trace = o->trace ? o : NULL,
        .trace_result = result,
    };
    for (int kind = 0; kind < RECORD_KIND_COUNT; kind++)
        io->builders[kind] = result->builders[kind];
    for (int kind = 0; kind < RECORD_STREAM_COUNT; kind++)
        io->hz[kind] = result->asked_hz[kind];
}

static bool is_time_over(const struct record_loop *l, uint64_t now)
{
    if (l->o->duration_ns && now - l->start_ns >= l->o->duration_ns)
        return true;
    return record_stop_count > 1 || (l->stop_ns && now - l->stop_ns >= STOP_GRACE_NS);
}

// Who has pressed Ctrl-C is told what for he waits, once it is more than a moment.
static void say_grace(struct record_loop *l, uint64_t now)
{
    const struct record_result *result = l->result;
    if (!l->stop_ns || l->has_said_grace || now - l->stop_ns < GRACE_SAID_NS)
        return;
    l->has_said_grace = true;
    record_progress_end(&l->progress);
    if (!l->o->quiet && result->child > 0)
        fprintf(
            l->o->messages,
            "fiberscope: process %d (%s) goes on; waiting up to %d s for its end (Ctrl-C again: no "
            "longer)\n",
            result->child, result->program, (int)(STOP_GRACE_NS / UINT64_C(1000000000)));
}

static void tick(struct record_loop *l, uint64_t now)
{
    struct ingest_stats stats;
    if (record_snapshot_count != l->snapshots) {
        l->snapshots = record_snapshot_count;
        ingest_snapshot(l->ingest);
    }
    ingest_tick(l->ingest);
    if (!l->has_looked && now - l->start_ns >= LOADED_NS) {
        l->has_looked = true;
        record_say_conditions(l->o, l->result);
    }
    ingest_get_stats(l->ingest, &stats);
    l->result->trace_events = stats.trace_events;
    l->result->trace_bytes = stats.trace_bytes;
    record_progress_show(&l->progress, l->result);
}

// How often buffers are emptied, in ms.
static uint64_t tick_ms(const struct record_options *o)
{
    uint64_t ms = o->trace_bytes >> 20;
    if (!o->trace)
        return INGEST_TICK_MS;
    return ms < TRACE_TICK_MS_MIN   ? TRACE_TICK_MS_MIN
           : ms > TRACE_TICK_MS_MAX ? TRACE_TICK_MS_MAX
                                    : ms;
}

int record_loop_run(struct record_loop *l)
{
    uint64_t next_tick = l->start_ns;
    for (;;) {
        uint64_t now = record_now_ns(CLOCK_MONOTONIC);
        if (record_stop_count && !l->stop_ns)
            l->stop_ns = now;
        if (is_time_over(l, now) || (l->is_over && l->is_over(l->arg)))
            return 0;
        say_grace(l, now);
        if (now >= next_tick || record_snapshot_count != l->snapshots) {
            tick(l, now);
            next_tick = now + tick_ms(l->o) * UINT64_C(1000000);
        }
        uint64_t wait = next_tick - now;
        uint64_t left = l->o->duration_ns ? l->start_ns + l->o->duration_ns - now : wait;
        wait = left < wait ? left : wait;
        if (l->is_over && wait > ASK_MS * UINT64_C(1000000))
            wait = ASK_MS * UINT64_C(1000000);
        struct timespec timeout = {(time_t)(wait / 1000000000), (long)(wait % 1000000000)};
        struct pollfd fds[2] = {{.fd = ingest_fd(l->ingest), .events = POLLIN},
                                {.fd = l->pidfd, .events = POLLIN}};
        int n = ppoll(fds, 2, &timeout, &l->signals.waiting);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0 && fds[0].revents)
            ingest_dispatch(l->ingest);
        if (n > 0 && fds[1].revents)
            return 1;
    }
}
