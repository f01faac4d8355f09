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

enum { HZ_DEFAULT = 100, WATCH_MS = 100, SNAPSHOT_MS = 5000 };

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

static int by_agent(struct session *s, const struct record_options *o,
                    const struct session_stream *how, struct record_result *result,
                    struct fscope_error *err)
{
    struct call call;
    struct record_loop loop = {
        .o = o, .result = result, .pidfd = -1, .is_over = how->is_over, .arg = how->arg};
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
    rc = record_by_agent(o, &call, &loop, err);
    call_close(&call);
    if (!rc && result->warning[0] && o->trace && !result->trace_count)
        rc = error_set(err, -EBUSY, 0, "%s", result->warning);
    return rc;
}

// --- From outside: record_attach ends when a word changes.

struct watch {
    const struct session_stream *how;
    volatile int stop;
    _Atomic int is_done;
};

static void *watch(void *arg)
{
    struct watch *w = arg;
    while (!w->is_done && !w->stop) {
        if (w->how->is_over && w->how->is_over(w->how->arg))
            w->stop = 1;
        nanosleep(&(struct timespec){.tv_nsec = WATCH_MS * 1000000L}, NULL);
    }
    return NULL;
}

static int from_outside(const struct record_options *o, const struct session_stream *how,
                        struct record_result *result, struct fscope_error *err)
{
    struct watch w = {.how = how};
    pthread_t thread;
    if (pthread_create(&thread, NULL, watch, &w))
        return error_set(err, -EAGAIN, 0, "no thread to be had");
    int rc = record_attach(o, -1, &w.stop, result, err);
    w.is_done = 1;
    pthread_join(thread, NULL);
    return rc;
}

int session_sample(struct session *s, const struct session_stream *given,
                   struct pprof_profile **out, struct fscope_error *err)
{
    struct session_stream how;
    struct record_options o;
    struct record_result result = {0};
    set_options(s, given, &how, &o);
    *(how.wall ? &o.wall_hz : &o.cpu_hz) = how.hz ? how.hz : HZ_DEFAULT;
    int rc;
    if (s->way == SESSION_AGENT)
        rc = by_agent(s, &o, &how, &result, err);
    else if (how.wall)
        rc = error_set(err, -EOPNOTSUPP, 0, "wall time cannot be sampled from outside: %s",
                       s->why.text);
    else
        rc = from_outside(&o, &how, &result, err);
    if (!rc)
        rc = record_make_profile(&result, how.wall ? RECORD_WALL : RECORD_CPU, NULL, out, err);
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
    char pattern[PATH_MAX];
    set_options(s, given, &how, &o);
    if (s->way != SESSION_AGENT)
        return error_set(err, -EOPNOTSUPP, 0, "no trace from outside: %s", s->why.text);
    if (escape(path, pattern, sizeof pattern))
        return error_set(err, -ENAMETOOLONG, 0, "%s: too long a path", path);
    o.trace = true;
    o.output = pattern;
    int rc = by_agent(s, &o, &how, &result, err);
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
