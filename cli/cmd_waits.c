// SPDX-License-Identifier: MIT
//
// fiberscope waits: who waits for what, held by whom; deadlocks.

#include "cli/commands.h"
#include "cli/target_arg.h"
#include "cli/waits_report.h"

enum { DEADLOCKED = 1, UNREADABLE = 2 }; // exit statuses

struct settings {
    bool json, all, no_stacks, no_symbols;
    int64_t pause_ns;
};

static const struct settings defaults = {.pause_ns = 200000000};

static const struct cli_option options[] = {
    CLI_FLAG(struct settings, all, "all", 'a', NULL,
             "a row for each fiber, and each stack of who waits for a lock or holds one"),
    CLI_FLAG(struct settings, json, "json", 'j', NULL, "JSON, with everything"),
    CLI_FLAG(struct settings, no_stacks, "no-stacks", 0, NULL,
             "leave the stacks out; then no thread is stopped"),
    CLI_FLAG(struct settings, no_symbols, "no-symbols", 0, NULL,
             "addresses instead of names in stacks"),
    CLI_DURATION(struct settings, pause_ns, "pause", 0, "TIME", NULL,
                 "between the looks that a deadlock must pass (default 200ms)"),
};

static int run(void *settings, int argc, char **argv)
{
    const struct settings *s = settings;
    const struct waits_options o = {
        .pause_ns = s->pause_ns, .stacks = !s->no_stacks, .symbolize = !s->no_symbols};
    struct fscope_error err = {0};
    struct target *t = NULL;
    struct waits *w = NULL;
    if (argc != 1)
        return cli_usage("one process id or core file is needed");
    if (s->pause_ns < 0)
        return cli_usage("--pause: a time that is not negative is needed");
    int rc = target_arg_open(&t, argv[0], &err);
    if (!rc && target_is_cut(t))
        cli_note("%s is cut off (ulimit -c, or a full disk?): what is missing is not seen",
                 argv[0]);
    if (!rc)
        rc = waits_look(&w, t, &o, &err);
    int status = UNREADABLE;
    if (rc) {
        cli_fail("%s", err.text);
    } else {
        const struct waits_report r = {.waits = w, .target = t, .operand = argv[0], .all = s->all};
        (s->json ? waits_print_json : waits_print_text)(&r, stdout);
        status = w->certain_count ? DEADLOCKED : CLI_OK;
    }
    waits_free(w);
    target_close(t);
    return status;
}

const struct cli_command cmd_waits = {
    .name = "waits",
    .summary = "who waits for which lock, held by whom; deadlocks",
    .operands = "PID | CORE",
    .details =
        "Lists the threads and fibers of a running process or a core file, what each waits for "
        "and\n"
        "who holds that, and finds deadlocks: circles of threads, of fibers, and of both. Nothing "
        "need be\n"
        "in the process: owners are read from its mutexes and from the fiber runtime. A deadlock\n"
        "is told when looks before and after it agree and nobody in it has run meanwhile.\n"
        "Exit status: 0 no deadlock, 1 a deadlock, 2 wrong usage, or it could not be looked at.",
    .examples = "  fiberscope waits $(pidof server)\n"
                "  fiberscope waits core.4711\n"
                "  fiberscope waits --json $(pidof server) | jq .deadlocks\n",
    .options = options,
    .option_count = CLI_COUNT(options),
    .defaults = &defaults,
    .settings_size = sizeof defaults,
    .run = run,
};
