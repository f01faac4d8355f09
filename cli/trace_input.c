// SPDX-License-Identifier: MIT
//
// Input and words of the trace reports. See trace_report.h.

#include "cli/trace_report.h"

#include "analysis/units.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int fail_reading(const struct trace_input *in)
{
    const struct trace_error *e = trace_reader_error(in->reader);
    // A trace in format v1 has no part that is whole.
    bool is_v1 = trace_reader_version(in->reader) < 22;
    bool hint = !in->args->salvage && e->rule != TRACE_RULE_SYSTEM && !is_v1;
    return cli_fail("%s: %s%s", in->args->path, e->text,
                    hint ? " (--salvage reads what is whole before it)" : "");
}

int trace_input_open(struct trace_input *in, const struct trace_args *a)
{
    struct fscope_error err = {0};
    struct stat st;
    struct trace_reader_options o = {.size = sizeof o, .salvage = a->salvage};
    *in = (struct trace_input){.args = a, .fd = STDIN_FILENO};
    if (strcmp(a->path, "-") != 0)
        in->fd = open(a->path, O_RDONLY | O_CLOEXEC);
    if (in->fd < 0)
        return cli_fail("%s: %s", a->path, strerror(errno));
    in->repeats = in->fd > STDIN_FILENO && !fstat(in->fd, &st) && S_ISREG(st.st_mode);
    if (trace_reader_open_fd(&in->reader, in->fd, &o, &err))
        return cli_fail("%s: %s", a->path, err.text);
    int rc = trace_reader_next(in->reader, &in->first);
    if (rc < 0)
        return fail_reading(in);
    if (!rc)
        return cli_fail("%s: the trace is empty", a->path);
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
    close(in->fd);
    return trace_input_open(in, a);
}

void trace_input_close(struct trace_input *in)
{
    const struct trace_error *damage = in->reader ? trace_reader_damage(in->reader) : NULL;
    if (damage)
        cli_note("%s: %s; only what stands before it was read", in->args->path, damage->text);
    trace_reader_close(in->reader);
    if (in->fd > STDIN_FILENO)
        close(in->fd);
}

int trace_input_next(struct trace_input *in, const struct trace_event **ev)
{
    int rc = 1;
    if (in->first) {
        *ev = in->first;
        in->first = NULL;
    } else {
        rc = trace_reader_next(in->reader, ev);
    }
    if (rc < 0) {
        fail_reading(in);
        return -1;
    }
    // Fibers that do nothing are announced only at the end of a generation: it is read to there.
    return rc && (!in->to_ns || (*ev)->time_ns <= in->to_ns || (*ev)->kind != TRACE_SYNC);
}

int trace_input_summary(struct trace_input *in, struct trace_summary_options *opts,
                        struct trace_summary **s)
{
    const struct trace_event *ev;
    int rc, got = 0;
    opts->size = sizeof *opts;
    opts->from_ns = in->from_ns;
    opts->to_ns = in->to_ns;
    rc = trace_summary_new(s, opts);
    while (!rc && (got = trace_input_next(in, &ev)) > 0)
        rc = trace_summary_event(*s, in->reader, ev);
    if (got < 0)
        return CLI_FAILURE;
    if (!rc)
        rc = trace_summary_finish(*s);
    return rc ? cli_fail("%s: %s", in->args->path, strerror(-rc)) : CLI_OK;
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
    terminal_print(out, t, trace_function_word(name), 0);
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
        return cli_usage("\"%.60s\" is not %s", text, what);
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
