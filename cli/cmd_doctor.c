// SPDX-License-Identifier: MIT
//
// fiberscope doctor: what this machine permits, as a table or as JSON.

#include "cli/commands.h"
#include "collector/doctor.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { TOPIC_WIDTH = 19, STATE_WIDTH = 9, LINE_MIN = 60, LINE_DEFAULT = 100 };

struct settings {
    bool json;
};

static const struct settings defaults = {0};

static const struct cli_option options[] = {
    CLI_FLAG(struct settings, json, "json", 0, NULL, "print JSON"),
};

// A JSON string. What is not ASCII is UTF-8 or, from a hostile kernel file, becomes "?".
static void print_json_string(const char *s)
{
    putchar('"');
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\')
            printf("\\%c", c);
        else if (c < ' ')
            printf("\\u%04x", c);
        else
            putchar(c < 0x7f ? c : '?');
    }
    putchar('"');
}

static void print_json(const struct doctor_report *r)
{
    printf("[");
    for (size_t i = 0; i < r->count; i++) {
        const struct doctor_row *row = &r->rows[i];
        const char *const fields[][2] = {
            {"topic", row->topic},   {"state", doctor_state_name(row->state)},
            {"found", row->found},   {"cost", row->cost},
            {"change", row->change},
        };
        printf("%s\n  {", i ? "," : "");
        for (size_t k = 0; k < CLI_COUNT(fields); k++) {
            printf("%s\"%s\": ", k ? ", " : "", fields[k][0]);
            print_json_string(fields[k][1]);
        }
        printf("}");
    }
    printf("\n]\n");
}

static int line_width(void)
{
    struct winsize w;
    if (!isatty(STDOUT_FILENO) || ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) || w.ws_col < LINE_MIN)
        return LINE_DEFAULT;
    return w.ws_col;
}

// Prints text from column `indent` on, broken between words.
static void print_wrapped(const char *text, int indent, int width)
{
    int column = indent;
    while (*text) {
        int word = (int)strcspn(text, " ");
        if (column > indent && column + 1 + word > width) {
            printf("\n%*s", indent, "");
            column = indent;
        } else if (column > indent) {
            putchar(' ');
            column++;
        }
        printf("%.*s", word, text);
        column += word;
        text += word + (text[word] == ' ');
    }
    putchar('\n');
}

static void print_table(const struct doctor_report *r)
{
    static const char *const colours[] = {"\033[32m", "", "\033[33m", "\033[31m"};
    const char *no_color = getenv("NO_COLOR");
    bool coloured = isatty(STDOUT_FILENO) && !(no_color && *no_color);
    int indent = TOPIC_WIDTH + STATE_WIDTH, width = line_width();
    for (size_t i = 0; i < r->count; i++) {
        const struct doctor_row *row = &r->rows[i];
        printf("%-*s%s%-*s%s", TOPIC_WIDTH, row->topic, coloured ? colours[row->state] : "",
               STATE_WIDTH, doctor_state_name(row->state), coloured ? "\033[0m" : "");
        print_wrapped(row->found, indent, width);
        if (row->cost[0]) {
            printf("%*scost    ", indent, "");
            print_wrapped(row->cost, indent + 8, width);
        }
        if (row->change[0]) {
            printf("%*schange  ", indent, "");
            print_wrapped(row->change, indent + 8, width);
        }
    }
}

static int run(void *p, int argc, char **argv)
{
    const struct settings *s = p;
    if (argc)
        return cli_usage("\"%.60s\": doctor takes no operands", argv[0]);
    struct doctor_report *r = calloc(1, sizeof *r);
    if (!r)
        return cli_fail("out of memory");
    doctor_examine(r);
    if (s->json)
        print_json(r);
    else
        print_table(r);
    free(r);
    return CLI_OK;
}

const struct cli_command cmd_doctor = {
    .name = "doctor",
    .summary = "tell what this machine permits, what that costs, and how to change it",
    .details =
        "Opens events, maps rings, measures rates and traces a child of its own; changes "
        "nothing.\nEach line says ok, info, limited or no; `cost` is what a restriction means "
        "for profiles,\n`change` what lifts it.",
    .examples = "  fiberscope doctor\n  sudo fiberscope doctor   # what root could do",
    .options = options,
    .option_count = CLI_COUNT(options),
    .defaults = &defaults,
    .settings_size = sizeof defaults,
    .run = run,
};
