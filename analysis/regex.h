// SPDX-License-Identifier: MIT
//
// Regular expressions for filters, in the syntax that pprof's users know.
//
// PCRE2, not regcomp(3): Go's RE2 syntax (\d, \b, (?i), (?:), non-greedy) is almost a subset of
// PCRE2's, while POSIX has none of it. Whether there is a match is the same in both; what RE2 lacks
// (back references, look-around) works here. Matching is bounded by PCRE2's match limit instead of
// RE2's linear time: a pattern that exceeds it matches nothing.

#ifndef FIBERSCOPE_ANALYSIS_REGEX_H
#define FIBERSCOPE_ANALYSIS_REGEX_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

struct regex;

// Compiles pattern; what ("focus") goes before an error's text. 0, -ENOMEM or -EINVAL with the
// place and the reason. The caller owns *out.
int regex_compile(struct regex **out, const char *what, const char *pattern,
                  struct fscope_error *err);
bool regex_match(struct regex *r, const char *text); // anywhere in text
void regex_free(struct regex *r);                    // accepts NULL

#endif
