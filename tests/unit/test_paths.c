// SPDX-License-Identifier: MIT
//
// Call paths of two builds are matched across moved lines, inlining, clones and renames; and what
// really grew stays visible.

#include "analysis/paths.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SIDES = 2 };
static struct pprof_profile *sides[SIDES];
static uint64_t address;

static int begin(void **state)
{
    (void)state;
    for (int i = 0; i < SIDES; i++) {
        sides[i] = pprof_new();
        pprof_add_sample_type(sides[i], "alloc_objects", "count");
    }
    return 0;
}

static int end(void **state)
{
    (void)state;
    pprof_free(sides[0]);
    pprof_free(sides[1]);
    return 0;
}

// A sample with the stack "main work:12 helper+inlined malloc": root first; "a+b" is b inlined into
// a, ":12" a line, "?" code without a symbol. Each location has an address of its own.
static void add(int side, const char *stack, int64_t value)
{
    struct pprof_profile *p = sides[side];
    struct pprof_location *locations[600];
    char text[8192], *save = NULL;
    uint32_t n = 0;
    snprintf(text, sizeof text, "%s", stack);
    for (char *w = strtok_r(text, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
        struct pprof_line lines[8];
        uint32_t count = 0;
        char *inner = NULL;
        for (char *f = strtok_r(w, "+", &inner); f; f = strtok_r(NULL, "+", &inner)) {
            char *colon = strstr(f, "::") ? NULL : strchr(f, ':');
            if (colon)
                *colon = 0;
            memmove(lines + 1, lines, count++ * sizeof *lines); // innermost first
            lines[0] = (struct pprof_line){.function = pprof_intern_function(p, f, f, "w.c", 0),
                                           .line = colon ? strtol(colon + 1, NULL, 10) : 1};
        }
        address += 16;
        bool unnamed = !strcmp(w, "?");
        locations[n++] = pprof_intern_location(p, NULL, address, lines, unnamed ? 0 : count);
    }
    for (uint32_t i = 0; i < n / 2; i++) {
        struct pprof_location *l = locations[i];
        locations[i] = locations[n - 1 - i];
        locations[n - 1 - i] = l;
    }
    assert_int_equal(pprof_add_sample(p, locations, n, &value, NULL, 0), 0);
}

// "state base->now path", one line per group, in the order of the paths.
static const char *matched(void)
{
    static const char *const names[] = {"same", "new", "gone", "renamed", "moved"};
    static char out[32768];
    struct paths p;
    struct fscope_error err;
    struct paths_input in = {.base = &sides[0],
                             .now = &sides[1],
                             .base_count = 1,
                             .now_count = 1,
                             .type = "alloc_objects"};
    assert_int_equal(paths_build(&p, &in, &err), 0);
    out[0] = 0;
    int64_t sums[2] = {0};
    for (size_t i = 0; i < p.group_count; i++) {
        const struct paths_group *g = &p.groups[i];
        size_t at = strlen(out);
        at += (size_t)snprintf(out + at, sizeof out - at, "%s %lld->%lld", names[g->state],
                               (long long)g->values[0], (long long)g->values[1]);
        for (uint32_t k = 0; k < g->path->depth; k++)
            at += (size_t)snprintf(out + at, sizeof out - at, " %s", g->path->keys[k]);
        snprintf(out + at, sizeof out - at, "\n");
        sums[0] += g->values[0];
        sums[1] += g->values[1];
    }
    for (int side = 0; side < SIDES; side++) { // nothing is lost
        for (size_t i = 0; i < sides[side]->sample_count; i++)
            sums[side] -= sides[side]->samples[i]->values[0];
        assert_int_equal(sums[side], 0);
    }
    paths_finish(&p);
    return out;
}

static void lines_and_addresses_do_not_matter(void **state)
{
    (void)state;
    add(0, "main:10 work:20 malloc", 5);
    add(0, "main:10 work:21 malloc", 7);
    add(1, "main:11 work:120 malloc", 12);
    assert_string_equal(matched(), "same 12->12 main work malloc\n");
}

static void inlining_does_not_matter_where_debug_info_names_it(void **state)
{
    (void)state;
    add(0, "main work helper malloc", 5);
    add(1, "main work+helper malloc", 6);
    assert_string_equal(matched(), "same 5->6 main work helper malloc\n");
}

static void clones_and_parts_are_their_function(void **state)
{
    (void)state;
    add(0, "main work malloc", 5);
    add(1, "main work.constprop.0 work.constprop.0.part.1 malloc", 2);
    add(1, "main work.isra.0.cold malloc", 3);
    assert_string_equal(matched(), "same 5->5 main work malloc\n");
}

static void recursion_is_not_a_clone(void **state)
{
    (void)state;
    add(0, "main walk walk malloc", 5);
    add(1, "main walk malloc", 5);
    assert_string_equal(matched(), "moved 5->5 main walk malloc\n");
    add(0, "main other malloc", 1);
    add(0, "main other other malloc", 1);
    add(1, "main other malloc", 1);
    add(1, "main other other malloc", 2);
    assert_non_null(strstr(matched(), "same 1->1 main other malloc\n"));
    assert_non_null(strstr(matched(), "same 1->2 main other other malloc\n"));
}

static void a_rename_is_a_rename(void **state)
{
    (void)state;
    add(0, "main parse_line token malloc", 40);
    add(0, "main parse_line malloc", 3);
    add(1, "main read_line token malloc", 40);
    add(1, "main read_line malloc", 4); // grew, but it is known by now who it is
    assert_string_equal(matched(), "renamed 40->40 main read_line token malloc\n"
                                   "renamed 3->4 main read_line malloc\n");
}

static void another_count_is_no_rename(void **state)
{
    (void)state;
    add(0, "main old malloc", 10);
    add(1, "main fresh malloc", 500);
    assert_string_equal(matched(), "gone 10->0 main old malloc\n"
                                   "new 0->500 main fresh malloc\n");
}

static void frames_lost_without_debug_info(void **state)
{
    (void)state;
    add(0, "main work helper malloc", 30);
    add(0, "main work aide malloc", 70);
    add(1, "main work malloc", 101); // both were inlined, and one more allocation
    assert_string_equal(matched(), "moved 100->101 main work malloc\n");
}

static void frames_without_symbols_are_aligned(void **state)
{
    (void)state;
    add(0, "main run work helper malloc", 30);
    add(1, "main run ? ? malloc", 30);
    assert_string_equal(matched(), "moved 30->30 main run [unknown] malloc\n");
}

static void a_regression_does_not_hide_behind_a_large_improvement(void **state)
{
    (void)state;
    add(0, "main work helper malloc", 1000);
    add(1, "main work malloc", 10);
    assert_string_equal(matched(), "gone 1000->0 main work helper malloc\n"
                                   "new 0->10 main work malloc\n");
}

static void different_code_with_equal_neighbours_is_not_aligned(void **state)
{
    (void)state;
    add(0, "main a b c malloc", 100);
    add(1, "main a x y malloc", 90);
    assert_string_equal(matched(), "gone 100->0 main a b c malloc\n"
                                   "new 0->90 main a x y malloc\n");
}

static void very_deep_stacks_are_cut_at_the_root(void **state)
{
    (void)state;
    char stack[8192] = "top";
    for (int i = 0; i < 500; i++)
        strcat(stack, " down+there+deep");
    add(0, stack, 1);
    add(1, stack, 2);
    const char *text = matched();
    assert_non_null(strstr(text, "same 1->2 "));
    assert_null(strstr(text, "top"));
}

static void names_are_the_same_in_every_build(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        {"work", "work"},
        {"work.constprop.0", "work"},
        {"work.constprop.0.isra.3.cold", "work"},
        {"work.part.12", "work"},
        {"work.lto_priv.0", "work"},
        {"work.llvm.1234567", "work"},
        {"work [clone .isra.0] [clone .cold]", "work"},
        {"memcpy@@GLIBC_2.14", "memcpy"},
        {"read@plt", "read"},
        {"partial.v2", "partial.v2"},
        {"ns::f(int, char const*)", "ns::f"},
        {"ns::f(int) const", "ns::f"},
        {"ns::f(int) const &", "ns::f"},
        {"void ns::f<int>(int)", "ns::f<int>"},
        {"std::vector<int, std::allocator<int> > ns::g<std::pair<int, int> >(int)",
         "ns::g<std::pair<int,int>>"},
        {"ns::f[abi:cxx11](int)", "ns::f"},
        {"std::__cxx11::basic_string<char>::append(char const*)",
         "std::basic_string<char>::append"},
        {"(anonymous namespace)::f(int)", "{anonymous}::f"},
        {"f(int)::{lambda(int)#2}::operator()(int) const", "f::{lambda(int)}::operator()"},
        {"operator new(unsigned long)", "operator new"},
        {"operator new[](unsigned long)", "operator new[]"},
        {"A::operator()(int)", "A::operator()"},
        {"A::operator<<(int)", "A::operator<<"},
        {"bool operator< <int>(A<int> const&, A<int> const&)", "operator< <int>"},
        {"main.(*T).Method", "main.(*T).Method"},
        {"f(", "f("},
        {"", ""},
    };
    char buf[256];
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        assert_string_equal(paths_normalise(buf, sizeof buf, pairs[i][0]), pairs[i][1]);
    assert_string_equal(paths_normalise(buf, 4, "longer"), "lon");
}

static void the_reader_is_sent_to_code_of_the_program(void **state)
{
    (void)state;
    struct paths p;
    struct fscope_error err;
    add(1, "main:3 parse:42 xstrdup:7 strdup:1 malloc:1", 1);
    struct paths_input in = {.base = &sides[0],
                             .now = &sides[1],
                             .base_count = 1,
                             .now_count = 1,
                             .type = "alloc_objects"};
    assert_int_equal(paths_build(&p, &in, &err), 0);
    const struct paths_frame *f = paths_blame(p.groups[0].path);
    assert_string_equal(f->name, "xstrdup");
    assert_int_equal(f->line, 7);
    paths_finish(&p);
    in.type = "delay";
    assert_int_not_equal(paths_build(&p, &in, &err), 0);
    paths_finish(&p);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, begin, end)
int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(lines_and_addresses_do_not_matter),
        CASE(inlining_does_not_matter_where_debug_info_names_it),
        CASE(clones_and_parts_are_their_function),
        CASE(recursion_is_not_a_clone),
        CASE(a_rename_is_a_rename),
        CASE(another_count_is_no_rename),
        CASE(frames_lost_without_debug_info),
        CASE(frames_without_symbols_are_aligned),
        CASE(a_regression_does_not_hide_behind_a_large_improvement),
        CASE(different_code_with_equal_neighbours_is_not_aligned),
        CASE(very_deep_stacks_are_cut_at_the_root),
        CASE(names_are_the_same_in_every_build),
        CASE(the_reader_is_sent_to_code_of_the_program),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
