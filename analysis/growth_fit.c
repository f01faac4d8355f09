// SPDX-License-Identifier: MIT
//
// Theil-Sen slope and Kendall's tau. See growth.h.
//
// How often each number of inversions occurs among all orders of the values, ties included, are the
// coefficients of a Gaussian multinomial: [n]! / ([t1]! [t2]! ..) with [m] = 1 + q + .. + q^(m-1).
// Whole numbers throughout, so nothing is lost to rounding.

#include "analysis/growth.h"

#include <math.h>
#include <stdlib.h>

__extension__ typedef unsigned __int128 count_t; // 30! has 108 bits

enum { INVERSIONS_MAX = GROWTH_EXACT_MAX * (GROWTH_EXACT_MAX - 1) / 2 };

static int by_double(const void *x, const void *y)
{
    double a = *(const double *)x, b = *(const double *)y;
    return (a > b) - (a < b);
}

static int by_int(const void *x, const void *y)
{
    int64_t a = *(const int64_t *)x, b = *(const int64_t *)y;
    return (a > b) - (a < b);
}

double growth_slope(const double *x, const int64_t *y, size_t n, double *scratch)
{
    size_t m = 0;
    for (size_t i = 0; i < n; i++) {
        for (size_t j = i + 1; j < n; j++) {
            if (x[j] > x[i])
                scratch[m++] = ((double)y[j] - (double)y[i]) / (x[j] - x[i]);
        }
    }
    if (!m)
        return 0;
    qsort(scratch, m, sizeof *scratch, by_double);
    return m % 2 ? scratch[m / 2] : (scratch[m / 2 - 1] + scratch[m / 2]) / 2;
}

// a *= [m]: each coefficient becomes the sum of itself and the m - 1 before it.
static void multiply(count_t *a, size_t degree, size_t m)
{
    for (size_t k = degree + 1; k-- > 0;) {
        for (size_t j = 1; j < m && j <= k; j++)
            a[k] += a[k - j];
    }
}

// a /= [m], which goes without remainder.
static void divide(count_t *a, size_t degree, size_t m)
{
    for (size_t k = 0; k <= degree; k++) {
        for (size_t j = 1; j < m && j <= k; j++)
            a[k] -= a[k - j];
    }
}

// ties: how often each value occurs. pairs: those of different values; s: of them, how many more go
// up than down.
static double exact_p(size_t n, const size_t *ties, size_t tie_count, size_t pairs, int64_t s)
{
    static count_t a[INVERSIONS_MAX + 1]; // one thread builds reports
    double all = 0, extreme = 0;
    for (size_t k = 0; k <= INVERSIONS_MAX; k++)
        a[k] = k == 0;
    for (size_t m = 2; m <= n; m++)
        multiply(a, INVERSIONS_MAX, m);
    for (size_t i = 0; i < tie_count; i++) {
        for (size_t m = 2; m <= ties[i]; m++)
            divide(a, INVERSIONS_MAX, m);
    }
    for (size_t k = 0; k <= pairs; k++) {
        int64_t other = (int64_t)pairs - 2 * (int64_t)k;
        all += (double)a[k];
        extreme += llabs(other) >= llabs(s) ? (double)a[k] : 0;
    }
    return extreme / all;
}

static double normal_p(size_t n, const size_t *ties, size_t tie_count, int64_t s)
{
    double size = (double)n, variance = size * (size - 1) * (2 * size + 5);
    for (size_t i = 0; i < tie_count; i++) {
        double t = (double)ties[i];
        variance -= t * (t - 1) * (2 * t + 5);
    }
    if (!s || variance <= 0)
        return 1;
    return erfc(((double)llabs(s) - 1) / sqrt(variance / 18) / sqrt(2));
}

void growth_trend(const int64_t *y, size_t n, double *tau, double *p)
{
    int64_t sorted[GROWTH_SNAPSHOTS_MAX], s = 0;
    size_t ties[GROWTH_SNAPSHOTS_MAX], tie_count = 0;
    *tau = 0;
    *p = 1;
    if (n < 3 || n > GROWTH_SNAPSHOTS_MAX)
        return;
    for (size_t i = 0; i < n; i++) {
        sorted[i] = y[i];
        for (size_t j = i + 1; j < n; j++)
            s += (y[j] > y[i]) - (y[j] < y[i]);
    }
    qsort(sorted, n, sizeof *sorted, by_int);
    size_t all = n * (n - 1) / 2, pairs = all;
    for (size_t i = 0, j; i < n; i = j) {
        for (j = i; j < n && sorted[j] == sorted[i]; j++)
            ;
        ties[tie_count++] = j - i;
        pairs -= (j - i) * (j - i - 1) / 2;
    }
    if (!pairs)
        return;
    *tau = (double)s / sqrt((double)all * (double)pairs);
    *p = n <= GROWTH_EXACT_MAX ? exact_p(n, ties, tie_count, pairs, s)
                               : normal_p(n, ties, tie_count, s);
}
