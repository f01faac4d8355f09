// SPDX-License-Identifier: MIT

#include "fake_session.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

struct session {
    struct fake_session controls;
    pthread_mutex_t lock;
    pid_t pid;
};

static struct session the_session = {.lock = PTHREAD_MUTEX_INITIALIZER};

struct session *fake_session(struct fake_session **controls)
{
    *controls = &the_session.controls;
    pid_t parent = getpid();
    if (!the_session.pid)
        the_session.pid = fork();
    if (!the_session.pid) { // what is looked at must be another process
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        while (getppid() == parent) // it may have ended before
            pause();
        _exit(0);
    }
    return &the_session;
}

int session_open(struct session **out, const struct session_options *o, struct fscope_error *err)
{
    (void)o;
    (void)err;
    *out = &the_session;
    return 0;
}

void session_close(struct session *s)
{
    (void)s;
}

bool session_is_by_kernel(const struct session *s)
{
    (void)s;
    return false;
}

enum session_way session_way(const struct session *s)
{
    (void)s;
    return SESSION_AGENT;
}

const char *session_why(const struct session *s)
{
    (void)s;
    return "";
}

uint32_t session_pid(const struct session *s)
{
    return (uint32_t)s->pid;
}

const char *session_program(const struct session *s)
{
    (void)s;
    return "fake";
}

int session_fd(const struct session *s)
{
    (void)s;
    return -1;
}

uint64_t session_image(const struct session *s)
{
    (void)s;
    return 1;
}

// --- Tables: names are what a hostile program gives.

int session_each_fiber(struct session *s, int (*fn)(void *arg, const struct session_row *row),
                       void *arg, struct fscope_error *err)
{
    int rc = 0;
    (void)err;
    for (uint64_t i = 1; !rc && i <= s->controls.fibers; i++) {
        struct session_row row = {.id = i,
                                  .start = 0x401111,
                                  .created_at = 0x40222f + i % 3,
                                  .age_ns = 1000 * i,
                                  .busy_ns = 7 * (i * 7919 % 1000),
                                  .switches = i * 7919 % 1000,
                                  .wakes = i,
                                  .holder = i % 2};
        snprintf(row.name, sizeof row.name, "<b>\"'&\xff\n%d", (int)i);
        snprintf(row.state, sizeof row.state, "%s", i % 2 ? "running" : "chan <i>");
        rc = fn(arg, &row);
    }
    return s->controls.fibers ? rc : -ENOENT;
}

int session_each_thread(struct session *s, int (*fn)(void *arg, const struct session_row *row),
                        void *arg, struct fscope_error *err)
{
    struct session_row row = {.id = (uint64_t)s->pid, .tid = (uint32_t)s->pid, .name = "fake"};
    (void)err;
    return fn(arg, &row);
}

int session_fibers(struct session *s, struct session_fibers *out, struct fscope_error *err)
{
    (void)err;
    *out = (struct session_fibers){.procs = 2, .latency = {[10] = 8, [63] = 8}};
    return s->controls.fibers ? 0 : -ENOENT;
}

int session_metrics(struct session *s, struct session_metrics *out)
{
    (void)s;
    memset(out, 0, sizeof *out);
    out->has_process = out->has_regions = true;
    out->region_count = 1;
    snprintf(out->regions[0].name, SESSION_NAME, "a\"b\\c\nd\xff");
    out->regions[0].count = 3;
    out->regions[0].buckets[12] = 2;
    out->regions[0].unmeasured = 1;
    return 0;
}

// --- Profiles.

static const struct {
    const char *name;
    uint64_t count;
    const char *types[4][2];
} kinds[] = {
    {"allocs",
     3,
     {{"alloc_objects", "count"},
      {"alloc_space", "bytes"},
      {"inuse_objects", "count"},
      {"inuse_space", "bytes"}}},
    {"block", 2, {{"contentions", "count"}, {"delay", "nanoseconds"}}},
    {"connections", 3, {{"connections", "count"}}}, // a custom one
    {"goroutine", 3, {{"goroutine", "count"}}},
    {"heap",
     3,
     {{"alloc_objects", "count"},
      {"alloc_space", "bytes"},
      {"inuse_objects", "count"},
      {"inuse_space", "bytes"}}},
    {"mutex", 2, {{"contentions", "count"}, {"delay", "nanoseconds"}}},
    {"threadcreate", 3, {{"threadcreate", "count"}}},
    {"threads", 3, {{"threads", "count"}}},
};
enum { KINDS = sizeof kinds / sizeof *kinds, SAMPLES = 3 };

static struct pprof_location *location(struct pprof_profile *p, uint64_t address, const char *name,
                                       const char *file, int64_t line)
{
    struct pprof_mapping *m =
        p->mapping_count ? p->mappings[0]
                         : pprof_add_mapping(p, 0x400000, 0x500000, 0x1000, "/bin/fake", "abcdef");
    struct pprof_line lines[2] = {
        {.function = pprof_intern_function(p, name, name, file, 1), .line = line}};
    // One function is inlined.
    if (address == 0x401111)
        lines[1] = (struct pprof_line){
            .function = pprof_intern_function(p, "outer", "outer", file, 1), .line = line + 10};
    m->has_functions = m->has_filenames = m->has_line_numbers = true;
    return pprof_intern_location(p, m, address, name ? lines : NULL, address == 0x401111 ? 2 : 1);
}

static struct pprof_profile *make(const char *const (*types)[2], uint32_t round)
{
    struct pprof_profile *p = pprof_new();
    size_t n = 0;
    for (; n < 4 && types[n][0]; n++)
        pprof_add_sample_type(p, types[n][0], types[n][1]);
    struct pprof_location *inlined = location(p, 0x401111, "worker", "/src/w.c", 10),
                          *main_at = location(p, 0x40222f, "main", "/src/main.c", 7),
                          *other = location(p, 0x403fff, "a_longer_name", "/src/w.c", 123);
    struct pprof_location *stacks[SAMPLES][2] = {{inlined, main_at}, {other, main_at}, {main_at}};
    const uint32_t depths[SAMPLES] = {2, 2, 1};
    for (size_t i = 0; i < SAMPLES; i++) {
        int64_t values[4];
        const struct pprof_label label = {.key = "route", .str = "/a\"b"};
        for (size_t j = 0; j < 4; j++)
            values[j] = (int64_t)((i + 1) * (j + 1) * 100 * (j % 2 ? 64 : 1)) + round;
        if (pprof_add_sample(p, stacks[i], depths[i], values, &label, i == 1))
            break;
    }
    p->period_type.type = pprof_string(p, types[0][0]);
    p->period_type.unit = pprof_string(p, "count");
    p->period = 1;
    return p;
}

int session_profile(struct session *s, const char *name, struct pprof_profile **out,
                    struct fscope_error *err)
{
    *out = NULL;
    if (s->controls.profile_fails)
        return error_set(err, s->controls.profile_fails, 0, "set on with --%s", name);
    for (size_t i = 0; i < KINDS; i++)
        if (strcmp(kinds[i].name, name) == 0) {
            *out =
                make(kinds[i].types, __atomic_add_fetch(&s->controls.rounds, 1, __ATOMIC_RELAXED));
            return 0;
        }
    return error_set(err, -ENOENT, 0, "no profile \"%s\"", name);
}

int session_each_profile(struct session *s, int (*fn)(void *arg, const char *name, uint64_t count),
                         void *arg)
{
    int rc = 0;
    (void)s;
    for (size_t i = 0; !rc && i < KINDS; i++)
        rc = fn(arg, kinds[i].name, kinds[i].count);
    return rc;
}

// --- Streams.

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static int begin(struct session *s, int fails, struct fscope_error *err)
{
    pthread_mutex_lock(&s->lock);
    bool busy = s->controls.sampling;
    s->controls.sampling = busy || !fails;
    pthread_mutex_unlock(&s->lock);
    int rc = busy ? -EBUSY : fails;
    return rc ? error_set(err, rc, 0, "no agent") : 0;
}

static void last(struct session *s, const struct session_stream *o)
{
    uint64_t start = now_ms(), until = start + o->duration_ns / 1000000;
    while (now_ms() < until && !(o->is_over && o->is_over(o->arg)))
        usleep(20000);
    pthread_mutex_lock(&s->lock);
    __atomic_store_n(&s->controls.sampled_ms, (uint32_t)(now_ms() - start), __ATOMIC_RELAXED);
    s->controls.sampling = false;
    pthread_mutex_unlock(&s->lock);
}

int session_sample(struct session *s, const struct session_stream *o, struct pprof_profile **out,
                   struct fscope_error *err)
{
    static const char *const types[4][2] = {{"samples", "count"}, {"cpu", "nanoseconds"}};
    int rc = begin(s, s->controls.sample_fails, err);
    if (rc)
        return rc;
    last(s, o);
    *out = make(types, 0);
    return 0;
}

static int write_file(const char *path, uint64_t *bytes)
{
    static const char text[] = "go 1.23 trace\0\0\0";
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    ssize_t n = write(fd, text, sizeof text - 1);
    close(fd);
    *bytes = (uint64_t)n;
    return 0;
}

int session_trace(struct session *s, const struct session_stream *o, const char *path,
                  uint64_t *bytes, struct fscope_error *err)
{
    int rc = begin(s, s->controls.trace_fails, err);
    if (rc)
        return rc;
    last(s, o);
    return write_file(path, bytes);
}

int session_flight(struct session *s, const char *path, uint64_t *bytes, struct fscope_error *err)
{
    if (s->controls.flight_fails)
        return error_set(err, s->controls.flight_fails, 0, "no flight recorder is on");
    return write_file(path, bytes);
}

int session_counts(struct session *s, struct session_counts *out)
{
    (void)s;
    *out = (struct session_counts){0};
    return 0;
}

int session_begin(struct session *s, struct fscope_error *err)
{
    (void)s;
    (void)err;
    return 0;
}
