// SPDX-License-Identifier: MIT
//
// Waits that are kept by chance stand for all: over many waits the weighed sums equal the true ones.

#include "agent/lock.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static uint64_t next(uint64_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}

// Of n waits of d ns each, at a rate of r ns: the weighed count and time, within four standard errors.
static void is_unbiased(uint64_t d, uint64_t r)
{
    enum { N = 400000 };
    uint64_t x = UINT64_C(88172645463325252) ^ d, sum_ns = 0, sum_count = 0, kept = 0;
    for (int i = 0; i < N; i++) {
        uint64_t ns = d, count;
        if (!lock_weigh(next(&x), r, &count, &ns))
            continue;
        kept++;
        sum_ns += ns;
        sum_count += count;
    }
    double p = (double)d / (double)r;
    double error = p < 1 ? 4 * sqrt((double)N * p * (1 - p)) / p : 0; // in waits
    assert_true(fabs((double)sum_ns / (double)d - N) <= error);
    assert_true(fabs((double)sum_count - N) <= error + 4 * sqrt((double)kept));
}

static void sums_are_unbiased(void **state)
{
    (void)state;
    static const uint64_t waits[] = {1, 3, 70, 999, 6000, 9999, 10000, 10001, 5000000};
    for (unsigned i = 0; i < sizeof waits / sizeof *waits; i++)
        is_unbiased(waits[i], waits[i] == 1 ? 100 : 10000);
}

static void long_waits_are_always_kept(void **state)
{
    (void)state;
    for (uint64_t random = 0; random < 20000; random++) {
        uint64_t ns = 10000, count;
        assert_true(lock_weigh(random * UINT64_C(0x9e3779b97f4a7c15), 10000, &count, &ns));
        assert_int_equal(count, 1);
        assert_int_equal(ns, 10000);
    }
}

static void a_wait_of_no_time_is_one_of_a_nanosecond(void **state)
{
    (void)state;
    uint64_t ns = 0, count;
    assert_true(lock_weigh(0, 100, &count, &ns));
    assert_int_equal(ns, 100);
    assert_int_equal(count, 100);
    ns = 0;
    assert_false(lock_weigh(1, 100, &count, &ns));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_are_unbiased),
        cmocka_unit_test(long_waits_are_always_kept),
        cmocka_unit_test(a_wait_of_no_time_is_one_of_a_nanosecond),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
