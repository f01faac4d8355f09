// SPDX-License-Identifier: MIT
//
// fiberscope: finds the verb, parses its options by its table, runs it.
//
// Exit statuses: 0, 1 something failed, 2 wrong usage; `record` gives its command's own.

#include "base/shell_word.h"
#include "base/utf8.h"
#include "cli/commands.h"

#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char *running_verb; // for messages

static const struct cli_command *const commands[] = {
#define CLI_ADDRESS(name) &cmd_##name,
    CLI_COMMANDS(CLI_ADDRESS)
#undef CLI_ADDRESS
};

const struct cli_command *const *cli_commands(size_t *count)
{
    *count = CLI_COUNT(commands);
    return commands;
}

const struct cli_command *cli_command_find(const char *name)
{
    for (size_t i = 0; i < CLI_COUNT(commands); i++) {
        if (!strcmp(commands[i]->name, name))
            return commands[i];
    }
    return NULL;
}

// A message may have names of a file in it.
static FSCOPE_PRINTF(1, 0) char *text_of(const char *fmt, va_list ap)
{
    char *text = NULL;
    if (vasprintf(&text, fmt, ap) < 0)
        return NULL;
    utf8_mask_controls(text, "\t\n");
    return text;
}

static FSCOPE_PRINTF(1, 0) void say(const char *fmt, va_list ap)
{
    fflush(stdout); // keeps the order when both go to one place
    char *text = text_of(fmt, ap);
    fprintf(stderr, "fiberscope%s%s: %s\n", running_verb ? " " : "",
            running_verb ? running_verb : "", text ? text : "out of memory");
    free(text);
}

int cli_fail(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say(fmt, ap);
    va_end(ap);
    return CLI_FAILURE;
}

int cli_usage(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say(fmt, ap);
    va_end(ap);
    fprintf(stderr, "Try `fiberscope %s%s--help`.\n", running_verb ? running_verb : "",
            running_verb ? " " : "");
    return CLI_USAGE;
}

void cli_note(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say(fmt, ap);
    va_end(ap);
}

const char *cli_free_name(char *buf, size_t size, const char *stem, const char *suffix)
{
    struct stat st;
    snprintf(buf, size, "%s%s", stem, suffix);
    for (int i = 2; !lstat(buf, &st); i++)
        snprintf(buf, size, "%s-%d%s", stem, i, suffix);
    return buf;
}

void cli_print_word(FILE *out, const char *text)
{
    shell_word_print(out, text);
}

// The message with the path in place of the word FILE in `commands`.
static void print_filled(const char *text, const char *path)
{
    bool in_command = false;
    for (const char *p = text; *p; p++) {
        in_command ^= *p == '`';
        bool is_word = in_command && p > text && !strncmp(p, "FILE", 4) &&
                       (p[-1] == ' ' || p[-1] == '<') && strchr(" `", p[4]);
        if (is_word) {
            cli_print_word(stderr, path);
            p += 3;
        } else {
            fputc(*p, stderr);
        }
    }
    fputc('\n', stderr);
}

static FSCOPE_PRINTF(2, 0) void say_at(const char *path, const char *fmt, va_list ap)
{
    fflush(stdout);
    char *text = text_of(fmt, ap);
    fprintf(stderr, "fiberscope%s%s: %s: ", running_verb ? " " : "",
            running_verb ? running_verb : "", path);
    print_filled(text ? text : "out of memory", path);
    free(text);
}

int cli_fail_at(const char *path, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say_at(path, fmt, ap);
    va_end(ap);
    return CLI_FAILURE;
}

void cli_note_at(const char *path, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say_at(path, fmt, ap);
    va_end(ap);
}

static int run_command(const struct cli_command *cmd, int argc, char **argv)
{
    struct fscope_error err = {0};
    bool help;
    int operands = 0, status;
    void *settings = calloc(1, cmd->settings_size ? cmd->settings_size : 1);
    if (!settings)
        return cli_fail("out of memory");
    if (cmd->defaults)
        memcpy(settings, cmd->defaults, cmd->settings_size);
    running_verb = cmd->name;
    if (cli_parse(cmd, argc, argv, settings, &operands, &help, &err)) {
        status = cli_usage("%s", err.text);
    } else if (help) {
        cli_print_help(stdout, cmd);
        status = CLI_OK;
    } else {
        argv[operands] = NULL; // argv[argc] of main, or an option that was moved over
        status = cmd->run(settings, operands, argv);
    }
    cli_settings_free(cmd, settings);
    free(settings);
    return status;
}

int cli_unknown_command(const char *verb)
{
    const char *what = verb[0] == '-' ? "option before the command" : "command";
    const char *names[CLI_COUNT(commands) + 2];
    size_t n = 0;
    for (size_t i = 0; i < CLI_COUNT(commands); i++) {
        if (!(commands[i]->flags & CLI_HIDDEN))
            names[n++] = commands[i]->name;
    }
    if (verb[0] == '-') {
        names[n++] = "--help";
        names[n++] = "--version";
    }
    const char *near = cli_nearest(verb, names, n);
    if (near)
        return cli_usage("there is no %s \"%.60s\"; did you mean \"%s\"?", what, verb, near);
    return cli_usage("there is no %s \"%.60s\"", what, verb);
}

static void ignore_signal(int signo)
{
    (void)signo;
}

// Past the file size limit a write shall fail with EFBIG and be explained. A handler, not SIG_IGN:
// exec gives the command that we record its default back.
static void survive_file_size_limit(void)
{
    struct sigaction sa = {.sa_handler = ignore_signal, .sa_flags = SA_RESTART};
    sigaction(SIGXFSZ, &sa, NULL);
}

int main(int argc, char **argv)
{
    survive_file_size_limit();
    setlocale(LC_CTYPE, ""); // the width of characters; numbers stay as C writes them
    const char *verb = argc > 1 ? argv[1] : NULL;
    int status;
    if (!verb || !strcmp(verb, "--help") || !strcmp(verb, "-help") || !strcmp(verb, "-h")) {
        status = run_command(&cmd_help, 0, argv + argc);
        status = verb ? status : CLI_USAGE;
    } else if (!strcmp(verb, "--version") || !strcmp(verb, "-version") || !strcmp(verb, "-V")) {
        printf("fiberscope %s\n", FSCOPE_VERSION);
        status = CLI_OK;
    } else {
        const struct cli_command *cmd = cli_command_find(verb);
        status = cmd ? run_command(cmd, argc - 2, argv + 2) : cli_unknown_command(verb);
    }
    // A full disk or a closed pipe shows only here; output that is not whole is a failure.
    if (fflush(stdout) || ferror(stdout)) {
        if (errno != EPIPE)
            cli_fail("standard output: %s", strerror(errno));
        status = status ? status : CLI_FAILURE;
    }
    return status;
}
