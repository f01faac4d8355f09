// SPDX-License-Identifier: MIT
//
// The gate: whether a new build allocates, waits or runs more than its baseline, by rules.
//
// Two kinds of evidence. Counts of an exact heap profile (period 1) are compared as they are; where
// runs of one build differ, only growth beyond that difference counts. Everything else is sampled
// or timed, and is compared by a Mann-Whitney test over the runs, at confidence 1 - alpha for the
// whole check: alpha is divided by the number of comparisons. A budget ("<=", "==") needs no
// baseline: the worst run of exact counts, the median of others.
//
// Invariant: a verdict is never "ok" for lack of evidence: a missing kind, a mix of exact and
// sampled, a value that no profile has, or too few runs is GATE_CANNOT_TELL, with the reason and
// what to do.

#ifndef FIBERSCOPE_ANALYSIS_GATE_H
#define FIBERSCOPE_ANALYSIS_GATE_H

#include "analysis/gate_rules.h"
#include "analysis/paths.h"
#include "formats/pprof.h"

// In order of exit statuses.
enum gate_verdict { GATE_OK = 0, GATE_REGRESSION = 1, GATE_CANNOT_TELL = 2 };

enum { GATE_KINDS_MAX = 16, GATE_OFFENDERS_MAX = 50, GATE_NOTES_MAX = 32 };

struct gate_side {
    struct pprof_profile **runs; // [count]
    size_t count;
};

struct gate_kind {
    char name[32]; // "heap", "cpu", "wall", "block", "mutex", else the sample type
    struct gate_side base, now;
};

struct gate_input {
    struct gate_kind kinds[GATE_KINDS_MAX];
    size_t kind_count;
    double alpha; // 0: 0.05
    int64_t ops;  // operations per run, of both sides; 0: as the profiles say
};

// Where a metric grew (or, for a budget, comes from).
struct gate_offender {
    const char *function, *file; // "" if unknown
    int64_t line;
    enum paths_state state;
    const char *was;          // PATHS_RENAMED: the name before
    double base, now;         // as compared
    double per_op;            // (now - base) per operation; NAN if unknown
    const char *const *stack; // [depth] names, root first
    uint32_t depth;
};

struct gate_finding {
    const struct gate_rule *rule;
    enum gate_verdict verdict;
    const char *kind, *type, *unit; // "" if the metric was not found
    bool growth;                    // else a budget
    bool statistical;
    double base, now; // medians, or the worst exact run; percent for shares
    double p, alpha;  // statistical growth: the test's and what it was compared with
    size_t base_runs, now_runs;
    char text[400];                  // the verdict in a sentence, without the rule
    struct gate_offender *offenders; // largest first
    size_t offender_count, offender_total;
};

struct gate_result {
    struct arena arena;
    struct gate_finding *findings; // [count], in the order of the rules
    size_t count;
    enum gate_verdict verdict;         // regression before cannot tell before ok
    double ops;                        // per run of the new side, 0 if unknown
    const char *notes[GATE_NOTES_MAX]; // renames and moves that were not counted as growth
    size_t note_count;
};

// "heap", "cpu", ... of a profile. Block and mutex are told apart by the comment "kind: mutex", which ours have,
// else by the file's name (path, may be NULL): in Go's they look alike. False: by neither.
bool gate_kind_name(char name[32], const struct pprof_profile *p, const char *path);

// Whether the values are counts and not samples: a heap profile of period 1.
bool gate_is_exact(const struct gate_kind *k);

// Operations that a profile stands for: its last comment "ops=N" or the largest numeric label "ops"; 0
// if it does not say.
int64_t gate_ops(const struct pprof_profile *p);

// Adds the rules for the kinds that the baseline has: what is checked without any rules.
int gate_default_rules(struct gate_rules *rules, const struct gate_input *in,
                       struct fscope_error *err);

// Judges. 0 or -ENOMEM. r refers to in and rules and is to be finished in any case.
int gate_judge(struct gate_result *r, const struct gate_input *in, const struct gate_rules *rules,
               struct fscope_error *err);
void gate_finish(struct gate_result *r);

// A value of a finding with its unit: "1.50MB", "17", "12.3%". Returns buf.
const char *gate_label(char *buf, size_t size, const struct gate_finding *f, double value);
const char *gate_verdict_name(enum gate_verdict v); // "ok", "regression", "cannot tell"

#endif
