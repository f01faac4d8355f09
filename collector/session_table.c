// SPDX-License-Identifier: MIT
//
// Fibers and threads as rows of a table: see session.h. Nothing is stopped, and no stack is read.

#include "collector/session_internal.h"

#include "collector/fibers.h"
#include "collector/waits.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    NAMED_PLACES = 256, // objects whose names are kept while one table is made
    NAMES_MAX = 2048,   // that are looked for: more are shown by their addresses
};

struct naming {
    struct target *t;
    uint32_t sought;
    struct {
        uint64_t object;
        char name[SESSION_ON_TEXT];
    } places[NAMED_PLACES];
};

static void name_object(struct naming *n, uint64_t object, char out[SESSION_ON_TEXT])
{
    size_t at = (size_t)((object * UINT64_C(0x9e3779b97f4a7c15)) >> 56) % NAMED_PLACES;
    if (n->places[at].object != object) {
        char *name = n->places[at].name;
        n->places[at].object = object;
        if (n->sought++ >= NAMES_MAX || !target_variable_at(n->t, object, name, SESSION_ON_TEXT))
            snprintf(name, SESSION_ON_TEXT, "0x%" PRIx64, object);
    }
    memcpy(out, n->places[at].name, SESSION_ON_TEXT);
}

// --- Fibers.

struct telling_fibers {
    int (*fn)(void *arg, const struct session_row *row);
    void *arg;
    struct naming naming;
};

static void put_labels(const struct fiber *f, char *text, size_t size)
{
    size_t at = 0;
    for (uint32_t i = 0; i < f->label_count && at < size; i++) {
        int n = snprintf(text + at, size - at, "%s%s=%s", i ? ", " : "", f->labels[i].key,
                         f->labels[i].value ? f->labels[i].value : "");
        at += n > 0 ? (size_t)n : 0;
    }
}

static int tell_fiber(void *arg, const struct fiber *f)
{
    struct telling_fibers *k = arg;
    struct session_row row = {
        .id = f->id,
        .is_waiting = f->is_waiting,
        .start = f->start,
        .created_at = f->created_at,
        .since_ns = f->waiting_ns,
        .age_ns = f->age_ns,
        .busy_ns = f->busy_ns,
        .runnable_ns = f->runnable_ns,
        .switches = f->switches,
        .wakes = f->wakes,
        .self_wakes = f->self_wakes,
        .preempted = f->preempted,
        .tid = f->tid,
        .holder = f->owner & ~FIBERS_OWNER_THREAD,
        .is_held_by_thread = (f->owner & FIBERS_OWNER_THREAD) != 0,
    };
    snprintf(row.name, sizeof row.name, "%s", f->name);
    snprintf(row.state, sizeof row.state, "%s", f->state);
    put_labels(f, row.labels, sizeof row.labels);
    if (f->object && !f->is_join)
        name_object(&k->naming, f->object, row.on);
    return k->fn(k->arg, &row);
}

static bool no_stacks(void *arg, uint64_t id)
{
    (void)arg;
    (void)id;
    return false;
}

static int open_fibers(struct session *s, struct target **t, struct fibers **f,
                       struct fscope_error *err)
{
    *f = NULL;
    int rc = target_open_pid(t, s->pid, err);
    return rc ? rc : fibers_open(f, *t, err);
}

int session_each_fiber(struct session *s, int (*fn)(void *arg, const struct session_row *row),
                       void *arg, struct fscope_error *err)
{
    struct target *t = NULL;
    struct fibers *f = NULL;
    struct telling_fibers *k = calloc(1, sizeof *k);
    int rc = k ? open_fibers(s, &t, &f, err) : error_set(err, -ENOMEM, 0, "out of memory");
    if (!rc) {
        k->fn = fn;
        k->arg = arg;
        k->naming.t = t;
        fibers_want_stacks(f, no_stacks, NULL);
        rc = fibers_each(f, tell_fiber, k);
        if (rc < 0)
            error_set(err, rc, 0, "fibers of process %u: %s", s->pid, strerror(-rc));
    }
    fibers_close(f);
    target_close(t);
    free(k);
    return rc;
}

int session_fibers(struct session *s, struct session_fibers *out, struct fscope_error *err)
{
    struct target *t = NULL;
    struct fibers *f = NULL;
    struct fibers_totals totals = {0};
    _Static_assert((int)SESSION_BUCKETS == (int)FIBERS_LATENCY_BUCKETS, "the same");
    int rc = open_fibers(s, &t, &f, err);
    if (!rc && (rc = fibers_read_totals(f, &totals)))
        error_set(err, rc, 0, "fibers of process %u: %s", s->pid, strerror(-rc));
    *out = (struct session_fibers){
        .procs = totals.procs,
        .spawns = totals.spawns,
        .switches = totals.schedules,
        .steals = totals.steals,
        .threads = totals.threads,
        .threads_idle = totals.threads_idle,
        .thread_wakes = totals.wakes,
        .thread_parks = totals.parks,
    };
    memcpy(out->latency, totals.latency, sizeof out->latency);
    fibers_close(f);
    target_close(t);
    return rc;
}

// --- Threads.

// What of its file can be read of thread tid; "": nothing.
static void read_file(const struct session *s, uint32_t tid, const char *name, char *text,
                      size_t size)
{
    char path[80];
    snprintf(path, sizeof path, "/proc/%u/task/%u/%s", s->pid, tid, name);
    FILE *f = fopen(path, "re");
    size_t n = f ? fread(text, 1, size - 1, f) : 0;
    text[n] = '\0';
    if (f)
        fclose(f);
}

static uint64_t field(const char *status, const char *key)
{
    const char *at = strstr(status, key);
    return at ? strtoull(at + strlen(key), NULL, 10) : 0;
}

// By the kernel's own account.
static void fill_times(const struct session *s, struct session_row *row)
{
    enum { START_TIME = 20 }; // fields between ")" and the start time
    char text[4096];
    struct timespec now;
    row->state[0] = '\0';
    read_file(s, row->tid, "schedstat", text, sizeof text);
    char *end = text;
    row->busy_ns = strtoull(end, &end, 10);
    row->runnable_ns = strtoull(end, &end, 10);
    read_file(s, row->tid, "stat", text, sizeof text);
    const char *at = strrchr(text, ')');
    char letter = at && at[1] ? at[2] : 0;
    for (int i = 0; at && i < START_TIME; i++)
        at = strchr(at + 1, ' ');
    uint64_t started = at ? strtoull(at, NULL, 10) : 0, per_s = (uint64_t)sysconf(_SC_CLK_TCK);
    clock_gettime(CLOCK_BOOTTIME, &now);
    uint64_t now_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    uint64_t started_ns = started / per_s * 1000000000u + started % per_s * (1000000000u / per_s);
    row->age_ns = now_ns > started_ns ? now_ns - started_ns : 0;
    read_file(s, row->tid, "status", text, sizeof text);
    row->wakes = field(text, "\nvoluntary_ctxt_switches:");
    row->preempted = field(text, "\nnonvoluntary_ctxt_switches:");
    row->switches = row->wakes + row->preempted;
    snprintf(row->state, sizeof row->state, "%s",
             letter == 'R'                    ? "running"
             : letter == 'S'                  ? "waiting"
             : letter == 'D'                  ? "in the kernel"
             : letter == 'T' || letter == 't' ? "stopped"
             : letter == 'Z' || letter == 'X' ? "ended"
                                              : "unknown");
    row->is_waiting = letter == 'S' || letter == 'D';
}

static void fill_wait(const struct waits *w, const struct waits_node *n, struct session_row *row)
{
    snprintf(row->name, sizeof row->name, "%.*s", (int)sizeof row->name - 1, n->name);
    row->since_ns = n->waiting_ns;
    if (!row->is_waiting)
        return;
    snprintf(row->on, sizeof row->on, "%.*s", (int)sizeof row->on - 1, n->what);
    if (n->to != WAITS_NONE) {
        row->holder = w->nodes[n->to].id;
        row->is_held_by_thread = !w->nodes[n->to].is_fiber;
    } else if (n->holder == WAITS_HELD_OUTSIDE || n->holder == WAITS_HELD_BY_DEAD) {
        row->holder = n->holder_id;
        row->is_held_by_thread = !n->holder_is_fiber;
    }
}

static int each_of_waits(struct session *s, const struct waits *w,
                         int (*fn)(void *arg, const struct session_row *row), void *arg)
{
    int rc = 0;
    for (size_t i = 0; !rc && i < w->thread_count; i++) {
        struct session_row row = {.id = w->nodes[i].id, .tid = (uint32_t)w->nodes[i].id};
        fill_times(s, &row);
        fill_wait(w, &w->nodes[i], &row);
        rc = fn(arg, &row);
    }
    return rc;
}

// Of a process that may not be looked into.
static int each_of_folder(struct session *s, int (*fn)(void *arg, const struct session_row *row),
                          void *arg, struct fscope_error *err)
{
    char path[64];
    int rc = 0;
    snprintf(path, sizeof path, "/proc/%u/task", s->pid);
    DIR *dir = opendir(path);
    if (!dir)
        return error_set(err, errno == ENOENT ? -ESRCH : -errno, 0, "process %u has ended", s->pid);
    for (struct dirent *e; !rc && (e = readdir(dir));) {
        unsigned long tid = strtoul(e->d_name, NULL, 10);
        struct session_row row = {.id = tid, .tid = (uint32_t)tid};
        if (!tid)
            continue;
        fill_times(s, &row);
        read_file(s, row.tid, "comm", row.name, sizeof row.name);
        row.name[strcspn(row.name, "\n")] = '\0';
        rc = fn(arg, &row);
    }
    closedir(dir);
    return rc;
}

int session_each_thread(struct session *s, int (*fn)(void *arg, const struct session_row *row),
                        void *arg, struct fscope_error *err)
{
    const struct waits_options o = {0};
    struct target *t = NULL;
    struct waits *w = NULL;
    int rc = target_open_pid(&t, s->pid, NULL);
    if (!rc)
        rc = waits_look(&w, t, &o, NULL);
    rc = rc ? each_of_folder(s, fn, arg, err) : each_of_waits(s, w, fn, arg);
    waits_free(w);
    target_close(t);
    return rc;
}
