// SPDX-License-Identifier: MIT
//
// What the files are called that are made of a dump where no name is given: as the dump is, so that those of several
// copies of one process lie side by side, and as no file is that is there already.

#include "collector/finish.h"

#include "base/file.h"
#include "collector/record_internal.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NUMBER_MAX = 10000 };
static const char copy[] = ".copy";

// ".copyN", as the agent names copies of a flight recorder; else "".
static const char *find_copy(const char *dump)
{
    const char *base = file_base_name(dump), *at = strrchr(base, '.');
    size_t digits = at && !strncmp(at, copy, sizeof copy - 1) ? strlen(at + sizeof copy - 1) : 0;
    return digits && strspn(at + sizeof copy - 1, "0123456789") == digits ? at : "";
}

struct naming {
    const struct record_result *result;
    const char *pattern;
};

static int is_there(const struct naming *n, const char *kind)
{
    char path[PATH_MAX];
    return !record_path(path, sizeof path, n->pattern, n->result, kind, NULL) &&
           access(path, F_OK) == 0;
}

static int see_part(void *arg, const char *part)
{
    return is_there(arg, part);
}

// Whether any of the files is there.
static bool is_taken(const struct record_options *o, struct naming *n)
{
    bool is = o->trace && is_there(n, RECORD_TRACE_NAME);
    for (int kind = 0; kind < RECORD_CUSTOM; kind++)
        is = is || (n->result->builders[kind] && is_there(n, record_kind_name(kind)));
    struct builder *custom = n->result->builders[RECORD_CUSTOM];
    return is || (custom && builder_each_part(custom, see_part, n));
}

// A program may have % in its name.
static int make_pattern(char *text, size_t size, const char *folder, const char *stem,
                        const char *part, unsigned number)
{
    size_t n = strlen(folder);
    char escaped[2 * PATH_MAX], digits[16] = "", *to = escaped;
    for (const char *c = stem; *c; c++) {
        *to++ = *c;
        if (*c == '%')
            *to++ = '%';
    }
    *to = '\0';
    if (number > 1)
        snprintf(digits, sizeof digits, ".%u", number);
    int length = snprintf(text, size, "%s%s%s%s%s.%%k.pb.gz", folder,
                          n && folder[n - 1] != '/' ? "/" : "", escaped, part, digits);
    return length < 0 || (size_t)length >= size ? -ENAMETOOLONG : 0;
}

int finish_name(const char *dump, struct record_options *o, const struct record_result *result,
                char *text, size_t size, struct fscope_error *err)
{
    char stem[PATH_MAX];
    const char *part = find_copy(dump);
    bool is_folder = o->output && !strchr(o->output, '%') && record_path_is_folder(o->output);
    if (o->output && !(is_folder && *part)) // a folder's files are named otherwise by who cares
        return 0;
    if (is_folder)
        mkdir(o->output, 0777); // as record_check_output, which tells of errors
    struct naming n = {.result = result, .pattern = text};
    // The program's name is made safe there.
    int rc = record_path(stem, sizeof stem, NULL, result, record_kind_name(RECORD_CPU), err);
    if (!rc)
        stem[strlen(stem) - (sizeof ".cpu.pb.gz" - 1)] = '\0';
    for (unsigned number = 1; !rc && number < NUMBER_MAX; number++) {
        rc = make_pattern(text, size, o->output ? o->output : "", stem, part, number);
        if (rc)
            return error_set(err, rc, 0, "%s: too long a name for what is made of it", dump);
        if (!o->output && is_taken(o, &n))
            continue;
        if (*part || number > 1)
            o->output = text;
        return 0;
    }
    return rc ? rc
              : error_set(err, -EEXIST, 0,
                          "%s.*: %d files of it are there; -o FILE writes elsewhere", stem,
                          NUMBER_MAX);
}
