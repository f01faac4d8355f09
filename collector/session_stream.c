// SPDX-License-Identifier: MIT
//
// What takes time: sampling and traces; see session.h. Each is a recording of its own (record_internal.h), with its own
// call, so that the agent's answers come to its own socket.

#include "collector/session_internal.h"

#include "collector/record_trace.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { HZ_DEFAULT = 100, SNAPSHOT_MS = 5000 };

// A stream while it runs.
struct streaming {
    const struct session_stream *how;
    struct record_result *result;
    struct record_loop *loop; // NULL: from outside
    uint64_t start_ns, next_ns;
};

static void set_options(const struct session *s, const struct session_stream *given,
                        struct session_stream *o, struct record_options *out)
{
    *o = (struct session_stream){0};
    memcpy(o, given, given->size < sizeof *o ? given->size : sizeof *o);
    record_options_init(out);
    out->cpu_hz = 0;
    out->pid = s->pid;
    out->duration_ns = o->duration_ns;
    out->inherit = false;
    out->quiet = true;
}

static enum record_kind kind_of(const struct session_stream *how)
{
    return how->wall ? RECORD_WALL : RECORD_CPU;
}

// What cannot be made (no memory) is told with the next one.
static void tell_window(struct streaming *st, uint64_t now_ns)
{
    struct builder_stats stats;
    struct session_window w = {.duration_ns = now_ns - st->start_ns};
    if (st->loop)
        ingest_tick(st->loop->ingest); // what the rings hold belongs to this window
    st->result->duration_ns = w.duration_ns;
    if (record_make_profile(st->result, kind_of(st->how), NULL, &w.profile, NULL))
        return;
    builder_get_stats(st->result->builders[kind_of(st->how)], &stats);
    w.lost = stats.lost;
    st->how->window(st->how->arg, &w);
}

static bool is_over(void *arg)
{
    struct streaming *st = arg;
    if (st->how->is_over && st->how->is_over(st->how->arg))
        return true;
    uint64_t now_ns = record_now_ns(CLOCK_MONOTONIC);
    if (!st->how->window || now_ns < st->next_ns)
        return false;
    tell_window(st, now_ns);
    while (st->next_ns <= now_ns) // one that is late does not shift the others
        st->next_ns += st->how->window_ns ? st->how->window_ns : 1;
    return false;
}

static int by_agent(struct session *s, const struct record_options *o, struct streaming *st,
                    struct fscope_error *err)
{
    struct call call;
    struct record_result *result = st->result;
    struct record_loop loop = {
        .o = o, .result = result, .pidfd = -1, .is_over = is_over, .arg = st};
    sigset_t mask;
    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    loop.signals.waiting = mask;
    result->pid = s->pid;
    memcpy(result->program, s->program, sizeof result->program);
    int rc = record_new_builders(o, result, err);
    if (!rc)
        rc = call_open(&call, s->pid, err);
    if (rc)
        return rc;
    st->loop = &loop;
    rc = record_by_agent(o, &call, &loop, err);
    st->loop = NULL;
    call_close(&call);
    if (!rc && result->warning[0] && o->trace && !result->trace_count)
        rc = error_set(err, -EBUSY, 0, "%s", result->warning);
    return rc;
}

static int from_outside(struct record_options *o, struct streaming *st, struct fscope_error *err)
{
    static const volatile int never;
    o->is_over = is_over;
    o->arg = st;
    return record_attach(o, -1, &never, st->result, err);
}

static void begin(struct streaming *st)
{
    st->start_ns = record_now_ns(CLOCK_MONOTONIC);
    st->next_ns = st->start_ns + st->how->window_ns;
}

int session_sample(struct session *s, const struct session_stream *given,
                   struct pprof_profile **out, struct fscope_error *err)
{
    struct session_stream how;
    struct record_options o;
    struct record_result result = {0};
    struct streaming st = {.how = &how, .result = &result};
    set_options(s, given, &how, &o);
    *(how.wall ? &o.wall_hz : &o.cpu_hz) = how.hz ? how.hz : HZ_DEFAULT;
    if (s->kernel)
        return session_kernel_sample(s, &how, out, err);
    begin(&st);
    int rc;
    if (how.offcpu)
        return error_set(err, -EOPNOTSUPP, 0,
                         "time off the processor is recorded by eBPF: "
                         "`fiberscope serve --method=ebpf -p %u`",
                         s->pid);
    if (s->way == SESSION_AGENT)
        rc = by_agent(s, &o, &st, err);
    else if (how.wall)
        rc = error_set(err, -EOPNOTSUPP, 0, "wall time cannot be sampled from outside: %s",
                       s->why.text);
    else
        rc = from_outside(&o, &st, err);
    if (!rc)
        rc = record_make_profile(&result, kind_of(&how), NULL, out, err);
    record_result_free(&result);
    return rc;
}

// A file name in which nothing is a pattern.
static int escape(const char *path, char *out, size_t size)
{
    size_t n = 0;
    for (; *path && n + 2 < size; path++) {
        if (*path == '%')
            out[n++] = '%';
        out[n++] = *path;
    }
    out[n] = '\0';
    return *path ? -ENAMETOOLONG : 0;
}

static int size_of(const char *path, uint64_t *bytes, struct fscope_error *err)
{
    struct stat st;
    if (stat(path, &st))
        return error_set(err, -errno, 0, "%s: %s", path, strerror(errno));
    *bytes = (uint64_t)st.st_size;
    return 0;
}

int session_trace(struct session *s, const struct session_stream *given, const char *path,
                  uint64_t *bytes, struct fscope_error *err)
{
    struct session_stream how;
    struct record_options o;
    struct record_result result = {0};
    struct streaming st = {.how = &how, .result = &result};
    char pattern[PATH_MAX];
    set_options(s, given, &how, &o);
    how.window = NULL;
    if (s->way != SESSION_AGENT)
        return error_set(err, -EOPNOTSUPP, 0, "no trace from outside: %s", s->why.text);
    if (escape(path, pattern, sizeof pattern))
        return error_set(err, -ENAMETOOLONG, 0, "%s: too long a path", path);
    o.trace = true;
    o.output = pattern;
    int rc = by_agent(s, &o, &st, err);
    if (!rc && result.trace_error[0])
        rc = error_set(err, -EIO, 0, "%s", result.trace_error);
    for (size_t i = 1; i < result.trace_count; i++) // it was cut: the first part is the answer
        unlink(result.traces[i].path);
    if (!rc)
        rc = size_of(path, bytes, err);
    record_result_free(&result);
    return rc;
}

// --- A flight recorder that somebody else has started.

static int take_snapshot(struct session *s, struct seg_reader *reader,
                         struct record_trace_sink *sink, struct fscope_error *err)
{
    struct trace_build *b = NULL;
    struct trace_build_stats st = {0};
    struct trace_build_options o = {
        .size = sizeof o, .reader = reader, .open_module = session_open_module, .module_arg = s};
    record_trace_options(sink, &o);
    int rc = trace_build_new(&b, &o, err);
    if (!rc && !trace_build_is_flight(b))
        rc = error_set(err, -ENODATA, 0, "process %u has no flight recorder on", s->pid);
    if (!rc)
        trace_build_snapshot(b);
    for (int ms = 0; !rc && !st.files && ms < SNAPSHOT_MS; ms += 20) {
        rc = trace_build_pump(b);
        trace_build_get_stats(b, &st);
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    if (rc && err && !err->text[0])
        error_set(err, rc, 0, "%s", trace_build_error(b));
    if (!rc && !st.files)
        rc =
            error_set(err, -ETIMEDOUT, 0, "process %u: its flight recorder did not answer", s->pid);
    trace_build_free(b);
    return rc;
}

int session_flight(struct session *s, const char *path, uint64_t *bytes, struct fscope_error *err)
{
    struct seg_reader *reader = NULL;
    struct record_options o;
    struct record_result result = {.pid = s->pid};
    char pattern[PATH_MAX];
    if (s->way != SESSION_AGENT)
        return error_set(err, -EOPNOTSUPP, 0, "no trace from outside: %s", s->why.text);
    if (escape(path, pattern, sizeof pattern))
        return error_set(err, -ENAMETOOLONG, 0, "%s: too long a path", path);
    record_options_init(&o);
    o.output = pattern;
    struct record_trace_sink sink = {.o = &o, .result = &result, .pid = s->pid};
    memcpy(sink.program, s->program, sizeof sink.program);
    int fd = session_segment(s);
    int rc = fd < 0 ? error_set(err, fd, 0, "%s", strerror(-fd))
                    : seg_reader_open_parts(&reader, fd, SEG_READER_TRACE, err);
    if (!rc)
        rc = take_snapshot(s, reader, &sink, err);
    record_trace_abort(&sink);
    seg_reader_close(reader);
    if (!rc)
        rc = size_of(path, bytes, err);
    record_result_free(&result);
    return rc;
}
