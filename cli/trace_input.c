// SPDX-License-Identifier: MIT
//
// Input and words of the trace reports. See trace_report.h.

#include "cli/trace_report.h"

#include "analysis/units.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAME_COLUMNS = 160 }; // of a name in a table; longer ones are cut in the middle

int trace_input_fail_reading(const struct trace_input *in)
{
    const struct trace_error *e = trace_reader_error(in->reader);
    char hint[128] = "";
    bool rest;
    unsigned whole = trace_reader_whole(in->reader, &rest);
    if (e->code == -EFBIG)
        snprintf(hint, sizeof hint, " (--memory=SIZE permits more)");
    else if (e->rule == TRACE_RULE_SYSTEM)
        ;
    else if (trace_reader_version(in->reader) < 22)
        snprintf(hint, sizeof hint,
                 " (a trace of Go 1.21 or older is read as a whole or not at all)");
    else if (!whole && !rest)
        snprintf(hint, sizeof hint, " (no generation before it is whole: nothing to salvage)");
    else if (!in->args->salvage && !whole)
        snprintf(hint, sizeof hint, " (--salvage reads what there is of this generation)");
    else if (!in->args->salvage)
        snprintf(hint, sizeof hint, " (--salvage reads the %u whole generation%s before it%s)",
                 whole, whole == 1 ? "" : "s", rest ? " and what there is of this one" : "");
    return cli_fail("%s: %s%s", in->args->path, e->text, hint);
}

static int fail_opening(const char *path)
{
    if (errno == ENOENT)
        return cli_fail("%s: there is no such file; `fiberscope record --trace PROGRAM` makes one",
                        path);
    if (errno == EACCES)
        return cli_fail_at(path, "you may not read it: ask its owner, or `sudo chmod a+r FILE`");
    return cli_fail("%s: %s", path, strerror(errno));
}

int trace_input_open_reader(struct trace_input *in, const struct trace_args *a)
{
    struct fscope_error err = {0};
    struct stat st = {0}, out;
    struct trace_reader_options o = {.size = sizeof o, .salvage = a->salvage};
    o.state_bytes_max = o.generation_bytes_max = a->memory_bytes;
    *in = (struct trace_input){.args = a, .fd = STDIN_FILENO, .last_ns = INT64_MIN};
    if (strcmp(a->path, "-") != 0)
        in->fd = open(a->path, O_RDONLY | O_CLOEXEC);
    if (in->fd < 0 || fstat(in->fd, &st))
        return fail_opening(a->path);
    if (S_ISDIR(st.st_mode))
        return cli_fail("%s: a folder; name one of the trace files in it", a->path);
    if (file_keep(in->fd))
        return cli_fail("out of memory");
    if (S_ISREG(st.st_mode) && !fstat(STDOUT_FILENO, &out) && st.st_dev == out.st_dev &&
        st.st_ino == out.st_ino)
        return cli_fail("%s: standard output is this file, too: write to another one", a->path);
    in->repeats = in->fd > STDIN_FILENO && S_ISREG(st.st_mode);
    in->found = calloc(a->fibers.count + 1, sizeof *in->found);
    if (!in->found)
        return cli_fail("out of memory");
    if (trace_reader_open_fd(&in->reader, in->fd, &o, &err))
        return cli_fail_at(a->path, "%s", err.text);
    return CLI_OK;
}

int trace_input_open(struct trace_input *in, const struct trace_args *a)
{
    int status = trace_input_open_reader(in, a);
    if (status)
        return status;
    int rc = trace_reader_next(in->reader, &in->first);
    // The last Sync: behind it stands what is wrong with the first generation, or the end, as go
    // 1.26 permits a trace without a generation.
    if (rc > 0 && in->first->kind == TRACE_SYNC && !in->first->sync.generation)
        rc = trace_reader_next(in->reader, &in->first);
    if (rc < 0)
        return trace_input_fail_reading(in);
    if (!rc)
        return cli_fail("%s: the trace is empty: nothing was recorded", a->path);
    in->base_ns = in->first->time_ns;
    // Nothing begins at 0 of the trace's clock; 0 means no limit.
    if (a->from_ns >= 0)
        in->from_ns = in->base_ns + a->from_ns;
    if (a->to_ns >= 0)
        in->to_ns = in->base_ns + a->to_ns;
    return CLI_OK;
}

int trace_input_again(struct trace_input *in)
{
    const struct trace_args *a = in->args;
    trace_reader_close(in->reader); // what it says of damage is said at the end
    free(in->found);
    close(in->fd);
    return trace_input_open(in, a);
}

void trace_input_close(struct trace_input *in)
{
    const struct trace_error *damage = in->reader ? trace_reader_damage(in->reader) : NULL;
    if (damage)
        cli_note("%s: %s; only what stands before it was read", in->args->path, damage->text);
    trace_reader_close(in->reader);
    free(in->found);
    if (in->fd > STDIN_FILENO)
        close(in->fd);
}

// A fiber that comes to be, or is heard of first.
static void note_fiber(struct trace_input *in, int64_t id)
{
    const struct cli_list *list = &in->args->fibers;
    if (!in->fiber_count++ || id < in->fiber_least)
        in->fiber_least = id;
    if (in->fiber_count == 1 || id > in->fiber_most)
        in->fiber_most = id;
    for (size_t i = 0; i < list->count; i++)
        in->found[i] |= strtoll(list->items[i], NULL, 10) == id;
}

static void note_event(struct trace_input *in, const struct trace_event *ev)
{
    in->has_samples |= ev->kind == TRACE_STACK_SAMPLE;
    in->last_ns = ev->time_ns; // the last Sync's, too: what waits, waits to there
    if (ev->kind == TRACE_TRANSITION && ev->what == TRACE_RESOURCE_GOROUTINE &&
        ev->transition.from <= TRACE_GO_NOT_EXIST)
        note_fiber(in, ev->transition.id);
}

const char *trace_there(char *buf, const struct trace_input *in)
{
    char a[TRACE_NS_MAX];
    int64_t length_ns = in->last_ns == INT64_MIN ? 0 : in->last_ns - in->base_ns;
    if (in->fiber_count == 1)
        snprintf(buf, TRACE_THERE_MAX, "it has one fiber, %" PRId64 ", in %s", in->fiber_least,
                 trace_ns(a, length_ns));
    else if (in->fiber_count)
        snprintf(buf, TRACE_THERE_MAX,
                 "it has %" PRIu64 " fibers, %" PRId64 " to %" PRId64 ", in %s", in->fiber_count,
                 in->fiber_least, in->fiber_most, trace_ns(a, length_ns));
    else
        snprintf(buf, TRACE_THERE_MAX, "it has no fibers in %s", trace_ns(a, length_ns));
    return buf;
}

int trace_input_check_fibers(const struct trace_input *in)
{
    const struct cli_list *list = &in->args->fibers;
    char there[TRACE_THERE_MAX];
    size_t missing = 0;
    for (size_t i = 0; i < list->count; i++) {
        if (in->found[i])
            continue;
        missing++;
        cli_note_at(in->args->path,
                    "no fiber %s in it%s; %s (`fiberscope trace fibers --name '' FILE` lists them)",
                    list->items[i], in->to_ns ? " up to --to" : "", trace_there(there, in));
    }
    return missing && missing == list->count ? CLI_FAILURE : CLI_OK;
}

int trace_input_next(struct trace_input *in, const struct trace_event **ev)
{
    char length[TRACE_NS_MAX];
    int rc = 1;
    if (in->is_over)
        return 0;
    if (in->first) {
        *ev = in->first;
        in->first = NULL;
    } else {
        rc = trace_reader_next(in->reader, ev);
    }
    if (rc < 0) {
        trace_input_fail_reading(in);
        return -1;
    }
    if (rc)
        note_event(in, *ev);
    if (!rc && in->from_ns && in->last_ns < in->from_ns) {
        cli_fail("%s: --from is behind the end: the trace lasts %s, and begins at 0",
                 in->args->path,
                 trace_ns(length, in->last_ns == INT64_MIN ? 0 : in->last_ns - in->base_ns));
        return -1;
    }
    // Fibers that do nothing are announced only at the end of a generation: it is read to there.
    in->is_over = rc && in->to_ns && (*ev)->time_ns > in->to_ns && (*ev)->kind == TRACE_SYNC;
    return rc;
}

int trace_input_fail_summary(const struct trace_input *in, const struct trace_summary *s, int rc)
{
    uint64_t fibers;
    if (rc != -EFBIG || !s)
        return cli_fail("%s: %s", in->args->path, strerror(-rc));
    uint64_t bytes = trace_summary_bytes(s, &fibers);
    return cli_fail("%s: up to byte %" PRIu64 " of it, where %" PRIu64
                    " fibers live, %.1f MiB of memory are full of what is summed up; "
                    "--memory=SIZE permits more",
                    in->args->path, trace_reader_offset(in->reader), fibers,
                    (double)bytes / (1 << 20));
}

int trace_input_summary(struct trace_input *in, struct trace_summary_options *opts,
                        struct trace_summary **s)
{
    const struct trace_event *ev;
    int rc, got = 0;
    opts->size = sizeof *opts;
    opts->from_ns = in->from_ns;
    opts->to_ns = in->to_ns;
    opts->bytes_max = in->args->memory_bytes;
    rc = trace_summary_new(s, opts);
    while (!rc && (got = trace_input_next(in, &ev)) > 0)
        rc = trace_summary_event(*s, in->reader, ev);
    if (got < 0)
        return CLI_FAILURE;
    if (!rc)
        rc = trace_summary_finish(*s);
    return rc ? trace_input_fail_summary(in, *s, rc) : CLI_OK;
}

int trace_input_spans(struct trace_input *in, struct trace_spans_options *opts,
                      struct trace_spans **s)
{
    const struct trace_event *ev;
    opts->size = sizeof *opts;
    opts->from_ns = opts->from_ns ? opts->from_ns : in->from_ns;
    opts->to_ns = opts->to_ns ? opts->to_ns : in->to_ns;
    int rc = trace_spans_new(s, opts), got = 0;
    while (!rc && (got = trace_input_next(in, &ev)) > 0)
        rc = trace_spans_event(*s, in->reader, ev);
    if (got < 0)
        return CLI_FAILURE;
    if (!rc)
        rc = trace_spans_finish(*s);
    return rc ? cli_fail("%s: %s", in->args->path, strerror(-rc)) : CLI_OK;
}

// --- Words.

const char *trace_ns(char *buf, int64_t ns)
{
    return units_label(buf, TRACE_NS_MAX, ns, "nanoseconds", "auto");
}

const char *trace_at(char *buf, const struct trace_input *in, int64_t ns)
{
    snprintf(buf, TRACE_NS_MAX, "%.6fs", (double)(ns - in->base_ns) / 1e9);
    return buf;
}

const char *trace_share(char *buf, double part, double whole)
{
    if (whole > 0)
        snprintf(buf, TRACE_NS_MAX, "%.1f%%", 100 * part / whole);
    else
        snprintf(buf, TRACE_NS_MAX, "-");
    return buf;
}

const char *trace_function_word(const char *name)
{
    return *name ? name : "(unknown)";
}

bool trace_name_matches(const char *name, const char *wanted)
{
    return !wanted || strcasestr(trace_function_word(name), wanted);
}

void trace_name_print(FILE *out, const struct terminal *t, const char *name)
{
    terminal_print(out, t, trace_function_word(name), NAME_COLUMNS);
}

void trace_stack_print(FILE *out, const struct terminal *t, const struct trace_names *n,
                       const struct trace_stack *stack, int indent, uint32_t frames_max)
{
    trace_frames_print(out, t, n, stack, 0, indent, frames_max);
}

void trace_frames_print(FILE *out, const struct terminal *t, const struct trace_names *n,
                        const struct trace_stack *stack, uint32_t first, int indent,
                        uint32_t frames_max)
{
    uint32_t shown = stack->count - first < frames_max ? stack->count : first + frames_max;
    for (uint32_t i = first; i < shown; i++) {
        const struct trace_frame *f = &stack->frames[i];
        fprintf(out, "%*s", indent, "");
        trace_name_print(out, t, trace_names_text(n, f->function));
        const char *file = trace_names_text(n, f->file), *slash = strrchr(file, '/');
        if (*file) {
            fputs("  ", out);
            terminal_print(out, t, slash ? slash + 1 : file, 0);
            fprintf(out, ":%" PRIu64, f->line);
        }
        fputc('\n', out);
    }
    if (shown < stack->count)
        fprintf(out, "%*s... %u more\n", indent, "", stack->count - shown);
    if (!stack->count)
        fprintf(out, "%*s(no stack)\n", indent, "");
}

void trace_json_stack(struct json *j, const char *key, const struct trace_names *n,
                      const struct trace_stack *stack)
{
    json_open(j, key, '[');
    for (uint32_t i = 0; i < stack->count; i++) {
        const struct trace_frame *f = &stack->frames[i];
        json_open(j, NULL, '{');
        json_string(j, "function", trace_names_text(n, f->function));
        json_string(j, "file", trace_names_text(n, f->file));
        json_int(j, "line", (int64_t)f->line);
        json_hex(j, "pc", f->pc);
        json_close(j, '}');
    }
    json_close(j, ']');
}

void trace_wait_print(FILE *out, const struct terminal *t, const struct trace_names *n,
                      const struct trace_wait *w)
{
    char a[TRACE_NS_MAX];
    int64_t longest_ns = w->max_ns > w->open_ns ? w->max_ns : w->open_ns;
    const char *reason = trace_names_text(n, w->reason);
    terminal_print(out, t, *reason ? reason : "(no reason)", 0);
    if (w->count) // else it began before
        fprintf(out, ", %" PRIu64 " time%s", w->count, w->count == 1 ? "" : "s");
    if (longest_ns)
        fprintf(out, ", longest %s", trace_ns(a, longest_ns));
    if (!w->max_ns)
        fputs(", none has ended", out);
    else if (w->open_ns > w->max_ns)
        fputs(" to the end", out);
}

void trace_json_times(struct json *j, const struct trace_summary *s, const struct trace_times *t)
{
    json_int(j, "total_ns", t->total_ns);
    json_int(j, "running_ns", t->running_ns);
    json_int(j, "runnable_ns", t->runnable_ns);
    json_int(j, "syscall_ns", t->syscall_ns);
    json_int(j, "syscall_blocked_ns", t->syscall_blocked_ns);
    json_int(j, "blocked_ns", t->blocked_ns);
    json_open(j, "blocked", '[');
    for (uint32_t i = 0; i < t->wait_count; i++) {
        json_open(j, NULL, '{');
        json_string(j, "reason", trace_names_text(&s->names, t->waits[i].reason));
        json_int(j, "count", (int64_t)t->waits[i].count);
        json_int(j, "ns", t->waits[i].ns);
        if (t->waits[i].max_ns)
            json_int(j, "longest_ns", t->waits[i].max_ns);
        if (t->waits[i].open_ns)
            json_int(j, "longest_open_ns", t->waits[i].open_ns);
        json_close(j, '}');
    }
    json_close(j, ']');
}

int trace_number(const char *text, const char *what, int64_t *number)
{
    char *end;
    errno = 0;
    *number = strtoll(text, &end, 10);
    if (errno || end == text || *end || *number < 0)
        return cli_usage("\"%.60s\" is not %s, which is a whole number from 0 (`fiberscope trace "
                         "fibers --name '' FILE` lists them)",
                         text, what);
    return CLI_OK;
}

bool trace_listed(const struct cli_list *list, int64_t id)
{
    for (size_t i = 0; i < list->count; i++) {
        if (strtoll(list->items[i], NULL, 10) == id)
            return true;
    }
    return !list->count;
}
