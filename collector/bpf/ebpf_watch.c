// SPDX-License-Identifier: MIT
//
// See ebpf_watch.h. One thread reads what comes, each TICK; who wants a profile reads as well. What both touch is under the
// lock. A builder of time is made anew when nobody uses it any more, so what is kept does not grow with the scrapes.

#include "collector/bpf/ebpf_watch.h"

#include "collector/bpf/ebpf_internal.h"
#include "collector/bpf/privileges.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { ASKED_EACH_MS = 100 };

struct ebpf_watch {
    struct record_options o;
    struct record_result result;
    struct ebpf *e;
    pthread_mutex_t lock;
    pthread_t reader;
    int stop_fd; // an eventfd: the reader ends
    bool has_reader, has_ended;
    uint32_t users[RECORD_KIND_COUNT];    // of time
    uint64_t since_ns[RECORD_KIND_COUNT]; // when its builder was made
    uint64_t losses[RECORD_KIND_COUNT];   // until then
};

// --- The reader.

static bool is_asked_to_stop(const struct ebpf_watch *w)
{
    struct pollfd fd = {.fd = w->stop_fd, .events = POLLIN};
    return poll(&fd, 1, 0) > 0;
}

static void *read_on(void *arg)
{
    struct ebpf_watch *w = arg;
    while (!is_asked_to_stop(w)) {
        int tick = ebpf_next_tick_ms(w->e, record_now_ns(CLOCK_MONOTONIC));
        sideband_wait(w->e->sideband, w->stop_fd, tick);
        pthread_mutex_lock(&w->lock);
        // What could not be kept is counted as lost; there is always a next time.
        if (!ebpf_pump(w->e))
            ebpf_look(w->e, record_now_ns(CLOCK_MONOTONIC));
        w->has_ended |= ebpf_has_ended(w->e);
        bool is_over = w->has_ended;
        pthread_mutex_unlock(&w->lock);
        if (is_over)
            break;
    }
    return NULL;
}

// --- Opening.

int ebpf_watch_open(struct ebpf_watch **out, const struct record_options *o,
                    struct fscope_error *err)
{
    *out = NULL;
    struct ebpf_watch *w = calloc(1, sizeof *w);
    if (!w)
        return error_set(err, -ENOMEM, 0, "out of memory");
    w->o = *o;
    w->o.quiet = true;
    pthread_mutex_init(&w->lock, NULL);
    w->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int rc = w->stop_fd < 0 ? error_set(err, -errno, 0, "eventfd: %s", strerror(errno)) : 0;
    if (!rc)
        rc = (w->e = ebpf_new(&w->o, &w->result)) ? ebpf_prepare(w->e, false, err)
                                                  : error_set(err, -ENOMEM, 0, "out of memory");
    if (!rc)
        rc = ebpf_begin(w->e, false, err);
    if (!rc && w->e->hz && bpf_programs_sample_cpu(w->e->programs, false))
        rc = error_set(err, -EIO, 0, "perf events cannot be stopped");
    if (rc) {
        ebpf_watch_close(w);
        return rc;
    }
    for (int kind = 0; kind < RECORD_KIND_COUNT; kind++)
        w->since_ns[kind] = w->e->start_ns;
    *out = w;
    return 0;
}

static bool writes_nothing(void *arg)
{
    (void)arg;
    return true;
}

int ebpf_watch_begin(struct ebpf_watch *w, struct fscope_error *err)
{
    int rc = privileges_drop(writes_nothing, NULL, 0, err);
    if (rc)
        return rc;
    rc = -pthread_create(&w->reader, NULL, read_on, w);
    w->has_reader = !rc;
    return rc ? error_set(err, rc, 0, "no thread could be started: %s", strerror(-rc)) : 0;
}

void ebpf_watch_close(struct ebpf_watch *w)
{
    const uint64_t one = 1;
    if (!w)
        return;
    if (w->has_reader) {
        if (write(w->stop_fd, &one, sizeof one) < 0) {
            // An eventfd that is 0 takes it.
        }
        pthread_join(w->reader, NULL);
    }
    if (w->e && w->e->programs)
        bpf_programs_stop(w->e->programs);
    ebpf_free(w->e);
    record_result_free(&w->result);
    if (w->stop_fd >= 0)
        close(w->stop_fd);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

// --- Profiles. The lock is held.

static uint64_t lost_so_far(const struct ebpf_watch *w)
{
    struct bpf_losses l;
    bpf_programs_losses(w->e->programs, &l);
    return w->e->lost + l.ring + l.busy;
}

// All that was counted up to now is in the builders afterwards: a sum whose key was still on its way is in the second.
static int catch_up(struct ebpf_watch *w)
{
    int rc = ebpf_take_sums(w->e, false);
    return rc ? rc : ebpf_take_sums(w->e, false);
}

static int renew(struct ebpf_watch *w, enum record_kind kind)
{
    struct builder *old = w->result.builders[kind];
    int rc = catch_up(w);
    if (!rc)
        rc = ebpf_renew_builder(w->e, (int)kind);
    if (!rc)
        builder_free(old);
    w->since_ns[kind] = record_now_ns(CLOCK_MONOTONIC);
    w->losses[kind] = lost_so_far(w);
    return rc;
}

static int snapshot(struct ebpf_watch *w, enum record_kind kind, struct pprof_profile **out,
                    struct fscope_error *err)
{
    int rc = catch_up(w);
    if (rc)
        return error_set(err, rc, 0, "recording: %s", strerror(-rc));
    w->result.duration_ns = record_now_ns(CLOCK_MONOTONIC) - w->since_ns[kind];
    return record_make_profile(&w->result, kind, NULL, out, err);
}

// --- Time.

static bool is_exclusive(enum record_kind kind)
{
    return kind != RECORD_CPU;
}

static int switch_on(struct ebpf_watch *w, enum record_kind kind, struct pprof_profile **before,
                     struct fscope_error *err)
{
    int rc = 0;
    if (w->users[kind] && is_exclusive(kind))
        return error_set(err, -EBUSY, 0, "somebody else records this already");
    if (w->users[kind]) // what there is already is not part of this one
        rc = snapshot(w, kind, before, err);
    else if ((rc = renew(w, kind)))
        error_set(err, rc, 0, "recording: %s", strerror(-rc));
    if (rc)
        return rc;
    w->users[kind]++;
    rc = bpf_programs_sample_cpu(w->e->programs, w->users[RECORD_CPU]);
    return rc ? error_set(err, rc, 0, "perf events: %s", strerror(-rc)) : 0;
}

static int switch_off(struct ebpf_watch *w, enum record_kind kind, struct pprof_profile **out,
                      struct fscope_error *err)
{
    builder_lost(w->result.builders[kind], lost_so_far(w) - w->losses[kind]);
    w->losses[kind] = lost_so_far(w);
    int rc = snapshot(w, kind, out, err);
    w->users[kind]--;
    bpf_programs_sample_cpu(w->e->programs, w->users[RECORD_CPU]);
    return rc;
}

static void wait_until_over(struct ebpf_watch *w, const struct ebpf_watch_stream *how)
{
    uint64_t began = record_now_ns(CLOCK_MONOTONIC), passed = 0;
    bool is_over = false;
    while (!is_over && (!how->duration_ns || passed < how->duration_ns)) {
        uint64_t ms = ASKED_EACH_MS;
        if (how->duration_ns && how->duration_ns - passed < ms * 1000000)
            ms = (how->duration_ns - passed) / 1000000 + 1;
        nanosleep(&(struct timespec){.tv_nsec = (long)ms * 1000000}, NULL);
        pthread_mutex_lock(&w->lock);
        is_over = w->has_ended;
        pthread_mutex_unlock(&w->lock);
        is_over = is_over || (how->is_over && how->is_over(how->arg));
        passed = record_now_ns(CLOCK_MONOTONIC) - began;
    }
}

// The part of `after` that is not in `before`.
static int less(struct pprof_profile **after, struct pprof_profile *before, uint64_t duration_ns,
                struct fscope_error *err)
{
    struct pprof_profile *delta = NULL;
    int rc = pprof_subtract(&delta, *after, before, 0, err);
    if (rc)
        return rc;
    delta->time_nanos = before->time_nanos + before->duration_nanos;
    delta->duration_nanos = (int64_t)duration_ns;
    pprof_free(*after);
    *after = delta;
    return 0;
}

int ebpf_watch_sample(struct ebpf_watch *w, const struct ebpf_watch_stream *how,
                      struct pprof_profile **out, struct fscope_error *err)
{
    struct pprof_profile *before = NULL;
    *out = NULL;
    pthread_mutex_lock(&w->lock);
    uint64_t began = record_now_ns(CLOCK_MONOTONIC);
    int rc = switch_on(w, how->kind, &before, err);
    pthread_mutex_unlock(&w->lock);
    if (rc)
        return rc;
    wait_until_over(w, how);
    uint64_t lasted = record_now_ns(CLOCK_MONOTONIC) - began;
    pthread_mutex_lock(&w->lock);
    rc = switch_off(w, how->kind, out, err);
    pthread_mutex_unlock(&w->lock);
    if (!rc && before)
        rc = less(out, before, lasted, err);
    pprof_free(before);
    if (rc) {
        pprof_free(*out);
        *out = NULL;
    }
    return rc;
}

// --- Contention.

int ebpf_watch_state(struct ebpf_watch *w, enum record_kind kind, struct pprof_profile **out,
                     struct fscope_error *err)
{
    pthread_mutex_lock(&w->lock);
    int rc = snapshot(w, kind, out, err);
    pthread_mutex_unlock(&w->lock);
    return rc;
}

bool ebpf_watch_totals(struct ebpf_watch *w, enum record_kind kind, uint64_t *stacks,
                       uint64_t *count, uint64_t *ns)
{
    struct pprof_profile *p = NULL;
    struct builder_stats stats;
    *stacks = *count = *ns = 0;
    pthread_mutex_lock(&w->lock);
    struct builder *b = w->result.builders[kind];
    if (b && !catch_up(w)) {
        builder_get_stats(b, &stats);
        *count = stats.samples;
        *ns = stats.ns;
        if (!builder_finish(b, 1, &p))
            *stacks = p->sample_count;
    }
    pthread_mutex_unlock(&w->lock);
    pprof_free(p);
    return b != NULL;
}
