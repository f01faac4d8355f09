// SPDX-License-Identifier: MIT
//
// Heap snapshots into one series of values per call path. See growth.h.
//
// Paths are told apart by the names that they are shown with, so that snapshots of processes that
// loaded their code elsewhere, and of builds that only moved lines, have the same paths.

#include "analysis/growth.h"

#include "analysis/stacks.h"
#include "formats/ptrtab.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct builder {
    struct growth *g;
    struct ptrtab table; // of g->series, by path
    char *path;          // scratch
    size_t path_capacity, series_capacity;
    bool by_site;
};

static bool same_path(const void *item, const void *key)
{
    return !strcmp(((const struct growth_series *)item)->path, key);
}

static int new_values(struct growth *g, struct growth_series *s)
{
    s->bytes = arena_array(&g->arena, g->snapshot_count, sizeof *s->bytes);
    s->objects = arena_array(&g->arena, g->snapshot_count, sizeof *s->objects);
    if (!s->bytes || !s->objects)
        return -ENOMEM;
    memset(s->bytes, 0, g->snapshot_count * sizeof *s->bytes);
    memset(s->objects, 0, g->snapshot_count * sizeof *s->objects);
    return 0;
}

static int reserve(struct builder *b, size_t size)
{
    if (size <= b->path_capacity)
        return 0;
    char *grown = realloc(b->path, 2 * size);
    if (!grown)
        return -ENOMEM;
    b->path = grown;
    b->path_capacity = 2 * size;
    return 0;
}

// The frames from node at outwards into b->path. 0 or -ENOMEM.
static int write_path(struct builder *b, const struct stacks *s, uint32_t at)
{
    size_t n = 0;
    int rc = reserve(b, 16);
    if (rc)
        return rc;
    memcpy(b->path, "<no stack>", sizeof "<no stack>");
    for (uint32_t i = at; i; i = b->by_site ? 0 : s->nodes[i].parent) {
        size_t length = strlen(s->nodes[i].name);
        rc = reserve(b, n + length + 2);
        if (rc)
            return rc;
        if (n)
            b->path[n++] = '\n';
        memcpy(b->path + n, s->nodes[i].name, length + 1);
        n += length;
    }
    return 0;
}

static struct growth_series *intern_series(struct builder *b)
{
    struct growth *g = b->g;
    size_t length = strlen(b->path);
    uint64_t hash = ptrtab_hash_bytes(b->path, length);
    const struct growth_series *found = ptrtab_find(&b->table, hash, same_path, b->path);
    if (found)
        return g->series[found->found_at];
    if (g->series_count == b->series_capacity) {
        size_t capacity = b->series_capacity ? 2 * b->series_capacity : 256;
        struct growth_series **grown =
            realloc(g->series, capacity * sizeof(struct growth_series *));
        if (!grown)
            return NULL;
        g->series = grown;
        b->series_capacity = capacity;
    }
    struct growth_series *s = arena_alloc(&g->arena, sizeof *s);
    char *path = arena_alloc(&g->arena, length + 1);
    if (!s || !path)
        return NULL;
    memcpy(path, b->path, length + 1);
    *s = (struct growth_series){.path = path, .found_at = g->series_count};
    if (new_values(g, s) || ptrtab_add(&b->table, hash, s))
        return NULL;
    g->series[g->series_count++] = s;
    return s;
}

// Adds what the prepared report has of the sample type index to the snapshot's column.
static int add_values(struct builder *b, const struct report *r, int index, size_t snapshot,
                      bool objects, struct fscope_error *err)
{
    struct stacks s;
    struct report of_type = *r; // reads the same profile, another value
    of_type.index = index;
    int rc = stacks_build(&s, &of_type, STACKS_SIGNED, false, err);
    for (uint32_t i = 0; !rc && i < s.count; i++) {
        if (!s.nodes[i].self)
            continue;
        rc = write_path(b, &s, i);
        struct growth_series *to = rc ? NULL : intern_series(b);
        if (!to) {
            rc = error_set(err, -ENOMEM, 0, "out of memory");
            break;
        }
        int64_t *values = objects ? to->objects : to->bytes;
        values[snapshot] += s.nodes[i].self;
        values = objects ? b->g->total.objects : b->g->total.bytes;
        values[snapshot] += s.nodes[i].self;
    }
    stacks_finish(&s);
    return rc;
}

static int add_snapshot(struct builder *b, struct pprof_profile *p, size_t snapshot,
                        const struct report_options *options, struct fscope_error *err)
{
    struct report r;
    struct fscope_error ignored = {0};
    struct report_options o = *options;
    o.sample_index = "inuse_space";
    if (snapshot + 1 < b->g->snapshot_count)
        o.warn = NULL; // a filter that matches nothing is said once
    int space = pprof_sample_index(p, "inuse_space", err);
    if (space < 0)
        return space;
    int objects = pprof_sample_index(p, "inuse_objects", &ignored);
    int rc = report_prepare(&r, p, &o, err);
    if (!rc && b->g->unit[0] && strcmp(b->g->unit, r.from_unit) != 0)
        rc = error_set(err, -EINVAL, 0, "memory in use is in %s, in the snapshots before in %s",
                       r.from_unit, b->g->unit);
    if (!rc) {
        b->g->unit = arena_strdup(&b->g->arena, r.from_unit);
        rc = b->g->unit ? add_values(b, &r, space, snapshot, false, err)
                        : error_set(err, -ENOMEM, 0, "out of memory");
    }
    if (!rc && objects >= 0) {
        b->g->has_objects = true;
        rc = add_values(b, &r, objects, snapshot, true, err);
    }
    report_finish(&r);
    return rc;
}

static int by_growth(const void *x, const void *y)
{
    const struct growth_series *a = *(struct growth_series *const *)x;
    const struct growth_series *b = *(struct growth_series *const *)y;
    if (a->bytes_slope != b->bytes_slope)
        return a->bytes_slope < b->bytes_slope ? 1 : -1;
    if (a->objects_slope != b->objects_slope)
        return a->objects_slope < b->objects_slope ? 1 : -1;
    return strcmp(a->path, b->path);
}

static void fit(const struct growth *g, struct growth_series *s, double *scratch)
{
    size_t n = g->snapshot_count;
    growth_trend(s->bytes, n, &s->tau, &s->p);
    if (n == 1) { // what is in use stands for its growth: it orders the table
        s->bytes_slope = (double)s->bytes[0];
        s->objects_slope = (double)s->objects[0];
        return;
    }
    s->bytes_slope = growth_slope(g->times_s, s->bytes, n, scratch);
    s->objects_slope = growth_slope(g->times_s, s->objects, n, scratch);
}

int64_t growth_time_ns(const struct pprof_profile *p)
{
    int64_t end;
    if (p->time_nanos <= 0)
        return 0;
    if (p->duration_nanos <= 0 || __builtin_add_overflow(p->time_nanos, p->duration_nanos, &end))
        return p->time_nanos;
    return end;
}

static int set_times(struct growth *g, struct pprof_profile *const *snapshots)
{
    size_t n = g->snapshot_count;
    g->times_s = arena_array(&g->arena, n, sizeof *g->times_s);
    if (!g->times_s)
        return -ENOMEM;
    int64_t first = growth_time_ns(snapshots[0]);
    g->timed = first > 0;
    for (size_t i = 1; i < n; i++)
        g->timed &= growth_time_ns(snapshots[i]) > growth_time_ns(snapshots[i - 1]);
    for (size_t i = 0; i < n; i++)
        g->times_s[i] = g->timed ? (double)(growth_time_ns(snapshots[i]) - first) / 1e9 : (double)i;
    return 0;
}

int growth_measure(struct growth *g, struct pprof_profile *const *snapshots, size_t n,
                   const struct report_options *options, bool by_site, size_t *failed,
                   struct fscope_error *err)
{
    memset(g, 0, sizeof *g);
    *failed = 0;
    if (n < 1 || n > GROWTH_SNAPSHOTS_MAX)
        return error_set(err, -E2BIG, 0, "%zu snapshots; from 1 to %d can be compared", n,
                         GROWTH_SNAPSHOTS_MAX);
    struct builder b = {.g = g, .by_site = by_site};
    double *scratch = malloc(n * n * sizeof *scratch);
    g->snapshot_count = n;
    g->unit = "";
    g->total.path = "";
    int rc = scratch ? set_times(g, snapshots) : -ENOMEM;
    if (!rc)
        rc = new_values(g, &g->total);
    if (rc)
        error_set(err, rc, 0, "out of memory");
    for (size_t i = 0; !rc && i < n; i++) {
        *failed = i;
        rc = add_snapshot(&b, snapshots[i], i, options, err);
    }
    if (!rc) {
        for (size_t i = 0; i < g->series_count; i++)
            fit(g, g->series[i], scratch);
        fit(g, &g->total, scratch);
        if (g->series_count)
            qsort(g->series, g->series_count, sizeof(struct growth_series *), by_growth);
    }
    ptrtab_finish(&b.table);
    free(b.path);
    free(scratch);
    return rc;
}

int64_t growth_of(const struct growth *g, const int64_t *values)
{
    int64_t first = values[0], last = values[g->snapshot_count - 1], d;
    return !__builtin_sub_overflow(last, first, &d) ? d : last < 0 ? INT64_MIN : INT64_MAX;
}

void growth_finish(struct growth *g)
{
    free(g->series);
    arena_finish(&g->arena);
    memset(g, 0, sizeof *g);
}
