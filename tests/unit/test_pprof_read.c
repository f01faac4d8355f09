// SPDX-License-Identifier: MIT
//
// Reading a damaged or hostile file ends in a profile or in an error that names where and why;
// never in a crash, never in more memory than allowed; and salvaging keeps whole samples.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "formats/pprof.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum { SAMPLES = 20 };

static struct pprof_profile *small_profile(void)
{
    struct pprof_profile *p = pprof_new();
    assert_int_equal(pprof_add_sample_type(p, "samples", "count"), 0);
    struct pprof_mapping *m = pprof_add_mapping(p, 0x1000, 0x9000, 0, "/bin/x", "abcdef");
    for (int i = 0; i < SAMPLES; i++) {
        char name[32];
        snprintf(name, sizeof name, "function_%d", i);
        struct pprof_line line = {.function = pprof_intern_function(p, name, name, "x.c", 1),
                                  .line = i};
        struct pprof_location *stack[] = {
            pprof_intern_location(p, m, 0x1000 + (uint64_t)i, &line, 1)};
        struct pprof_label label = {.key = "thread", .str = name};
        assert_int_equal(pprof_add_sample(p, stack, 1, (int64_t[]){i + 1}, &label, 1), 0);
    }
    return p;
}

static unsigned char *written(const struct pprof_profile *p, bool gzip, size_t *size)
{
    struct stat st;
    int fd = memfd_create("profile", MFD_CLOEXEC);
    assert_int_equal(pprof_write_fd(p, fd, gzip, NULL), 0);
    assert_int_equal(fstat(fd, &st), 0);
    *size = (size_t)st.st_size;
    unsigned char *bytes = malloc(*size);
    assert_int_equal(pread(fd, bytes, *size, 0), st.st_size);
    close(fd);
    return bytes;
}

static void names_where_and_why(const struct fscope_error *err)
{
    assert_true(err->code < 0);
    assert_non_null(strstr(err->text, "byte "));
    assert_non_null(strchr(err->text, ':'));
}

// An exact copy on the heap, so that a sanitizer sees one byte too far.
static int read_exact(struct pprof_profile **out, const unsigned char *bytes, size_t n,
                      const struct pprof_read_options *o, struct fscope_error *err)
{
    unsigned char *exact = malloc(n ? n : 1);
    assert_non_null(exact);
    memcpy(exact, bytes, n);
    *err = (struct fscope_error){0};
    int rc = pprof_read_memory(out, exact, n, o, err);
    free(exact);
    assert_true(rc == 0 ? *out != NULL : *out == NULL);
    return rc;
}

static void cut_anywhere_it_is_refused(void **state)
{
    (void)state;
    struct fscope_error err;
    struct pprof_profile *p = small_profile(), *q;
    for (int gzip = 0; gzip < 2; gzip++) {
        size_t size;
        unsigned char *bytes = written(p, gzip, &size);
        assert_int_equal(read_exact(&q, bytes, size, NULL, &err), 0);
        assert_int_equal(q->sample_count, SAMPLES);
        pprof_free(q);
        for (size_t n = 0; n < size; n++) {
            int rc = read_exact(&q, bytes, n, NULL, &err);
            assert_true(rc == -ENODATA || rc == -EINVAL);
            // A plain file cut between two fields shows it by what they refer to.
            if (gzip && n >= 2)
                assert_int_equal(rc, -ENODATA);
            names_where_and_why(&err);
        }
        free(bytes);
    }
    pprof_free(p);
}

static void salvaging_keeps_the_whole_samples(void **state)
{
    (void)state;
    uint64_t salvaged = 77;
    struct pprof_read_options o = {
        .size = sizeof o, .salvage = true, .salvaged_samples = &salvaged};
    struct fscope_error err;
    struct pprof_profile *p = small_profile(), *q;
    for (int gzip = 0; gzip < 2; gzip++) {
        size_t size, before = 0;
        unsigned char *bytes = written(p, gzip, &size);
        for (size_t n = 0; n < size; n++) {
            int rc = read_exact(&q, bytes, n, &o, &err);
            if (rc) {
                names_where_and_why(&err);
                continue;
            }
            assert_int_equal(pprof_check(q, &err), 0);
            assert_int_equal(salvaged, q->sample_count);
            assert_true(q->sample_count >= before); // more bytes never give less
            before = q->sample_count;
            for (size_t i = 0; i < q->sample_count; i++) {
                assert_int_equal(q->samples[i]->values[0], i + 1);
                assert_string_equal(q->samples[i]->locations[0]->lines[0].function->name,
                                    p->functions[i]->name);
            }
            pprof_free(q);
        }
        assert_int_equal(before, SAMPLES); // before the last bytes, all of them
        assert_int_equal(read_exact(&q, bytes, size, &o, &err), 0);
        assert_int_equal(salvaged, 0); // whole: nothing to salvage
        pprof_free(q);
        free(bytes);
    }
    pprof_free(p);
}

static void flipped_bits_do_no_harm(void **state)
{
    (void)state;
    struct fscope_error err;
    struct pprof_profile *p = small_profile(), *q;
    for (int variant = 0; variant < 4; variant++) {
        struct pprof_read_options o = {.size = sizeof o, .salvage = variant & 1};
        size_t size;
        unsigned char *bytes = written(p, variant & 2, &size);
        for (size_t bit = 0; bit < 8 * size; bit++) {
            bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
            if (read_exact(&q, bytes, size, &o, &err) == 0) {
                assert_int_equal(pprof_check(q, &err), 0);
                pprof_free(q);
            } else {
                names_where_and_why(&err);
            }
            bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
        }
        free(bytes);
    }
    pprof_free(p);
}

static void a_gzip_bomb_is_stopped(void **state)
{
    (void)state;
    enum { PLAIN = 64 << 20 };
    struct fscope_error err;
    struct pprof_profile *q;
    uLongf size = 1 << 20;
    unsigned char *zeros = calloc(1, PLAIN), *bomb = malloc(size);
    z_stream z = {.next_in = zeros, .avail_in = PLAIN, .next_out = bomb, .avail_out = (uInt)size};
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    size = z.total_out;
    deflateEnd(&z);
    struct pprof_read_options o = {.size = sizeof o, .inflated_max = 1 << 20};
    assert_int_equal(read_exact(&q, bomb, size, &o, &err), -EFBIG);
    assert_non_null(strstr(err.text, "more than 1048576 bytes"));
    free(zeros);
    free(bomb);
}

static void the_bound_is_exact(void **state)
{
    (void)state;
    struct fscope_error err;
    struct pprof_profile *p = small_profile(), *q;
    size_t plain_size, size;
    free(written(p, false, &plain_size));
    unsigned char *bytes = written(p, true, &size);
    struct pprof_read_options o = {.size = sizeof o, .inflated_max = plain_size};
    assert_int_equal(read_exact(&q, bytes, size, &o, &err), 0);
    pprof_free(q);
    o.inflated_max--;
    assert_int_equal(read_exact(&q, bytes, size, &o, &err), -EFBIG);
    free(bytes);
    pprof_free(p);
}

static void gzip_members_one_after_the_other_are_one_file(void **state)
{
    (void)state;
    struct fscope_error err;
    struct pprof_profile *p = small_profile(), *q;
    size_t plain_size;
    unsigned char *plain = written(p, false, &plain_size);
    unsigned char both[8192];
    size_t used = 0;
    for (int half = 0; half < 2; half++) {
        size_t from = half ? plain_size / 2 : 0, to = half ? plain_size : plain_size / 2;
        z_stream z = {.next_in = plain + from,
                      .avail_in = (uInt)(to - from),
                      .next_out = both + used,
                      .avail_out = (uInt)(sizeof both - used)};
        assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
        assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
        used += z.total_out;
        deflateEnd(&z);
    }
    assert_int_equal(read_exact(&q, both, used, NULL, &err), 0);
    assert_int_equal(q->sample_count, SAMPLES);
    pprof_free(q);
    memcpy(both + used, "junk", 4);
    assert_int_equal(read_exact(&q, both, used + 4, NULL, &err), -EINVAL);
    free(plain);
    pprof_free(p);
}

static void text_of_no_format_is_called_that(void **state)
{
    (void)state;
    struct fscope_error err;
    struct pprof_profile *q;
    const char text[] = "a log file\nof some lines\n";
    assert_int_equal(pprof_read_memory(&q, text, strlen(text), NULL, &err), -EINVAL);
    assert_non_null(strstr(err.text, "this is text"));
    assert_int_equal(pprof_read_file(&q, "/does/not/exist", NULL, &err), -ENOENT);
    assert_string_equal(err.text, "/does/not/exist: No such file or directory");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cut_anywhere_it_is_refused),
        cmocka_unit_test(salvaging_keeps_the_whole_samples),
        cmocka_unit_test(flipped_bits_do_no_harm),
        cmocka_unit_test(a_gzip_bomb_is_stopped),
        cmocka_unit_test(the_bound_is_exact),
        cmocka_unit_test(gzip_members_one_after_the_other_are_one_file),
        cmocka_unit_test(text_of_no_format_is_called_that),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
