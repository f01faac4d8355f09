// SPDX-License-Identifier: MIT
//
// Writing a baseline. See gate_store.h.

#include "cli/gate_store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DEPTH_MAX = 4096, LABELS_MAX = 64 };

static struct pprof_location *copy_location(struct pprof_profile *q, const struct pprof_location *l)
{
    struct pprof_line lines[256];
    uint32_t n = l->line_count < 256 ? l->line_count : 256;
    for (uint32_t i = 0; i < n; i++) {
        const struct pprof_function *f = l->lines[i].function;
        lines[i] = l->lines[i];
        lines[i].function =
            pprof_intern_function(q, f->name, f->system_name, f->filename, f->start_line);
        if (!lines[i].function)
            return NULL;
    }
    if (n)
        return pprof_intern_location(q, NULL, 0, lines, n);
    // Code without a name is known by its file and offset.
    const struct pprof_mapping *m = l->mapping;
    struct pprof_mapping *copy = NULL;
    for (size_t i = 0; m && i < q->mapping_count && !copy; i++) {
        if (q->mappings[i]->start == m->start && !strcmp(q->mappings[i]->file, m->file))
            copy = q->mappings[i];
    }
    if (m && !copy)
        copy = pprof_add_mapping(q, m->start, m->limit, m->offset, m->file, m->build_id);
    return m && !copy ? NULL : pprof_intern_location(q, copy, l->address, NULL, 0);
}

static bool is_kept(const struct pprof_label *l)
{
    static const char *const dropped[] = {"pid", "tid", "process", "thread", "bytes"};
    for (size_t i = 0; i < sizeof dropped / sizeof *dropped; i++) {
        if (!strcmp(l->key, dropped[i]))
            return false;
    }
    return true;
}

static int copy_sample(struct pprof_profile *q, const struct pprof_sample *s)
{
    struct pprof_location *stack[DEPTH_MAX];
    struct pprof_label labels[LABELS_MAX];
    uint32_t n = s->location_count < DEPTH_MAX ? s->location_count : DEPTH_MAX, kept = 0;
    for (uint32_t i = 0; i < n; i++) {
        stack[i] = copy_location(q, s->locations[i]);
        if (!stack[i])
            return -ENOMEM;
    }
    for (uint32_t i = 0; i < s->label_count && kept < LABELS_MAX; i++) {
        if (is_kept(&s->labels[i]))
            labels[kept++] = s->labels[i];
    }
    return pprof_add_sample(q, stack, n, s->values, labels, kept);
}

int gate_store_compact(struct pprof_profile **out, const struct pprof_profile *p,
                       const struct gate_facts *facts, struct fscope_error *err)
{
    struct pprof_profile *q = pprof_new();
    int rc = q ? 0 : -ENOMEM;
    for (size_t i = 0; i < p->sample_type_count && !rc; i++)
        rc = pprof_add_sample_type(q, p->sample_types[i].type, p->sample_types[i].unit);
    for (size_t i = 0; i < p->comment_count && !rc; i++) {
        if (strncmp(p->comments[i], "fiberscope.", 11) != 0)
            rc = pprof_add_comment(q, p->comments[i]);
    }
    if (!rc)
        rc = gate_facts_to_profile(facts, q);
    for (size_t i = 0; i < p->sample_count && !rc; i++)
        rc = copy_sample(q, p->samples[i]);
    if (!rc) {
        q->period = p->period;
        q->time_nanos = p->time_nanos;
        q->duration_nanos = p->duration_nanos;
        q->period_type.type = pprof_string(q, p->period_type.type);
        q->period_type.unit = pprof_string(q, p->period_type.unit);
        q->default_sample_type = pprof_string(q, p->default_sample_type);
        if (!q->period_type.type || !q->period_type.unit || !q->default_sample_type)
            rc = -ENOMEM;
    }
    if (rc) {
        pprof_free(q);
        q = NULL;
        error_set(err, rc, 0, "out of memory");
    }
    *out = q;
    return rc;
}

static int make_parents(const char *path)
{
    char copy[512];
    snprintf(copy, sizeof copy, "%s", path);
    for (char *s = copy + 1; (s = strchr(s, '/')); *s++ = '/') {
        *s = 0;
        if (mkdir(copy, 0777) && errno != EEXIST)
            return -errno;
    }
    return 0;
}

// A baseline holds KIND.RUN.pb.gz and nothing else; anything else is somebody's folder.
static int check_folder(const char *folder, bool *exists, struct fscope_error *err)
{
    int rc = 0;
    DIR *d = opendir(folder);
    *exists = d != NULL;
    if (!d)
        return errno == ENOENT ? 0
                               : error_set(err, -errno, 0, "%.250s: %s", folder, strerror(errno));
    for (struct dirent *e; (e = readdir(d)) && !rc;) {
        size_t n = strlen(e->d_name);
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") ||
            (n > 6 && !strcmp(e->d_name + n - 6, ".pb.gz")))
            continue;
        rc = error_set(err, -ENOTEMPTY, 0,
                       "%.200s holds %.80s, so it is no baseline and is not "
                       "replaced; choose another --dir",
                       folder, e->d_name);
    }
    closedir(d);
    return rc;
}

static int write_runs(const char *folder, const struct gate_inputs *in,
                      const struct gate_facts *facts, struct fscope_error *err)
{
    int rc = 0;
    for (size_t k = 0; k < in->input.kind_count; k++) {
        const struct gate_kind *kind = &in->input.kinds[k];
        for (size_t i = 0; i < kind->now.count && !rc; i++) {
            char path[640];
            struct pprof_profile *q;
            snprintf(path, sizeof path, "%.560s/%.31s.%03zu.pb.gz", folder, kind->name, i + 1);
            rc = gate_store_compact(&q, kind->now.runs[i], facts, err);
            if (!rc)
                rc = pprof_write_file(q, path, err);
            pprof_free(q);
        }
    }
    return rc;
}

int gate_store_write(const char *folder, const struct gate_inputs *in,
                     const struct gate_facts *facts, struct fscope_error *err)
{
    char temp[600], clean[512];
    bool exists;
    size_t n = strlen(folder);
    if (n >= sizeof clean)
        return error_set(err, -ENAMETOOLONG, 0, "%.100s...: a name of %zu bytes", folder, n);
    snprintf(clean, sizeof clean, "%s", folder);
    while (n > 1 && clean[n - 1] == '/')
        clean[--n] = 0;
    int rc = check_folder(clean, &exists, err);
    if (rc)
        return rc;
    if ((rc = make_parents(clean)))
        return error_set(err, rc, 0, "%.250s: %s", clean, strerror(-rc));
    snprintf(temp, sizeof temp, "%s.new-%ld", clean, (long)getpid());
    if (mkdir(temp, 0777))
        return error_set(err, -errno, 0, "%.250s: %s", temp, strerror(errno));
    rc = write_runs(temp, in, facts, err);
    if (!rc && renameat2(AT_FDCWD, temp, AT_FDCWD, clean, exists ? RENAME_EXCHANGE : 0))
        rc = error_set(err, -errno, 0, "%.250s: %s", clean, strerror(errno));
    // After an exchange this is the old baseline, after a failure the unfinished one.
    gate_remove_folder(temp);
    return rc;
}
