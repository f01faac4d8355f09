// SPDX-License-Identifier: MIT
//
// fiberscope trace util: how busy the Procs were, over time and at the worst.

#include "analysis/trace/util.h"
#include "cli/trace_report.h"
#include "cli/trace_tables.h"

#include <inttypes.h>
#include <string.h>

static const int64_t windows_ns[] = {10000,    30000,    100000,    300000,    1000000,   3000000,
                                     10000000, 30000000, 100000000, 300000000, 1000000000};

static void bounds(const struct trace_util *u, int64_t *begin_ns, int64_t *end_ns)
{
    *begin_ns = u->count ? u->points[0].at_ns : 0;
    *end_ns = u->count ? u->points[u->count - 1].at_ns : 0;
}

static void print(FILE *out, const struct trace_input *in, const struct trace_util *running,
                  const struct trace_util *mutator)
{
    enum { ROWS = 20, ROWS_MAX = 1000, WIDTH = 50 };
    char a[TRACE_NS_MAX], b[TRACE_NS_MAX], c[TRACE_NS_MAX], d[TRACE_NS_MAX];
    int64_t begin, end, at, at_gc;
    bounds(running, &begin, &end);
    int64_t rows = in->args->rows > 0 ? in->args->rows : ROWS;
    rows = rows < ROWS_MAX ? rows : ROWS_MAX;
    trace_print_share(out, trace_util_mean(running, begin, end), trace_util_procs(running));
    fputc('\n', out);
    for (int64_t i = 0; i < rows && end > begin; i++) {
        int64_t from = begin + (int64_t)((double)(end - begin) * (double)i / (double)rows),
                to = begin + (int64_t)((double)(end - begin) * (double)(i + 1) / (double)rows);
        double share = trace_util_mean(running, from, to);
        fprintf(out, "%12s %7s %.*s\n", trace_at(a, in, from), trace_share(b, share, 1),
                (int)(share * WIDTH + 0.5), "##################################################");
    }
    fprintf(out, "\nAt least, over any window of a length (and where the worst one begins):\n");
    fprintf(out, "%12s %9s %13s %24s\n", "window", "running", "", "left by Go's collector");
    for (size_t i = 0; i < CLI_COUNT(windows_ns) && windows_ns[i] <= end - begin; i++) {
        double share = trace_util_minimum(running, windows_ns[i], &at);
        double left = trace_util_minimum(mutator, windows_ns[i], &at_gc);
        fprintf(out, "%12s %9s %13s", trace_ns(a, windows_ns[i]), trace_share(b, share, 1),
                trace_at(c, in, at));
        fprintf(out, " %10s", trace_share(b, left, 1));
        fprintf(out, " %13s\n", left < 1 ? trace_at(d, in, at_gc) : "");
    }
}

static void json_curve(struct json *j, const char *key, const struct trace_input *in,
                       const struct trace_util *u)
{
    int64_t begin, end, at = 0;
    bounds(u, &begin, &end);
    json_open(j, key, '{');
    json_real(j, "mean", trace_util_mean(u, begin, end));
    json_open(j, "minimum", '[');
    for (size_t i = 0; i < CLI_COUNT(windows_ns) && windows_ns[i] <= end - begin; i++) {
        json_open(j, NULL, '{');
        json_int(j, "window_ns", windows_ns[i]);
        json_real(j, "share", trace_util_minimum(u, windows_ns[i], &at));
        json_int(j, "at_ns", at - in->base_ns);
        json_close(j, '}');
    }
    json_close(j, ']');
    json_open(j, "points", '[');
    for (size_t i = 0; i < u->count; i++) {
        json_open(j, NULL, '[');
        json_int(j, NULL, u->points[i].at_ns - in->base_ns);
        json_real(j, NULL, u->points[i].share);
        json_close(j, ']');
    }
    json_close(j, ']');
    json_close(j, '}');
}

static int read_both(struct trace_input *in, struct trace_util **running,
                     struct trace_util **mutator)
{
    const struct trace_event *ev;
    int got = 0, rc = trace_util_new(running, TRACE_UTIL_RUNNING, in->from_ns, in->to_ns);
    if (!rc)
        rc = trace_util_new(mutator, TRACE_UTIL_MUTATOR, in->from_ns, in->to_ns);
    while (!rc && (got = trace_input_next(in, &ev)) > 0) {
        rc = trace_util_event(*running, in->reader, ev);
        rc = rc ? rc : trace_util_event(*mutator, in->reader, ev);
    }
    if (got < 0)
        return CLI_FAILURE;
    rc = rc ? rc : trace_util_finish(*running);
    rc = rc ? rc : trace_util_finish(*mutator);
    return rc ? cli_fail("%s: %s", in->args->path, strerror(-rc)) : CLI_OK;
}

int trace_report_util(const struct trace_args *a)
{
    struct trace_util *running = NULL, *mutator = NULL;
    struct profile_output o;
    struct trace_input in;
    int status = trace_input_open(&in, a);
    if (!status)
        status = read_both(&in, &running, &mutator);
    if (!status && !(status = profile_output_open(&o, a->output))) {
        struct json j = {.out = o.out};
        if (a->json) {
            json_open(&j, NULL, '{');
            json_curve(&j, "running", &in, running);
            json_curve(&j, "mutator", &in, mutator);
            json_close(&j, '}');
        } else {
            print(o.out, &in, running, mutator);
        }
        status = profile_output_close(&o, true);
    }
    trace_util_free(running);
    trace_util_free(mutator);
    trace_input_close(&in);
    return status;
}
