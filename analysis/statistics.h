// SPDX-License-Identifier: MIT
//
// Statistics on a few runs: spread, and whether one set of runs is larger than another.
//
// Invariant: nothing assumes a distribution. The Mann-Whitney test counts orderings: exactly,
// with ties, as long as there are at most STATISTICS_EXACT_MAX runs in all; beyond that by the
// normal approximation with tie and continuity correction (Lehmann, Nonparametrics, 1.2 to 1.5).

#ifndef FIBERSCOPE_ANALYSIS_STATISTICS_H
#define FIBERSCOPE_ANALYSIS_STATISTICS_H

#include <stdbool.h>
#include <stddef.h>

enum { STATISTICS_EXACT_MAX = 60 };

struct statistics_spread {
    double median, mean, min, max;
    double mad;   // median absolute deviation from the median, unscaled
    double stdev; // of the sample (n - 1); 0 for one value
};

// Sorts values[0..n) and describes them; all zeros for n == 0. [any thread]
struct statistics_spread statistics_spread(double *values, size_t n);

// Of sorted values; 0 for none.
double statistics_median_sorted(const double *sorted, size_t n);

struct statistics_test {
    double u;   // pairs in which b is larger; a tie counts one half
    double p;   // probability of such a u or a larger one if both sides are alike
    bool exact; // counted, not approximated
};

// Whether b tends to be larger than a (one-sided). 0, -EINVAL for an empty side, -ENOMEM.
int statistics_mann_whitney(const double *a, size_t n, const double *b, size_t m,
                            struct statistics_test *out);

// The smallest p that n against m runs can give: 1 / C(n + m, n); 1 if either is 0.
double statistics_least_p(size_t n, size_t m);

// The least n for which n against n runs can reach p <= alpha.
size_t statistics_runs_needed(double alpha);

// Probability of at least k successes out of n at one half each: the sign test's p.
double statistics_sign_p(size_t k, size_t n);

#endif
