// SPDX-License-Identifier: MIT
//
// fiberscope top: the functions, heaviest first. The columns are those of `go tool pprof -top`.

#include "analysis/units.h"
#include "cli/profile_args.h"
#include "cli/terminal.h"

#include <string.h>

static const char *inline_mark(const struct report_node *n)
{
    size_t inlined = 0;
    for (size_t i = 0; i < n->in_count; i++)
        inlined += n->in[i]->is_inline;
    if (!inlined)
        return "";
    return inlined < n->in_count ? "(partial-inline)" : "(inline)";
}

static void print_table(FILE *out, const struct report *r)
{
    enum { FIXED_COLUMNS = 44, NAME_COLUMNS_MIN = 12 };
    char flat[UNITS_LABEL_MAX], cum[UNITS_LABEL_MAX], p1[32], p2[32], p3[32];
    struct terminal t = terminal_of(out);
    int64_t sum = 0;
    profile_print_labels(out, r);
    fprintf(out, "%10s %5s%% %5s%% %10s %5s%%\n", "flat", "flat", "sum", "cum", "cum");
    for (size_t i = 0; i < r->node_count; i++) {
        const struct report_node *n = r->nodes[i];
        int64_t f = report_flat(n), c = report_cum(n);
        const char *mark = inline_mark(n);
        sum = (int64_t)((uint64_t)sum + (uint64_t)f);
        double share = r->total ? (double)f / (double)r->total : 0;
        fprintf(out, "%s%10s %s%s %s %10s %s  ", terminal_heat(&t, share),
                report_label(r, flat, sizeof flat, f), units_percent(p1, sizeof p1, f, r->total),
                terminal_reset(&t), units_percent(p2, sizeof p2, sum, r->total),
                report_label(r, cum, sizeof cum, c), units_percent(p3, sizeof p3, c, r->total));
        int room = t.columns - FIXED_COLUMNS - (*mark ? (int)strlen(mark) + 1 : 0);
        terminal_print(out, &t, n->label,
                       !t.columns                ? 0
                       : room > NAME_COLUMNS_MIN ? room
                                                 : NAME_COLUMNS_MIN);
        fprintf(out, "%s%s\n", *mark ? " " : "", mark);
    }
}

static void print_json(FILE *out, const struct report *r)
{
    struct json j = {.out = out};
    json_open(&j, NULL, '{');
    profile_json_head(&j, r);
    json_open(&j, "nodes", '[');
    for (size_t i = 0; i < r->node_count; i++) {
        const struct report_node *n = r->nodes[i];
        const char *mark = inline_mark(n);
        json_open(&j, NULL, '{');
        json_string(&j, "name", n->label);
        json_string(&j, "function", n->name);
        json_string(&j, "file", n->file);
        json_int(&j, "line", n->line);
        json_hex(&j, "address", n->address);
        json_int(&j, "flat", report_flat(n));
        json_int(&j, "cum", report_cum(n));
        json_real(&j, "flat_percent",
                  r->total ? 100.0 * (double)report_flat(n) / (double)r->total : 0);
        json_real(&j, "cum_percent",
                  r->total ? 100.0 * (double)report_cum(n) / (double)r->total : 0);
        json_string(&j, "inlined", !*mark ? "no" : mark[1] == 'p' ? "partly" : "yes");
        json_close(&j, '}');
    }
    json_close(&j, ']');
    json_close(&j, '}');
}

static int run(void *settings, int argc, char **argv)
{
    struct profile_args *a = settings;
    struct pprof_profile *p;
    struct profile_output o;
    struct report r;
    struct fscope_error err = {0};
    int status = profile_prepare(&r, &p, a, argc, argv);
    if (status)
        return status;
    if (report_graph(&r, &err)) {
        status = cli_fail("%s", err.text);
    } else if (!(status = profile_output_open(&o, a->output))) {
        if (a->json)
            print_json(o.out, &r);
        else
            print_table(o.out, &r);
        status = profile_output_close(&o, true);
    }
    report_finish(&r);
    pprof_free(p);
    return status;
}

static const struct profile_args defaults = PROFILE_DEFAULTS;
static const struct cli_option options[] = {
    PROFILE_TABLE_OPTIONS,       PROFILE_FILTER_OPTIONS, PROFILE_VALUE_OPTIONS,
    PROFILE_GRANULARITY_OPTIONS, PROFILE_DIFF_OPTIONS,   PROFILE_INPUT_OPTIONS,
    PROFILE_JSON_OPTION,
};

const struct cli_command cmd_top = {
    .name = "top",
    .summary = "list the functions of a profile, heaviest first",
    .operands = "[FILE...]",
    .details =
        "flat is what a function used itself, cum what it used with all it called. Several files\n"
        "are merged; without FILE the newest *.pb.gz of the folder is taken. Files are what Go,\n"
        "gperftools, jemalloc and perf script write, and fiberscope's dumps, black boxes and "
        "cores.",
    .examples = "  fiberscope top\n"
                "  fiberscope top -cum -nodecount 20 p.pb.gz\n"
                "  fiberscope top -focus=parse -lines p.pb.gz\n"
                "  fiberscope top -diff_base old.pb.gz new.pb.gz\n"
                "  fiberscope top -sample_index=inuse_space heap.pb.gz",
    .options = options,
    .option_count = CLI_COUNT(options),
    .defaults = &defaults,
    .settings_size = sizeof defaults,
    .run = run,
};
