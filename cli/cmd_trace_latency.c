// SPDX-License-Identifier: MIT
//
// fiberscope trace latency: how long those that could run waited until they ran; of a kernel trace with the files that
// follow it.

#include "analysis/trace/latency.h"
#include "cli/trace_report.h"

#include "analysis/units.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>

enum { ROWS = 20 };

static const double shares[] = {0.5, 0.9, 0.99};

struct heard { // of the files
    int64_t base_ns;
    int files;
};

// --- Text.

static bool matches(const struct trace_latency *l, const struct trace_latency_row *row,
                    const char *name)
{
    return trace_name_matches(trace_names_text(&l->names, row->name), name) ||
           trace_name_matches(trace_names_text(&l->names, row->process), name);
}

static void print_waits(FILE *out, const struct trace_latency_waits *w)
{
    char label[TRACE_NS_MAX + 2];
    bool is_exact;
    fprintf(out, "%10" PRIu64, w->hist.count);
    for (size_t i = 0; i < CLI_COUNT(shares); i++) {
        int64_t ns = trace_latency_quantile_ns(w, shares[i], &is_exact);
        size_t at = is_exact ? 0 : strlen(strcpy(label, "<="));
        units_label(label + at, sizeof label - at, ns, "nanoseconds", "auto");
        fprintf(out, " %10s", w->hist.count ? label : "-");
    }
    fprintf(out, " %10s", w->hist.count ? trace_ns(label, w->hist.max_ns) : "-");
    fprintf(out, " %10s  ", trace_ns(label, w->hist.sum_ns));
}

static void print_row(FILE *out, const struct trace_latency *l, const struct trace_latency_row *row,
                      bool is_process)
{
    struct terminal t = terminal_of(out);
    print_waits(out, &row->waits);
    const char *process = trace_names_text(&l->names, row->process);
    if (!is_process || row->name)
        trace_name_print(out, &t, trace_names_text(&l->names, row->name));
    if (*process) {
        fputs(is_process ? "" : ", ", out);
        terminal_print(out, &t, process, 0);
    }
    fprintf(out, "  (%" PRIu64 ")\n", row->members);
}

static void print_rows(FILE *out, const struct trace_args *a, const struct trace_latency *l,
                       const char *title, struct trace_latency_row *const *rows, size_t count,
                       bool is_process)
{
    size_t most = a->rows == INT64_MIN ? ROWS : a->rows ? (size_t)a->rows : SIZE_MAX, seen = 0;
    for (size_t i = 0; i < count; i++) {
        if (!matches(l, rows[i], a->name) || seen++ >= most)
            continue;
        if (seen == 1)
            fprintf(out, "\n%s\n", title);
        print_row(out, l, rows[i], is_process);
    }
    if (seen > most)
        fprintf(out, "%10s %zu more (-n 0: all)\n", "...", seen - most);
}

static void print(FILE *out, const struct trace_args *a, const struct trace_latency *l,
                  const struct heard *h)
{
    const char *who = l->is_kernel ? "Threads" : "Fibers";
    char ns[TRACE_NS_MAX];
    fprintf(out, "%s that could run waited for a %s, each time until they ran:\n", who,
            l->is_kernel ? "CPU" : "Proc");
    fprintf(out, "%10s %10s %10s %10s %10s %10s\n", "waits", "p50", "p90", "p99", "longest",
            "total");
    print_waits(out, &l->whole);
    fputs("all\n", out);
    print_waits(out, &l->woken);
    fputs(l->is_kernel ? "after they were woken or born\n"
                       : "after they were woken, made, or back from a system call\n",
          out);
    print_waits(out, &l->taken_off);
    fputs("after they were preempted or had yielded\n", out);
    if (l->open)
        fprintf(out,
                "Not in it: %" PRIu64
                " wait%s whose begin or end the trace does not have, the longest "
                "for %s and more.\n",
                l->open, cli_s(l->open), trace_ns(ns, l->open_longest_ns));
    if (h->files > 1)
        fprintf(out, "Read from %d files; between them nothing was recorded.\n", h->files);
    print_rows(out, a, l, l->is_kernel ? "By thread name:" : "By start function:", l->rows,
               l->row_count, false);
    if (l->process_count > 1)
        print_rows(out, a, l, "By process:", l->processes, l->process_count, true);
}

// --- JSON.

static void json_waits(struct json *j, const char *key, const struct trace_latency_waits *w)
{
    static const char *const keys[] = {"p50_ns", "p90_ns", "p99_ns"};
    bool is_exact = true;
    json_open(j, key, '{');
    json_int(j, "count", (int64_t)w->hist.count);
    json_int(j, "sum_ns", w->hist.sum_ns);
    for (size_t i = 0; i < CLI_COUNT(shares); i++)
        json_int(j, keys[i], trace_latency_quantile_ns(w, shares[i], &is_exact));
    json_bool(j, "exact", is_exact); // else at most those
    json_int(j, "max_ns", w->hist.max_ns);
    json_close(j, '}');
}

static void json_rows(struct json *j, const struct trace_args *a, const struct trace_latency *l,
                      const char *key, struct trace_latency_row *const *rows, size_t count)
{
    json_open(j, key, '[');
    for (size_t i = 0; i < count; i++) {
        const struct trace_latency_row *row = rows[i];
        if (!matches(l, row, a->name))
            continue;
        json_open(j, NULL, '{');
        json_string(j, l->is_kernel ? "thread" : "function",
                    trace_names_text(&l->names, row->name));
        if (l->is_kernel)
            json_string(j, "process", trace_names_text(&l->names, row->process));
        json_int(j, l->is_kernel ? "threads" : "fibers", (int64_t)row->members);
        json_waits(j, "waits", &row->waits);
        json_close(j, '}');
    }
    json_close(j, ']');
}

static void print_json(FILE *out, const struct trace_args *a, const struct trace_latency *l,
                       const struct heard *h)
{
    struct json j = {.out = out};
    json_open(&j, NULL, '{');
    json_int(&j, "start_ns", h->base_ns); // CLOCK_MONOTONIC
    json_bool(&j, "is_kernel", l->is_kernel);
    json_int(&j, "files", h->files);
    json_waits(&j, "whole", &l->whole);
    json_waits(&j, "woken", &l->woken);
    json_waits(&j, "taken_off", &l->taken_off);
    json_int(&j, "open", (int64_t)l->open);
    json_int(&j, "open_longest_ns", l->open_longest_ns);
    json_rows(&j, a, l, l->is_kernel ? "threads" : "functions", l->rows, l->row_count);
    if (l->is_kernel)
        json_rows(&j, a, l, "processes", l->processes, l->process_count);
    json_close(&j, '}');
}

// --- Reading.

static int64_t later(int64_t base_ns, int64_t ns)
{
    return ns < 0 ? 0 : base_ns + ns;
}

// The range counts from the beginning of the first file.
static int read_file(struct trace_latency **l, const struct trace_args *a, const char *path,
                     struct heard *h)
{
    struct trace_args fa = *a;
    fa.path = path;
    fa.from_ns = fa.to_ns = -1;
    const struct trace_event *ev;
    struct trace_input in;
    int got = 0, rc = 0, status = trace_input_open(&in, &fa);
    if (!status && !h->files++) {
        h->base_ns = in.base_ns;
        rc = trace_latency_new(l, later(in.base_ns, a->from_ns), later(in.base_ns, a->to_ns));
    }
    while (!status && !rc && (got = trace_input_next(&in, &ev)) > 0)
        rc = trace_latency_event(*l, in.reader, ev);
    if (!status && !rc && got == 0)
        rc = trace_latency_file_end(*l);
    trace_input_close(&in);
    if (!status && (got < 0 || rc))
        status = rc ? cli_fail("%s: %s", path, strerror(-rc)) : CLI_FAILURE;
    return status;
}

static int read_files(struct trace_latency **l, const struct trace_args *a, struct heard *h)
{
    char next[PATH_MAX + 16], length[TRACE_NS_MAX];
    int status = read_file(l, a, a->path, h);
    for (int i = 2; !status && (*l)->is_kernel && trace_kernel_next(next, sizeof next, a->path, i);
         i++)
        status = read_file(l, a, next, h);
    int64_t length_ns = status ? 0 : (*l)->end_ns - h->base_ns;
    if (!status && a->from_ns > length_ns)
        status = cli_fail("%s: --from is behind the end: the trace lasts %s, and begins at 0",
                          a->path, trace_ns(length, length_ns));
    return status;
}

int trace_report_latency(const struct trace_args *a)
{
    struct trace_latency *l = NULL;
    struct profile_output o;
    struct heard h = {0};
    int status = read_files(&l, a, &h);
    if (!status)
        trace_latency_finish(l);
    if (!status && !(status = profile_output_open(&o, a->output))) {
        if (a->json)
            print_json(o.out, a, l, &h);
        else
            print(o.out, a, l, &h);
        status = profile_output_close(&o, true);
    }
    trace_latency_free(l);
    return status;
}
