// SPDX-License-Identifier: MIT
//
// See trace_model.h.

#include "viewer/trace_model_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// --- Which start functions ran longest.

struct rank {
    uint32_t name;
    int64_t ns;
};

static int by_time(const void *a, const void *b)
{
    const struct rank *x = a, *y = b;
    if (x->ns != y->ns)
        return x->ns < y->ns ? 1 : -1;
    return x->name < y->name ? -1 : x->name > y->name;
}

static int rank_names(struct trace_model *m)
{
    const struct trace_spans *s = m->spans;
    uint32_t names = s->names.count ? s->names.count : 1;
    struct rank *ranks = calloc(names, sizeof *ranks);
    if (!ranks)
        return -ENOMEM;
    for (uint32_t i = 0; i < names; i++)
        ranks[i].name = i;
    for (uint32_t lane = 0; lane < s->kind_first[TRACE_RESOURCE_PROC]; lane++)
        ranks[s->lanes[lane].name].ns += m->ran_ns[lane];
    qsort(ranks, names, sizeof *ranks, by_time);
    for (uint32_t i = 0; i < names && m->named_count < TRACE_MODEL_NAMED && ranks[i].ns; i++)
        if (ranks[i].name) // the empty name is among the others
            m->named[m->named_count++] = ranks[i].name;
    free(ranks);
    return 0;
}

static uint8_t class_of(const struct trace_model *m, uint32_t span, uint32_t fiber)
{
    if (trace_span_state(m->spans, span) == TRACE_GO_SYSCALL)
        return TRACE_MODEL_SYSCALL;
    for (uint8_t i = 0; i < m->named_count; i++)
        if (m->named[i] == m->spans->lanes[fiber].name)
            return i;
    return TRACE_MODEL_OTHERS;
}

// --- Lanes.

int trace_model_runs(const struct trace_model *m, uint32_t lane, struct lod *lod)
{
    const struct trace_spans *s = m->spans;
    const struct trace_lane *l = &s->lanes[lane];
    for (uint32_t i = l->first; i < l->first + l->count; i++) {
        uint8_t class = class_of(m, s->runs[i], trace_spans_fiber(s, s->runs[i]));
        int rc = lod_add(lod, trace_span_begin_ns(s, s->runs[i]),
                         trace_spans_run_end_ns(s, lane, i), class);
        if (rc)
            return rc;
    }
    return lod_finish(lod);
}

// The name of the only fiber that a lane ever ran.
static uint32_t only_name(const struct trace_spans *s, const struct trace_lane *l)
{
    uint32_t only = TRACE_NO_LANE;
    for (uint32_t i = l->first; i < l->first + l->count; i++) {
        if (only == TRACE_NO_LANE)
            only = trace_spans_fiber(s, s->runs[i]);
        uint32_t first = s->lanes[only].first;
        if (s->runs[i] < first || s->runs[i] - first >= s->lanes[only].count)
            return 0;
    }
    return only == TRACE_NO_LANE ? 0 : s->lanes[only].name;
}

static int make_lanes(struct trace_model *m)
{
    const struct trace_spans *s = m->spans;
    uint8_t kind = TRACE_RESOURCE_PROC;
    if (s->kind_first[kind] == s->kind_first[kind + 1])
        kind = TRACE_RESOURCE_THREAD;
    uint32_t first = s->kind_first[kind], count = s->kind_first[kind + 1] - first;
    m->are_threads = kind == TRACE_RESOURCE_THREAD;
    m->lanes = calloc(count + (size_t)1, sizeof *m->lanes);
    if (!m->lanes)
        return -ENOMEM;
    for (uint32_t i = 0; i < count; i++) {
        struct trace_model_lane *l = &m->lanes[m->lane_count++];
        snprintf(l->label, sizeof l->label, "%s%" PRId64, m->are_threads ? "M" : "P",
                 s->lanes[first + i].id);
        l->lane = first + i;
        l->name = only_name(s, &s->lanes[first + i]);
        int rc = trace_model_runs(m, first + i, &l->lod);
        if (rc)
            return rc;
    }
    return 0;
}

void trace_model_hold(struct trace_model *m)
{
    atomic_fetch_add_explicit(&m->holders, 1, memory_order_relaxed);
}

void trace_model_free(struct trace_model *m)
{
    // acq_rel: what one has read of it is read before the other frees it.
    if (!m || atomic_fetch_sub_explicit(&m->holders, 1, memory_order_acq_rel) > 0)
        return;
    for (uint32_t i = 0; i < m->lane_count; i++)
        lod_free(&m->lanes[i].lod);
    free(m->lanes);
    trace_fibers_free(m);
    trace_spans_free(m->spans);
    free(m);
}

enum { LOOK_EVENTS = 4096 };

static bool is_stopped(const struct trace_model_watch *w)
{
    return w && w->stopped && w->stopped(w->context);
}

static int read_events(struct trace_model *m, struct trace_reader *r, struct trace_extras *extras,
                       struct trace_prefix *prefix, const struct trace_model_watch *w,
                       struct fscope_error *err)
{
    const struct trace_event *ev;
    int rc = 0, got = 0;
    for (uint32_t n = 1; !rc && (got = trace_reader_next(r, &ev)) > 0; n++) {
        rc = trace_spans_event(m->spans, r, ev);
        if (!rc && (ev->kind == TRACE_METRIC || ev->kind == TRACE_LABEL))
            rc = trace_extras_event(extras, r, ev);
        if (rc || n % LOOK_EVENTS || !w)
            continue;
        if (is_stopped(w))
            rc = -ECANCELED;
        else
            trace_prefix_look(prefix, m, extras, ev->offset);
    }
    if (!rc && got < 0 && w && w->keeps && trace_reader_error(r)->rule != TRACE_RULE_SYSTEM)
        return 0;
    if (!rc && got < 0)
        return trace_error_to(trace_reader_error(r), err);
    return rc ? error_set(err, rc, 0, "%s", strerror(-rc)) : 0;
}

static int read_spans(struct trace_model *m, struct trace_reader *r,
                      const struct trace_model_watch *w, struct fscope_error *err)
{
    const struct trace_spans_options o = {.size = sizeof o};
    struct trace_prefix *prefix = NULL;
    int rc = trace_spans_new(&m->spans, &o);
    struct trace_extras *extras = rc ? NULL : trace_extras_new(m);
    if (!rc && !extras)
        rc = -ENOMEM;
    if (!rc)
        rc = trace_prefix_new(&prefix, w);
    if (!rc)
        rc = read_events(m, r, extras, prefix, w, err);
    trace_prefix_finish(prefix);
    if (!rc)
        rc = trace_spans_finish(m->spans);
    int late = trace_extras_finish(extras);
    return rc ? rc : late;
}

int trace_model_make(struct trace_model *m, struct fscope_error *err)
{
    int rc = trace_fibers_make(m);
    if (!rc && (rc = rank_names(m)) == 0)
        rc = make_lanes(m);
    // Two marks of a generation are some time apart, with nothing between them.
    if (!rc && (m->spans->end_ns <= m->spans->begin_ns || !m->spans->kind_first[4]))
        rc = error_set(err, -ENODATA, 0, "the trace is empty: nothing was recorded");
    m->begin_ns = m->spans->begin_ns;
    m->end_ns = m->spans->end_ns;
    return rc;
}

int trace_model_watched(struct trace_model **out, struct trace_reader *r,
                        const struct trace_model_watch *w, struct fscope_error *err)
{
    struct trace_model *m = calloc(1, sizeof *m);
    *out = NULL;
    if (!m)
        return error_set(err, -ENOMEM, 0, "out of memory");
    int rc = read_spans(m, r, w, err);
    if (!rc && is_stopped(w))
        rc = -ECANCELED;
    if (!rc)
        rc = trace_model_make(m, err);
    if (rc) {
        if (err && err->code != rc)
            error_set(err, rc, 0, "%s", strerror(-rc));
        trace_model_free(m);
        return rc;
    }
    *out = m;
    return 0;
}

int trace_model_read(struct trace_model **out, struct trace_reader *r, struct fscope_error *err)
{
    return trace_model_watched(out, r, NULL, err);
}

static int open_once(struct trace_model **out, const char *path, bool salvage,
                     struct fscope_error *err)
{
    const struct trace_reader_options o = {.size = sizeof o, .salvage = salvage};
    struct trace_reader *r = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_set(err, -errno, 0, "%s: %s", path, strerror(errno));
    int rc = trace_reader_open_fd(&r, fd, &o, err);
    if (!rc)
        rc = trace_model_read(out, r, err);
    const struct trace_error *damage = r ? trace_reader_damage(r) : NULL;
    if (!rc && damage)
        snprintf((*out)->damage, sizeof(*out)->damage, "%s", damage->text);
    trace_reader_close(r);
    close(fd);
    if (rc)
        error_prefix(err, "%s", path);
    return rc;
}

int trace_model_open(struct trace_model **out, const char *path, struct fscope_error *err)
{
    struct fscope_error again = {0};
    int rc = open_once(out, path, false, err);
    // What the system refuses, it refuses again; what is wrong in the file is wrong at some place.
    if (rc == -EINVAL || rc == -ENODATA)
        if (!open_once(out, path, true, &again))
            rc = 0;
    return rc;
}

const char *trace_model_class_name(const struct trace_model *m, int class)
{
    if (class == TRACE_MODEL_SYSCALL)
        return "(system calls)";
    if (class < 0 || class >= (int)m->named_count)
        return m->named_count ? "(others)" : "(unknown)";
    return trace_names_text(&m->spans->names, m->named[class]);
}

static void add_sums(const struct trace_model_lane *l, int64_t begin_ns, int64_t end_ns,
                     int64_t sums_ns[LOD_CLASSES])
{
    int64_t from[LOD_CLASSES] = {0}, to[LOD_CLASSES] = {0};
    if (!l->lod.count)
        return;
    lod_until(&l->lod, begin_ns, from);
    lod_until(&l->lod, end_ns, to);
    for (int k = 0; k < LOD_CLASSES; k++)
        sums_ns[k] += to[k] - from[k];
}

int64_t trace_model_ran_ns(const struct trace_model_lane *l, int64_t begin_ns, int64_t end_ns)
{
    int64_t sums[LOD_CLASSES] = {0}, ran = 0;
    add_sums(l, begin_ns, end_ns, sums);
    for (int k = 0; k < TRACE_MODEL_SYSCALL; k++)
        ran += sums[k];
    return ran;
}

void trace_model_sums(const struct trace_model *m, int64_t begin_ns, int64_t end_ns,
                      int64_t sums_ns[LOD_CLASSES])
{
    memset(sums_ns, 0, LOD_CLASSES * sizeof *sums_ns);
    for (uint32_t i = 0; i < m->lane_count; i++)
        add_sums(&m->lanes[i], begin_ns, end_ns, sums_ns);
}
