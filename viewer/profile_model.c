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

int64_t *profile_lay_out(const struct stacks *s)
{
    int64_t *left = calloc(s->count, sizeof *left);
    // A parent stands before its children, so one walk is enough.
    for (uint32_t i = 0; left && i < s->count; i++) {
        int64_t at = left[i];
        for (uint32_t c = s->nodes[i].first_child; c; c = s->nodes[c].next) {
            left[c] = at;
            at += s->nodes[c].total;
        }
    }
    return left;
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

static void name(struct profile_model *m, const char *what, const char *base)
{
    char total[UNITS_LABEL_MAX], duration[UNITS_LABEL_MAX], for_[UNITS_LABEL_MAX + 32] = "";
    const struct pprof_profile *p = m->profile;
    const char *program = base_name(m->module);
    snprintf(m->title, sizeof m->title, "%.90s%s%.90s%s%.90s", program,
             *program ? " \xc2\xb7 " : "", base ? base : what, base ? " \xe2\x86\x92 " : "",
             base ? what : "");
    if (base) {
        stacks_difference(m->width_is, sizeof m->width_is, &m->report, &m->stacks);
        return;
    }
    units_label(total, sizeof total, m->stacks.nodes[0].total, m->report.from_unit, "auto");
    if (p->duration_nanos > 0) {
        units_label(duration, sizeof duration, p->duration_nanos, "nanoseconds", "auto");
        snprintf(for_, sizeof for_, ", recorded for %.64s", duration);
    }
    snprintf(m->width_is, sizeof m->width_is, "width: %.64s, %.64s in %zu different stacks%.80s",
             m->report.type, total, p->sample_count, for_);
}

static void warn(void *arg, const char *text)
{
    struct profile_model *m = arg;
    snprintf(m->warning, sizeof m->warning, "%s", text);
}

// Strings that live as long as the profile does.
static const char *keep(struct pprof_profile *p, const char *s)
{
    return s && *s ? pprof_string(p, s) : NULL;
}

static struct report_options options_of(struct pprof_profile *p, const struct profile_look *look,
                                        const char *granularity)
{
    return (struct report_options){.sample_index = keep(p, look->sample_type),
                                   .focus = keep(p, look->focus),
                                   .ignore = keep(p, look->ignore),
                                   .hide = keep(p, look->hide),
                                   .show = keep(p, look->show),
                                   .granularity = granularity,
                                   .unit = "minimum",
                                   .divide_by = 1};
}

static int fill(struct profile_model *m, const char *what, const char *base,
                const struct profile_look *look, struct fscope_error *err)
{
    struct report_options o = options_of(m->profile, look, "functions");
    o.warn = warn;
    o.warn_arg = m;
    int rc = report_prepare(&m->report, m->profile, &o, err);
    if (!rc)
        rc = stacks_build(&m->stacks, &m->report, base ? STACKS_COMPARED : STACKS_POSITIVE,
                          look->inverted, err);
    if (rc)
        return rc;
    if (m->stacks.nodes[0].total <= 0 && *m->warning) // an expression that matched nothing
        return error_set(err, -ENODATA, 0, "%s: %s", what, m->warning);
    if (m->stacks.nodes[0].total <= 0)
        return error_set(err, -ENODATA, 0, "%s: no sample has a positive value of %s", what,
                         m->report.type);
    m->module = program_of(&m->stacks);
    name(m, base_name(what), base ? base_name(base) : NULL);
    m->left = profile_lay_out(&m->stacks);
    return m->left ? 0 : error_set(err, -ENOMEM, 0, "%s: out of memory", what);
}

// Takes p over.
static int make(struct profile_model **out, struct pprof_profile *p, const char *what,
                const char *base, const struct profile_look *look, struct fscope_error *err)
{
    *out = NULL;
    struct profile_model *m = calloc(1, sizeof *m);
    if (!m) {
        pprof_free(p);
        return error_set(err, -ENOMEM, 0, "%s: out of memory", what);
    }
    m->profile = p;
    int rc = fill(m, what, base, look, err);
    if (rc)
        profile_model_free(m);
    else
        *out = m;
    return rc;
}

static int copy(struct pprof_profile **out, const struct profile_file *f, struct fscope_error *err)
{
    struct pprof_profile *now = NULL, *base = NULL, *all[1] = {f->now};
    *out = NULL;
    int rc = pprof_merge(&now, all, 1, err);
    if (rc || !f->base) {
        *out = now;
        return rc;
    }
    all[0] = f->base;
    rc = pprof_merge(&base, all, 1, err);
    if (!rc)
        rc = pprof_subtract(out, now, base, PPROF_LABEL_BASE, err);
    pprof_free(now);
    pprof_free(base);
    return rc;
}

int profile_model_look(struct profile_model **out, const struct profile_file *f,
                       const struct profile_look *look, struct fscope_error *err)
{
    struct pprof_profile *p;
    *out = NULL;
    int rc = copy(&p, f, err);
    return rc ? rc : make(out, p, f->name, f->base ? f->base_name : NULL, look, err);
}

int profile_model_of(struct profile_model **out, struct pprof_profile *p, const char *what,
                     const char *sample_type, bool inverted, struct fscope_error *err)
{
    const struct profile_look look = {.sample_type = sample_type, .inverted = inverted};
    return make(out, p, what, NULL, &look, err);
}

int profile_model_part(struct profile_model **out, const struct pprof_profile *p, size_t samples,
                       const char *what, const char *sample_type, bool inverted,
                       struct fscope_error *err)
{
    size_t every = samples && p->sample_count > samples ? p->sample_count / samples : 1;
    struct pprof_profile thin = *p, *all[1] = {&thin}, *copy;
    *out = NULL;
    thin.sample_count = 0;
    thin.samples = malloc((p->sample_count / every + 1) * sizeof(struct pprof_sample *));
    double *ratios = malloc((p->sample_type_count + 1) * sizeof *ratios);
    int rc = thin.samples && ratios ? 0 : error_set(err, -ENOMEM, 0, "%s: out of memory", what);
    for (size_t i = 0; !rc && i < p->sample_count; i += every)
        thin.samples[thin.sample_count++] = p->samples[i];
    for (size_t i = 0; !rc && i < p->sample_type_count; i++)
        ratios[i] = (double)every;
    if (!rc)
        rc = pprof_merge(&copy, all, 1, err);
    if (!rc && copy->sample_type_count == p->sample_type_count)
        pprof_scale(copy, ratios);
    free(thin.samples);
    free(ratios);
    if (!rc)
        rc = profile_model_of(out, copy, what, sample_type, inverted, err);
    if (!rc)
        snprintf((*out)->warning, sizeof(*out)->warning,
                 "so far one sample of every %zu, for the others too", every);
    return rc;
}

int profile_model_first(struct profile_model **out, const struct profile_file *f,
                        const char *sample_type, bool inverted, struct fscope_error *err)
{
    struct profile_look look = {.sample_type = sample_type, .inverted = inverted};
    int rc = profile_model_look(out, f, &look, err);
    for (size_t i = 0; rc == -ENODATA && !sample_type && i < f->now->sample_type_count; i++) {
        look.sample_type = f->now->sample_types[i].type;
        rc = profile_model_look(out, f, &look, err);
    }
    return rc;
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

int profile_model_functions(struct profile_model *m, struct fscope_error *err)
{
    if (m->has_functions)
        return 0;
    m->has_functions = true; // once, also when it fails
    return report_graph(&m->report, err);
}

const struct report_node *profile_function(const struct profile_model *m, const char *label)
{
    for (size_t i = 0; label && i < m->report.node_count; i++)
        if (!strcmp(m->report.nodes[i]->label, label))
            return m->report.nodes[i];
    return NULL;
}

int profile_file_of(struct profile_file **out, struct pprof_profile *now, const char *name,
                    struct pprof_profile *base, const char *base_name, struct fscope_error *err)
{
    struct profile_file *f = calloc(1, sizeof *f);
    *out = f;
    if (!f) {
        pprof_free(now);
        pprof_free(base);
        return error_set(err, -ENOMEM, 0, "%s: out of memory", name);
    }
    f->now = now;
    f->base = base;
    snprintf(f->name, sizeof f->name, "%s", name);
    snprintf(f->base_name, sizeof f->base_name, "%s", base ? base_name : "");
    return 0;
}

void profile_file_free(struct profile_file *f)
{
    if (!f)
        return;
    pprof_free(f->now);
    pprof_free(f->base);
    free(f);
}

int profile_lines_open(struct profile_lines **out, const struct profile_file *f,
                       const struct profile_look *look, struct fscope_error *err)
{
    struct profile_lines *l = calloc(1, sizeof *l);
    *out = l;
    if (!l)
        return error_set(err, -ENOMEM, 0, "%s: out of memory", f->name);
    int rc = copy(&l->profile, f, err);
    if (!rc) {
        struct report_options o = options_of(l->profile, look, "lines");
        rc = report_prepare(&l->report, l->profile, &o, err);
    }
    if (!rc)
        rc = report_graph(&l->report, err);
    if (!rc)
        return 0;
    profile_lines_free(l);
    *out = NULL;
    return rc;
}

void profile_lines_free(struct profile_lines *l)
{
    if (!l)
        return;
    report_finish(&l->report);
    pprof_free(l->profile);
    free(l);
}
