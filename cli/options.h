// SPDX-License-Identifier: MIT
//
// The one option table of each subcommand: it parses the command line and makes --help, the bash
// completion and the man page's option list, so that they cannot disagree.
//
// Adding a subcommand takes three steps:
//   1. cli/cmd_NAME.c defines `const struct cli_command cmd_NAME` (settings struct, table, run);
//   2. cli/commands.h gets one line, X(NAME);
//   3. cli/CMakeLists.txt gets the file.
//
//   struct settings { const char *output; uint64_t hz; bool quiet; };
//   static const struct settings defaults = {.hz = 99};
//   static const struct cli_option options[] = {
//       CLI_STRING(struct settings, output, "output", 'o', "FILE", NULL, "write to FILE"),
//       CLI_UINT(struct settings, hz, "freq", 'F', "HZ", NULL, "samples per CPU-second"),
//       CLI_FLAG(struct settings, quiet, "quiet", 'q', NULL, "no progress"),
//   };
//   static int run(void *p, int argc, char **argv) { struct settings *s = p; ... }
//   const struct cli_command cmd_NAME = {
//       .name = "NAME", .summary = "what it does, one line", .operands = "[FILE...]",
//       .options = options, .option_count = CLI_COUNT(options),
//       .defaults = &defaults, .settings_size = sizeof defaults, .run = run};
//
// Grammar, as Go's flag package has it: one or two dashes mean the same, `-name value` and
// `-name=value` mean the same, a flag takes only `-name` or `-name=false`, `--` ends the options.
// Two things more: options may follow operands (except where CLI_STOP_AT_OPERAND says that the rest
// is a command line), and a one-letter name may have digits attached (`-F999`).

#ifndef FIBERSCOPE_CLI_OPTIONS_H
#define FIBERSCOPE_CLI_OPTIONS_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { CLI_OK = 0, CLI_FAILURE = 1, CLI_USAGE = 2 }; // exit statuses

enum cli_option_type {
    CLI_TYPE_FLAG,     // bool
    CLI_TYPE_STRING,   // const char *
    CLI_TYPE_OPTIONAL, // const char *: `--name` alone stores "", a value only as `--name=value`
    CLI_TYPE_LIST,     // struct cli_list: may be given several times
    CLI_TYPE_CHOICE,   // const char *: one of the words in `words`
    CLI_TYPE_SET,      // const char *: takes no value, stores `words`
    CLI_TYPE_INT,      // int64_t
    CLI_TYPE_UINT,     // uint64_t
    CLI_TYPE_REAL,     // double
    CLI_TYPE_DURATION, // int64_t nanoseconds: 30s, 1m30s, 500ms; a bare number is seconds
    CLI_TYPE_SIZE,     // uint64_t bytes: 4096, 64k, 4GiB (powers of 1024)
};

struct cli_list {
    const char **items; // [count], freed by cli_settings_free
    size_t count;
};

struct cli_option {
    const char *name;
    char short_name; // 0: none
    enum cli_option_type type;
    const char *argument; // "HZ" in the help; NULL for flags
    const char *group;    // heading in the help; NULL: the first one
    const char *help;     // NULL: hidden (an alias)
    const char *words;    // CHOICE: "a b c"; SET: the value
    size_t offset;        // in the settings
};

#define CLI_COUNT(a) (sizeof(a) / sizeof((a)[0]))
// One row of the table. The field's C type must be the one that the option type names above.
#define CLI_ROW(kind, S, field, longname, shortname, arg, grp, text, wordlist)                     \
    {                                                                                              \
        .name = (longname), .short_name = (shortname), .type = (kind), .argument = (arg),          \
        .group = (grp), .help = (text), .words = (wordlist), .offset = offsetof(S, field)          \
    }
#define CLI_FLAG(S, f, n, c, g, h)         CLI_ROW(CLI_TYPE_FLAG, S, f, n, c, NULL, g, h, NULL)
#define CLI_STRING(S, f, n, c, a, g, h)    CLI_ROW(CLI_TYPE_STRING, S, f, n, c, a, g, h, NULL)
#define CLI_OPTIONAL(S, f, n, c, a, g, h)  CLI_ROW(CLI_TYPE_OPTIONAL, S, f, n, c, a, g, h, NULL)
#define CLI_LIST(S, f, n, c, a, g, h)      CLI_ROW(CLI_TYPE_LIST, S, f, n, c, a, g, h, NULL)
#define CLI_CHOICE(S, f, n, c, a, g, h, w) CLI_ROW(CLI_TYPE_CHOICE, S, f, n, c, a, g, h, w)
#define CLI_SET(S, f, n, g, h, w)          CLI_ROW(CLI_TYPE_SET, S, f, n, 0, NULL, g, h, w)
#define CLI_INT(S, f, n, c, a, g, h)       CLI_ROW(CLI_TYPE_INT, S, f, n, c, a, g, h, NULL)
#define CLI_UINT(S, f, n, c, a, g, h)      CLI_ROW(CLI_TYPE_UINT, S, f, n, c, a, g, h, NULL)
#define CLI_REAL(S, f, n, c, a, g, h)      CLI_ROW(CLI_TYPE_REAL, S, f, n, c, a, g, h, NULL)
#define CLI_DURATION(S, f, n, c, a, g, h)  CLI_ROW(CLI_TYPE_DURATION, S, f, n, c, a, g, h, NULL)
#define CLI_SIZE(S, f, n, c, a, g, h)      CLI_ROW(CLI_TYPE_SIZE, S, f, n, c, a, g, h, NULL)

enum {
    CLI_STOP_AT_OPERAND = 1, // what follows the first operand is not ours (record CMD -x)
    CLI_HIDDEN = 2,          // not in the list of verbs
    CLI_KEEP_DASHES = 4,     // a `--` stays among the operands: what follows it is something else
};

struct cli_command {
    const char *name;
    const char *summary;  // one line, lower case, no full stop
    const char *operands; // "[FILE...]"
    const char *details;  // paragraphs after the summary, or NULL; ends without newline
    const char *examples; // lines, or NULL
    unsigned flags;
    const struct cli_option *options;
    size_t option_count;
    const void *defaults; // [settings_size], copied before parsing
    size_t settings_size;
    // settings is the parsed copy, argv[0..argc) the operands. Returns the exit status.
    int (*run)(void *settings, int argc, char **argv);
};

// Parses argv[0..argc) (without program and verb) into settings, which holds a copy of the
// defaults. Operands are moved to the front of argv, in order, and *operand_count says how many;
// strings point into argv. *help becomes true at -h, -help, --help. Returns 0 or -EINVAL with
// a sentence for the user that names the nearest right option. Only CLI_TYPE_LIST allocates.
int cli_parse(const struct cli_command *cmd, int argc, char **argv, void *settings,
              int *operand_count, bool *help, struct fscope_error *err);
void cli_settings_free(const struct cli_command *cmd, void *settings);

// The word of words[0..count) nearest to what, or NULL if none is near enough to be meant.
// What a noun takes behind that number: "1 fiber", "2 fibers".
static inline const char *cli_s(uint64_t n)
{
    return n == 1 ? "" : "s";
}

const char *cli_nearest(const char *what, const char *const *words, size_t count);

// "1m30s" to nanoseconds and "4GiB" to bytes. 0 or -EINVAL.
int cli_parse_duration(const char *text, int64_t *ns);
int cli_parse_size(const char *text, uint64_t *bytes);

// "1.23" or "1.26", the formats of traces that we write, as 23 or 26; NULL: the first. 0 or -EINVAL.
int cli_parse_trace_version(const char *text, uint32_t *version);

void cli_print_help(FILE *out, const struct cli_command *cmd);
void cli_print_bash_completion(FILE *out, const struct cli_command *const *cmds, size_t count);
void cli_print_mdoc(FILE *out, const struct cli_command *cmd); // .It rows for a man page

// The verbs that this program has. [count] in *count.
const struct cli_command *const *cli_commands(size_t *count);
const struct cli_command *cli_command_find(const char *name);

// "fiberscope VERB: text" on stderr; returns CLI_FAILURE. The verb is the one main is running.
int cli_fail(const char *fmt, ...) FSCOPE_PRINTF(1, 2);
// The same for wrong usage, with a pointer to --help; returns CLI_USAGE.
int cli_usage(const char *fmt, ...) FSCOPE_PRINTF(1, 2);
// The usage error for a verb that does not exist, with the nearest one.
int cli_unknown_command(const char *verb);
// "fiberscope VERB: text" without being an error.
// "stem.suffix", or "stem-2.suffix" and so on where a file has that name already: what was not named by the user replaces
// nothing. Into buf, which has room; returns it.
enum { CLI_FREE_NAME_MAX = 64 };
const char *cli_free_name(char *buf, size_t size, const char *stem, const char *suffix);

void cli_note(const char *fmt, ...) FSCOPE_PRINTF(1, 2);

// The same about a file: "PATH: ...". In a command that the message gives in `backquotes` the word
// FILE becomes the path as a shell reads it, so that the command can be copied. Like cli_fail and cli_note.
int cli_fail_at(const char *path, const char *fmt, ...) FSCOPE_PRINTF(2, 3);
void cli_note_at(const char *path, const char *fmt, ...) FSCOPE_PRINTF(2, 3);

// A word as a shell reads it back: quoted where it must be.
void cli_print_word(FILE *out, const char *text);

#endif
