// SPDX-License-Identifier: MIT
//
// fiberscope stack: prints every fiber and thread of a running process or a core file.

#include "cli/commands.h"
#include "cli/target_arg.h"
#include "collector/stack_report.h"

struct settings {
    bool threads, no_symbols;
    const char *pid;
};

static const struct settings defaults = {0};

static const struct cli_option options[] = {
    CLI_STRING(struct settings, pid, "pid", 'p', "PID", NULL, "the same as PID alone"),
    CLI_FLAG(struct settings, threads, "threads", 't', NULL,
             "its threads, too (the only ones of a program without fibers)"),
    CLI_FLAG(struct settings, no_symbols, "no-symbols", 0, NULL, "addresses instead of names"),
};

static int run(void *settings, int argc, char **argv)
{
    const struct settings *s = settings;
    struct stack_options o = {.threads = s->threads, .symbolize = !s->no_symbols};
    struct fscope_error err = {0};
    struct target *t = NULL;
    size_t count = 0;
    const char *operand = target_arg_one(s->pid, argc, argv);
    if (!operand)
        return cli_usage("one process id or core file is needed");
    int rc = target_arg_open(&t, operand, &err);
    if (!rc)
        rc = stack_report(t, &o, stdout, &count, &err);
    if (t) {
        target_arg_note_end(t, operand);
        target_arg_note_missing(t, operand);
    }
    target_close(t);
    if (rc)
        return cli_fail("%s", err.text);
    if (!count)
        cli_note("%s has no fibers (its threads: --threads)", operand);
    return CLI_OK;
}

const struct cli_command cmd_stack = {
    .name = "stack",
    .summary = "print all fibers and threads of a running process or core file",
    .operands = "PID | CORE",
    .details =
        "Prints each fiber with what it waits for, its stack and who created it, as Go prints\n"
        "goroutines; and with --threads, or where there are no fibers, each thread with the "
        "system\n"
        "call that it waits in. Fibers are read without stopping anything: of one that runs at "
        "that\n"
        "moment there is only the start function, and its thread's stack. Threads are stopped one\n"
        "at a time, for some microseconds, and only where their stack cannot be had otherwise.",
    .examples = "  fiberscope stack $(pidof shorten)\n"
                "  fiberscope stack --threads $(pidof shorten)\n"
                "  kill -ABRT $(pidof shorten); fiberscope stack core\n",
    .options = options,
    .option_count = CLI_COUNT(options),
    .defaults = &defaults,
    .settings_size = sizeof defaults,
    .run = run,
};
