// SPDX-License-Identifier: MIT
//
// fiberscope waits: who waits for what, held by whom; deadlocks.

#include "cli/commands.h"
#include "cli/target_arg.h"
#include "cli/waits_report.h"
#include "collector/finish.h"

#include <errno.h>
#include <string.h>

enum { DEADLOCKED = 1, UNREADABLE = 2, INVERTED = 3 }; // exit statuses

struct settings {
    bool json, all, no_stacks, no_symbols, inversions_fail;
    const char *order, *pid;
    int64_t pause_ns;
};

static const struct settings defaults = {.pause_ns = 200000000};

static const struct cli_option options[] = {
    CLI_STRING(struct settings, pid, "pid", 'p', "PID", NULL, "the same as PID alone"),
    CLI_FLAG(struct settings, all, "all", 'a', NULL,
             "a row for each fiber, and each stack of who waits for a lock or holds one"),
    CLI_FLAG(struct settings, json, "json", 'j', NULL, "JSON, with everything"),
    CLI_FLAG(struct settings, no_stacks, "no-stacks", 0, NULL,
             "leave the stacks out; then no thread is stopped"),
    CLI_FLAG(struct settings, no_symbols, "no-symbols", 0, NULL,
             "addresses instead of names in stacks"),
    CLI_DURATION(struct settings, pause_ns, "pause", 0, "TIME", NULL,
                 "between the looks that a deadlock must pass (default 200ms)"),
    CLI_STRING(struct settings, order, "order", 0, "on|off", NULL,
               "first has the agent in the process record the order of locks, or no more"),
    CLI_FLAG(struct settings, inversions_fail, "inversions-fail", 0, NULL,
             "exit status 3 where there is a lock-order inversion and no deadlock"),
};

static int status_of(const struct settings *s, size_t deadlocks, const struct order *o)
{
    if (deadlocks)
        return DEADLOCKED;
    return s->inversions_fail && o && o->kinds[ORDER_INVERSION] ? INVERTED : CLI_OK;
}

static int fail(const struct fscope_error *err)
{
    cli_fail("%s", err->text);
    return UNREADABLE;
}

// A dump or a black box: nobody waits in it.
static int run_recorded(const struct settings *s, const char *path)
{
    const struct order_options o = {.stacks = !s->no_stacks, .symbolize = !s->no_symbols};
    struct fscope_error err = {0};
    struct order *order = NULL;
    if (order_read_file(&order, path, &o, &err))
        return fail(&err);
    if (!order->since_ns) {
        cli_fail("%s: the order of locks was not recorded (FIBERSCOPE=order=1)", path);
        order_free(order);
        return UNREADABLE;
    }
    if (s->json) {
        struct json j = {.out = stdout};
        json_open(&j, NULL, '{');
        waits_write_order(&j, order);
        json_close(&j, '}');
    } else {
        waits_print_order(order, s->all, stdout);
        waits_print_order_count(order, s->all, stdout);
    }
    int status = status_of(s, 0, order);
    order_free(order);
    return status;
}

// What an agent in it has recorded of the order of locks; *out stays NULL where there is nothing, and that is no error.
static int look_at_order(struct order **out, const struct settings *s, struct target *t,
                         const char *operand)
{
    const struct order_options o = {.stacks = !s->no_stacks, .symbolize = !s->no_symbols};
    struct fscope_error err = {0};
    int rc = order_read(out, t, operand, &o, &err);
    if (!rc && !(*out)->since_ns) {
        order_free(*out);
        *out = NULL;
    }
    if (rc && rc != -ENODATA && rc != -EAGAIN)
        cli_note("%s", err.text);
    return rc == -ENOMEM ? rc : 0;
}

static int run_target(const struct settings *s, struct target *t, const char *operand)
{
    const struct waits_options o = {
        .pause_ns = s->pause_ns, .stacks = !s->no_stacks, .symbolize = !s->no_symbols};
    struct fscope_error err = {0};
    struct waits *w = NULL;
    struct order *order = NULL;
    int rc = waits_look(&w, t, &o, &err);
    if (!rc)
        rc = look_at_order(&order, s, t, operand);
    int status = UNREADABLE;
    if (rc) {
        cli_fail("%s", err.text[0] ? err.text : "out of memory");
    } else {
        const struct waits_report r = {
            .waits = w, .order = order, .target = t, .operand = operand, .all = s->all};
        (s->json ? waits_print_json : waits_print_text)(&r, stdout);
        status = status_of(s, w->certain_count, order);
    }
    order_free(order);
    waits_free(w);
    return status;
}

static int run(void *settings, int argc, char **argv)
{
    const struct settings *s = settings;
    struct fscope_error err = {0};
    struct target *t = NULL;
    const char *operand = target_arg_one(s->pid, argc, argv);
    if (!operand)
        return cli_usage("one process id or core file is needed");
    if (s->pause_ns < 0)
        return cli_usage("--pause: a time that is not negative is needed");
    if (s->order && strcmp(s->order, "on") != 0 && strcmp(s->order, "off") != 0)
        return cli_usage("--order: on or off");
    if (finish_is_dump(operand) && !finish_is_core(operand))
        return s->order ? cli_usage("--order: nothing can be switched on in a file")
                        : run_recorded(s, operand);
    if (target_arg_open(&t, operand, &err))
        return fail(&err);
    if (s->order && target_is_core(t)) {
        target_close(t);
        return cli_usage("--order: nothing can be switched on in a core file");
    }
    if (s->order) { // the agent may make its segment now: what is mapped is looked at anew
        int rc = order_switch(target_pid(t), strcmp(s->order, "on") == 0, &err);
        target_close(t);
        if (rc == -ENOENT) {
            cli_fail("%s; `fiberscope attach -p %s` puts it in", err.text, operand);
            return UNREADABLE;
        }
        if (rc || target_arg_open(&t, operand, &err))
            return fail(&err);
    }
    int status = run_target(s, t, operand);
    target_arg_note_missing(t, operand);
    target_close(t);
    return status;
}

const struct cli_command cmd_waits = {
    .name = "waits",
    .summary = "who waits for which lock, held by whom; deadlocks",
    .operands = "PID | CORE | DUMP",
    .details =
        "Lists the threads and fibers of a running process or a core file, what each waits for "
        "and\n"
        "who holds that, and finds deadlocks: circles of threads, of fibers, and of both. Nothing "
        "need be\n"
        "in the process: owners are read from its mutexes and from the fiber runtime. A deadlock\n"
        "is told when looks before and after it agree and nobody in it has run meanwhile.\n"
        "Where an agent records the order in which locks are taken (--order=on, or\n"
        "FIBERSCOPE=order=1 from the start), also the orders that contradict each other: "
        "deadlocks\n"
        "that may happen though none has.\n"
        "Exit status: 0 no deadlock, 1 a deadlock, 2 wrong usage, or it could not be looked at,\n"
        "3 no deadlock but an inversion, with --inversions-fail.",
    .examples = "  fiberscope waits $(pidof server)\n"
                "  fiberscope waits core.4711\n"
                "  fiberscope waits --json $(pidof server) | jq .deadlocks\n",
    .options = options,
    .option_count = CLI_COUNT(options),
    .defaults = &defaults,
    .settings_size = sizeof defaults,
    .run = run,
};
