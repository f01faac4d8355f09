// SPDX-License-Identifier: MIT
//
// The rules of the allocation gate: what they say, read from text.
//
//   rule      = metric condition { scope } [ "per" [ "benchmark" ] "op" ]
//   metric    = [ kind ] TYPE [ "share" ]       alloc_objects, mutex delay, cpu share, leaks
//   kind      = "heap" | "cpu" | "wall" | "block" | "mutex"
//   condition = term { "or" term | "and" term }  ("and" binds closer)
//   term      = ">" "+" amount                   growth: fails when the metric grew by more
//             | ( "==" | "<=" | "<" ) amount     budget: fails when it does not hold
//   amount    = NUMBER [ "%" | UNIT ]            B KiB MiB GiB kB MB GB, ns us ms s, k M
//   scope     = "in" "func" [ "matching" ] RE    samples with such a function on their stack
//             | "in" "file" [ "matching" ] RE    ... with a function of such a file
//             | "in" "label" KEY=VALUE           ... with this label (VALUE may hold * and ?)
//             | "in" "each" ( "path" | "func" )  judged one by one instead of together
//
// A file of rules has one per line, or several with semicolons between; # begins a comment. RE and
// KEY=VALUE end at white space or stand in "quotes" or 'quotes'. All words are lower case.
//
// Invariant: text is hostile; a rule has at most GATE_TERMS_MAX terms and GATE_SCOPES_MAX scopes, a
// set GATE_RULES_MAX rules, so that reading is linear and what is read is bounded.

#ifndef FIBERSCOPE_ANALYSIS_GATE_RULES_H
#define FIBERSCOPE_ANALYSIS_GATE_RULES_H

#include "analysis/regex.h"
#include "base/arena.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { GATE_TERMS_MAX = 8, GATE_SCOPES_MAX = 8, GATE_RULES_MAX = 256 };
enum { GATE_TEXT_MAX = 1 << 20 }; // bytes of a file of rules

enum gate_compare { GATE_GROWTH, GATE_EQUAL, GATE_AT_MOST, GATE_BELOW };
enum gate_unit { GATE_PLAIN, GATE_PERCENT, GATE_BYTES, GATE_TIME }; // BYTES and TIME: in B and ns
enum gate_each { GATE_TOGETHER, GATE_EACH_PATH, GATE_EACH_FUNC };
enum gate_scope_kind { GATE_IN_FUNC, GATE_IN_FILE, GATE_IN_LABEL };

struct gate_term {
    enum gate_compare compare;
    enum gate_unit unit;
    double amount;
    bool and_next; // joined with the next term by "and"; else "or"
};

struct gate_scope {
    enum gate_scope_kind kind;
    const char *text;    // as written
    struct regex *regex; // func and file
    const char *key, *value;
};

struct gate_rule {
    const char *text;   // without comment, white space trimmed
    const char *source; // "--rule", a file's name, "default"
    uint32_t line, column;
    const char *kind; // NULL: any
    const char *type; // sample type; "leaks" reads inuse_objects
    bool share;       // of the profile's total, in percent
    bool per_op;
    enum gate_each each;
    struct gate_term terms[GATE_TERMS_MAX];
    struct gate_scope scopes[GATE_SCOPES_MAX];
    uint32_t term_count, scope_count;
};

struct gate_rules {
    struct arena arena;
    struct gate_rule *rules[GATE_RULES_MAX];
    size_t count;
};

// Adds the rules in text[0..n). source is for messages and copied. 0, -ENOMEM, or -EINVAL with
// "SOURCE:LINE:COLUMN: what is wrong" and, where one is near, the right word. Of a text with an
// error no rule is added. A zeroed struct gate_rules is an empty set.
int gate_rules_add(struct gate_rules *r, const char *source, const char *text, size_t n,
                   struct fscope_error *err);
// The same from a file; what the system says when it cannot be read.
int gate_rules_add_file(struct gate_rules *r, const char *path, struct fscope_error *err);

void gate_rules_finish(struct gate_rules *r); // accepts a zeroed one

// Whether VALUE of a label scope (with * and ?) covers text. [any thread]
bool gate_label_matches(const char *pattern, const char *text);

#endif
