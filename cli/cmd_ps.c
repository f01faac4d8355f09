// SPDX-License-Identifier: MIT
//
// fiberscope ps: the processes that have an agent or the fiber runtime in them.

#include "cli/commands.h"
#include "cli/json.h"
#include "collector/processes.h"

#include <string.h>

struct settings {
    bool json;
};

static const struct settings defaults = {0};

static const struct cli_option options[] = {
    CLI_FLAG(struct settings, json, "json", 0, NULL, "as JSON"),
};

static const char *state(const struct process *p)
{
    switch (p->agent) {
    case PROCESS_AGENT_IDLE: return "idle";
    case PROCESS_AGENT_RECORDING: return "recording";
    case PROCESS_AGENT_DEAF: return "out of service";
    default: return "none";
    }
}

static void print_text(const struct processes *all)
{
    if (!all->count)
        return;
    printf("%8s  %-16s  %7s  %-7s  %-14s  %-24s  %s\n", "pid", "program", "threads", "runtime",
           "agent", "records", "endpoint");
    for (size_t i = 0; i < all->count; i++) {
        const struct process *p = &all->list[i];
        printf("%8u  %-16s  %7u  %-7s  %-14s  %-24s  %s", p->pid, p->program, p->threads,
               p->has_runtime ? "fibers" : "-", state(p), p->records[0] ? p->records : "-",
               p->endpoint[0] ? p->endpoint : "-");
        if (p->collector)
            printf("  (read by %u)", p->collector);
        putchar('\n');
    }
}

static void print_json(const struct processes *all)
{
    struct json j = {.out = stdout};
    json_open(&j, NULL, '[');
    for (size_t i = 0; i < all->count; i++) {
        const struct process *p = &all->list[i];
        json_open(&j, NULL, '{');
        json_int(&j, "pid", p->pid);
        json_string(&j, "program", p->program);
        json_int(&j, "uid", p->uid);
        json_int(&j, "threads", p->threads);
        json_bool(&j, "runtime", p->has_runtime);
        json_string(&j, "agent", state(p));
        json_string(&j, "records", p->records);
        json_string(&j, "endpoint", p->endpoint);
        json_int(&j, "collector", p->collector);
        json_close(&j, '}');
    }
    json_close(&j, ']');
    putchar('\n');
}

static int run(void *settings, int argc, char **argv)
{
    const struct settings *s = settings;
    struct processes all;
    if (argc)
        return cli_usage("%.60s: it lists all processes and takes no operand", argv[0]);
    int rc = processes_find(&all);
    if (rc)
        return cli_fail("/proc: %s", strerror(-rc));
    if (s->json)
        print_json(&all);
    else
        print_text(&all);
    if (!all.count && !s->json)
        cli_note(
            "no process has the agent or the fiber runtime in it (LD_PRELOAD=libfiberscope.so, or "
            "`fiberscope record`)");
    if (all.hidden && !s->json)
        cli_note("%u process%s of other users could not be looked into", all.hidden,
                 all.hidden == 1 ? "" : "es");
    processes_free(&all);
    return CLI_OK;
}

const struct cli_command cmd_ps = {
    .name = "ps",
    .summary = "list processes that have an agent or the fiber runtime",
    .operands = "",
    .details =
        "One line for each process with libfiberscope.so or libfiberscope-rt.so in it: whether\n"
        "its agent is idle or records, what it records, and where it is served. An idle agent\n"
        "can be recorded with `fiberscope record -p PID`; so can one that records, in what it\n"
        "does not record yet.",
    .examples = "  fiberscope ps\n"
                "  fiberscope record -p PID --cpu --heap -d 10s",
    .options = options,
    .option_count = CLI_COUNT(options),
    .defaults = &defaults,
    .settings_size = sizeof defaults,
    .run = run,
};
