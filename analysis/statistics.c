// SPDX-License-Identifier: MIT
//
// See statistics.h.

#include "analysis/statistics.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double statistics_median_sorted(const double *sorted, size_t n)
{
    if (!n)
        return 0;
    return n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

// The median of |sorted[i] - middle|, without a copy: from the middle outwards the two sides are
// sorted by distance, so merging them yields the distances in order.
static double deviation(const double *sorted, size_t n, double middle)
{
    size_t right = 0;
    while (right < n && sorted[right] < middle)
        right++;
    size_t left = right;
    double last = 0, before = 0;
    for (size_t taken = 0; taken < n / 2 + 1; taken++) {
        bool use_left =
            left > 0 && (right >= n || middle - sorted[left - 1] < sorted[right] - middle);
        before = last;
        last = use_left ? middle - sorted[--left] : sorted[right++] - middle;
    }
    return n % 2 ? last : (before + last) / 2;
}

struct statistics_spread statistics_spread(double *values, size_t n)
{
    struct statistics_spread s = {0};
    double sum = 0, squares = 0;
    if (!n)
        return s;
    qsort(values, n, sizeof *values, by_value);
    for (size_t i = 0; i < n; i++)
        sum += values[i];
    s.mean = sum / (double)n;
    for (size_t i = 0; i < n; i++)
        squares += (values[i] - s.mean) * (values[i] - s.mean);
    s.stdev = n > 1 ? sqrt(squares / (double)(n - 1)) : 0;
    s.median = statistics_median_sorted(values, n);
    s.min = values[0];
    s.max = values[n - 1];
    s.mad = deviation(values, n, s.median);
    return s;
}

struct ranked {
    double value;
    bool from_b;
    uint32_t rank2; // twice the mid-rank, a whole number
};

static int by_ranked(const void *a, const void *b)
{
    return by_value(&((const struct ranked *)a)->value, &((const struct ranked *)b)->value);
}

// Sorts, gives tied values their common mid-rank, and returns the sum of t^3 - t over the ties.
static double assign_ranks(struct ranked *all, size_t n)
{
    double ties = 0;
    qsort(all, n, sizeof *all, by_ranked);
    for (size_t i = 0, j; i < n; i = j) {
        for (j = i + 1; j < n && !(all[i].value < all[j].value); j++)
            ;
        double t = (double)(j - i);
        ties += t * t * t - t;
        for (size_t k = i; k < j; k++)
            all[k].rank2 = (uint32_t)(i + j + 1); // 2 * ((i + 1) + j) / 2
    }
    return ties;
}

// The share of the choices of m of the n ranks whose (doubled) sum is at least `at_least`.
// ways[k][s] counts the choices of k ranks with sum s; C(60, 30) is 1.2e17, so doubles lose nothing
// that shows.
static int count_choices(const struct ranked *all, size_t n, size_t m, size_t at_least, double *p)
{
    size_t most = n * (n + 1), width = most + 1;
    double total = 0, large = 0;
    double *ways = calloc((m + 1) * width, sizeof *ways);
    if (!ways)
        return -ENOMEM;
    ways[0] = 1;
    for (size_t i = 0; i < n; i++) {
        size_t r = all[i].rank2;
        for (size_t k = i + 1 < m ? i + 1 : m; k >= 1; k--) {
            double *to = ways + k * width;
            const double *from = ways + (k - 1) * width;
            for (size_t s = most; s >= r; s--)
                to[s] += from[s - r];
        }
    }
    for (size_t s = 0; s <= most; s++) {
        total += ways[m * width + s];
        if (s >= at_least)
            large += ways[m * width + s];
    }
    free(ways);
    *p = large / total;
    return 0;
}

static double normal_p(double u, double n, double m, double ties)
{
    double all = n + m;
    double variance = n * m / 12 * (all + 1 - ties / (all * (all - 1)));
    if (!(variance > 0))
        return 1; // all values are equal
    return 0.5 * erfc((u - n * m / 2 - 0.5) / sqrt(variance) / sqrt(2));
}

int statistics_mann_whitney(const double *a, size_t n, const double *b, size_t m,
                            struct statistics_test *out)
{
    *out = (struct statistics_test){.p = 1};
    if (!n || !m)
        return -EINVAL;
    size_t rank_sum2 = 0;
    int rc = 0;
    struct ranked *all = calloc(n + m, sizeof *all);
    if (!all)
        return -ENOMEM;
    for (size_t i = 0; i < n + m; i++)
        all[i] = (struct ranked){.value = i < n ? a[i] : b[i - n], .from_b = i >= n};
    double ties = assign_ranks(all, n + m);
    for (size_t i = 0; i < n + m; i++)
        rank_sum2 += all[i].from_b ? all[i].rank2 : 0;
    out->u = (double)rank_sum2 / 2 - (double)m * ((double)m + 1) / 2;
    out->exact = n + m <= STATISTICS_EXACT_MAX;
    if (out->exact)
        rc = count_choices(all, n + m, m, rank_sum2, &out->p);
    else
        out->p = normal_p(out->u, (double)n, (double)m, ties);
    free(all);
    return rc;
}

double statistics_least_p(size_t n, size_t m)
{
    double p = 1;
    if (!n || !m)
        return 1;
    for (size_t i = 1; i <= m; i++)
        p *= (double)i / (double)(n + i);
    return p;
}

size_t statistics_runs_needed(double alpha)
{
    size_t n = 1;
    while (n < 1000 && statistics_least_p(n, n) > alpha)
        n++;
    return n;
}

double statistics_sign_p(size_t k, size_t n)
{
    double term = pow(0.5, (double)n), sum = 0; // C(n, 0) / 2^n
    for (size_t i = 0; i <= n; i++) {
        sum += i >= k ? term : 0;
        term *= (double)(n - i) / (double)(i + 1);
    }
    return sum;
}
