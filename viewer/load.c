// SPDX-License-Identifier: MIT
//
// See load.h. Two hold a load, who started it and its thread; the last to let go frees it.

#include "viewer/load.h"

#include "analysis/trace/kernel.h"
#include "viewer/http.h"
#include "viewer/kernel_model.h"
#include "viewer/load_kernel.h"
#include "viewer/load_notes.h"
#include "viewer/pipe.h"
#include "viewer/profile_model.h"
#include "viewer/trace_model.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { WAKE_MS = 50, WAKE_SLOWLY_MS = 200, PART_MS = 150, PART_TIMES = 3 };
enum { MANY_SAMPLES = 100000, PART_SAMPLES = 10000 };

#define PIPE_BYTES_MAX (UINT64_C(4) << 30)

enum what { READING, FETCHING, BUILDING, SALVAGING };
static const char *const whats[] = {"reading", "fetching", "building the view",
                                    "reading what is whole"};

struct load {
    struct load_options o;
    char *path, *sample_type, *diff_base, *kernel;
    bool is_kernel;  // that trace is read now: no part of it is shown
    int64_t base_ns; // of the trace of fibers, then
    struct loaded result;
    struct fscope_error err;
    int rc;
    _Atomic int what;
    _Atomic uint64_t done_bytes, total_bytes;
    _Atomic bool is_done; // release: result, err and rc are there
    _Atomic bool is_cancelled;
    _Atomic int holders;
    pthread_mutex_t waking;        // held while `wake` runs, so that none runs after load_cancel
    int64_t woken_ms;              // the thread's
    _Atomic(struct loaded *) part; // release: pairs with the acquire in load_part
    _Atomic bool has_part;         // one has been made
    int64_t began_ms, part_due_ms;
};

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static bool cancelled(struct load *l)
{
    return atomic_load_explicit(&l->is_cancelled, memory_order_relaxed);
}

static void wake(struct load *l, bool now)
{
    int64_t ms = now_ms();
    // While a part is shown, each call is a frame of it.
    int64_t least =
        atomic_load_explicit(&l->has_part, memory_order_relaxed) ? WAKE_SLOWLY_MS : WAKE_MS;
    if (!l->o.wake || (!now && ms - l->woken_ms < least))
        return;
    if (!now)
        l->woken_ms = ms;
    pthread_mutex_lock(&l->waking);
    if (!cancelled(l))
        l->o.wake(l->o.context);
    pthread_mutex_unlock(&l->waking);
}

// What it does; false: stop.
static bool say(struct load *l, enum what what)
{
    atomic_store_explicit(&l->what, (int)what, memory_order_relaxed);
    wake(l, false);
    return !cancelled(l);
}

static void say_bytes(struct load *l, uint64_t done, uint64_t total)
{
    atomic_store_explicit(&l->done_bytes, done, memory_order_relaxed);
    atomic_store_explicit(&l->total_bytes, total, memory_order_relaxed);
}

// --- Traces. How far it is says the place of the event that is read.

// Parts become rarer as reading goes on: all together take a fraction of its time.
static bool part_is_due(void *load, uint64_t offset)
{
    struct load *l = load;
    int64_t ms = now_ms();
    // Events are in order of time, so not quite in the file's.
    if (offset > atomic_load_explicit(&l->done_bytes, memory_order_relaxed))
        atomic_store_explicit(&l->done_bytes, offset, memory_order_relaxed);
    wake(l, false);
    if (ms < l->part_due_ms || cancelled(l))
        return false;
    if (l->o.part_ms >= 0)
        l->part_due_ms = l->began_ms + PART_TIMES * (ms - l->began_ms);
    return true;
}

static bool is_stopped(void *load)
{
    return cancelled(load);
}

static void free_part(struct loaded *part)
{
    if (part)
        loaded_free(part);
    free(part);
}

// Takes over what it is given.
static void show(struct load *l, struct trace_model *trace, struct profile_model *profile)
{
    struct loaded *part = malloc(sizeof *part), is = {.trace = trace, .profile = profile};
    if (!part) {
        loaded_free(&is);
        return;
    }
    *part = is;
    // acq_rel: the part is whole before others see it, and an older one is ours again.
    free_part(atomic_exchange_explicit(&l->part, part, memory_order_acq_rel));
    atomic_store_explicit(&l->has_part, true, memory_order_relaxed);
    wake(l, true);
}

static void show_part(void *load, struct trace_model *part)
{
    show(load, part, NULL);
}

bool load_part(struct load *l, struct loaded *out)
{
    struct loaded *part = atomic_exchange_explicit(&l->part, NULL, memory_order_acquire);
    *out = part ? *part : (struct loaded){0};
    free(part);
    return part;
}

// Where a trace's bytes are: in a file, or in memory.
struct source {
    int fd; // -1: memory
    const char *bytes;
    uint64_t size_bytes;
};

static int open_reader(struct trace_reader **r, const struct source *s,
                       const struct trace_reader_options *o, struct fscope_error *err)
{
    if (s->fd < 0)
        return trace_reader_open_memory(r, s->bytes, s->size_bytes, o, err);
    if (lseek(s->fd, 0, SEEK_SET))
        return error_set(err, -errno, 0, "%s", strerror(errno));
    // A file that can be read at random: events come before all of their generation is read, which may be all of the file.
    return trace_reader_open_fd(r, s->fd, o, err);
}

struct how_whole { // as far as the bytes make sense
    uint32_t generations;
    bool has_rest;
    uint64_t bytes;
};

static int read_once(struct load *l, const struct source *s, const struct trace_reader_options *o,
                     struct loaded *out, struct how_whole *whole, struct fscope_error *err)
{
    struct trace_reader *r = NULL;
    bool is_seen = l->o.wake && !l->is_kernel;
    const struct trace_model_watch watch = {.due = is_seen ? part_is_due : NULL,
                                            .stopped = is_stopped,
                                            .show = is_seen ? show_part : NULL,
                                            .context = l,
                                            .keeps = o->rest};
    l->began_ms = now_ms();
    l->part_due_ms = l->began_ms + (l->o.part_ms ? l->o.part_ms : PART_MS);
    int rc = open_reader(&r, s, o, err);
    if (!rc)
        rc = trace_model_watched(&out->trace, r, &watch, err);
    if (!rc)
        load_say_notes(out, r, l->is_kernel ? l->base_ns : out->trace->begin_ns);
    const struct trace_error *e = r ? trace_reader_error(r) : NULL;
    if (e) {
        whole->generations = trace_reader_whole(r, &whole->has_rest);
        whole->bytes = e->offset;
    }
    trace_reader_close(r);
    return rc;
}

static void say_damage(struct loaded *out, const struct source *s, const struct how_whole *w,
                       const char *why)
{
    double seconds = (double)(out->trace->end_ns - out->trace->begin_ns) / 1e9;
    char generations[96] = "its first generation as far as it goes", share[24] = "";
    if (w->generations)
        snprintf(generations, sizeof generations, "%" PRIu32 " whole generation%s%s",
                 w->generations, w->generations == 1 ? "" : "s",
                 w->has_rest ? " and the next as far as it goes" : "");
    if (w->bytes < s->size_bytes)
        snprintf(share, sizeof share, " (%.0f %%)", 100 * (double)w->bytes / (double)s->size_bytes);
    snprintf(out->missing, sizeof out->missing,
             "Only what stands before the damage is shown: %s, %.6gs; the damage is at byte "
             "%" PRIu64 " of %" PRIu64 "%s. %s",
             generations, seconds, w->bytes, s->size_bytes, share, why);
}

// What is whole, as the reports do with --salvage; if nothing is, what there is of the first generation.
static int salvage_trace(struct load *l, const struct source *s, struct how_whole *whole,
                         struct loaded *out)
{
    const struct trace_reader_options salvage = {
        .size = sizeof salvage, .salvage = true, .stopped = is_stopped, .stopped_context = l};
    const struct trace_reader_options rest = {.size = sizeof rest, .rest = true};
    struct fscope_error err = {0};
    struct how_whole none = {0};
    if (!say(l, SALVAGING))
        return -ECANCELED;
    say_bytes(l, 0, s->size_bytes);
    if (whole->generations || whole->has_rest)
        return read_once(l, s, &salvage, out, &none, &err);
    return read_once(l, s, &rest, out, whole, &err);
}

static int read_trace(struct load *l, const struct source *s, struct loaded *out,
                      struct fscope_error *err)
{
    const struct trace_reader_options all = {.size = sizeof all};
    struct how_whole whole = {0};
    say_bytes(l, 0, s->size_bytes);
    int rc = read_once(l, s, &all, out, &whole, err);
    // What the system refuses, it refuses again; what is wrong in the file is wrong at some place.
    if ((rc == -EINVAL || rc == -ENODATA) && !cancelled(l) && !salvage_trace(l, s, &whole, out)) {
        say_damage(out, s, &whole, err->text);
        rc = 0;
    }
    return cancelled(l) ? error_set(err, -ECANCELED, 0, "cancelled") : rc;
}

// --- Profiles. What is wrong with them is said of the path; the profile is in memory at once.

// Adding up a million stacks takes longer than anyone wants to look at a bar.
static void show_some(struct load *l, const struct pprof_profile *p)
{
    struct profile_model *part;
    if (!l->o.wake || p->sample_count < MANY_SAMPLES)
        return;
    if (!profile_model_part(&part, p, PART_SAMPLES, l->o.path, l->o.sample_type, l->o.inverted,
                            NULL))
        show(l, NULL, part);
}

// Of gperftools and jemalloc: addresses, and files that may have their names.
static void say_nameless(struct load *l, const struct pprof_profile *p, struct loaded *out)
{
    size_t nameless = 0;
    for (size_t i = 0; i < p->location_count; i++)
        nameless += !p->locations[i]->line_count && p->locations[i]->mapping &&
                    *p->locations[i]->mapping->file == '/';
    if (nameless * 2 > p->location_count && !*out->missing && !http_is_url(l->o.path))
        snprintf(out->missing, sizeof out->missing,
                 "Addresses without names: `fiberscope symbolize -o named.pb.gz %.300s` finds them",
                 l->o.path);
}

static int model_profile(struct load *l, struct pprof_profile *p, struct pprof_profile *base,
                         struct loaded *out, struct fscope_error *err)
{
    struct profile_file *f;
    int rc = profile_file_of(&f, p, l->o.path, base, l->o.diff_base, err);
    if (rc)
        return rc;
    if (!base)
        show_some(l, p);
    say_nameless(l, p, out);
    if (!say(l, BUILDING))
        rc = error_set(err, -ECANCELED, 0, "cancelled");
    else
        rc = profile_model_first(&out->profile, f, l->o.sample_type, l->o.inverted, err);
    if (rc)
        profile_file_free(f);
    else
        out->file = f;
    return rc;
}

// Of bytes, or of a file.
static int parse_profile(struct pprof_profile **out, const char *path, const void *bytes,
                         size_t size, const struct pprof_read_options *o, struct fscope_error *err)
{
    if (bytes) {
        int rc = pprof_read_memory(out, bytes, size, o, err);
        return rc ? error_prefix(err, "%s", path) : 0;
    }
    return pprof_read_file(out, path, o, err);
}

// Of what cannot be read whole, as err says.
static int salvage_profile(struct load *l, const void *bytes, size_t size, struct pprof_profile **p,
                           struct loaded *out, struct fscope_error *err)
{
    uint64_t whole = 0;
    struct pprof_read_options o = {.size = sizeof o, .salvage = true, .salvaged_samples = &whole};
    struct fscope_error again = {0};
    // The reports have an option for this, this program does it.
    char *hint = strstr(err->text, " (--salvage");
    if (hint)
        *hint = 0;
    if (parse_profile(p, l->o.path, bytes, size, &o, &again))
        return err->code;
    if (!whole) {
        pprof_free(*p);
        again = *err;
        return error_set(err, again.code, again.offset, "%.300s; no sample is whole", again.text);
    }
    snprintf(out->missing, sizeof out->missing,
             "Only what is whole is shown, %" PRIu64 " sample%s: %s", whole, whole == 1 ? "" : "s",
             err->text);
    return 0;
}

static int read_profile(struct load *l, const void *bytes, size_t size, struct loaded *out,
                        struct fscope_error *err)
{
    struct pprof_profile *p = NULL, *base = NULL;
    int rc = parse_profile(&p, l->o.path, bytes, size, NULL, err);
    if (rc == -ENODATA || rc == -EINVAL)
        rc = salvage_profile(l, bytes, size, &p, out, err);
    if (!rc && l->o.diff_base && (rc = parse_profile(&base, l->o.diff_base, NULL, 0, NULL, err)))
        pprof_free(p);
    return rc ? rc : model_profile(l, p, base, out, err);
}

// --- Files and addresses.

static bool is_trace(const char *bytes, size_t n)
{
    return n >= 5 && !memcmp(bytes, "go 1.", 5);
}

// Of a trace or a profile in memory.
static int read_bytes(struct load *l, const char *bytes, size_t size, struct loaded *out,
                      struct fscope_error *err)
{
    const struct source s = {.fd = -1, .bytes = bytes, .size_bytes = size};
    if (!say(l, READING))
        return error_set(err, -ECANCELED, 0, "cancelled");
    if (!is_trace(bytes, size))
        return read_profile(l, bytes, size, out, err);
    int rc = read_trace(l, &s, out, err);
    return rc ? error_prefix(err, "%s", l->o.path) : 0;
}

static bool pipe_progress(void *context, uint64_t done)
{
    say_bytes(context, done, 0);
    return say(context, READING);
}

static int read_pipe(struct load *l, struct loaded *out, struct fscope_error *err)
{
    char *bytes;
    size_t size;
    int rc = pipe_read(l->o.path, PIPE_BYTES_MAX, pipe_progress, l, &bytes, &size);
    if (rc == -EFBIG)
        return error_set(
            err, rc, 0, "%s: more than the viewer takes from a pipe: make a file of it", l->o.path);
    if (rc)
        return error_set(err, rc, 0, "%s: %s", l->o.path, strerror(-rc));
    rc = read_bytes(l, bytes, size, out, err);
    free(bytes);
    return rc;
}

// --- The kernel trace beside a trace.

static int read_kernel_file(void *load, const char *path, struct loaded *part,
                            struct fscope_error *err)
{
    struct load *l = load;
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, &st)) {
        if (fd >= 0)
            close(fd);
        return error_set(err, -errno, 0, "%s", strerror(errno));
    }
    const struct source s = {.fd = fd, .size_bytes = (uint64_t)st.st_size};
    int rc = S_ISREG(st.st_mode) ? read_trace(l, &s, part, err)
                                 : error_set(err, -EINVAL, 0, "no regular file");
    close(fd);
    return rc;
}

static bool build_kernel(void *load)
{
    return say(load, BUILDING);
}

static int read_kernel(struct load *l, struct loaded *out, struct fscope_error *err)
{
    const struct load_kernel_reader reader = {read_kernel_file, build_kernel, l};
    char path[PATH_MAX];
    if (l->o.kernel)
        snprintf(path, sizeof path, "%s", l->o.kernel);
    else if (trace_kernel_path(path, sizeof path, l->o.path) || access(path, F_OK) ||
             kernel_trace_is(out->trace->spans))
        return 0;
    if (l->o.wake) { // the trace is there, and is not kept waiting
        trace_model_hold(out->trace);
        show(l, out->trace, NULL);
    }
    l->base_ns = out->trace->begin_ns;
    l->is_kernel = true;
    load_kernel(&reader, path, out);
    l->is_kernel = false;
    return cancelled(l) ? error_set(err, -ECANCELED, 0, "cancelled") : 0;
}

static int read_file(struct load *l, struct loaded *out, struct fscope_error *err)
{
    char begin[8];
    struct stat st;
    int fd = open(l->o.path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    ssize_t n = fd < 0 ? 0 : pread(fd, begin, sizeof begin, 0);
    if (n <= 0 || !is_trace(begin, (size_t)n) || fstat(fd, &st)) {
        if (fd >= 0)
            close(fd);
        say(l, READING);
        return read_profile(l, NULL, 0, out, err);
    }
    const struct source s = {.fd = fd, .size_bytes = (uint64_t)st.st_size};
    int rc = read_trace(l, &s, out, err);
    close(fd);
    return rc ? error_prefix(err, "%s", l->o.path) : read_kernel(l, out, err);
}

static bool fetch_progress(void *context, uint64_t done, uint64_t total)
{
    say_bytes(context, done, total);
    return say(context, FETCHING);
}

static int fetch(struct load *l, struct loaded *out, struct fscope_error *err)
{
    // A profile of 30 s says nothing for that long; nobody waits for more than ten minutes.
    static const struct http_limits limits = {
        .connect_ms = 10000, .silence_ms = 600000, .body_bytes_max = (size_t)2 << 30};
    char *body;
    size_t size;
    say(l, FETCHING);
    int rc = http_get(l->o.path, &limits, fetch_progress, l, &body, &size, err);
    if (rc)
        return rc;
    rc = read_bytes(l, body, size, out, err);
    free(body);
    return rc;
}

static int run(struct load *l, struct loaded *out, struct fscope_error *err)
{
    int rc = http_is_url(l->o.path) ? fetch(l, out, err)
             : pipe_is(l->o.path)   ? read_pipe(l, out, err)
                                    : read_file(l, out, err);
    if (rc && err && !err->code)
        error_set(err, rc, 0, "%s: %s", l->o.path, strerror(-rc));
    return rc;
}

int load_now(const struct load_options *o, struct loaded *out, struct fscope_error *err)
{
    struct load l = {.o = *o};
    l.o.wake = NULL;
    *out = (struct loaded){0};
    return run(&l, out, err);
}

// --- The thread.

static void let_go(struct load *l)
{
    // acq_rel: what one did to it is done before the other frees it.
    if (atomic_fetch_sub_explicit(&l->holders, 1, memory_order_acq_rel) > 1)
        return;
    loaded_free(&l->result);
    free_part(atomic_load(&l->part));
    pthread_mutex_destroy(&l->waking);
    free(l->path);
    free(l->sample_type);
    free(l->diff_base);
    free(l->kernel);
    free(l);
}

static void *thread(void *context)
{
    struct load *l = context;
    l->rc = run(l, &l->result, &l->err);
    // release: pairs with the acquire in load_look.
    atomic_store_explicit(&l->is_done, true, memory_order_release);
    wake(l, true);
    let_go(l);
    return NULL;
}

int load_start(struct load **out, const struct load_options *o)
{
    pthread_t t;
    pthread_attr_t detached;
    struct load *l = calloc(1, sizeof *l);
    *out = NULL;
    if (!l)
        return -ENOMEM;
    l->o = *o;
    l->o.path = l->path = strdup(o->path);
    l->o.sample_type = l->sample_type = o->sample_type ? strdup(o->sample_type) : NULL;
    l->o.diff_base = l->diff_base = o->diff_base ? strdup(o->diff_base) : NULL;
    l->o.kernel = l->kernel = o->kernel ? strdup(o->kernel) : NULL;
    pthread_mutex_init(&l->waking, NULL);
    atomic_store(&l->holders, 2);
    int rc = !l->path || (o->sample_type && !l->sample_type) || (o->diff_base && !l->diff_base) ||
                     (o->kernel && !l->kernel)
                 ? ENOMEM
                 : 0;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    if (!rc)
        rc = pthread_create(&t, &detached, thread, l);
    pthread_attr_destroy(&detached);
    if (rc) {
        atomic_store(&l->holders, 1);
        let_go(l);
        return -rc;
    }
    *out = l;
    return 0;
}

void load_look(const struct load *l, struct load_progress *p)
{
    uint64_t done = atomic_load_explicit(&l->done_bytes, memory_order_relaxed);
    uint64_t total = atomic_load_explicit(&l->total_bytes, memory_order_relaxed);
    int what = atomic_load_explicit(&l->what, memory_order_relaxed);
    *p = (struct load_progress){.what = whats[what],
                                .part = -1,
                                .done_bytes = done,
                                .total_bytes = total,
                                // acquire: pairs with the release in thread.
                                .done = atomic_load_explicit(&l->is_done, memory_order_acquire)};
    if (total && what != BUILDING)
        p->part = done < total ? (double)done / (double)total : 1;
}

int load_take(struct load *l, struct loaded *out, struct fscope_error *err)
{
    *out = l->result;
    l->result = (struct loaded){0};
    int rc = l->rc;
    if (rc && err)
        *err = l->err;
    load_cancel(l); // its last wake may be on its way
    return rc;
}

void load_cancel(struct load *l)
{
    if (!l)
        return;
    pthread_mutex_lock(&l->waking);
    atomic_store_explicit(&l->is_cancelled, true, memory_order_relaxed);
    pthread_mutex_unlock(&l->waking);
    let_go(l);
}

void loaded_free(struct loaded *l)
{
    kernel_model_free(l->kernel);
    trace_model_free(l->trace);
    profile_model_free(l->profile);
    profile_file_free(l->file);
    *l = (struct loaded){0};
}
