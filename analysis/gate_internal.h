// SPDX-License-Identifier: MIT
//
// What the files of the gate share. See gate.h.

#ifndef FIBERSCOPE_ANALYSIS_GATE_INTERNAL_H
#define FIBERSCOPE_ANALYSIS_GATE_INTERNAL_H

#include "analysis/gate.h"

// One rule on one kind.
struct gate_job {
    struct gate_result *result;
    struct gate_finding *finding;
    const struct gate_input *input;
    const struct gate_rule *rule;
    const struct gate_kind *kind;
    const char *type, *unit;
    bool exact;
    double unit_factor; // a term's amount in B or ns times this is in the profile's unit
    double base_ops, now_ops;
    size_t comparisons; // that alpha is divided by
};

// What a rule's terms say of one subject: base[0..n) against now[0..m).
struct gate_opinion {
    bool fails;
    double base, now; // as compared
    double p;
};

double gate_alpha(const struct gate_input *in);
bool gate_in_scope(const struct gate_job *j, const struct pprof_sample *s);

// The runs' sums within the rule's scopes, divided as it asks, into out[count]. -ENOENT without
// type.
int gate_values(const struct gate_job *j, const struct gate_side *side, double *out);

// base and now are sorted on return. 0 or -ENOMEM.
int gate_opinion(const struct gate_job *j, double *base, size_t n, double *now, size_t m,
                 struct gate_opinion *out);

// Judges path by path or function by function. 0 or -ENOMEM.
int gate_judge_each(struct gate_job *j, struct fscope_error *err);

// Lists the paths that weigh most (of growth, or of the value) in a finding that is judged
// together.
int gate_list_paths(struct gate_job *j, struct fscope_error *err);

__attribute__((format(printf, 3, 4))) void gate_say(struct gate_finding *f, enum gate_verdict v,
                                                    const char *fmt, ...);

#endif
