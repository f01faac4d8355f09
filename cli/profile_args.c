// SPDX-License-Identifier: MIT
//
// Input and output of the commands on profiles. See profile_args.h.

#include "cli/profile_args.h"

#include "base/file.h"
#include "collector/finish.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct profile_sink {
    struct file_replace file;
};

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n > m && !strcmp(s + n - m, end);
}

// The newest profile of the current folder, malloc'd; NULL if there is none.
static char *newest_profile(void)
{
    struct timespec best = {0};
    char *found = NULL;
    DIR *d = opendir(".");
    struct dirent *e;
    while (d && (e = readdir(d))) {
        struct stat st;
        if (!ends_with(e->d_name, ".pb.gz") || stat(e->d_name, &st) || !S_ISREG(st.st_mode))
            continue;
        bool newer = st.st_mtim.tv_sec > best.tv_sec ||
                     (st.st_mtim.tv_sec == best.tv_sec && st.st_mtim.tv_nsec > best.tv_nsec);
        if (!found || newer) {
            free(found);
            found = strdup(e->d_name);
            best = st.st_mtim;
        }
    }
    if (d)
        closedir(d);
    return found;
}

bool profile_is_trace(const char *path)
{
    char begin[5];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    ssize_t n = fd < 0 ? 0 : pread(fd, begin, sizeof begin, 0);
    if (fd >= 0)
        close(fd);
    return n == (ssize_t)sizeof begin && memcmp(begin, "go 1.", sizeof begin) == 0;
}

int profile_read(struct pprof_profile **out, const struct profile_args *a, const char *path)
{
    struct fscope_error err = {0};
    uint64_t salvaged = 0;
    struct pprof_read_options ro = {.size = sizeof ro,
                                    .inflated_max = a->inflated_max,
                                    .salvage = a->salvage,
                                    .salvaged_samples = &salvaged};
    if (strcmp(path, "-") != 0 ? file_keep_path(path) : file_keep(STDIN_FILENO))
        return cli_fail("out of memory");
    if (strcmp(path, "-") != 0 && finish_is_dump(path)) {
        if (finish_profile(path, NULL, out, &err))
            return cli_fail("%s", err.text);
        return 0;
    }
    if (profile_is_trace(path))
        return cli_fail_at(
            path, "an execution trace and no profile: `fiberscope trace FILE`, or "
                  "`fiberscope trace export --format=pprof -o OUT.pb.gz FILE` for a profile");
    int rc = pprof_read_file(out, path, &ro, &err);
    if (rc)
        return cli_fail("%s", err.text);
    if (salvaged)
        cli_note("%s: truncated; %llu whole sample%s read", path, (unsigned long long)salvaged,
                 salvaged == 1 ? " was" : "s were");
    else if (a->salvage && !(*out)->sample_count)
        cli_note("%s: no whole sample is in it", path);
    return 0;
}

// Reads n files and merges them. 0 or an exit status after a message.
static int read_all(struct pprof_profile **out, const struct profile_args *a, size_t n,
                    const char *const *paths)
{
    struct fscope_error err = {0};
    int status = CLI_OK;
    *out = NULL;
    struct pprof_profile **all = calloc(n, sizeof(struct pprof_profile *));
    if (!all)
        status = cli_fail("out of memory");
    for (size_t i = 0; i < n && !status; i++)
        status = profile_read(&all[i], a, paths[i]);
    if (!status && n == 1) {
        *out = all[0];
        all[0] = NULL;
    } else if (!status && pprof_merge(out, all, n, &err)) {
        status = cli_fail("%s", err.text);
    }
    for (size_t i = 0; all && i < n; i++)
        pprof_free(all[i]);
    free(all);
    return status;
}

static int subtract(struct pprof_profile **p, const struct profile_args *a)
{
    struct fscope_error err = {0};
    const struct cli_list *list = a->diff_base.count ? &a->diff_base : &a->base;
    unsigned how =
        (a->diff_base.count ? PPROF_LABEL_BASE : 0) | (a->normalize ? PPROF_NORMALIZE : 0);
    struct pprof_profile *source = *p, *base = NULL;
    *p = NULL;
    int status = read_all(&base, a, list->count, list->items);
    if (!status && pprof_subtract(p, source, base, how, &err))
        status = cli_fail("%s: cannot be compared: %s; a difference needs two profiles of one kind",
                          list->items[0], err.text);
    pprof_free(source);
    pprof_free(base);
    return status;
}

static int check_bases(const struct profile_args *a)
{
    if (a->base.count && a->diff_base.count)
        return cli_usage("--base and --diff_base exclude each other: --base subtracts an earlier "
                         "snapshot of the same process, --diff_base compares two runs");
    if (a->normalize && !a->base.count && !a->diff_base.count)
        return cli_usage("--normalize scales to a base profile and there is none: add --base=OLD "
                         "or --diff_base=OLD");
    return CLI_OK;
}

int profile_load(struct pprof_profile **out, const struct profile_args *a, int argc, char **argv)
{
    char *newest = NULL;
    *out = NULL;
    int status = check_bases(a);
    if (status)
        return status;
    if (!argc) {
        newest = newest_profile();
        if (!newest)
            return cli_fail("no FILE given, and this folder has no *.pb.gz; `fiberscope record "
                            "COMMAND` makes one");
        cli_note("%s (the newest profile here)", newest);
        argv = &newest;
        argc = 1;
    }
    status = read_all(out, a, (size_t)argc, (const char *const *)argv);
    if (!status && (a->base.count || a->diff_base.count))
        status = subtract(out, a);
    free(newest);
    return status;
}

static void warn(void *arg, const char *text)
{
    (void)arg;
    cli_note("%s", text);
}

int profile_report(struct report *r, struct pprof_profile *p, struct profile_args *a)
{
    struct fscope_error err = {0};
    a->report.cum_sort = !strcmp(a->sort, "cum");
    a->report.warn = warn;
    if (a->mean_delay) {
        a->report.mean = true;
        if (!a->report.sample_index)
            a->report.sample_index = "delay";
    }
    if (a->no_trim) {
        a->report.nodecount = 0;
        a->report.nodefraction = a->report.edgefraction = 0;
    }
    int rc = report_prepare(r, p, &a->report, &err);
    if (rc) {
        report_finish(r);
        bool users = rc == -EINVAL || rc == -ENOENT;
        return users ? cli_usage("%s", err.text) : cli_fail("%s", err.text);
    }
    return CLI_OK;
}

int profile_prepare(struct report *r, struct pprof_profile **p, struct profile_args *a, int argc,
                    char **argv)
{
    int status = profile_load(p, a, argc, argv);
    if (!status && (status = profile_report(r, *p, a))) {
        pprof_free(*p);
        *p = NULL;
    }
    return status;
}

int profile_output_open(struct profile_output *o, const char *path)
{
    struct fscope_error err = {0};
    *o = (struct profile_output){.out = stdout};
    if (!path || !strcmp(path, "-"))
        return 0;
    o->sink = calloc(1, sizeof *o->sink);
    if (!o->sink)
        return cli_fail("out of memory");
    if (file_begin(&o->sink->file, path, &err)) {
        free(o->sink);
        return cli_fail("%s", err.text);
    }
    int fd = dup(o->sink->file.fd); // fclose must not take the one that is committed
    o->out = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (!o->out) {
        file_abort(&o->sink->file);
        free(o->sink);
        return cli_fail("%s: %s", path, strerror(errno));
    }
    return 0;
}

int profile_output_close(struct profile_output *o, bool commit)
{
    struct fscope_error err = {0};
    int status = CLI_OK;
    if (!o->sink)
        return 0;
    bool broken = ferror(o->out) != 0;
    int rc = fclose(o->out) ? errno : 0;
    // Why an earlier write failed is lost; the next one fails for the same reason.
    if (broken && !rc)
        rc = write(o->sink->file.fd, "", 1) < 0 ? errno : EIO;
    if (rc || !commit) {
        status = rc ? cli_fail("%s: %s", o->sink->file.path, strerror(rc)) : CLI_OK;
        file_abort(&o->sink->file);
    } else if (file_commit(&o->sink->file, &err)) {
        status = cli_fail("%s", err.text);
    }
    free(o->sink);
    return status;
}
