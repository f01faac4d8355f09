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

// "p99", "p99.9", or a duration. One without a unit is no duration: who writes 99 means a percentile.
static int parse_slow(const char *text, struct trace_explain_options *o)
{
    o->quantile = 0.99;
    if (!text)
        return CLI_OK;
    char *end = NULL;
    if (text[0] == 'p') {
        double percent = strtod(text + 1, &end);
        o->quantile = percent / 100;
        if (end > text + 1 && !*end && percent > 0 && percent < 100)
            return CLI_OK;
    } else if (text[strspn(text, "0123456789.")] && !cli_parse_duration(text, &o->threshold_ns) &&
               o->threshold_ns > 0) {
        return CLI_OK;
    }
    return cli_usage(
        "--slow takes a percentile, as p99 or p99.9, or a time with its unit, as 20ms, "
        "not \"%.40s\"",
        text);
}

static int64_t rounded(double ns)
{
    return (int64_t)llround(ns);
}

enum { WHAT_COLUMN = 50, FRAMES_MAX = 6 };

static const struct {
    const char *key, *word;
} taken[TRACE_PIECE_KINDS] = {
    [TRACE_PIECE_DESCHEDULED] = {"descheduled", "off the CPU"},
    [TRACE_PIECE_FAULT] = {"fault", "page faults"},
    [TRACE_PIECE_SYSCALL] = {"syscall", "in the kernel"},
    [TRACE_PIECE_WAIT] = {"wait", "asleep in the kernel"},
};

// A stack under a piece, without the runtime's own frames at its leaf.
static void print_stack(FILE *out, const struct terminal *t, const struct trace_spans *s,
                        uint32_t number, int indent)
{
    const struct trace_stack *stack = trace_stacks_get(&s->stacks, number);
    trace_frames_print(out, t, &s->names, stack, trace_frame_of_user(&s->names, stack), indent,
                       FRAMES_MAX);
}

static void print_reason(FILE *out, const struct terminal *t, const struct trace_spans *s,
                         uint32_t reason)
{
    if (!reason)
        return;
    fputs(" (", out);
    terminal_print(out, t, trace_names_text(&s->names, reason), 0);
    fputc(')', out);
}

static void print_runnable(FILE *out, const struct terminal *t, const struct trace_spans *s,
                           const struct trace_piece *p, bool has_stacks)
{
    if (!p->is_held) {
        fputs("while its Proc ran no fiber\n", out);
        return;
    }
    fputs("while ", out);
    trace_name_print(out, t, trace_names_text(&s->names, p->holder));
    fputs(" had the Proc", out);
    if (p->holder_stack && has_stacks) {
        fputs(", mostly in\n", out);
        print_stack(out, t, s, p->holder_stack, WHAT_COLUMN + 2);
    } else {
        fputc('\n', out);
    }
}

static void print_holder(FILE *out, const struct terminal *t, const struct trace_spans *s,
                         const struct trace_piece *p, bool has_stacks)
{
    bool is_shown = p->holder_stack && has_stacks;
    fprintf(out, "%*s%s ", WHAT_COLUMN, "", p->is_held ? "held by" : "ended by");
    trace_name_print(out, t, trace_names_text(&s->names, p->holder));
    fputs(is_shown ? p->is_held ? ", let go in\n" : ", in\n" : "\n", out);
    if (is_shown)
        print_stack(out, t, s, p->holder_stack, WHAT_COLUMN + 2);
}

// Whoever let go had it for a reason: what it mostly did with the time.
static void print_meanwhile(FILE *out, const struct terminal *t, const struct trace_spans *s,
                            const struct trace_piece *p)
{
    char text[120], ns[TRACE_NS_MAX];
    uint32_t stack = trace_meanwhile_stack(p);
    if (!*trace_meanwhile(text, sizeof text, p, trace_ns(ns, rounded(p->meanwhile_ns))))
        return;
    fprintf(out, "%*s%s%s\n", WHAT_COLUMN, "", text, stack ? ", in" : "");
    if (stack)
        print_stack(out, t, s, stack, WHAT_COLUMN + 2);
}

// "off the CPU, which bursts had"
static void print_taken(FILE *out, const struct terminal *t, const struct trace_kernel *k,
                        const struct trace_piece *p)
{
    const char *by = trace_kernel_name(k, p->by);
    enum trace_piece_kind kind = (enum trace_piece_kind)(p->kernel - 1);
    fputs(taken[kind].word, out);
    if (*by && kind != TRACE_PIECE_FAULT) {
        fputs(kind == TRACE_PIECE_DESCHEDULED ? ", which " : ": ", out);
        terminal_print(out, t, by, 0);
        if (kind == TRACE_PIECE_DESCHEDULED)
            fputs(" had", out);
    }
    fputc('\n', out);
}

static void print_what(FILE *out, const struct terminal *t, const struct trace_spans *s,
                       const struct trace_kernel *k, const struct trace_piece *p, bool has_stacks)
{
    const char *function = trace_names_text(&s->names, p->function);
    fprintf(out, "%-9s", trace_part_name(p->part));
    if (p->part == TRACE_PART_RUNNABLE) {
        print_runnable(out, t, s, p, has_stacks);
        return;
    }
    if (p->kernel) {
        print_taken(out, t, k, p);
        return;
    }
    if (p->off_cpu)
        fputs(p->stack && has_stacks ? "off the CPU, up to" : "off the CPU", out);
    else if (p->part == TRACE_PART_RUNNING && !*function)
        fputs("(no CPU samples)", out);
    else if (*function)
        trace_name_print(out, t, function);
    print_reason(out, t, s, p->reason);
    fputc('\n', out);
    if (p->stack && has_stacks)
        print_stack(out, t, s, p->stack, WHAT_COLUMN + 2);
    if (p->part == TRACE_PART_LOCK)
        print_holder(out, t, s, p, has_stacks);
    if (p->part == TRACE_PART_LOCK && has_stacks)
        print_meanwhile(out, t, s, p);
}

static void print_row(FILE *out, double slow_ns, double typical_ns, double gap_ns)
{
    char x[TRACE_NS_MAX], y[TRACE_NS_MAX], z[TRACE_NS_MAX], w[TRACE_NS_MAX];
    double d = slow_ns - typical_ns;
    if (fabs(d) < 0.0005 * fabs(gap_ns))
        trace_share(y, 0, gap_ns); // not "-0.0%"
    else
        trace_share(y, d, gap_ns);
    fprintf(out, "%12s %8s %12s %12s  ", trace_ns(x, rounded(d)), y, trace_ns(z, rounded(slow_ns)),
            trace_ns(w, rounded(typical_ns)));
}

static void print_head(FILE *out, const struct terminal *t, const struct trace_args *a,
                       const struct trace_explained *e)
{
    char x[TRACE_NS_MAX], y[TRACE_NS_MAX];
    fprintf(out, "%s ", a->task ? "Task" : "Region");
    terminal_print(out, t, a->task ? a->task : a->region, 0);
    fprintf(out, ": %" PRIu32 " instance%s, half of them shorter than %s\n", e->instances,
            cli_s(e->instances), trace_ns(x, e->median_ns));
    fprintf(out, "  slow:    %6" PRIu32 " instance%s from %s on, mean %s\n", e->slow,
            cli_s(e->slow), trace_ns(x, e->threshold_ns), trace_ns(y, rounded(e->slow_mean_ns)));
    fprintf(out, "  typical: %6" PRIu32 " instance%s around the median, mean %s\n", e->typical,
            cli_s(e->typical), trace_ns(x, rounded(e->typical_mean_ns)));
    fprintf(out, "The slow ones take %s longer. That is, in means of an instance:\n\n",
            trace_ns(x, rounded(e->slow_mean_ns - e->typical_mean_ns)));
    fprintf(out, "%12s %8s %12s %12s\n", "longer", "share", "slow", "typical");
}

static void print_no_samples(FILE *out, const struct trace_input *in,
                             const struct trace_explained *e)
{
    char x[TRACE_NS_MAX], y[TRACE_NS_MAX];
    double slow_ns = 0, typical_ns = 0;
    for (uint32_t i = 0; i < e->piece_count; i++) {
        const struct trace_piece *p = &e->pieces[i];
        bool runs = p->part == TRACE_PART_RUNNING && !p->off_cpu && !p->kernel;
        slow_ns += runs ? p->slow_ns * e->slow : 0;
        typical_ns += runs ? p->typical_ns * e->typical : 0;
    }
    fputs("\nRunning time is not divided by function: ", out);
    if (!in->has_samples)
        fputs("the trace has no CPU samples (record --trace --cpu -F 999\ntakes them).\n", out);
    else
        fprintf(out,
                "%" PRIu64
                " CPU samples fell into the slow instances,\nwhich ran %s in all (%" PRIu32
                " of them), %" PRIu64 " into the typical, which ran %s (%" PRIu32
                "): too few, a longer trace has more.\n",
                e->slow_samples, trace_ns(x, rounded(slow_ns)), e->slow, e->typical_samples,
                trace_ns(y, rounded(typical_ns)), e->typical);
}

// Means of an instance: what became of the time in which it ran.
struct runs {
    double slow_ns[TRACE_PIECE_KINDS + 1], typical_ns[TRACE_PIECE_KINDS + 1]; // [0]: computing
};

static struct runs runs_of(const struct trace_explained *e)
{
    struct runs r = {0};
    for (uint32_t i = 0; i < e->piece_count; i++) {
        const struct trace_piece *p = &e->pieces[i];
        r.slow_ns[p->kernel] += p->part == TRACE_PART_RUNNING ? p->slow_ns : 0;
        r.typical_ns[p->kernel] += p->part == TRACE_PART_RUNNING ? p->typical_ns : 0;
    }
    return r;
}

static void print_runs(FILE *out, const struct trace_explained *e)
{
    const struct runs r = runs_of(e);
    char a[TRACE_NS_MAX], b[TRACE_NS_MAX];
    fprintf(out, "\nRunning, in means of an instance, by the kernel trace:\n\n%12s %12s\n", "slow",
            "typical");
    for (int i = 0; i <= TRACE_PIECE_KINDS; i++)
        fprintf(out, "%12s %12s  %s\n", trace_ns(a, rounded(r.slow_ns[i])),
                trace_ns(b, rounded(r.typical_ns[i])), i ? taken[i - 1].word : "computing");
    if (e->slow_unknown_ns > 0 || e->typical_unknown_ns > 0)
        fprintf(out, "Of %s and %s of that it says nothing, which counts as computing.\n",
                trace_ns(a, rounded(e->slow_unknown_ns)),
                trace_ns(b, rounded(e->typical_unknown_ns)));
}

static void print(FILE *out, const struct trace_input *in, const struct trace_spans *s,
                  const struct trace_kernel *k, const struct trace_explained *e)
{
    const struct trace_args *a = in->args;
    struct terminal t = terminal_of(out);
    double gap = e->slow_mean_ns - e->typical_mean_ns;
    uint32_t rows = a->rows < 0 ? 12 : a->rows ? (uint32_t)a->rows : UINT32_MAX;
    uint32_t left = 0;
    double left_slow = 0, left_typical = 0, running = 0;
    bool has_samples = e->slow_samples && e->typical_samples;
    print_head(out, &t, a, e);
    for (uint32_t i = 0; i < e->piece_count; i++) {
        const struct trace_piece *p = &e->pieces[i];
        double d = p->slow_ns - p->typical_ns;
        if (p->part == TRACE_PART_RUNNING && !p->off_cpu && !p->kernel)
            running += d;
        if (i >= rows || (a->rows && fabs(d) < 0.001 * fabs(gap))) {
            left++;
            left_slow += p->slow_ns;
            left_typical += p->typical_ns;
            continue;
        }
        print_row(out, p->slow_ns, p->typical_ns, gap);
        print_what(out, &t, s, k, p, !a->rows || fabs(d) >= 0.01 * fabs(gap));
    }
    if (left) {
        print_row(out, left_slow, left_typical, gap);
        fprintf(out, "%" PRIu32 " more, each less (-n 0 lists them)\n", left);
    }
    print_row(out, e->slow_mean_ns, e->typical_mean_ns, gap);
    fputs("in all\n", out);
    if (k)
        print_runs(out, e);
    if (!has_samples && running > 0.01 * gap)
        print_no_samples(out, in, e);
}

static void json_runs(struct json *j, const struct trace_explained *e)
{
    const struct runs r = runs_of(e);
    json_open(j, "running", '{');
    for (int i = 0; i <= TRACE_PIECE_KINDS; i++) {
        json_open(j, i ? taken[i - 1].key : "computing", '{');
        json_real(j, "slow_ns", r.slow_ns[i]);
        json_real(j, "typical_ns", r.typical_ns[i]);
        json_close(j, '}');
    }
    json_open(j, "unknown", '{'); // part of computing
    json_real(j, "slow_ns", e->slow_unknown_ns);
    json_real(j, "typical_ns", e->typical_unknown_ns);
    json_close(j, '}');
    json_close(j, '}');
}

static void json_taken(struct json *j, const struct trace_kernel *k, const struct trace_piece *p)
{
    if (!p->kernel)
        return;
    json_string(j, "kernel", taken[p->kernel - 1].key);
    json_string(j, "by", trace_kernel_name(k, p->by));
}

static void print_json(FILE *out, const struct trace_args *a, const struct trace_spans *s,
                       const struct trace_kernel *k, const struct trace_explained *e)
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
    if (k)
        json_runs(&j, e);
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
        if (p->meanwhile_ns > 0) {
            json_string(&j, "meanwhile", trace_part_name(p->meanwhile));
            json_real(&j, "meanwhile_ns", p->meanwhile_ns);
            trace_json_stack(&j, "meanwhile_stack", &s->names,
                             trace_stacks_get(&s->stacks, p->meanwhile_stack));
        }
        if (p->off_cpu)
            json_bool(&j, "off_cpu", true);
        json_taken(&j, k, p);
        if (p->part == TRACE_PART_RUNNABLE && p->is_held) {
            json_string(&j, "occupant", trace_names_text(&s->names, p->holder));
            trace_json_stack(&j, "occupant_stack", &s->names,
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
    so = (struct trace_spans_options){.keep = marks | TRACE_KEEP_SPANS | TRACE_KEEP_RUNS |
                                              TRACE_KEEP_SAMPLES,
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
    struct trace_kernel *k = NULL;
    struct trace_spans *s = NULL;
    struct profile_output o;
    struct trace_input in;
    char x[TRACE_NS_MAX], y[TRACE_NS_MAX];
    if (!a->task == !a->region)
        return cli_usage("explain: one of --region=NAME and --task=NAME is needed");
    if (parse_slow(a->slow, &eo))
        return CLI_USAGE;
    int status = trace_input_open(&in, a);
    if (!status)
        status = trace_input_kernel(&k, a, false);
    if (status &&
        !a->second) { // nobody asked for the one beside it; what is wrong with it has been said
        trace_kernel_free(k);
        k = NULL;
        status = CLI_OK;
    }
    if (!status)
        status = read_spans(&in, &eo, &s);
    if (!status) {
        if (k && !a->second && !trace_kernel_covers(k, s->begin_ns, s->end_ns)) {
            trace_kernel_free(k); // a former recording has left it
            k = NULL;
        }
        eo.kernel = k;
        int rc = trace_explain(s, &eo, &e);
        if (rc == -ENOENT)
            status = cli_fail_at(a->path,
                                 "no %s \"%s\" with begin and end in it (`fiberscope trace %ss "
                                 "FILE` lists them)",
                                 a->task ? "task" : "region", eo.name, a->task ? "task" : "region");
        else if (rc == -EAGAIN)
            status = cli_fail("%s: there are no slow ones beside typical ones: of %" PRIu32
                              " instance%s of \"%s\" half take less than %s, and the longest %s; "
                              "choose a --slow between",
                              a->path, e.instances, cli_s(e.instances), eo.name,
                              trace_ns(x, e.median_ns), trace_ns(y, e.longest_ns));
        else if (rc)
            status = cli_fail("%s", strerror(-rc));
    }
    if (!status && !(status = profile_output_open(&o, a->output))) {
        if (a->json)
            print_json(o.out, a, s, k, &e);
        else
            print(o.out, &in, s, k, &e);
        status = profile_output_close(&o, true);
    }
    trace_explained_finish(&e);
    trace_spans_free(s);
    trace_kernel_free(k);
    trace_input_close(&in);
    return status;
}
