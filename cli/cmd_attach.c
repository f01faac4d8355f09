// SPDX-License-Identifier: MIT
//
// fiberscope attach, fiberscope detach: the agent into a running process, and out of service again.

#include "cli/commands.h"

#include "collector/inject.h"

#include <stdint.h>

struct settings {
    uint64_t pid;
    bool seccomp, quiet;
};

static const struct settings defaults = {0};

static const struct cli_option attach_options[] = {
    CLI_UINT(struct settings, pid, "pid", 'p', "PID", NULL, "the process"),
    CLI_FLAG(
        struct settings, seccomp, "seccomp", 0, NULL,
        "although a seccomp filter is in force: it is known to allow what loading a library does"),
    CLI_FLAG(struct settings, quiet, "quiet", 'q', NULL, "say nothing where it is done"),
};

static const struct cli_option detach_options[] = {
    CLI_UINT(struct settings, pid, "pid", 'p', "PID", NULL, "the process"),
    CLI_FLAG(struct settings, quiet, "quiet", 'q', NULL, "say nothing where it is done"),
};

static int run(const struct settings *s, int argc, bool is_attach)
{
    struct inject_result result;
    struct fscope_error err = {0};
    if (argc || !s->pid || s->pid > INT32_MAX)
        return cli_usage("a process id is needed, and nothing else: -p PID");
    const struct inject_options o = {
        .size = sizeof o, .pid = (uint32_t)s->pid, .with_seccomp = s->seccomp};
    int rc = is_attach ? inject_attach(&o, &result, &err) : inject_detach(&o, &result, &err);
    if (rc)
        return cli_fail("%s", err.text);
    if (s->quiet)
        return CLI_OK;
    if (!result.tid)
        cli_note("process %u: the agent is in already", o.pid);
    else
        cli_note("process %u: the agent is %s; thread %u was borrowed for %.1f ms", o.pid,
                 !is_attach          ? "out of service"
                 : result.was_inside ? "in service again"
                                     : "in",
                 result.tid, (double)result.stopped_ns * 1e-6);
    return CLI_OK;
}

static int run_attach(void *settings, int argc, char **argv)
{
    (void)argv;
    return run(settings, argc, true);
}

static int run_detach(void *settings, int argc, char **argv)
{
    (void)argv;
    return run(settings, argc, false);
}

const struct cli_command cmd_attach = {
    .name = "attach",
    .summary = "put the agent into a running process",
    .operands = "-p PID",
    .details =
        "Loads libfiberscope.so into a process that was started without it. It records nothing "
        "until\n"
        "it is asked: by `fiberscope record -p`, `serve -p` or `top -p`, for all kinds. One of "
        "the\n"
        "process's threads is borrowed for some milliseconds; the others run. Whatever happens to\n"
        "fiberscope meanwhile, the process runs on. See fiberscope-attach(1).",
    .examples = "  fiberscope attach -p $(pidof server)\n"
                "  fiberscope record --heap -p $(pidof server) --duration 30s\n"
                "  fiberscope detach -p $(pidof server)\n",
    .options = attach_options,
    .option_count = CLI_COUNT(attach_options),
    .defaults = &defaults,
    .settings_size = sizeof defaults,
    .run = run_attach,
};

const struct cli_command cmd_detach = {
    .name = "detach",
    .summary = "take the agent out of service that `attach` put in",
    .operands = "-p PID",
    .details =
        "Stops all that the agent does, and gives the process its function slots and its SIGPROF\n"
        "back. The library stays mapped, idle.",
    .examples = "  fiberscope detach -p $(pidof server)\n",
    .options = detach_options,
    .option_count = CLI_COUNT(detach_options),
    .defaults = &defaults,
    .settings_size = sizeof defaults,
    .run = run_detach,
};
