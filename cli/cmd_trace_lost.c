// SPDX-License-Identifier: MIT
//
// fiberscope trace lost: what fibers lost to the kernel, by the kernel trace that was recorded beside theirs.

#include "analysis/trace/lost.h"
#include "cli/trace_report.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>

enum { ROWS = 8 };

static const struct {
    const char *key, *word;
} kinds[TRACE_PIECE_KINDS] = {
    [TRACE_PIECE_DESCHEDULED] = {"descheduled", "off the CPU"},
    [TRACE_PIECE_FAULT] = {"fault", "page faults"},
    [TRACE_PIECE_SYSCALL] = {"syscall", "system calls"},
    [TRACE_PIECE_WAIT] = {"wait", "asleep in them"},
};

// --- Text.

static size_t rows_of(const struct trace_args *a, size_t count, size_t rows)
{
    size_t most = a->rows == INT64_MIN ? rows : a->rows ? (size_t)a->rows : count;
    return count < most ? count : most;
}

static void print_times(FILE *out, const struct trace_lost_times *t)
{
    char a[TRACE_NS_MAX];
    fprintf(out, "%11s", trace_ns(a, t->had_ns));
    for (int i = 0; i < TRACE_PIECE_KINDS; i++)
        fprintf(out, " %12s", trace_ns(a, t->ns[i]));
    fprintf(out, " %7s", trace_share(a, (double)trace_lost_sum(t), (double)t->had_ns));
}

static void print_rows(FILE *out, const struct trace_args *a, const struct trace_lost *l,
                       const char *title, const struct trace_lost_row *rows, size_t count)
{
    struct terminal t = terminal_of(out);
    size_t shown = rows_of(a, count, ROWS);
    if (!count)
        return;
    fprintf(out, "\n%s\n%11s", title, "had a CPU");
    for (int i = 0; i < TRACE_PIECE_KINDS; i++)
        fprintf(out, " %12s", i == TRACE_PIECE_DESCHEDULED ? "but was off" : kinds[i].word);
    fprintf(out, " %7s\n", "lost");
    for (size_t i = 0; i < shown; i++) {
        print_times(out, &rows[i].times);
        fputs("  ", out);
        trace_name_print(out, &t, trace_function_word(trace_names_text(&l->names, rows[i].name)));
        if (rows[i].id)
            fprintf(out, "  %" PRId64, rows[i].id);
        else
            fprintf(out, "  (%" PRIu64 ")", rows[i].instances);
        fputc('\n', out);
    }
    if (shown < count)
        fprintf(out, "         ... %zu more (-n 0: all)\n", count - shown);
}

static void print_by(FILE *out, const struct trace_args *a, const struct trace_lost *l,
                     const struct trace_kernel *k, int kind, const char *title)
{
    struct terminal t = terminal_of(out);
    char b[TRACE_NS_MAX];
    size_t shown = rows_of(a, l->by_count[kind], ROWS);
    if (!shown)
        return;
    fprintf(out, "\n%s\n", title);
    for (size_t i = 0; i < shown; i++) {
        const struct trace_lost_by *by = &l->by[kind][i];
        const char *name = trace_kernel_name(k, by->name);
        fprintf(out, "%11s %8" PRIu64 " times  ", trace_ns(b, by->ns), by->count);
        terminal_print(out, &t, *name ? name : "(nobody in the trace)", 0);
        fputc('\n', out);
    }
    if (shown < l->by_count[kind])
        fprintf(out, "         ... %zu more (-n 0: all)\n", l->by_count[kind] - shown);
}

static void print_stalls(FILE *out, const struct trace_input *in, const struct trace_lost *l,
                         const struct trace_kernel *k)
{
    struct terminal t = terminal_of(out);
    char a[TRACE_NS_MAX], b[TRACE_NS_MAX];
    size_t shown = rows_of(in->args, l->stall_count, ROWS);
    if (shown)
        fprintf(out, "\nThe longest:\n");
    for (size_t i = 0; i < shown; i++) {
        const struct trace_lost_stall *s = &l->stalls[i];
        const char *by = trace_kernel_name(k, s->by);
        fprintf(out, "%11s at %s, fiber %" PRId64 " ", trace_ns(a, s->ns),
                trace_at(b, in, s->begin_ns), s->fiber);
        trace_name_print(out, &t, trace_function_word(trace_names_text(&l->names, s->function)));
        if (s->region) {
            fputs(", in ", out);
            terminal_print(out, &t, trace_names_text(&l->names, s->region), 0);
        }
        fprintf(out, ": %s", kinds[s->kind].word);
        if (*by && s->kind != TRACE_PIECE_FAULT) {
            fputs(s->kind == TRACE_PIECE_DESCHEDULED ? ", which had " : ", ", out);
            terminal_print(out, &t, by, 0);
        }
        fputc('\n', out);
    }
}

static void print(FILE *out, const struct trace_input *in, const struct trace_lost *l,
                  const struct trace_kernel *k)
{
    const struct trace_lost_times *w = &l->whole;
    char a[TRACE_NS_MAX], b[TRACE_NS_MAX];
    fprintf(out, "Fibers had threads for %s, and lost %s of that to the kernel:\n",
            trace_ns(a, w->had_ns), trace_ns(b, trace_lost_sum(w)));
    for (int i = 0; i < TRACE_PIECE_KINDS; i++) {
        fprintf(out, "%11s %7s  %s", trace_ns(a, w->ns[i]),
                trace_share(b, (double)w->ns[i], (double)w->had_ns), kinds[i].word);
        if (w->count[i])
            fprintf(out, ", %" PRIu64 " time%s, longest %s", w->count[i],
                    w->count[i] == 1 ? "" : "s", trace_ns(a, w->longest_ns[i]));
        fputc('\n', out);
    }
    if (w->unknown_ns)
        fprintf(out, "%11s %7s  not known: the kernel trace does not reach there\n",
                trace_ns(a, w->unknown_ns),
                trace_share(b, (double)w->unknown_ns, (double)w->had_ns));
    if (l->threads_unknown)
        fprintf(out, "Of %" PRIu64 " of the threads it says nothing.\n", l->threads_unknown);
    print_by(out, in->args, l, k, TRACE_PIECE_DESCHEDULED, "Who had the CPU instead:");
    print_by(out, in->args, l, k, TRACE_PIECE_SYSCALL, "System calls, on the CPU:");
    print_by(out, in->args, l, k, TRACE_PIECE_WAIT, "Asleep in system calls:");
    print_rows(out, in->args, l, "By region:", l->regions, l->region_count);
    print_rows(out, in->args, l, "By start function:", l->functions, l->function_count);
    print_rows(out, in->args, l, "By fiber:", l->fibers, l->fiber_count);
    print_stalls(out, in, l, k);
}

// --- JSON.

static void json_times(struct json *j, const struct trace_lost_times *t)
{
    char key[32];
    json_int(j, "had_ns", t->had_ns);
    json_int(j, "lost_ns", trace_lost_sum(t));
    json_int(j, "unknown_ns", t->unknown_ns);
    json_int(j, "told_ns", t->told_ns);
    for (int i = 0; i < TRACE_PIECE_KINDS; i++) {
        snprintf(key, sizeof key, "%s_ns", kinds[i].key);
        json_int(j, key, t->ns[i]);
        snprintf(key, sizeof key, "%s_count", kinds[i].key);
        json_int(j, key, (int64_t)t->count[i]);
        snprintf(key, sizeof key, "%s_longest_ns", kinds[i].key);
        json_int(j, key, t->longest_ns[i]);
    }
}

static void json_rows(struct json *j, const struct trace_lost *l, const char *key,
                      const char *name_key, const struct trace_lost_row *rows, size_t count)
{
    json_open(j, key, '[');
    for (size_t i = 0; i < count; i++) {
        json_open(j, NULL, '{');
        json_string(j, name_key, trace_names_text(&l->names, rows[i].name));
        if (rows[i].id)
            json_int(j, "fiber", rows[i].id);
        else
            json_int(j, "instances", (int64_t)rows[i].instances);
        json_times(j, &rows[i].times);
        json_close(j, '}');
    }
    json_close(j, ']');
}

static void json_by(struct json *j, const struct trace_lost *l, const struct trace_kernel *k,
                    int kind)
{
    json_open(j, kinds[kind].key, '[');
    for (size_t i = 0; i < l->by_count[kind]; i++) {
        json_open(j, NULL, '{');
        json_string(j, "by", trace_kernel_name(k, l->by[kind][i].name));
        json_int(j, "ns", l->by[kind][i].ns);
        json_int(j, "count", (int64_t)l->by[kind][i].count);
        json_close(j, '}');
    }
    json_close(j, ']');
}

static void json_stalls(struct json *j, const struct trace_input *in, const struct trace_lost *l,
                        const struct trace_kernel *k)
{
    json_open(j, "longest", '[');
    for (size_t i = 0; i < l->stall_count; i++) {
        const struct trace_lost_stall *s = &l->stalls[i];
        json_open(j, NULL, '{');
        json_string(j, "kind", kinds[s->kind].key);
        json_int(j, "begin_ns", s->begin_ns - in->base_ns);
        json_int(j, "ns", s->ns);
        json_int(j, "fiber", s->fiber);
        json_int(j, "thread", s->tid);
        json_string(j, "function", trace_names_text(&l->names, s->function));
        json_string(j, "region", trace_names_text(&l->names, s->region));
        json_string(j, "by", trace_kernel_name(k, s->by));
        json_close(j, '}');
    }
    json_close(j, ']');
}

static void print_json(FILE *out, const struct trace_input *in, const struct trace_lost *l,
                       const struct trace_kernel *k)
{
    struct json j = {.out = out};
    json_open(&j, NULL, '{');
    json_int(&j, "start_ns", in->base_ns); // CLOCK_MONOTONIC
    json_open(&j, "whole", '{');
    json_times(&j, &l->whole);
    json_close(&j, '}');
    json_int(&j, "threads_unknown", (int64_t)l->threads_unknown);
    json_open(&j, "by", '{');
    for (int i = 0; i < TRACE_PIECE_KINDS; i++)
        json_by(&j, l, k, i);
    json_close(&j, '}');
    json_rows(&j, l, "regions", "region", l->regions, l->region_count);
    json_rows(&j, l, "functions", "function", l->functions, l->function_count);
    json_rows(&j, l, "fibers", "function", l->fibers, l->fiber_count);
    json_stalls(&j, in, l, k);
    json_close(&j, '}');
}

static int read_fibers(struct trace_input *in, struct trace_kernel *k, struct trace_lost **l)
{
    const struct trace_event *ev;
    int got = 0, rc = trace_lost_new(l, k, in->from_ns, in->to_ns);
    while (!rc && (got = trace_input_next(in, &ev)) > 0)
        rc = trace_lost_event(*l, in->reader, ev);
    if (got < 0)
        return CLI_FAILURE;
    if (rc)
        return cli_fail("%s: %s", in->args->path, strerror(-rc));
    trace_lost_finish(*l);
    return CLI_OK;
}

// Who names the kernel trace means the one that it lies beside.
static int choose(struct trace_args *a, char *program, size_t size)
{
    if (a->second || !trace_kernel_is(a->path, program, size))
        return CLI_OK;
    if (!*program)
        return cli_fail("%s is a kernel trace, and the trace of the program is not beside it: "
                        "fiberscope trace lost FILE KERNELFILE",
                        a->path);
    a->path = program;
    return CLI_OK;
}

int trace_report_lost(const struct trace_args *args)
{
    char program[PATH_MAX];
    struct trace_args chosen = *args, *a = &chosen;
    struct trace_kernel *k = NULL;
    struct trace_lost *l = NULL;
    struct profile_output o;
    struct trace_input in;
    int status = choose(a, program, sizeof program);
    status = status ? status : trace_input_kernel(&k, a, true);
    if (!status && !(status = trace_input_open(&in, a))) {
        status = read_fibers(&in, k, &l);
        if (!status && !(status = profile_output_open(&o, a->output))) {
            if (a->json)
                print_json(o.out, &in, l, k);
            else
                print(o.out, &in, l, k);
            status = profile_output_close(&o, true);
        }
        trace_input_close(&in);
    }
    trace_lost_free(l);
    trace_kernel_free(k);
    return status;
}
