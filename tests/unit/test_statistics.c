// SPDX-License-Identifier: MIT
//
// The Mann-Whitney test gives what counting all orderings by hand gives, what printed tables say,
// and beyond the exact range what its normal approximation should.

#include "analysis/statistics.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static void near(double got, double want, double tolerance)
{
    if (!(got >= want - tolerance && got <= want + tolerance))
        fail_msg("%.10g, not %.10g +- %.2g", got, want, tolerance);
}

static double u_of(const double *a, size_t n, const double *b, size_t m)
{
    double u = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < m; j++)
            u += b[j] > a[i] ? 1 : b[j] < a[i] ? 0 : 0.5;
    return u;
}

// The oracle: tries every way to deal the values to both sides.
static double permutation_p(const double *a, size_t n, const double *b, size_t m)
{
    double all[16], x[16], y[16], seen = u_of(a, n, b, m);
    size_t hits = 0, total = 0;
    for (size_t i = 0; i < n + m; i++)
        all[i] = i < n ? a[i] : b[i - n];
    for (uint32_t mask = 0; mask < 1u << (n + m); mask++) {
        if ((size_t)__builtin_popcount(mask) != m)
            continue;
        size_t nx = 0, ny = 0;
        for (size_t i = 0; i < n + m; i++) {
            if (mask >> i & 1)
                y[ny++] = all[i];
            else
                x[nx++] = all[i];
        }
        total++;
        hits += u_of(x, nx, y, ny) >= seen;
    }
    return (double)hits / (double)total;
}

static uint64_t state = 88172645463325252u;
static uint32_t next_random(uint32_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 33) % below;
}

static void exact_p_equals_counting_all_orderings_with_and_without_ties(void **s)
{
    (void)s;
    for (int round = 0; round < 300; round++) {
        size_t n = 1 + next_random(7), m = 1 + next_random(7);
        uint32_t range = round % 2 ? 5 : 100000; // many ties, hardly any
        double a[8], b[8];
        for (size_t i = 0; i < n; i++)
            a[i] = next_random(range);
        for (size_t i = 0; i < m; i++)
            b[i] = next_random(range);
        struct statistics_test t;
        assert_int_equal(statistics_mann_whitney(a, n, b, m, &t), 0);
        assert_true(t.exact);
        near(t.u, u_of(a, n, b, m), 1e-9);
        near(t.p, permutation_p(a, n, b, m), 1e-12);
    }
}

// One-sided critical values of the published tables (Mann and Whitney 1947; Owen 1962): U for b the
// larger side is at least n * m - critical exactly when p is at most alpha.
static void critical_values_are_those_of_the_tables(void **s)
{
    (void)s;
    static const struct {
        size_t n, m;
        double alpha;
        int critical;
    } table[] = {{3, 3, .05, 0},    {4, 4, .05, 1},   {5, 5, .05, 4},     {5, 5, .01, 1},
                 {5, 5, .025, 2},   {6, 6, .05, 7},   {7, 7, .05, 11},    {8, 8, .05, 15},
                 {8, 8, .025, 13},  {8, 8, .01, 9},   {10, 10, .05, 27},  {10, 10, .025, 23},
                 {10, 10, .01, 19}, {5, 10, .05, 11}, {20, 20, .05, 138}, {20, 20, .025, 127}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        size_t n = table[i].n, m = table[i].m;
        for (int off = 0; off <= 1; off++) {
            // b above all of a, then pushed down over `lost` pairs.
            int lost = table[i].critical + off;
            double a[20], b[20];
            for (size_t k = 0; k < n; k++)
                a[k] = (double)k;
            for (size_t k = 0; k < m; k++, lost -= lost < (int)n ? lost : (int)n)
                b[k] = (double)n - 0.5 - (lost < (int)n ? lost : (int)n) - 0.001 * (double)k;
            struct statistics_test t;
            assert_int_equal(statistics_mann_whitney(a, n, b, m, &t), 0);
            near(t.u, (double)(n * m) - table[i].critical - off, 1e-9);
            if ((t.p <= table[i].alpha) != !off)
                fail_msg("n %zu m %zu alpha %g: p %g at U = %g", n, m, table[i].alpha, t.p, t.u);
        }
    }
}

static void many_runs_use_the_normal_approximation_and_agree_with_counting(void **s)
{
    (void)s;
    double a[64], b[64];
    for (size_t shift = 0; shift < 30; shift += 3) {
        for (size_t i = 0; i < 64; i++) {
            a[i] = next_random(40);
            b[i] = next_random(40) + (double)shift / 4;
        }
        struct statistics_test exact, normal;
        // 30 against 30 is counted; the approximation is a few per mille away.
        assert_int_equal(statistics_mann_whitney(a, 30, b, 30, &exact), 0);
        assert_int_equal(statistics_mann_whitney(a, 31, b, 31, &normal), 0);
        assert_true(exact.exact && !normal.exact);
        assert_int_equal(statistics_mann_whitney(a, 64, b, 64, &normal), 0);
        assert_true(normal.p >= 0 && normal.p <= 1);
    }
    // 31 runs each, b all above: z = (961 - 480.5 - 0.5) / sqrt(31 * 31 * 63 / 12) = 6.7577.
    for (size_t i = 0; i < 31; i++) {
        a[i] = (double)i;
        b[i] = 100 + (double)i;
    }
    struct statistics_test t;
    assert_int_equal(statistics_mann_whitney(a, 31, b, 31, &t), 0);
    near(t.p / 7.009e-12, 1, 0.01);
    // Interleaved: nothing to be seen.
    for (size_t i = 0; i < 31; i++)
        b[i] = (double)i;
    assert_int_equal(statistics_mann_whitney(a, 31, b, 31, &t), 0);
    near(t.p, 0.5028, 0.001);
}

static void equal_runs_are_never_significant(void **s)
{
    (void)s;
    double a[40] = {0};
    struct statistics_test t;
    assert_int_equal(statistics_mann_whitney(a, 5, a, 5, &t), 0);
    near(t.p, 1, 0);
    assert_int_equal(statistics_mann_whitney(a, 40, a, 40, &t), 0);
    near(t.p, 1, 0);
    assert_int_equal(statistics_mann_whitney(a, 0, a, 5, &t), -EINVAL);
}

static void how_many_runs_a_confidence_needs(void **s)
{
    (void)s;
    near(statistics_least_p(3, 3), 1.0 / 20, 1e-12);
    near(statistics_least_p(5, 5), 1.0 / 252, 1e-12);
    near(statistics_least_p(1, 19), 1.0 / 20, 1e-12);
    assert_int_equal(statistics_runs_needed(0.05), 3);
    assert_int_equal(statistics_runs_needed(0.01), 5);
    assert_int_equal(statistics_runs_needed(0.001), 7);
    near(statistics_sign_p(5, 5), 1.0 / 32, 1e-12);
    near(statistics_sign_p(4, 5), 6.0 / 32, 1e-12);
    near(statistics_sign_p(0, 5), 1, 1e-12);
}

static void spread_of_a_few_runs(void **s)
{
    (void)s;
    double odd[] = {7, 1, 2, 100, 4}, even[] = {4, 1, 3, 2}, one[] = {5};
    struct statistics_spread d = statistics_spread(odd, 5);
    near(d.median, 4, 0);
    near(d.mad, 3, 0); // of 3 2 0 3 96
    near(d.mean, 22.8, 1e-9);
    near(d.stdev, 43.2169, 1e-4);
    near(d.min, 1, 0);
    near(d.max, 100, 0);
    d = statistics_spread(even, 4);
    near(d.median, 2.5, 0);
    near(d.mad, 1, 0);
    d = statistics_spread(one, 1);
    near(d.median, 5, 0);
    near(d.mad + d.stdev, 0, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact_p_equals_counting_all_orderings_with_and_without_ties),
        cmocka_unit_test(critical_values_are_those_of_the_tables),
        cmocka_unit_test(many_runs_use_the_normal_approximation_and_agree_with_counting),
        cmocka_unit_test(equal_runs_are_never_significant),
        cmocka_unit_test(how_many_runs_a_confidence_needs),
        cmocka_unit_test(spread_of_a_few_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
