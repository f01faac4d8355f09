// SPDX-License-Identifier: MIT
//
// Reading the gate's profiles. See gate_inputs.h.

#include "cli/gate_inputs.h"

#include "base/file.h"
#include "cli/options.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { FILES_MAX = 10000 };

static struct gate_kind *kind_of(struct gate_input *in, const char *name)
{
    for (size_t i = 0; i < in->kind_count; i++) {
        if (!strcmp(in->kinds[i].name, name))
            return &in->kinds[i];
    }
    if (in->kind_count == GATE_KINDS_MAX)
        return NULL;
    struct gate_kind *k = &in->kinds[in->kind_count++];
    snprintf(k->name, sizeof k->name, "%s", name);
    return k;
}

static int append(struct pprof_profile ***array, size_t *count, struct pprof_profile *p)
{
    struct pprof_profile **grown = realloc(*array, (*count + 1) * sizeof(struct pprof_profile *));
    if (!grown)
        return -ENOMEM;
    *array = grown;
    grown[(*count)++] = p;
    return 0;
}

static int add_file(struct gate_inputs *in, bool is_base, const char *path,
                    struct fscope_error *err)
{
    struct pprof_profile *p;
    char name[32];
    int rc = file_keep_path(path);
    if (rc)
        return error_set(err, rc, 0, "out of memory");
    rc = pprof_read_file(&p, path, NULL, err);
    if (rc)
        return rc;
    if (append(&in->all, &in->count, p)) {
        pprof_free(p);
        return error_set(err, -ENOMEM, 0, "out of memory");
    }
    if (!gate_kind_name(name, p, path))
        return error_set(err, -EINVAL, 0,
                         "%.200s: a profile of contentions, and neither it nor its name says "
                         "whether block or mutex (Go's look alike); call it X.block.pb.gz or "
                         "X.mutex.pb.gz",
                         path);
    struct gate_kind *k = kind_of(&in->input, name);
    if (!k)
        return error_set(err, -E2BIG, 0, "%.200s: more than %d kinds of profiles", path,
                         GATE_KINDS_MAX);
    struct gate_side *side = is_base ? &k->base : &k->now;
    if (side->count == GATE_RUNS_MAX)
        return error_set(err, -E2BIG, 0, "%.200s: more than %d runs of one kind", path,
                         GATE_RUNS_MAX);
    return append(&side->runs, &side->count, p) ? error_set(err, -ENOMEM, 0, "out of memory") : 0;
}

static bool is_profile(const char *name)
{
    size_t n = strlen(name);
    return name[0] != '.' &&
           ((n > 6 && !strcmp(name + n - 6, ".pb.gz")) || (n > 3 && !strcmp(name + n - 3, ".pb")));
}

// How long freed objects lived comes along with an exact heap profile; the gate has no rule for it.
static int select_profile(const struct dirent *e)
{
    return is_profile(e->d_name) && !strstr(e->d_name, ".lifetime.pb");
}

static int add_folder(struct gate_inputs *in, bool is_base, const char *path,
                      struct fscope_error *err)
{
    struct dirent **files = NULL;
    int rc = 0, n = scandir(path, &files, select_profile, alphasort);
    if (n < 0)
        return error_set(err, -errno, 0, "%.250s: %s", path, strerror(errno));
    if (!n)
        rc = error_set(err, -ENOENT, 0, "%.250s: the folder holds no *.pb.gz", path);
    if (n > FILES_MAX)
        rc = error_set(err, -E2BIG, 0, "%.250s: more than %d profiles", path, FILES_MAX);
    for (int i = 0; i < n; i++) {
        char *name = NULL;
        if (!rc && asprintf(&name, "%s/%s", path, files[i]->d_name) < 0)
            rc = error_set(err, -ENOMEM, 0, "out of memory");
        else if (!rc)
            rc = add_file(in, is_base, name, err);
        free(name);
        free(files[i]);
    }
    free(files);
    return rc;
}

int gate_operands_read(struct gate_operands *o, int skip, int argc, char **argv, uint64_t runs,
                       int64_t ops, const char *missing)
{
    int end = skip;
    while (end < argc && strcmp(argv[end], "--") != 0)
        end++;
    *o = (struct gate_operands){.files = argv + skip,
                                .file_count = end - skip,
                                .command = end + 1 < argc ? argv + end + 1 : NULL};
    if (!o->file_count && !o->command)
        return cli_usage("%s", missing);
    if (o->file_count && o->command)
        return cli_usage("either profiles (%.60s) or a command (%.60s), not both", o->files[0],
                         o->command[0]);
    if (runs > GATE_RUNS_MAX || ops < 0)
        return cli_usage(ops < 0 ? "--ops: a negative number" : "--runs: too many");
    return 0;
}

int gate_inputs_add(struct gate_inputs *in, bool is_base, const char *path,
                    struct fscope_error *err)
{
    struct stat st;
    if (strcmp(path, "-") != 0 && stat(path, &st))
        return error_set(err, -errno, 0, "%.250s: %s", path, strerror(errno));
    return strcmp(path, "-") != 0 && S_ISDIR(st.st_mode) ? add_folder(in, is_base, path, err)
                                                         : add_file(in, is_base, path, err);
}

void gate_inputs_finish(struct gate_inputs *in)
{
    for (size_t i = 0; i < in->input.kind_count; i++) {
        free(in->input.kinds[i].base.runs);
        free(in->input.kinds[i].now.runs);
    }
    for (size_t i = 0; i < in->count; i++)
        pprof_free(in->all[i]);
    free(in->all);
    *in = (struct gate_inputs){0};
}
