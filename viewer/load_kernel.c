// SPDX-License-Identifier: MIT
//
// See load_kernel.h.

#include "viewer/load_kernel.h"

#include "viewer/kernel_model.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FILES_MAX = 1000 };

struct parts {
    struct trace_model *models[FILES_MAX];
    uint32_t count;
};

static void say(struct loaded *out, const char *path, const char *what, const char *why)
{
    const char *slash = strrchr(path, '/');
    size_t n = strlen(out->missing);
    snprintf(out->missing + n, sizeof out->missing - n, "%sKernel trace %.100s%s: %s",
             n ? ". " : "", slash && slash[1] ? slash + 1 : path, what, why);
}

static int read_files(const struct load_kernel_reader *r, const char *path, struct loaded *out,
                      struct parts *parts, struct fscope_error *err)
{
    char next[PATH_MAX + 16];
    int rc = 0;
    snprintf(next, sizeof next, "%s", path);
    for (int i = 2; !rc && i < FILES_MAX; i++) {
        struct loaded part = {0};
        rc = r->read(r->context, next, &part, err);
        if (rc && parts->count && rc != -ECANCELED) { // what came before is shown
            say(out, next, " is not shown", err->text);
            return 0;
        }
        if (!rc && *part.missing)
            say(out, next, "", part.missing);
        if (!rc)
            parts->models[parts->count++] = part.trace;
        snprintf(next, sizeof next, "%s.%d", path, i);
        if (access(next, F_OK))
            break;
    }
    return rc;
}

void load_kernel(const struct load_kernel_reader *r, const char *path, struct loaded *out)
{
    const struct kernel_model_watch watch = {r->builds, r->context};
    struct fscope_error err = {0};
    struct parts *parts = calloc(1, sizeof *parts);
    int rc = parts ? read_files(r, path, out, parts, &err)
                   : error_set(&err, -ENOMEM, 0, "out of memory");
    if (!rc && !r->builds(r->context))
        rc = -ECANCELED;
    if (!rc)
        rc = kernel_model_new(&out->kernel, out->trace, parts->models, parts->count, &watch, &err);
    else
        for (uint32_t i = 0; parts && i < parts->count; i++)
            trace_model_free(parts->models[i]);
    free(parts);
    if (rc && rc != -ECANCELED)
        say(out, path, " is not shown", err.text);
    else if (!rc && !out->kernel->known)
        say(out, path, "",
            "it has none of this trace's threads (it is of another program, or a pid namespace of "
            "its own)");
}
