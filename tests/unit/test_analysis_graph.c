// SPDX-License-Identifier: MIT
//
// Flat, cumulative and edge values of graphs that can be counted by hand; what trimming takes away
// and how the rest is joined; granularity, units and totals.

#include "tests/unit/made_profile.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct report report_of(struct pprof_profile *p, struct report_options o)
{
    struct report r;
    struct fscope_error err = {0};
    if (report_prepare(&r, p, &o, &err) || report_graph(&r, &err))
        fail_msg("%s", err.text);
    return r;
}
#define REPORT(profile, ...) report_of(profile, (struct report_options){MADE_OPTIONS, __VA_ARGS__})

static void done(struct report *r)
{
    pprof_free(r->profile);
    report_finish(r);
}

// "label flat/cum" of the nodes shown, in order.
static const char *nodes(const struct report *r)
{
    static char text[1024];
    size_t at = 0;
    text[0] = 0;
    for (size_t i = 0; i < r->node_count; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%s %lld/%lld", i ? ", " : "",
                               r->nodes[i]->label, (long long)report_flat(r->nodes[i]),
                               (long long)report_cum(r->nodes[i]));
    return text;
}

// "to weight" of the edges out of label, heaviest first; ~ residual, ^ inlined.
static const char *callees(const struct report *r, const char *label)
{
    static char text[1024];
    size_t at = 0;
    const struct report_node *n = made_node(r, label);
    text[0] = 0;
    assert_non_null(n);
    for (size_t i = 0; i < n->out_count; i++) {
        const struct report_edge *e = n->out[i];
        assert_ptr_equal(e->from, n);
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%s %lld%s%s", i ? ", " : "",
                               e->to->label, (long long)e->weight, e->residual ? "~" : "",
                               e->is_inline ? "^" : "");
    }
    return text;
}

static struct pprof_profile *plain(void)
{
    return MADE({"main;parse;malloc", 8}, {"main;parse", 4}, {"main;emit;malloc", 2}, {"main", 1});
}

static void flat_is_the_leafs_and_cum_the_stacks(void **state)
{
    (void)state;
    struct report r = REPORT(plain());
    assert_string_equal(nodes(&r), "malloc 10/10, parse 4/12, main 1/15, emit 0/2");
    assert_int_equal(r.total, 15);
    assert_string_equal(r.type, "cpu");
    assert_string_equal(callees(&r, "main"), "parse 12, emit 2");
    assert_string_equal(callees(&r, "parse"), "malloc 8");
    const struct report_node *n = made_node(&r, "malloc");
    assert_int_equal(n->in_count, 2);
    assert_string_equal(n->in[0]->from->label, "parse");
    assert_int_equal(n->out_count, 0);
    done(&r);
    r = REPORT(plain(), .cum_sort = true);
    assert_string_equal(nodes(&r), "main 1/15, parse 4/12, malloc 10/10, emit 0/2");
    done(&r);
}

static void recursion_counts_once(void **state)
{
    (void)state;
    struct report r = REPORT(MADE({"main;f;f;f", 4}, {"main;f;g;f;g", 2}));
    assert_string_equal(nodes(&r), "f 4/6, g 2/2, main 0/6");
    // No edge from f to itself; f to g and g to f once a sample, however often they recur.
    assert_string_equal(callees(&r, "f"), "g 2");
    assert_string_equal(callees(&r, "g"), "f 2");
    assert_string_equal(callees(&r, "main"), "f 6");
    done(&r);
}

static void inlined_functions_are_nodes_of_their_own(void **state)
{
    (void)state;
    struct report r =
        REPORT(MADE({"main;outer>inner", 4}, {"main;outer", 2}, {"main;outer;inner", 1}));
    assert_string_equal(nodes(&r), "inner 5/5, outer 2/7, main 0/7");
    assert_string_equal(callees(&r, "outer"), "inner 5"); // called, too: not just inlined
    done(&r);
    r = REPORT(MADE({"main;outer>inner", 4}, {"main;outer", 2}));
    assert_string_equal(callees(&r, "outer"), "inner 4^");
    assert_string_equal(callees(&r, "main"), "outer 6");
    done(&r);
    r = REPORT(MADE({"main;outer>inner", 4}, {"main;outer", 2}), .noinlines = true);
    assert_string_equal(nodes(&r), "outer 6/6, main 0/6");
    done(&r);
}

static void negative_values_subtract_and_the_total_does_not(void **state)
{
    (void)state;
    struct pprof_profile *p = MADE({"main;a", 10}, {"main;b", -30}, {"main;c", -5}, {"main;c", 5});
    struct report r = REPORT(p);
    // c adds up to nothing and is not shown; the order is by size.
    assert_string_equal(nodes(&r), "b -30/-30, a 10/10, main 0/-20");
    assert_int_equal(r.total, 50);
    assert_string_equal(callees(&r, "main"), "b -30, a 10, c 0");
    done(&r);
    r = REPORT(MADE({"main;a", 10}, {"main;b", -30}), .drop_negative = true);
    assert_string_equal(nodes(&r), "a 10/10");
    done(&r);
    r = REPORT(MADE({"a", INT64_MAX}, {"a", INT64_MAX}, {"b", INT64_MIN}));
    assert_true(r.total == INT64_MAX); // saturated, not wrapped
    assert_true(made_node(&r, "a")->flat == INT64_MAX);
    done(&r);
}

static void a_base_makes_up_the_total_of_a_difference(void **state)
{
    (void)state;
    struct report r = REPORT(MADE({"a", 10}, {"a", -40, "pprof::base=true"}));
    assert_int_equal(r.total, 40);
    assert_string_equal(nodes(&r), "a -30/-30");
    done(&r);
}

static void nodecount_keeps_the_first_and_bridges_the_gap(void **state)
{
    (void)state;
    struct report r = REPORT(plain(), .nodecount = 2, .cum_sort = true);
    assert_string_equal(nodes(&r), "main 1/15, parse 4/12");
    assert_int_equal(r.original_count, 4);
    done(&r);
    r = REPORT(MADE({"main;a;b;c", 8}, {"main;c", 4}, {"main;a", 1}), .nodecount = 2,
               .cum_sort = true);
    assert_string_equal(nodes(&r), "main 0/13, c 12/12");
    assert_string_equal(callees(&r, "main"), "c 12~"); // over a and b, which are gone
    done(&r);
    r = REPORT(plain(), .nodecount = 4);
    assert_int_equal(r.node_count, 4);
    assert_int_equal(r.original_count, 4);
    done(&r);
    r = REPORT(plain(), .nodecount = 0); // none asked for: all
    assert_int_equal(r.node_count, 4);
    done(&r);
}

static void a_trimmed_leaf_takes_its_value_along(void **state)
{
    (void)state;
    // main's flat value stays its own: what malloc used is not main's, though malloc is not shown.
    struct report r = REPORT(MADE({"main;malloc", 8}, {"main", 1}, {"main;x", 7}), .nodecount = 1,
                             .cum_sort = true);
    assert_string_equal(nodes(&r), "main 1/16");
    done(&r);
}

static void nodefraction_is_of_the_sum_and_inclusive(void **state)
{
    (void)state;
    struct report r =
        REPORT(MADE({"main;a", 90}, {"main;b", 8}, {"main;c", 2}), .nodefraction = 0.08);
    assert_string_equal(nodes(&r), "a 90/90, b 8/8, main 0/100"); // 8 of 100 stays
    assert_int_equal(r.dropped_nodes, 1);
    done(&r);
    r = REPORT(MADE({"main;a", 90}, {"main;b", 8}, {"main;c", 2}), .nodefraction = 0.09);
    assert_string_equal(nodes(&r), "a 90/90, main 0/100");
    assert_int_equal(r.dropped_nodes, 2);
    done(&r);
}

static void edgefraction_drops_edges_not_nodes(void **state)
{
    (void)state;
    struct report r =
        REPORT(MADE({"main;a", 90}, {"main;b", 8}, {"main;c", 2}), .edgefraction = 0.08);
    assert_int_equal(r.node_count, 4);
    assert_int_equal(r.dropped_edges, 1);
    assert_string_equal(callees(&r, "main"), "a 90, b 8");
    assert_int_equal(made_node(&r, "c")->in_count, 0);
    done(&r);
}

static void granularity_decides_what_is_one(void **state)
{
    (void)state;
    static const struct {
        const char *granularity, *nodes;
    } cases[] = {
        {NULL, "f 3/3, g 4/4"},
        {"functions", "f 3/3, g 4/4"},
        {"filefunctions", "f /s/x.c 3/3, g /s/x.c 4/4"},
        {"files", "/s/x.c 7/7"},
        {"lines", "f /s/x.c:1 1/1, f /s/x.c:2 2/2, g /s/x.c:2 4/4"},
        {"addresses", "0000000000400000 f /s/x.c:1 1/1, 0000000000400001 f /s/x.c:2 2/2, "
                      "0000000000400002 g /s/x.c:2 4/4"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        // One file under three spellings.
        struct pprof_profile *p =
            MADE({"f@/s/x.c:1", 1}, {"f@/s/./x.c:2", 2}, {"g@/s/t/..//x.c:2", 4});
        struct report r = REPORT(p, .granularity = cases[i].granularity);
        char want[300] = "", *part, *save = NULL, copy[300];
        snprintf(copy, sizeof copy, "%s", nodes(&r));
        snprintf(want, sizeof want, "%s", cases[i].nodes);
        size_t count = 0;
        for (part = strtok_r(want, ",", &save); part; part = strtok_r(NULL, ",", &save), count++) {
            if (!strstr(copy, part + (*part == ' ')))
                fail_msg("%s: no \"%s\" in \"%s\"", cases[i].granularity, part, copy);
        }
        assert_int_equal(r.node_count, count);
        done(&r);
    }
    struct report r;
    struct fscope_error err = {0};
    struct report_options o = {MADE_OPTIONS, .granularity = "planets"};
    struct pprof_profile *p = plain();
    assert_int_equal(report_prepare(&r, p, &o, &err), -EINVAL);
    assert_non_null(strstr(err.text, "\"planets\" is none of functions"));
    report_finish(&r);
    pprof_free(p);
}

static void frames_without_a_name_are_called_by_their_file(void **state)
{
    (void)state;
    struct report r = REPORT(MADE({"main;?", 1}));
    assert_non_null(made_node(&r, "[APP]"));
    done(&r);
    struct pprof_profile *p = MADE({"main;?", 1});
    for (size_t i = 0; i < p->location_count; i++)
        p->locations[i]->mapping = NULL;
    r = REPORT(p);
    assert_non_null(made_node(&r, "<unknown>"));
    done(&r);
}

static void the_mean_divides_by_the_first_value(void **state)
{
    (void)state;
    struct report r =
        REPORT(MADE({"main;a", 100, NULL, 4}, {"main;b", 30, NULL, 10}), .mean = true);
    assert_string_equal(nodes(&r), "a 25/25, b 3/3, main 0/9"); // 130 / 14
    assert_string_equal(r.type, "mean_cpu");
    assert_int_equal(r.total, 9);
    done(&r);
}

static void the_total_is_before_filters_unless_asked(void **state)
{
    (void)state;
    struct report r = REPORT(plain(), .focus = "emit");
    assert_int_equal(r.total, 15);
    done(&r);
    r = REPORT(plain(), .focus = "emit", .relative_percentages = true);
    assert_int_equal(r.total, 2);
    done(&r);
}

static void sample_types_are_chosen_by_name(void **state)
{
    (void)state;
    struct report r = REPORT(MADE({"a", 100, NULL, 4}), .sample_index = "samples");
    assert_string_equal(nodes(&r), "a 4/4");
    assert_string_equal(r.from_unit, "count");
    done(&r);
    struct pprof_profile *p = plain();
    struct report_options o = {MADE_OPTIONS, .sample_index = "heap"};
    assert_int_equal(report_prepare(&r, p, &o, NULL), -ENOENT);
    report_finish(&r);
    pprof_free(p);
}

static void one_unit_serves_the_smallest_value_unless_far_apart(void **state)
{
    (void)state;
    char buf[400];
    struct report r = REPORT(MADE({"a", 2000000}, {"b", 30000000}));
    assert_string_equal(r.unit, "ms");
    assert_string_equal(report_label(&r, buf, sizeof buf, 30000000), "30ms");
    done(&r);
    // 1 us beside 5 s: the unit in which 100 us read, so that the rest is not all digits.
    r = REPORT(MADE({"a", 1000}, {"b", 5000000000}));
    assert_string_equal(r.unit, "us");
    done(&r);
    r = REPORT(MADE({"a", 900000}, {"b", 49100000}));
    assert_string_equal(r.unit, "us"); // more than a hundredth: it is to read
    done(&r);
    r = REPORT(MADE({"a", 20000000}, {"b", 5000000000}));
    assert_string_equal(r.unit, "s"); // 20 ms are less than a hundredth: 2 s read in seconds
    assert_string_equal(report_label(&r, buf, sizeof buf, 20000000), "0.02s");
    done(&r);
    r = report_of(MADE({"a", 20000000}), (struct report_options){.unit = "us", .divide_by = 4});
    assert_string_equal(report_label(&r, buf, sizeof buf, 20000000), "5000us");
    done(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flat_is_the_leafs_and_cum_the_stacks),
        cmocka_unit_test(recursion_counts_once),
        cmocka_unit_test(inlined_functions_are_nodes_of_their_own),
        cmocka_unit_test(negative_values_subtract_and_the_total_does_not),
        cmocka_unit_test(a_base_makes_up_the_total_of_a_difference),
        cmocka_unit_test(nodecount_keeps_the_first_and_bridges_the_gap),
        cmocka_unit_test(a_trimmed_leaf_takes_its_value_along),
        cmocka_unit_test(nodefraction_is_of_the_sum_and_inclusive),
        cmocka_unit_test(edgefraction_drops_edges_not_nodes),
        cmocka_unit_test(granularity_decides_what_is_one),
        cmocka_unit_test(frames_without_a_name_are_called_by_their_file),
        cmocka_unit_test(the_mean_divides_by_the_first_value),
        cmocka_unit_test(the_total_is_before_filters_unless_asked),
        cmocka_unit_test(sample_types_are_chosen_by_name),
        cmocka_unit_test(one_unit_serves_the_smallest_value_unless_far_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
