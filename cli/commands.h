// SPDX-License-Identifier: MIT
//
// The subcommands, in the order in which `fiberscope help` lists them: one line each.

#ifndef FIBERSCOPE_CLI_COMMANDS_H
#define FIBERSCOPE_CLI_COMMANDS_H

#include "cli/options.h"

// X(NAME): cli/cmd_NAME.c defines `const struct cli_command cmd_NAME`.
#define CLI_COMMANDS(X)                                                                            \
    X(record)                                                                                      \
    X(top)                                                                                         \
    X(tree)                                                                                        \
    X(peek)                                                                                        \
    X(raw)                                                                                         \
    X(folded)                                                                                      \
    X(flame)                                                                                       \
    X(report)                                                                                      \
    X(leaks)                                                                                       \
    X(check)                                                                                       \
    X(baseline)                                                                                    \
    X(stat)                                                                                        \
    X(doctor)                                                                                      \
    X(finish)                                                                                      \
    X(attach)                                                                                      \
    X(detach)                                                                                      \
    X(ps)                                                                                          \
    X(serve)                                                                                       \
    X(stack)                                                                                       \
    X(waits)                                                                                       \
    X(trace)                                                                                       \
    X(view)                                                                                        \
    X(symbolize)                                                                                   \
    X(help)                                                                                        \
    X(completion)

#define CLI_DECLARE(name) extern const struct cli_command cmd_##name;
CLI_COMMANDS(CLI_DECLARE)
#undef CLI_DECLARE

#endif
