// SPDX-License-Identifier: MIT
//
// Where profiles go: names, patterns, and whether they can be written there.

#include "collector/record_internal.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAME_BYTES = 128, EVENTS_LEAST = 2 };
#define DEFAULT_NAME "%e.%p.%k.pb.gz"
#define TRACE_NAME   "%e.%p." RECORD_TRACE_NAME

bool record_path_is_folder(const char *path)
{
    struct stat st;
    size_t n = strlen(path);
    return (n && path[n - 1] == '/') || (stat(path, &st) == 0 && S_ISDIR(st.st_mode));
}

// A target may call itself and its profiles what it likes; that must not lead out of the folder.
static void safe_name(char *out, size_t size, const char *program)
{
    snprintf(out, size, "%s", program[0] ? program : "profile");
    for (char *c = out; *c; c++)
        if (*c == '/' || (unsigned char)*c < ' ')
            *c = '_';
}

static int expand(char *path, size_t size, const char *pattern, const struct record_result *result,
                  const char *kind, struct fscope_error *err)
{
    size_t n = 0;
    for (const char *p = pattern; *p; p++) {
        char digits[16], name[NAME_BYTES], one[2] = {*p, '\0'};
        const char *add = one;
        if (*p == '%') {
            p++;
            safe_name(name, sizeof name, *p == 'k' ? kind : result->program);
            snprintf(digits, sizeof digits, "%u", result->pid);
            if (*p == 'e' || *p == 'k')
                add = name;
            else if (*p == 'p')
                add = digits;
            else if (*p != '%')
                return error_set(
                    err, -EINVAL, 0,
                    "-o %s: unknown %%%c; there are %%e (program), %%p (pid), %%k (kind)", pattern,
                    *p ? *p : ' ');
        }
        if (n + strlen(add) >= size)
            return error_set(err, -ENAMETOOLONG, 0, "-o %s: too long a path", pattern);
        strcpy(path + n, add);
        n += strlen(add);
    }
    path[n] = '\0';
    return 0;
}

static void cut_ending(char *path, const char *ending)
{
    size_t n = strlen(path), cut = strlen(ending);
    if (n > cut && strcmp(path + n - cut, ending) == 0)
        path[n - cut] = '\0';
}

int record_path(char *path, size_t size, const char *pattern, const struct record_result *result,
                const char *kind, struct fscope_error *err)
{
    char joined[PATH_MAX];
    bool is_trace = strcmp(kind, RECORD_TRACE_NAME) == 0;
    const char *default_name = is_trace ? TRACE_NAME : DEFAULT_NAME;
    if (!pattern || !*pattern)
        return expand(path, size, default_name, result, kind, err);
    int rc = expand(path, size, pattern, result, kind, err);
    if (!rc && is_trace && strstr(pattern, "%k"))
        cut_ending(path, ".pb.gz"); // no profile, whatever the pattern ends in
    if (rc || strcmp(path, "-") == 0 || !record_path_is_folder(path))
        return rc;
    size_t n = strlen(path);
    char name[NAME_MAX + 1];
    rc = expand(name, sizeof name, default_name, result, kind, err);
    if (rc)
        return rc;
    int length =
        snprintf(joined, sizeof joined, "%s%s%s", path, path[n - 1] == '/' ? "" : "/", name);
    if (length < 0 || (size_t)length >= sizeof joined || (size_t)length >= size)
        return error_set(err, -ENAMETOOLONG, 0, "-o %s: too long a path", pattern);
    strcpy(path, joined);
    return 0;
}

// "p.pb.gz" and "lifetime" to "p.lifetime.pb.gz", and beside the trace "p.trace" the same; names that have an ending of
// their own keep it.
static int insert_kind(char *path, size_t size, const char *kind)
{
    static const char *const endings[] = {".pb.gz", ".trace"};
    char name[NAME_BYTES];
    size_t n = strlen(path), at = n;
    for (int i = 0; i < 2; i++) {
        size_t cut = strlen(endings[i]);
        if (n > cut && strcmp(path + n - cut, endings[i]) == 0)
            at = n - cut;
    }
    safe_name(name, sizeof name, kind);
    int added = snprintf(path + at, size - at, ".%s%s", name, at < n ? endings[0] : "");
    return added < 0 || (size_t)added >= size - at ? -ENAMETOOLONG : 0;
}

int record_path_beside(char *path, size_t size, const char *pattern,
                       const struct record_result *result, const char *kind, const char *main_kind,
                       struct fscope_error *err)
{
    char main_path[PATH_MAX];
    struct stat st;
    int rc = record_path(main_path, sizeof main_path, pattern, result, main_kind, err);
    if (!rc)
        rc = record_path(path, size, pattern, result, kind, err);
    if (rc)
        return rc;
    size_t n = strlen(path), csv = strlen(".csv"), kind_n = strlen(kind);
    if (strcmp(path, main_path) == 0) {
        // Nothing can lie beside a pipe or a device.
        if (strcmp(path, "-") == 0 || (stat(path, &st) == 0 && !S_ISREG(st.st_mode))) {
            path[0] = '\0';
            return 0;
        }
        rc = insert_kind(path, size, kind);
        n = strlen(path);
    }
    if (rc)
        return error_set(err, rc, 0, "-o %s: too long a path", pattern);
    // A table is no profile, whatever the pattern ends in.
    if (kind_n > csv && strcmp(kind + kind_n - csv, ".csv") == 0 && n > 6 &&
        strcmp(path + n - 6, ".pb.gz") == 0)
        path[n - 6] = '\0';
    return 0;
}

int record_name_profiles(struct record_options *o, char *text, size_t size,
                         struct fscope_error *err)
{
    static const char ending[] = "." RECORD_TRACE_NAME;
    size_t n = o->output ? strlen(o->output) : 0, cut = sizeof ending - 1;
    bool is_name = n > cut && !strcmp(o->output + n - cut, ending) && !strstr(o->output, "%k") &&
                   !record_path_is_folder(o->output);
    if (!o->trace || !is_name)
        return 0;
    int length = snprintf(text, size, "%.*s.%%k.pb.gz", (int)(n - cut), o->output);
    if (length < 0 || (size_t)length >= size)
        return error_set(err, -ENAMETOOLONG, 0, "-o %s: too long a path", o->output);
    o->profiles = text;
    return 0;
}

// How many of the profiles that are asked for, with the trace, would be written to this path.
static int count_at(const struct record_options *o, const struct record_result *sample,
                    const char *path)
{
    char other[PATH_MAX];
    int n = 0;
    for (int kind = 0; kind < RECORD_KIND_COUNT; kind++)
        n += record_wants(o, kind) &&
             record_path(other, sizeof other, record_profiles(o), sample, record_kind_name(kind),
                         NULL) == 0 &&
             strcmp(other, path) == 0;
    // One for each kind of event; which there will be is not known yet.
    for (int event = 0; o->fiber_fraction && event < EVENTS_LEAST; event++)
        n += record_path(other, sizeof other, record_profiles(o), sample,
                         event ? "fiber-park" : "fiber-spawn", NULL) == 0 &&
             strcmp(other, path) == 0;
    n += o->trace &&
         record_path(other, sizeof other, o->output, sample, RECORD_TRACE_NAME, NULL) == 0 &&
         strcmp(other, path) == 0;
    return n;
}

static bool asks_for_folder(const char *pattern)
{
    size_t n = pattern ? strlen(pattern) : 0;
    return n && pattern[n - 1] == '/' && !strchr(pattern, '%');
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

static int fail_at_one(const struct record_options *o, int files, struct fscope_error *err)
{
    char profiles[32];
    if (o->fiber_fraction)
        return error_set(err, -EINVAL, 0,
                         "-o %s: each kind of fiber events has a profile of its own: name a folder "
                         "(one that is not there yet with / at its end), or use %%k in the name",
                         o->output);
    snprintf(profiles, sizeof profiles, "%d profiles", files - o->trace);
    return error_set(err, -EINVAL, 0,
                     "-o %s: %s%s need %d files: name a folder (one that is not there yet "
                     "with / at its end), or use %%k in the name%s",
                     o->output, files - o->trace == 1 ? "a profile" : profiles,
                     o->trace ? " and an execution trace" : "", files,
                     o->trace ? "; beside NAME.trace profiles have names of their own" : "");
}

int record_check_output(const struct record_options *o, struct fscope_error *err)
{
    struct record_result sample = {.program = "x", .pid = 1};
    char path[PATH_MAX];
    const char *done = o->pid || o->whole_machine || o->cgroup ? "recorded" : "started";
    int kind = 0;
    while (kind < RECORD_CUSTOM && !record_wants(o, kind))
        kind++;
    bool is_trace = o->trace && kind == RECORD_CUSTOM; // alone
    int rc = record_path(path, sizeof path, is_trace ? o->output : record_profiles(o), &sample,
                         is_trace ? RECORD_TRACE_NAME : record_kind_name(kind), err);
    if (rc)
        return rc;
    if (is_trace && (ends_with(path, ".pb.gz") || ends_with(path, ".pb")))
        return error_set(
            err, -EINVAL, 0,
            "-o %s: a profile's name, and with --trace alone a trace is written: name it "
            "%.*s.trace, or add --cpu and name a folder (with / at its end) for both",
            o->output, (int)(strstr(path, ".pb") - path), path);
    if (ends_with(path, ".svg"))
        return error_set(err, -EINVAL, 0,
                         "-o %s: a profile is written, no picture: name it %.*s.pb.gz, and then "
                         "`fiberscope flame -o %s` draws it",
                         o->output, (int)(strlen(path) - 4), path, o->output);
    int n = count_at(o, &sample, path);
    if (n > 1)
        return fail_at_one(o, n, err);
    if (strcmp(path, "-") == 0)
        return 0;
    char *slash = strrchr(path, '/');
    const char *folder = slash == path ? "/" : slash ? path : ".";
    if (slash)
        *slash = '\0';
    struct stat st;
    bool is_device = slash && (*slash = '/', stat(path, &st) == 0) && !S_ISREG(st.st_mode);
    if (is_device)
        return 0;
    if (slash && slash != path)
        *slash = '\0';
    // "-o NAME/" asks for a folder; what is in it has its own name.
    bool is_made = asks_for_folder(o->output) && mkdir(folder, 0777) == 0;
    if (!is_made && stat(folder, &st))
        return error_set(err, -errno, 0, "%s: %s; nothing was %s", folder, strerror(errno), done);
    if (!is_made && !S_ISDIR(st.st_mode))
        return error_set(err, -ENOTDIR, 0, "-o %s: %s is a file, not a folder; nothing was %s",
                         o->output, folder, done);
    if (access(folder, W_OK | X_OK))
        return error_set(err, -errno, 0, "%s: %s; nothing was %s%s",
                         strcmp(folder, ".") == 0 ? "the current folder" : folder, strerror(errno),
                         done, o->output ? "" : " (-o FILE writes elsewhere)");
    return 0;
}
