// SPDX-License-Identifier: MIT
//
// What a rule's scopes select, and what its terms say of the sums.

#include "analysis/gate_internal.h"
#include "analysis/statistics.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

enum { NAME_BYTES = 4096 };

// A function is meant by its name in the profile or by the one that it has in every build.
static bool line_matches(const struct gate_scope *s, const struct pprof_line *l)
{
    char key[NAME_BYTES];
    if (s->kind == GATE_IN_FILE)
        return regex_match(s->regex, l->function->filename);
    return regex_match(s->regex, l->function->name) ||
           regex_match(s->regex, paths_normalise(key, sizeof key, l->function->name));
}

static bool has_label(const struct gate_scope *s, const struct pprof_sample *sample)
{
    char number[32];
    for (uint32_t i = 0; i < sample->label_count; i++) {
        const struct pprof_label *l = &sample->labels[i];
        if (strcmp(l->key, s->key) != 0)
            continue;
        snprintf(number, sizeof number, "%lld", (long long)l->num);
        if (gate_label_matches(s->value, l->str[0] ? l->str : number))
            return true;
    }
    return false;
}

static bool scope_holds(const struct gate_scope *s, const struct pprof_sample *sample)
{
    if (s->kind == GATE_IN_LABEL)
        return has_label(s, sample);
    for (uint32_t i = 0; i < sample->location_count; i++) {
        const struct pprof_location *l = sample->locations[i];
        for (uint32_t k = 0; k < l->line_count; k++) {
            if (line_matches(s, &l->lines[k]))
                return true;
        }
    }
    return false;
}

bool gate_in_scope(const struct gate_job *j, const struct pprof_sample *s)
{
    for (uint32_t i = 0; i < j->rule->scope_count; i++) {
        if (!scope_holds(&j->rule->scopes[i], s))
            return false;
    }
    return true;
}

int gate_values(const struct gate_job *j, const struct gate_side *side, double *out)
{
    double ops = side == &j->kind->base ? j->base_ops : j->now_ops;
    for (size_t run = 0; run < side->count; run++) {
        const struct pprof_profile *p = side->runs[run];
        double sum = 0, total = 0;
        size_t index = 0;
        while (index < p->sample_type_count && strcmp(p->sample_types[index].type, j->type) != 0)
            index++;
        if (index == p->sample_type_count)
            return -ENOENT;
        for (size_t i = 0; i < p->sample_count; i++) {
            double value = (double)p->samples[i]->values[index];
            total += value;
            if (value != 0 && gate_in_scope(j, p->samples[i]))
                sum += value;
        }
        out[run] = j->rule->share    ? (total > 0 ? 100 * sum / total : 0)
                   : j->rule->per_op ? sum / ops
                                     : sum;
    }
    return 0;
}

static double amount_of(const struct gate_job *j, const struct gate_term *t)
{
    return t->unit == GATE_BYTES || t->unit == GATE_TIME ? t->amount * j->unit_factor : t->amount;
}

// What a value may grow to. Percent is of the value; of a share, which is in percent, it is points.
static double allowed(const struct gate_job *j, const struct gate_term *t, double base)
{
    if (t->unit == GATE_PERCENT && !j->rule->share)
        return base * (1 + t->amount / 100);
    return base + amount_of(j, t);
}

static int term_grew(const struct gate_job *j, const struct gate_term *t, const double *base,
                     size_t n, const double *now, size_t m, bool *fails, double *p)
{
    *p = 1;
    if (!j->finding->statistical) {
        *fails = m && now[0] > allowed(j, t, n ? base[n - 1] : 0);
        return 0;
    }
    double *shifted = calloc(n + 1, sizeof *shifted);
    struct statistics_test test = {.p = 1};
    if (!shifted)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++)
        shifted[i] = allowed(j, t, base[i]);
    int rc = statistics_mann_whitney(shifted, n, now, m, &test);
    free(shifted);
    *p = test.p;
    *fails = !rc && test.p <= j->finding->alpha;
    return rc == -EINVAL ? 0 : rc; // a side without runs shows nothing
}

static bool term_holds(const struct gate_job *j, const struct gate_term *t, double value)
{
    double amount = amount_of(j, t);
    return t->compare == GATE_EQUAL     ? value == amount
           : t->compare == GATE_AT_MOST ? value <= amount
                                        : value < amount;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// Terms are an "or" of "and"s. With growth the whole being true is a failure, of what must hold its
// being false. The p of an "and" is that of its weakest part, of an "or" that of its strongest.
int gate_opinion(const struct gate_job *j, double *base, size_t n, double *now, size_t m,
                 struct gate_opinion *out)
{
    const struct gate_rule *r = j->rule;
    bool growth = j->finding->growth, statistical = j->finding->statistical;
    bool any = false, all = true;
    double best = 1, worst = 0;
    qsort(base, n, sizeof *base, by_value);
    qsort(now, m, sizeof *now, by_value);
    // Of exact counts what differs between runs of one build is no growth, and any run can break
    // what must hold.
    out->base = statistical ? statistics_median_sorted(base, n) : n ? base[n - 1] : 0;
    out->now = statistical ? statistics_median_sorted(now, m)
               : !m        ? 0
               : growth    ? now[0]
                           : now[m - 1];
    for (uint32_t i = 0; i < r->term_count; i++) {
        const struct gate_term *t = &r->terms[i];
        bool is = false;
        double p = 1;
        if (growth) {
            int rc = term_grew(j, t, base, n, now, m, &is, &p);
            if (rc)
                return rc;
        } else {
            is = term_holds(j, t, out->now);
        }
        all &= is;
        worst = p > worst ? p : worst;
        if (t->and_next && i + 1 < r->term_count)
            continue;
        any |= all;
        best = worst < best ? worst : best;
        all = true;
        worst = 0;
    }
    out->p = best;
    out->fails = growth ? any : !any;
    return 0;
}
