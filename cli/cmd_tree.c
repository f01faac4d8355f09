// SPDX-License-Identifier: MIT
//
// fiberscope tree: each function with its callers and callees.

#include "cli/tree_report.h"

static int run(void *settings, int argc, char **argv)
{
    struct profile_args *a = settings;
    if (a->report.nodecount == -1)
        a->report.nodecount = 80;
    return tree_report(a, NULL, argc, argv);
}

static const struct profile_args defaults = PROFILE_DEFAULTS;
static const struct cli_option options[] = {
    PROFILE_TABLE_OPTIONS,       PROFILE_FILTER_OPTIONS, PROFILE_VALUE_OPTIONS,
    PROFILE_GRANULARITY_OPTIONS, PROFILE_DIFF_OPTIONS,   PROFILE_INPUT_OPTIONS,
    PROFILE_JSON_OPTION,
};

const struct cli_command cmd_tree = {
    .name = "tree",
    .summary = "show each function between its callers and its callees",
    .operands = "[FILE...]",
    .details =
        "Above each function stand its callers, below it what it calls, with what passed through\n"
        "that call and its share of the function's own cum.",
    .options = options,
    .option_count = CLI_COUNT(options),
    .defaults = &defaults,
    .settings_size = sizeof defaults,
    .run = run,
};
