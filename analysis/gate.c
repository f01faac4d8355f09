// SPDX-License-Identifier: MIT
//
// Judging rule by rule. See gate.h.

#include "analysis/gate_internal.h"
#include "analysis/statistics.h"
#include "analysis/units.h"
#include "base/nearest.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void gate_say(struct gate_finding *f, enum gate_verdict v, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    f->verdict = v;
    vsnprintf(f->text, sizeof f->text, fmt, ap);
    va_end(ap);
}

const char *gate_verdict_name(enum gate_verdict v)
{
    return v == GATE_OK ? "ok" : v == GATE_REGRESSION ? "regression" : "cannot tell";
}

static int type_index(const struct pprof_profile *p, const char *type)
{
    for (size_t i = 0; i < p->sample_type_count; i++) {
        if (!strcmp(p->sample_types[i].type, type))
            return (int)i;
    }
    return -1;
}

// Which of the two a contention profile is; NULL: it does not say, nor does its file's name.
static const char *contention_kind(const struct pprof_profile *p, const char *path)
{
    const char *slash = path ? strrchr(path, '/') : NULL, *base = slash ? slash + 1 : path;
    for (size_t i = 0; i < p->comment_count; i++) {
        if (!strcmp(p->comments[i], "kind: block"))
            return "block";
        if (!strcmp(p->comments[i], "kind: mutex"))
            return "mutex";
    }
    bool is_block = base && strstr(base, "block"), is_mutex = base && strstr(base, "mutex");
    return is_block == is_mutex ? NULL : is_block ? "block" : "mutex";
}

bool gate_kind_name(char name[32], const struct pprof_profile *p, const char *path)
{
    static const char *const by_type[][2] = {{"inuse_space", "heap"},
                                             {"alloc_space", "heap"},
                                             {"alloc_objects", "heap"},
                                             {"cpu", "cpu"},
                                             {"wall", "wall"}};
    const char *found = NULL;
    for (size_t i = 0; i < sizeof by_type / sizeof *by_type && !found; i++)
        found = type_index(p, by_type[i][0]) >= 0 ? by_type[i][1] : NULL;
    bool is_contention = !found && type_index(p, "contentions") >= 0;
    if (is_contention)
        found = contention_kind(p, path);
    if (!found && p->sample_type_count)
        found = p->sample_types[p->sample_type_count - 1].type;
    snprintf(name, 32, "%.31s", found ? found : "empty");
    return !is_contention || !strcmp(name, "block") || !strcmp(name, "mutex");
}

bool gate_is_exact(const struct gate_kind *k)
{
    const struct gate_side *s = k->base.count ? &k->base : &k->now;
    return !strcmp(k->name, "heap") && s->count && s->runs[0]->period == 1;
}

int64_t gate_ops(const struct pprof_profile *p)
{
    int64_t most = 0;
    for (size_t i = 0; i < p->comment_count; i++) {
        int64_t said =
            strncmp(p->comments[i], "ops=", 4) ? 0 : strtoll(p->comments[i] + 4, NULL, 10);
        most = said > 0 ? said : most; // the last: what --ops said goes before what was counted
    }
    if (most > 0)
        return most;
    for (size_t i = 0; i < p->sample_count; i++) {
        const struct pprof_sample *s = p->samples[i];
        for (uint32_t k = 0; k < s->label_count; k++) {
            if (!strcmp(s->labels[k].key, "ops") && !s->labels[k].str[0] && s->labels[k].num > most)
                most = s->labels[k].num;
        }
    }
    return most;
}

double gate_alpha(const struct gate_input *in)
{
    return in->alpha > 0 ? in->alpha : 0.05;
}

static double ops_of(const struct gate_input *in, const struct gate_side *s)
{
    if (in->ops > 0)
        return (double)in->ops;
    return s->count ? (double)gate_ops(s->runs[0]) : 0;
}

int gate_default_rules(struct gate_rules *rules, const struct gate_input *in,
                       struct fscope_error *err)
{
    static const struct {
        const char *kind, *exact, *sampled;
    } defaults[] = {
        // One more allocation in a whole run may come from the environment: a longer path, a pipe
        // in place of a terminal. Two on one path do not.
        {"heap", "heap alloc_objects > +1 in each path",
         "heap alloc_space > +5%; heap inuse_space > +10%"},
        {"cpu", NULL, "cpu > +5%"},
        {"wall", NULL, "wall > +10%"},
        {"block", NULL, "block delay > +20%"},
        {"mutex", NULL, "mutex delay > +20%"},
    };
    int rc = 0;
    for (size_t i = 0; i < in->kind_count; i++) {
        for (size_t d = 0; d < sizeof defaults / sizeof *defaults && !rc; d++) {
            if (!in->kinds[i].base.count || strcmp(in->kinds[i].name, defaults[d].kind) != 0)
                continue;
            bool exact = gate_is_exact(&in->kinds[i]) && defaults[d].exact;
            const char *text = exact ? defaults[d].exact : defaults[d].sampled;
            rc = gate_rules_add(rules, "default", text, strlen(text), err);
        }
    }
    return rc;
}

static bool kind_has(const struct gate_kind *k, const char *type)
{
    const struct gate_side *s = k->now.count ? &k->now : &k->base;
    return s->count && type_index(s->runs[0], type) >= 0;
}

// Says that no profile has the metric, and which word may have been meant.
static void no_such_metric(struct gate_job *j)
{
    const struct gate_input *in = j->input;
    const char *words[GATE_KINDS_MAX * 8];
    char list[200] = "";
    size_t n = 0;
    for (size_t i = 0; i < in->kind_count; i++) {
        const struct gate_kind *k = &in->kinds[i];
        const struct pprof_profile *p = k->now.count ? k->now.runs[0] : k->base.runs[0];
        for (size_t t = 0; t < p->sample_type_count && n < sizeof words / sizeof *words; t++) {
            size_t at = strlen(list);
            words[n++] = p->sample_types[t].type;
            snprintf(list + at, sizeof list - at, "%s%s", at ? " " : "", words[n - 1]);
        }
    }
    const char *near = nearest_word(j->type, words, n);
    bool is_kind = j->rule->kind && strcmp(j->rule->kind, j->type) == 0;
    gate_say(j->finding, GATE_CANNOT_TELL, "%s%s%s%s%s; there is: %s%s%s%s",
             is_kind ? "there is no " : "no profile here has ",
             j->rule->kind && !is_kind ? j->rule->kind : "", j->rule->kind && !is_kind ? " " : "",
             j->type, is_kind ? " profile here" : "", list[0] ? list : "nothing",
             near ? " (did you mean " : "", near ? near : "", near ? "?)" : "");
}

// Finds the kind that the rule speaks of. False after saying why there is none.
static bool find_kind(struct gate_job *j)
{
    const struct gate_input *in = j->input;
    const struct gate_kind *other = NULL;
    for (size_t i = 0; i < in->kind_count; i++) {
        const struct gate_kind *k = &in->kinds[i];
        if ((j->rule->kind && strcmp(j->rule->kind, k->name) != 0) || !kind_has(k, j->type))
            continue;
        other = j->kind ? j->kind : other;
        j->kind = k;
    }
    if (!j->kind) {
        no_such_metric(j);
        return false;
    }
    j->finding->kind = j->kind->name;
    if (other)
        gate_say(j->finding, GATE_CANNOT_TELL,
                 "both the %s and the %s profile have %s; write \"%s %s\"", other->name,
                 j->kind->name, j->type, other->name, j->type);
    return !other;
}

// Whether all runs of both sides can be compared. False after saying why not.
static bool comparable(struct gate_job *j)
{
    const struct gate_kind *k = j->kind;
    struct gate_finding *f = j->finding;
    if (!k->now.count || (j->finding->growth && !k->base.count)) {
        const char *side = k->now.count ? "baseline" : "new side";
        gate_say(f, GATE_CANNOT_TELL,
                 "the %s has no %s profile; record the same kinds on both sides", side, k->name);
        return false;
    }
    for (size_t i = 0; i < k->base.count + k->now.count; i++) {
        const struct pprof_profile *p =
            i < k->base.count ? k->base.runs[i] : k->now.runs[i - k->base.count];
        bool exact = p->period == 1;
        int index = type_index(p, j->type);
        if (index < 0) {
            gate_say(f, GATE_CANNOT_TELL, "a %s profile of the %s has no %s", k->name,
                     i < k->base.count ? "baseline" : "new side", j->type);
            return false;
        }
        if (!strcmp(k->name, "heap") && exact != j->exact) {
            gate_say(
                f, GATE_CANNOT_TELL,
                "exact and sampled heap profiles are mixed (periods 1 and %lld); record both "
                "sides with the same --heap",
                (long long)(exact ? k->base.count ? k->base.runs[0]->period : k->now.runs[0]->period
                                  : p->period));
            return false;
        }
        if (j->unit && strcmp(j->unit, p->sample_types[index].unit) != 0) {
            gate_say(f, GATE_CANNOT_TELL, "%s is in %s and in %s", j->type, j->unit,
                     p->sample_types[index].unit);
            return false;
        }
        j->unit = p->sample_types[index].unit;
    }
    f->unit = j->unit;
    return true;
}

static bool check_units(struct gate_job *j)
{
    static const struct {
        const char *name;
        enum gate_unit unit;
        double factor;
    } known[] = {{"bytes", GATE_BYTES, 1},          {"kilobytes", GATE_BYTES, 1.0 / 1024},
                 {"nanoseconds", GATE_TIME, 1},     {"microseconds", GATE_TIME, 1e-3},
                 {"milliseconds", GATE_TIME, 1e-6}, {"seconds", GATE_TIME, 1e-9}};
    enum gate_unit is = GATE_PLAIN;
    j->unit_factor = 1;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (!strcmp(j->unit, known[i].name)) {
            is = known[i].unit;
            j->unit_factor = known[i].factor;
        }
    }
    for (uint32_t i = 0; i < j->rule->term_count; i++) {
        enum gate_unit unit = j->rule->terms[i].unit;
        if (unit != GATE_PLAIN && unit != GATE_PERCENT && unit != is) {
            gate_say(j->finding, GATE_CANNOT_TELL, "%s is in %s, which %s cannot be compared with",
                     j->type, j->unit, unit == GATE_BYTES ? "a size" : "a time");
            return false;
        }
    }
    return true;
}

static bool check_ops(struct gate_job *j)
{
    j->base_ops = ops_of(j->input, &j->kind->base);
    j->now_ops = ops_of(j->input, &j->kind->now);
    if (!j->rule->per_op || (j->now_ops > 0 && (j->base_ops > 0 || !j->finding->growth)))
        return true;
    gate_say(
        j->finding, GATE_CANNOT_TELL,
        "the %s does not say how many operations it ran; give --ops N, or the profile a comment "
        "ops=N",
        j->now_ops > 0 ? "baseline" : "new profile");
    return false;
}

static bool enough_runs(struct gate_job *j)
{
    struct gate_finding *f = j->finding;
    f->alpha = gate_alpha(j->input) / (double)(j->comparisons ? j->comparisons : 1);
    if (!f->growth || !f->statistical || statistics_least_p(f->base_runs, f->now_runs) <= f->alpha)
        return true;
    gate_say(
        f, GATE_CANNOT_TELL,
        "%zu run%s against %zu cannot show a difference at %g %% confidence (%zu comparison%s); "
        "record %zu of each (--runs %zu), or lower --confidence",
        f->base_runs, f->base_runs == 1 ? "" : "s", f->now_runs, 100 * (1 - gate_alpha(j->input)),
        j->comparisons, j->comparisons == 1 ? "" : "s", statistics_runs_needed(f->alpha),
        statistics_runs_needed(f->alpha));
    return false;
}

static void describe(struct gate_job *j, const struct gate_opinion *o)
{
    char a[UNITS_LABEL_MAX + 8], b[UNITS_LABEL_MAX + 8];
    struct gate_finding *f = j->finding;
    f->base = o->base;
    f->now = o->now;
    f->p = o->p;
    gate_label(a, sizeof a, f, f->base);
    gate_label(b, sizeof b, f, f->now);
    enum gate_verdict v = o->fails ? GATE_REGRESSION : GATE_OK;
    if (f->growth && f->statistical)
        gate_say(f, v, "median %.40s -> %.40s (%zu and %zu runs, p = %.2g, %s at %g)", a, b,
                 f->base_runs, f->now_runs, o->p, o->fails ? "significant" : "not significant",
                 f->alpha);
    else if (f->growth)
        gate_say(f, v, "%.40s -> %.40s", a, b);
    else if (f->statistical && f->now_runs > 1)
        gate_say(f, v, "median %.40s of %zu runs", b, f->now_runs);
    else
        gate_say(f, v, "%.40s%s", b, f->statistical ? " in one run" : "");
}

static int judge_together(struct gate_job *j, struct fscope_error *err)
{
    struct gate_finding *f = j->finding;
    size_t n = j->kind->base.count, m = j->kind->now.count;
    double *values = calloc(n + m + 1, sizeof *values);
    struct gate_opinion o;
    int rc = values ? gate_values(j, &j->kind->base, values) : -ENOMEM;
    if (!rc)
        rc = gate_values(j, &j->kind->now, values + n);
    if (!rc)
        rc = gate_opinion(j, values, n, values + n, m, &o);
    if (!rc) {
        describe(j, &o);
        if (f->verdict == GATE_REGRESSION)
            rc = gate_list_paths(j, err);
    }
    free(values);
    return rc;
}

static int judge_rule(struct gate_job *j, struct fscope_error *err)
{
    struct gate_finding *f = j->finding;
    f->rule = j->rule;
    f->kind = f->unit = "";
    f->type = j->type = strcmp(j->rule->type, "leaks") ? j->rule->type : "inuse_objects";
    f->growth = j->rule->terms[0].compare == GATE_GROWTH;
    if (!find_kind(j))
        return 0;
    j->exact = gate_is_exact(j->kind);
    f->statistical = !j->exact;
    f->base_runs = j->kind->base.count;
    f->now_runs = j->kind->now.count;
    if (!comparable(j) || !check_units(j) || !check_ops(j))
        return 0;
    if (j->now_ops > 0)
        j->result->ops = j->now_ops;
    if (j->rule->each != GATE_TOGETHER)
        return gate_judge_each(j, err);
    return enough_runs(j) ? judge_together(j, err) : 0;
}

// How many statistical comparisons the check makes, as far as rules and not profiles say.
static size_t comparisons_of(const struct gate_input *in, const struct gate_rules *rules)
{
    size_t n = 0;
    for (size_t i = 0; i < rules->count; i++) {
        const struct gate_rule *r = rules->rules[i];
        const char *type = strcmp(r->type, "leaks") ? r->type : "inuse_objects";
        bool exact = false;
        for (size_t k = 0; k < in->kind_count; k++)
            exact |= kind_has(&in->kinds[k], type) && gate_is_exact(&in->kinds[k]);
        n += r->terms[0].compare == GATE_GROWTH && !exact;
    }
    return n;
}

int gate_judge(struct gate_result *r, const struct gate_input *in, const struct gate_rules *rules,
               struct fscope_error *err)
{
    int rc = 0;
    bool doubt = false;
    *r = (struct gate_result){0};
    r->findings = arena_array(&r->arena, rules->count + 1, sizeof *r->findings);
    if (!r->findings)
        return error_set(err, -ENOMEM, 0, "out of memory");
    size_t comparisons = comparisons_of(in, rules);
    for (size_t i = 0; i < rules->count && !rc; i++) {
        struct gate_job j = {.result = r,
                             .finding = &r->findings[r->count++],
                             .input = in,
                             .rule = rules->rules[i],
                             .comparisons = comparisons};
        rc = judge_rule(&j, err);
        if (j.finding->verdict == GATE_REGRESSION)
            r->verdict = GATE_REGRESSION;
        doubt |= j.finding->verdict == GATE_CANNOT_TELL;
    }
    if (rc)
        return error_set(err, rc, 0, rc == -ENOMEM ? "out of memory" : "%s", strerror(-rc));
    if (r->verdict == GATE_OK && (doubt || !rules->count))
        r->verdict = GATE_CANNOT_TELL;
    return 0;
}

void gate_finish(struct gate_result *r)
{
    arena_finish(&r->arena);
    *r = (struct gate_result){0};
}

const char *gate_label(char *buf, size_t size, const struct gate_finding *f, double value)
{
    if (f->rule->share)
        snprintf(buf, size, "%.3g%%", value);
    else if (f->rule->per_op)
        snprintf(buf, size, "%.4g%s/op", value,
                 !strcmp(f->unit, "bytes")         ? " B"
                 : !strcmp(f->unit, "nanoseconds") ? " ns"
                                                   : "");
    else if (fabs(value) < 9e18 && strcmp(f->unit, "count") != 0)
        units_label(buf, size, llround(value), f->unit, "auto");
    else
        snprintf(buf, size, "%.15g", value);
    return buf;
}
