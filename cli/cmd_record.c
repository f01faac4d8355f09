// SPDX-License-Identifier: MIT
//
// fiberscope record: runs a command, or watches a process, and writes what it did.
//
// Naming a kind (--cpu, --wall) replaces the default, so `--wall` alone is wall time alone. The exit
// status is the command's.

#include "cli/commands.h"

#include "collector/record.h"

#include <signal.h>
#include <string.h>
#include <stdlib.h>

enum { HZ_DEFAULT = 99, HZ_MAX = 10000, STACK_BYTES_MAX = 65528 };

struct settings {
    uint64_t hz, pid, stack_bytes;
    const char *cpu, *wall; // "" when given without a rate
    const char *output;
    int64_t duration_ns;
    bool no_inherit, no_symbols, quiet;
};

static const struct settings defaults = {.hz = HZ_DEFAULT};

static const struct cli_option options[] = {
    CLI_STRING(struct settings, output, "output", 'o', "FILE", NULL,
               "write to FILE; %e is the program, %p the pid, %k the kind; a folder gets "
               "%e.%p.%k.pb.gz, the default name; %p makes a file per process"),
    CLI_UINT(struct settings, hz, "freq", 'F', "HZ", NULL,
             "samples per second of CPU (or wall) time; 99 by default"),
    CLI_DURATION(struct settings, duration_ns, "duration", 'd', "TIME", NULL,
                 "record for TIME (30s, 500ms, 2m); the command goes on"),
    CLI_UINT(struct settings, pid, "pid", 'p', "PID", NULL,
             "watch a running process from outside, without touching it"),
    CLI_OPTIONAL(struct settings, cpu, "cpu", 0, "HZ", "What to record",
                 "time on a CPU, the default"),
    CLI_OPTIONAL(struct settings, wall, "wall", 0, "HZ", "What to record",
                 "all threads by the clock on the wall, also those that wait"),
    CLI_FLAG(struct settings, no_inherit, "no-inherit", 0, "What to record",
             "the first process alone, not its children"),
    CLI_FLAG(struct settings, no_symbols, "no-symbols", 0, "Output",
             "write addresses; `fiberscope symbolize` names them later"),
    CLI_FLAG(struct settings, quiet, "quiet", 'q', "Output", "no progress, no closing lines"),
    CLI_SIZE(struct settings, stack_bytes, "stack-size", 0, "BYTES", "With --pid",
             "copy so much of the stack with each sample; by default as much as is needed"),
};

// "" means the common rate. 0 or CLI_USAGE, after saying why.
static int read_rate(const char *option, const char *text, uint32_t *hz)
{
    char *end = NULL;
    if (!text || !*text)
        return 0;
    unsigned long n = strtoul(text, &end, 10);
    if (end == text || *end || *text == '-' || n < 1 || n > HZ_MAX)
        return cli_usage("--%s=%.40s: a rate from 1 to %d Hz is needed", option, text, HZ_MAX);
    *hz = (uint32_t)n;
    return 0;
}

static int read_settings(const struct settings *s, int argc, char **argv, struct record_options *o)
{
    record_options_init(o);
    if (s->hz < 1 || s->hz > HZ_MAX)
        return cli_usage("-F %llu: a rate from 1 to %d Hz is needed", (unsigned long long)s->hz,
                         HZ_MAX);
    if (s->pid > INT32_MAX)
        return cli_usage("-p %llu: there is no such process id", (unsigned long long)s->pid);
    if (s->pid && argc)
        return cli_usage("either -p %llu or a command (%.60s), not both",
                         (unsigned long long)s->pid, argv[0]);
    if (!s->pid && !argc)
        return cli_usage("what to record is missing: a command with its arguments, or -p PID");
    if (s->stack_bytes > STACK_BYTES_MAX)
        return cli_usage("--stack-size: at most %d bytes can be copied", STACK_BYTES_MAX);
    if (s->output && !*s->output)
        return cli_usage("-o: an empty name");
    o->cpu_hz = s->cpu || !s->wall ? (uint32_t)s->hz : 0;
    o->wall_hz = s->wall ? (uint32_t)s->hz : 0;
    int rc = read_rate("cpu", s->cpu, &o->cpu_hz);
    if (!rc)
        rc = read_rate("wall", s->wall, &o->wall_hz);
    o->duration_ns = (uint64_t)s->duration_ns;
    o->output = s->output;
    o->inherit = !s->no_inherit;
    o->symbolize = !s->no_symbols;
    o->quiet = s->quiet;
    o->stack_bytes = (uint32_t)s->stack_bytes;
    o->pid = (uint32_t)s->pid;
    o->command = argv;
    return rc;
}

static int run(void *p, int argc, char **argv)
{
    struct record_options o;
    struct record_result result = {0};
    struct fscope_error err = {0};
    int status = read_settings(p, argc, argv, &o);
    if (status)
        return status;
    if (record_check_output(&o, &err))
        return cli_fail("%s", err.text);
    int rc = o.pid ? record_process(&o, &result, &err) : record_command(&o, &result, &err);
    status = result.exit_status;
    if (rc) {
        cli_fail("%s", err.text);
        status = status ? status : CLI_FAILURE;
    } else if (record_write(&o, &result, &err)) {
        cli_fail("%s", err.text);
        record_wait(&o, &result);
        status = CLI_FAILURE;
    } else {
        record_wait(&o, &result);
        status = result.exit_status;
    }
    // One's own Ctrl-C is no news.
    if (result.killed_by && result.killed_by != SIGINT && !o.quiet)
        cli_note("the command was killed by signal %d (%s); the profile holds what came before",
                 result.killed_by, strsignal(result.killed_by));
    record_result_free(&result);
    return status;
}

const struct cli_command cmd_record = {
    .name = "record",
    .summary = "record a profile of a command or of a running process",
    .operands = "COMMAND [ARGUMENT...] | -p PID",
    .details =
        "Runs COMMAND and writes a pprof profile of it and of the processes that it starts when\n"
        "it ends. The exit status is the command's. Ctrl-C ends the recording, not the data.",
    .examples = "  fiberscope record make -j2\n"
                "  fiberscope record -F 999 -o p.pb.gz xz -9 FILE\n"
                "  fiberscope record -p $(pidof postgres) --duration 30s",
    .flags = CLI_STOP_AT_OPERAND,
    .options = options,
    .option_count = CLI_COUNT(options),
    .defaults = &defaults,
    .settings_size = sizeof defaults,
    .run = run,
};
