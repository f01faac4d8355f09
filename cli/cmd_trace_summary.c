// SPDX-License-Identifier: MIT
//
// fiberscope trace [summary]: all of a trace on one page, and what to look at next.

#include "analysis/trace/lints.h"
#include "analysis/units.h"
#include "cli/trace_report.h"
#include "cli/trace_tables.h"

#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>

static void print_head(FILE *out, const struct trace_input *in, const struct trace_summary *s)
{
    const struct trace_totals *t = &s->totals;
    char a[TRACE_NS_MAX], heap[UNITS_LABEL_MAX];
    fprintf(out, "%s: %s, %" PRIu64 " generation%s, %" PRIu64 " event%s, format go 1.%u\n",
            in->args->path, trace_ns(a, t->end_ns - t->begin_ns), t->generations,
            cli_s(t->generations), t->events, cli_s(t->events), trace_reader_version(in->reader));
    fprintf(out,
            "%" PRIu64 " fiber%s (%" PRIu64
            " alive at the end), %u start function%s, %u Proc%s, %" PRIu64 " thread%s",
            t->fibers, cli_s(t->fibers), t->alive, s->function_count, cli_s(s->function_count),
            s->proc_count, cli_s(s->proc_count), t->threads, cli_s(t->threads));
    if (t->by_kind[TRACE_TASK_BEGIN])
        fprintf(out, ", %" PRIu64 " task%s", t->tasks, cli_s(t->tasks));
    if (t->samples)
        fprintf(out, ", %" PRIu64 " CPU sample%s", t->samples, cli_s(t->samples));
    if (t->heap_max_bytes)
        fprintf(out, ", heap at most %s",
                units_label(heap, sizeof heap, (int64_t)t->heap_max_bytes, "bytes", "auto"));
    fputc('\n', out);
}

static void print_row(FILE *out, const char *word, int64_t ns, double whole, const char *means)
{
    char a[TRACE_NS_MAX], b[TRACE_NS_MAX];
    fprintf(out, "%12s %7s  %-10s %s\n", trace_ns(a, ns), trace_share(b, (double)ns, whole), word,
            means);
}

static void print_times(FILE *out, const struct trace_summary *s, uint32_t rows)
{
    const struct trace_times *t = &s->totals.times;
    double whole = (double)t->total_ns;
    struct terminal term = terminal_of(out);
    char lasts[TRACE_NS_MAX];
    fprintf(out,
            "\nWhat the fibers did (without the runtime's own), added up over all of them; the "
            "trace lasts %s:\n",
            trace_ns(lasts, s->totals.end_ns - s->totals.begin_ns));
    print_row(out, "running", t->running_ns, whole, "on a Proc");
    print_row(out, "runnable", t->runnable_ns, whole, "wanted to run and had no Proc");
    print_row(out, "syscall", t->syscall_ns + t->syscall_blocked_ns, whole, "in system calls");
    print_row(out, "blocked", t->blocked_ns, whole, "waited for something:");
    for (uint32_t i = 0; i < t->wait_count && i < rows && t->waits[i].ns; i++) {
        const struct trace_wait *w = &t->waits[i];
        char a[TRACE_NS_MAX], b[TRACE_NS_MAX];
        fprintf(out, "%12s %7s      ", trace_ns(a, w->ns), trace_share(b, (double)w->ns, whole));
        trace_wait_print(out, &term, &s->names, w);
        fputc('\n', out);
    }
}

static void print_utilisation(FILE *out, const struct trace_summary *s)
{
    const struct trace_totals *t = &s->totals;
    int64_t running = 0, syscall = 0, idle = 0, other = 0;
    char a[TRACE_NS_MAX], b[TRACE_NS_MAX], c[TRACE_NS_MAX], d[TRACE_NS_MAX];
    for (uint32_t i = 0; i < s->proc_count; i++) {
        running += s->procs[i]->running_ns;
        syscall += s->procs[i]->syscall_ns;
        idle += s->procs[i]->idle_ns;
        other += s->procs[i]->other_ns;
    }
    fputc('\n', out);
    trace_print_share(out, t->running_share, t->gomaxprocs);
    fprintf(out,
            "Together they ran fibers for %s, were in system calls %s, idle %s, scheduling %s.\n",
            trace_ns(a, running), trace_ns(b, syscall), trace_ns(c, idle), trace_ns(d, other));
    trace_print_runnable(out, &t->runnable);
}

static void print_json(FILE *out, const struct trace_input *in, const struct trace_summary *s,
                       const struct trace_lint *lints, size_t lint_count)
{
    const struct trace_totals *t = &s->totals;
    struct json j = {.out = out};
    json_open(&j, NULL, '{');
    json_string(&j, "file", in->args->path);
    json_int(&j, "duration_ns", t->end_ns - t->begin_ns);
    json_int(&j, "version", trace_reader_version(in->reader));
    json_int(&j, "generations", (int64_t)t->generations);
    json_int(&j, "events", (int64_t)t->events);
    json_int(&j, "fibers", (int64_t)t->fibers);
    json_int(&j, "alive", (int64_t)t->alive);
    json_int(&j, "threads", (int64_t)t->threads);
    json_int(&j, "gomaxprocs", (int64_t)t->gomaxprocs);
    json_real(&j, "utilisation", t->running_share);
    json_int(&j, "samples", (int64_t)t->samples);
    json_int(&j, "heap_max_bytes", (int64_t)t->heap_max_bytes);
    trace_json_lost(&j, in);
    json_open(&j, "times", '{');
    trace_json_times(&j, s, &t->times);
    json_close(&j, '}');
    json_open(&j, "runnable", '{');
    trace_json_hist(&j, &t->runnable, NULL);
    json_close(&j, '}');
    trace_json_functions(&j, s);
    trace_json_procs(&j, s);
    trace_json_wakes(&j, s, NULL);
    trace_json_types(&j, "tasks", in, s, s->task_types, s->task_type_count, NULL);
    trace_json_types(&j, "regions", in, s, s->region_types, s->region_type_count, NULL);
    trace_json_lints(&j, in, s, lints, lint_count);
    json_close(&j, '}');
}

static void print_text(FILE *out, const struct trace_input *in, const struct trace_summary *s,
                       const struct trace_lint *lints, size_t lint_count)
{
    uint32_t rows = in->args->rows < 0 ? 8 : in->args->rows ? (uint32_t)in->args->rows : UINT32_MAX;
    char program[PATH_MAX];
    print_head(out, in, s);
    if (trace_kernel_is(in->args->path, program, sizeof program))
        fprintf(out,
                "a kernel trace: fibers are threads here, Procs are CPUs, which are idle while "
                "they run others\n");
    trace_print_lost(out, in);
    print_utilisation(out, s);
    print_times(out, s, rows);
    fprintf(out, "\nBy start function:\n");
    trace_print_functions(out, s, s->functions, s->function_count, rows);
    if (s->region_type_count) {
        fprintf(out, "\nRegions:\n");
        trace_print_types(out, s, s->region_types, s->region_type_count, rows, NULL);
    }
    if (s->task_type_count) {
        fprintf(out, "\nTasks:\n");
        trace_print_types(out, s, s->task_types, s->task_type_count, rows, NULL);
    }
    if (s->edge_count) {
        fprintf(out, "\nWho wakes whom:\n");
        trace_print_wakes(out, s, rows, NULL);
    }
    if (lint_count) {
        fprintf(out, "\nRemarkable:\n");
        trace_print_lints(out, in, s, lints, lint_count, rows);
    }
    trace_print_next(out, in, s, lint_count);
}

// The reports that are made of a whole summary and its lints.
enum part { ALL, PROCS, WAKES, LINTS };
enum { PROCS_SHOWN = 64 };

static void print_part(FILE *out, enum part part, const struct trace_input *in,
                       const struct trace_summary *s, const struct trace_lint *lints, size_t count)
{
    const struct trace_args *a = in->args;
    struct json j = {.out = out};
    uint32_t rows = a->rows > 0 ? (uint32_t)a->rows : UINT32_MAX;
    if (part == ALL && a->json) {
        print_json(out, in, s, lints, count);
    } else if (part == ALL) {
        print_text(out, in, s, lints, count);
    } else if (a->json) {
        json_open(&j, NULL, '{');
        if (part == PROCS) {
            json_real(&j, "utilisation", s->totals.running_share);
            trace_json_procs(&j, s);
        }
        if (part == WAKES)
            trace_json_wakes(&j, s, a->name);
        if (part == LINTS)
            trace_json_lints(&j, in, s, lints, count);
        json_close(&j, '}');
    } else if (part == PROCS) {
        trace_print_procs(out, s, a->rows < 0 ? PROCS_SHOWN : rows);
        print_utilisation(out, s);
    } else if (part == WAKES) {
        trace_print_wakes(out, s, rows, a->name);
    } else {
        trace_print_lints(out, in, s, lints, count, rows);
        if (!count)
            fprintf(out, "Nothing remarkable: no fiber hogs, spins, starves, is stuck or waits for "
                         "ever, nor do all "
                         "of them wait for each other.\n");
    }
}

static int report(const struct trace_args *a, enum part part)
{
    struct trace_summary_options opts = {0};
    struct trace_lint *lints = NULL;
    struct trace_summary *s = NULL;
    struct profile_output o;
    struct trace_input in;
    // 0 is all of them, which the library has for the default.
    int64_t longer_ns = a->longer_ns ? a->longer_ns : 1;
    if (longer_ns > 0)
        opts.limits = (struct trace_limits){longer_ns, longer_ns, longer_ns};
    int status = trace_input_open(&in, a);
    if (!status)
        status = trace_input_summary(&in, &opts, &s);
    int count = status ? 0 : trace_lints(s, &lints);
    if (count < 0)
        status = cli_fail("out of memory");
    if (!status && part == WAKES && a->name && !trace_wakes_of(s, a->name))
        status = cli_fail_at(a->path,
                             "no start function with \"%s\" in its name wakes or is woken "
                             "(`fiberscope trace wakes FILE` lists them)",
                             a->name);
    if (!status && !(status = profile_output_open(&o, a->output))) {
        print_part(o.out, part, &in, s, lints, (size_t)count);
        status = profile_output_close(&o, true);
    }
    free(lints);
    trace_summary_free(s);
    trace_input_close(&in);
    return status;
}

int trace_report_summary(const struct trace_args *a)
{
    return report(a, ALL);
}

int trace_report_procs(const struct trace_args *a)
{
    return report(a, PROCS);
}

int trace_report_wakes(const struct trace_args *a)
{
    return report(a, WAKES);
}

int trace_report_lints(const struct trace_args *a)
{
    return report(a, LINTS);
}
