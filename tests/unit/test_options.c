// SPDX-License-Identifier: MIT
//
// The command line is read as Go's flag package reads it, hostile words included.

#include "cli/options.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

struct settings {
    const char *focus, *cpu, *sort;
    uint64_t hz;
    int64_t count, duration;
    double fraction;
    bool cum;
    struct cli_list dirs;
};

static const struct cli_option options[] = {
    CLI_STRING(struct settings, focus, "focus", 'f', "RE", NULL, "x"),
    CLI_OPTIONAL(struct settings, cpu, "cpu", 0, "HZ", NULL, "x"),
    CLI_CHOICE(struct settings, sort, "sort", 0, "W", NULL, "x", "flat cum"),
    CLI_UINT(struct settings, hz, "freq", 'F', "HZ", NULL, "x"),
    CLI_INT(struct settings, count, "nodecount", 'n', "N", NULL, "x"),
    CLI_DURATION(struct settings, duration, "duration", 'd', "T", NULL, "x"),
    CLI_REAL(struct settings, fraction, "nodefraction", 0, "X", NULL, "x"),
    CLI_FLAG(struct settings, cum, "cum", 0, NULL, "x"),
    CLI_LIST(struct settings, dirs, "debug-dir", 0, "DIR", NULL, "x"),
};
static const struct cli_command command = {
    .name = "test", .options = options, .option_count = CLI_COUNT(options)};

static struct settings s;
static struct fscope_error err;
static int operands;
static bool help;
static char *argv[32];

static int parse(const struct cli_command *cmd, const char *line)
{
    static char text[4096];
    int argc = 0;
    char *save = NULL;
    cli_settings_free(&command, &s);
    memset(&s, 0, sizeof s);
    memset(&err, 0, sizeof err);
    snprintf(text, sizeof text, "%s", line);
    for (char *w = strtok_r(text, " ", &save); w && argc < 31; w = strtok_r(NULL, " ", &save))
        argv[argc++] = w;
    argv[argc] = NULL;
    return cli_parse(cmd, argc, argv, &s, &operands, &help, &err);
}

static void one_dash_two_dashes_equals_or_space(void **state)
{
    (void)state;
    static const char *const lines[] = {"-focus=a.b", "--focus=a.b", "-focus a.b", "-f a.b",
                                        "--f=a.b"};
    for (size_t i = 0; i < CLI_COUNT(lines); i++) {
        assert_int_equal(parse(&command, lines[i]), 0);
        assert_string_equal(s.focus, "a.b");
    }
    assert_int_equal(parse(&command, "-F999 -n -3 -cum=false -nodefraction .5"), 0);
    assert_int_equal(s.hz, 999);
    assert_int_equal(s.count, -3);
    assert_false(s.cum);
    assert_true(s.fraction == 0.5);
}

static void operands_mix_with_options_until_two_dashes(void **state)
{
    (void)state;
    assert_int_equal(parse(&command, "a -cum b -- -c -"), 0);
    assert_int_equal(operands, 4);
    assert_string_equal(argv[0], "a");
    assert_string_equal(argv[1], "b");
    assert_string_equal(argv[2], "-c");
    assert_true(s.cum);
}

static void a_command_line_after_the_first_operand_is_left_alone(void **state)
{
    (void)state;
    struct cli_command c = command;
    c.flags = CLI_STOP_AT_OPERAND;
    assert_int_equal(parse(&c, "-cum ls -cum --focus"), 0);
    assert_int_equal(operands, 3);
    assert_string_equal(argv[1], "-cum");
}

static void optional_values_and_lists(void **state)
{
    (void)state;
    assert_int_equal(parse(&command, "--cpu --debug-dir a --debug-dir=b x"), 0);
    assert_string_equal(s.cpu, "");
    assert_int_equal(s.dirs.count, 2);
    assert_string_equal(s.dirs.items[1], "b");
    assert_int_equal(parse(&command, "--cpu=99"), 0);
    assert_string_equal(s.cpu, "99");
    cli_settings_free(&command, &s);
}

static void wrong_words_are_refused_with_the_nearest_right_one(void **state)
{
    (void)state;
    assert_int_equal(parse(&command, "-fcous=x"), -EINVAL);
    assert_non_null(strstr(err.text, "did you mean --focus"));
    static const char *const bad[] = {
        "-focus",  "-freq=-1", "-freq=1x",          "-freq=",
        "-n 0x10", "-sort=up", "-cum=maybe",        "-duration=1y",
        "---",     "-=",       "-nodefraction nan", "-freq 99999999999999999999"};
    for (size_t i = 0; i < CLI_COUNT(bad); i++)
        assert_int_equal(parse(&command, bad[i]), -EINVAL);
}

static void very_long_words_are_refused(void **state)
{
    (void)state;
    char word[3000];
    memset(word, 'f', sizeof word - 1);
    word[0] = '-';
    word[sizeof word - 1] = 0;
    assert_int_equal(parse(&command, word), -EINVAL);
    assert_null(cli_nearest(word, (const char *const[]){"focus"}, 1));
}

static void durations_and_sizes(void **state)
{
    (void)state;
    int64_t ns;
    uint64_t bytes;
    assert_int_equal(cli_parse_duration("1m30s", &ns), 0);
    assert_int_equal(ns, 90000000000);
    assert_int_equal(cli_parse_duration("500ms", &ns), 0);
    assert_int_equal(ns, 500000000);
    assert_int_equal(cli_parse_duration("2", &ns), 0);
    assert_int_equal(ns, 2000000000);
    assert_int_equal(cli_parse_duration("1e300h", &ns), -EINVAL);
    assert_int_equal(cli_parse_duration("", &ns), -EINVAL);
    assert_int_equal(cli_parse_size("4GiB", &bytes), 0);
    assert_int_equal(bytes, 4ull << 30);
    assert_int_equal(cli_parse_size("64k", &bytes), 0);
    assert_int_equal(bytes, 65536);
    assert_int_equal(cli_parse_size("1q", &bytes), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_dash_two_dashes_equals_or_space),
        cmocka_unit_test(operands_mix_with_options_until_two_dashes),
        cmocka_unit_test(a_command_line_after_the_first_operand_is_left_alone),
        cmocka_unit_test(optional_values_and_lists),
        cmocka_unit_test(wrong_words_are_refused_with_the_nearest_right_one),
        cmocka_unit_test(very_long_words_are_refused),
        cmocka_unit_test(durations_and_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
