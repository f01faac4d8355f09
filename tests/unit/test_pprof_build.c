// SPDX-License-Identifier: MIT
//
// Building a profile: equal things are one thing, and what pprof_check promises holds.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "formats/pprof.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static struct pprof_profile *cpu_profile(void)
{
    struct pprof_profile *p = pprof_new();
    assert_non_null(p);
    assert_int_equal(pprof_add_sample_type(p, "samples", "count"), 0);
    assert_int_equal(pprof_add_sample_type(p, "cpu", "nanoseconds"), 0);
    return p;
}

static void equal_strings_are_one_pointer(void **state)
{
    (void)state;
    struct pprof_profile *p = pprof_new();
    char name[] = "main";
    assert_ptr_equal(pprof_string(p, name), pprof_stringn(p, "main.loop", 4));
    assert_ptr_equal(pprof_string(p, NULL), p->doc_url);
    assert_ptr_not_equal(pprof_string(p, "main"), pprof_string(p, "mai"));
    pprof_free(p);
}

static void equal_functions_and_locations_are_one(void **state)
{
    (void)state;
    struct pprof_profile *p = cpu_profile();
    struct pprof_mapping *m = pprof_add_mapping(p, 0x1000, 0x9000, 0, "/bin/x", "abcd");
    struct pprof_function *f = pprof_intern_function(p, "f", "f", "f.c", 3);
    struct pprof_function *g = pprof_intern_function(p, "f", "f", "f.c", 4);
    assert_ptr_equal(f, pprof_intern_function(p, "f", "f", "f.c", 3));
    assert_ptr_not_equal(f, g);

    struct pprof_line lines[] = {{.function = f, .line = 7}, {.function = g, .line = 9}};
    struct pprof_location *a = pprof_intern_location(p, m, 0x1234, lines, 2);
    assert_ptr_equal(a, pprof_intern_location(p, m, 0x1234, lines, 2));
    assert_ptr_not_equal(a, pprof_intern_location(p, m, 0x1234, lines, 1));
    assert_ptr_not_equal(a, pprof_intern_location(p, NULL, 0x1234, lines, 2));
    assert_int_equal(p->location_count, 3);
    assert_int_equal(p->function_count, 2);
    assert_int_equal(pprof_check(p, NULL), 0);
    pprof_free(p);
}

static void a_location_is_found_by_its_new_lines(void **state)
{
    (void)state;
    struct pprof_profile *p = cpu_profile();
    struct pprof_location *a = pprof_intern_location(p, NULL, 0x10, NULL, 0);
    struct pprof_line line = {.function = pprof_intern_function(p, "f", "f", "", 0), .line = 1};
    assert_int_equal(pprof_set_lines(p, a, &line, 1), 0);
    assert_ptr_equal(pprof_intern_location(p, NULL, 0x10, &line, 1), a);
    assert_ptr_not_equal(pprof_intern_location(p, NULL, 0x10, NULL, 0), a);
    pprof_free(p);
}

static void many_locations_change_lines_and_stay_found(void **state)
{
    (void)state;
    enum { COUNT = 5000 };
    struct pprof_profile *p = cpu_profile();
    struct pprof_function *f = pprof_intern_function(p, "f", "f", "", 0);
    for (uint64_t i = 0; i < COUNT; i++)
        assert_non_null(pprof_intern_location(p, NULL, i, NULL, 0));
    for (uint64_t i = 0; i < COUNT; i += 2) {
        struct pprof_line line = {.function = f, .line = (int64_t)i};
        assert_int_equal(pprof_set_lines(p, p->locations[i], &line, 1), 0);
    }
    for (uint64_t i = 0; i < COUNT; i++) {
        struct pprof_line line = {.function = f, .line = (int64_t)i};
        assert_ptr_equal(pprof_intern_location(p, NULL, i, &line, i % 2 == 0), p->locations[i]);
    }
    assert_int_equal(p->location_count, COUNT);
    pprof_free(p);
}

static void samples_with_one_stack_and_labels_add_up(void **state)
{
    (void)state;
    struct pprof_profile *p = cpu_profile();
    struct pprof_location *stack[] = {pprof_intern_location(p, NULL, 1, NULL, 0),
                                      pprof_intern_location(p, NULL, 2, NULL, 0)};
    struct pprof_label labels[] = {{.key = "thread", .str = "main"},
                                   {.key = "tid", .num = 7, .num_unit = "id"}};
    struct pprof_label turned[] = {labels[1], labels[0]};
    assert_int_equal(pprof_add_sample(p, stack, 2, (int64_t[]){1, 10}, labels, 2), 0);
    assert_int_equal(pprof_add_sample(p, stack, 2, (int64_t[]){2, 20}, turned, 2), 0);
    assert_int_equal(pprof_add_sample(p, stack, 2, (int64_t[]){1, INT64_MAX}, labels, 2), 0);
    assert_int_equal(p->sample_count, 1);
    assert_int_equal(p->samples[0]->values[0], 4);
    assert_true(p->samples[0]->values[1] == INT64_MAX); // saturated, not wrapped

    assert_int_equal(pprof_add_sample(p, stack, 1, (int64_t[]){1, 1}, labels, 2), 0);
    assert_int_equal(pprof_add_sample(p, stack, 2, (int64_t[]){1, 1}, labels, 1), 0);
    assert_int_equal(p->sample_count, 3);
    assert_int_equal(pprof_check(p, NULL), 0);
    pprof_free(p);
}

static void appended_samples_are_found_later(void **state)
{
    (void)state;
    struct pprof_profile *p = cpu_profile();
    struct pprof_location *stack[] = {pprof_intern_location(p, NULL, 1, NULL, 0)};
    assert_non_null(pprof_append_sample(p, stack, 1, (int64_t[]){1, 1}, NULL, 0));
    assert_non_null(pprof_append_sample(p, stack, 1, (int64_t[]){1, 1}, NULL, 0));
    assert_int_equal(p->sample_count, 2);
    assert_int_equal(pprof_add_sample(p, stack, 1, (int64_t[]){1, 1}, NULL, 0), 0);
    assert_int_equal(p->sample_count, 2);
    pprof_free(p);
}

static void forty_labels_in_any_order_are_the_same(void **state)
{
    (void)state;
    enum { COUNT = 40 };
    struct pprof_profile *p = cpu_profile();
    char keys[COUNT][8];
    struct pprof_label up[COUNT], down[COUNT];
    for (int i = 0; i < COUNT; i++) {
        snprintf(keys[i], sizeof keys[i], "k%02d", i);
        up[i] = (struct pprof_label){.key = keys[i], .str = i % 2 ? "v" : NULL, .num = i};
        down[COUNT - 1 - i] = up[i];
    }
    assert_int_equal(pprof_add_sample(p, NULL, 0, (int64_t[]){1, 1}, up, COUNT), 0);
    assert_int_equal(pprof_add_sample(p, NULL, 0, (int64_t[]){1, 1}, down, COUNT), 0);
    assert_int_equal(p->sample_count, 1);
    pprof_free(p);
}

static void check_names_what_is_broken(void **state)
{
    (void)state;
    struct fscope_error err;
    struct pprof_profile *p = cpu_profile();
    struct pprof_location *stack[] = {pprof_intern_location(p, NULL, 1, NULL, 0)};
    assert_int_equal(pprof_add_sample(p, stack, 1, (int64_t[]){1, 1}, NULL, 0), 0);
    assert_int_equal(pprof_check(p, &err), 0);

    struct pprof_location stray = {.id = 1};
    p->samples[0]->locations[0] = &stray;
    assert_int_equal(pprof_check(p, &err), -EINVAL);
    assert_string_equal(err.text, "sample 0: a location is not in the table");
    p->samples[0]->locations[0] = stack[0];

    stack[0]->id = 9;
    assert_int_equal(pprof_check(p, &err), -EINVAL);
    pprof_reindex(p);
    assert_int_equal(pprof_check(p, &err), 0);
    pprof_free(p);
}

static void sample_types_are_found_as_go_finds_them(void **state)
{
    (void)state;
    struct fscope_error err;
    struct pprof_profile *p = pprof_new();
    assert_int_equal(pprof_sample_index(p, NULL, &err), -ENOENT);
    pprof_add_sample_type(p, "objects", "count");
    pprof_add_sample_type(p, "space", "bytes");
    assert_int_equal(pprof_sample_index(p, NULL, &err), 1);
    assert_int_equal(pprof_sample_index(p, "0", &err), 0);
    assert_int_equal(pprof_sample_index(p, "2", &err), -ENOENT);
    assert_int_equal(pprof_sample_index(p, "-1", &err), -ENOENT);
    assert_int_equal(pprof_sample_index(p, "inuse_objects", &err), 0);
    assert_int_equal(pprof_sample_index(p, "cpu", &err), -ENOENT);
    assert_string_equal(err.text, "no sample type 'cpu'; this profile has: objects, space");
    p->default_sample_type = pprof_string(p, "objects");
    assert_int_equal(pprof_sample_index(p, "", &err), 0);
    assert_int_equal(pprof_add_sample(p, NULL, 0, (int64_t[]){1, 1}, NULL, 0), 0);
    assert_int_equal(pprof_add_sample_type(p, "late", "count"), -EINVAL);
    pprof_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_strings_are_one_pointer),
        cmocka_unit_test(equal_functions_and_locations_are_one),
        cmocka_unit_test(a_location_is_found_by_its_new_lines),
        cmocka_unit_test(many_locations_change_lines_and_stay_found),
        cmocka_unit_test(samples_with_one_stack_and_labels_add_up),
        cmocka_unit_test(appended_samples_are_found_later),
        cmocka_unit_test(forty_labels_in_any_order_are_the_same),
        cmocka_unit_test(check_names_what_is_broken),
        cmocka_unit_test(sample_types_are_found_as_go_finds_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
