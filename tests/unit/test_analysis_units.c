// SPDX-License-Identifier: MIT
//
// Values read as google/pprof writes them: the unit is the largest that leaves at least 1, two
// decimals at most, percentages in at least two digits. Regular expressions mean what RE2's do.

#include "analysis/regex.h"
#include "analysis/units.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void auto_takes_the_largest_unit_of_at_least_one(void **state)
{
    (void)state;
    static const struct {
        int64_t value;
        const char *from, *says;
    } cases[] = {
        {999, "nanoseconds", "999ns"},
        {1000, "nanoseconds", "1us"},
        {1500000000, "nanoseconds", "1.50s"},
        {59999, "milliseconds", "60s"},
        {3600, "seconds", "1hrs"},
        {5400, "s", "1.50hrs"},
        {1023, "bytes", "1023B"},
        {1024, "byte", "1kB"},
        {1536, "kb", "1.50MB"},
        {-1536, "kilobytes", "-1.50MB"},
        {(int64_t)3 << 50, "bytes", "3PB"},
        {17, "count", "17"},
        {17, "furlongs", "17"},
        {0, "nanoseconds", "0"},
        {0, "count", "0"},
        {-5, "nanoseconds", "-5ns"},
    };
    char buf[UNITS_LABEL_MAX];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_string_equal(units_label(buf, sizeof buf, cases[i].value, cases[i].from, "minimum"),
                            cases[i].says);
}

static void a_named_unit_is_kept_to(void **state)
{
    (void)state;
    const char *unit;
    char buf[UNITS_LABEL_MAX];
    assert_true(fabs(units_scale(1500, "ms", "seconds", &unit) - 1.5) < 1e-12);
    assert_string_equal(unit, "s");
    assert_true(fabs(units_scale(3, "GB", "mb", &unit) - 3072) < 1e-9);
    assert_string_equal(unit, "MB");
    assert_true(fabs(units_scale(-7, "hours", "ns", &unit) + 25200e9) < 1);
    assert_string_equal(unit, "ns");
    // Bytes are no time: what auto's last resort is, not a wrong figure in seconds.
    assert_true(fabs(units_scale(2048, "bytes", "seconds", &unit) - 2048) < 1e-9);
    assert_string_equal(unit, "B");
    // A unit that nobody knows is carried along as it is written.
    assert_true(fabs(units_scale(3, "count", "furlongs", &unit) - 3) < 1e-12);
    assert_string_equal(unit, "furlongs");
    assert_string_equal(units_label(buf, sizeof buf, 1, "ns", "s"), "0");
    assert_string_equal(units_label(buf, sizeof buf, -1, "ns", "s"), "0");
}

static void the_extremes_are_figures(void **state)
{
    (void)state;
    const char *unit;
    char buf[UNITS_LABEL_MAX];
    assert_true(units_scale(INT64_MIN, "ns", "ns", &unit) < -9e18);
    assert_true(units_scale(INT64_MAX, "PB", "B", &unit) > 1e34);
    assert_true(strlen(units_label(buf, sizeof buf, INT64_MAX, "PB", "B")) < sizeof buf - 1);
    char tiny[4];
    assert_string_equal(units_label(tiny, sizeof tiny, 123456, "count", "count"), "123");
}

static void percentages_have_two_digits(void **state)
{
    (void)state;
    static const struct {
        int64_t value, total;
        const char *says;
    } cases[] = {
        {1, 1, "  100%"},         {9996, 10000, "  100%"}, {9994, 10000, "99.94%"},
        {1, 3, "33.33%"},         {1, 100, " 1.00%"},      {999, 100000, "    1%"},
        {51, 100000, "0.051%"},   {1, 1000000, "0.0001%"}, {0, 5, "    0%"},
        {5, 0, "    0%"},         {-1, 4, "25.00%"},       {3, 1, "300.00%"},
        {10005, 10000, "  100%"},
    };
    char buf[32];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_string_equal(units_percent(buf, sizeof buf, cases[i].value, cases[i].total),
                            cases[i].says);
}

static bool matches(const char *pattern, const char *text)
{
    struct regex *re;
    struct fscope_error err = {0};
    if (regex_compile(&re, "focus", pattern, &err))
        fail_msg("%s", err.text);
    bool hit = regex_match(re, text);
    regex_free(re);
    return hit;
}

static void patterns_match_anywhere_as_in_go(void **state)
{
    (void)state;
    assert_true(matches("alloc", "my_malloc_hook"));
    assert_false(matches("^alloc", "malloc"));
    assert_true(matches("(?i)MALLOC", "malloc"));
    assert_false(matches("MALLOC", "malloc"));
    assert_true(matches("\\bnew\\b", "operator new(unsigned)"));
    assert_true(matches("a(?:b|c)+?d", "xabcbd"));
    assert_true(matches("", "anything"));
    assert_true(matches("na\xc3\xafve.$", "na\xc3\xafve\xc3\xa9")); // a dot is a character
    assert_true(matches("f", "\xff f"));                            // names need not be UTF-8
    assert_false(matches("a$", "a\n"));                             // the end of the text only
}

static void a_bad_pattern_is_shown_with_its_place(void **state)
{
    (void)state;
    struct regex *re;
    struct fscope_error err = {0};
    assert_int_equal(regex_compile(&re, "ignore", "a(b", &err), -EINVAL);
    assert_null(re);
    assert_int_equal(err.code, -EINVAL);
    assert_ptr_equal(strstr(err.text, "ignore: \"a(b\" is no regular expression: "), err.text);
    assert_non_null(strstr(err.text, "at character 4"));
    regex_free(NULL);
}

static void an_explosive_pattern_ends(void **state)
{
    (void)state;
    // 2^40 ways for a backtracking matcher; without a limit this runs for hours.
    assert_false(matches("^(a|a)*$", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(auto_takes_the_largest_unit_of_at_least_one),
        cmocka_unit_test(a_named_unit_is_kept_to),
        cmocka_unit_test(the_extremes_are_figures),
        cmocka_unit_test(percentages_have_two_digits),
        cmocka_unit_test(patterns_match_anywhere_as_in_go),
        cmocka_unit_test(a_bad_pattern_is_shown_with_its_place),
        cmocka_unit_test(an_explosive_pattern_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
