// SPDX-License-Identifier: MIT
//
// What is made from the option tables: --help, the bash completion, the man pages' option lists.
//
// Invariant: an option without help text is an alias and appears in none of them.

#include "cli/options.h"

#include <string.h>

enum { HELP_COLUMN = 30, HELP_WIDTH = 98 };

// Wraps text at HELP_WIDTH, continuing at column.
static void print_wrapped(FILE *out, const char *text, int column)
{
    int at = column;
    while (*text) {
        int n = (int)strcspn(text, " ");
        if (at > column && at + 1 + n > HELP_WIDTH) {
            fprintf(out, "\n%*s", column, "");
            at = column;
        }
        at += fprintf(out, "%s%.*s", at > column ? " " : "", n, text);
        text += n + (text[n] == ' ');
    }
    fputc('\n', out);
}

static void print_option(FILE *out, const struct cli_option *o)
{
    int n = 0;
    if (o->short_name)
        n += fprintf(out, "  -%c, --%s", o->short_name, o->name);
    else
        n += fprintf(out, "      --%s", o->name);
    if (o->argument)
        n += fprintf(out, o->type == CLI_TYPE_OPTIONAL ? "[=%s]" : "=%s", o->argument);
    if (n > HELP_COLUMN - 2)
        fprintf(out, "\n%*s", HELP_COLUMN, "");
    else
        fprintf(out, "%*s", HELP_COLUMN - n, "");
    print_wrapped(out, o->help, HELP_COLUMN);
}

static bool same_group(const char *a, const char *b)
{
    return a == b || (a && b && !strcmp(a, b));
}

// The options of one table, group by group in order of first appearance.
static void for_groups(FILE *out, const struct cli_command *cmd,
                       void (*heading)(FILE *, const char *),
                       void (*row)(FILE *, const struct cli_option *))
{
    for (size_t i = 0; i < cmd->option_count; i++) {
        const char *group = cmd->options[i].group;
        bool seen = false;
        for (size_t j = 0; j < i && !seen; j++)
            seen = same_group(cmd->options[j].group, group);
        bool visible = false;
        for (size_t j = i; j < cmd->option_count && !visible; j++)
            visible = cmd->options[j].help && same_group(cmd->options[j].group, group);
        if (seen || !visible)
            continue;
        heading(out, group);
        for (size_t j = i; j < cmd->option_count; j++) {
            if (cmd->options[j].help && same_group(cmd->options[j].group, group))
                row(out, &cmd->options[j]);
        }
    }
}

static void print_heading(FILE *out, const char *group)
{
    fprintf(out, "\n%s:\n", group ? group : "Options");
}

void cli_print_help(FILE *out, const struct cli_command *cmd)
{
    fprintf(out, "Usage: fiberscope %s%s%s%s\n\n%s\n", cmd->name,
            cmd->option_count ? " [OPTION...]" : "", cmd->operands ? " " : "",
            cmd->operands ? cmd->operands : "", cmd->summary);
    if (cmd->details)
        fprintf(out, "\n%s\n", cmd->details);
    for_groups(out, cmd, print_heading, print_option);
    if (cmd->examples)
        fprintf(out, "\nExamples:\n%s\n", cmd->examples);
    if (cmd->option_count)
        fprintf(out, "\nOne dash or two, `-name value` or `-name=value`: all the same.\n");
}

static void print_completion_case(FILE *out, const struct cli_command *cmd)
{
    fprintf(out, "    %s)\n        options=\"", cmd->name);
    for (size_t i = 0; i < cmd->option_count; i++) {
        const struct cli_option *o = &cmd->options[i];
        if (o->help)
            fprintf(out, "--%s%s ", o->name,
                    o->argument && o->type != CLI_TYPE_OPTIONAL ? "=" : "");
    }
    fprintf(out, "--help\"\n        case \"$name\" in\n");
    for (size_t i = 0; i < cmd->option_count; i++) {
        const struct cli_option *o = &cmd->options[i];
        if (o->help && o->type == CLI_TYPE_CHOICE)
            fprintf(out, "        %s) words=\"%s\" ;;\n", o->name, o->words);
    }
    fprintf(out, "        esac\n        ;;\n");
}

// The completion knows verbs, options, words of choices, and files for the rest. bash splits words
// at `=` (COMP_WORDBREAKS), so that `--name=va` arrives as three words.
void cli_print_bash_completion(FILE *out, const struct cli_command *const *cmds, size_t count)
{
    fprintf(out, "# bash completion for fiberscope; made from its option tables by\n"
                 "# `fiberscope completion bash`. Do not edit.\n"
                 "_fiberscope() {\n"
                 "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
                 "    local verb=${COMP_WORDS[1]} name= options= words=\n"
                 "    COMPREPLY=()\n"
                 "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
                 "        mapfile -t COMPREPLY < <(compgen -W \"");
    for (size_t i = 0; i < count; i++) {
        if (!(cmds[i]->flags & CLI_HIDDEN))
            fprintf(out, "%s ", cmds[i]->name);
    }
    fprintf(out, "--help --version\" -- \"$cur\")\n"
                 "        return\n"
                 "    fi\n"
                 "    if [ \"$cur\" = \"=\" ]; then name=${prev##*-}; cur=\n"
                 "    elif [ \"$prev\" = \"=\" ]; then name=${COMP_WORDS[COMP_CWORD-2]##*-}\n"
                 "    else name=${prev##*-}; fi\n"
                 "    case \"$verb\" in\n");
    for (size_t i = 0; i < count; i++) {
        if (!(cmds[i]->flags & CLI_HIDDEN))
            print_completion_case(out, cmds[i]);
    }
    fprintf(out, "    esac\n"
                 "    if [ -n \"$words\" ]; then\n"
                 "        mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n"
                 "    elif [ \"${cur:0:1}\" = \"-\" ]; then\n"
                 "        mapfile -t COMPREPLY < <(compgen -W \"$options\" -- \"$cur\")\n"
                 "        case \"${COMPREPLY[0]-}\" in *=) compopt -o nospace ;; esac\n"
                 "    else\n"
                 "        compopt -o filenames 2>/dev/null\n"
                 "        mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n"
                 "    fi\n"
                 "}\n"
                 "complete -F _fiberscope fiberscope\n");
}

static void mdoc_heading(FILE *out, const char *group)
{
    if (group)
        fprintf(out, ".It Sy %s\n", group);
}

static void mdoc_row(FILE *out, const struct cli_option *o)
{
    fprintf(out, ".It ");
    if (o->short_name)
        fprintf(out, "Fl %c , ", o->short_name);
    fprintf(out, "Fl Fl %s", o->name);
    if (o->argument && o->type == CLI_TYPE_OPTIONAL)
        fprintf(out, " Ns Oo = Ns Ar %s Oc", o->argument);
    else if (o->argument)
        fprintf(out, " Ns = Ns Ar %s", o->argument);
    fputc('\n', out);
    for (const char *p = o->help; *p; p++) {
        if (*p == '\\')
            fputs("\\e", out);
        else if (p == o->help && (*p == '.' || *p == '\''))
            fprintf(out, "\\&%c", *p);
        else
            fputc(*p, out);
    }
    fputc('\n', out);
}

void cli_print_mdoc(FILE *out, const struct cli_command *cmd)
{
    fprintf(out, ".Bl -tag -width Ds\n");
    for_groups(out, cmd, mdoc_heading, mdoc_row);
    fprintf(out, ".El\n");
}
