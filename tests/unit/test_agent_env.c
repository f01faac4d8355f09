// SPDX-License-Identifier: MIT
//
// FIBERSCOPE: every key is read, escapes work, and no text, however odd, does more than be reported.

#include "agent/env.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

struct complaints {
    int count;
    char last[80], why[80];
};

static void complain(void *arg, const char *item, int length, const char *why)
{
    struct complaints *c = arg;
    assert_true(length >= 0 && length <= 64);
    c->count++;
    memcpy(c->last, item, (size_t)length);
    c->last[length] = '\0';
    strncpy(c->why, why, sizeof c->why - 1);
}

static void reads_a_heap_rate_as_record_does(void **state)
{
    static const struct {
        const char *text;
        uint64_t bytes; // 0: refused
    } cases[] = {
        {"heap=exact", 1},
        {"heap=524288", 524288},
        {"heap=64KiB", 65536},
        {"heap=64k", 65536},
        {"heap=2M", 2 << 20},
        {"heap=3mb", 3 << 20},
        {"heap=1TiB", UINT64_C(1) << 40},
        {"heap=100B", 100},
        {"heap=2TiB", 0},
        {"heap=KiB", 0},
        {"heap=5i", 0},
        {"heap=64KiBB", 0},
        {"heap=6Z", 0},
        {"heap=18446744073709551615T", 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct agent_env e;
        struct complaints c = {0};
        agent_env_defaults(&e);
        agent_env_parse(&e, cases[i].text, complain, &c);
        assert_int_equal(e.heap_bytes, cases[i].bytes);
        assert_int_equal(c.count, cases[i].bytes == 0);
    }
}

static void reads_how_to_trace(void **state)
{
    struct agent_env e;
    struct complaints c = {0};
    (void)state;
    agent_env_defaults(&e);
    assert_false(e.trace_on || e.trace_flight || agent_env_wants_anything(&e));
    assert_int_equal(e.trace_bytes, 64 << 20);
    agent_env_parse(&e, "trace=1,trace_bytes=8MiB", complain, &c);
    assert_true(e.trace_on && !e.trace_flight && agent_env_wants_anything(&e));
    assert_int_equal(e.trace_bytes, 8 << 20);
    agent_env_parse(&e, "trace=0", complain, &c);
    assert_false(e.trace_on);
    agent_env_parse(&e, "flight=1", complain, &c); // there is no flight without a trace
    assert_true(e.trace_on && e.trace_flight);
    assert_int_equal(c.count, 0);
    agent_env_parse(&e, "trace=2,trace_bytes=1000,trace_bytes=65GiB,flight=yes", complain, &c);
    assert_int_equal(c.count, 4);
    assert_int_equal(e.trace_bytes, 8 << 20);
}

static void reads_every_key(void **state)
{
    struct agent_env e;
    struct complaints c = {0};
    (void)state;
    agent_env_defaults(&e);
    assert_true(e.inherit && e.unblock && !e.cpu_hz && !e.out[0] && !e.got);
    const char *text =
        "cpu=999,wall=10,out=/tmp/a.%p,segment=/tmp/b,socket=fiberscope-00,inherit=0,"
        "unblock=0,quiet=1,source=timer,got=1";
    assert_int_equal(agent_env_parse(&e, text, complain, &c), 0);
    assert_int_equal(c.count, 0);
    assert_int_equal(e.cpu_hz, 999);
    assert_int_equal(e.wall_hz, 10);
    assert_string_equal(e.out, "/tmp/a.%p");
    assert_string_equal(e.segment, "/tmp/b");
    assert_string_equal(e.socket, "fiberscope-00");
    assert_false(e.inherit || e.unblock);
    assert_true(e.quiet && e.got);
    assert_int_equal(e.source, AGENT_SOURCE_TIMER);
}

static void later_settings_win(void **state)
{
    struct agent_env e;
    (void)state;
    agent_env_defaults(&e);
    assert_int_equal(agent_env_parse(&e, "cpu=1,cpu=2,,cpu=3,", NULL, NULL), 0);
    assert_int_equal(e.cpu_hz, 3);
}

static void escapes_commas_in_paths(void **state)
{
    struct agent_env e;
    (void)state;
    agent_env_defaults(&e);
    assert_int_equal(agent_env_parse(&e, "out=/a\\,b\\\\c\\d,cpu=7", NULL, NULL), 0);
    assert_string_equal(e.out, "/a,b\\c\\d");
    assert_int_equal(e.cpu_hz, 7);
}

static void reports_what_it_does_not_understand(void **state)
{
    static const struct {
        const char *text, *item;
    } wrong[] = {
        {"cpy=99", "cpy=99"},
        {"cpu", "cpu"},
        {"cpu=", "cpu="},
        {"cpu=99x", "cpu=99x"},
        {"cpu=-1", "cpu=-1"},
        {"cpu=10001", "cpu=10001"},
        {"inherit=2", "inherit=2"},
        {"source=magic", "source=magic"},
        {"out=", "out="},
        {"cpu=99999999999999999999", "cpu=99999999999999999999"},
        {"=5", "=5"},
        {"cp=5", "cp=5"},
        {"cpuu=5", "cpuu=5"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct agent_env e, before;
        struct complaints c = {0};
        agent_env_defaults(&e);
        before = e;
        assert_int_equal(agent_env_parse(&e, wrong[i].text, complain, &c), 1);
        assert_int_equal(c.count, 1);
        assert_string_equal(c.last, wrong[i].item);
        assert_true(c.why[0]);
        assert_memory_equal(&e, &before, sizeof e);
    }
}

static void refuses_what_does_not_fit(void **state)
{
    struct agent_env e;
    struct complaints c = {0};
    (void)state;
    char *text = malloc(200000);
    memset(text, 'x', 199999);
    text[199999] = '\0';
    memcpy(text, "out=", 4);
    agent_env_defaults(&e);
    assert_int_equal(agent_env_parse(&e, text, complain, &c), 1);
    assert_string_equal(c.why, "too long");
    assert_string_equal(e.out, "");
    text[4 + AGENT_PATH_BYTES - 1] = '\0'; // the longest that fits
    agent_env_parse(&e, text, complain, &c);
    assert_int_equal(strlen(e.out), AGENT_PATH_BYTES - 1);
    free(text);
}

// Random bytes, biased towards what the grammar uses, under the sanitizers: nothing is read or
// written out of bounds, and numbers stay in range.
static void survives_any_text(void **state)
{
    static const char *const bits[] = {"cpu=", "out=", "=",       ",",         "\\",   "\\,",
                                       "9",    "%p",   "socket=", "inherit=1", "\xff", "a"};
    (void)state;
    srand(1);
    for (int round = 0; round < 20000; round++) {
        char text[256] = "";
        for (int n = rand() % 20; n > 0; n--)
            strcat(text, bits[(size_t)rand() % (sizeof bits / sizeof *bits)]);
        struct agent_env e;
        struct complaints c = {0};
        char path[64];
        agent_env_defaults(&e);
        int wrong = agent_env_parse(&e, text, complain, &c);
        assert_int_equal(wrong, c.count);
        assert_true(e.cpu_hz <= AGENT_HZ_MAX && strlen(e.out) < sizeof e.out);
        int rc = agent_env_expand(path, sizeof path, e.out, 123456, "a/b");
        assert_true(rc == -ENAMETOOLONG || strlen(path) < sizeof path);
    }
}

static void expands_patterns(void **state)
{
    char path[32];
    (void)state;
    assert_int_equal(agent_env_expand(path, sizeof path, "/x/%e.%p.%%p%q%", 40, "a/b"), 0);
    assert_string_equal(path, "/x/a_b.40.%p%q%");
    assert_int_equal(agent_env_expand(path, 5, "12345", 1, ""), -ENAMETOOLONG);
    assert_int_equal(agent_env_expand(path, 5, "1234", 1, ""), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_every_key),
        cmocka_unit_test(reads_how_to_trace),
        cmocka_unit_test(reads_a_heap_rate_as_record_does),
        cmocka_unit_test(later_settings_win),
        cmocka_unit_test(escapes_commas_in_paths),
        cmocka_unit_test(reports_what_it_does_not_understand),
        cmocka_unit_test(refuses_what_does_not_fit),
        cmocka_unit_test(survives_any_text),
        cmocka_unit_test(expands_patterns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
