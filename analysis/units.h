// SPDX-License-Identifier: MIT
//
// Values with their units for people: 1.50s, 12.34MB, 7.31%. The spelling is google/pprof's, so
// that reports can be compared figure by figure.

#ifndef FIBERSCOPE_ANALYSIS_UNITS_H
#define FIBERSCOPE_ANALYSIS_UNITS_H

#include <stddef.h>
#include <stdint.h>

enum { UNITS_LABEL_MAX = 400 }; // a double in %.2f has at most 309 digits; a unit is cut

// value in unit from, as a number in unit to; to "auto" or "minimum": the largest that leaves at
// least 1. *unit is what the number is in, "" where the unit says nothing (count). from and to may
// be *unit itself. The result stays valid as long as to does.
double units_scale(int64_t value, const char *from, const char *to, const char **unit);

// The same as text with at most two decimals: "1.50s", "0", "17". Returns buf.
const char *units_label(char *buf, size_t size, int64_t value, const char *from, const char *to);

// |value| of total: "  100%", " 7.31%", "0.051%"; at least two digits.
const char *units_percent(char *buf, size_t size, int64_t value, int64_t total);

#endif
