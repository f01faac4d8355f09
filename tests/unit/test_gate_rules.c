// SPDX-License-Identifier: MIT
//
// The gate's rules mean what they say; what is wrong in one is named with its place and, where one
// is near, the right word.

#include "analysis/gate_rules.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct gate_rules set;
static struct fscope_error err;

static int add(const char *text)
{
    gate_rules_finish(&set);
    memset(&err, 0, sizeof err);
    return gate_rules_add(&set, "r", text, strlen(text), &err);
}

static struct gate_rule *only(const char *text)
{
    if (add(text))
        fail_msg("%s: %s", text, err.text);
    assert_int_equal(set.count, 1);
    return set.rules[0];
}

static void growth_of_a_function(void **state)
{
    (void)state;
    struct gate_rule *r = only("  alloc_objects > +2% or > +10 in func matching ^parse_.*$  # why");
    assert_string_equal(r->text, "alloc_objects > +2% or > +10 in func matching ^parse_.*$");
    assert_string_equal(r->type, "alloc_objects");
    assert_null(r->kind);
    assert_int_equal(r->term_count, 2);
    assert_int_equal(r->terms[0].compare, GATE_GROWTH);
    assert_int_equal(r->terms[0].unit, GATE_PERCENT);
    assert_true(r->terms[0].amount == 2 && r->terms[1].amount == 10);
    assert_int_equal(r->terms[1].unit, GATE_PLAIN);
    assert_false(r->terms[0].and_next);
    assert_int_equal(r->scope_count, 1);
    assert_true(regex_match(r->scopes[0].regex, "parse_line"));
    assert_false(regex_match(r->scopes[0].regex, "do_parse_line"));
}

static void what_must_hold(void **state)
{
    (void)state;
    struct gate_rule *r = only("alloc_objects==0 in func parse in label request=/hot/*");
    assert_int_equal(r->terms[0].compare, GATE_EQUAL);
    assert_int_equal(r->scope_count, 2);
    assert_string_equal(r->scopes[1].key, "request");
    assert_string_equal(r->scopes[1].value, "/hot/*");
    r = only("inuse_space <= 64KiB");
    assert_true(r->terms[0].amount == 65536 && r->terms[0].unit == GATE_BYTES);
    r = only("mutex delay <= 1.5ms in func \"operator new\"");
    assert_string_equal(r->kind, "mutex");
    assert_string_equal(r->type, "delay");
    assert_true(r->terms[0].amount == 1.5e6 && r->terms[0].unit == GATE_TIME);
    assert_string_equal(r->scopes[0].text, "operator new");
    r = only("leaks == 0");
    assert_string_equal(r->type, "leaks");
    r = only("cpu share <= 20% in func render");
    assert_true(r->share);
    assert_string_equal(r->kind, "cpu");
    assert_string_equal(r->type, "cpu");
    r = only("block <= 5 s");
    assert_string_equal(r->type, "delay");
    assert_true(r->terms[0].amount == 5e9);
}

static void each_and_per(void **state)
{
    (void)state;
    struct gate_rule *r = only("alloc_objects > +0.1% and > +1 in each path per benchmark op");
    assert_int_equal(r->each, GATE_EACH_PATH);
    assert_true(r->terms[0].and_next && r->per_op);
    r = only("alloc_space > +1k in each func matching 'a b;c#d'");
    assert_int_equal(r->each, GATE_EACH_FUNC);
    assert_string_equal(r->scopes[0].text, "a b;c#d");
    assert_true(r->terms[0].amount == 1000);
}

static void a_file_has_lines_semicolons_and_comments(void **state)
{
    (void)state;
    assert_int_equal(add("# all\n\nleaks == 0; cpu > +5%\r\n  delay <= 5ms in func x#y # z\n;;"),
                     0);
    assert_int_equal(set.count, 3);
    assert_int_equal(set.rules[1]->line, 3);
    assert_int_equal(set.rules[1]->column, 13);
    assert_string_equal(set.rules[2]->scopes[0].text, "x#y");
    assert_int_equal(add(""), 0);
    assert_int_equal(set.count, 0);
}

static void errors_name_the_place_and_the_right_word(void **state)
{
    (void)state;
    static const struct {
        const char *text, *what;
    } bad[] = {
        {"alloc_objects > +2% in fnc matching x", "r:1:24: \"fnc\" where \"func\""},
        {"alloc_objects > +2% in fnc matching x", "did you mean \"func\"?"},
        {"leaks == 0\nleaks == 0 inn func x", "r:2:12: \"inn\""},
        {"leaks == 0\nleaks == 0 inn func x", "did you mean \"in\"?"},
        {"alloc_objects > +2% in func matching a(b", "regular expression"},
        {"alloc_objects > +2% in func matching a(b", "r:1:38:"},
        {"inuse_space <= 64kib", "did you mean \"KiB\"?"},
        {"alloc_objects", "r:1:14: the rule ends where a comparison"},
        {"alloc_objects > 5", "what may not grow"},
        {"alloc_objects >= +5", "what may not grow"},
        {"alloc_objects <= +5", "growth: \"> +AMOUNT\""},
        {"alloc_objects > -5", "negative"},
        {"alloc_objects = 5", "no comparison"},
        {"alloc_objects <= 5%", "percent of what"},
        {"cpu share <= 5", "percent"},
        {"alloc_objects > +2% or <= 5", "write two"},
        {"in func x", "a comparison"},
        {"5 > 3", "where a metric"},
        {"leaks == 1.2.3", "not a number"},
        {"leaks == 0 in func", "ends where a regular expression"},
        {"leaks == 0 in func \"x", "quote is not closed"},
        {"leaks == 0 in label request", "KEY=VALUE"},
        {"leaks == 0 in each thread", "\"path\" or \"func\""},
        {"leaks == 0 in each path in each func", "one thing only"},
        {"leaks == 0 per opp", "did you mean \"op\"?"},
        {"leaks == 0 or == 1 or == 2 or == 3 or == 4 or == 5 or == 6 or == 7 or == 8",
         "more than 8 conditions"},
        {"cpu share <= 5% per op", "no meaning"},
        {"leaks == 99999999999999999999999999999999999999999999", "more than 39 digits"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(add(bad[i].text), -EINVAL);
        assert_int_equal(set.count, 0);
        if (!strstr(err.text, bad[i].what))
            fail_msg("%s: \"%s\" lacks \"%s\"", bad[i].text, err.text, bad[i].what);
    }
}

static void too_much_is_refused(void **state)
{
    (void)state;
    char *text = calloc(1, 300 * 12 + 1);
    assert_non_null(text);
    for (int i = 0; i < 300; i++)
        strcat(text, "leaks == 0\n");
    assert_int_equal(add(text), -EINVAL);
    assert_non_null(strstr(err.text, "r:257:1: more than 256 rules"));
    memset(text, 'x', 300 * 12);
    assert_int_equal(add(text), -EINVAL);
    free(text);
    gate_rules_finish(&set);
    assert_int_equal(gate_rules_add_file(&set, "/nonexistent/rules", &err), -ENOENT);
    assert_int_equal(gate_rules_add_file(&set, "/", &err), -EIO);
    gate_rules_finish(&set);
}

static void patterns_of_labels(void **state)
{
    (void)state;
    assert_true(gate_label_matches("/hot", "/hot"));
    assert_false(gate_label_matches("/hot", "/hot/x"));
    assert_true(gate_label_matches("/hot*", "/hot/x"));
    assert_true(gate_label_matches("*a*b?", "xxaxxbc"));
    assert_false(gate_label_matches("*a*b?", "xxaxxb"));
    assert_true(gate_label_matches("*", ""));
    assert_false(gate_label_matches("?", ""));
    gate_rules_finish(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(growth_of_a_function),
        cmocka_unit_test(what_must_hold),
        cmocka_unit_test(each_and_per),
        cmocka_unit_test(a_file_has_lines_semicolons_and_comments),
        cmocka_unit_test(errors_name_the_place_and_the_right_word),
        cmocka_unit_test(too_much_is_refused),
        cmocka_unit_test(patterns_of_labels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
