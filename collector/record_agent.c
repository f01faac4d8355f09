// SPDX-License-Identifier: MIT
//
// record_process: a process that runs already, by the agent inside it or from outside; see record.h.

#include "collector/record_internal.h"

#include "collector/bpf/ebpf.h"
#include "collector/bpf/features.h"
#include "collector/call.h"
#include "collector/inject.h"
#include "collector/perf_target.h"
#include "collector/record_kernel.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { CALL_AGAIN_MS = 100, CALL_PATIENCE_MS = 3000 };

#ifdef FSCOPE_BPF
int record_from_kernel(const struct record_options *o, int go_fd, const volatile int *stop,
                       struct record_result *result, struct fscope_error *err)
{
    return record_ebpf(o, go_fd, stop, result, err);
}

int record_check_kernel(const struct record_options *o, struct fscope_error *err)
{
    return record_ebpf_check(o, err);
}
#else
int record_from_kernel(const struct record_options *o, int go_fd, const volatile int *stop,
                       struct record_result *result, struct fscope_error *err)
{
    (void)go_fd, (void)stop, (void)result;
    return record_check_kernel(o, err);
}

int record_check_kernel(const struct record_options *o, struct fscope_error *err)
{
    (void)o;
    return bpf_features_check(err); // says that it was made without
}
#endif

static uint64_t now_ms(void)
{
    return record_now_ns(CLOCK_MONOTONIC) / 1000000;
}

// Calls until it has come.
static int bring(struct record_loop *l, const struct call *call, struct fscope_error *err)
{
    struct ingest_stats st = {0};
    uint64_t start = now_ms(), again = start;
    while (now_ms() - start < CALL_PATIENCE_MS) {
        if (now_ms() >= again) {
            int rc = ingest_call(l->ingest, err);
            if (rc)
                return rc;
            again = now_ms() + CALL_AGAIN_MS;
        }
        struct pollfd fds[2] = {{.fd = ingest_fd(l->ingest), .events = POLLIN},
                                {.fd = call->pidfd, .events = POLLIN}};
        poll(fds, 2, CALL_AGAIN_MS);
        ingest_dispatch(l->ingest);
        ingest_get_stats(l->ingest, &st);
        if (st.processes)
            return 0;
        if (st.segments_broken)
            return error_set(err, -EBUSY, 0, "%s", st.broken_why);
        if (fds[1].revents)
            return error_set(err, -ESRCH, 0, "process %u has ended", call->pid);
    }
    return error_set(err, -ETIMEDOUT, 0,
                     "process %u: its agent has not answered for %d s: all of its threads block "
                     "SIGPROF or wait in what a signal would end, or it is stopped",
                     call->pid, CALL_PATIENCE_MS / 1000);
}

int record_by_agent(const struct record_options *o, struct call *call, struct record_loop *l,
                    struct fscope_error *err)
{
    struct ingest_options io;
    struct ingest_stats stats;
    record_ingest_options(o, l->result, &io);
    io.call = call;
    int rc = ingest_new(&l->ingest, &io, err);
    if (!rc) {
        l->pidfd = call->pidfd;
        l->start_ns = record_now_ns(CLOCK_MONOTONIC);
        l->result->series.start_ns = l->start_ns;
        rc = bring(l, call, err);
        if (rc)
            ingest_finish(l->ingest); // one may have come all the same
    }
    if (!rc) {
        l->start_ns = record_now_ns(CLOCK_MONOTONIC); // to come took a while
        rc = record_loop_run(l);
        l->result->target_ended = rc == 1;
        if (rc < 0)
            error_set(err, rc, 0, "recording: %s", strerror(-rc));
        rc = rc < 0 ? rc : 0;
        l->result->duration_ns = record_now_ns(CLOCK_MONOTONIC) - l->start_ns;
        int rc2 = ingest_finish(l->ingest);
        if (!rc && rc2)
            rc = error_set(err, rc2, 0, "recording: %s", strerror(-rc2));
        ingest_get_stats(l->ingest, &stats);
        record_judge_rates(l->result, &stats);
        if (stats.earlier[0])
            record_comment(l->result, stats.earlier);
        snprintf(l->result->earlier, sizeof l->result->earlier, "%s", stats.earlier);
        if (stats.late_why[0])
            record_warn(l->result, "%s", stats.late_why);
    }
    ingest_free(l->ingest);
    l->ingest = NULL;
    return rc;
}

static void name_process(struct record_result *result, uint32_t pid)
{
    struct perf_target who;
    if (!perf_target_look(&who, pid, NULL))
        snprintf(result->program, sizeof result->program, "%s", who.name);
}

static bool is_stopped(void *arg)
{
    (void)arg;
    return record_stop_count != 0;
}

static int by_agent(const struct record_options *o, struct call *call, struct record_result *result,
                    struct fscope_error *err)
{
    struct record_loop l = {.o = o, .result = result, .pidfd = -1, .is_over = is_stopped};
    result->pid = o->pid;
    name_process(result, o->pid);
    int rc = record_new_builders(o, result, err);
    if (rc)
        return rc;
    if (!o->quiet)
        fprintf(o->messages, "fiberscope: process %u (%s): by the agent inside it\n", o->pid,
                result->program);
    record_signals_take(&l.signals);
    if (o->trace_flight)
        record_signals_snapshots(&l.signals);
    l.snapshots = record_snapshot_count;
    record_progress_begin(&l.progress, o);
    rc = record_kernel_start(o, result, o->pid, err);
    if (!rc) // the socket is where the agent finds it, and what is left reaches the process
        rc = record_kernel_drop(result, err);
    if (!rc)
        rc = record_by_agent(o, call, &l, err);
    record_kernel_stop(result);
    record_progress_end(&l.progress);
    // Handlers stay while the profile is written: a second Ctrl-C must not cost the data.
    sigprocmask(SIG_SETMASK, &l.signals.users, NULL);
    return rc;
}

static void say_way(const struct record_options *o, const struct record_result *result,
                    const char *why)
{
    const char *way = o->method == RECORD_EBPF ? "by eBPF" : "from outside";
    if (o->quiet)
        return;
    if (o->whole_machine)
        fprintf(o->messages, "fiberscope: all processes: %s\n", way);
    else if (o->cgroup)
        fprintf(o->messages, "fiberscope: control group %s: %s\n", o->cgroup, way);
    else if (result->program[0])
        fprintf(o->messages, "fiberscope: process %u (%s): %s%s%s\n", o->pid, result->program, way,
                *why ? ": " : "", why);
}

// why: there is an agent, and it is out of reach; else "".
static int from_outside(const struct record_options *o, const char *why,
                        struct record_result *result, struct fscope_error *err)
{
    struct record_signals signals;
    if (o->pid)
        name_process(result, o->pid);
    say_way(o, result, why);
    record_signals_take(&signals);
    sigprocmask(SIG_SETMASK, &signals.waiting, NULL); // who records waits by itself
    int rc = o->method == RECORD_EBPF ? record_from_kernel(o, -1, &record_stop_count, result, err)
                                      : record_attach(o, -1, &record_stop_count, result, err);
    sigprocmask(SIG_SETMASK, &signals.users, NULL);
    return rc;
}

// What of that which is asked for needs the agent, and its option.
static const char *what_needs_it(const struct record_options *o, const char **option)
{
    const struct {
        bool is_wanted;
        const char *option, *what;
    } kinds[] = {
        {o->trace, "--trace", "a trace needs"},
        {o->heap_bytes != 0, "--heap", "a heap profile needs"},
        {o->block_ns != 0, "--block", "a block profile needs"},
        {o->mutex_fraction != 0, "--mutex", "a mutex profile needs"},
        {o->wall_hz != 0, "--wall", "wall time needs"},
        {true, "--cpu", "--method=agent needs"},
    };
    size_t i = 0;
    while (!kinds[i].is_wanted)
        i++;
    *option = kinds[i].option;
    return kinds[i].what;
}

// Whether eBPF, which touches nothing, sees all of it, and may be used.
static const char *or_by_kernel(const struct record_options *o)
{
    return !o->trace && !record_check_kernel(o, NULL) ? "--method=ebpf records it from outside, "
                                                      : "";
}

static int put_in(const struct record_options *o, bool *is_put_in, struct fscope_error *err)
{
    struct inject_result how;
    const struct inject_options io = {
        .size = sizeof io, .pid = o->pid, .agent_path = o->agent_path};
    int rc = inject_attach(&io, &how, err);
    *is_put_in = !rc && how.tid;
    return rc;
}

// It may have ended, and somebody else may record meanwhile: then the agent stays.
static void take_out(const struct record_options *o, struct record_result *result)
{
    struct inject_result how;
    struct fscope_error err = {0};
    const struct inject_options io = {.size = sizeof io, .pid = o->pid};
    if (result->target_ended || !inject_detach(&io, &how, &err) || err.code == -ESRCH)
        return;
    record_warn(result, "the agent stays in: %s", err.text);
}

// The socket, too: in a network namespace that we may not enter the agent is out of reach.
static int open_agent(struct call *call, uint32_t pid, struct fscope_error *why)
{
    int rc = call_open(call, pid, why);
    if (!rc)
        rc = call_listen(call, why);
    if (rc)
        call_close(call);
    return rc;
}

int record_process(const struct record_options *o, struct record_result *result,
                   struct fscope_error *err)
{
    struct fscope_error why = {0};
    struct call call = {0};
    *result = (struct record_result){0};
    if (o->fibers && !o->cpu_hz &&
        !record_needs_agent(o)) { // a snapshot alone: there is nothing to watch
        result->pid = o->pid;
        name_process(result, o->pid);
        return record_new_builders(o, result, err);
    }
    if (o->method == RECORD_EBPF) {
        int rc = record_check_kernel(o, err);
        return rc ? rc : from_outside(o, "", result, err);
    }
    bool is_put_in = false;
    int rc = o->method == RECORD_INJECT ? put_in(o, &is_put_in, err) : 0;
    if (rc)
        return rc;
    rc = o->method == RECORD_PERF ? -ENOENT : open_agent(&call, o->pid, &why);
    bool has_agent = !rc;
    if (has_agent) {
        rc = by_agent(o, &call, result, err);
        call_close(&call);
    }
    if (is_put_in)
        take_out(o, result);
    if (has_agent)
        return rc;
    bool is_needed = o->method == RECORD_INJECT || o->method == RECORD_AGENT ||
                     record_needs_agent(o) || o->wall_hz;
    if (o->method == RECORD_PERF && is_needed)
        return error_set(err, -EOPNOTSUPP, 0,
                         "heap and lock profiles, wall time and traces need the agent inside: not "
                         "with --method=perf");
    bool is_there = o->method != RECORD_PERF && rc == -EPERM; // and out of reach
    const char *option, *what = what_needs_it(o, &option);
    if (rc == -ESRCH) // nothing helps
        return error_set(err, rc, 0, "%s", why.text);
    if (is_needed && (is_there || rc == -EACCES)) // injecting may not be done either
        return error_set(err, rc, 0, "%s the agent: %.300s", what, why.text);
    struct fscope_error never = {0};
    const struct inject_options io = {.size = sizeof io, .pid = o->pid, .with_seccomp = true};
    if (is_needed && rc == -ENOENT && inject_check(&io, &never) == -EOPNOTSUPP)
        return error_set(err, -EOPNOTSUPP, 0, "%s the agent: %.300s", what, never.text);
    if (is_needed)
        return error_set(
            err, rc, 0,
            "%s the agent: %.250s; %s--method=inject puts it in, `fiberscope record %s "
            "COMMAND` starts one with it",
            what, why.text, or_by_kernel(o), option);
    rc = from_outside(o, is_there ? why.text : "", result, err);
    if (rc == -EPERM && err && o->method != RECORD_PERF) {
        why = *err;
        error_set(err, rc, 0, "%.290s; without: --method=inject, or `fiberscope record COMMAND`",
                  why.text);
    }
    return rc;
}
