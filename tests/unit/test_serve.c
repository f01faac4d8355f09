// SPDX-License-Identifier: MIT
//
// The parts of the HTTP server that read what a client or a user has written: each takes what Go takes, and refuses the
// rest with a word on what to do. What goes over the wire is tested in tests/conformance.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "collector/serve/internal.h"
#include "fake_session.h"

#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void parameters_are_found_as_in_go(void **state)
{
    (void)state;
    static const struct {
        const char *query, *want; // of "a"; NULL: none
    } rows[] = {
        {"", NULL},       {"a", ""},          {"a=", ""},        {"a=1", "1"},   {"b=1&a=2", "2"},
        {"a=1&a=2", "1"}, {"A=1", NULL},      {"%61=1", "1"},    {"a=%31", "1"}, {"a=1+2", "1 2"},
        {"a=%2b1", "+1"}, {"a=%zz&a=2", "2"}, {"a=1%&a=2", "2"}, {"a=%4", NULL}, {"a=1;b=2", NULL},
        {"&&a=1&&", "1"}, {"=1&a=2", "2"},    {"a==", "="},      {"aa=1", NULL}, {"%=1&a=3", "3"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        size_t size;
        char *have = query_get(rows[i].query, "a", &size);
        if (!rows[i].want)
            assert_null(have);
        else
            assert_string_equal(have, rows[i].want);
        assert_int_equal(size, rows[i].want ? strlen(rows[i].want) : 0);
        free(have);
    }
    size_t size;
    char *nul = query_get("a=1%002", "a", &size);
    assert_int_equal(size, 3);
    free(nul);
}

static void whole_numbers_are_read_as_in_go(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int rc;
        int64_t want;
    } rows[] = {
        {"0", 0, 0},
        {"12", 0, 12},
        {"+12", 0, 12},
        {"-12", 0, -12},
        {"007", 0, 7},
        {"", -EINVAL, 0},
        {"+", -EINVAL, 0},
        {"1 ", -EINVAL, 0},
        {" 1", -EINVAL, 0},
        {"0x1", -EINVAL, 0},
        {"1_0", -EINVAL, 0},
        {"99999999999999999999x", -EINVAL, 0},
        {"9223372036854775807", 0, INT64_MAX},
        {"9223372036854775808", -ERANGE, INT64_MAX},
        {"-9223372036854775808", 0, INT64_MIN},
        {"-9223372036854775809", -ERANGE, INT64_MIN},
        {"99999999999999999999999", -ERANGE, INT64_MAX},
        {"18446744073709551617", -ERANGE, INT64_MAX}, // wraps to 1
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t have = 42;
        assert_int_equal(query_parse_int(rows[i].text, strlen(rows[i].text), &have), rows[i].rc);
        assert_int_equal(have, rows[i].rc == -EINVAL ? 0 : rows[i].want);
    }
    int64_t have;
    assert_int_equal(query_parse_int("1\0", 2, &have), -EINVAL);
}

static void other_numbers_are_read_as_in_go(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int rc;
        double want;
    } rows[] = {
        {"1", 0, 1},        {".5", 0, .5},       {"5.", 0, 5},           {"1e-1", 0, .1},
        {"0x1p-1", 0, .5},  {"0x1", -EINVAL, 0}, {"", -EINVAL, 0},       {" 1", -EINVAL, 0},
        {"1 ", -EINVAL, 0}, {"x", -EINVAL, 0},   {"nan(1)", -EINVAL, 0}, {"1e999", -ERANGE, 0},
        {"-1", 0, -1},      {"+1", 0, 1},        {"1e-999", 0, 0},       {"inf", 0, INFINITY},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        double have;
        assert_int_equal(query_parse_float(rows[i].text, strlen(rows[i].text), &have), rows[i].rc);
        if (!rows[i].rc)
            assert_true(have == rows[i].want);
    }
}

static void addresses_are_read_as_in_go(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t want;
    } rows[] = {
        {"0x401000", 0x401000},
        {"0X1f", 0x1f},
        {"12", 12},
        {"012", 10},
        {"0o12", 10},
        {"0b101", 5},
        {"0x", 0},
        {"0", 0},
        {"", 0},
        {"x", 0},
        {"08", 0},
        {"-1", 0},
        {"+1", 0},
        {"1_000", 1000},
        {"0x_1f", 0x1f},
        {"0_7", 7},
        {"_1", 0},
        {"1_", 0},
        {"1__0", 0},
        {"0x1g", 0},
        {"18446744073709551615", UINT64_MAX},
        {"18446744073709551616", UINT64_MAX},
        {"0xfffffffffffffffff", UINT64_MAX},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(query_parse_address(rows[i].text, strlen(rows[i].text)), rows[i].want);
}

static void paths_are_made_clean_as_in_go(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"/", "/"},          {"", "/"},          {"/a", "/a"},           {"/a/", "/a/"},
        {"//a", "/a"},       {"/a//b", "/a/b"},  {"/a/./b", "/a/b"},     {"/a/../b", "/b"},
        {"/..", "/"},        {"/../../a", "/a"}, {"/a/..", "/"},         {"/a/b/..", "/a"},
        {"/a/b/../", "/a/"}, {"/a/.", "/a"},     {"/a/..b", "/a/..b"},   {"/...", "/..."},
        {"a", "/a"},         {"///", "/"},       {"/a/b/../../..", "/"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *have = query_clean_path(rows[i][0]);
        assert_string_equal(have, rows[i][1]);
        free(have);
    }
}

static void names_of_others_are_not_local(void **state)
{
    (void)state;
    static const char *const local[] = {"localhost", "localhost:6060",   "LocalHost:1",
                                        "127.0.0.1", "127.0.0.1:6060",   "[::1]:6060",
                                        "[::1]",     "app.localhost:80", "10.0.0.7:6060"};
    static const char *const foreign[] = {"example.com",
                                          "example.com:6060",
                                          "localhost.example.com",
                                          "notlocalhost",
                                          "127.0.0.1.example.com",
                                          "[::1",
                                          "",
                                          "[example.com]:80",
                                          "127.0.0.1x"};
    for (size_t i = 0; i < sizeof local / sizeof *local; i++)
        assert_true(guard_host_is_local(local[i]));
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++)
        assert_false(guard_host_is_local(foreign[i]));
}

static bool is_in(const char *address, const char *network)
{
    struct serve_network n;
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    struct in6_addr ip;
    assert_int_equal(address_parse_network(&n, network, NULL), 0);
    if (inet_pton(AF_INET, address, &v4.sin_addr) == 1)
        assert_true(address_of((struct sockaddr *)&v4, &ip));
    else if (inet_pton(AF_INET6, address, &v6.sin6_addr) == 1)
        assert_true(address_of((struct sockaddr *)&v6, &ip));
    else
        fail_msg("%s", address);
    return address_in(&ip, &n);
}

static void networks_hold_their_addresses(void **state)
{
    (void)state;
    assert_true(is_in("10.1.2.3", "10.0.0.0/8"));
    assert_false(is_in("11.1.2.3", "10.0.0.0/8"));
    assert_true(is_in("192.0.2.7", "192.0.2.7"));
    assert_false(is_in("192.0.2.6", "192.0.2.7"));
    assert_true(is_in("192.0.2.127", "192.0.2.0/25"));
    assert_false(is_in("192.0.2.128", "192.0.2.0/25"));
    assert_true(is_in("8.8.8.8", "0.0.0.0/0"));
    assert_false(is_in("fd00::1", "0.0.0.0/0"));
    assert_true(is_in("fd00::1", "fd00::/8"));
    assert_true(is_in("::ffff:10.0.0.1", "10.0.0.0/8")); // as a socket for both shows IPv4
    assert_true(is_in("8.8.8.8", "::/0"));
    static const char *const bad[] = {"",           "10.0.0",      "10.0.0.0/33",
                                      "10.0.0.0/",  "10.0.0.0/-1", "10.0.0.0/8x",
                                      "fd00::/129", "example.com", "localhost"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct serve_network n;
        assert_int_equal(address_parse_network(&n, bad[i], NULL), -EINVAL);
    }
}

static struct fscope_error refused(const char *listen, const char *token, int rc)
{
    struct fake_session *controls;
    struct fscope_error err = {0};
    struct serve *s;
    const struct serve_options o = {
        .size = sizeof o, .session = fake_session(&controls), .listen = listen, .token = token};
    assert_int_equal(serve_start(&s, &o, &err), rc);
    assert_null(s);
    return err;
}

static void addresses_that_others_reach_need_a_token(void **state)
{
    (void)state;
    static const char *const open[] = {"0.0.0.0:0", "[::]:0", "192.0.2.1:0", "128.0.0.1:0"};
    for (size_t i = 0; i < sizeof open / sizeof *open; i++)
        assert_non_null(strstr(refused(open[i], NULL, -EACCES).text, "token"));
    assert_non_null(strstr(refused("0.0.0.0:0", "short", -EINVAL).text, "16 to 256"));
    assert_non_null(strstr(refused("0.0.0.0:0", "has a space in it", -EINVAL).text, "space"));
}

static void typos_are_explained(void **state)
{
    (void)state;
    assert_non_null(strstr(refused(":6060", NULL, -EINVAL).text, "127.0.0.1:6060"));
    assert_non_null(strstr(refused("6060", NULL, -EINVAL).text, "127.0.0.1:6060"));
    assert_non_null(strstr(refused("unix:@x", NULL, -EINVAL).text, "abstract"));
    static const char *const bad[] = {
        "",      "localhost",    "127.0.0.1",       "127.0.0.1:",     "::1:6060",
        "[::1]", "[::1]:x",      "127.0.0.1:65536", "example:80",     "127.0.0.1:80:80",
        "unix:", "127.0.0.1:-1", "[::1:80",         "http://[::1]:80"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refused(bad[i], NULL, -EINVAL);
}

static void a_port_or_socket_in_use_is_refused(void **state)
{
    (void)state;
    struct fake_session *controls;
    struct fscope_error err = {0};
    struct serve *s, *again;
    char path[] = "unix:serve-test.sock";
    struct serve_options o = {
        .size = sizeof o, .session = fake_session(&controls), .listen = "127.0.0.1:0"};
    assert_int_equal(serve_start(&s, &o, &err), 0);
    assert_int_not_equal(strcmp(serve_address(s), "127.0.0.1:0"), 0);
    o.listen = serve_address(s);
    assert_int_equal(serve_start(&again, &o, &err), -EADDRINUSE);
    serve_stop(s);
    o.listen = path;
    unlink(path + 5);
    assert_int_equal(serve_start(&s, &o, &err), 0);
    struct stat st;
    assert_int_equal(stat(path + 5, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(serve_start(&again, &o, &err), -EADDRINUSE);
    assert_int_equal(stat(path + 5, &st), 0); // it is not ours to remove
    serve_stop(s);
    assert_int_equal(stat(path + 5, &st), -1);
}

static void a_socket_left_behind_is_replaced(void **state)
{
    (void)state;
    struct fake_session *controls;
    struct fscope_error err = {0};
    struct serve_listener left;
    struct serve *s;
    const struct serve_options o = {
        .size = sizeof o, .session = fake_session(&controls), .listen = "unix:serve-left.sock"};
    unlink("serve-left.sock");
    assert_int_equal(address_listen(&left, o.listen, false, &err), 0);
    close(left.fd); // as of one that was killed
    assert_int_equal(serve_start(&s, &o, &err), 0);
    serve_stop(s);
    // A file that is no socket stays.
    FILE *f = fopen("serve-left.sock", "w");
    assert_non_null(f);
    fclose(f);
    assert_int_equal(serve_start(&s, &o, &err), -EADDRINUSE);
    assert_int_equal(unlink("serve-left.sock"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parameters_are_found_as_in_go),
        cmocka_unit_test(whole_numbers_are_read_as_in_go),
        cmocka_unit_test(other_numbers_are_read_as_in_go),
        cmocka_unit_test(addresses_are_read_as_in_go),
        cmocka_unit_test(paths_are_made_clean_as_in_go),
        cmocka_unit_test(names_of_others_are_not_local),
        cmocka_unit_test(networks_hold_their_addresses),
        cmocka_unit_test(addresses_that_others_reach_need_a_token),
        cmocka_unit_test(typos_are_explained),
        cmocka_unit_test(a_port_or_socket_in_use_is_refused),
        cmocka_unit_test(a_socket_left_behind_is_replaced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
