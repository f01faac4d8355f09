// SPDX-License-Identifier: MIT
//
// Files that are not whole are read as far as they go, and it is said what is missing.

#include "formats/trace/leb.h"
#include "tests/unit/trace_sample.h"
#include "viewer/load.h"
#include "viewer/trace_model.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char path[] = "/tmp/fiberscope-test-XXXXXX";

static int begin(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 || close(fd);
}

static int end(void **state)
{
    (void)state;
    return unlink(path);
}

static int load_bytes(const void *bytes, size_t n, struct loaded *out, struct fscope_error *err)
{
    const struct load_options o = {.path = path};
    FILE *f = fopen(path, "w");
    assert_true(f && (!n || fwrite(bytes, n, 1, f) == 1) && !fclose(f));
    *err = (struct fscope_error){0};
    return load_now(&o, out, err);
}

// Brings the batch with the clock, the last one, to the front, where Go has it.
static void clock_first(struct trace_bytes *b)
{
    const unsigned char *end = b->data + b->size_bytes;
    for (unsigned char *p = b->data + 16; p < end && *p != TRACE_EV_END_OF_GENERATION;) {
        const unsigned char *at = p + 1 + (*p == TRACE_EV_EXPERIMENTAL_BATCH);
        uint64_t v[4] = {0};
        for (int i = 0; i < 4; i++)
            assert_true(leb_read(&at, end, &v[i]));
        size_t n = (size_t)(at - p) + v[3];
        if (*at == TRACE_EV_SYNC) {
            unsigned char *copy = malloc(n);
            memcpy(copy, p, n);
            memmove(b->data + 16 + n, b->data + 16, (size_t)(p - b->data) - 16);
            memcpy(b->data + 16, copy, n);
            free(copy);
            return;
        }
        p += n;
    }
    fail_msg("no clock");
}

// In go 1.26 a generation has an end mark, so that a cut one is not whole.
static void a_trace_cut_in_its_only_generation_is_shown_as_far_as_it_goes(void **state)
{
    (void)state;
    struct trace_bytes b = trace_sample(26, 1);
    struct loaded l;
    struct fscope_error err;
    clock_first(&b);
    assert_int_equal(load_bytes(b.data, b.size_bytes, &l, &err), 0);
    assert_string_equal(l.missing, "");
    int64_t length = l.trace->end_ns - l.trace->begin_ns;
    loaded_free(&l);
    size_t opened = 0;
    for (size_t n = 16; n < b.size_bytes; n++) {
        int rc = load_bytes(b.data, n, &l, &err);
        if (!rc) {
            assert_non_null(strstr(l.missing, "its first generation as far as it goes"));
            assert_true(l.trace->end_ns - l.trace->begin_ns <= length);
            opened++;
        } else {
            assert_true(rc == -ENODATA || rc == -EINVAL);
            assert_memory_equal(err.text, path, strlen(path));
        }
        loaded_free(&l);
    }
    assert_true(opened > b.size_bytes / 2);
    free(b.data);
}

static void what_is_whole_is_shown_and_how_much_that_is(void **state)
{
    (void)state;
    struct trace_bytes b = trace_sample(26, 3);
    struct loaded l;
    struct fscope_error err;
    assert_int_equal(load_bytes(b.data, b.size_bytes - 1, &l, &err), 0);
    assert_non_null(strstr(l.missing, "is shown: 2 whole generations, "));
    char *bytes;
    assert_true(asprintf(&bytes, "byte %zu of %zu. ", b.size_bytes - 1, b.size_bytes - 1) > 0);
    assert_non_null(strstr(l.missing, bytes));
    free(bytes);
    loaded_free(&l);
    free(b.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_trace_cut_in_its_only_generation_is_shown_as_far_as_it_goes),
        cmocka_unit_test(what_is_whole_is_shown_and_how_much_that_is),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
