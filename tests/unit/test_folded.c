// SPDX-License-Identifier: MIT
//
// Folded stacks: root first, equal stacks united, sorted, nothing lost of the values.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "formats/folded.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void stacks_are_united_and_sorted(void **state)
{
    (void)state;
    struct fscope_error err;
    struct pprof_profile *p = pprof_new();
    pprof_add_sample_type(p, "samples", "count");
    pprof_add_sample_type(p, "cpu", "nanoseconds");
    struct pprof_mapping *m = pprof_add_mapping(p, 0x1000, 0x9000, 0x200, "/usr/bin/tool", "");
    struct pprof_line root = {.function = pprof_intern_function(p, "main", "main", "", 0)};
    struct pprof_line inlined[] = {
        {.function = pprof_intern_function(p, "inner;x\n", "inner", "", 0), .line = 1},
        {.function = pprof_intern_function(p, "outer", "outer", "", 0), .line = 2}};
    struct pprof_location *a[] = {pprof_intern_location(p, m, 0x1100, inlined, 2),
                                  pprof_intern_location(p, m, 0x1000, &root, 1)};
    // Another address of the same functions: the same line of output.
    struct pprof_location *b[] = {pprof_intern_location(p, m, 0x1104, inlined, 2), a[1]};
    struct pprof_location *c[] = {pprof_intern_location(p, m, 0x1234, NULL, 0), a[1]};
    struct pprof_location *d[] = {pprof_intern_location(p, NULL, 0xabc, NULL, 0), a[1]};
    pprof_add_sample(p, a, 2, (int64_t[]){1, 10}, NULL, 0);
    pprof_add_sample(p, b, 2, (int64_t[]){2, 20}, NULL, 0);
    pprof_add_sample(p, c, 2, (int64_t[]){3, 30}, NULL, 0);
    pprof_add_sample(p, d, 2, (int64_t[]){4, -40}, NULL, 0);
    pprof_add_sample(p, a + 1, 1, (int64_t[]){5, 0}, NULL, 0);
    pprof_add_sample(p, NULL, 0, (int64_t[]){6, 60}, NULL, 0);

    char text[512] = "";
    int fd = memfd_create("folded", MFD_CLOEXEC);
    assert_int_equal(folded_write_fd(p, 0, fd, &err), 0);
    assert_true(pread(fd, text, sizeof text - 1, 0) > 0);
    assert_string_equal(text, "[no stack] 6\n"
                              "main 5\n"
                              "main;0xabc 4\n"
                              "main;outer;inner:x  3\n"
                              "main;tool+0x434 3\n");
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    memset(text, 0, sizeof text);
    assert_int_equal(folded_write_fd(p, 1, fd, &err), 0);
    assert_true(pread(fd, text, sizeof text - 1, 0) > 0);
    assert_string_equal(text, "[no stack] 60\n"
                              "main;0xabc -40\n"
                              "main;outer;inner:x  30\n"
                              "main;tool+0x434 30\n");
    close(fd);
    pprof_free(p);
}

static void what_cannot_be_is_refused(void **state)
{
    (void)state;
    struct fscope_error err;
    struct pprof_profile *p = pprof_new();
    pprof_add_sample_type(p, "samples", "count");
    pprof_add_sample(p, NULL, 0, (int64_t[]){1}, NULL, 0);
    assert_int_equal(folded_write_fd(p, 1, STDOUT_FILENO, &err), -EINVAL);
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    assert_int_equal(folded_write_fd(p, 0, full, &err), -ENOSPC);
    close(full);
    pprof_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stacks_are_united_and_sorted),
        cmocka_unit_test(what_cannot_be_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
