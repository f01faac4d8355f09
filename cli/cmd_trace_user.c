// SPDX-License-Identifier: MIT
//
// fiberscope trace tasks, regions: what the program itself marked.

#include "cli/trace_report.h"
#include "cli/trace_tables.h"

#include <inttypes.h>

static void print_bars(FILE *out, const struct trace_hist *h)
{
    enum { WIDTH = 40 };
    uint64_t most = 0, counts[64] = {0};
    int first = 64, last = -1;
    char a[TRACE_NS_MAX];
    for (unsigned i = 0; i < TRACE_HIST_BUCKETS; i++) { // by powers of two
        int64_t low = trace_hist_bucket_ns(i);
        int k = low > 0 ? 63 - __builtin_clzll((uint64_t)low) : 0;
        counts[k] += h->buckets[i];
    }
    for (int k = 0; k < 64; k++) {
        if (!counts[k])
            continue;
        first = first < k ? first : k;
        last = k;
        most = counts[k] > most ? counts[k] : most;
    }
    for (int k = first; k <= last; k++) {
        int bar = (int)((counts[k] * WIDTH + most - 1) / most);
        fprintf(out, "%12s.. %8" PRIu64 " %.*s\n", trace_ns(a, INT64_C(1) << k), counts[k], bar,
                "########################################");
    }
}

static void print_slowest(FILE *out, const struct trace_input *in, const struct trace_type *t,
                          bool tasks)
{
    char a[TRACE_NS_MAX], b[TRACE_NS_MAX];
    fprintf(out, "  slowest:\n");
    for (uint32_t i = 0; i < t->slowest_count; i++) {
        const struct trace_instance *x = &t->slowest[i];
        fprintf(out, "%12s at %s, fiber %" PRId64, trace_ns(a, x->ns), trace_at(b, in, x->begin_ns),
                x->fiber);
        if (x->task || tasks)
            fprintf(out, ", task %" PRIu64, x->task);
        fputc('\n', out);
    }
    if (t->complete > t->slowest_count)
        fprintf(out, "%12s %" PRIu64 " more (-n 0: all)\n", "...", t->complete - t->slowest_count);
}

static void print_shares(FILE *out, const struct trace_summary *s, const struct trace_times *x)
{
    char a[TRACE_NS_MAX];
    const struct {
        const char *word;
        int64_t ns;
    } rows[] = {{"running", x->running_ns},
                {"runnable", x->runnable_ns},
                {"syscall", x->syscall_ns + x->syscall_blocked_ns}};
    struct terminal t = terminal_of(out);
    fputs("  of the time:", out);
    for (size_t i = 0; i < CLI_COUNT(rows); i++)
        fprintf(out, "%s %s %s", i ? "," : "", rows[i].word,
                trace_share(a, (double)rows[i].ns, (double)x->total_ns));
    for (uint32_t i = 0; i < x->wait_count; i++) {
        if (!x->waits[i].ns)
            continue;
        fputs(", ", out);
        terminal_print(out, &t, trace_names_text(&s->names, x->waits[i].reason), 0);
        fprintf(out, " %s", trace_share(a, (double)x->waits[i].ns, (double)x->total_ns));
    }
    fputc('\n', out);
}

static void print(FILE *out, const struct trace_input *in, const struct trace_summary *s,
                  struct trace_type *const *types, uint32_t count, bool tasks)
{
    const struct trace_args *a = in->args;
    struct terminal t = terminal_of(out);
    if (!count) {
        fprintf(out, "The trace has no %s.\n", tasks ? "tasks" : "regions");
        return;
    }
    trace_print_types(out, s, types, count, a->rows > 0 ? (uint32_t)a->rows : UINT32_MAX, a->name);
    uint32_t shown = 0, detailed = a->rows < 0 ? 5 : a->rows ? (uint32_t)a->rows : UINT32_MAX;
    for (uint32_t i = 0; i < count && shown < detailed; i++) {
        if (!types[i]->complete ||
            !trace_name_matches(trace_names_text(&s->names, types[i]->name), a->name))
            continue;
        shown++;
        fputc('\n', out);
        trace_name_print(out, &t, trace_names_text(&s->names, types[i]->name));
        fputc('\n', out);
        if (!tasks)
            print_shares(out, s, &types[i]->times);
        print_bars(out, &types[i]->latency);
        print_slowest(out, in, types[i], tasks);
    }
}

// --name must match something.
static int check_name(const struct trace_args *a, const struct trace_summary *s, bool tasks)
{
    struct trace_type *const *types = tasks ? s->task_types : s->region_types;
    uint32_t count = tasks ? s->task_type_count : s->region_type_count;
    const char *word = tasks ? "task" : "region";
    bool found = !a->name;
    uint64_t others = 0;
    for (uint32_t i = 0; i < count && !found; i++) {
        found = trace_name_matches(trace_names_text(&s->names, types[i]->name), a->name);
        others += trace_type_is_rest(s, types[i]) ? types[i]->count : 0;
    }
    if (found)
        return CLI_OK;
    if (others)
        return cli_fail_at(a->path,
                           "no %s of the %d names that are told apart has \"%s\" in it; %" PRIu64
                           " have other names (`fiberscope trace explain --%s NAME` and `critical` "
                           "find any)",
                           word, TRACE_TYPES_MAX, a->name, others, word);
    return cli_fail_at(a->path,
                       "no %s has \"%s\" in its name; there are %ss of %" PRIu32
                       " name%s (`fiberscope trace %ss FILE` lists them)",
                       word, a->name, word, count, count == 1 ? "" : "s", word);
}

static int report(const struct trace_args *a, bool tasks)
{
    // -n has them in the lists of the slowest, too.
    struct trace_summary_options opts = {.slowest_max = a->rows < 0    ? 0
                                                        : a->rows == 0 ? UINT32_MAX
                                                                       : (uint32_t)a->rows};
    struct trace_summary *s = NULL;
    struct profile_output o;
    struct trace_input in;
    int status = trace_input_open(&in, a);
    if (!status)
        status = trace_input_summary(&in, &opts, &s);
    if (!status)
        status = check_name(a, s, tasks);
    if (!status && !(status = profile_output_open(&o, a->output))) {
        struct trace_type *const *types = tasks ? s->task_types : s->region_types;
        uint32_t count = tasks ? s->task_type_count : s->region_type_count;
        struct json j = {.out = o.out};
        if (a->json) {
            json_open(&j, NULL, '{');
            trace_json_types(&j, tasks ? "tasks" : "regions", &in, s, types, count, a->name);
            json_close(&j, '}');
        } else {
            print(o.out, &in, s, types, count, tasks);
        }
        status = profile_output_close(&o, true);
    }
    trace_summary_free(s);
    trace_input_close(&in);
    return status;
}

int trace_report_tasks(const struct trace_args *a)
{
    return report(a, true);
}

int trace_report_regions(const struct trace_args *a)
{
    return report(a, false);
}
