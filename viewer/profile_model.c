// SPDX-License-Identifier: MIT
//
// See profile_model.h.

#include "viewer/profile_model.h"

#include "analysis/units.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

// A parent stands before its children, so one walk is enough.
static int lay_out(struct profile_model *m)
{
    const struct stacks *s = &m->stacks;
    m->left = calloc(s->count, sizeof *m->left);
    if (!m->left)
        return -ENOMEM;
    for (uint32_t i = 0; i < s->count; i++) {
        int64_t at = m->left[i];
        for (uint32_t c = s->nodes[i].first_child; c; c = s->nodes[c].next) {
            m->left[c] = at;
            at += s->nodes[c].total;
        }
    }
    return 0;
}

static bool is_library(const char *module)
{
    const char *name = base_name(module);
    return !*name || *name == '[' || !strncmp(name, "ld-", 3) || strstr(name, ".so");
}

// The module that is no library and has most below its frames.
static const char *program_of(const struct stacks *s)
{
    struct {
        const char *name;
        int64_t total;
    } seen[16] = {{0}};
    size_t best = 0;
    for (uint32_t i = 1; i < s->count; i++) {
        const struct stacks_node *n = &s->nodes[i];
        size_t k = 0; // few are no libraries; those beyond do not count
        if (is_library(n->module) || (n->parent && n->module == s->nodes[n->parent].module))
            continue;
        while (k < 16 && seen[k].name && strcmp(seen[k].name, n->module) != 0)
            k++;
        if (k == 16)
            continue;
        seen[k].name = n->module;
        seen[k].total += n->total;
        best = seen[k].total > seen[best].total ? k : best;
    }
    return seen[best].name ? seen[best].name : "";
}

static void name(struct profile_model *m, const char *path)
{
    char total[UNITS_LABEL_MAX], duration[UNITS_LABEL_MAX], for_[UNITS_LABEL_MAX + 32] = "";
    const struct pprof_profile *p = m->profile;
    const char *program = base_name(m->module);
    snprintf(m->title, sizeof m->title, "%.120s%s%.120s", program, *program ? " \xc2\xb7 " : "",
             base_name(path));
    units_label(total, sizeof total, m->stacks.nodes[0].total, m->report.from_unit, "auto");
    if (p->duration_nanos > 0) {
        units_label(duration, sizeof duration, p->duration_nanos, "nanoseconds", "auto");
        snprintf(for_, sizeof for_, ", recorded for %.64s", duration);
    }
    snprintf(m->width_is, sizeof m->width_is, "width: %.64s, %.64s in %zu different stacks%.80s",
             m->report.type, total, p->sample_count, for_);
}

static int fill(struct profile_model *m, const char *what, const char *sample_type, bool inverted,
                struct fscope_error *err)
{
    const struct report_options o = {.sample_index = sample_type,
                                     .granularity = "functions",
                                     .unit = "minimum",
                                     .divide_by = 1,
                                     .nodecount = -1};
    int rc = report_prepare(&m->report, m->profile, &o, err);
    if (!rc)
        rc = stacks_build(&m->stacks, &m->report, STACKS_POSITIVE, inverted, err);
    if (rc)
        return rc;
    if (m->stacks.nodes[0].total <= 0)
        return error_set(err, -ENODATA, 0, "%s: no sample has a positive value of %s", what,
                         m->report.type);
    m->module = program_of(&m->stacks);
    name(m, what);
    return lay_out(m) ? error_set(err, -ENOMEM, 0, "%s: out of memory", what) : 0;
}

int profile_model_of(struct profile_model **out, struct pprof_profile *p, const char *what,
                     const char *sample_type, bool inverted, struct fscope_error *err)
{
    *out = NULL;
    struct profile_model *m = calloc(1, sizeof *m);
    if (!m) {
        pprof_free(p);
        return error_set(err, -ENOMEM, 0, "%s: out of memory", what);
    }
    m->profile = p;
    int rc = fill(m, what, sample_type, inverted, err);
    if (rc)
        profile_model_free(m);
    else
        *out = m;
    return rc;
}

int profile_model_open(struct profile_model **out, const char *path, const char *sample_type,
                       bool inverted, struct fscope_error *err)
{
    struct pprof_profile *p;
    *out = NULL;
    int rc = pprof_read_file(&p, path, NULL, err);
    return rc ? rc : profile_model_of(out, p, path, sample_type, inverted, err);
}

void profile_model_free(struct profile_model *m)
{
    if (!m)
        return;
    stacks_finish(&m->stacks);
    report_finish(&m->report);
    pprof_free(m->profile);
    free(m->left);
    free(m);
}
