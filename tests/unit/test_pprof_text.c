// SPDX-License-Identifier: MIT
//
// A profile written as text and read back has the samples that it had; and people see the columns that Go's tabwriter
// makes (the expected lines are its own).

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "formats/pprof_text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char *const heap_types[] = {"alloc_objects", "alloc_space", "inuse_objects",
                                         "inuse_space"};
static const char *const lock_types[] = {"contentions", "delay"};
static const char *const count_types[] = {"goroutine"};

static struct pprof_profile *empty(const char *const *types, size_t n)
{
    struct pprof_profile *p = pprof_new();
    assert_non_null(p);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(pprof_add_sample_type(p, types[i], i % 2 ? "bytes" : "count"), 0);
    return p;
}

static struct pprof_location *at(struct pprof_profile *p, uint64_t address, const char *name,
                                 const char *file, int64_t line)
{
    struct pprof_line l = {.function = pprof_intern_function(p, name, name, file, 0), .line = line};
    return pprof_intern_location(p, NULL, address, name ? &l : NULL, name != NULL);
}

static char *text_of(const struct pprof_profile *p, enum pprof_text_kind kind,
                     const struct pprof_text_options *o)
{
    char *text = NULL;
    size_t size;
    struct fscope_error err = {0};
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    int rc = pprof_text_write(p, kind, o, out, &err);
    assert_int_equal(fclose(out), 0);
    if (rc)
        fail_msg("%s", err.text);
    return text;
}

static bool offset(void *arg, const struct pprof_location *l, uint64_t *bytes)
{
    (void)arg;
    *bytes = l->address & 0xff;
    return l->address != 0x99;
}

static void columns_are_those_of_tabwriter(void **state)
{
    (void)state;
    static const char want[] = "goroutine profile: total 7\n"
                               "6 @ 0x2 0x1234511 0x123456789abcd03\n"
                               "#\t0x1\t\t\tf+0x1\t\ta.c:1\n"
                               "#\t0x1234510\t\ta_function+0x10\tb.c:2\n"
                               "#\t0x123456789abcd02\th\u00e9\u00e9+0x2\t\tc.c:3\n"
                               "\n"
                               "1 @ 0x2 0x9a 0x2001 0x123458 0x1234568\n"
                               "# labels: {\"a\\tb\":\"\\\"\\\\\\x01\\x7f\u00e9\", \"n\":\"7\"}\n"
                               "#\t0x1\tf+0x1\ta.c:1\n"
                               "#\t0x99\tg\ta.c:2\n"
                               "#\t0x2000\n"
                               "#\t0x123457\tx+0x57\t\ta.c:1\n"
                               "#\t0x1234567\tyyy+0x67\ta.c:1\n"
                               "\n";
    struct pprof_profile *p = empty(count_types, 1);
    struct pprof_location *one[] = {at(p, 0x1, "f", "a.c", 1),
                                    at(p, 0x1234510, "a_function", "b.c", 2),
                                    at(p, 0x123456789abcd02, "h\u00e9\u00e9", "c.c", 3)};
    struct pprof_location *two[] = {at(p, 0x1, "f", "a.c", 1), at(p, 0x99, "g", "a.c", 2),
                                    at(p, 0x2000, NULL, NULL, 0), at(p, 0x123457, "x", "a.c", 1),
                                    at(p, 0x1234567, "yyy", "a.c", 1)};
    const struct pprof_label labels[] = {{.key = "n", .num = 7},
                                         {.key = "a\tb", .str = "\"\\\x01\x7f\u00e9"}};
    assert_int_equal(pprof_add_sample(p, two, 5, (int64_t[]){1}, labels, 2), 0);
    assert_int_equal(pprof_add_sample(p, one, 3, (int64_t[]){6}, NULL, 0), 0);
    const struct pprof_text_options o = {.size = sizeof o, .offset = offset};
    char *text = text_of(p, PPROF_TEXT_COUNT, &o);
    assert_string_equal(text, want);
    free(text);
    pprof_free(p);
}

static void leading_frames_of_gos_runtime_are_hidden(void **state)
{
    (void)state;
    struct pprof_profile *p = empty(count_types, 1);
    struct pprof_location *gopark = at(p, 1, "runtime.gopark", "r.go", 1),
                          *f = at(p, 2, "main.f", "m.go", 2),
                          *call = at(p, 3, "runtime.call", "r.go", 3),
                          *exit = at(p, 4, "runtime.goexit", "r.s", 4);
    struct pprof_location *both[] = {gopark, f, call, exit}, *alone[] = {gopark, exit};
    assert_int_equal(pprof_add_sample(p, both, 4, (int64_t[]){2}, NULL, 0), 0);
    assert_int_equal(pprof_add_sample(p, alone, 2, (int64_t[]){1}, NULL, 0), 0);
    char *text = text_of(p, PPROF_TEXT_COUNT, NULL);
    assert_string_equal(text, "goroutine profile: total 3\n"
                              "2 @ 0x2 0x3 0x4 0x5\n"
                              "#\t0x2\tmain.f\t\tm.go:2\n"
                              "#\t0x3\truntime.call\tr.go:3\n"
                              "\n"
                              "1 @ 0x2 0x5\n"
                              "#\t0x1\truntime.gopark\tr.go:1\n"
                              "\n");
    free(text);
    pprof_free(p);
}

// --- Reading back.

static struct pprof_profile *read_back(const char *text)
{
    struct pprof_profile *p = NULL;
    struct fscope_error err = {0};
    if (pprof_read_memory(&p, text, strlen(text), NULL, &err))
        fail_msg("%s\n%s", err.text, text);
    return p;
}

// The sum of values[type] over all samples with this stack, given by its addresses.
static int64_t sum_at(const struct pprof_profile *p, const struct pprof_sample *like, size_t type)
{
    int64_t sum = 0;
    for (size_t i = 0; i < p->sample_count; i++) {
        const struct pprof_sample *s = p->samples[i];
        bool equal = s->location_count == like->location_count;
        for (uint32_t j = 0; equal && j < s->location_count; j++)
            equal = s->locations[j]->address == like->locations[j]->address;
        sum += equal ? s->values[type] : 0;
    }
    return sum;
}

static void same_samples(const struct pprof_profile *a, const struct pprof_profile *b)
{
    assert_int_equal(a->sample_type_count, b->sample_type_count);
    for (size_t t = 0; t < a->sample_type_count; t++)
        assert_string_equal(a->sample_types[t].type, b->sample_types[t].type);
    for (size_t i = 0; i < a->sample_count; i++)
        for (size_t t = 0; t < a->sample_type_count; t++)
            assert_int_equal(sum_at(a, a->samples[i], t), sum_at(b, a->samples[i], t));
}

static uint64_t random_state = 1;

static uint64_t next_random(uint64_t below)
{
    random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (random_state >> 33) % below;
}

static struct pprof_profile *random_profile(const char *const *types, size_t n)
{
    struct pprof_profile *p = empty(types, n);
    struct pprof_mapping *m =
        pprof_add_mapping(p, 0x400000, 0x600000, 0x1000, "/usr/bin/prog", "abcdef");
    for (size_t i = 0; i < 200; i++) {
        struct pprof_location *stack[40];
        uint32_t depth = 1 + (uint32_t)next_random(40);
        int64_t values[4];
        for (uint32_t j = 0; j < depth; j++) {
            struct pprof_line line = {.function = pprof_intern_function(p, "f", "f", "f.c", 0),
                                      .line = 1};
            bool named = next_random(2);
            stack[j] = pprof_intern_location(p, m, 0x400000 + next_random(0x1fffff), &line, named);
        }
        for (size_t j = 0; j < 4; j++)
            values[j] = 1 + (int64_t)next_random(j % 2 ? UINT64_C(1) << 31 : 100000);
        const struct pprof_label label = {.key = "thread", .str = next_random(2) ? "a" : "b"};
        assert_int_equal(pprof_add_sample(p, stack, depth, values, &label, 1), 0);
    }
    return p;
}

static void what_is_read_back_has_the_same_samples(void **state)
{
    (void)state;
    const struct {
        enum pprof_text_kind kind;
        const char *const *types;
        size_t n;
    } kinds[] = {{PPROF_TEXT_COUNT, count_types, 1},
                 {PPROF_TEXT_HEAP, heap_types, 4},
                 {PPROF_TEXT_BLOCK, lock_types, 2},
                 {PPROF_TEXT_MUTEX, lock_types, 2}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        struct pprof_profile *p = random_profile(kinds[i].types, kinds[i].n);
        p->period = 524288; // values of a profile are scaled already, whatever the period says
        char *text = text_of(p, kinds[i].kind, NULL);
        struct pprof_profile *back = read_back(text);
        same_samples(p, back);
        same_samples(back, p);
        assert_int_equal(back->mapping_count, 1);
        assert_string_equal(back->mappings[0]->file, "/usr/bin/prog");
        assert_int_equal(back->mappings[0]->offset, 0x1000);
        pprof_free(back);
        pprof_free(p);
        free(text);
    }
}

static void a_heap_that_freed_nothing_keeps_four_columns(void **state)
{
    (void)state;
    struct pprof_profile *p = empty(heap_types, 4);
    struct pprof_location *main_at[] = {at(p, 0x10, "main", "m.c", 1)};
    assert_int_equal(pprof_add_sample(p, main_at, 1, (int64_t[]){5, 500, 5, 500}, NULL, 0), 0);
    const struct pprof_text_stat stats[] = {{"Alloc", 500}, {"MaxRSS", 7}};
    const struct pprof_text_options o = {.size = sizeof o, .stats = stats, .stat_count = 2};
    char *text = text_of(p, PPROF_TEXT_HEAP, &o);
    assert_string_equal(text, "heap profile: 5: 500 [5: 501] @ heap/2\n"
                              "5: 500 [5: 500] @ 0x11\n"
                              "#\t0x10\tmain\tm.c:1\n"
                              "\n"
                              "\n"
                              "# runtime.MemStats\n"
                              "# Alloc = 500\n"
                              "# MaxRSS = 7\n");
    struct pprof_profile *back = read_back(text);
    same_samples(p, back);
    pprof_free(back);
    pprof_free(p);
    free(text);
}

static void what_readers_would_refuse_is_not_written(void **state)
{
    (void)state;
    struct pprof_profile *heap = empty(heap_types, 4), *locks = empty(lock_types, 2),
                         *counts = empty(count_types, 1);
    struct pprof_location *h[] = {at(heap, 1, NULL, NULL, 0)}, *l[] = {at(locks, 1, NULL, NULL, 0)},
                          *c[] = {at(counts, 1, NULL, NULL, 0)};
    assert_int_equal(pprof_add_sample(heap, h, 1, (int64_t[]){0, 10, 0, 10}, NULL, 0), 0);
    assert_int_equal(pprof_add_sample(heap, NULL, 0, (int64_t[]){3, 30, 1, -10}, NULL, 0), 0);
    assert_non_null(pprof_append_sample(heap, h, 1, (int64_t[]){-3, -30, 0, 0}, NULL, 0));
    assert_int_equal(pprof_add_sample(locks, l, 1, (int64_t[]){-1, 5}, NULL, 0), 0);
    assert_int_equal(pprof_add_sample(locks, NULL, 0, (int64_t[]){2, 6}, NULL, 0), 0);
    assert_int_equal(pprof_add_sample(counts, c, 1, (int64_t[]){-1}, NULL, 0), 0);
    assert_int_equal(pprof_add_sample(counts, NULL, 0, (int64_t[]){4}, NULL, 0), 0);
    struct pprof_location *zero[] = {at(locks, 0, "lost", "", 0)};
    assert_int_equal(pprof_add_sample(locks, zero, 1, (int64_t[]){1, 1}, NULL, 0), 0);
    const struct {
        enum pprof_text_kind kind;
        struct pprof_profile *p;
        const char *want;
    } rows[] = {{PPROF_TEXT_HEAP, heap,
                 "heap profile: 1: 0 [0: 1] @ heap/2\n0: 0 [0: 0] @ 0x2\n#\t0x1\n\n"
                 "1: -10 [3: 30] @ 0x1\n\n"},
                {PPROF_TEXT_BLOCK, locks,
                 "--- contention:\ncycles/second=1000000000\n6 2 @ 0x1\n\n"
                 "1 1 @ 0x1\n#\t0x0\tlost\t:0\n\n"},
                {PPROF_TEXT_COUNT, counts, "goroutine profile: total 4\n4 @ 0x1\n\n"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *text = text_of(rows[i].p, rows[i].kind, NULL);
        assert_string_equal(text, rows[i].want);
        pprof_free(read_back(text));
        pprof_free(rows[i].p);
        free(text);
    }
}

static void equal_stacks_are_one_line(void **state)
{
    (void)state;
    struct pprof_profile *p = empty(count_types, 1);
    struct pprof_location *a[] = {at(p, 0x10, "f", "f.c", 1)};
    for (int i = 0; i < 3; i++)
        assert_non_null(pprof_append_sample(p, a, 1, (int64_t[]){2}, NULL, 0));
    const struct pprof_text_options o = {.size = sizeof o, .name = "workers"};
    char *text = text_of(p, PPROF_TEXT_COUNT, &o);
    assert_string_equal(text, "workers profile: total 6\n6 @ 0x11\n#\t0x10\tf\tf.c:1\n\n");
    free(text);
    pprof_free(p);
}

static void a_type_that_is_missing_is_an_error(void **state)
{
    (void)state;
    struct fscope_error err;
    struct pprof_profile *p = empty(lock_types, 2);
    assert_int_equal(pprof_text_write(p, PPROF_TEXT_HEAP, NULL, stdout, &err), -EINVAL);
    assert_string_equal(err.text, "the profile has no sample type \"alloc_objects\"");
    pprof_free(p);
}

static void a_full_disk_is_an_error(void **state)
{
    (void)state;
    struct pprof_profile *p = random_profile(count_types, 1);
    FILE *full = fopen("/dev/full", "w");
    assert_non_null(full);
    assert_int_equal(pprof_text_write(p, PPROF_TEXT_COUNT, NULL, full, NULL), -EIO);
    fclose(full);
    pprof_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns_are_those_of_tabwriter),
        cmocka_unit_test(leading_frames_of_gos_runtime_are_hidden),
        cmocka_unit_test(what_is_read_back_has_the_same_samples),
        cmocka_unit_test(a_heap_that_freed_nothing_keeps_four_columns),
        cmocka_unit_test(what_readers_would_refuse_is_not_written),
        cmocka_unit_test(equal_stacks_are_one_line),
        cmocka_unit_test(a_type_that_is_missing_is_an_error),
        cmocka_unit_test(a_full_disk_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
