// SPDX-License-Identifier: MIT
//
// A profile is completed in place: right names where the file is the recorded one, addresses and a
// clear reason where it is not.

#include "collector/symbolize.h"

#include <fcntl.h>
#include <link.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static __attribute__((noinline)) int first_function(int x)
{
    __asm__ volatile("" : "+r"(x));
    return x * 3;
}

// The load address of this program, to turn pointers into file offsets as a recorder would.
static int find_base(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size;
    *(uint64_t *)arg = info->dlpi_addr;
    return 1;
}

static uint64_t base(void)
{
    uint64_t b = 0;
    dl_iterate_phdr(find_base, &b);
    return b;
}

struct made {
    struct pprof_profile *p;
    struct pprof_mapping *self, *other;
    struct pprof_location *named, *lost;
};

static struct pprof_location *add(struct pprof_profile *p, struct pprof_mapping *m,
                                  uint64_t address, int64_t value)
{
    struct pprof_location *l = pprof_intern_location(p, m, address, NULL, 0);
    assert_int_equal(pprof_add_sample(p, &l, 1, &value, NULL, 0), 0);
    return l;
}

static struct made make(const char *file, const char *build_id)
{
    struct made m = {.p = pprof_new()};
    uint64_t start = base();
    pprof_add_sample_type(m.p, "cpu", "nanoseconds");
    // The whole file as one mapping: addresses equal offsets in the first executable segment.
    m.self = pprof_add_mapping(m.p, start, start + (64 << 20), 0, file, build_id);
    m.other = pprof_add_mapping(m.p, 1 << 20, 2 << 20, 0, "/nowhere/libmissing.so", "");
    m.named = add(m.p, m.self, (uint64_t)(uintptr_t)&first_function + 1, 39);
    m.lost = add(m.p, m.other, (1 << 20) + 0x123, 61);
    return m;
}

static const char *self_path(void)
{
    static char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    assert_true(n > 0);
    path[n] = '\0';
    return path;
}

static void names_lines_and_start_lines(void **state)
{
    (void)state;
    assert_int_equal(first_function(1), 3);
    struct made m = make(self_path(), "");
    struct symbolize_stats st;
    assert_int_equal(symbolize_profile(m.p, NULL, &st, NULL), 0);
    assert_int_equal(m.named->line_count, 1);
    const struct pprof_function *fn = m.named->lines[0].function;
    assert_string_equal(fn->name, "first_function");
    assert_non_null(strstr(fn->filename, "test_symbolize.c"));
    assert_int_equal(fn->start_line, 18);
    assert_in_range(m.named->lines[0].line, 18, 22);
    assert_true(m.self->has_functions && m.self->has_line_numbers && m.self->has_inline_frames);
    assert_false(m.other->has_functions);
    assert_int_equal(m.lost->line_count, 0);
    assert_int_equal(pprof_check(m.p, NULL), 0);
    assert_int_equal(st.location_count, 2);
    assert_int_equal(st.named_count, 1);
    assert_int_equal(st.unnamed_value, 61);
    char text[512];
    symbolize_summary(&st, text, sizeof text);
    assert_non_null(strstr(text, "61 % in 1 file without symbols: "));
    assert_non_null(strstr(text, "libmissing.so"));
    pprof_free(m.p);
}

static void refuses_another_build_id(void **state)
{
    (void)state;
    struct made m = make(self_path(), "0123456789abcdef0123456789abcdef01234567");
    struct symbolize_stats st;
    assert_int_equal(symbolize_profile(m.p, NULL, &st, NULL), 0);
    assert_int_equal(m.named->line_count, 0);
    assert_int_equal(st.warning_count, 2);
    bool told = false;
    for (size_t i = 0; i < st.file_count; i++)
        told |= strstr(st.files[i].why, "the profile is of 0123456789abcdef") != NULL;
    assert_true(told);
    pprof_free(m.p);
}

static int give_fd(void *arg, const struct pprof_mapping *m)
{
    return strstr(m->file, "deleted") ? *(int *)arg : -1;
}

static void uses_the_descriptor_of_a_deleted_file(void **state)
{
    (void)state;
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    struct made m = make("/gone/program (deleted)", "");
    struct symbolize_options o = {.size = sizeof o, .mapping_fd = give_fd, .arg = &fd};
    assert_int_equal(symbolize_profile(m.p, &o, NULL, NULL), 0);
    assert_int_equal(m.named->line_count, 1);
    assert_string_equal(m.named->lines[0].function->name, "first_function");
    assert_true(fcntl(fd, F_GETFD) >= 0); // still ours
    close(fd);
    pprof_free(m.p);
}

static void refuses_a_deleted_file_that_cannot_be_checked(void **state)
{
    (void)state;
    char path[5000];
    snprintf(path, sizeof path, "%s (deleted)", self_path());
    struct made m = make(path, "");
    struct symbolize_stats st;
    assert_int_equal(symbolize_profile(m.p, NULL, &st, NULL), 0);
    assert_int_equal(m.named->line_count, 0);
    pprof_free(m.p);
}

static void names_jit_code_from_a_perf_map(void **state)
{
    (void)state;
    char path[] = "/tmp/fscope-map-XXXXXX";
    int fd = mkstemp(path);
    assert_true(dprintf(fd, "7f0000001000 40 jitted add\n") > 0);
    close(fd);
    struct made m = make(self_path(), "");
    struct pprof_mapping *anon =
        pprof_add_mapping(m.p, 0x7f0000000000, 0x7f0000010000, 0, "//anon", "");
    struct pprof_location *in = add(m.p, anon, 0x7f0000001010, 5);
    struct pprof_location *loose = add(m.p, NULL, 0x7f000000103f, 5);
    struct pprof_location *out = add(m.p, anon, 0x7f0000001040, 5);
    struct symbolize_options o = {.size = sizeof o, .perf_map = path};
    assert_int_equal(symbolize_profile(m.p, &o, NULL, NULL), 0);
    unlink(path);
    assert_string_equal(in->lines[0].function->name, "jitted add");
    assert_string_equal(loose->lines[0].function->name, "jitted add");
    assert_int_equal(out->line_count, 0);
    pprof_free(m.p);
}

static void leaves_what_is_named_alone(void **state)
{
    (void)state;
    struct made m = make(self_path(), "");
    struct pprof_line line = {.function = pprof_intern_function(m.p, "mine", "mine", "f.c", 1)};
    assert_int_equal(pprof_set_lines(m.p, m.named, &line, 1), 0);
    assert_int_equal(symbolize_profile(m.p, NULL, NULL, NULL), 0);
    assert_string_equal(m.named->lines[0].function->name, "mine");
    struct symbolize_options o = {.size = sizeof o, .again = true};
    assert_int_equal(symbolize_profile(m.p, &o, NULL, NULL), 0);
    assert_string_equal(m.named->lines[0].function->name, "first_function");
    pprof_free(m.p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_lines_and_start_lines),
        cmocka_unit_test(refuses_another_build_id),
        cmocka_unit_test(uses_the_descriptor_of_a_deleted_file),
        cmocka_unit_test(refuses_a_deleted_file_that_cannot_be_checked),
        cmocka_unit_test(names_jit_code_from_a_perf_map),
        cmocka_unit_test(leaves_what_is_named_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
