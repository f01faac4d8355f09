// SPDX-License-Identifier: MIT
//
// record_attach: a CPU profile of a running process, from outside and without touching it: perf rings
// with user registers and a copy of the stack, walked with our own CFI interpreter. See record.h.
//
// The copy of the stack is as large as the rings have room for, and grows when a walk ran out of it.
// The first looks come soon after each other, so that few samples are lost to that.

#include "collector/perf_code.h"
#include "collector/perf_target.h"
#include "collector/perf_watch.h"
#include "collector/record_internal.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
    SAMPLES_PER_RING_MIN = 16, // the stack grows only so far that a ring holds so many
    TICK_MS = 100,
    TICK_FIRST_MS = 2,
    PIDS_MAX = 4096,
    JUDGED_SAMPLES_MIN = 50,
};
// A record is complete on its own CPU long before that; samples later than the horizon wait.
#define HORIZON_NS     UINT64_C(1000000)
#define RATE_TOLERATED 0.95

struct attach {
    const struct record_options *o;
    struct record_result *result;
    struct builder *builder;
    struct perf_watch *watch;
    struct perf_code *code;
    struct perf_walk walk;
    uint64_t kernel[SEG_STACK_DEPTH_MAX];
    struct record_progress progress;
    int pidfd; // -1: this kernel or a filter has none; then we look at each tick
    uint64_t start_ns, period_ns;
    uint64_t samples, lost, cut; // cut: stacks longer than the copy
    uint32_t cut_pid;
    uint64_t cut_sp; // where the last of them began
    uint64_t ended_threads;
    bool rescan, foreign; // foreign: 32-bit code was seen
};

// --- Records.

static int on_sample(struct attach *a, const struct perf_record *r)
{
    const struct perf_sample *s = &r->sample;
    if (!perf_watch_sees(a->watch, r))
        return 0;
    struct perf_process *p = perf_code_process(a->code, r->pid, r->time_ns);
    if (!p)
        return -ENOMEM;
    struct builder_sample b = {
        .tid = r->tid,
        .user = a->walk.pcs,
        .kernel = a->kernel,
        .kernel_depth = perf_chain_copy(s, a->kernel, SEG_STACK_DEPTH_MAX),
        .when = r->time_ns,
        .count = 1,
        .ns = a->period_ns,
    };
    if (s->abi == PERF_ABI_64) {
        perf_code_walk(a->code, p, s, &a->walk);
        b.user_depth = a->walk.depth;
        b.flags = a->walk.flags;
        // Those of before the last growth are still in the rings.
        if (a->walk.wants_more && s->stack_asked >= perf_watch_stack_bytes(a->watch)) {
            a->cut++;
            a->cut_pid = r->pid;
            a->cut_sp = s->registers.rsp;
        }
    } else {
        a->foreign |= s->abi == PERF_ABI_32;
        b.flags = SEG_FLAG_BROKEN;
    }
    a->samples++;
    return builder_add(perf_process_builder(p), &b);
}

static int on_record(void *arg, const struct perf_record *r)
{
    struct attach *a = arg;
    switch (r->type) {
    case PERF_RECORD_SAMPLE: return on_sample(a, r);
    case PERF_RECORD_LOST:
    case PERF_RECORD_LOST_SAMPLES:
        a->lost += r->lost.count;
        a->rescan = true; // a lost record may have told of a mapping
        return 0;
    case PERF_RECORD_MMAP2: return perf_code_mmap(a->code, r);
    case PERF_RECORD_COMM: // our own: perf_watch_flush_losses
        return r->pid == (uint32_t)getpid() ? 0 : perf_code_comm(a->code, r);
    case PERF_RECORD_FORK: return perf_code_fork(a->code, r);
    case PERF_RECORD_EXIT:
        a->ended_threads++;
        perf_code_exit(a->code, r);
        return 0;
    default: return 0;
    }
}

// --- The size of the stack copy.

struct pid_list {
    pid_t pids[PIDS_MAX];
    size_t count;
};

static void list_pid(void *arg, uint32_t pid)
{
    struct pid_list *l = arg;
    if (l->count < PIDS_MAX)
        l->pids[l->count++] = (pid_t)pid;
}

// How much to copy so that the stack that was cut fits, within what is sensible; 0: no more.
static uint32_t wanted_stack(const struct attach *a)
{
    uint64_t max = perf_watch_ring_bytes(a->watch) / SAMPLES_PER_RING_MIN;
    uint64_t want = perf_target_bytes_above(a->cut_pid, a->cut_sp);
    uint64_t now = perf_watch_stack_bytes(a->watch);
    if (max > PERF_STACK_MAX)
        max = PERF_STACK_MAX;
    if (want < 2 * now)
        want = 2 * now;
    want += want / 4; // the next one may be deeper
    if (want > max)
        want = max;
    want &= ~UINT64_C(7);
    return want > now ? (uint32_t)want : 0;
}

static void grow_stack(struct attach *a)
{
    uint32_t want = wanted_stack(a);
    if (!want)
        return;
    struct pid_list *l = calloc(1, sizeof *l);
    if (!l)
        return;
    perf_code_each_pid(a->code, list_pid, l);
    // Where it fails (descriptors), the smaller copies go on.
    if (perf_watch_grow(a->watch, want, l->pids, l->count) == 0)
        a->cut = 0;
    free(l);
}

// --- The recording.

static int pump(struct attach *a, uint64_t horizon_ns)
{
    int64_t rc = perf_watch_drain(a->watch, horizon_ns, on_record, a);
    if (rc >= 0 && a->rescan) {
        a->rescan = false;
        rc = perf_code_rescan(a->code, record_now_ns(CLOCK_MONOTONIC));
    }
    return rc < 0 ? (int)rc : 0;
}

static int next_tick_ms(const struct attach *a, uint64_t now)
{
    uint64_t since_ms = (now - a->start_ns) / 1000000;
    uint64_t tick = since_ms / 8 + TICK_FIRST_MS;
    if (tick > TICK_MS)
        tick = TICK_MS;
    if (a->o->duration_ns) {
        uint64_t left = (a->start_ns + a->o->duration_ns - now) / 1000000 + 1;
        tick = left < tick ? left : tick;
    }
    return (int)tick;
}

static bool has_ended(const struct attach *a)
{
    struct perf_target t;
    return a->pidfd < 0 && perf_target_look(&t, a->o->pid, NULL) == -ESRCH;
}

// Serves until the process has ended, the time is over or we are asked to stop.
static int serve(struct attach *a, const volatile int *stop)
{
    uint64_t tried = 0; // cut samples at the last attempt to grow
    for (;;) {
        uint64_t now = record_now_ns(CLOCK_MONOTONIC);
        if (*stop || (a->o->duration_ns && now - a->start_ns >= a->o->duration_ns))
            return 0;
        if (a->o->is_over && a->o->is_over(a->o->arg))
            return 0;
        int ended = perf_watch_wait(a->watch, a->pidfd, next_tick_ms(a, now));
        if (ended < 0 && ended != -EINTR)
            return ended;
        int rc = pump(a, record_now_ns(CLOCK_MONOTONIC) - HORIZON_NS);
        if (rc)
            return rc;
        if (a->cut > tried && !a->o->stack_bytes) {
            grow_stack(a);
            tried = a->cut;
        }
        record_progress_show(&a->progress, a->result);
        if (ended > 0 || has_ended(a)) {
            a->result->target_ended = true;
            return 0;
        }
    }
}

// Why fewer samples came than CPU time passed.
static const char *shortfall(const struct attach *a, uint64_t cpu_ns)
{
    uint64_t due = cpu_ns / a->period_ns;
    if (a->lost)
        return "the rings overflowed; lower -F, or give fiberscope more CPU";
    // A thread's last, incomplete period gives no sample: half of one on average.
    if (due > a->samples && a->ended_threads >= due - a->samples)
        return "its threads end before a period of the clock is over; raise -F";
    return "the kernel throttled the events (kernel.perf_cpu_time_max_percent)";
}

static void judge(struct attach *a)
{
    struct record_result *r = a->result;
    uint64_t cpu_ns = perf_watch_cpu_ns(a->watch);
    char why[320];
    bool kernel = perf_watch_kernel(a->watch, why, sizeof why);
    uint32_t asked = r->asked_hz[RECORD_CPU];
    if (cpu_ns && a->samples >= JUDGED_SAMPLES_MIN)
        r->delivered_hz[RECORD_CPU] = (double)a->samples * 1e9 / (double)cpu_ns;
    double hz = r->delivered_hz[RECORD_CPU];
    if (!kernel)
        snprintf(r->rate_note, sizeof r->rate_note, "time in the kernel is not counted: %s", why);
    else if (hz > 0 && hz < RATE_TOLERATED * asked)
        snprintf(r->rate_note, sizeof r->rate_note, "%.0f Hz instead of %u: %s", hz, asked,
                 shortfall(a, cpu_ns));
    if (a->cut)
        snprintf(r->warning, sizeof r->warning,
                 "%llu stacks are longer than the %u bytes that were copied, and lack their "
                 "outermost frames%s",
                 (unsigned long long)a->cut, perf_watch_stack_bytes(a->watch),
                 perf_watch_stack_bytes(a->watch) < PERF_STACK_MAX
                     ? ": try --stack-size 65528"
                     : ": record it with `fiberscope record -- COMMAND`");
    else if (perf_code_no_room(a->code))
        snprintf(r->warning, sizeof r->warning,
                 "the unwind tables of %u files are too large together to be read: stacks there "
                 "were walked by frame pointer",
                 perf_code_no_room(a->code));
    else if (a->foreign)
        snprintf(r->warning, sizeof r->warning, "32-bit code was seen; its stacks are not walked");
    r->damaged = perf_watch_damaged(a->watch);
}

static int open_watch(struct attach *a, bool on_exec, struct fscope_error *err)
{
    struct perf_watch_options wo = {
        .size = sizeof wo,
        .hz = a->o->cpu_hz,
        .stack_bytes = (a->o->stack_bytes + 7) & ~7u,
        .ring_bytes = a->o->ring_bytes,
        .inherit = a->o->inherit,
        .on_exec = on_exec,
    };
    if (wo.stack_bytes > PERF_STACK_MAX)
        return error_set(err, -EINVAL, 0, "--stack-size %u: at most %d bytes can be copied",
                         wo.stack_bytes, PERF_STACK_MAX);
    int rc = perf_watch_new(&a->watch, &wo, err);
    if (!rc)
        rc = perf_watch_add(a->watch, (pid_t)a->o->pid, err);
    return rc ? error_prefix(err, "cannot watch process %u (%s)", a->o->pid, a->result->program)
              : 0;
}

static int run(struct attach *a, int go_fd, const volatile int *stop, struct fscope_error *err)
{
    uint32_t pid = a->o->pid;
    int rc = perf_code_new(&a->code, a->builder);
    if (rc)
        return error_set(err, rc, 0, "out of memory");
    rc = open_watch(a, go_fd >= 0, err);
    if (rc)
        return rc;
    a->start_ns = record_now_ns(CLOCK_MONOTONIC);
    perf_watch_start(a->watch);
    // Maps are read after the events began to tell of new ones: none is missed.
    if (!(go_fd >= 0 ? perf_code_blank(a->code, pid, a->start_ns)
                     : perf_code_process(a->code, pid, a->start_ns)))
        return error_set(err, -ENOMEM, 0, "out of memory");
    if (go_fd >= 0 && write(go_fd, "g", 1) != 1)
        return error_set(err, -errno, 0, "the command could not be started: %s", strerror(errno));
    rc = serve(a, stop);
    perf_watch_stop(a->watch);
    a->result->duration_ns = record_now_ns(CLOCK_MONOTONIC) - a->start_ns;
    int rc2 = rc ? rc : pump(a, UINT64_MAX);
    if (!rc2) {
        perf_watch_flush_losses(a->watch);
        rc2 = pump(a, UINT64_MAX);
    }
    builder_lost(a->builder, a->lost);
    judge(a);
    return rc2 ? error_set(err, rc2, 0, "recording: %s", strerror(-rc2)) : 0;
}

static int check(const struct record_options *o, struct fscope_error *err)
{
    if (o->wall_hz)
        return error_set(err, -EOPNOTSUPP, 0,
                         "wall time cannot be sampled from outside: start the program with "
                         "`fiberscope record --wall -- COMMAND`");
    if (o->heap_bytes || o->block_ns || o->mutex_fraction)
        return error_set(err, -EOPNOTSUPP, 0,
                         "allocations and locks cannot be seen from outside, and nothing is put "
                         "into a running process: start the program with `fiberscope record "
                         "%s COMMAND`",
                         o->heap_bytes ? "--heap"
                         : o->block_ns ? "--block"
                                       : "--mutex");
    if (!o->cpu_hz || o->cpu_hz > 100000)
        return error_set(err, -EINVAL, 0, "a rate from 1 to 100000 Hz is needed");
    return 0;
}

int record_attach(const struct record_options *o, int go_fd, const volatile int *stop,
                  struct record_result *result, struct fscope_error *err)
{
    struct perf_target target = {0};
    struct attach *a = calloc(1, sizeof *a);
    int rc = check(o, err);
    if (!rc && !a)
        rc = error_set(err, -ENOMEM, 0, "out of memory");
    if (!rc && go_fd < 0)
        rc = perf_target_look(&target, o->pid, err);
    if (!rc && !result->builders[RECORD_CPU])
        rc = record_new_builders(o, result, err);
    if (rc)
        goto out;
    a->o = o;
    a->result = result;
    a->builder = result->builders[RECORD_CPU];
    a->period_ns = UINT64_C(1000000000) / o->cpu_hz;
    result->pid = o->pid;
    if (!result->program[0])
        snprintf(result->program, sizeof result->program, "%s", target.name);
    a->pidfd = (int)syscall(SYS_pidfd_open, o->pid, 0);
    if (a->pidfd < 0 && errno == ESRCH) {
        rc = error_set(err, -ESRCH, 0, "process %u has ended", o->pid);
        goto out;
    }
    record_progress_begin(&a->progress, o);
    rc = run(a, go_fd, stop, err);
    record_progress_end(&a->progress);
    perf_watch_free(a->watch);
    perf_code_free(a->code);
    if (a->pidfd >= 0)
        close(a->pidfd);
out:
    if (go_fd >= 0)
        close(go_fd); // unwritten: the child ends without exec
    free(a);
    return rc;
}
