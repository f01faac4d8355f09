// SPDX-License-Identifier: MIT
//
// fiberscope trace sched, sync, syscall, net: where fibers wait, by stack; as text, JSON, or the
// profile that `go tool trace -pprof` gives.

#include "analysis/trace/wait_rows.h"
#include "cli/trace_report.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *word, *title;
    const char *none, *open; // there is none, or none that has ended
} kinds[] = {
    [TRACE_PROFILE_NET] = {"net", "Waiting for the network, by the stack that waits",
                           "No fiber waits for the network.",
                           "No wait for the network has ended; `fibers` has those that last."},
    [TRACE_PROFILE_SYNC] = {"sync", "Waiting for other fibers, by the stack that waits",
                            "No fiber waits for another one.",
                            "No wait for another fiber has ended; `fibers` has those that last."},
    [TRACE_PROFILE_SYSCALL] = {"syscall", "In system calls, by the stack that makes them",
                               "No fiber makes a system call.",
                               "No system call has ended; `fibers` has those that last."},
    [TRACE_PROFILE_SCHED] = {"sched",
                             "Runnable but not running, by the stack that made the fiber runnable",
                             "No fiber waits to run.",
                             "No fiber that waits to run has run before, or none runs then."},
};

struct waits {
    struct pprof_profile *profile;
    struct trace_wait_row *rows;
    size_t count;
    bool any;                 // ended or not
    struct trace_waits first; // of sched
};

static void print_first(FILE *out, const struct trace_waits *first)
{
    char x[TRACE_NS_MAX];
    if (first->count)
        fprintf(out,
                "Before their first run %" PRIu64 " fiber%s waited %s: not in this, as in Go's "
                "own; `fibers` has it.\n",
                first->count, cli_s(first->count), trace_ns(x, first->ns));
}

static void print_stack(FILE *out, const struct terminal *t, const struct trace_wait_row *r)
{
    enum { FRAMES_MAX = 10 };
    const struct pprof_sample *s = r->stack;
    for (uint32_t i = 0; i < s->location_count && i < FRAMES_MAX; i++) {
        const struct pprof_line *l = s->locations[i]->lines;
        const char *slash = strrchr(l->function->filename, '/');
        fprintf(out, "%36s", "");
        trace_name_print(out, t, l->function->name);
        if (*l->function->filename) {
            fputs("  ", out);
            terminal_print(out, t, slash ? slash + 1 : l->function->filename, 0);
            fprintf(out, ":%" PRId64, l->line);
        }
        fputc('\n', out);
    }
    if (s->location_count > FRAMES_MAX)
        fprintf(out, "%36s... %u more\n", "", s->location_count - FRAMES_MAX);
    if (!s->location_count)
        fprintf(out, "%36s(%s)\n", "", r->has_waker ? trace_waker_text(r->waker) : "no stack");
}

static void print(FILE *out, const struct trace_args *a, const struct waits *w,
                  enum trace_profile_kind kind)
{
    size_t rows = a->rows < 0 ? 20 : a->rows ? (size_t)a->rows : SIZE_MAX;
    char x[TRACE_NS_MAX], y[TRACE_NS_MAX], z[TRACE_NS_MAX];
    struct terminal t = terminal_of(out);
    int64_t total = 0;
    for (size_t i = 0; i < w->count; i++)
        total += w->rows[i].ns;
    if (!w->count) {
        fprintf(out, "%s\n", w->any ? kinds[kind].open : kinds[kind].none);
        print_first(out, &w->first);
        return;
    }
    fprintf(out, "%s; %s in all\n", kinds[kind].title, trace_ns(x, total));
    print_first(out, &w->first);
    fprintf(out, "%10s %7s %8s %8s\n", "time", "", "times", "mean");
    for (size_t i = 0; i < w->count && i < rows; i++) {
        const struct trace_wait_row *r = &w->rows[i];
        fprintf(out, "\n%10s %7s %8" PRIu64 " %8s\n", trace_ns(x, r->ns),
                trace_share(y, (double)r->ns, (double)total), r->count,
                trace_ns(z, r->ns / (int64_t)r->count));
        print_stack(out, &t, r);
    }
    if (w->count > rows)
        fprintf(out, "\n... %zu more stack%s (-n 0: all)\n", w->count - rows,
                cli_s(w->count - rows));
    fprintf(out, "\nThe same as a profile: fiberscope trace %s -o %s.pb.gz ", kinds[kind].word,
            kinds[kind].word);
    cli_print_word(out, a->path);
    fputc('\n', out);
}

static void print_json(FILE *out, const struct waits *w)
{
    struct json j = {.out = out};
    json_open(&j, NULL, '{');
    json_open(&j, "stacks", '[');
    for (size_t i = 0; i < w->count; i++) {
        const struct trace_wait_row *r = &w->rows[i];
        json_open(&j, NULL, '{');
        json_int(&j, "count", (int64_t)r->count);
        json_int(&j, "ns", r->ns);
        if (r->has_waker)
            json_string(&j, "by", trace_waker_name(r->waker));
        json_open(&j, "stack", '[');
        for (uint32_t k = 0; k < r->stack->location_count; k++) {
            const struct pprof_line *l = r->stack->locations[k]->lines;
            json_open(&j, NULL, '{');
            json_string(&j, "function", l->function->name);
            json_string(&j, "file", l->function->filename);
            json_int(&j, "line", l->line);
            json_close(&j, '}');
        }
        json_close(&j, ']');
        json_close(&j, '}');
    }
    json_close(&j, ']');
    json_close(&j, '}');
}

static int read_profile(struct trace_input *in, enum trace_profile_kind kind, struct waits *w)
{
    struct trace_profile *p;
    const struct trace_event *ev;
    int got = 0, rc = trace_profile_new(&p, kind, in->from_ns, in->to_ns);
    int64_t last_ns = in->base_ns;
    while (!rc && (got = trace_input_next(in, &ev)) > 0) {
        last_ns = ev->time_ns;
        rc = trace_profile_event(p, in->reader, ev);
    }
    if (!rc && got == 0)
        rc = trace_profile_finish(p, &w->profile);
    if (!rc && got == 0) {
        w->any = trace_profile_any(p);
        if (kind == TRACE_PROFILE_SCHED)
            w->first = trace_profile_first_waits(p);
        w->profile->duration_nanos = last_ns - (in->from_ns ? in->from_ns : in->base_ns);
        rc = trace_wait_rows(w->profile,
                             kind == TRACE_PROFILE_SCHED ? trace_profile_wakers(p) : NULL, &w->rows,
                             &w->count);
    }
    trace_profile_free(p);
    if (rc)
        return cli_fail("%s: %s", in->args->path, strerror(-rc));
    return got < 0 ? CLI_FAILURE : CLI_OK;
}

static int report(const struct trace_args *a, enum trace_profile_kind kind)
{
    struct waits w = {0};
    struct fscope_error err = {0};
    struct profile_output o;
    struct trace_input in;
    int status = trace_input_open(&in, a);
    if (!status)
        status = read_profile(&in, kind, &w);
    size_t n = a->output ? strlen(a->output) : 0;
    if (!status && n > 6 && !strcmp(a->output + n - 6, ".pb.gz")) {
        if (pprof_write_file(w.profile, a->output, &err))
            status = cli_fail("%s", err.text);
    } else if (!status && !(status = profile_output_open(&o, a->output))) {
        if (a->json)
            print_json(o.out, &w);
        else
            print(o.out, a, &w, kind);
        status = profile_output_close(&o, true);
    }
    free(w.rows);
    pprof_free(w.profile);
    trace_input_close(&in);
    return status;
}

int trace_report_sched(const struct trace_args *a)
{
    return report(a, TRACE_PROFILE_SCHED);
}

int trace_report_sync(const struct trace_args *a)
{
    return report(a, TRACE_PROFILE_SYNC);
}

int trace_report_syscall(const struct trace_args *a)
{
    return report(a, TRACE_PROFILE_SYSCALL);
}

int trace_report_net(const struct trace_args *a)
{
    return report(a, TRACE_PROFILE_NET);
}
