// SPDX-License-Identifier: MIT
//
// fiberscope completion bash | mdoc VERB: what the build makes from the option tables.

#include "cli/commands.h"

#include <string.h>

static int run(void *settings, int argc, char **argv)
{
    (void)settings;
    size_t count;
    const struct cli_command *const *cmds = cli_commands(&count);
    if (argc == 1 && !strcmp(argv[0], "bash")) {
        cli_print_bash_completion(stdout, cmds, count);
        return CLI_OK;
    }
    const struct cli_command *cmd = argc == 2 ? cli_command_find(argv[1]) : NULL;
    if (cmd && !strcmp(argv[0], "mdoc")) {
        cli_print_mdoc(stdout, cmd);
        return CLI_OK;
    }
    return cli_usage("what to print: `bash`, or `mdoc COMMAND`");
}

const struct cli_command cmd_completion = {
    .name = "completion",
    .summary = "print the bash completion, or a command's options for its man page",
    .operands = "bash | mdoc COMMAND",
    .flags = CLI_HIDDEN,
    .run = run,
};
