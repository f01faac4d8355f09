// SPDX-License-Identifier: MIT
//
// See record_trace.h.

#include "collector/record_trace.h"

#include "base/file.h"
#include "base/shell_word.h"
#include "collector/record_internal.h"
#include "collector/record_kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    FILES_MAX =
        1000,        // of one recording: a target that is cut all the time must not fill the folder
    FILES_SAID = 8,  // one by one
    FILES_NAMED = 5, // of the rest; then how many there are
};

struct record_trace_open {
    struct file_replace file;
    char *path;
};

// Whether the name tells processes apart.
static bool has_pid(const char *pattern)
{
    return !pattern || strstr(pattern, "%p") || record_path_is_folder(pattern);
}

// What has been written to standard output is there: it is the first one's that comes.
static bool is_first(struct record_trace_sink *s)
{
    struct record_result *result = s->result;
    if (!result->trace_pid)
        result->trace_pid = s->pid;
    return result->trace_pid == s->pid;
}

static int make_path(struct record_trace_sink *s, uint32_t number, char *path, size_t size,
                     struct fscope_error *err)
{
    struct record_result named = {.pid = s->pid};
    const char *pattern = s->o->output;
    memcpy(named.program, s->program, sizeof named.program);
    int rc = record_path(path, size, pattern, &named, RECORD_TRACE_NAME, err);
    if (rc)
        return rc;
    bool is_alone = s->pid == s->result->pid || has_pid(pattern);
    size_t n = strlen(path);
    if (strcmp(path, "-") == 0 && (number > 1 || !is_first(s)))
        return error_set(err, -EEXIST, 0,
                         "standard output has a trace already: -o FILE is needed for further ones");
    if (!is_alone && strcmp(path, "-") != 0)
        n += (size_t)snprintf(path + n, size - n, ".p%u", s->pid);
    if (number > 1 && n < size)
        n += (size_t)snprintf(path + n, size - n, ".%u", number);
    return n < size ? 0 : error_set(err, -ENAMETOOLONG, 0, "-o %s: too long a path", pattern);
}

static int add_result(struct record_trace_sink *s, const char *path,
                      const struct trace_build_file *f, int rc, const char *error)
{
    struct record_result *result = s->result;
    struct record_trace *grown =
        reallocarray(result->traces, result->trace_count + 1, sizeof *grown);
    if (!grown)
        return -ENOMEM;
    result->traces = grown;
    struct record_trace *t = &grown[result->trace_count];
    *t = (struct record_trace){.path = strdup(path), .file = *f, .rc = rc, .pid = s->pid};
    memcpy(t->program, s->program, sizeof t->program);
    snprintf(t->error, sizeof t->error, "%s", rc ? error : "");
    if (!t->path)
        return -ENOMEM;
    result->trace_count++;
    return 0;
}

// Whether a file of this recording has that name already, or is being written to get it.
static bool is_taken(const struct record_result *result, const char *path)
{
    for (size_t i = 0; i < result->trace_count; i++)
        if (result->traces[i].file.generations && !strcmp(result->traces[i].path, path))
            return true;
    for (size_t i = 0; i < RECORD_TRACES_OPEN; i++)
        if (result->trace_open[i] && !strcmp(result->trace_open[i], path))
            return true;
    return false;
}

// Of more at once the names of some are not looked at.
static void note_open(struct record_result *result, const char *path)
{
    for (size_t i = 0; i < RECORD_TRACES_OPEN; i++)
        if (!result->trace_open[i]) {
            result->trace_open[i] = path;
            return;
        }
}

static void note_closed(struct record_result *result, const char *path)
{
    for (size_t i = 0; i < RECORD_TRACES_OPEN; i++)
        if (result->trace_open[i] == path)
            result->trace_open[i] = NULL;
}

// Who finds the temporary file sees by the lock that we live, and who we are. It ends with us, and with the descriptor.
static void lock_file(const struct file_replace *f)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (f->temp)
        fcntl(f->fd, F_SETLK, &lock);
}

static int open_file(void *arg, uint32_t number, struct fscope_error *err)
{
    struct record_trace_sink *s = arg;
    char path[PATH_MAX];
    if (s->result->trace_count >= FILES_MAX)
        return error_set(err, -EMFILE, 0,
                         "more than %d traces in one recording: give it more room with "
                         "--trace-buffer",
                         FILES_MAX);
    // The next image of a process has the same name, and numbers of its own.
    int rc;
    do
        rc = make_path(s, number++, path, sizeof path, err);
    while (!rc && number < FILES_MAX && is_taken(s->result, path));
    number--;
    if (rc)
        return rc;
    struct record_trace_open *open = calloc(1, sizeof *open);
    if (!open || !(open->path = strdup(path))) {
        free(open);
        return error_set(err, -ENOMEM, 0, "out of memory");
    }
    rc = file_begin(&open->file, path, err);
    if (rc) {
        const struct trace_build_file nothing = {.number = number};
        add_result(s, path, &nothing, rc, err->text);
        free(open->path);
        free(open);
        return rc;
    }
    lock_file(&open->file);
    s->open = open;
    note_open(s->result, open->path);
    return open->file.fd;
}

// A copy of a flight recorder is told as it is made: the recording may go on for long.
static void say_copy(const struct record_options *o, const char *path, const char *cause)
{
    if (o->quiet || !o->messages)
        return;
    // \033[K clears the line of the progress.
    fprintf(o->messages, "%sfiberscope: %s: wrote %s\n",
            isatty(fileno(o->messages)) ? "\r\033[K" : "", cause, path);
    fflush(o->messages);
}

static void close_file(void *arg, const struct trace_build_file *f, int rc)
{
    struct record_trace_sink *s = arg;
    struct record_trace_open *open = s->open;
    struct fscope_error err = {0};
    s->open = NULL;
    if (!open)
        return;
    if (rc && f->generations)
        error_set(&err, rc, 0, "%s: %s: the trace in it ends after %.2f s, what came then is lost",
                  open->path, strerror(-rc), (double)(f->end_ns - f->start_ns) / 1e9);
    else if (rc)
        error_set(&err, rc, 0, "%s: %s: no trace was written", open->path, strerror(-rc));
    if (!f->generations)
        file_abort(&open->file);
    else if (file_commit(&open->file, rc ? NULL : &err) && !rc)
        rc = err.code;
    if (f->generations && !rc && f->cause[0])
        say_copy(s->o, open->path, f->cause);
    if (f->generations || rc || f->left_out)
        add_result(s, open->path, f, rc, err.text);
    note_closed(s->result, open->path);
    free(open->path);
    free(open);
}

void record_trace_abort(struct record_trace_sink *s)
{
    if (!s->open)
        return;
    file_abort(&s->open->file);
    note_closed(s->result, s->open->path);
    free(s->open->path);
    free(s->open);
    s->open = NULL;
}

void record_trace_options(struct record_trace_sink *s, struct trace_build_options *out)
{
    out->version = s->o->trace_version;
    out->symbolize = s->o->symbolize;
    out->pid = s->pid;
    out->open_file = open_file;
    out->close_file = close_file;
    out->arg = s;
}

void record_trace_free(struct record_result *result)
{
    for (size_t i = 0; i < result->trace_count; i++)
        free(result->traces[i].path);
    free(result->traces);
    result->traces = NULL;
    result->trace_count = 0;
}

// --- What is said.

// Processes, or programs that one of them executed.
static bool has_several(const struct record_result *result)
{
    const struct record_trace *t = result->traces;
    for (size_t i = 1; i < result->trace_count; i++)
        if (t[i].pid != t->pid || strcmp(t[i].program, t->program) != 0)
            return true;
    return false;
}

static int compare_traces(const void *a, const void *b)
{
    const struct record_trace *x = a, *y = b;
    if (x->is_own != y->is_own)
        return x->is_own ? -1 : 1;
    return (x->number > y->number) - (x->number < y->number);
}

// The command's own process first; else as they were closed.
static void sort_traces(struct record_result *result)
{
    for (size_t i = 0; i < result->trace_count; i++) {
        result->traces[i].is_own = result->traces[i].pid == result->pid;
        result->traces[i].number = i;
    }
    if (result->trace_count)
        qsort(result->traces, result->trace_count, sizeof *result->traces, compare_traces);
}

static void say_file(const struct record_options *o, const struct record_result *result,
                     const struct record_trace *t)
{
    const struct trace_build_file *f = &t->file;
    FILE *out = o->messages;
    if (!f->generations && result->recorder_pid) {
        fprintf(out,
                "fiberscope: the second in which the recorder (process %u) ended is left out: it "
                "had taken a part of it\n",
                result->recorder_pid);
        return;
    }
    if (!f->generations) {
        fprintf(out,
                "fiberscope: the first part of a trace did not make sense and is left out: %s "
                "(please report this)\n",
                f->why);
        return;
    }
    fputs("fiberscope: trace: ", out);
    record_say_count(out, f->events);
    fprintf(out, " event%s %s %.2f s, ", f->events == 1 ? "" : "s",
            f->gave_way ? "of the last" : "in", (double)(f->end_ns - f->start_ns) / 1e9);
    record_say_bytes(out, f->bytes);
    if (f->samples) {
        fputs(", ", out);
        record_say_count(out, f->samples);
        fputs(f->samples == 1 ? " CPU sample" : " CPU samples", out);
    }
    if (f->was_killed && result->killed_by)
        fputs(", up to the kill", out);
    if (f->cause[0])
        fprintf(out, ", as %s", f->cause);
    fprintf(out, "; wrote %s", t->path);
    if (has_several(result))
        fprintf(out, " (process %u, %s)", t->pid, t->program);
    fputc('\n', out);
    if (f->left_out)
        fprintf(out,
                "fiberscope: its last part did not make sense and is left out: %s (please report "
                "this)\n",
                f->why);
    if (f->lost_names)
        fprintf(out,
                "fiberscope: %" PRIu64 " stack%s or text%s of it did not fit into the segment\n",
                f->lost_names, f->lost_names == 1 ? "" : "s", f->lost_names == 1 ? "" : "s");
}

// Whether a trace that was cut has a next one: it has not where the program ended before there was room again.
static bool goes_on(const struct record_result *result, size_t cut)
{
    for (size_t i = cut + 1; i < result->trace_count; i++)
        if (result->traces[i].pid == result->traces[cut].pid && result->traces[i].file.generations)
            return true;
    return false;
}

// After all files: one sentence for what went wrong in any of them.
static void say_cuts(const struct record_options *o, const struct record_result *result)
{
    size_t cuts = 0, ends = 0;
    for (size_t i = 0; i < result->trace_count; i++) {
        cuts += result->traces[i].file.was_cut;
        ends += result->traces[i].file.was_cut && !goes_on(result, i);
    }
    if (!cuts)
        return;
    fprintf(o->messages,
            "fiberscope: the trace was cut%s, as all buffers were full; %s (--trace-buffer gives "
            "more room; it had ",
            cuts > 1 ? " several times" : "",
            !ends         ? "it goes on in the next file"
            : cuts > ends ? "it goes on in the next file, but what came after the last is in none"
                          : "what came after that is in no file");
    record_say_bytes(o->messages, o->trace_bytes);
    fputs(")\n", o->messages);
}

// Why copies of a flight recorder reach no further back.
static void say_gave_way(const struct record_options *o, const struct record_result *result)
{
    bool any = false;
    for (size_t i = 0; i < result->trace_count; i++)
        any |= result->traces[i].file.gave_way;
    if (!any)
        return;
    fputs("fiberscope: older events gave way to newer ones: of --trace-buffer=BYTES", o->messages);
    if (!o->pid) { // else the target has what it was begun with
        fputs(", which were ", o->messages);
        record_say_bytes(o->messages, o->trace_bytes);
    }
    fputs(", each thread with events takes 64 KiB or more a second\n", o->messages);
}

static void say_commands(FILE *out, const char *path)
{
    fputs("fiberscope: next: fiberscope trace ", out);
    shell_word_print(out, path);
    fputs(", or go tool trace ", out);
    shell_word_print(out, path);
    fputc('\n', out);
}

static void say_next(const struct record_options *o, const struct record_result *result)
{
    const struct record_trace *longest = NULL;
    for (size_t i = 0; i < result->trace_count; i++) {
        const struct record_trace *t = &result->traces[i];
        if (t->file.generations && !t->rc && (!longest || t->file.events > longest->file.events))
            longest = t;
    }
    if (longest && strcmp(longest->path, "-") != 0)
        say_commands(o->messages, longest->path);
}

// Those that were not said one by one.
static void say_rest(const struct record_options *o, const struct record_result *result)
{
    size_t written = 0, named = 0;
    fputs("fiberscope: further traces:", o->messages);
    for (size_t i = 0; i < result->trace_count; i++) {
        const struct record_trace *t = &result->traces[i];
        written += t->file.generations != 0;
        if (!t->file.generations || written <= FILES_SAID || t->file.left_out ||
            ++named > FILES_NAMED)
            continue;
        fprintf(o->messages, " %s", t->path);
        if (has_several(result))
            fprintf(o->messages, " (process %u, %s)", t->pid, t->program);
    }
    if (named > FILES_NAMED)
        fprintf(o->messages, " and %zu more", named - FILES_NAMED);
    fputc('\n', o->messages);
}

int record_trace_report(const struct record_options *o, struct record_result *result,
                        struct fscope_error *err)
{
    int first = 0;
    size_t written = 0;
    sort_traces(result);
    for (size_t i = 0; i < result->trace_count; i++) {
        const struct record_trace *t = &result->traces[i];
        written += t->file.generations != 0;
        if (t->rc && !first)
            first = error_set(err, t->rc, 0, "%s", t->error);
        bool is_said = written <= FILES_SAID || t->file.left_out;
        if ((t->file.generations || t->file.left_out) && is_said && !o->quiet)
            say_file(o, result, t);
    }
    if (written > FILES_SAID && !o->quiet)
        say_rest(o, result);
    if (!first && o->trace && !written)
        first = error_set(err, -ENODATA, 0, "no trace: %s",
                          result->trace_error[0] ? result->trace_error
                                                 : "the program has recorded no event");
    if (o->quiet || !o->trace) {
        int rc = record_kernel_report(o, result, first ? NULL : err);
        return first ? first : rc;
    }
    if (result->trace_lost_generations)
        fprintf(o->messages,
                "fiberscope: %" PRIu64 " generation%s overwritten while a snapshot was taken\n",
                result->trace_lost_generations,
                result->trace_lost_generations == 1 ? " was" : "s were");
    if (result->trace_error[0] && !first) // else it is the error
        fprintf(o->messages, "fiberscope: trace: %s\n", result->trace_error);
    say_cuts(o, result);
    say_gave_way(o, result);
    record_say_met(o, result);
    if (written)
        say_next(o, result);
    int kernel_rc = record_kernel_report(o, result, first ? NULL : err);
    return first ? first : kernel_rc;
}
