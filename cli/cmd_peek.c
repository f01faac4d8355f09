// SPDX-License-Identifier: MIT
//
// fiberscope peek RE: callers and callees of the functions that match, nothing trimmed.

#include "cli/tree_report.h"

static int run(void *settings, int argc, char **argv)
{
    struct profile_args *a = settings;
    if (!argc)
        return cli_usage("which functions: peek RE [FILE...]");
    a->no_trim = true;
    return tree_report(a, argv[0], argc - 1, argv + 1);
}

static const struct profile_args defaults = PROFILE_DEFAULTS;
static const struct cli_option options[] = {
    CLI_SET(PA, sort, "cum", PROFILE_VALUES, "order by cumulative values", "cum"),
    CLI_SET(PA, sort, "flat", PROFILE_VALUES, "order by flat values (default)", "flat"),
    PROFILE_FILTER_OPTIONS,
    PROFILE_VALUE_OPTIONS,
    PROFILE_GRANULARITY_OPTIONS,
    PROFILE_DIFF_OPTIONS,
    PROFILE_INPUT_OPTIONS,
    PROFILE_JSON_OPTION,
};

const struct cli_command cmd_peek = {
    .name = "peek",
    .summary = "show callers and callees of the functions whose name matches",
    .operands = "RE [FILE...]",
    .details = "Unlike -focus it keeps all samples: the figures are those of the whole profile.",
    .options = options,
    .option_count = CLI_COUNT(options),
    .defaults = &defaults,
    .settings_size = sizeof defaults,
    .run = run,
};
