// SPDX-License-Identifier: MIT
//
// Path by path, and where a sum comes from. Both work on the matched paths of both builds.

#include "analysis/gate_internal.h"
#include "analysis/statistics.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool keep(void *arg, const struct pprof_sample *s)
{
    return gate_in_scope(arg, s);
}

static int build(struct gate_job *j, struct paths *p, struct fscope_error *err)
{
    struct paths_input in = {.base = j->kind->base.runs,
                             .base_count = j->kind->base.count,
                             .now = j->kind->now.runs,
                             .now_count = j->kind->now.count,
                             .type = j->type,
                             .keep = keep,
                             .arg = j};
    return paths_build(p, &in, err);
}

// What is judged: a group of paths, or a function with all groups that it is in.
struct subject {
    const struct paths_group *group; // of a function: the one that grew most
    const char *name;                // function, NULL for a path
    int64_t *values;                 // [runs]
    struct gate_opinion opinion;
    double largest; // growth of group
    double weight;  // orders the list
};

static double median_of(const int64_t *v, size_t n, double *scratch)
{
    for (size_t i = 0; i < n; i++)
        scratch[i] = (double)v[i];
    return statistics_spread(scratch, n).median;
}

static double grown(const struct paths *p, const int64_t *values, double *scratch)
{
    return median_of(values + p->base_runs, p->runs - p->base_runs, scratch) -
           median_of(values, p->base_runs, scratch);
}

// All strings are copied: the paths are gone when the result is read.
static int add_offender(struct gate_job *j, const struct subject *s)
{
    struct gate_finding *f = j->finding;
    const struct paths_path *path = s->group->path;
    const struct paths_frame *blame = paths_blame(path);
    struct arena *a = &j->result->arena;
    if (f->offender_count == GATE_OFFENDERS_MAX)
        return 0;
    struct gate_offender *o = &f->offenders[f->offender_count];
    const char **stack = arena_array(a, path->depth + 1, sizeof *stack);
    *o = (struct gate_offender){.state = s->group->state,
                                .base = s->opinion.base,
                                .now = s->opinion.now,
                                .per_op = NAN,
                                .depth = path->depth,
                                .line = blame ? blame->line : 0};
    o->function = arena_strdup(a, blame ? blame->name : "[no stack]");
    o->file = arena_strdup(a, blame ? blame->file : "");
    o->was = s->group->was ? arena_strdup(a, s->group->was) : "";
    if (!stack || !o->function || !o->file || !o->was)
        return -ENOMEM;
    for (uint32_t i = 0; i < path->depth; i++) {
        stack[i] = arena_strdup(a, path->frames[i].name);
        if (!stack[i])
            return -ENOMEM;
    }
    o->stack = stack;
    if (j->rule->per_op)
        o->per_op = o->now - o->base;
    else if (j->now_ops > 0 && !j->rule->share && (j->base_ops > 0 || o->base == 0))
        o->per_op = o->now / j->now_ops - (o->base == 0 ? 0 : o->base / j->base_ops);
    f->offender_count++;
    return 0;
}

static int by_weight(const void *a, const void *b)
{
    const struct subject *x = a, *y = b;
    return (x->weight < y->weight) - (x->weight > y->weight);
}

static int list(struct gate_job *j, struct subject *subjects, size_t count)
{
    int rc = 0;
    struct gate_finding *f = j->finding;
    for (size_t i = 0; i < count; i++)
        subjects[i].weight = subjects[i].opinion.now - (f->growth ? subjects[i].opinion.base : 0);
    qsort(subjects, count, sizeof *subjects, by_weight);
    f->offenders = arena_array(&j->result->arena, GATE_OFFENDERS_MAX, sizeof *f->offenders);
    if (!f->offenders)
        return -ENOMEM;
    f->offender_total = count;
    for (size_t i = 0; i < count && !rc; i++)
        rc = add_offender(j, &subjects[i]);
    return rc;
}

// Renames and moves that would have been growth: worth a line, once.
static int note_matches(struct gate_job *j, const struct paths *p)
{
    struct gate_result *r = j->result;
    for (size_t i = 0; i < p->group_count && r->note_count < GATE_NOTES_MAX; i++) {
        const struct paths_group *g = &p->groups[i];
        char text[600];
        const char *leaf = g->path->depth ? g->path->frames[g->path->depth - 1].name : "";
        if (g->state == PATHS_RENAMED && g->was)
            snprintf(text, sizeof text, "%.250s was renamed to %.250s", g->was, g->now);
        else if (g->state == PATHS_MOVED && g->before)
            snprintf(text, sizeof text, "%.250s is reached through other frames than before", leaf);
        else
            continue;
        bool known = false;
        for (size_t k = 0; k < r->note_count; k++)
            known |= !strcmp(r->notes[k], text);
        if (known)
            continue;
        r->notes[r->note_count] = arena_strdup(&r->arena, text);
        if (!r->notes[r->note_count++])
            return -ENOMEM;
    }
    return 0;
}

struct function_table {
    struct ptrtab by_name;
    struct subject *subjects;
    size_t count, capacity;
};

static bool equal_function(const void *item, const void *key)
{
    return *(const char *const *)item == key;
}

struct function {
    const char *name;
    size_t index;
    uint32_t seen; // last group counted, + 1
};

// Made if it is not there. The name comes first, which is what equal_function looks at.
static struct function *function_of(struct paths *p, struct function_table *t, const char *name)
{
    uint64_t hash = ptrtab_mix(23, (uintptr_t)name);
    const void *found = ptrtab_find(&t->by_name, hash, equal_function, name);
    if (found)
        return (struct function *)(uintptr_t)found; // ours: p's arena
    struct function *f = arena_alloc(&p->arena, sizeof *f);
    if (!f || ptrtab_add(&t->by_name, hash, f))
        return NULL;
    if (t->count == t->capacity) {
        size_t more = t->capacity ? 2 * t->capacity : 64;
        struct subject *bigger = realloc(t->subjects, more * sizeof *bigger);
        if (!bigger)
            return NULL;
        t->subjects = bigger;
        t->capacity = more;
    }
    *f = (struct function){.name = name, .index = t->count++};
    t->subjects[f->index] = (struct subject){.name = name, .largest = -INFINITY};
    t->subjects[f->index].values = arena_array(&p->arena, p->runs + 1, sizeof(int64_t));
    return t->subjects[f->index].values ? f : NULL;
}

// A function's cumulative values; renamed and inlined ones keep theirs, since groups are matched.
static int functions_as_subjects(struct paths *p, struct function_table *t, double *scratch)
{
    for (size_t i = 0; i < p->group_count; i++) {
        const struct paths_group *g = &p->groups[i];
        double change = grown(p, g->values, scratch);
        for (uint32_t k = 0; k < g->path->depth; k++) {
            struct function *f = function_of(p, t, g->path->keys[k]);
            if (!f)
                return -ENOMEM;
            if (f->seen == i + 1)
                continue; // recursive
            f->seen = (uint32_t)i + 1;
            struct subject *s = &t->subjects[f->index];
            for (size_t r = 0; r < p->runs; r++)
                s->values[r] += g->values[r];
            if (change > s->largest) {
                s->largest = change;
                s->group = g;
            }
        }
    }
    return 0;
}

// `in each func matching RE` also limits which functions are judged, not only which samples count.
static bool is_judged(const struct gate_rule *r, const struct subject *s)
{
    bool limited = false, matches = false;
    for (uint32_t i = 0; i < r->scope_count && s->name; i++) {
        if (r->scopes[i].kind != GATE_IN_FUNC)
            continue;
        limited = true;
        matches |= regex_match(r->scopes[i].regex, s->name);
    }
    return !limited || matches;
}

// A subject's runs as the rule compares them; totals are of all samples.
static void values_of(struct gate_job *j, const struct paths *p, const struct subject *s,
                      const double *totals, double *out)
{
    for (size_t r = 0; r < p->runs; r++) {
        double ops = r < p->base_runs ? j->base_ops : j->now_ops, v = (double)s->values[r];
        out[r] = j->rule->share               ? (totals[r] > 0 ? 100 * v / totals[r] : 0)
                 : j->rule->per_op && ops > 0 ? v / ops
                                              : v;
    }
}

static void totals_of(struct gate_job *j, const struct paths *p, double *totals)
{
    for (size_t r = 0; r < p->runs; r++) {
        const struct pprof_profile *profile =
            r < p->base_runs ? j->kind->base.runs[r] : j->kind->now.runs[r - p->base_runs];
        size_t index = 0;
        while (strcmp(profile->sample_types[index].type, j->type) != 0)
            index++;
        for (size_t i = 0; i < profile->sample_count; i++)
            totals[r] += (double)profile->samples[i]->values[index];
    }
}

// Judges subjects[0..count) and moves those that fail to the front.
static int judge_subjects(struct gate_job *j, const struct paths *p, struct subject *subjects,
                          size_t *count)
{
    double *values = calloc(2 * p->runs + 2, sizeof *values), *totals = values + p->runs + 1;
    size_t failed = 0;
    int rc = values ? 0 : -ENOMEM;
    if (values)
        totals_of(j, p, totals);
    for (size_t i = 0; i < *count && !rc; i++) {
        struct subject *s = &subjects[i];
        if (!is_judged(j->rule, s))
            continue;
        values_of(j, p, s, totals, values);
        rc = gate_opinion(j, values, p->base_runs, values + p->base_runs, p->runs - p->base_runs,
                          &s->opinion);
        if (!rc && s->opinion.fails)
            subjects[failed++] = *s;
    }
    free(values);
    *count = failed;
    return rc;
}

static bool enough_runs_for(struct gate_job *j, size_t subjects)
{
    struct gate_finding *f = j->finding;
    size_t n = (j->comparisons ? j->comparisons : 1) * (subjects ? subjects : 1);
    f->alpha = gate_alpha(j->input) / (double)n;
    if (!f->growth || !f->statistical || statistics_least_p(f->base_runs, f->now_runs) <= f->alpha)
        return true;
    gate_say(
        f, GATE_CANNOT_TELL,
        "%zu and %zu runs cannot show at %g %% confidence which of %zu grew; record %zu of each, "
        "or judge them together (without \"each\")",
        f->base_runs, f->now_runs, 100 * (1 - gate_alpha(j->input)), subjects,
        statistics_runs_needed(f->alpha));
    return false;
}

static void describe_each(struct gate_job *j, size_t judged, size_t failed, const struct paths *p,
                          double *scratch)
{
    char a[440], b[440];
    struct gate_finding *f = j->finding;
    double base = 0, now = 0;
    const char *what = j->rule->each == GATE_EACH_PATH ? "path" : "function";
    for (size_t i = 0; i < p->group_count; i++) {
        base += median_of(p->groups[i].values, p->base_runs, scratch);
        now += median_of(p->groups[i].values + p->base_runs, p->runs - p->base_runs, scratch);
    }
    f->base = j->rule->per_op && j->base_ops > 0 ? base / j->base_ops : base;
    f->now = j->rule->per_op && j->now_ops > 0 ? now / j->now_ops : now;
    if (j->rule->share)
        gate_say(f, failed ? GATE_REGRESSION : GATE_OK, "%zu of %zu %ss", failed, judged, what);
    else
        gate_say(f, failed ? GATE_REGRESSION : GATE_OK, "%zu of %zu %ss; %.40s -> %.40s in all",
                 failed, judged, what, gate_label(a, sizeof a, f, f->base),
                 gate_label(b, sizeof b, f, f->now));
}

int gate_judge_each(struct gate_job *j, struct fscope_error *err)
{
    struct paths p;
    struct function_table t = {0};
    struct subject *subjects = NULL;
    size_t count = 0, judged = 0;
    int rc = build(j, &p, err);
    double *scratch = rc ? NULL : calloc(p.runs + 1, sizeof *scratch);
    if (!rc && !scratch)
        rc = -ENOMEM;
    if (!rc && j->rule->each == GATE_EACH_FUNC) {
        rc = functions_as_subjects(&p, &t, scratch);
        subjects = t.subjects;
        count = t.count;
    } else if (!rc) {
        subjects = calloc(p.group_count + 1, sizeof *subjects);
        rc = subjects ? 0 : -ENOMEM;
        for (; !rc && count < p.group_count; count++)
            subjects[count] =
                (struct subject){.group = &p.groups[count], .values = p.groups[count].values};
    }
    for (size_t i = 0; i < count; i++)
        judged += is_judged(j->rule, &subjects[i]);
    if (!rc && enough_runs_for(j, judged)) {
        rc = judge_subjects(j, &p, subjects, &count);
        if (!rc)
            describe_each(j, judged, count, &p, scratch);
        if (!rc && count)
            rc = list(j, subjects, count);
        if (!rc)
            rc = note_matches(j, &p);
    }
    free(subjects == t.subjects ? NULL : subjects);
    free(t.subjects);
    ptrtab_finish(&t.by_name);
    free(scratch);
    paths_finish(&p);
    return rc;
}

int gate_list_paths(struct gate_job *j, struct fscope_error *err)
{
    struct paths p;
    int rc = build(j, &p, err);
    double *values = rc ? NULL : calloc(2 * (p.runs + 1), sizeof *values);
    struct subject *subjects = rc ? NULL : calloc(p.group_count + 1, sizeof *subjects);
    size_t count = 0;
    if (!rc && (!values || !subjects))
        rc = -ENOMEM;
    double *totals = rc ? NULL : values + p.runs + 1;
    if (!rc)
        totals_of(j, &p, totals);
    for (size_t i = 0; !rc && i < p.group_count; i++) {
        struct subject s = {.group = &p.groups[i], .values = p.groups[i].values};
        values_of(j, &p, &s, totals, values);
        double base = statistics_spread(values, p.base_runs).median;
        double now = statistics_spread(values + p.base_runs, p.runs - p.base_runs).median;
        // What must hold is broken by all that is there, grown or not.
        s.opinion = (struct gate_opinion){.base = base, .now = now};
        if (j->finding->growth ? now > base : now > 0)
            subjects[count++] = s;
    }
    if (!rc)
        rc = list(j, subjects, count);
    free(subjects);
    free(values);
    paths_finish(&p);
    return rc;
}
