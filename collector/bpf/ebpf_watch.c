// SPDX-License-Identifier: MIT
//
// See ebpf_watch.h. One thread reads what comes, each TICK.
//
// A profile is made of parts: whoever wants one takes what a builder holds up to then away, under the lock, and puts an empty
// one in its place; names are found without the lock. A part of time goes to every request that was under way, one of
// contention is added to what there was before. So what is kept does not grow with the scrapes.
//
// Locks: a kind's `making` comes before the watch's `lock`. No names are looked for under the latter, nor, of time, under the
// former: a request begins and ends when it should, whatever the others do.

#include "collector/bpf/ebpf_watch.h"

#include "collector/bpf/ebpf_internal.h"
#include "collector/lock_labels.h"
#include "collector/bpf/privileges.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { ASKED_EACH_MS = 100, LOCKS_MAX = 4096 };
#define BIT(kind) (1u << (kind))
#define OF_TIME   (BIT(RECORD_CPU) | BIT(RECORD_WALL) | BIT(RECORD_OFFCPU))

enum { USES_MAX = 64 }; // at a time

struct use { // a request for time
    uint64_t since_ns;
    // Under `making`.
    uint32_t parts_to_come;    // that were taken away while it lasted, and have no names yet
    struct pprof_profile *sum; // of its parts up to now; NULL: none
};

struct kept { // of one kind
    pthread_mutex_t making;
    pthread_cond_t made;       // a part, with `making`
    struct pprof_profile *sum; // of contention: all parts up to now; NULL: none. Under `making`
    struct lock_labels locks;  // of it
    // Under the watch's lock.
    struct use *uses[USES_MAX];
    uint32_t use_count;
    uint64_t since_ns, lost; // when its builder was made, what had been lost until then
    uint64_t count, ns;      // in parts that were taken away
};

struct part { // what was recorded from one moment to another, and for whom
    struct record_result result;
    struct use *uses[USES_MAX];
    uint32_t use_count;
};

struct ebpf_watch {
    struct record_options o;
    struct record_result result;
    struct ebpf *e;
    pthread_mutex_t lock;
    pthread_t reader;
    int stop_fd; // an eventfd: the reader ends
    bool has_reader, has_ended, has_waits;
    struct kept kinds[RECORD_KIND_COUNT];
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
    int tick = 0;
    bool is_over = false;
    while (!is_over && !is_asked_to_stop(w)) {
        sideband_wait(w->e->sideband, w->stop_fd, tick);
        pthread_mutex_lock(&w->lock);
        // What could not be kept is counted as lost; there is always a next time.
        if (!ebpf_pump(w->e))
            ebpf_look(w->e, record_now_ns(CLOCK_MONOTONIC));
        is_over = w->has_ended = ebpf_has_ended(w->e);
        tick = ebpf_next_tick_ms(w->e, record_now_ns(CLOCK_MONOTONIC));
        pthread_mutex_unlock(&w->lock);
    }
    return NULL;
}

// --- Opening.

// Until somebody asks.
static int switch_off_all(struct ebpf_watch *w, struct fscope_error *err)
{
    int rc = 0;
    w->e->unwanted = OF_TIME;
    w->e->locks_max = LOCKS_MAX;
    if (w->e->hz)
        rc = bpf_programs_sample_cpu(w->e->programs, false);
    if (!rc && (w->o.wall_hz || w->o.offcpu_fraction))
        rc = bpf_programs_sample_waits(w->e->programs, false);
    return rc ? error_set(err, rc, 0, "events cannot be stopped: %s", strerror(-rc)) : 0;
}

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
    for (int kind = 0; kind < RECORD_KIND_COUNT; kind++) {
        pthread_mutex_init(&w->kinds[kind].making, NULL);
        pthread_cond_init(&w->kinds[kind].made, NULL);
    }
    w->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int rc = w->stop_fd < 0 ? error_set(err, -errno, 0, "eventfd: %s", strerror(errno)) : 0;
    if (!rc)
        rc = (w->e = ebpf_new(&w->o, &w->result)) ? ebpf_prepare(w->e, false, err)
                                                  : error_set(err, -ENOMEM, 0, "out of memory");
    if (!rc)
        rc = ebpf_begin(w->e, false, err);
    if (!rc)
        rc = switch_off_all(w, err);
    if (rc) {
        ebpf_watch_close(w);
        return rc;
    }
    for (int kind = 0; kind < RECORD_KIND_COUNT; kind++)
        w->kinds[kind].since_ns = w->e->start_ns;
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
    for (int kind = 0; kind < RECORD_KIND_COUNT; kind++) {
        pprof_free(w->kinds[kind].sum);
        lock_labels_free(&w->kinds[kind].locks);
        pthread_cond_destroy(&w->kinds[kind].made);
        pthread_mutex_destroy(&w->kinds[kind].making);
    }
    pthread_mutex_destroy(&w->lock);
    free(w);
}

// --- What is recorded. The lock is held.

static bool is_of_waits(enum record_kind kind)
{
    return kind == RECORD_WALL || kind == RECORD_OFFCPU;
}

static uint64_t lost_so_far(const struct ebpf_watch *w, enum record_kind kind)
{
    struct bpf_losses l;
    bpf_programs_losses(w->e->programs, &l);
    return w->e->lost + l.ring + l.busy + (is_of_waits(kind) ? l.waits : 0);
}

// What there is of a kind up to now, for those that use it: *out has it alone, and the next part begins. is_last: nobody wants
// that one.
static int take_part(struct ebpf_watch *w, enum record_kind kind, bool is_last, struct part *out)
{
    struct kept *k = &w->kinds[kind];
    struct builder *old = w->result.builders[kind];
    struct builder_stats stats;
    uint64_t when;
    // A sum whose key was still on its way is in the second.
    int rc = ebpf_take_sums(w->e, false);
    rc = rc ? rc : ebpf_cut(w->e, &when);
    if (!rc && is_of_waits(kind))
        rc = ebpf_waits_end(w->e, (int)kind);
    if (rc)
        return rc;
    w->e->unwanted |= is_last ? BIT(kind) : 0;
    rc = ebpf_renew_builder(w->e, (int)kind);
    if (rc)
        return rc;
    if (is_of_waits(kind))
        ebpf_waits_begin(w->e, (int)kind);
    uint64_t lost = lost_so_far(w, kind);
    builder_lost(old, lost - k->lost);
    builder_get_stats(old, &stats);
    out->result = (struct record_result){.pid = w->result.pid, .duration_ns = when - k->since_ns};
    out->result.builders[kind] = old;
    for (uint32_t i = 0; i < k->use_count; i++)
        out->uses[i] = k->uses[i];
    out->use_count = k->use_count;
    k->count += stats.samples;
    k->ns += stats.ns;
    k->since_ns = when;
    k->lost = lost;
    return 0;
}

// Events are on of what somebody wants.
static int switch_events(struct ebpf_watch *w, struct fscope_error *err)
{
    uint32_t wanted = OF_TIME & ~w->e->unwanted;
    bool has_cpu = wanted & (BIT(RECORD_CPU) | BIT(RECORD_WALL));
    bool has_waits = wanted & (BIT(RECORD_OFFCPU) | BIT(RECORD_WALL));
    int rc = bpf_programs_sample_cpu(w->e->programs, has_cpu);
    if (rc)
        return error_set(err, rc, 0, "perf events: %s", strerror(-rc));
    if (has_waits == w->has_waits)
        return 0;
    rc = bpf_programs_sample_waits(w->e->programs, has_waits);
    if (rc)
        return error_set(err, rc, 0, "the scheduler's tracepoints: %s", strerror(-rc));
    w->has_waits = has_waits;
    return has_waits ? ebpf_take_waiting(w->e, err) : 0;
}

static int switch_on(struct ebpf_watch *w, enum record_kind kind, struct part *before,
                     struct fscope_error *err)
{
    bool is_first = w->e->unwanted & BIT(kind);
    w->e->unwanted &= ~BIT(kind);
    int rc = is_first ? switch_events(w, err) : 0;
    if (!rc && (rc = take_part(w, kind, false, before)))
        error_set(err, rc, 0, "recording: %s", strerror(-rc));
    if (rc && is_first) {
        w->e->unwanted |= BIT(kind);
        ebpf_keys_again(w->e);
        switch_events(w, NULL);
    }
    return rc;
}

static int switch_off(struct ebpf_watch *w, enum record_kind kind, struct part *part,
                      struct fscope_error *err)
{
    bool is_last = w->kinds[kind].use_count == 1;
    int rc = take_part(w, kind, is_last, part);
    if (rc && is_last) {
        w->e->unwanted |= BIT(kind);
        ebpf_keys_again(w->e);
    }
    if (is_last)
        switch_events(w, NULL);
    return rc ? error_set(err, rc, 0, "recording: %s", strerror(-rc)) : 0;
}

// --- Profiles. The watch's lock is not held.

static int make(struct record_result *part, enum record_kind kind, struct pprof_profile **out,
                struct fscope_error *err)
{
    struct builder_stats stats;
    char text[64];
    builder_get_stats(part->builders[kind], &stats);
    if (stats.lost) {
        snprintf(text, sizeof text, "dropped: %llu samples", (unsigned long long)stats.lost);
        builder_comment(part->builders[kind], text);
    }
    return record_make_profile(part, kind, NULL, out, err);
}

// *sum becomes one with p in it; NULL: of p alone.
static int add(struct pprof_profile **sum, struct pprof_profile *p, struct fscope_error *err)
{
    struct pprof_profile *all = NULL, *both[2] = {*sum ? *sum : p, p};
    int rc = pprof_merge(&all, both, *sum ? 2 : 1, err);
    if (rc)
        return rc;
    pprof_free(*sum);
    *sum = all;
    return 0;
}

// Who was there while it was recorded has it. Where there is no memory for it, the first one is told.
static int hand_out(struct kept *k, enum record_kind kind, struct part *part,
                    struct fscope_error *err)
{
    struct pprof_profile *p = NULL;
    int rc = part->use_count ? make(&part->result, kind, &p, err) : 0;
    pthread_mutex_lock(&k->making);
    for (uint32_t i = 0; i < part->use_count; i++) {
        rc = rc ? rc : add(&part->uses[i]->sum, p, err);
        part->uses[i]->parts_to_come--;
    }
    pthread_cond_broadcast(&k->made);
    pthread_mutex_unlock(&k->making);
    pprof_free(p);
    record_result_free(&part->result);
    return rc;
}

// --- Time.

static int begin_use(struct ebpf_watch *w, enum record_kind kind, struct use *u,
                     struct fscope_error *err)
{
    struct kept *k = &w->kinds[kind];
    struct part before = {0};
    int rc = 0;
    pthread_mutex_lock(&k->making);
    pthread_mutex_lock(&w->lock);
    if (k->use_count == USES_MAX || (k->use_count && is_of_waits(kind)))
        rc = error_set(err, -EBUSY, 0, "somebody else records this already");
    else
        rc = switch_on(w, kind, &before, err);
    for (uint32_t i = 0; i < before.use_count; i++)
        before.uses[i]->parts_to_come++;
    if (!rc)
        k->uses[k->use_count++] = u;
    u->since_ns = k->since_ns;
    pthread_mutex_unlock(&w->lock);
    pthread_mutex_unlock(&k->making);
    if (!rc)
        hand_out(k, kind, &before, NULL);
    return rc;
}

static void forget(struct kept *k, const struct use *u)
{
    for (uint32_t i = 0; i < k->use_count; i++)
        if (k->uses[i] == u)
            k->uses[i] = k->uses[--k->use_count];
}

static int end_use(struct ebpf_watch *w, enum record_kind kind, struct use *u,
                   struct fscope_error *err)
{
    struct kept *k = &w->kinds[kind];
    struct part part = {0};
    pthread_mutex_lock(&k->making);
    pthread_mutex_lock(&w->lock);
    int rc = switch_off(w, kind, &part, err);
    forget(k, u);
    for (uint32_t i = 0; i < part.use_count; i++)
        part.uses[i]->parts_to_come++;
    pthread_mutex_unlock(&w->lock);
    pthread_mutex_unlock(&k->making);
    if (!rc)
        rc = hand_out(k, kind, &part, err);
    pthread_mutex_lock(&k->making);
    while (u->parts_to_come)
        pthread_cond_wait(&k->made, &k->making);
    pthread_mutex_unlock(&k->making);
    return rc;
}

static void wait_until_over(struct ebpf_watch *w, const struct ebpf_watch_stream *how,
                            uint64_t since_ns)
{
    uint64_t passed = record_now_ns(CLOCK_MONOTONIC) - since_ns;
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
        passed = record_now_ns(CLOCK_MONOTONIC) - since_ns;
    }
}

int ebpf_watch_sample(struct ebpf_watch *w, const struct ebpf_watch_stream *how,
                      struct pprof_profile **out, struct fscope_error *err)
{
    struct use use = {0};
    *out = NULL;
    int rc = begin_use(w, how->kind, &use, err);
    if (rc)
        return rc;
    wait_until_over(w, how, use.since_ns);
    rc = end_use(w, how->kind, &use, err);
    if (!rc && !use.sum)
        rc = error_set(err, -ENOMEM, 0, "out of memory");
    if (rc)
        pprof_free(use.sum);
    else
        *out = use.sum;
    return rc;
}

// --- Contention.

// What was recorded since the last time is in the sum. `making` is held.
static int add_part(struct ebpf_watch *w, enum record_kind kind, struct fscope_error *err)
{
    struct kept *k = &w->kinds[kind];
    struct part part = {0};
    struct pprof_profile *p = NULL;
    pthread_mutex_lock(&w->lock);
    int rc = take_part(w, kind, false, &part);
    pthread_mutex_unlock(&w->lock);
    if (rc)
        return error_set(err, rc, 0, "recording: %s", strerror(-rc));
    rc = make(&part.result, kind, &p, err);
    if (!rc)
        rc = add(&k->sum, p, err);
    if (!rc && lock_labels_bound(&k->locks, &k->sum, p, LOCKS_MAX))
        rc = error_set(err, -ENOMEM, 0, "out of memory");
    pprof_free(p);
    record_result_free(&part.result);
    return rc;
}

int ebpf_watch_state(struct ebpf_watch *w, enum record_kind kind, struct pprof_profile **out,
                     struct fscope_error *err)
{
    struct kept *k = &w->kinds[kind];
    *out = NULL;
    pthread_mutex_lock(&k->making);
    int rc = add_part(w, kind, err);
    if (!rc)
        rc = pprof_merge(out, &k->sum, 1, err);
    pthread_mutex_unlock(&k->making);
    return rc;
}

uint64_t ebpf_watch_stacks(struct ebpf_watch *w, enum record_kind kind)
{
    struct kept *k = &w->kinds[kind];
    pthread_mutex_lock(&k->making);
    uint64_t count = add_part(w, kind, NULL) ? 0 : k->sum->sample_count;
    pthread_mutex_unlock(&k->making);
    return count;
}

void ebpf_watch_totals(struct ebpf_watch *w, struct ebpf_watch_total totals[RECORD_KIND_COUNT])
{
    pthread_mutex_lock(&w->lock);
    ebpf_take_sums(w->e, false); // what fails comes with the next
    for (int kind = 0; kind < RECORD_KIND_COUNT; kind++) {
        struct builder_stats stats = {0};
        const struct builder *b = w->result.builders[kind];
        if (b)
            builder_get_stats(b, &stats);
        totals[kind] = (struct ebpf_watch_total){.is_recorded = b != NULL,
                                                 .count = w->kinds[kind].count + stats.samples,
                                                 .ns = w->kinds[kind].ns + stats.ns};
    }
    pthread_mutex_unlock(&w->lock);
}
