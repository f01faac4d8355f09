// SPDX-License-Identifier: MIT
//
// From builders to files: which there are, their symbols, and what could not be written.

#include "collector/record_internal.h"

#include "base/file.h"
#include "collector/lock_names.h"
#include "collector/record_trace.h"
#include "collector/symbolize.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    LOSSES_BYTES = 1024,
    CUSTOM_MAX = 64, // profiles of one recording: a hostile target must not fill the folder
};
static int mapping_fd(void *arg, const struct pprof_mapping *m)
{
    int fd;
    uint32_t pid;
    uint64_t device, inode;
    return m->id && builder_file(arg, m->id - 1, &fd, &pid, &device, &inode) ? fd : -1;
}

void record_symbolize(struct builder *b, struct pprof_profile *p, uint32_t pid, char *summary,
                      size_t size)
{
    struct fscope_error why = {0};
    struct symbolize_stats *stats = calloc(1, sizeof *stats);
    summary[0] = '\0';
    if (!stats)
        return;
    struct symbolize_options so = {
        .size = sizeof so,
        .mapping_fd = mapping_fd,
        .arg = b,
        .pid = (pid_t)pid,
    };
    // Addresses without names are better than no profile.
    if (symbolize_profile(p, &so, stats, &why) == 0)
        symbolize_summary(stats, summary, size);
    else
        snprintf(summary, size, "without names: %s", why.text);
    free(stats);
}

int record_make_profile(struct record_result *result, enum record_kind kind, const char *part,
                        struct pprof_profile **out, struct fscope_error *err)
{
    char summary[512];
    struct builder *b = result->builders[kind];
    const struct builder_view view = {.part = part};
    if (lock_names_find(b, true, result->pid) ||
        builder_finish_view(b, &view, result->duration_ns, out))
        return error_set(err, -ENOMEM, 0, "out of memory; the profile was not written");
    record_symbolize(b, *out, result->pid, summary, sizeof summary);
    return 0;
}

struct writing { // of one part of one kind
    const struct record_options *o;
    struct record_result *result;
    enum record_kind kind;
    const char *part;      // "" or the builder's part
    const char *name;      // for %k
    const char *main_name; // of the kind that this one comes beside; NULL: none
    struct fscope_error *err;
    char path[PATH_MAX];
    char summary[512];
    uint32_t files;
};

// The recording cannot be had again: where its place has no room it goes into a folder of its own under
// $TMPDIR, and the error, which it stays, says where.
static void keep_elsewhere(struct writing *w, const struct pprof_profile *p)
{
    const char *tmp = getenv("TMPDIR"), *slash = strrchr(w->path, '/');
    char folder[PATH_MAX], kept[PATH_MAX];
    struct fscope_error unused, first = w->err ? *w->err : (struct fscope_error){0};
    int n = snprintf(folder, sizeof folder, "%s/fiberscope-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (!w->err || strcmp(w->path, "-") == 0 || n < 0 || (size_t)n >= sizeof folder ||
        !mkdtemp(folder))
        return;
    n = snprintf(kept, sizeof kept, "%s/%s", folder, slash ? slash + 1 : w->path);
    if (n < 0 || (size_t)n >= sizeof kept || pprof_write_file(p, kept, &unused))
        rmdir(folder);
    else
        error_set(w->err, first.code, 0, "%.240s; it is kept as %s", first.text, kept);
}

// Where it goes; "" for nowhere.
static int find_path(struct writing *w, const struct record_result *named)
{
    return w->main_name ? record_path_beside(w->path, sizeof w->path, record_profiles(w->o), named,
                                             w->name, w->main_name, w->err)
                        : record_path(w->path, sizeof w->path, record_profiles(w->o), named,
                                      w->name, w->err);
}

// only_pid 0: all processes in one file.
static int write_one(struct writing *w, const struct record_result *named, uint32_t only_pid)
{
    struct pprof_profile *p = NULL;
    struct builder *b = w->result->builders[w->kind];
    const struct builder_view view = {.pid = only_pid, .part = w->part};
    int rc = find_path(w, named);
    if (rc || !w->path[0])
        return rc;
    rc = builder_finish_view(b, &view, w->result->duration_ns, &p);
    if (rc)
        return error_set(w->err, rc, 0, "%s: out of memory; the profile was not written", w->path);
    if (strcmp(w->part, BUILDER_LIFETIME) == 0 && w->kind == RECORD_HEAP)
        pprof_add_comment(p, "lifetime: the longest that objects of this bucket may have lived; of "
                             "the last bucket, which has no bound, the shortest");
    if (w->o->symbolize)
        record_symbolize(b, p, named->pid, w->summary, sizeof w->summary);
    rc = pprof_write_file(p, w->path, w->err);
    if (rc == -ENOSPC || rc == -EDQUOT || rc == -EFBIG)
        keep_elsewhere(w, p);
    pprof_free(p);
    w->files += !rc;
    return rc;
}

static int write_pid(void *arg, uint32_t pid, const char *name)
{
    struct writing *w = arg;
    struct record_result named = {.pid = pid};
    snprintf(named.program, sizeof named.program, "%s", *name ? name : w->result->program);
    return write_one(w, &named, pid);
}

static int write_part(struct writing *w)
{
    int rc = 0;
    // Who writes %p in -o wants a file per process; the default name has it too, and is one file.
    if (w->o->output && strstr(w->o->output, "%p"))
        rc = builder_each_pid(w->result->builders[w->kind], write_pid, w);
    if (!rc && w->files == 0)
        rc = write_one(w, w->result, 0);
    if (!rc && w->files > 1)
        snprintf(w->path, sizeof w->path, "%s (%u files)", record_profiles(w->o), w->files);
    const struct record_written written = {.kind = w->kind,
                                           .part = w->part,
                                           .path = w->path,
                                           .files = w->files,
                                           .without_symbols = w->summary};
    if (!rc && !w->o->quiet && w->files)
        record_say_closing(w->o, w->result, &written);
    return rc;
}

// What an exact heap has beside its profile.
static int write_heap_extras(const struct record_options *o, struct record_result *result,
                             struct fscope_error *err)
{
    struct builder_heap_totals totals;
    struct writing w = {
        .o = o,
        .result = result,
        .kind = RECORD_HEAP,
        .part = BUILDER_LIFETIME,
        .name = BUILDER_LIFETIME,
        .main_name = record_kind_name(RECORD_HEAP),
        .err = err,
    };
    struct builder_growth growth;
    builder_get_heap(result->builders[RECORD_HEAP], &totals);
    bool is_growth = builder_get_growth(result->builders[RECORD_HEAP], &growth);
    int rc = totals.is_exact && !is_growth ? write_part(&w) : 0;
    if (rc || result->series.count == 0)
        return rc;
    w.name = "heap-series.csv";
    rc = find_path(&w, result);
    if (rc || !w.path[0])
        return rc;
    rc = series_write(&result->series, w.path, 0, err);
    if (!rc && !o->quiet)
        record_say_series(o, result, w.path);
    return rc;
}

struct custom_parts {
    const struct record_options *o;
    struct record_result *result;
    struct fscope_error *err;
    uint32_t count;
    int first;
};

static int write_custom(void *arg, const char *part)
{
    struct custom_parts *c = arg;
    char name[128];
    const char *main_name = NULL;
    bool is_taken = strcmp(part, BUILDER_LIFETIME) == 0;
    if (c->count == CUSTOM_MAX) {
        if (!c->o->quiet)
            fprintf(c->o->messages,
                    "fiberscope: more than %d custom profiles; the rest is not written\n",
                    CUSTOM_MAX);
        return 1;
    }
    for (int kind = 0; kind < RECORD_CUSTOM; kind++) {
        is_taken = is_taken || (kind != RECORD_GROWTH && strcmp(part, record_kind_name(kind)) == 0);
        if (c->result->builders[kind] && !main_name)
            main_name = record_kind_name(kind);
    }
    snprintf(name, sizeof name, "%s%.100s", is_taken ? "custom-" : "", part);
    struct writing w = {
        .o = c->o,
        .result = c->result,
        .kind = RECORD_CUSTOM,
        .part = part,
        .name = name,
        .main_name = main_name     ? main_name
                     : c->o->trace ? RECORD_TRACE_NAME
                     : c->count    ? "custom"
                                   : NULL,
        .err = c->first ? NULL : c->err,
    };
    int rc = write_part(&w);
    c->first = c->first ? c->first : rc;
    c->count++;
    return 0;
}

static int write_kind(const struct record_options *o, struct record_result *result,
                      enum record_kind kind, struct fscope_error *err)
{
    struct builder *b = result->builders[kind];
    if (lock_names_find(b, o->symbolize, result->pid))
        return error_set(err, -ENOMEM, 0, "out of memory; the profile was not written");
    if (kind == RECORD_CUSTOM) {
        struct custom_parts c = {.o = o, .result = result, .err = err};
        builder_each_part(b, write_custom, &c);
        if (!c.count && o->fiber_fraction && !o->quiet)
            fputs("fiberscope: no fiber events were seen, so there is no profile of them: no fiber "
                  "of "
                  "it began, waited or ended\n",
                  o->messages);
        return c.first;
    }
    struct writing w = {.o = o,
                        .result = result,
                        .kind = kind,
                        .part = "",
                        .name = record_kind_name((int)kind),
                        .main_name = kind == RECORD_GROWTH ? record_kind_name(RECORD_HEAP) : NULL,
                        .err = err};
    int rc = write_part(&w);
    return rc || kind != RECORD_HEAP ? rc : write_heap_extras(o, result, err);
}

static void comment_losses(struct record_result *result)
{
    char text[LOSSES_BYTES + 32], losses[LOSSES_BYTES];
    for (int kind = 0; kind < RECORD_KIND_COUNT; kind++) {
        struct builder_stats st;
        if (!result->builders[kind])
            continue;
        builder_get_stats(result->builders[kind], &st);
        if (st.lost) {
            snprintf(text, sizeof text, "dropped: %" PRIu64 " %s", st.lost,
                     st.lost == 1 ? "sample or damaged entry" : "samples or damaged entries");
            builder_comment(result->builders[kind], text);
        }
        record_losses_text((enum record_kind)kind, &st, true, losses, sizeof losses);
        if (losses[0]) {
            snprintf(text, sizeof text, "losses: %s", losses);
            builder_comment(result->builders[kind], text);
        }
        if (kind == RECORD_CPU && result->rate_note[0]) {
            snprintf(text, sizeof text, "rate: %s", result->rate_note);
            builder_comment(result->builders[kind], text);
        }
    }
}

static void print_warnings(const struct record_options *o, const char *lines)
{
    while (*lines && !o->quiet) {
        int n = (int)strcspn(lines, "\n");
        fprintf(o->messages, "fiberscope: %.*s\n", n, lines);
        lines += n + (lines[n] == '\n');
    }
}

int record_write(const struct record_options *o, struct record_result *result,
                 struct fscope_error *err)
{
    int first = 0;
    struct fscope_error spare;
    // A file over RLIMIT_FSIZE is then an error that can be told instead of our death.
    struct sigaction ignore = {.sa_handler = SIG_IGN}, old;
    sigaction(SIGXFSZ, &ignore, &old);
    comment_losses(result);
    print_warnings(o, result->warning);
    if (result->earlier[0] && !o->quiet)
        fprintf(o->messages, "fiberscope: %s\n", result->earlier);
    for (int kind = 0; kind < RECORD_KIND_COUNT; kind++) {
        if (!result->builders[kind])
            continue;
        int rc = write_kind(o, result, (enum record_kind)kind, first ? &spare : err);
        first = first ? first : rc;
    }
    sigaction(SIGXFSZ, &old, NULL);
    int rc = record_trace_report(o, result, first ? &spare : err);
    return first ? first : rc;
}
