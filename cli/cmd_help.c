// SPDX-License-Identifier: MIT
//
// fiberscope help [VERB]: the list of verbs, or one verb's help.

#include "cli/commands.h"

static int run(void *settings, int argc, char **argv)
{
    (void)settings;
    if (argc > 0) {
        const struct cli_command *cmd = cli_command_find(argv[0]);
        if (!cmd)
            return cli_unknown_command(argv[0]);
        cli_print_help(stdout, cmd);
        return CLI_OK;
    }
    size_t count;
    const struct cli_command *const *cmds = cli_commands(&count);
    printf("fiberscope %s: pprof for C\n\n"
           "Usage: fiberscope COMMAND [OPTION...] [ARGUMENT...]\n\nCommands:\n",
           FSCOPE_VERSION);
    for (size_t i = 0; i < count; i++) {
        if (!(cmds[i]->flags & CLI_HIDDEN))
            printf("  %-11s %s\n", cmds[i]->name, cmds[i]->summary);
    }
    printf("\n`fiberscope help COMMAND` tells more; `fiberscope --version` prints the version.\n");
    return CLI_OK;
}

const struct cli_command cmd_help = {
    .name = "help",
    .summary = "show this list, or how to use one command",
    .operands = "[COMMAND]",
    .run = run,
};
