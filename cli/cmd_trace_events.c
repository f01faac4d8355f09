// SPDX-License-Identifier: MIT
//
// fiberscope trace events, validate: the events as they are, and whether they may be so.

#include "base/utf8.h"
#include "cli/trace_report.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

// In quotes, as a C string has it, so that a program's text is one word on one line: what is no character that
// prints is \xNN.
static void print_quoted(FILE *out, const char *s, const char *end)
{
    static const char plain[] = "\"\\\n\t\r", escaped[] = "\"\\ntr";
    fputc('"', out);
    for (int n; s < end; s += n) {
        const unsigned char *u = (const unsigned char *)s;
        const char *special = *s ? strchr(plain, *s) : NULL;
        n = utf8_length(s);
        if (special)
            fprintf(out, "\\%c", escaped[special - plain]);
        else if (n && !utf8_is_control(s))
            fwrite(s, 1, (size_t)n, out);
        else
            for (int i = 0; i < (n ? n : 1); i++)
                fprintf(out, "\\x%02x", u[i]);
        n = n ? n : 1;
    }
    fputc('"', out);
}

static void print_text(FILE *out, const struct trace_reader *r, uint32_t id)
{
    struct trace_text x = trace_reader_string(r, id);
    char *copy = malloc(x.size_bytes + (size_t)1); // utf8_length looks up to a NUL
    fputc(' ', out);
    if (!copy)
        return;
    if (x.size_bytes)
        memcpy(copy, x.bytes, x.size_bytes);
    copy[x.size_bytes] = 0;
    print_quoted(out, copy, copy + x.size_bytes);
    free(copy);
}

static const char *resource_word(uint8_t resource)
{
    static const char *const words[] = {"program", "fiber", "proc", "thread"};
    return resource < CLI_COUNT(words) ? words[resource] : "?";
}

static const char *state_word(const struct trace_event *ev, uint8_t state)
{
    return ev->what == TRACE_RESOURCE_PROC ? trace_proc_state_name(state)
                                           : trace_go_state_name(state);
}

static void print_details(FILE *out, const struct trace_reader *r, const struct trace_event *ev)
{
    switch (ev->kind) {
    case TRACE_SYNC: fprintf(out, " generation %" PRIu64, ev->sync.generation); break;
    case TRACE_METRIC:
        fprintf(out, " %s %" PRIu64, trace_metric_name(ev->what), ev->metric.value);
        break;
    case TRACE_LABEL: print_text(out, r, ev->label.text); break;
    case TRACE_RANGE_BEGIN:
    case TRACE_RANGE_ACTIVE:
    case TRACE_RANGE_END: fprintf(out, " %s", trace_range_name(ev->what)); break;
    case TRACE_TASK_BEGIN:
    case TRACE_TASK_END:
        fprintf(out, " task %" PRIu64, ev->task.id);
        print_text(out, r, ev->task.type);
        if (ev->task.parent && ev->task.parent != TRACE_NO_TASK)
            fprintf(out, " of task %" PRIu64, ev->task.parent);
        break;
    case TRACE_REGION_BEGIN:
    case TRACE_REGION_END:
        print_text(out, r, ev->region.type);
        if (ev->region.task)
            fprintf(out, " of task %" PRIu64, ev->region.task);
        break;
    case TRACE_LOG:
        print_text(out, r, ev->log.category);
        print_text(out, r, ev->log.message);
        break;
    case TRACE_TRANSITION:
        fprintf(out, " %s %" PRId64 " %s -> %s", resource_word(ev->what), ev->transition.id,
                state_word(ev, ev->transition.from), state_word(ev, ev->transition.to));
        if (ev->transition.reason)
            print_text(out, r, ev->transition.reason);
        break;
    case TRACE_EXPERIMENTAL: fprintf(out, " %s", trace_spec_of(ev->wire)->name); break;
    default: break;
    }
}

static void print_id(FILE *out, char letter, int64_t id)
{
    char text[24];
    if (id == TRACE_NONE)
        snprintf(text, sizeof text, "-");
    else
        snprintf(text, sizeof text, "%c%" PRId64, letter, id);
    fprintf(out, " %-8s", text);
}

static void print_event(FILE *out, const struct trace_input *in, const struct trace_event *ev)
{
    const struct trace_frame *frames;
    uint32_t n = trace_reader_stack(in->reader, ev->stack, &frames);
    fprintf(out, "%14.9f", (double)(ev->time_ns - in->base_ns) / 1e9);
    print_id(out, 'M', ev->thread);
    print_id(out, 'P', ev->proc);
    print_id(out, 'G', ev->goroutine);
    fprintf(out, " %s", trace_kind_name(ev->kind));
    print_details(out, in->reader, ev);
    if (n) {
        fputs(" in", out);
        print_text(out, in->reader, frames[0].function);
    }
    fputc('\n', out);
}

static void json_text(struct json *j, const char *key, const struct trace_reader *r, uint32_t id)
{
    struct trace_text x = trace_reader_string(r, id);
    json_bytes(j, key, x.size_bytes ? x.bytes : "", x.size_bytes);
}

static void json_details(struct json *j, const struct trace_reader *r, const struct trace_event *ev)
{
    switch (ev->kind) {
    case TRACE_SYNC: json_int(j, "generation", (int64_t)ev->sync.generation); break;
    case TRACE_METRIC:
        json_string(j, "metric", trace_metric_name(ev->what));
        json_int(j, "value", (int64_t)ev->metric.value);
        break;
    case TRACE_LABEL: json_text(j, "label", r, ev->label.text); break;
    case TRACE_RANGE_BEGIN:
    case TRACE_RANGE_ACTIVE:
    case TRACE_RANGE_END:
        json_string(j, "range", trace_range_name(ev->what));
        json_text(j, "reason", r, ev->range.reason);
        break;
    case TRACE_TASK_BEGIN:
    case TRACE_TASK_END:
        json_int(j, "task", (int64_t)ev->task.id);
        json_text(j, "type", r, ev->task.type);
        if (ev->task.parent != TRACE_NO_TASK)
            json_int(j, "parent", (int64_t)ev->task.parent);
        break;
    case TRACE_REGION_BEGIN:
    case TRACE_REGION_END:
        json_int(j, "task", (int64_t)ev->region.task);
        json_text(j, "type", r, ev->region.type);
        break;
    case TRACE_LOG:
        json_int(j, "task", (int64_t)ev->log.task);
        json_text(j, "category", r, ev->log.category);
        json_text(j, "message", r, ev->log.message);
        break;
    case TRACE_TRANSITION:
        json_string(j, "resource", resource_word(ev->what));
        json_int(j, "id", ev->transition.id);
        json_string(j, "from", state_word(ev, ev->transition.from));
        json_string(j, "to", state_word(ev, ev->transition.to));
        json_text(j, "reason", r, ev->transition.reason);
        break;
    case TRACE_EXPERIMENTAL: json_string(j, "event", trace_spec_of(ev->wire)->name); break;
    default: break;
    }
}

static void json_event(struct json *j, const struct trace_input *in, const struct trace_event *ev)
{
    const struct trace_frame *frames;
    uint32_t n = trace_reader_stack(in->reader, ev->stack, &frames);
    json_open(j, NULL, '{');
    json_int(j, "at_ns", ev->time_ns - in->base_ns);
    json_string(j, "kind", trace_kind_name(ev->kind));
    json_int(j, "thread", ev->thread);
    json_int(j, "proc", ev->proc);
    json_int(j, "fiber", ev->goroutine);
    json_int(j, "offset", (int64_t)ev->offset);
    json_details(j, in->reader, ev);
    json_open(j, "stack", '[');
    for (uint32_t i = 0; i < n; i++)
        json_text(j, NULL, in->reader, frames[i].function);
    json_close(j, ']');
    json_close(j, '}');
}

static bool wanted(const struct trace_input *in, const struct trace_event *ev)
{
    const struct trace_args *a = in->args;
    bool subject = ev->kind == TRACE_TRANSITION && ev->what == TRACE_RESOURCE_GOROUTINE &&
                   trace_listed(&a->fibers, ev->transition.id);
    return ev->time_ns >= in->from_ns && (!in->to_ns || ev->time_ns <= in->to_ns) &&
           (!a->kind || !strcasecmp(a->kind, trace_kind_name(ev->kind))) &&
           (subject || trace_listed(&a->fibers, ev->goroutine));
}

// No event was wanted: why. CLI_FAILURE after a message; a range in which nothing happens is none.
static int check_found(const struct trace_input *in, FILE *out)
{
    const struct trace_args *a = in->args;
    char there[TRACE_THERE_MAX];
    if (trace_input_check_fibers(in))
        return CLI_FAILURE;
    if (!a->kind && !a->fibers.count) {
        if (!a->json)
            fputs("No event in this range.\n", out);
        return CLI_OK;
    }
    return cli_fail("%s: no such event in it%s; %s", a->path,
                    in->from_ns || in->to_ns ? " in this range" : "", trace_there(there, in));
}

int trace_report_events(const struct trace_args *a)
{
    struct profile_output o;
    struct trace_input in;
    const struct trace_event *ev;
    struct json j;
    int64_t most = a->rows > 0 ? a->rows : INT64_MAX, left = most;
    bool known = !a->kind;
    for (uint8_t k = TRACE_SYNC; k <= TRACE_EXPERIMENTAL && !known; k++)
        known = !strcasecmp(a->kind, trace_kind_name(k));
    if (!known)
        return cli_usage("there is no kind \"%.60s\" of events; there are StateTransition, "
                         "RegionBegin, RegionEnd, TaskBegin, TaskEnd, Log, Label, Metric, "
                         "StackSample, RangeBegin, RangeActive, RangeEnd, Sync, Experimental",
                         a->kind);
    int got = 0, none = 0, status = trace_input_open(&in, a);
    if (!status && !(status = profile_output_open(&o, a->output))) {
        j = (struct json){.out = o.out};
        if (a->json) {
            json_open(&j, NULL, '[');
        }
        while (left > 0 && (got = trace_input_next(&in, &ev)) > 0) {
            if (!wanted(&in, ev))
                continue;
            left--;
            if (a->json)
                json_event(&j, &in, ev);
            else
                print_event(o.out, &in, ev);
        }
        if (a->json)
            json_close(&j, ']');
        if (!got && left == most)
            none = check_found(&in, o.out);
        status = profile_output_close(&o, got >= 0 && !none);
        status = got < 0 || none ? CLI_FAILURE : status;
    }
    trace_input_close(&in);
    return status;
}

// --- validate

struct verdict {
    const struct trace_error *error; // NULL: valid
    uint64_t events, generations, bytes;
};

static const char *event_word(const struct trace_error *e)
{
    const char *name = e->wire ? trace_spec_of(e->wire)->name : NULL;
    return name ? name : ""; // a byte that is no event's
}

static void print_counts(FILE *out, const struct verdict *v)
{
    fprintf(out, "%" PRIu64 " event%s in %" PRIu64 " generation%s", v->events,
            v->events == 1 ? "" : "s", v->generations, v->generations == 1 ? "" : "s");
}

static void print_verdict(FILE *out, const struct trace_input *in, const struct verdict *v)
{
    const struct trace_error *e = v->error;
    const char *path = in->args->path;
    if (!e) {
        fprintf(out, "%s: valid: ", path);
        print_counts(out, v);
        fprintf(out, ", format go 1.%u\n", trace_reader_version(in->reader));
        trace_print_lost(out, in);
        return;
    }
    fprintf(out, "%s: not valid: %s\n", path, e->text);
    fprintf(out, "  rule        %s\n", trace_rule_name(e->rule));
    fprintf(out, "  generation  %" PRIu64 "\n", e->generation);
    fprintf(out, "  batch       %" PRIu64 "\n", e->batch);
    fprintf(out, "  byte        %" PRIu64 "\n", e->offset);
    if (e->thread != TRACE_NONE)
        fprintf(out, "  thread      %" PRId64 "\n", e->thread);
    if (*event_word(e))
        fprintf(out, "  event       %s\n", event_word(e));
    fprintf(out, "  %s ", in->args->salvage ? "--salvage keeps" : "before it  ");
    print_counts(out, v);
    fputc('\n', out);
}

static void json_verdict(FILE *out, const struct trace_input *in, const struct verdict *v)
{
    const struct trace_error *e = v->error;
    struct json j = {.out = out};
    json_open(&j, NULL, '{');
    json_string(&j, "file", in->args->path);
    json_bool(&j, "valid", !e);
    json_int(&j, "events", (int64_t)v->events);
    json_int(&j, "generations", (int64_t)v->generations);
    trace_json_lost(&j, in);
    if (e) {
        json_string(&j, "rule", trace_rule_name(e->rule));
        json_int(&j, "generation", (int64_t)e->generation);
        json_int(&j, "batch", (int64_t)e->batch);
        json_int(&j, "offset", (int64_t)e->offset);
        json_int(&j, "thread", e->thread);
        json_string(&j, "event", event_word(e));
        json_string(&j, "text", e->text);
    }
    json_close(&j, '}');
}

int trace_report_validate(const struct trace_args *a)
{
    struct profile_output o;
    struct trace_input in;
    struct verdict v = {0};
    int status = trace_input_open_reader(&in, a);
    if (status) { // no trace at all: its header, or the file, is not to be read
        trace_input_close(&in);
        return status;
    }
    const struct trace_event *ev;
    while (trace_reader_next(in.reader, &ev) > 0) {
        if (!v.events++)
            in.base_ns = ev->time_ns;
        v.generations += ev->kind == TRACE_SYNC && ev->sync.generation;
    }
    v.error = trace_reader_error(in.reader);
    if (!v.error)
        v.error = trace_reader_damage(in.reader);
    // That there is no room for it says nothing of the file.
    bool fits = !v.error || (v.error->code != -EFBIG && v.error->code != -ENOMEM);
    status = fits ? profile_output_open(&o, a->output) : trace_input_fail_reading(&in);
    if (!status) {
        if (a->json)
            json_verdict(o.out, &in, &v);
        else
            print_verdict(o.out, &in, &v);
        status = profile_output_close(&o, true);
    }
    if (!status && v.error)
        status = CLI_FAILURE;
    trace_reader_close(in.reader);
    in.reader = NULL;
    trace_input_close(&in);
    return status;
}
