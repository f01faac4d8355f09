// SPDX-License-Identifier: MIT
//
// The tree behind flame graphs: totals are own values plus the children's, parents stand before
// children, siblings are in order of their names.

#include "analysis/stacks.h"
#include "tests/unit/made_profile.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static char text[4096];

static void write_node(const struct stacks *s, uint32_t i)
{
    const struct stacks_node *n = &s->nodes[i];
    size_t at = strlen(text);
    snprintf(text + at, sizeof text - at, "%s%s%s%s %lld/%lld", n->name, n->is_inline ? "^" : "",
             n->is_kernel ? "*" : "", strcmp(n->module, "/lib/libc.so") ? "" : "!",
             (long long)n->self, (long long)n->total);
    for (uint32_t c = n->first_child; c; c = s->nodes[c].next) {
        assert_int_equal(s->nodes[c].parent, i);
        strcat(text, c == n->first_child ? " (" : ", ");
        write_node(s, c);
    }
    if (n->first_child)
        strcat(text, ")");
}

static void holds(const struct stacks *s)
{
    int64_t sums[64] = {0};
    uint32_t children[64] = {0}, depth = 0;
    assert_in_range(s->count, 1, 64);
    for (uint32_t i = s->count - 1; i > 0; i--) {
        const struct stacks_node *n = &s->nodes[i];
        assert_true(n->parent < i);
        assert_int_equal(n->depth, s->nodes[n->parent].depth + 1);
        assert_true(n->total == n->self + sums[i]);
        sums[n->parent] += n->total;
        children[n->parent]++;
        depth = n->depth > depth ? n->depth : depth;
    }
    for (uint32_t i = 0; i < s->count; i++)
        assert_int_equal(s->nodes[i].child_count, children[i]);
    assert_true(s->nodes[0].total == s->nodes[0].self + sums[0]);
    assert_int_equal(s->depth, depth);
}

// The tree of p as "name self/total (children)"; frees p.
static const char *tree_of(struct pprof_profile *p, enum stacks_values values, bool inverted,
                           uint64_t negative)
{
    struct report r;
    struct stacks s;
    struct fscope_error err = {0};
    struct report_options o = {MADE_OPTIONS};
    if (report_prepare(&r, p, &o, &err) || stacks_build(&s, &r, values, inverted, &err))
        fail_msg("%s", err.text);
    holds(&s);
    assert_int_equal(s.negative, negative);
    text[0] = 0;
    write_node(&s, 0);
    stacks_finish(&s);
    report_finish(&r);
    pprof_free(p);
    return text;
}

static const char *tree(struct pprof_profile *p, bool inverted, uint64_t negative)
{
    return tree_of(p, STACKS_POSITIVE, inverted, negative);
}

static void equal_beginnings_are_one_branch(void **state)
{
    (void)state;
    assert_string_equal(
        tree(MADE({"main;b;c", 8}, {"main;a", 4}, {"main;b", 2}, {"main;b;c", 1}), false, 0),
        " 0/15 (main 0/15 (a 4/4, b 2/11 (c 9/9)))");
}

static void inverted_leaves_come_first(void **state)
{
    (void)state;
    assert_string_equal(tree(MADE({"main;b;c", 8}, {"main;a;c", 4}, {"main", 2}), true, 0),
                        " 0/14 (c 0/12 (a 0/4 (main 4/4), b 0/8 (main 8/8)), main 2/2)");
}

static void recursion_is_as_deep_as_it_was(void **state)
{
    (void)state;
    assert_string_equal(tree(MADE({"f;f;f", 4}, {"f", 1}), false, 0),
                        " 0/5 (f 1/5 (f 0/4 (f 4/4)))");
}

static void inlined_frames_and_modules_are_told_apart(void **state)
{
    (void)state;
    assert_string_equal(tree(MADE({"m;o>i", 4}, {"m;o;i", 2}, {"m;o;!i", 1}), false, 0),
                        " 0/7 (m 0/7 (o 0/7 (i 2/2, i^ 4/4, i! 1/1)))");
}

static void nothing_below_zero_has_a_width(void **state)
{
    (void)state;
    assert_string_equal(tree(MADE({"m;a", 4}, {"m;a", -1}, {"m;b", -2}, {"m;c", 0}), false, 2),
                        " 0/4 (m 0/4 (a 4/4))");
    assert_string_equal(tree(MADE({"m;a", -4}), false, 1), " 0/0");
}

static void stacks_of_nothing_are_the_roots_own(void **state)
{
    (void)state;
    assert_string_equal(tree(MADE({"", 3}, {"a", 1}), false, 0), " 3/4 (a 1/1)");
}

static void kernel_frames_are_marked(void **state)
{
    (void)state;
    struct pprof_profile *p = MADE({"main;sys_read", 1});
    p->locations[1]->mapping =
        pprof_add_mapping(p, 0xffffffff81000000, 0, 0, "[kernel.kallsyms]", "");
    assert_string_equal(tree(p, false, 0), " 0/1 (main 0/1 (sys_read* 1/1))");
}

static void signed_values_are_added_up(void **state)
{
    (void)state;
    struct pprof_profile *p = MADE({"main;a", 10}, {"main;b", -30}, {"main;a", -4});
    assert_string_equal(tree_of(p, STACKS_SIGNED, false, 0),
                        " 0/-24 (main 0/-24 (a 6/6, b -30/-30))");
}

static void compared_a_width_is_what_either_has(void **state)
{
    (void)state;
    // a shrank from 10 to 4, b is gone, c is new, main itself grew from 1 to 3.
    struct pprof_profile *p = MADE({"main;a", -10}, {"main;b", -5}, {"main", -1}, {"main;a", 4},
                                   {"main;c", 7}, {"main", 3});
    assert_string_equal(tree_of(p, STACKS_COMPARED, false, 0),
                        " 0/25 (main 3/25 (a 10/10, b 5/5, c 7/7))");
    struct report r;
    struct stacks s;
    struct report_options o = {MADE_OPTIONS};
    p = MADE({"main;a", -10}, {"main;b", -5}, {"main", INT64_MIN}, {"main;a", 4});
    assert_int_equal(report_prepare(&r, p, &o, NULL), 0);
    assert_int_equal(stacks_build(&s, &r, STACKS_COMPARED, false, NULL), 0);
    assert_int_equal(s.nodes[0].base.total, 15); // what does not fit into the sum is left out
    assert_int_equal(s.nodes[0].now.total, 4);
    assert_int_equal(s.nodes[0].total, 15);
    stacks_finish(&s);
    report_finish(&r);
    pprof_free(p);
}

static void many_branches_are_all_found_again(void **state)
{
    (void)state;
    // More than the table's first size, each twice.
    enum { COUNT = 5000 };
    struct pprof_profile *p = pprof_new();
    pprof_add_sample_type(p, "cpu", "nanoseconds");
    char name[16];
    for (int i = 0; i < 2 * COUNT; i++) {
        snprintf(name, sizeof name, "f%d", i % COUNT);
        struct pprof_line line = {.function = pprof_intern_function(p, name, name, "", 0)};
        struct pprof_location *l = pprof_intern_location(p, NULL, 0, &line, 1);
        assert_non_null(pprof_append_sample(p, &l, 1, (int64_t[]){1}, NULL, 0));
    }
    struct report r;
    struct stacks s;
    struct report_options o = {MADE_OPTIONS};
    assert_int_equal(report_prepare(&r, p, &o, NULL), 0);
    assert_int_equal(stacks_build(&s, &r, STACKS_POSITIVE, false, NULL), 0);
    assert_int_equal(s.count, COUNT + 1);
    const char *before = "";
    for (uint32_t c = s.nodes[0].first_child; c; c = s.nodes[c].next) {
        assert_int_equal(s.nodes[c].self, 2);
        assert_true(strcmp(before, s.nodes[c].name) < 0);
        before = s.nodes[c].name;
    }
    stacks_finish(&s);
    report_finish(&r);
    pprof_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_beginnings_are_one_branch),
        cmocka_unit_test(inverted_leaves_come_first),
        cmocka_unit_test(recursion_is_as_deep_as_it_was),
        cmocka_unit_test(inlined_frames_and_modules_are_told_apart),
        cmocka_unit_test(nothing_below_zero_has_a_width),
        cmocka_unit_test(stacks_of_nothing_are_the_roots_own),
        cmocka_unit_test(kernel_frames_are_marked),
        cmocka_unit_test(signed_values_are_added_up),
        cmocka_unit_test(compared_a_width_is_what_either_has),
        cmocka_unit_test(many_branches_are_all_found_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
