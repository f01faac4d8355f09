// SPDX-License-Identifier: MIT
//
// The server's own pages: what is hostile comes out as text, what is many is bounded, and numbers are those of the
// session. With a real program: tests/e2e/pages.py.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "collector/cgroup_memory.h"
#include "collector/serve/table.h"
#include "fake_session.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char *escaped(void (*put)(FILE *out, const char *text), const char *text)
{
    char *have = NULL;
    size_t size;
    FILE *out = open_memstream(&have, &size);
    assert_non_null(out);
    put(out, text);
    fclose(out);
    return have;
}

static void put_as_label(FILE *out, const char *text)
{
    put_label(out, "a", text);
}

static void text_means_itself(void **state)
{
    (void)state;
#define BAD "\xef\xbf\xbd"
    static const struct {
        void (*put)(FILE *out, const char *text);
        const char *text, *want;
    } rows[] = {
        {put_html, "<a href='x'>\"&\"", "&lt;a href=&#39;x&#39;&gt;&#34;&amp;&#34;"},
        {put_html, "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"},
        {put_html, "\xff\xc3<\xe2\x82", BAD BAD "&lt;" BAD BAD},
        {put_html, "\xc0\xaf\xed\xa0\x80\xf4\x90\x80\x80", BAD BAD BAD BAD BAD BAD BAD BAD BAD},
        {put_html, "\x1b[31m\x7f\xc2\x85\xe2\x80\xae", BAD "[31m" BAD BAD BAD},
        {put_json, "a\"\\\n\t</script>\x01", "\"a\\\"\\\\\\n\\t\\u003c/script>" BAD "\""},
        {put_as_label, "a\"b\\c\nd\xff", "a=\"a\\\"b\\\\c\\nd" BAD "\""},
        {put_plain, "a\nb\xff<", "a" BAD "b" BAD "<"},
        {put_query, "a b&c=d+e%\xfe<", "a%20b%26c%3Dd%2Be%25%FE%3C"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *have = escaped(rows[i].put, rows[i].text);
        assert_string_equal(have, rows[i].want);
        free(have);
    }
}

static void durations_and_counts_are_short(void **state)
{
    (void)state;
    static const struct {
        uint64_t n;
        const char *duration, *count;
    } rows[] = {{0, "0 ns", "0"},
                {999, "999 ns", "999"},
                {1234, "1.23 \xc2\xb5s", "1,234"},
                {45678901, "45.7 ms", "45,678,901"},
                {61000000000, "1.02 m", "61,000,000,000"},
                {UINT64_MAX, "5124096 h", "18,446,744,073,709,551,615"}};
    char text[32];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_string_equal(duration_text(text, sizeof text, rows[i].n), rows[i].duration);
        assert_string_equal(count_text(text, sizeof text, rows[i].n), rows[i].count);
    }
}

static void quantiles_lie_within_their_power(void **state)
{
    uint64_t powers[SESSION_BUCKETS] = {0};
    (void)state;
    assert_int_equal(powers_quantile_ns(powers, 0.5), 0);
    powers[4] = 90;
    powers[10] = 10;
    assert_int_equal(powers_quantile_ns(powers, 0.45), 24);
    assert_int_equal(powers_quantile_ns(powers, 0.9), 32);
    assert_int_equal(powers_quantile_ns(powers, 0.95), 1536);
    assert_int_equal(powers_quantile_ns(powers, 1), 2048);
}

// --- The table, over fibers that are made up.

static struct serve serve = {.names_lock = PTHREAD_MUTEX_INITIALIZER};

static void ask(struct request *r, const char *query)
{
    *r = (struct request){.serve = &serve,
                          .query = query,
                          .path = (char *)(uintptr_t) "/debug/fibers",
                          .method = "GET",
                          .reply = {.fd = -1}};
}

static void the_first_rows_of_many_are_kept(void **state)
{
    struct fake_session *controls;
    struct request r;
    struct table t;
    (void)state;
    serve.session = fake_session(&controls);
    controls->fibers = 30000;
    ask(&r, "sort=switches&rows=7");
    assert_int_equal(table_collect(&t, &r), 0);
    assert_int_equal(t.total, 30000);
    assert_int_equal(t.count, 7);
    assert_true(t.capacity <= 14);
    for (size_t i = 0; i < t.count; i++) // 30 of each number below 1000; equal ones by id
        assert_int_equal(t.rows[i].switches, 999);
    assert_true(t.rows[0].id < t.rows[1].id);
    table_free(&t);
    ask(&r, "sort=id&order=desc&rows=3");
    assert_int_equal(table_collect(&t, &r), 0);
    assert_int_equal(t.rows[0].id, 30000);
    assert_int_equal(t.rows[2].id, 29998);
    table_free(&t);
    ask(&r, "group=site");
    assert_int_equal(table_collect(&t, &r), 0);
    assert_int_equal(t.group_count, 3);
    assert_int_equal(t.groups[0].count + t.groups[1].count + t.groups[2].count, 30000);
    table_free(&t);
}

static void without_fibers_there_are_threads(void **state)
{
    struct fake_session *controls;
    struct request r;
    struct table t;
    (void)state;
    serve.session = fake_session(&controls);
    controls->fibers = 0;
    ask(&r, "sort=%3C&order=&rows=99999999999999999999");
    assert_int_equal(table_collect(&t, &r), 0);
    assert_true(t.is_threads);
    assert_int_equal(t.total, 1);
    assert_int_equal(t.shown_max, 5000);
    table_free(&t);
}

static void metrics_bound_and_escape(void **state)
{
    struct fake_session *controls;
    struct request r;
    (void)state;
    serve.session = fake_session(&controls);
    controls->fibers = 100;
    ask(&r, "");
    page_metrics(&r);
    assert_int_equal(r.reply.status, 200);
    assert_non_null(
        strstr(r.reply.text, "_bucket{region=\"a\\\"b\\\\c\\nd" BAD "\",le=\"4.096e-06\"} 0\n"));
    assert_non_null(strstr(r.reply.text, "\",le=\"1.6384e-05\"} 2\n"));
    assert_non_null(strstr(r.reply.text, "\",le=\"+Inf\"} 3\n"));
    assert_non_null(strstr(r.reply.text, "fiberscope_sched_latencies_seconds_count 16\n"));
    assert_non_null(strstr(r.reply.text, "fiberscope_fibers{state=\"chan <i>\"} 50\n"));
    reply_clear(&r.reply);
    free(serve.names);
    serve.names = NULL;
}

// --- Control groups, in a folder that looks like the kernel's.

static void make(const char *root, const char *path, const char *text)
{
    char full[512];
    snprintf(full, sizeof full, "%s/%s", root, path);
    for (char *slash = full + strlen(root) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        mkdir(full, 0700);
        *slash = '/';
    }
    FILE *f = fopen(full, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void the_nearest_limit_counts(void **state)
{
    char root[] = "/tmp/cgroup-XXXXXX", command[64];
    struct cgroup_memory m;
    (void)state;
    assert_non_null(mkdtemp(root));
    make(root, "a/memory.max", "1000\n");
    make(root, "a/memory.current", "900\n");
    make(root, "a/b/memory.max", "500\n");
    make(root, "a/b/memory.current", "300\n");
    make(root, "a/b/c/memory.max", "max\n");
    make(root, "a/b/c/memory.current", "250\n");
    make(root, "memory/x/memory.limit_in_bytes", "9223372036854771712\n");
    make(root, "memory/x/memory.usage_in_bytes", "7\n");
    make(root, "memory/memory.limit_in_bytes", "5\n");
    make(root, "memory/memory.usage_in_bytes", "9\n");
    cgroup_memory_read(&m, "0::/a/b/c\n", root);
    assert_true(m.has_current && m.has_limit);
    assert_int_equal(m.current, 250);
    assert_int_equal(m.limit, 1000);
    assert_int_equal(m.headroom, 100);
    cgroup_memory_read(&m, "0::/a\n5:cpu,memory:/x\n3:name=systemd:/a\n", root);
    assert_int_equal(m.current, 7);
    assert_int_equal(m.limit, 5);
    assert_int_equal(m.headroom, 0);
    static const char *const none[] = {"",    "x", "0::", "0::/nowhere", ":::", "5:memoryx:/x\n",
                                       "\n\n"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        cgroup_memory_read(&m, none[i], root);
        assert_false(m.has_limit);
    }
    cgroup_memory_read(&m, "0::/../../a/b\n", root); // outside: the root is all that can be seen
    assert_false(m.has_current);
    snprintf(command, sizeof command, "rm -r %s", root);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_means_itself),
        cmocka_unit_test(durations_and_counts_are_short),
        cmocka_unit_test(quantiles_lie_within_their_power),
        cmocka_unit_test(the_first_rows_of_many_are_kept),
        cmocka_unit_test(without_fibers_there_are_threads),
        cmocka_unit_test(metrics_bound_and_escape),
        cmocka_unit_test(the_nearest_limit_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
