// SPDX-License-Identifier: MIT
//
// The thread that records for `fiberscope top -p`; see top_live.h. A kind has a session of its own, so that only what
// is looked at is switched on in the process.
//
// Invariant: the thread never waits for the screen. It leaves its newest profile in a place for one, from which an
// older one that nobody took is thrown away: each holds all of those before.

#include "cli/top_live.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define HEAP_BYTES UINT64_C(524288) // as record and serve
#define BLOCK_NS   UINT64_C(10000)

struct top_source {
    struct top_source_options o;
    struct session *session; // the thread's
    uint64_t start_ns, lost;
    atomic_bool is_stopped;
    int news_fd, stop_fd;
    pthread_t thread;
    pthread_mutex_t lock; // of update
    struct top_update update;
};

static const char *const names[] = {"cpu", "wall", "heap", "block", "mutex", "fibers"};

const char *top_kind_name(enum top_kind kind)
{
    return names[kind];
}

bool top_kind_is_level(enum top_kind kind)
{
    return kind == TOP_HEAP || kind == TOP_FIBERS;
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

// elapsed_ns: what p covers.
static void publish(struct top_source *s, struct pprof_profile *p, uint64_t elapsed_ns,
                    uint64_t lost, bool is_baseline)
{
    pthread_mutex_lock(&s->lock);
    struct top_update *u = &s->update;
    if (p) {
        // A baseline that nobody has taken yet: the next one stands for both, and there is still no window.
        is_baseline |= u->profile && u->is_baseline;
        pprof_free(u->profile);
        u->profile = p;
        u->is_baseline = is_baseline;
        u->elapsed_ns = elapsed_ns;
        u->lost = lost;
    }
    u->way = session_way(s->session);
    pthread_mutex_unlock(&s->lock);
    eventfd_write(s->news_fd, 1);
}

static void publish_end(struct top_source *s, const struct fscope_error *err)
{
    pthread_mutex_lock(&s->lock);
    s->update.err = *err;
    struct pollfd fd = {.fd = s->session ? session_fd(s->session) : -1, .events = POLLIN};
    s->update.has_ended = poll(&fd, 1, 0) > 0;
    pthread_mutex_unlock(&s->lock);
    eventfd_write(s->news_fd, 1);
}

static bool is_stopped(void *arg)
{
    struct top_source *s = arg;
    return s->is_stopped;
}

static void on_window(void *arg, const struct session_window *w)
{
    struct top_source *s = arg;
    s->lost = w->lost;
    publish(s, w->profile, w->duration_ns, w->lost, false);
}

static void stream(struct top_source *s, struct fscope_error *err)
{
    struct pprof_profile *p = NULL;
    const struct session_stream how = {
        .size = sizeof how,
        .wall = s->o.kind == TOP_WALL,
        .hz = s->o.hz,
        .is_over = is_stopped,
        .arg = s,
        .window = on_window,
        .window_ns = s->o.interval_ns,
    };
    if (!session_sample(s->session, &how, &p, err))
        publish(s, p, (uint64_t)p->duration_nanos, s->lost, false);
}

// 0: the time is over; else it is to end.
static int wait_until(struct top_source *s, uint64_t at_ns)
{
    struct pollfd fds[2] = {{.fd = s->stop_fd, .events = POLLIN},
                            {.fd = session_fd(s->session), .events = POLLIN}};
    uint64_t now = now_ns(), left = at_ns > now ? at_ns - now : 0;
    struct timespec t = {(time_t)(left / 1000000000), (long)(left % 1000000000)};
    return ppoll(fds, 2, &t, NULL) > 0;
}

// Where there are no fibers, threads are shown; their states are labels.
static void state(struct top_source *s, struct fscope_error *err)
{
    const char *name = s->o.kind == TOP_FIBERS ? "goroutine" : names[s->o.kind];
    bool is_first = true, is_last = false;
    for (uint64_t next = now_ns();; next += s->o.interval_ns) {
        struct pprof_profile *p;
        int rc = session_profile(s->session, name, &p, err);
        if (rc && is_last)
            *err = (struct fscope_error){0}; // what is of this moment cannot be had any more
        if (rc)
            return;
        publish(s, p, now_ns() - s->start_ns, 0, is_first);
        is_first = false;
        if (is_last || s->is_stopped)
            return;
        is_last = wait_until(s, next + s->o.interval_ns) != 0;
        if (s->is_stopped)
            return;
    }
}

static void *work(void *arg)
{
    struct top_source *s = arg;
    struct fscope_error err = {0};
    const struct session_options so = {
        .size = sizeof so,
        .pid = s->o.pid,
        .method = s->o.method,
        .heap_bytes = s->o.kind == TOP_HEAP ? HEAP_BYTES : 0,
        .block_ns = s->o.kind == TOP_BLOCK ? BLOCK_NS : 0,
        .mutex_fraction = s->o.kind == TOP_MUTEX,
    };
    if (!session_open(&s->session, &so, &err)) {
        pthread_mutex_lock(&s->lock);
        snprintf(s->update.program, sizeof s->update.program, "%s", session_program(s->session));
        pthread_mutex_unlock(&s->lock);
        publish(s, NULL, 0, 0, false);
        if (s->o.kind < TOP_HEAP)
            stream(s, &err);
        else
            state(s, &err);
    }
    publish_end(s, &err);
    session_close(s->session);
    return NULL;
}

static void release(struct top_source *s)
{
    pprof_free(s->update.profile);
    pthread_mutex_destroy(&s->lock);
    if (s->news_fd >= 0)
        close(s->news_fd);
    if (s->stop_fd >= 0)
        close(s->stop_fd);
    free(s);
}

int top_source_start(struct top_source **out, const struct top_source_options *o,
                     struct fscope_error *err)
{
    struct top_source *s = calloc(1, sizeof *s);
    *out = NULL;
    if (!s)
        return error_set(err, -ENOMEM, 0, "out of memory");
    pthread_mutex_init(&s->lock, NULL);
    s->o = *o;
    s->start_ns = now_ns();
    s->news_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    s->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int rc = s->news_fd < 0 || s->stop_fd < 0 ? -errno : -pthread_create(&s->thread, NULL, work, s);
    if (rc) {
        release(s);
        return error_set(err, rc, 0, "no thread to be had: %s", strerror(-rc));
    }
    *out = s;
    return 0;
}

int top_source_fd(const struct top_source *s)
{
    return s->news_fd;
}

void top_source_take(struct top_source *s, struct top_update *out)
{
    eventfd_t unused;
    pthread_mutex_lock(&s->lock);
    eventfd_read(s->news_fd, &unused);
    *out = s->update;
    s->update.profile = NULL;
    pthread_mutex_unlock(&s->lock);
}

void top_source_stop(struct top_source *s)
{
    if (!s)
        return;
    s->is_stopped = true;
    eventfd_write(s->stop_fd, 1);
    pthread_join(s->thread, NULL);
    release(s);
}
