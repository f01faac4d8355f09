// SPDX-License-Identifier: MIT
//
// Small profiles written out in a test, so that the truth can be counted by hand.
//
//   stack   frames by ';', outermost first; `outer>inner` is one location in which inner is inlined
//   frame   name, name@file or name@file:line; "?" is a location that has no name
//   labels  `key=text` or `key=#number unit`, by ','
//
// Invariant: equal frame texts are one location, different ones have different addresses; all lie
// in the mapping /BIN/APP (of letters that no frame has: filters look at it, too), but those that
// begin with '!' in /lib/libc.so.

#ifndef FIBERSCOPE_TESTS_MADE_PROFILE_H
#define FIBERSCOPE_TESTS_MADE_PROFILE_H

#include "analysis/report.h"

struct made {
    const char *stack;
    int64_t value; // "cpu" in nanoseconds; the first value, "samples", is count
    const char *labels;
    int64_t count;
};

// Rows say what matters in them; the rest is nothing.
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
struct pprof_profile *made_profile(const struct made *rows, size_t count);
#define MADE(...)                                                                                  \
    made_profile((const struct made[]){__VA_ARGS__},                                               \
                 sizeof((const struct made[]){__VA_ARGS__}) / sizeof(struct made))

// The samples that p has, in order, written as above without files: "main;a 5, main;b 3". Stands
// until the next call.
const char *made_samples(const struct pprof_profile *p);

// report_options that leave everything as it is.
#define MADE_OPTIONS .unit = "minimum", .divide_by = 1

// The printable node of this label among all nodes shown; NULL if there is none.
const struct report_node *made_node(const struct report *r, const char *label);

#endif
