// SPDX-License-Identifier: MIT
//
// fiberscope trace explain: why the slow instances of a region or task are slow.

#include "analysis/trace/explain.h"
#include "cli/trace_report.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

// "p99", "p99.9", or a duration.
static int parse_slow(const char *text, struct trace_explain_options *o)
{
    char *end;
    o->quantile = 0.99;
    if (!text)
        return CLI_OK;
    if (text[0] == 'p') {
        double percent = strtod(text + 1, &end);
        if (end == text + 1 || *end || !(percent > 0 && percent < 100))
            return cli_usage("--slow: \"%.40s\" is not a percentile, as p99", text);
        o->quantile = percent / 100;
        return CLI_OK;
    }
    if (cli_parse_duration(text, &o->threshold_ns) || o->threshold_ns <= 0)
        return cli_usage("--slow takes a percentile (p99) or a time (20ms), not \"%.40s\"", text);
    return CLI_OK;
}

static int64_t rounded(double ns)
{
    return (int64_t)llround(ns);
}

static void print_what(FILE *out, const struct terminal *t, const struct trace_spans *s,
                       const struct trace_piece *p)
{
    const char *function = trace_names_text(&s->names, p->function);
    fprintf(out, "%-9s", trace_part_name(p->part));
    if (p->part == TRACE_PART_RUNNING && !*function) {
        fputs("(no CPU samples)", out);
    } else if (*function) {
        trace_name_print(out, t, function);
    }
    if (p->part != TRACE_PART_RUNNING && p->reason) {
        fputs(" (", out);
        terminal_print(out, t, trace_names_text(&s->names, p->reason), 0);
        fputc(')', out);
    }
    fputc('\n', out);
    if (p->stack)
        trace_stack_print(out, t, &s->names, trace_stacks_get(&s->stacks, p->stack), 54, 6);
    if (!p->holder_stack)
        return;
    fprintf(out, "%52sheld by ", "");
    trace_name_print(out, t, trace_names_text(&s->names, p->holder));
    fputs(", until\n", out);
    trace_stack_print(out, t, &s->names, trace_stacks_get(&s->stacks, p->holder_stack), 54, 6);
}

static void print(FILE *out, const struct trace_args *a, const struct trace_spans *s,
                  const struct trace_explained *e)
{
    struct terminal t = terminal_of(out);
    char x[TRACE_NS_MAX], y[TRACE_NS_MAX], z[TRACE_NS_MAX], w[TRACE_NS_MAX];
    double gap = e->slow_mean_ns - e->typical_mean_ns;
    uint32_t rows = a->rows < 0 ? 12 : a->rows ? (uint32_t)a->rows : UINT32_MAX;
    fprintf(out, "%s ", a->task ? "Task" : "Region");
    terminal_print(out, &t, a->task ? a->task : a->region, 0);
    fprintf(out, ": %" PRIu32 " instances, half of them shorter than %s\n", e->instances,
            trace_ns(x, e->median_ns));
    fprintf(out, "  slow:    %6" PRIu32 " instances from %s on, mean %s\n", e->slow,
            trace_ns(x, e->threshold_ns), trace_ns(y, rounded(e->slow_mean_ns)));
    fprintf(out, "  typical: %6" PRIu32 " instances around the median, mean %s\n", e->typical,
            trace_ns(x, rounded(e->typical_mean_ns)));
    fprintf(out, "  The slow ones take %s longer. It is made of:\n\n", trace_ns(x, rounded(gap)));
    fprintf(out, "%12s %8s %12s %12s\n", "gap", "", "slow", "typical");
    double left_slow = 0, left_typical = 0;
    for (uint32_t i = 0; i < e->piece_count; i++) {
        const struct trace_piece *p = &e->pieces[i];
        double d = p->slow_ns - p->typical_ns;
        bool matters = fabs(d) >= 0.001 * fabs(gap);
        if (i >= rows || !matters) {
            left_slow += p->slow_ns;
            left_typical += p->typical_ns;
            continue;
        }
        fprintf(out, "%12s %8s %12s %12s  ", trace_ns(x, rounded(d)), trace_share(y, d, gap),
                trace_ns(z, rounded(p->slow_ns)), trace_ns(w, rounded(p->typical_ns)));
        print_what(out, &t, s, p);
    }
    if (left_slow > 0 || left_typical > 0)
        fprintf(out, "%12s %8s %12s %12s  the rest\n",
                trace_ns(x, rounded(left_slow - left_typical)),
                trace_share(y, left_slow - left_typical, gap), trace_ns(z, rounded(left_slow)),
                trace_ns(w, rounded(left_typical)));
    fprintf(out, "%12s %8s %12s %12s  in all\n", trace_ns(x, rounded(gap)),
            trace_share(y, gap, gap), trace_ns(z, rounded(e->slow_mean_ns)),
            trace_ns(w, rounded(e->typical_mean_ns)));
    if (!e->slow_samples || !e->typical_samples)
        fprintf(out,
                "\nRunning time is not divided by function: there are %" PRIu64
                " CPU samples in the slow "
                "instances and %" PRIu64 " in the others.\n",
                e->slow_samples, e->typical_samples);
}

static void print_json(FILE *out, const struct trace_args *a, const struct trace_spans *s,
                       const struct trace_explained *e)
{
    struct json j = {.out = out};
    json_open(&j, NULL, '{');
    json_string(&j, a->task ? "task" : "region", a->task ? a->task : a->region);
    json_int(&j, "instances", e->instances);
    json_int(&j, "slow", e->slow);
    json_int(&j, "typical", e->typical);
    json_int(&j, "median_ns", e->median_ns);
    json_int(&j, "threshold_ns", e->threshold_ns);
    json_real(&j, "slow_mean_ns", e->slow_mean_ns);
    json_real(&j, "typical_mean_ns", e->typical_mean_ns);
    json_real(&j, "gap_ns", e->slow_mean_ns - e->typical_mean_ns);
    json_int(&j, "slow_samples", (int64_t)e->slow_samples);
    json_int(&j, "typical_samples", (int64_t)e->typical_samples);
    json_open(&j, "pieces", '[');
    for (uint32_t i = 0; i < e->piece_count; i++) {
        const struct trace_piece *p = &e->pieces[i];
        json_open(&j, NULL, '{');
        json_string(&j, "part", trace_part_name(p->part));
        json_string(&j, "function", trace_names_text(&s->names, p->function));
        json_string(&j, "reason", trace_names_text(&s->names, p->reason));
        json_real(&j, "gap_ns", p->slow_ns - p->typical_ns);
        json_real(&j, "slow_ns", p->slow_ns);
        json_real(&j, "typical_ns", p->typical_ns);
        trace_json_stack(&j, "stack", &s->names, trace_stacks_get(&s->stacks, p->stack));
        if (p->part == TRACE_PART_LOCK) {
            json_string(&j, "holder", trace_names_text(&s->names, p->holder));
            trace_json_stack(&j, "holder_stack", &s->names,
                             trace_stacks_get(&s->stacks, p->holder_stack));
        }
        json_close(&j, '}');
    }
    json_close(&j, ']');
    json_close(&j, '}');
}

// The spans of the instances: found in a first reading, where the input can be read twice.
static int read_spans(struct trace_input *in, const struct trace_explain_options *eo,
                      struct trace_spans **s)
{
    unsigned marks = eo->tasks ? TRACE_KEEP_TASKS : TRACE_KEEP_REGIONS;
    struct trace_spans_options so = {.keep = marks, .type = eo->name};
    struct trace_interval *intervals = NULL;
    int count = 0, status = CLI_OK;
    if (in->repeats) {
        status = trace_input_spans(in, &so, s);
        if (status)
            return status;
        count = trace_explain_intervals(*s, eo, &intervals);
        if (count == -ENOENT)
            return CLI_OK; // which trace_explain says again
        trace_spans_free(*s);
        *s = NULL;
        status = count < 0 ? cli_fail("%s", strerror(-count)) : trace_input_again(in);
    }
    so = (struct trace_spans_options){.keep = marks | TRACE_KEEP_SPANS | TRACE_KEEP_SAMPLES,
                                      .type = eo->name,
                                      .intervals = intervals,
                                      .interval_count = (size_t)count};
    if (!status)
        status = trace_input_spans(in, &so, s);
    free(intervals);
    return status;
}

int trace_report_explain(const struct trace_args *a)
{
    struct trace_explain_options eo = {.name = a->task ? a->task : a->region, .tasks = a->task};
    struct trace_explained e = {0};
    struct trace_spans *s = NULL;
    struct profile_output o;
    struct trace_input in;
    if (!a->task == !a->region)
        return cli_usage("explain: --region=NAME or --task=NAME is needed");
    if (parse_slow(a->slow, &eo))
        return CLI_USAGE;
    int status = trace_input_open(&in, a);
    if (!status)
        status = read_spans(&in, &eo, &s);
    if (!status) {
        int rc = trace_explain(s, &eo, &e);
        if (rc == -ENOENT)
            status = cli_fail("%s: no %s \"%s\" with begin and end in it (`fiberscope trace %ss` "
                              "lists them)",
                              a->path, a->task ? "task" : "region", eo.name,
                              a->task ? "task" : "region");
        else if (rc == -EAGAIN)
            status = cli_fail("%s: %" PRIu32 " instances of \"%s\", half of them below %.3f ms: "
                              "there are no slow ones beside typical ones (another --slow?)",
                              a->path, e.instances, eo.name, (double)e.median_ns / 1e6);
        else if (rc)
            status = cli_fail("%s", strerror(-rc));
    }
    if (!status && !(status = profile_output_open(&o, a->output))) {
        if (a->json)
            print_json(o.out, a, s, &e);
        else
            print(o.out, a, s, &e);
        status = profile_output_close(&o, true);
    }
    trace_explained_finish(&e);
    trace_spans_free(s);
    trace_input_close(&in);
    return status;
}
