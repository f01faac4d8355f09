// SPDX-License-Identifier: MIT
//
// fiberscope stack: prints every fiber of a running process or a core file.

#include "cli/commands.h"
#include "collector/stack_report.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct settings {
    bool threads, no_symbols;
};

static const struct settings defaults = {0};

static const struct cli_option options[] = {
    CLI_FLAG(struct settings, threads, "threads", 't', NULL,
             "of a core file: its threads, too (the only ones of a program without fibers)"),
    CLI_FLAG(struct settings, no_symbols, "no-symbols", 0, NULL, "addresses instead of names"),
};

// A number is a process, unless there is a file with that name.
static bool is_pid(const char *text, uint32_t *pid)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || n == 0 || n > INT32_MAX || !access(text, F_OK))
        return false;
    *pid = (uint32_t)n;
    return true;
}

static int run(void *settings, int argc, char **argv)
{
    const struct settings *s = settings;
    struct stack_options o = {.threads = s->threads, .symbolize = !s->no_symbols};
    struct fscope_error err = {0};
    struct target *t = NULL;
    uint32_t pid;
    size_t count = 0;
    if (argc != 1)
        return cli_usage("one process id or core file is needed");
    int rc = is_pid(argv[0], &pid) ? target_open_pid(&t, pid, &err)
                                   : target_open_core(&t, argv[0], &err);
    if (!rc)
        rc = stack_report(t, &o, stdout, &count, &err);
    target_close(t);
    if (rc)
        return cli_fail("%s", err.text);
    if (!count)
        cli_note("%s has no fibers", argv[0]);
    return CLI_OK;
}

const struct cli_command cmd_stack = {
    .name = "stack",
    .summary = "print all fibers of a running process or core file",
    .operands = "PID | CORE",
    .details =
        "Prints each fiber with what it waits for, its stack and who created it, as Go prints\n"
        "goroutines. A running process is read without stopping it: of a fiber that runs at that\n"
        "moment there is only the start function. In a core file all have stacks.",
    .examples = "  fiberscope stack $(pidof shorten)\n"
                "  gcore -o core $(pidof shorten) && fiberscope stack core.*\n",
    .options = options,
    .option_count = CLI_COUNT(options),
    .defaults = &defaults,
    .settings_size = sizeof defaults,
    .run = run,
};
