// SPDX-License-Identifier: MIT
//
// Which samples stay and which of their frames, under each filter alone and together: google/pprof's
// rules (profile/filter.go, prune.go and internal/driver/driver_focus.go), on stacks small enough to
// be judged by eye.

#include "tests/unit/made_profile.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static char warned[1024]; // what the filters said, joined by ';'

static void warn(void *arg, const char *text)
{
    (void)arg;
    size_t at = strlen(warned);
    snprintf(warned + at, sizeof warned - at, "%s%s", at ? ";" : "", text);
}

// What is left of p under these options; frees p.
static const char *left(struct pprof_profile *p, struct report_options o)
{
    struct fscope_error err = {0};
    o.warn = warn;
    warned[0] = 0;
    if (report_filter(p, &o, &err))
        fail_msg("%s", err.text);
    const char *text = made_samples(p);
    pprof_free(p);
    return text;
}
#define LEFT(profile, ...)                                                                         \
    left(profile, (struct report_options){.divide_by = 1, .unit = "minimum", __VA_ARGS__})

static struct pprof_profile *plain(void)
{
    return MADE({"main;parse;malloc", 8}, {"main;parse", 4}, {"main;emit;malloc", 2},
                {"main;emit;!write", 1});
}

static void focus_keeps_samples_with_a_match_anywhere(void **state)
{
    (void)state;
    assert_string_equal(LEFT(plain(), .focus = "malloc"),
                        "main;parse;malloc 8, main;emit;malloc 2");
    assert_string_equal(LEFT(plain(), .focus = "^main$"),
                        "main;parse;malloc 8, main;parse 4, main;emit;malloc 2, main;emit;write 1");
    assert_string_equal(LEFT(plain(), .focus = "parse|write"),
                        "main;parse;malloc 8, main;parse 4, main;emit;write 1");
    assert_string_equal(warned, "");
    assert_string_equal(LEFT(plain(), .focus = "libc"), "main;emit;write 1"); // a mapping's file
    assert_string_equal(LEFT(MADE({"a@x.c:1;b@y.c:2", 1}, {"a@x.c:1", 2}), .focus = "y\\.c"),
                        "a;b 1");
}

static void ignore_goes_before_focus(void **state)
{
    (void)state;
    assert_string_equal(LEFT(plain(), .ignore = "parse"), "main;emit;malloc 2, main;emit;write 1");
    assert_string_equal(LEFT(plain(), .focus = "malloc", .ignore = "parse"), "main;emit;malloc 2");
    assert_string_equal(LEFT(plain(), .focus = "malloc", .ignore = "malloc"), "");
    assert_string_equal(warned, "the focus expression matched no samples");
}

static void a_stack_of_nothing_is_not_focused(void **state)
{
    (void)state;
    // As in google/pprof: any filter by name loses samples without a stack.
    assert_string_equal(LEFT(MADE({"", 5}, {"a", 1}), .ignore = "b"), "a 1");
    assert_string_equal(LEFT(MADE({"", 5}, {"a", 1}), .tagignore = "b"), " 5, a 1");
}

static void hide_takes_frames_away_and_keeps_the_value(void **state)
{
    (void)state;
    assert_string_equal(LEFT(plain(), .hide = "parse|malloc"),
                        "main 8, main 4, main;emit 2, main;emit;write 1");
    assert_string_equal(LEFT(plain(), .hide = "libc"),
                        "main;parse;malloc 8, main;parse 4, main;emit;malloc 2, main;emit 1");
    assert_string_equal(LEFT(MADE({"a", 5}, {"a;b", 1}), .hide = "a"), "b 1"); // nothing left: gone
    assert_string_equal(LEFT(MADE({"a>b>c;d", 5}), .hide = "b"), "a>c;d 5");
    assert_string_equal(LEFT(MADE({"a;?;d", 5}), .hide = "b"), "a;?;d 5");
    // What is focused on is looked for among all frames, the hidden ones too.
    assert_string_equal(LEFT(plain(), .focus = "parse", .hide = "parse"), "main;malloc 8, main 4");
}

static void show_keeps_only_what_matches(void **state)
{
    (void)state;
    assert_string_equal(LEFT(plain(), .show = "emit|malloc"), "malloc 8, emit;malloc 2, emit 1");
    assert_string_equal(LEFT(MADE({"a>b>c;d", 5}), .show = "b|d"), "b;d 5");
    assert_string_equal(LEFT(MADE({"a;?;d", 5}), .show = "a|d"), "a;d 5");
    assert_string_equal(LEFT(plain(), .show = "APP"), // by mapping: all of it
                        "main;parse;malloc 8, main;parse 4, main;emit;malloc 2, main;emit 1");
    assert_string_equal(LEFT(plain(), .show = "emit|malloc", .hide = "malloc"), "emit 2, emit 1");
}

static void show_from_cuts_above_the_outermost_match(void **state)
{
    (void)state;
    assert_string_equal(LEFT(plain(), .show_from = "parse"), "parse;malloc 8, parse 4");
    assert_string_equal(LEFT(MADE({"a;b;c;b;d", 5}), .show_from = "b"), "b;c;b;d 5");
    assert_string_equal(LEFT(MADE({"a>b>c;d", 5}, {"d", 1}), .show_from = "b"), "b>c;d 5");
}

static void prune_from_cuts_below_the_innermost_match(void **state)
{
    (void)state;
    // google/pprof's own example: [A,B,C,B,D], leaf first, from B leaves [B,C,B,D].
    assert_string_equal(LEFT(MADE({"D;B;C;B;A", 5}), .prune_from = "B"), "D;B;C;B 5");
    assert_string_equal(LEFT(MADE({"D;B;C;B;A", 5}), .prune_from = "A"), "D;B;C;B;A 5");
    assert_string_equal(LEFT(MADE({"a>b>c;d", 5}), .prune_from = "b"), "a>b 5");
    // The argument list is not looked at; "operator()" and anonymous namespaces are no lists.
    assert_string_equal(LEFT(MADE({"a;f(int);x", 5}), .prune_from = "int"), "a;f(int);x 5");
    assert_string_equal(LEFT(MADE({"a;(anonymous namespace)::f(int);x", 5}), .prune_from = "::f$"),
                        "a;(anonymous namespace)::f(int) 5");
    assert_string_equal(LEFT(MADE({"a;T::operator()(int);x", 5}), .prune_from = "operator\\(\\)$"),
                        "a;T::operator()(int) 5");
}

static void drop_frames_begin_at_the_first_frame_of_the_program(void **state)
{
    (void)state;
    struct pprof_profile *p = MADE({"D;B;C;B;A", 1}, {"B;D;B;A", 2}, {"D;a>B>c;x", 4}, {"B;B", 8});
    struct fscope_error err = {0};
    p->drop_frames = pprof_string(p, "B");
    assert_int_equal(report_drop_frames(p, &err), 0);
    // The whole frame where it is the outermost of its location, else what is inlined from there on;
    // matches before the program's own first frame are left alone.
    assert_string_equal(made_samples(p), "D 1, B;D 2, D;a 4, B;B 8");
    pprof_free(p);

    p = MADE({"D;mallocgc;x", 1}, {"D;malloc;x", 2});
    p->drop_frames = pprof_string(p, "malloc.*");
    p->keep_frames = pprof_string(p, "mallocgc");
    assert_int_equal(report_drop_frames(p, &err), 0);
    assert_string_equal(made_samples(p), "D;mallocgc;x 1, D 2");
    p->drop_frames = pprof_string(p, "(");
    assert_int_equal(report_drop_frames(p, &err), -EINVAL);
    assert_non_null(strstr(err.text, "the profile's drop_frames: "));
    pprof_free(p);
}

static struct pprof_profile *labelled(void)
{
    return MADE({"a", 1, "thread=main,bytes=#4096 bytes"},
                {"b", 2, "thread=worker,bytes=#65536 bytes"}, {"c", 4, "thread=worker,host=main"},
                {"d", 8});
}

static void tagfocus_with_and_without_a_key(void **state)
{
    (void)state;
    assert_string_equal(LEFT(labelled(), .tagfocus = "worker"), "b 2, c 4");
    assert_string_equal(LEFT(labelled(), .tagfocus = "thread=main"), "a 1");
    assert_string_equal(LEFT(labelled(), .tagfocus = "host:main"), "c 4"); // of "key:value"
    assert_string_equal(LEFT(labelled(), .tagfocus = "thread=main,worker"), "a 1, b 2, c 4"); // any
    assert_string_equal(LEFT(labelled(), .tagfocus = "main,worker"), "c 4");                  // all
    assert_string_equal(LEFT(labelled(), .tagignore = "thread=."), "d 8");
    assert_string_equal(LEFT(labelled(), .tagfocus = "worker", .tagignore = "main"), "b 2");
    assert_string_equal(warned, "");
    assert_string_equal(LEFT(labelled(), .tagfocus = "thread=nobody"), "");
    assert_string_equal(warned, "the tagfocus expression matched no samples");
}

static void tag_ranges_count_in_units(void **state)
{
    (void)state;
    assert_string_equal(LEFT(labelled(), .tagfocus = "4kb"), "a 1");
    assert_string_equal(LEFT(labelled(), .tagfocus = "4097b:"), "b 2");
    assert_string_equal(LEFT(labelled(), .tagfocus = ":4kb"), "a 1");
    assert_string_equal(LEFT(labelled(), .tagfocus = "1kb:1mb"), "a 1, b 2"); // both ends included
    assert_string_equal(LEFT(labelled(), .tagfocus = "bytes=64kb:64kb"), "b 2");
    assert_non_null(strstr(warned, "taken as a range"));
    assert_string_equal(LEFT(labelled(), .tagfocus = "other=64kb:64kb"), "");
    assert_string_equal(LEFT(labelled(), .tagfocus = "1s:9hr"), ""); // bytes are no time
    assert_string_equal(LEFT(labelled(), .tagignore = "1b:"), "c 4, d 8");
}

static void tagshow_and_taghide_choose_labels_by_key(void **state)
{
    (void)state;
    struct report_options o = {.tagshow = "thread|bytes", .taghide = "^by"};
    struct pprof_profile *p = labelled();
    assert_int_equal(report_filter(p, &o, NULL), 0);
    assert_int_equal(p->sample_count, 4);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(p->samples[i]->label_count, 1);
        assert_string_equal(p->samples[i]->labels[0].key, "thread");
    }
    assert_int_equal(p->samples[3]->label_count, 0);
    pprof_free(p);
}

static void labels_become_frames(void **state)
{
    (void)state;
    struct report_options o = {
        .tagroot = "thread,host", .tagleaf = "bytes", .unit = "kb", .warn = warn};
    struct pprof_profile *p = labelled();
    warned[0] = 0;
    assert_int_equal(report_tag_nodes(p, &o, NULL), 0);
    // The first key is outermost; a sample without the label has a frame of no name.
    assert_string_equal(made_samples(p),
                        "main;;a;4kB 1, worker;;b;64kB 2, worker;main;c; 4, ;;d; 8");
    assert_string_equal(warned, "");
    o = (struct report_options){.tagroot = "nothing", .warn = warn};
    assert_int_equal(report_tag_nodes(p, &o, NULL), 0);
    assert_string_equal(warned, "no sample has a label that tagroot names");
    pprof_free(p);
}

static void bad_expressions_are_named(void **state)
{
    (void)state;
    static const char *const names[] = {
        "focus:",      "ignore:",   "show:",      "hide:",    "show_from:",
        "prune_from:", "tagfocus:", "tagignore:", "tagshow:", "taghide:"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct report_options o = {0};
        const char **fields[] = {&o.focus,      &o.ignore,   &o.show,      &o.hide,    &o.show_from,
                                 &o.prune_from, &o.tagfocus, &o.tagignore, &o.tagshow, &o.taghide};
        struct fscope_error err = {0};
        struct pprof_profile *p = plain();
        *fields[i] = "*";
        assert_int_equal(report_filter(p, &o, &err), -EINVAL);
        assert_int_equal(strncmp(err.text, names[i], strlen(names[i])), 0);
        pprof_free(p);
    }
}

static void what_matched_nothing_is_said(void **state)
{
    (void)state;
    LEFT(plain(), .focus = "main", .ignore = "1", .hide = "2", .show_from = "main");
    assert_string_equal(warned, "the ignore expression matched no samples;"
                                "the hide expression matched no samples");
    assert_string_equal(LEFT(plain(), .show = "3"), "");
    assert_string_equal(warned, "the show expression matched no samples");
    assert_string_equal(LEFT(plain(), .show_from = "4"), "");
    assert_string_equal(warned, "the show_from expression matched no samples");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(focus_keeps_samples_with_a_match_anywhere),
        cmocka_unit_test(ignore_goes_before_focus),
        cmocka_unit_test(a_stack_of_nothing_is_not_focused),
        cmocka_unit_test(hide_takes_frames_away_and_keeps_the_value),
        cmocka_unit_test(show_keeps_only_what_matches),
        cmocka_unit_test(show_from_cuts_above_the_outermost_match),
        cmocka_unit_test(prune_from_cuts_below_the_innermost_match),
        cmocka_unit_test(drop_frames_begin_at_the_first_frame_of_the_program),
        cmocka_unit_test(tagfocus_with_and_without_a_key),
        cmocka_unit_test(tag_ranges_count_in_units),
        cmocka_unit_test(tagshow_and_taghide_choose_labels_by_key),
        cmocka_unit_test(labels_become_frames),
        cmocka_unit_test(bad_expressions_are_named),
        cmocka_unit_test(what_matched_nothing_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
