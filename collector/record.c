// SPDX-License-Identifier: MIT
//
// record_command: launches, waits, and ends the recording; see record.h. What is recorded arrives
// through ingest.c; here is only when it begins and when it ends.

#include "collector/record_internal.h"

#include "collector/launch.h"
#include "collector/record_kernel.h"
#include "collector/record_trace.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    SETTINGS_BYTES = 1024,
    EXIT_NOT_FOUND = 127, // as shells do
    EXIT_NOT_EXECUTABLE = 126,
};
struct recording {
    const struct record_options *o;
    struct record_result *result;
    struct record_loop loop;
    struct launch launch;
    struct launch_program program;
};

void record_options_init(struct record_options *o)
{
    *o = (struct record_options){
        .size = sizeof *o,
        .cpu_hz = 99,
        .inherit = true,
        .symbolize = true,
        .trace_bytes = RECORD_TRACE_BYTES_DEFAULT,
        .messages = stderr,
    };
}

uint64_t record_now_ns(int clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

void record_result_free(struct record_result *result)
{
    for (int kind = 0; kind < RECORD_KIND_COUNT; kind++)
        builder_free(result->builders[kind]);
    series_free(&result->series);
    record_kernel_free(result);
    record_trace_free(result);
    *result = (struct record_result){0};
}

const char *record_kind_name(int kind)
{
    static const char *const names[] = {
        [RECORD_CPU] = "cpu",         [RECORD_WALL] = "wall",     [RECORD_HEAP] = "heap",
        [RECORD_BLOCK] = "block",     [RECORD_MUTEX] = "mutex",   [RECORD_OFFCPU] = "offcpu",
        [RECORD_WAKEUPS] = "wakeups", [RECORD_GROWTH] = "growth", [RECORD_CUSTOM] = "custom"};
    return names[kind];
}

unsigned record_seg_kind(int kind)
{
    static const unsigned kinds[] = {[RECORD_CPU] = SEG_KIND_CPU,
                                     [RECORD_WALL] = SEG_KIND_WALL,
                                     [RECORD_HEAP] = SEG_KIND_HEAP,
                                     [RECORD_BLOCK] = SEG_KIND_BLOCK,
                                     [RECORD_MUTEX] = SEG_KIND_MUTEX,
                                     [RECORD_OFFCPU] = BUILDER_KIND_OFFCPU,
                                     [RECORD_WAKEUPS] = BUILDER_KIND_WAKEUPS,
                                     [RECORD_GROWTH] = BUILDER_KIND_GROWTH,
                                     [RECORD_CUSTOM] = SEG_KIND_CUSTOM};
    return kinds[kind];
}

bool record_wants(const struct record_options *o, int kind)
{
    const uint64_t wishes[RECORD_KIND_COUNT] = {
        [RECORD_CPU] = o->cpu_hz,           [RECORD_WALL] = o->wall_hz,
        [RECORD_HEAP] = o->heap_bytes,      [RECORD_BLOCK] = o->block_ns,
        [RECORD_MUTEX] = o->mutex_fraction, [RECORD_OFFCPU] = o->offcpu_fraction,
        [RECORD_WAKEUPS] = o->wakeups,
    };
    return wishes[kind] != 0;
}

int record_new_builders(const struct record_options *o, struct record_result *result,
                        struct fscope_error *err)
{
    result->asked_hz[RECORD_CPU] = o->cpu_hz;
    result->asked_hz[RECORD_WALL] = o->wall_hz;
    for (int kind = 0; kind < RECORD_KIND_COUNT; kind++) {
        uint32_t hz = kind < RECORD_STREAM_COUNT ? result->asked_hz[kind] : 0;
        if (!record_wants(o, kind) && kind != RECORD_CUSTOM)
            continue;
        struct builder_options bo = {
            .size = sizeof bo,
            .kind = record_seg_kind(kind),
            .period_ns = hz ? UINT64_C(1000000000) / hz : 0,
            .rate_bytes = o->heap_bytes,
            .real_ns = record_now_ns(CLOCK_REALTIME),
        };
        if (builder_new(&result->builders[kind], &bo))
            return error_set(err, -ENOMEM, 0, "out of memory");
    }
    return 0;
}

void record_comment(struct record_result *result, const char *text)
{
    for (int kind = 0; kind < RECORD_KIND_COUNT; kind++)
        if (result->builders[kind])
            builder_comment(result->builders[kind], text);
}

void record_warn(struct record_result *result, const char *format, ...)
{
    size_t n = strlen(result->warning);
    char *at = result->warning + n;
    size_t room = sizeof result->warning - n, line = n ? 1 : 0;
    va_list args;
    if (room <= line)
        return;
    va_start(args, format);
    int more = vsnprintf(at + line, room - line, format, args);
    va_end(args);
    if (more < 0 || (size_t)more >= room - line)
        *at = '\0';
    else if (line)
        *at = '\n';
}

static void comment_command(struct record_result *result, char *const *argv)
{
    char text[1024] = "command:";
    size_t n = strlen(text);
    for (; *argv && n < sizeof text - 1; argv++) {
        int more = snprintf(text + n, sizeof text - n, " %s", *argv);
        n = more < 0 || n + (size_t)more >= sizeof text ? sizeof text - 1 : n + (size_t)more;
    }
    record_comment(result, text);
}

// Of a process that has ended and was not waited for.
static int seccomp_of(pid_t pid)
{
    char path[64], line[256];
    int mode = 0;
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "Seccomp: %d", &mode) == 1)
            break;
    if (f)
        fclose(f);
    return mode;
}

static void take_status(struct recording *r)
{
    int status = 0;
    pid_t pid;
    r->result->seccomp = seccomp_of(r->launch.pid);
    while ((pid = waitpid(r->launch.pid, &status, 0)) < 0 && errno == EINTR) {
    }
    record_signals_forward(0); // the pid may be another's from now on
    r->result->target_ended = true;
    r->result->child = 0;
    if (pid > 0) {
        r->result->exit_status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
        r->result->killed_by = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    }
}

// Serves until the command has ended, the time is over, or a second signal came.
static int serve(struct recording *r)
{
    r->loop.pidfd = r->launch.pidfd;
    int rc = record_loop_run(&r->loop);
    if (rc == 1)
        take_status(r);
    return rc < 0 ? rc : 0;
}

static int start_ingest(struct recording *r, struct fscope_error *err)
{
    struct ingest_options io;
    record_ingest_options(r->o, r->result, &io);
    return ingest_new(&r->loop.ingest, &io, err);
}

// The user's own FIBERSCOPE settings stay (source=timer, say); ours come later in the list and win.
static void write_settings(const struct recording *r, char *text, size_t size)
{
    const char *users = getenv("FIBERSCOPE");
    size_t keep = users && strlen(users) < size / 2 ? strlen(users) : 0;
    const struct record_options *o = r->o;
    int n = snprintf(text, size, "%.*s%scpu=%u,wall=%u", (int)keep, keep ? users : "",
                     keep ? "," : "", o->cpu_hz, o->wall_hz);
    n += snprintf(text + n, size - (size_t)n,
                  ",heap=%" PRIu64 ",block=%" PRIu64 ",mutex=%" PRIu64 ",mmap=%d"
                  ",inherit=%d,quiet=1,socket=%s",
                  o->heap_bytes, o->block_ns, o->mutex_fraction, o->mmaps, o->inherit,
                  ingest_name(r->loop.ingest));
    if (o->trace && n > 0 && (size_t)n < size)
        snprintf(text + n, size - (size_t)n,
                 ",trace=1,trace_bytes=%" PRIu64 ",flight=%d,slow_region=%" PRIu64
                 ",slow_task=%" PRIu64 ",slow_latency=%" PRIu64 ",slow_stall=%" PRIu64,
                 o->trace_bytes, o->trace_flight, o->trace_slow_ns[0], o->trace_slow_ns[1],
                 o->trace_slow_ns[2], o->trace_slow_ns[3]);
}

static int start_child(struct recording *r, const char *preload, const char *settings, bool hold,
                       struct fscope_error *err)
{
    struct launch_options lo = {
        .size = sizeof lo,
        .path = r->program.path,
        .argv = r->o->command,
        .preload = preload,
        .settings = settings,
        .hold = hold,
        .sigmask = &r->loop.signals.users,
        .ignored = record_signals_ignored(),
    };
    int rc = launch_start(&r->launch, &lo, err);
    if (rc)
        return rc;
    r->result->pid = (uint32_t)r->launch.pid;
    r->result->child = r->launch.pid;
    record_signals_forward(r->launch.pid);
    r->loop.start_ns = record_now_ns(CLOCK_MONOTONIC);
    r->result->series.start_ns = r->loop.start_ns;
    return 0;
}

// The child could not be executed: it has ended by itself.
static int not_executed(struct recording *r, int rc)
{
    take_status(r);
    r->result->exit_status = rc == -ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE;
    return rc;
}

static int record_inside(struct recording *r, const char *agent, struct fscope_error *err)
{
    char settings[SETTINGS_BYTES];
    int rc = start_ingest(r, err);
    if (rc)
        return rc;
    write_settings(r, settings, sizeof settings);
    rc = start_child(r, agent, settings, r->o->kernel, err);
    if (!rc)
        rc = record_kernel_start(r->o, r->result, (uint32_t)r->launch.pid, err);
    if (rc)
        return rc;
    ingest_set_root(r->loop.ingest, r->launch.pid);
    rc = launch_go(&r->launch, r->program.path, err);
    if (rc)
        return not_executed(r, rc);
    rc = record_kernel_drop(r->result, err);
    rc = rc ? rc : serve(r);
    record_kernel_stop(r->result);
    record_progress_end(&r->loop.progress);
    r->result->duration_ns = record_now_ns(CLOCK_MONOTONIC) - r->loop.start_ns;
    int rc2 = ingest_finish(r->loop.ingest);
    if (rc || rc2)
        error_set(err, rc ? rc : rc2, 0, "recording: %s", strerror(rc ? -rc : -rc2));
    struct ingest_stats stats;
    ingest_get_stats(r->loop.ingest, &stats);
    record_judge_rates(r->result, &stats);
    if (r->result->was_too_early && r->o->trace) { // then it is the error
        snprintf(r->result->trace_error, sizeof r->result->trace_error, "%.380s",
                 r->result->warning);
        r->result->warning[0] = '\0';
    }
    // A failure that is not of memory leaves something worth writing: say so and go on.
    if (rc || rc2)
        snprintf(r->result->warning, sizeof r->result->warning, "%s", err ? err->text : "");
    return 0;
}

static int record_outside(struct recording *r, struct fscope_error *err)
{
    struct record_options o = *r->o;
    struct record_result *result = r->result;
    int rc = start_child(r, NULL, NULL, true, err);
    if (rc)
        return rc;
    o.pid = (uint32_t)r->launch.pid;
    // Who records waits by itself, so signals may come any time now.
    sigprocmask(SIG_SETMASK, &r->loop.signals.waiting, NULL);
    int go_fd = r->launch.go_fd;
    r->launch.go_fd = -1; // who records writes and closes it
    rc = o.method == RECORD_EBPF ? record_from_kernel(&o, go_fd, &record_stop_count, result, err)
                                 : record_attach(&o, go_fd, &record_stop_count, result, err);
    result->child = r->launch.pid;
    struct pollfd ended = {.fd = r->launch.pidfd, .events = POLLIN};
    if (poll(&ended, 1, rc ? 1000 : 0) > 0)
        take_status(r);
    int fault = 0;
    if (rc && result->target_ended &&
        read(r->launch.fault_fd, &fault, sizeof fault) == (ssize_t)sizeof fault &&
        fault == -ECANCELED) { // it was not started, so that its status says nothing
        result->target_ended = false;
        result->exit_status = 1;
    }
    return rc;
}

static void name_program(struct record_result *result, const char *argv0)
{
    const char *base = strrchr(argv0, '/');
    snprintf(result->program, sizeof result->program, "%s", base ? base + 1 : argv0);
}

bool record_needs_agent(const struct record_options *o)
{
    return o->heap_bytes || o->block_ns || o->mutex_fraction || o->trace;
}

static int run(struct recording *r, struct fscope_error *err)
{
    char agent[PATH_MAX] = "";
    struct record_result *result = r->result;
    result->exit_status = 1;
    int rc = launch_look(&r->program, r->o->command[0], err);
    if (rc) {
        result->exit_status = rc == -ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE;
        return rc;
    }
    bool by_kernel = r->o->method == RECORD_EBPF;
    if (by_kernel && (rc = record_check_kernel(r->o, err)))
        return rc;
    if (r->program.way == LAUNCH_AGENT && !by_kernel) {
        if (r->o->agent_path)
            snprintf(agent, sizeof agent, "%s", r->o->agent_path);
        else
            rc = launch_find_agent(agent, sizeof agent, err);
    }
    if (!rc && !by_kernel && r->program.way == LAUNCH_OUTSIDE && record_needs_agent(r->o)) {
        result->exit_status = EXIT_NOT_EXECUTABLE;
        rc = error_set(
            err, -EOPNOTSUPP, 0,
            "%.100s: %.150s; traces, heap and lock profiles need the agent inside, so only --cpu "
            "can be recorded",
            r->program.image, r->program.reason);
    }
    if (!rc)
        rc = record_new_builders(r->o, result, err);
    if (rc)
        return rc;
    comment_command(result, r->o->command);
    if (by_kernel)
        return record_outside(r, err);
    if (r->program.way == LAUNCH_OUTSIDE) {
        if (!r->o->quiet)
            fprintf(r->o->messages, "fiberscope: %s: %s; recording it from outside\n",
                    r->program.image, r->program.reason);
        return record_outside(r, err);
    }
    return record_inside(r, agent, err);
}

// The call that wrote says -EFBIG.
static void write_tells(int signo)
{
    (void)signo;
}

int record_command(const struct record_options *o, struct record_result *result,
                   struct fscope_error *err)
{
    struct recording r = {
        .o = o,
        .result = result,
        .loop = {.o = o, .result = result, .pidfd = -1},
        .launch = {.pidfd = -1, .go_fd = -1, .fault_fd = -1},
    };
    *result = (struct record_result){0};
    name_program(result, o->command[0]);
    record_signals_take(&r.loop.signals);
    if (o->trace_flight)
        record_signals_snapshots(&r.loop.signals);
    // A file over RLIMIT_FSIZE is then an error that can be told instead of our death.
    // A handler, not SIG_IGN, which the command would have as well.
    struct sigaction ignore = {.sa_handler = write_tells}, old;
    if (!sigaction(SIGXFSZ, NULL, &old) && old.sa_handler != SIG_IGN)
        sigaction(SIGXFSZ, &ignore, NULL);
    r.loop.snapshots = record_snapshot_count;
    record_progress_begin(&r.loop.progress, o);
    int rc = run(&r, err);
    record_progress_end(&r.loop.progress);
    ingest_free(r.loop.ingest);
    launch_close(&r.launch);
    if (result->child == 0)
        record_signals_forward(0);
    // Handlers stay until the profile is written (record_wait): Ctrl-C must not cost the data.
    sigaction(SIGXFSZ, &old, NULL);
    sigprocmask(SIG_SETMASK, &r.loop.signals.users, NULL);
    return rc;
}

void record_wait(const struct record_options *o, struct record_result *result)
{
    if (result->target_ended || result->child <= 0)
        return;
    struct record_signals signals;
    int stops = record_stop_count, status = 0;
    struct pollfd ended = {.fd = (int)syscall(SYS_pidfd_open, result->child, 0), .events = POLLIN};
    record_signals_take(&signals);
    if (!o->quiet)
        fprintf(o->messages,
                "fiberscope: the recording is over%s; process %d (%s) goes on, and this waits for "
                "its end; Ctrl-C is for both\n",
                record_stop_count ? ""
                : o->duration_ns  ? " (-d)"
                                  : "",
                result->child, result->program);
    while (ended.fd >= 0 && record_stop_count <= stops &&
           ppoll(&ended, 1, NULL, &signals.waiting) < 0)
        if (errno != EINTR)
            break;
    if (ended.revents && waitpid(result->child, &status, WNOHANG) > 0) {
        result->exit_status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
        result->killed_by = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
        result->target_ended = true;
    } else {
        result->exit_status = 128 + record_stop_signal;
    }
    if (ended.fd >= 0)
        close(ended.fd);
    record_signals_restore(&signals);
}
