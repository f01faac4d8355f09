// SPDX-License-Identifier: MIT
//
// fiberscope report: a profile or a trace as one HTML page.

#include "cli/report_page.h"

#include <string.h>
#include <unistd.h>

static const struct cli_command *self(void);

// What of a row's field tells whether it was given.
static size_t field_size(const struct cli_option *o)
{
    switch (o->type) {
    case CLI_TYPE_FLAG: return sizeof(bool);
    case CLI_TYPE_INT:
    case CLI_TYPE_DURATION: return sizeof(int64_t);
    case CLI_TYPE_UINT:
    case CLI_TYPE_SIZE: return sizeof(uint64_t);
    case CLI_TYPE_REAL: return sizeof(double);
    case CLI_TYPE_LIST: return sizeof(struct cli_list);
    default: return sizeof(const char *);
    }
}

// An option that was given, and that a trace's page cannot follow; NULL: none.
static const char *only_of_profiles(const struct report_args *a)
{
    static const char *const of_both[] = {"title", "output", "salvage", "inflated-max"};
    const struct cli_command *c = self();
    const char *found = NULL;
    for (size_t i = 0; i < c->option_count; i++) {
        const struct cli_option *o = &c->options[i];
        const char *is = (const char *)a + o->offset, *was = (const char *)c->defaults + o->offset;
        bool both = !o->help && o->type != CLI_TYPE_SET; // an alias: its field had its turn
        for (size_t k = 0; k < CLI_COUNT(of_both); k++)
            both |= !strcmp(o->name, of_both[k]);
        if (both || !memcmp(is, was, field_size(o)))
            continue;
        if (o->type != CLI_TYPE_SET || !strcmp(*(const char *const *)(const void *)is, o->words))
            found = o->name;
    }
    return found;
}

static int run(void *settings, int argc, char **argv)
{
    struct report_args *a = settings;
    char free_name[CLI_FREE_NAME_MAX];
    int traces = 0;
    for (int i = 0; i < argc; i++)
        traces += profile_is_trace(argv[i]);
    if (traces && argc > 1)
        return cli_usage("a page has one trace, or profiles of one kind, which are merged");
    const char *wrong = traces ? only_of_profiles(a) : NULL;
    if (wrong)
        return cli_usage("-%s is for profiles: the page of a trace is of all of it; fiberscope "
                         "trace cut makes a trace of a part",
                         wrong);
    if (!a->profile.output && isatty(STDOUT_FILENO))
        a->profile.output = cli_free_name(free_name, sizeof free_name, "report",
                                          ".html"); // nobody reads HTML on a terminal
    int status = traces ? report_trace(a, argv[0]) : report_profile(a, argc, argv);
    if (!status && a->profile.output && strcmp(a->profile.output, "-") != 0)
        cli_note("wrote %s; open it in a browser", a->profile.output);
    return status;
}

#define PAGE "Page"
static const struct report_args defaults = {.profile = PROFILE_DEFAULTS};
static const struct cli_option options[] = {
    CLI_STRING(struct report_args, title, "title", 't', "TEXT", PAGE,
               "title (default: the program or the file)"),
    CLI_STRING(struct report_args, source_path, "source_path", 0, "DIRS", PAGE,
               "folders, separated by ':', with source files that are not where the profile says"),
    PROFILE_FILTER_OPTIONS,
    PROFILE_VALUE_OPTIONS,
    PROFILE_INPUT_OPTIONS,
};

const struct cli_command cmd_report = {
    .name = "report",
    .summary = "write a profile or a trace as one HTML page",
    .operands = "[FILE...]",
    .details =
        "The page works from disk in any browser, without a network: mail it, attach it to a "
        "ticket.\n"
        "Of a profile: flame graph, table of functions, call tree, and the source with what its\n"
        "lines cost, where the source is at hand. Of a trace: summary, latencies, and a picture "
        "of\n"
        "the timeline, which needs fiberscope-view to be installed. On a terminal the output goes "
        "to\n"
        "report.html (report-2.html, where that is there) unless -o says otherwise. "
        "Filters and values are of profiles: with a trace "
        "they are\n"
        "refused.",
    .examples = "  fiberscope report -o cpu.html cpu.pb.gz\n"
                "  fiberscope report -o app.html app.trace",
    .options = options,
    .option_count = CLI_COUNT(options),
    .defaults = &defaults,
    .settings_size = sizeof defaults,
    .run = run,
};

static const struct cli_command *self(void)
{
    return &cmd_report;
}
