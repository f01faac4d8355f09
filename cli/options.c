// SPDX-License-Identifier: MIT
//
// Parsing against the option table. See options.h for the grammar.
//
// Invariant: argv is hostile. Nothing is copied into fixed buffers, and comparing names is bounded
// by NEAREST_LENGTH_MAX, however long the words are.

#include "cli/options.h"

#include "base/nearest.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *cli_nearest(const char *what, const char *const *words, size_t count)
{
    return nearest_word(what, words, count);
}

static bool takes_value(enum cli_option_type t)
{
    return t != CLI_TYPE_FLAG && t != CLI_TYPE_SET && t != CLI_TYPE_OPTIONAL;
}

static const struct cli_option *find_option(const struct cli_command *cmd, const char *name,
                                            size_t length)
{
    for (size_t i = 0; i < cmd->option_count; i++) {
        const struct cli_option *o = &cmd->options[i];
        if (!strncmp(o->name, name, length) && !o->name[length])
            return o;
        if (length == 1 && o->short_name && o->short_name == name[0])
            return o;
    }
    return NULL;
}

static const char *nearest_option(const struct cli_command *cmd, const char *name, size_t length)
{
    const char *names[128];
    char typed[NEAREST_LENGTH_MAX + 1];
    size_t n = 0;
    if (length > NEAREST_LENGTH_MAX)
        return NULL;
    memcpy(typed, name, length);
    typed[length] = 0;
    for (size_t i = 0; i < cmd->option_count && n + 1 < CLI_COUNT(names); i++)
        names[n++] = cmd->options[i].name;
    names[n++] = "help";
    return cli_nearest(typed, names, n);
}

static int parse_bool(const char *text, bool *out)
{
    static const char *const yes[] = {"true", "1", "t", "yes", "y"};
    static const char *const no[] = {"false", "0", "f", "no", "n"};
    for (size_t i = 0; i < CLI_COUNT(yes); i++) {
        if (!strcasecmp(text, yes[i]) || !strcasecmp(text, no[i])) {
            *out = !strcasecmp(text, yes[i]);
            return 0;
        }
    }
    return -EINVAL;
}

// A double that is the whole of text[0..*end), finite and not negative; strtod alone would take
// white space, hexadecimal and "nan".
static int parse_amount(const char *text, const char **end, double *out)
{
    if (!isdigit((unsigned char)text[0]) && text[0] != '.')
        return -EINVAL;
    if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X'))
        return -EINVAL;
    char *stop;
    *out = strtod(text, &stop);
    *end = stop;
    return stop == text || !isfinite(*out) ? -EINVAL : 0;
}

int cli_parse_duration(const char *text, int64_t *ns)
{
    static const struct {
        const char *name;
        double ns;
    } units[] = {{"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"m", 60e9}, {"h", 3600e9}};
    double total = 0;
    const char *p = text;
    do {
        double v;
        const char *end;
        if (parse_amount(p, &end, &v))
            return -EINVAL;
        if (!*end && p == text) {
            total = v * 1e9; // a bare number
            break;
        }
        size_t length = strcspn(end, "0123456789."), i = 0;
        while (i < CLI_COUNT(units) &&
               (strlen(units[i].name) != length || strncmp(units[i].name, end, length) != 0))
            i++;
        if (i == CLI_COUNT(units))
            return -EINVAL;
        total += v * units[i].ns;
        p = end + length;
    } while (*p);
    if (!(total < 9.2e18))
        return -EINVAL;
    *ns = (int64_t)total;
    return 0;
}

int cli_parse_trace_version(const char *text, uint32_t *version)
{
    *version = text && strcmp(text, "1.26") == 0 ? 26 : 23;
    return !text || *version == 26 || strcmp(text, "1.23") == 0 ? 0 : -EINVAL;
}

int cli_parse_size(const char *text, uint64_t *bytes)
{
    static const char letters[] = "kmgt";
    const char *end;
    double v;
    if (parse_amount(text, &end, &v))
        return -EINVAL;
    const char *letter = *end ? strchr(letters, tolower((unsigned char)*end)) : NULL;
    if (letter) {
        for (const char *l = letters; l <= letter; l++)
            v *= 1024;
        end++;
        if (*end == 'i')
            end++;
    }
    if (*end == 'b' || *end == 'B')
        end++;
    if (*end || !(v < 1.8e19))
        return -EINVAL;
    *bytes = (uint64_t)v;
    return 0;
}

static int bad_value(const struct cli_option *o, const char *value, const char *wanted,
                     struct fscope_error *err)
{
    return error_set(err, -EINVAL, 0, "--%s: \"%.60s\" is not %s", o->name, value, wanted);
}

static int not_a_process(const struct cli_option *o, const char *value, struct fscope_error *err)
{
    return error_set(err, -EINVAL, 0,
                     "--%s: \"%.60s\" is not the number of a process: see `pgrep -l %.60s`",
                     o->name, value, value);
}

static bool word_in(const char *words, const char *value)
{
    size_t length = strlen(value);
    for (const char *w = words; *w;) {
        size_t n = strcspn(w, " ");
        if (n == length && !strncmp(w, value, n))
            return true;
        w += n + (w[n] != 0);
    }
    return false;
}

static int append(struct cli_list *list, const char *value, struct fscope_error *err)
{
    const char **grown = realloc(list->items, (list->count + 1) * sizeof *grown);
    if (!grown)
        return error_set(err, -ENOMEM, 0, "out of memory");
    list->items = grown;
    list->items[list->count++] = value;
    return 0;
}

static int store_number(const struct cli_option *o, void *field, const char *value,
                        struct fscope_error *err)
{
    char *end;
    errno = 0;
    bool plain = isdigit((unsigned char)value[0]) || value[0] == '-' || value[0] == '.';
    if (o->type == CLI_TYPE_INT) {
        long long v = strtoll(value, &end, 10);
        if (!plain || end == value || *end || errno)
            return bad_value(o, value, "a whole number", err);
        *(int64_t *)field = v;
    } else if (o->type == CLI_TYPE_UINT) {
        unsigned long long v = strtoull(value, &end, 10);
        if (!plain || value[0] == '-' || end == value || *end || errno)
            return isalpha((unsigned char)value[0]) && !strcmp(o->argument, "PID")
                       ? not_a_process(o, value, err)
                       : bad_value(o, value, "a whole number from 0", err);
        *(uint64_t *)field = v;
    } else {
        double v = strtod(value, &end);
        if (!plain || end == value || *end || !isfinite(v))
            return bad_value(o, value, "a number", err);
        *(double *)field = v;
    }
    return 0;
}

// value is NULL where none was given (flags, sets, optional values).
static int store(const struct cli_option *o, void *settings, const char *value,
                 struct fscope_error *err)
{
    void *field = (char *)settings + o->offset;
    switch (o->type) {
    case CLI_TYPE_FLAG:
        *(bool *)field = true;
        if (value && parse_bool(value, field))
            return bad_value(o, value, "true or false", err);
        return 0;
    case CLI_TYPE_SET:
        if (value) {
            bool on = true;
            if (parse_bool(value, &on) || !on)
                return error_set(err, -EINVAL, 0, "--%s takes no value", o->name);
        }
        *(const char **)field = o->words;
        return 0;
    case CLI_TYPE_STRING: *(const char **)field = value; return 0;
    case CLI_TYPE_OPTIONAL: *(const char **)field = value ? value : ""; return 0;
    case CLI_TYPE_LIST: return append(field, value, err);
    case CLI_TYPE_CHOICE:
        if (!word_in(o->words, value))
            return error_set(err, -EINVAL, 0, "--%s: \"%.60s\" is none of: %s", o->name, value,
                             o->words);
        *(const char **)field = value;
        return 0;
    case CLI_TYPE_DURATION:
        if (cli_parse_duration(value, field))
            return bad_value(o, value, "a duration such as 30s, 500ms or 1m30s", err);
        return 0;
    case CLI_TYPE_SIZE:
        if (cli_parse_size(value, field))
            return bad_value(o, value, "a size such as 4096, 64k or 4GiB", err);
        return 0;
    case CLI_TYPE_INT:
    case CLI_TYPE_UINT:
    case CLI_TYPE_REAL: return store_number(o, field, value, err);
    }
    return -EINVAL;
}

static int unknown_option(const struct cli_command *cmd, const char *word, const char *name,
                          size_t length, struct fscope_error *err)
{
    const char *near = nearest_option(cmd, name, length);
    int shown = length > 60 ? 60 : (int)length;
    const char *dashes = name - word == 2 ? "--" : "-";
    if (!dashes[1] && strspn(name, "0123456789.") == length)
        return error_set(err, -EINVAL, 0,
                         "\"-%.*s\" is read as an option, and there is none of that name; a number "
                         "below 0 means nothing here",
                         shown, name);
    if (near)
        return error_set(err, -EINVAL, 0, "there is no option %s%.*s; did you mean --%s?", dashes,
                         shown, name, near);
    return error_set(err, -EINVAL, 0, "there is no option %s%.*s", dashes, shown, name);
}

// One option at argv[*i]; *i moves to the last word that belongs to it.
static int parse_option(const struct cli_command *cmd, int argc, char **argv, int *i,
                        void *settings, bool *help, struct fscope_error *err)
{
    const char *name = argv[*i] + (argv[*i][1] == '-' ? 2 : 1);
    size_t length = strcspn(name, "=");
    const char *value = name[length] ? name + length + 1 : NULL;
    const struct cli_option *o = find_option(cmd, name, length);
    if (!o && ((length == 4 && !strncmp(name, "help", 4)) || (length == 1 && *name == 'h'))) {
        *help = true;
        return 0;
    }
    if (!o && length > 1 && !value && strspn(name + 1, "0123456789") == length - 1) {
        o = find_option(cmd, name, 1); // -F999
        value = name + 1;
        if (o && !takes_value(o->type))
            o = NULL;
    }
    if (!o)
        return unknown_option(cmd, argv[*i], name, length, err);
    if (takes_value(o->type) && !value) {
        if (*i + 1 >= argc)
            return error_set(err, -EINVAL, 0, "--%s needs a value: --%s=%s", o->name, o->name,
                             o->argument);
        value = argv[++*i];
    }
    return store(o, settings, value, err);
}

int cli_parse(const struct cli_command *cmd, int argc, char **argv, void *settings,
              int *operand_count, bool *help, struct fscope_error *err)
{
    int operands = 0, i = 0;
    *help = false;
    for (; i < argc && !*help; i++) {
        const char *a = argv[i];
        if (a[0] != '-' || !a[1]) {
            argv[operands++] = argv[i];
            if (cmd->flags & CLI_STOP_AT_OPERAND) {
                i++;
                break;
            }
            continue;
        }
        if (!strcmp(a, "--")) {
            if (cmd->flags & CLI_KEEP_DASHES)
                argv[operands++] = argv[i];
            i++;
            break;
        }
        int rc = parse_option(cmd, argc, argv, &i, settings, help, err);
        if (rc)
            return rc;
    }
    while (i < argc && !*help)
        argv[operands++] = argv[i++];
    *operand_count = operands;
    return 0;
}

void cli_settings_free(const struct cli_command *cmd, void *settings)
{
    for (size_t i = 0; settings && i < cmd->option_count; i++) {
        if (cmd->options[i].type == CLI_TYPE_LIST) {
            struct cli_list *list = (void *)((char *)settings + cmd->options[i].offset);
            free(list->items);
            *list = (struct cli_list){0};
        }
    }
}
