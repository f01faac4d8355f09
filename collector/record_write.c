// SPDX-License-Identifier: MIT
//
// From builders to files: paths, symbols, and the closing lines that say what is in them.

#include "collector/record_internal.h"

#include "base/file.h"
#include "collector/symbolize.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LOSSES_BYTES = 1024 };
static const char *const kind_names[] = {"cpu", "wall"};
#define DEFAULT_NAME "%e.%p.%k.pb.gz"

static bool is_folder(const char *path)
{
    struct stat st;
    size_t n = strlen(path);
    return (n && path[n - 1] == '/') || (stat(path, &st) == 0 && S_ISDIR(st.st_mode));
}

// A target may call itself what it likes; that must not lead out of the folder.
static void safe_name(char *out, size_t size, const char *program)
{
    snprintf(out, size, "%s", program[0] ? program : "profile");
    for (char *c = out; *c; c++)
        if (*c == '/' || (unsigned char)*c < ' ')
            *c = '_';
}

static int expand(char *path, size_t size, const char *pattern, const struct record_result *result,
                  enum record_kind kind, struct fscope_error *err)
{
    size_t n = 0;
    for (const char *p = pattern; *p; p++) {
        char digits[16], name[sizeof result->program], one[2] = {*p, '\0'};
        const char *add = one;
        if (*p == '%') {
            p++;
            safe_name(name, sizeof name, result->program);
            snprintf(digits, sizeof digits, "%u", result->pid);
            if (*p == 'e')
                add = name;
            else if (*p == 'p')
                add = digits;
            else if (*p == 'k')
                add = kind_names[kind];
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

int record_path(char *path, size_t size, const char *pattern, const struct record_result *result,
                enum record_kind kind, struct fscope_error *err)
{
    char joined[PATH_MAX];
    if (!pattern || !*pattern)
        return expand(path, size, DEFAULT_NAME, result, kind, err);
    int rc = expand(path, size, pattern, result, kind, err);
    if (rc || strcmp(path, "-") == 0 || !is_folder(path))
        return rc;
    size_t n = strlen(path);
    char name[NAME_MAX + 1];
    rc = expand(name, sizeof name, DEFAULT_NAME, result, kind, err);
    if (rc)
        return rc;
    int length =
        snprintf(joined, sizeof joined, "%s%s%s", path, path[n - 1] == '/' ? "" : "/", name);
    if (length < 0 || (size_t)length >= sizeof joined || (size_t)length >= size)
        return error_set(err, -ENAMETOOLONG, 0, "-o %s: too long a path", pattern);
    strcpy(path, joined);
    return 0;
}

int record_check_output(const struct record_options *o, struct fscope_error *err)
{
    struct record_result sample = {.program = "x", .pid = 1};
    char path[PATH_MAX], other[PATH_MAX];
    int rc = record_path(path, sizeof path, o->output, &sample, RECORD_CPU, err);
    if (!rc)
        rc = record_path(other, sizeof other, o->output, &sample, RECORD_WALL, err);
    if (rc)
        return rc;
    if (o->cpu_hz && o->wall_hz && strcmp(path, other) == 0)
        return error_set(
            err, -EINVAL, 0,
            "-o %s: two profiles need two files: name a folder, or use %%k in the name", o->output);
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
    if (stat(folder, &st))
        return error_set(err, -errno, 0, "%s: %s; nothing was started", folder, strerror(errno));
    if (access(folder, W_OK | X_OK))
        return error_set(err, -errno, 0,
                         "%s: %s; nothing was started (-o FILE writes the profile elsewhere)",
                         strcmp(folder, ".") == 0 ? "the current folder" : folder, strerror(errno));
    return 0;
}

static int mapping_fd(void *arg, const struct pprof_mapping *m)
{
    int fd;
    uint32_t pid;
    uint64_t device, inode;
    return m->id && builder_file(arg, m->id - 1, &fd, &pid, &device, &inode) ? fd : -1;
}

static void say_count(FILE *out, uint64_t n)
{
    if (n >= 1000)
        say_count(out, n / 1000), fprintf(out, ",%03" PRIu64, n % 1000);
    else
        fprintf(out, "%" PRIu64, n);
}

static void say_closing(const struct record_options *o, const struct record_result *result,
                        enum record_kind kind, const char *path, uint32_t files,
                        const char *without_symbols)
{
    struct builder_stats st;
    FILE *out = o->messages;
    builder_get_stats(result->builders[kind], &st);
    fputs("fiberscope: ", out);
    say_count(out, st.samples);
    fprintf(out, " %s sample%s (%.2f s) in %.2f s", kind_names[kind], st.samples == 1 ? "" : "s",
            (double)st.ns / 1e9, (double)result->duration_ns / 1e9);
    if (st.processes > 1)
        fprintf(out, ", %u processes", st.processes);
    fputs(", ", out);
    say_count(out, st.lost);
    fputs(" dropped", out);
    if (st.truncated)
        fprintf(out, ", %" PRIu64 " cut at %d frames", st.truncated, SEG_STACK_DEPTH_MAX);
    fprintf(out, "; wrote %s\n", path);
    char losses[LOSSES_BYTES];
    if (kind == RECORD_CPU && result->rate_note[0])
        st.losses.collapsed = 0; // the line about the rate says it, with the reason
    record_losses_text(&st, false, losses, sizeof losses);
    if (losses[0])
        fprintf(out, "fiberscope: %s; the sums hold them\n", losses);
    if (without_symbols[0])
        fprintf(out, "fiberscope: %s\n", without_symbols);
    if (kind == RECORD_CPU && result->rate_note[0])
        fprintf(out, "fiberscope: %s\n", result->rate_note);
    if (st.samples == 0)
        fprintf(out,
                "fiberscope: no samples: the program used less CPU time than one period; try a "
                "higher rate (-F 999)%s\n",
                kind == RECORD_CPU ? " or --wall" : "");
    else if (files == 1 && strcmp(path, "-") != 0)
        fprintf(out, "fiberscope: next: fiberscope top %s\n", path);
}

const char *record_kind_name(int kind)
{
    return kind_names[kind];
}

// Symbolizes in place; summary gets one line on what has no names.
static void symbolize(struct record_result *result, enum record_kind kind, struct pprof_profile *p,
                      uint32_t pid, char *summary, size_t size)
{
    struct fscope_error why = {0};
    struct symbolize_stats *stats = calloc(1, sizeof *stats);
    if (!stats)
        return;
    struct symbolize_options so = {
        .size = sizeof so,
        .mapping_fd = mapping_fd,
        .arg = result->builders[kind],
        .pid = (pid_t)pid,
    };
    // Addresses without names are better than no profile.
    if (symbolize_profile(p, &so, stats, &why) == 0)
        symbolize_summary(stats, summary, size);
    else
        snprintf(summary, size, "without names: %s", why.text);
    free(stats);
}

int record_make_profile(struct record_result *result, enum record_kind kind,
                        struct pprof_profile **out, struct fscope_error *err)
{
    char summary[512];
    if (builder_finish(result->builders[kind], result->duration_ns, out))
        return error_set(err, -ENOMEM, 0, "out of memory; the profile was not written");
    symbolize(result, kind, *out, result->pid, summary, sizeof summary);
    return 0;
}

struct writing { // of one kind
    const struct record_options *o;
    struct record_result *result;
    enum record_kind kind;
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

// only_pid 0: all processes in one file.
static int write_one(struct writing *w, const struct record_result *named, uint32_t only_pid)
{
    struct pprof_profile *p = NULL;
    struct builder *b = w->result->builders[w->kind];
    uint64_t duration_ns = w->result->duration_ns;
    int rc = record_path(w->path, sizeof w->path, w->o->output, named, w->kind, w->err);
    if (rc)
        return rc;
    rc = only_pid ? builder_finish_pid(b, only_pid, duration_ns, &p)
                  : builder_finish(b, duration_ns, &p);
    if (rc)
        return error_set(w->err, rc, 0, "%s: out of memory; the profile was not written", w->path);
    if (w->o->symbolize)
        symbolize(w->result, w->kind, p, named->pid, w->summary, sizeof w->summary);
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

static int write_kind(const struct record_options *o, struct record_result *result,
                      enum record_kind kind, struct fscope_error *err)
{
    struct writing w = {.o = o, .result = result, .kind = kind, .err = err};
    int rc = 0;
    // Who writes %p in -o wants a file per process; the default name has it too, and is one file.
    if (o->output && strstr(o->output, "%p"))
        rc = builder_each_pid(result->builders[kind], write_pid, &w);
    if (!rc && w.files == 0)
        rc = write_one(&w, result, 0);
    if (!rc && w.files > 1)
        snprintf(w.path, sizeof w.path, "%s (%u files)", o->output, w.files);
    if (!rc && !o->quiet)
        say_closing(o, result, kind, w.path, w.files, w.summary);
    return rc;
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
            snprintf(text, sizeof text, "dropped: %" PRIu64 " samples", st.lost);
            builder_comment(result->builders[kind], text);
        }
        record_losses_text(&st, true, losses, sizeof losses);
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

int record_write(const struct record_options *o, struct record_result *result,
                 struct fscope_error *err)
{
    int first = 0;
    struct fscope_error spare;
    // A file over RLIMIT_FSIZE is then an error that can be told instead of our death.
    struct sigaction ignore = {.sa_handler = SIG_IGN}, old;
    sigaction(SIGXFSZ, &ignore, &old);
    comment_losses(result);
    if (result->warning[0] && !o->quiet)
        fprintf(o->messages, "fiberscope: %s\n", result->warning);
    for (int kind = 0; kind < RECORD_KIND_COUNT; kind++) {
        if (!result->builders[kind])
            continue;
        int rc = write_kind(o, result, (enum record_kind)kind, first ? &spare : err);
        first = first ? first : rc;
    }
    sigaction(SIGXFSZ, &old, NULL);
    return first;
}
