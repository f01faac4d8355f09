// SPDX-License-Identifier: MIT

#include "collector/series.h"

#include "base/file.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

int series_add(struct series *s, const struct series_point *p)
{
    if (s->count == SERIES_POINTS_MAX) {
        for (size_t i = 0; i < s->count / 2; i++)
            s->points[i] = s->points[2 * i];
        s->count /= 2;
    }
    if (s->count == s->capacity) {
        size_t n = s->capacity ? s->capacity * 2 : 256;
        struct series_point *grown = reallocarray(s->points, n, sizeof *grown);
        if (!grown)
            return -ENOMEM;
        s->points = grown;
        s->capacity = n;
    }
    s->points[s->count++] = *p;
    return 0;
}

void series_free(struct series *s)
{
    free(s->points);
    *s = (struct series){0};
}

// By time: the rings of several threads were drained one after the other.
static int compare(const void *a, const void *b)
{
    const struct series_point *x = a, *y = b;
    if (x->pid != y->pid)
        return x->pid < y->pid ? -1 : 1;
    return x->time_ns != y->time_ns ? (x->time_ns < y->time_ns ? -1 : 1) : 0;
}

static void write_points(const struct series *s, uint32_t only_pid, FILE *out)
{
    fputs("time_s,live_objects,live_bytes,alloc_bytes,pid\n", out);
    for (size_t i = 0; i < s->count; i++) {
        const struct series_point *p = &s->points[i];
        uint64_t since = p->time_ns > s->start_ns ? p->time_ns - s->start_ns : 0;
        if (only_pid && p->pid != only_pid)
            continue;
        fprintf(out, "%" PRIu64 ".%06" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%u\n",
                since / 1000000000, since % 1000000000 / 1000, p->live_objects, p->live_bytes,
                p->alloc_bytes, p->pid);
    }
}

int series_write(const struct series *s, const char *path, uint32_t only_pid,
                 struct fscope_error *err)
{
    struct file_replace f;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return error_set(err, -ENOMEM, 0, "%s: out of memory", path);
    if (s->count)
        qsort(s->points, s->count, sizeof *s->points, compare);
    write_points(s, only_pid, out);
    int rc = fclose(out) ? error_set(err, -ENOMEM, 0, "%s: out of memory", path) : 0;
    if (!rc)
        rc = file_begin(&f, path, err);
    if (rc)
        goto out;
    rc = file_write_all(f.fd, text, size);
    if (rc) {
        file_abort(&f);
        error_set(err, rc, 0, "%s: cannot be written", path);
        goto out;
    }
    rc = file_commit(&f, err);
out:
    free(text);
    return rc;
}
