// SPDX-License-Identifier: MIT
//
// See session.h: opening and closing, state, and what is counted. Streams are in session_stream.c.
//
// Each call has a reader, a feed and builders of its own, so that calls do not wait for each other; what they share is
// the segment's descriptor, which does not change, and the call, whose use is one at a time.

#include "collector/session_internal.h"

#include "collector/feed_internal.h"
#include "collector/fibers.h"
#include "collector/mapped_file.h"
#include "collector/perf_event.h"
#include "collector/perf_target.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { NAMES_MAX = 64 }; // of custom profiles that are listed
#define LOADING_NS UINT64_C(10000000000)

// --- Opening.

static bool is_on(const _Atomic uint64_t *word)
{
    return atomic_load_explicit(word, memory_order_relaxed) != 0;
}

// What cannot be switched on is told when it is asked for.
static void switch_on(struct session *s, const struct session_options *o)
{
    const struct call_wish locks = {
        .what = (o->block_ns ? SEG_ASK_BLOCK : 0u) | (o->mutex_fraction ? SEG_ASK_MUTEX : 0u),
        .hold = (o->block_ns ? 1u << SEG_HELD_BLOCK : 0u) |
                (o->mutex_fraction ? 1u << SEG_HELD_MUTEX : 0u),
        .block_ns = o->block_ns,
        .mutex_fraction = o->mutex_fraction,
    };
    const struct call_wish heap = {
        .what = SEG_ASK_HEAP, .hold = 1u << SEG_HELD_HEAP, .heap_bytes = o->heap_bytes};
    if (!seg_reader_control(s->reader))
        return;
    if (locks.what)
        call_ask(&s->call, s->reader, &locks, NULL);
    if (!o->heap_bytes)
        return;
    int rc = call_ask(&s->call, s->reader, &heap, &s->heap_why);
    if (rc && rc != -EALREADY && !s->heap_why.text[0])
        error_set(&s->heap_why, rc, 0, "%s",
                  rc == -ENOTSUP ? "its allocator cannot be seen"
                  : rc == -EBUSY
                      ? "it can be recorded at one rate alone, and every allocation only "
                        "from the program's start on"
                      : strerror(-rc));
}

static void switch_off(struct session *s)
{
    const struct call_wish w = {.what = SEG_ASK_LOOK, .let_go = ~0u};
    if (s->reader && seg_reader_is_holding(s->reader))
        call_ask(&s->call, s->reader, &w, NULL);
}

// What tells one image of a process from the next: where the kernel put things when it began. 0: not to be had.
static uint64_t image_of(uint32_t pid)
{
    char path[64];
    uint64_t words[128] = {0}, hash = 14695981039346656037u;
    snprintf(path, sizeof path, "/proc/%u/auxv", pid);
    FILE *f = fopen(path, "re");
    size_t n = f ? fread(words, sizeof words[0], 128, f) : 0;
    if (f)
        fclose(f);
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ words[i]) * 1099511628211u;
    return n ? hash : 0;
}

static void close_agent(struct session *s)
{
    seg_reader_close(s->reader);
    call_close(&s->call);
    if (s->segment >= 0)
        close(s->segment);
    s->reader = NULL;
    s->segment = -1;
    s->regions_asked_ns = 0;
    s->way = SESSION_OUTSIDE;
}

static int open_agent(struct session *s, const struct session_options *o, struct fscope_error *err)
{
    struct agent_hello hello;
    s->image = image_of(s->pid);
    int rc = call_open(&s->call, s->pid, err);
    if (!rc)
        rc = call_fetch(&s->call, &s->segment, &hello, err);
    int fd = rc ? -1 : fcntl(s->segment, F_DUPFD_CLOEXEC, 0);
    if (!rc && fd < 0)
        rc = error_set(err, -errno, 0, "process %u: %s", s->pid, strerror(errno));
    if (!rc)
        rc = seg_reader_open_parts(&s->reader, fd, SEG_READER_STATE, err);
    if (rc) {
        close_agent(s);
        return rc;
    }
    s->way = SESSION_AGENT;
    switch_on(s, o);
    return 0;
}

// s->lock held. The program may have executed another one since: what it left is gone, and the new image is asked.
static void look_again(struct session *s)
{
    uint64_t now = image_of(s->pid);
    if (!now || now == s->image || s->wished.method == SESSION_ONLY_OUTSIDE || s->kernel)
        return;
    uint64_t old = s->image, now_ns = record_now_ns(CLOCK_MONOTONIC);
    if (s->changed_to != now)
        s->changed_ns = now_ns;
    s->changed_to = now;
    close_agent(s);
    s->why = (struct fscope_error){0};
    int rc = open_agent(s, &s->wished, &s->why);
    // It may be loading still: asked again, for a while.
    bool may_come = rc == -ENOENT || rc == -EOPNOTSUPP || rc == -ETIMEDOUT;
    s->image = may_come && now_ns - s->changed_ns < LOADING_NS ? old : now;
}

int session_segment(struct session *s)
{
    pthread_mutex_lock(&s->lock);
    look_again(s);
    int fd = s->segment < 0 ? -ENODATA : fcntl(s->segment, F_DUPFD_CLOEXEC, 0);
    int rc = fd >= 0 ? fd : s->segment < 0 ? fd : -errno;
    pthread_mutex_unlock(&s->lock);
    return rc;
}

int session_open(struct session **out, const struct session_options *opts, struct fscope_error *err)
{
    struct session_options o = {0};
    struct perf_target who;
    memcpy(&o, opts, opts->size < sizeof o ? opts->size : sizeof o);
    *out = NULL;
    int rc = perf_target_look(&who, o.pid, err);
    if (rc)
        return rc;
    struct session *s = calloc(1, sizeof *s);
    if (!s)
        return error_set(err, -ENOMEM, 0, "out of memory");
    pthread_mutex_init(&s->lock, NULL);
    s->pid = o.pid;
    s->wished = o;
    s->segment = -1;
    s->way = SESSION_OUTSIDE;
    snprintf(s->program, sizeof s->program, "%s", who.name);
    s->pidfd = (int)syscall(SYS_pidfd_open, (pid_t)o.pid, 0);
    if (s->pidfd < 0)
        rc = error_set(err, -errno, 0, "process %u: %s", o.pid, strerror(errno));
    if (!rc && o.method == SESSION_ONLY_KERNEL) {
        rc = session_kernel_open(s, err);
    } else if (!rc && o.method != SESSION_ONLY_OUTSIDE) {
        rc = open_agent(s, &o, &s->why);
        if (rc && o.method == SESSION_AUTO && rc != -ESRCH && rc != -ENOMEM)
            rc = 0; // from outside, then; session_why says why
        else if (rc)
            error_set(err, rc, 0, "%s", s->why.text);
    }
    if (rc) {
        session_close(s);
        return rc;
    }
    if (!s->kernel)
        perf_event_try((pid_t)o.pid, s->cpu_why, sizeof s->cpu_why);
    *out = s;
    return 0;
}

void session_close(struct session *s)
{
    if (!s)
        return;
    switch_off(s);
    session_kernel_close(s);
    close_agent(s);
    if (s->pidfd >= 0)
        close(s->pidfd);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

bool session_is_by_kernel(const struct session *s)
{
    return s->kernel;
}

enum session_way session_way(const struct session *s)
{
    return s->way;
}

const char *session_why(const struct session *s)
{
    return s->way == SESSION_AGENT ? "" : s->why.text;
}

const char *session_cpu_why(const struct session *s)
{
    return s->way == SESSION_AGENT ? "" : s->cpu_why;
}

uint32_t session_pid(const struct session *s)
{
    return s->pid;
}

const char *session_program(const struct session *s)
{
    return s->program;
}

uint64_t session_image(const struct session *s)
{
    return image_of(s->pid);
}

int session_fd(const struct session *s)
{
    return s->pidfd;
}

// --- State in the segment.

int session_open_module(void *arg, const struct seg_module *m, const char *path,
                        const char *build_id)
{
    const struct session *s = arg;
    return mapped_module_open(s->pid, m, path, build_id);
}

static int new_builder(struct record_result *result, int kind, uint64_t rate_bytes)
{
    struct builder_options bo = {
        .size = sizeof bo,
        .kind = record_seg_kind(kind),
        .rate_bytes = rate_bytes,
        .real_ns = record_now_ns(CLOCK_REALTIME),
    };
    return builder_new(&result->builders[kind], &bo);
}

// Everything of one kind, as it is now, into result's builder of it.
static int read_state(struct session *s, int kind, struct record_result *result,
                      struct fscope_error *err)
{
    struct seg_reader *reader = NULL;
    struct feed feed = {0};
    int fd = session_segment(s);
    if (fd < 0)
        return error_set(err, fd, 0, "process %u: %s", s->pid, strerror(-fd));
    int rc = seg_reader_open_parts(&reader, fd, SEG_READER_STATE, err);
    if (rc)
        return rc;
    const struct seg_header *h = seg_reader_header(reader);
    uint64_t rate = atomic_load_explicit(&h->control.heap_rate_bytes, memory_order_relaxed);
    rc = new_builder(result, kind, rate);
    if (!rc)
        rc = feed_init(&feed, reader, result->builders, s->pid, session_open_module, s);
    if (!rc)
        rc = feed_modules(&feed); // without them addresses mean nothing
    if (!rc)
        rc = feed_finish(&feed);
    if (rc)
        error_set(err, rc, 0, "process %u: %s", s->pid, strerror(-rc));
    result->pid = s->pid;
    result->duration_ns = record_now_ns(CLOCK_MONOTONIC) - h->mono_ns;
    feed_free(&feed);
    seg_reader_close(reader);
    return rc;
}

// 0, or why a profile of this kind has nothing to show.
static int check_locked(struct session *s, int kind, struct fscope_error *err)
{
    look_again(s);
    const struct seg_control *c = s->reader ? seg_reader_control(s->reader) : NULL;
    if (s->way != SESSION_AGENT)
        return error_set(err, -EOPNOTSUPP, 0, "no %s profile from outside: %s",
                         record_kind_name(kind), s->why.text);
    bool is_recorded = !c || kind == RECORD_CUSTOM ||
                       (kind == RECORD_HEAP    ? is_on(&c->heap_rate_bytes)
                        : kind == RECORD_BLOCK ? is_on(&c->block_rate_ns)
                                               : is_on(&c->mutex_fraction));
    if (is_recorded)
        return 0;
    if (kind == RECORD_HEAP && s->heap_why.text[0])
        return error_set(err, -EOPNOTSUPP, 0, "the heap is not recorded: %s", s->heap_why.text);
    const char *name = record_kind_name(kind);
    return error_set(err, -EOPNOTSUPP, 0,
                     "%s is not recorded in process %u: `fiberscope serve --%s -p %u` records it, "
                     "or FIBERSCOPE=%s from its start",
                     name, s->pid, name, s->pid,
                     kind == RECORD_HEAP    ? "heap=524288"
                     : kind == RECORD_BLOCK ? "block=10000"
                                            : "mutex=1");
}

static int check_recorded(struct session *s, int kind, struct fscope_error *err)
{
    pthread_mutex_lock(&s->lock);
    int rc = check_locked(s, kind, err);
    pthread_mutex_unlock(&s->lock);
    return rc;
}

static int has_part(void *arg, const char *part)
{
    return strcmp(arg, part) == 0;
}

static int state_profile(struct session *s, int kind, const char *part, struct pprof_profile **out,
                         struct fscope_error *err)
{
    struct record_result result = {0};
    if (s->kernel)
        return session_kernel_state(s, kind, out, err);
    int rc = check_recorded(s, kind, err);
    if (!rc)
        rc = read_state(s, kind, &result, err);
    if (!rc && part && !builder_each_part(result.builders[kind], has_part, (void *)(uintptr_t)part))
        rc = error_set(err, -ENOENT, 0, "process %u has no profile called %s", s->pid, part);
    if (!rc)
        rc = record_make_profile(&result, (enum record_kind)kind, part, out, err);
    record_result_free(&result);
    return rc;
}

// --- Fibers and threads, of now.

static int fibers_now(struct session *s, struct record_result *result, struct fscope_error *err)
{
    struct target *t = NULL;
    struct fibers *f = NULL;
    int rc = target_open_pid(&t, s->pid, err);
    if (!rc)
        rc = fibers_open(&f, t, err);
    if (!rc) {
        int64_t n = fibers_profile(f, result->builders[RECORD_CUSTOM]);
        if (n < 0)
            rc = error_set(err, (int)n, 0, "fibers of process %u: cannot be read", s->pid);
    }
    fibers_close(f);
    target_close(t);
    return rc;
}

static int now_profile(struct session *s, const char *name, struct pprof_profile **out,
                       struct fscope_error *err)
{
    struct record_result result = {.pid = s->pid};
    int rc = new_builder(&result, RECORD_CUSTOM, 0);
    if (rc)
        return error_set(err, rc, 0, "out of memory");
    if (strcmp(name, "goroutine") == 0) {
        rc = fibers_now(s, &result, err);
        if (rc == -ENOENT) // no runtime: threads are what it has
            rc = session_threads(s, &result, name, err);
    } else {
        rc = session_threads(s, &result, name, err);
    }
    if (!rc)
        rc = record_make_profile(&result, RECORD_CUSTOM, name, out, err);
    if (!rc && !strcmp(name, "threadcreate"))
        session_threads_unite(*out);
    record_result_free(&result);
    return rc;
}

int session_profile(struct session *s, const char *name, struct pprof_profile **out,
                    struct fscope_error *err)
{
    *out = NULL;
    if (!strcmp(name, "goroutine") || !strcmp(name, "threadcreate") || !strcmp(name, "threads"))
        return now_profile(s, name, out, err);
    if (!strcmp(name, "heap") || !strcmp(name, "allocs")) {
        int rc = state_profile(s, RECORD_HEAP, NULL, out, err);
        if (!rc && !strcmp(name, "allocs"))
            (*out)->default_sample_type = "alloc_space";
        return rc;
    }
    for (int kind = RECORD_BLOCK; kind <= RECORD_MUTEX; kind++)
        if (!strcmp(name, record_kind_name(kind)))
            return state_profile(s, kind, NULL, out, err);
    if (s->way != SESSION_AGENT)
        return error_set(err, -ENOENT, 0, "process %u has no profile called %s", s->pid, name);
    return state_profile(s, RECORD_CUSTOM, name, out, err);
}

// --- What there is.

struct listing {
    struct session *s;
    struct seg_reader *reader;
    uint64_t counts[RECORD_KIND_COUNT];
    struct {
        char name[128];
        uint64_t count;
    } names[NAMES_MAX];
    size_t name_count;
};

static void list_name(struct listing *l, const char *name, uint64_t more)
{
    for (size_t i = 0; i < l->name_count; i++)
        if (!strcmp(l->names[i].name, name)) {
            l->names[i].count += more;
            return;
        }
    if (l->name_count == NAMES_MAX)
        return;
    snprintf(l->names[l->name_count].name, sizeof l->names->name, "%s", name);
    l->names[l->name_count++].count = more;
}

static int list_state(void *arg, const struct seg_state *e, uint32_t index)
{
    struct listing *l = arg;
    char name[128];
    (void)index;
    int kind = feed_kind_of(e->kind);
    if (kind < RECORD_HEAP || !e->user_stack)
        return 0;
    if (kind != RECORD_CUSTOM)
        l->counts[kind]++;
    else if (e->object <= UINT32_MAX &&
             seg_reader_string(l->reader, (uint32_t)e->object, name, sizeof name) > 0)
        list_name(l, name, 1);
    return 0;
}

static uint64_t count_threads(uint32_t pid)
{
    char path[64];
    uint64_t n = 0;
    snprintf(path, sizeof path, "/proc/%u/task", pid);
    DIR *dir = opendir(path);
    for (struct dirent *e; dir && (e = readdir(dir));)
        n += e->d_name[0] != '.';
    if (dir)
        closedir(dir);
    return n;
}

static int count_fiber(void *arg, const struct fiber *fiber)
{
    (void)fiber;
    ++*(uint64_t *)arg;
    return 0;
}

static uint64_t count_fibers(const struct session *s)
{
    struct target *t = NULL;
    struct fibers *f = NULL;
    uint64_t n = 0;
    if (target_open_pid(&t, s->pid, NULL) || fibers_open(&f, t, NULL))
        n = count_threads(s->pid);
    else
        fibers_each(f, count_fiber, &n);
    fibers_close(f);
    target_close(t);
    return n;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(a, b); // the name comes first
}

int session_each_profile(struct session *s, int (*fn)(void *arg, const char *name, uint64_t count),
                         void *arg)
{
    struct listing *l = calloc(1, sizeof *l);
    int rc = 0;
    if (!l)
        return -ENOMEM;
    l->s = s;
    int fd = session_segment(s);
    if (fd >= 0 && !seg_reader_open_parts(&l->reader, fd, SEG_READER_STATE, NULL)) {
        seg_reader_states(l->reader, list_state, l);
        seg_reader_close(l->reader);
    }
    for (int kind = RECORD_BLOCK; s->kernel && kind <= RECORD_MUTEX; kind++)
        l->counts[kind] = session_kernel_count(s, kind);
    list_name(l, "allocs", l->counts[RECORD_HEAP]);
    list_name(l, "block", l->counts[RECORD_BLOCK]);
    list_name(l, "goroutine", count_fibers(s));
    list_name(l, "heap", l->counts[RECORD_HEAP]);
    list_name(l, "mutex", l->counts[RECORD_MUTEX]);
    list_name(l, "threadcreate", count_threads(s->pid));
    list_name(l, "threads", count_threads(s->pid));
    qsort(l->names, l->name_count, sizeof l->names[0], compare_names);
    for (size_t i = 0; !rc && i < l->name_count; i++)
        rc = fn(arg, l->names[i].name, l->names[i].count);
    free(l);
    return rc;
}

int session_counts(struct session *s, struct session_counts *out)
{
    struct seg_losses losses;
    struct seg_heap heap;
    *out = (struct session_counts){0};
    pthread_mutex_lock(&s->lock);
    look_again(s);
    if (s->way != SESSION_AGENT) {
        pthread_mutex_unlock(&s->lock);
        return -EOPNOTSUPP;
    }
    seg_reader_losses(s->reader, &losses);
    seg_reader_heap(s->reader, &heap);
    const struct seg_control *c = seg_reader_control(s->reader);
    out->is_exact = c && atomic_load_explicit(&c->heap_rate_bytes, memory_order_relaxed) == 1;
    pthread_mutex_unlock(&s->lock);
    for (int i = 0; i < SEG_KINDS_MAX; i++)
        out->ring_full += losses.ring_full[i];
    out->stacks_full = losses.stacks_full;
    out->state_full = losses.state_full;
    out->threads_full = losses.threads_full;
    out->modules_full = losses.modules_full;
    out->untracked = losses.untracked;
    out->heap_alloc_objects = heap.alloc_objects;
    out->heap_alloc_bytes = heap.alloc_bytes;
    out->heap_live_objects = heap.live_objects;
    out->heap_live_bytes = heap.live_bytes;
    return 0;
}
