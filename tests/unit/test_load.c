// SPDX-License-Identifier: MIT
//
// Files that are not whole are read as far as they go, and it is said what is missing.

#include "formats/trace/leb.h"
#include "tests/unit/trace_sample.h"
#include "viewer/load.h"
#include "viewer/trace_model.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
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

// --- Addresses. A server that gives one answer and then keeps the connection.

static struct server {
    int fd, port;
    const char *answer;
    size_t size;
    pthread_t thread;
} server;

static void *serve(void *arg)
{
    struct server *s = arg;
    char request[4096];
    int fd = accept(s->fd, NULL, NULL);
    if (fd < 0 || read(fd, request, sizeof request) <= 0)
        return NULL;
    if (write(fd, s->answer, s->size) == (ssize_t)s->size)
        while (read(fd, request, sizeof request) > 0)
            ; // until the other side goes
    close(fd);
    return NULL;
}

static int load_answer(const char *answer, size_t n, struct loaded *out, struct fscope_error *err)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    char url[64];
    server = (struct server){.fd = socket(AF_INET, SOCK_STREAM, 0), .answer = answer, .size = n};
    assert_int_equal(bind(server.fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(server.fd, 1), 0);
    assert_int_equal(getsockname(server.fd, (struct sockaddr *)&at, &size), 0);
    assert_int_equal(pthread_create(&server.thread, NULL, serve, &server), 0);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/debug", ntohs(at.sin_port));
    const struct load_options o = {.path = url};
    *err = (struct fscope_error){0};
    alarm(30); // who waits for this server's end waits for ever
    int rc = load_now(&o, out, err);
    alarm(0);
    pthread_join(server.thread, NULL);
    close(server.fd);
    if (rc)
        assert_memory_equal(err->text, url, strlen(url));
    return rc;
}

static void an_answer_in_chunks_ends_with_the_last(void **state)
{
    (void)state;
    struct trace_bytes b = trace_sample(26, 1);
    struct loaded l;
    struct fscope_error err;
    char *text;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    fprintf(out, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (size_t at = 0; at < b.size_bytes; at += 100) {
        size_t n = b.size_bytes - at < 100 ? b.size_bytes - at : 100;
        fprintf(out, "%zx\r\n", n);
        fwrite(b.data + at, n, 1, out);
        fprintf(out, "\r\n");
    }
    fprintf(out, "0\r\n\r\n");
    fclose(out);
    int rc = load_answer(text, size, &l, &err);
    if (rc)
        fail_msg("%s", err.text);
    assert_string_equal(l.missing, "");
    loaded_free(&l);
    free(text);
    free(b.data);
}

static void a_server_that_refuses_is_heard(void **state)
{
    (void)state;
    static const char answers[][200] = {
        "HTTP/1.1 501 Not Implemented\r\nContent-Length: 38\r\n\r\nno fibers:\033[31m link "
        "libfiberscope-rt\n",
        "HTTP/1.1 501 Not Implemented\r\nTransfer-Encoding: chunked\r\n\r\n"
        "26\r\nno fibers:\033[31m link libfiberscope-rt\n\r\n0\r\n\r\n",
    };
    for (int i = 0; i < 2; i++) {
        struct loaded l;
        struct fscope_error err;
        assert_int_equal(load_answer(answers[i], strlen(answers[i]), &l, &err), -EIO);
        assert_non_null(
            strstr(err.text, "the server says 501 Not Implemented: no fibers:?[31m link"));
    }
    struct loaded l;
    struct fscope_error err;
    static const char nonsense[] = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nnonsense";
    assert_true(load_answer(nonsense, sizeof nonsense - 1, &l, &err) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_trace_cut_in_its_only_generation_is_shown_as_far_as_it_goes),
        cmocka_unit_test(what_is_whole_is_shown_and_how_much_that_is),
        cmocka_unit_test(an_answer_in_chunks_ends_with_the_last),
        cmocka_unit_test(a_server_that_refuses_is_heard),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
