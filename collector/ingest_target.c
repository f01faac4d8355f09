// SPDX-License-Identifier: MIT
//
// One target: its segment, its threads' clocks; see ingest.h. Everything read from /proc/PID is of a
// process that may be gone or another one by then: the worst is a missing thread name or file.

#include "collector/ingest_internal.h"

#include "collector/feed_internal.h"
#include "collector/mapped_file.h"
#include "collector/record_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

// For a trace to end, from when it was asked on: of a target that is at it, and of one that has not heard, as all of
// it may sleep (the runtime's watching thread looks every 100 ms). Then it is cut at a moment, which is as causal.
#define STOP_PATIENCE_NS UINT64_C(2000000000)
#define HEAR_PATIENCE_NS UINT64_C(300000000)

enum {
    FEW_THREADS = 16,
    NAMED_THREADS_MAX = 256, // of more threads, the names that the agent saw are good enough
};

static int open_module(void *arg, const struct seg_module *m, const char *path,
                       const char *build_id)
{
    const struct target *t = arg;
    return mapped_module_open(t->pid, m, path, build_id);
}

static uint64_t period_of(const struct ingest *g, enum record_kind kind)
{
    return g->o.builders[kind] && g->o.hz[kind] ? UINT64_C(1000000000) / g->o.hz[kind] : 0;
}

// Puts a clock on each thread there is. Where that is refused the agent makes its own.
void target_open_clocks(struct target *t, struct agent_config *config)
{
    struct ingest *g = t->ingest;
    struct fscope_error err = {0};
    struct perf_clocks_options o = {
        .size = sizeof o, .pid = (pid_t)t->pid, .hz = g->o.hz[RECORD_CPU]};
    int rc = perf_clocks_new(&t->clocks, &o);
    if (!rc)
        rc = perf_clocks_sync(t->clocks, &err);
    if (rc <= 0) {
        perf_clocks_free(t->clocks);
        t->clocks = NULL;
        config->why_not = rc < 0 ? -rc : ESRCH;
        if (rc < 0 && rc != -ESRCH && !g->stats.event_why[0])
            snprintf(g->stats.event_why, sizeof g->stats.event_why, "%s", err.text);
        return;
    }
    config->cpu_source = SEG_CPU_COLLECTOR_PERF;
    char why[sizeof g->stats.kernel_why] = "";
    if (!perf_clocks_kernel(t->clocks, why, sizeof why)) {
        config->header.flags |= AGENT_KERNEL_EXCLUDED;
        memcpy(g->stats.kernel_why, why, sizeof why);
    }
}

// An exec keeps the pid: the old image's segment is complete.
static void retire(struct ingest *g, uint32_t pid)
{
    for (struct target *t = g->targets; t; t = t->next)
        if (t->pid == pid && !t->is_over)
            target_ended(t);
}

void target_ended(struct target *t)
{
    perf_clocks_free(t->clocks);
    t->clocks = NULL;
    t->is_over = true;
    t->ended_ns = record_now_ns(CLOCK_MONOTONIC);
    if (t->pidfd >= 0)
        close(t->pidfd); // leaves the epoll set by itself
    t->pidfd = -1;
}

// So that the time at which it ends is known.
static void watch_end(struct target *t)
{
    struct epoll_event ev = {.events = EPOLLIN};
    t->pidfd = ev.data.fd = (int)syscall(SYS_pidfd_open, (pid_t)t->pid, 0);
    if (t->pidfd >= 0 && epoll_ctl(t->ingest->epoll_fd, EPOLL_CTL_ADD, t->pidfd, &ev)) {
        close(t->pidfd);
        t->pidfd = -1;
    }
}

static bool is_wanted(const struct ingest *g, uint32_t pid)
{
    return g->o.inherit || (pid_t)pid == g->root;
}

// The words for state. One that nobody collects stays as the target has it.
static void set_state_rates(const struct ingest *g, struct seg_control *c, bool on)
{
    _Atomic uint64_t *words[] = {&c->heap_rate_bytes, &c->block_rate_ns, &c->mutex_fraction};
    const uint64_t rates[] = {g->o.heap_bytes, g->o.block_ns, g->o.mutex_fraction};
    for (int i = 0; i < 3; i++)
        if (g->o.builders[RECORD_HEAP + i])
            atomic_store_explicit(words[i], on ? rates[i] : 0, memory_order_relaxed);
}

static void see_cpu(void *arg, const struct seg_record *r)
{
    trace_build_sample(arg, r);
}

// Its trace buffers, if they are wanted. Without, the rest is recorded all the same.
static void start_trace(struct target *t)
{
    struct ingest *g = t->ingest;
    struct trace_build_options o = {
        .size = sizeof o, .reader = t->reader, .open_module = open_module, .module_arg = t};
    if (!g->o.trace || !is_wanted(g, t->pid))
        return;
    const struct seg_header *h = seg_reader_header(t->reader);
    t->sink =
        (struct record_trace_sink){.o = g->o.trace, .result = g->o.trace_result, .pid = t->pid};
    memcpy(t->sink.program, h->program, sizeof t->sink.program - 1);
    // While it waits for our answer: it may be gone soon.
    if (g->o.trace->trace_slow_ns[2] || g->o.trace->trace_slow_ns[3])
        g->o.trace_result->has_runtime |= record_has_runtime(t->pid);
    record_trace_options(&t->sink, &o);
    if (trace_build_new(&t->trace, &o, NULL)) {
        g->stats.untraced++;
        return;
    }
    t->feed.see_cpu = see_cpu;
    t->feed.see_arg = t->trace;
}

static int pump_trace(struct target *t)
{
    struct ingest *g = t->ingest;
    struct trace_build_stats st;
    if (!t->trace)
        return 0;
    int rc = trace_build_pump(t->trace);
    trace_build_get_stats(t->trace, &st);
    g->stats.trace_events += st.events - t->trace_events;
    g->stats.trace_bytes += st.bytes - t->trace_bytes;
    t->trace_events = st.events;
    t->trace_bytes = st.bytes;
    return rc;
}

static void start_sampling(struct target *t, struct agent_config *config)
{
    struct ingest *g = t->ingest;
    struct seg_control *c = seg_reader_control(t->reader);
    if (is_wanted(g, t->pid)) {
        config->cpu_period_ns = period_of(g, RECORD_CPU);
        config->wall_period_ns = period_of(g, RECORD_WALL);
        if (config->cpu_period_ns)
            target_open_clocks(t, config);
    }
    if (!c)
        return;
    // Relaxed: the agent rereads them as it passes; CONFIG's system call orders the first look.
    atomic_store_explicit(&c->cpu_period_ns, config->cpu_period_ns, memory_order_relaxed);
    atomic_store_explicit(&c->wall_period_ns, config->wall_period_ns, memory_order_relaxed);
    set_state_rates(g, c, is_wanted(g, t->pid));
    if (is_wanted(g, t->pid)) // of one that was called: its children go by what it holds
        seg_reader_hold(t->reader, (1u << SEG_HELD_COUNT) - 1);
    uint64_t flags = config->header.flags & AGENT_KERNEL_EXCLUDED ? SEG_CPU_USER_ONLY : 0;
    atomic_store_explicit(&c->cpu_flags, flags, memory_order_relaxed);
    atomic_store_explicit(&c->cpu_source, config->cpu_source, memory_order_relaxed);
}

// Of one that was called others may want other parts.
static unsigned parts_wanted(struct target *t)
{
    const struct ingest_options *o = &t->ingest->o;
    bool samples = o->builders[RECORD_CPU] || o->builders[RECORD_WALL];
    t->drains = !t->is_late || samples;
    return (t->drains ? SEG_READER_RINGS : 0u) |
           (!t->is_late || o->trace ? (unsigned)SEG_READER_TRACE : 0u);
}

int target_add(struct ingest *g, int fd, uint32_t pid, const struct agent_hello *hello,
               struct agent_config *config)
{
    struct fscope_error err = {0};
    struct target *t = calloc(1, sizeof *t);
    if (!t) {
        close(fd);
        return -ENOMEM;
    }
    t->ingest = g;
    t->pid = pid;
    t->inner_pid = hello->pid;
    t->pidfd = -1;
    t->is_late = hello->why == AGENT_WHY_CALL;
    int rc = seg_reader_open_parts(&t->reader, fd, parts_wanted(t), &err);
    if (!rc)
        rc = feed_init(&t->feed, t->reader, g->o.builders, pid, open_module, t);
    if (rc) {
        g->stats.segments_broken++;
        snprintf(g->stats.broken_why, sizeof g->stats.broken_why, "process %u: %s", pid,
                 err.text[0] ? err.text : strerror(-rc));
        target_free(t);
        return rc;
    }
    t->feed.series = t->drains ? g->o.series : NULL;
    start_trace(t);
    retire(g, pid);
    watch_end(t);
    g->stats.processes++;
    t->next = g->targets;
    g->targets = t;
    if (t->is_late)
        target_start_late(t, config);
    else
        start_sampling(t, config);
    // The modules that are mapped now: their files are opened while they are sure to be there.
    return target_pump(t, false) < 0 ? -EIO : 0;
}

// Our tid of a thread that has inner_tid in its own pid namespace.
static uint32_t outer_tid(const struct target *t, uint32_t inner_tid)
{
    if (t->pid == t->inner_pid)
        return inner_tid;
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/%u/task", t->pid);
    DIR *dir = opendir(path);
    uint32_t found = 0;
    for (struct dirent *e; dir && !found && (e = readdir(dir));) {
        unsigned long tid = strtoul(e->d_name, NULL, 10);
        snprintf(path, sizeof path, "/proc/%u/task/%lu/status", t->pid, tid);
        FILE *f = tid ? fopen(path, "re") : NULL;
        while (f && fgets(line, sizeof line, f)) {
            const char *last = strrchr(line, '\t'); // NSpid: outermost ... innermost
            if (strncmp(line, "NSpid:", 6) == 0 && last && strtoul(last, NULL, 10) == inner_tid)
                found = (uint32_t)tid;
        }
        if (f)
            fclose(f);
    }
    if (dir)
        closedir(dir);
    return found;
}

void target_thread(struct target *t, uint32_t inner_tid)
{
    uint32_t tid = t->clocks ? outer_tid(t, inner_tid) : 0;
    if (!tid)
        return;
    struct fscope_error err = {0};
    int rc = perf_clocks_add(t->clocks, (pid_t)tid, &err);
    if (rc && rc != -ESRCH && !t->ingest->stats.event_why[0])
        snprintf(t->ingest->stats.event_why, sizeof t->ingest->stats.event_why, "%s", err.text);
}

// Threads name themselves when they please; the agent saw only the name they began with. Short-lived
// ones are gone at the next housekeeping, so a few threads are read at each tick (a few us each).
static void read_names(struct target *t, bool housekeeping)
{
    char path[64], name[32];
    if (t->pid != t->inner_pid || (!housekeeping && t->named_threads > FEW_THREADS))
        return;
    snprintf(path, sizeof path, "/proc/%u/task", t->pid);
    DIR *dir = opendir(path);
    uint32_t n = 0;
    for (struct dirent *e; dir && n < NAMED_THREADS_MAX && (e = readdir(dir));) {
        unsigned long tid = strtoul(e->d_name, NULL, 10);
        if (!tid)
            continue;
        n++;
        snprintf(path, sizeof path, "/proc/%u/task/%lu/comm", t->pid, tid);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t size = fd >= 0 ? read(fd, name, sizeof name - 1) : -1;
        if (fd >= 0)
            close(fd);
        if (size <= 1)
            continue;
        name[size - 1] = '\0';
        for (int kind = 0; kind < RECORD_STREAM_COUNT; kind++)
            if (t->feed.processes[kind])
                builder_thread(t->feed.processes[kind], (uint32_t)tid, name);
    }
    if (dir)
        closedir(dir);
    t->named_threads = n;
}

int target_pump(struct target *t, bool housekeeping)
{
    struct ingest *g = t->ingest;
    int64_t n = t->drains ? feed_pump(&t->feed) : 0;
    if (n > 0)
        t->records += (uint64_t)n;
    pump_trace(t); // its errors are its files', and told with these
    struct seg_control *c = seg_reader_control(t->reader);
    if (t->records && t->records >= g->most_records && c) {
        g->most_records = t->records;
        g->stats.cpu_source = atomic_load_explicit(&c->cpu_source, memory_order_relaxed);
    }
    if (!t->is_over && n > 0)
        read_names(t, housekeeping);
    if (!housekeeping || t->is_over)
        return n < 0 ? (int)n : 0;
    if (kill((pid_t)t->pid, 0) && errno == ESRCH) {
        retire(g, t->pid);
        return n < 0 ? (int)n : 0;
    }
    if (t->clocks)
        perf_clocks_sync(t->clocks, NULL);
    return n < 0 ? (int)n : 0;
}

// Whether it still runs: one that is over writes no more.
bool target_is_alive(const struct target *t)
{
    char path[64], text[512];
    if (t->is_over)
        return false;
    snprintf(path, sizeof path, "/proc/%u/stat", t->pid);
    FILE *f = fopen(path, "re");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    if (f)
        fclose(f);
    text[n] = '\0';
    const char *after_name = strrchr(text, ')');
    return after_name && after_name[1] && after_name[2] != 'Z' && after_name[2] != 'X';
}

void target_ask_to_stop(struct target *t)
{
    t->asked_ns = record_now_ns(CLOCK_MONOTONIC);
    if (t->trace && target_is_alive(t))
        trace_build_stop(t->trace);
}

static bool is_patience_over(const struct target *t)
{
    uint64_t waited_ns = record_now_ns(CLOCK_MONOTONIC) - t->asked_ns;
    return waited_ns >= (trace_build_is_heard(t->trace) ? STOP_PATIENCE_NS : HEAR_PATIENCE_NS);
}

// Ends the trace at a whole generation where the target lives and answers; else at what it has committed.
static void finish_trace(struct target *t)
{
    const struct call_wish look = {.what = SEG_ASK_LOOK};
    struct record_result *result = t->ingest->o.trace_result;
    struct trace_build_stats st;
    if (!t->trace)
        return;
    if (!t->asked_ns)
        target_ask_to_stop(t);
    bool is_asked = false;
    while (target_is_alive(t) && !trace_build_stop(t->trace) && !is_patience_over(t)) {
        pump_trace(t);
        if (t->is_late && !is_asked)
            call_ask(t->ingest->o.call, t->reader, &look, NULL);
        is_asked = true;
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    // Of one that has not heard what came while it was waited for is more than was asked for.
    uint64_t now = trace_build_is_heard(t->trace) ? record_now_ns(CLOCK_MONOTONIC) : t->asked_ns;
    uint64_t until = target_is_alive(t) ? now : UINT64_MAX;
    if (t->drains)
        feed_pump(&t->feed); // samples that belong into it
    trace_build_finish(t->trace, until, t->ended_ns ? t->ended_ns : now);
    trace_build_get_stats(t->trace, &st);
    result->trace_lost_generations += st.lost_generations;
    for (int i = 0; i < 4; i++)
        result->trace_hits[i] += st.hits[i];
    if (!result->trace_error[0])
        snprintf(result->trace_error, sizeof result->trace_error, "%s",
                 trace_build_error(t->trace));
    t->feed.see_cpu = NULL;
}

int target_finish(struct target *t)
{
    finish_trace(t);
    struct seg_control *c = seg_reader_control(t->reader);
    if (t->is_late) {
        target_stop_late(t);
    } else if (c) {
        atomic_store_explicit(&c->cpu_period_ns, 0, memory_order_relaxed);
        atomic_store_explicit(&c->wall_period_ns, 0, memory_order_relaxed);
        set_state_rates(t->ingest, c, false);
        atomic_fetch_add_explicit(&c->wake, 1, memory_order_relaxed);
    }
    perf_clocks_free(t->clocks);
    t->clocks = NULL;
    int rc = target_pump(t, false);
    if (!t->drains && !rc) // else with the records
        rc = feed_modules(&t->feed);
    int rc2 = feed_finish(&t->feed);
    t->ingest->stats.damaged += t->feed.damaged;
    return rc ? rc : rc2;
}

void target_free(struct target *t)
{
    if (!t)
        return;
    perf_clocks_free(t->clocks);
    if (t->pidfd >= 0)
        close(t->pidfd);
    trace_build_free(t->trace);
    record_trace_abort(&t->sink);
    feed_free(&t->feed);
    seg_reader_close(t->reader);
    free(t);
}
