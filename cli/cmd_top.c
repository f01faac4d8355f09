// SPDX-License-Identifier: MIT
//
// fiberscope top: the functions, heaviest first. The columns are those of `go tool pprof -top`. With -p: top_live.h.

#include "analysis/units.h"
#include "cli/profile_args.h"
#include "cli/terminal.h"
#include "cli/top_live.h"

#include <string.h>
#include <unistd.h>

enum { HZ_MAX = 100000 };
#define INTERVAL_NS_MIN INT64_C(100000000)
#define PID_NONE        UINT64_MAX // 0 is a mistake, and is told as one

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
        const char *mark = report_inline_mark(n);
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
        const char *mark = report_inline_mark(n);
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

struct settings {
    struct profile_args profile; // first: the shared rows of the table below are its own
    const char *kind, *method;
    uint64_t pid, hz, count;
    int64_t interval_ns;
};
_Static_assert(offsetof(struct settings, profile) == 0, "rows with the offsets of profile_args");

static int report_files(struct profile_args *a, int argc, char **argv)
{
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

// --- A running process.

static const char *const kinds[TOP_KINDS] = {"cpu", "wall", "heap", "block", "mutex", "fibers"};

static enum top_kind kind_of(const char *word)
{
    int kind = 0;
    while (kind < TOP_KINDS - 1 && strcmp(kinds[kind], word) != 0)
        kind++;
    return (enum top_kind)kind;
}

static int check_live(const struct settings *s, int argc)
{
    const struct profile_args *a = &s->profile;
    if (argc)
        return cli_usage("a file and a process exclude each other: give FILE or --pid");
    int64_t ns;
    // What -d is in record(1) and in top(1) of the system; here it is diff_base.
    if (a->diff_base.count && !cli_parse_duration(a->diff_base.items[0], &ns))
        return cli_usage("-d is --diff_base, which is for files: --interval=%.20s is the time "
                         "between two tables, and --count=N ends after N of them",
                         a->diff_base.items[0]);
    if (a->base.count || a->diff_base.count || a->json || a->output || a->salvage)
        return cli_usage("--base, --diff_base, --json, --output and --salvage are for files; "
                         "`fiberscope record -p PID` makes one");
    if (s->pid > INT32_MAX)
        return cli_usage("--pid: %llu is no process id", (unsigned long long)s->pid);
    if (s->hz < 1 || s->hz > HZ_MAX)
        return cli_usage("--freq: 1 to %d samples per second", HZ_MAX);
    if (s->interval_ns < INTERVAL_NS_MIN)
        return cli_usage("--interval: 100ms at least");
    return CLI_OK;
}

static int watch(struct settings *s, int argc)
{
    int status = check_live(s, argc);
    if (status)
        return status;
    bool is_cum = !strcmp(s->profile.sort, "cum");
    enum top_kind kind = kind_of(s->kind);
    struct top_live_options o = {
        .source = {.pid = (uint32_t)s->pid,
                   .hz = (uint32_t)s->hz,
                   .method = !strcmp(s->method, "agent")  ? SESSION_ONLY_AGENT
                             : !strcmp(s->method, "perf") ? SESSION_ONLY_OUTSIDE
                                                          : SESSION_AUTO,
                   .kind = kind,
                   .interval_ns = (uint64_t)s->interval_ns},
        .report = s->profile.report,
        .is_cum = is_cum,
        .count = s->count,
    };
    // What fills a screen is not trimmed: rows are there to be scrolled to.
    o.report.nodefraction = o.report.edgefraction = 0;
    o.row_max = s->profile.report.nodecount;
    o.report.nodecount = 0;
    if (!strcmp(o.report.unit, "minimum"))
        o.report.unit = "auto";
    return top_live(&o);
}

static int run(void *settings, int argc, char **argv)
{
    struct settings *s = settings;
    if (s->pid != PID_NONE)
        return watch(s, argc);
    if (argc == 1 && argv[0][strspn(argv[0], "0123456789")] == '\0' && access(argv[0], F_OK))
        return cli_usage("%s: no such file; a running process is watched by -p %s", argv[0],
                         argv[0]);
    return report_files(&s->profile, argc, argv);
}

static const struct settings defaults = {
    .profile = PROFILE_DEFAULTS,
    .pid = PID_NONE,
    .kind = "cpu",
    .method = "auto",
    .hz = 99,
    .interval_ns = 2000000000,
};
#define LIVE "A running process"
static const struct cli_option options[] = {
    CLI_UINT(struct settings, pid, "pid", 'p', "PID", LIVE, "watch this process while it runs"),
    CLI_CHOICE(struct settings, kind, "kind", 'k', "KIND", LIVE,
               "what to begin with: cpu (default), wall, heap, block, mutex or fibers",
               TOP_KIND_WORDS),
    CLI_DURATION(struct settings, interval_ns, "interval", 0, "TIME", LIVE,
                 "between two tables (default 2s)"),
    CLI_UINT(struct settings, count, "count", 0, "N", LIVE,
             "print N tables, as lines, and end (default: until the process ends)"),
    CLI_UINT(struct settings, hz, "freq", 'F', "HZ", LIVE,
             "samples per second of CPU time, or of wall time (default 99)"),
    CLI_CHOICE(struct settings, method, "method", 0, "HOW", LIVE,
               "agent: by the library inside; perf: from outside, CPU time and fibers alone; auto: "
               "the first that can be had",
               "auto agent perf"),
    PROFILE_TABLE_OPTIONS,
    PROFILE_FILTER_OPTIONS,
    PROFILE_VALUE_OPTIONS,
    PROFILE_GRANULARITY_OPTIONS,
    PROFILE_DIFF_OPTIONS,
    PROFILE_INPUT_OPTIONS,
    PROFILE_JSON_OPTION,
};

const struct cli_command cmd_top = {
    .name = "top",
    .summary = "the functions of a profile, or of a running process, heaviest first",
    .operands = "[FILE...] | -p PID",
    .details =
        "flat is what a function used itself, cum what it used with all it called. Several files\n"
        "are merged; without FILE the newest *.pb.gz of the folder is taken. Files are what Go,\n"
        "gperftools, jemalloc and perf script write, and fiberscope's dumps, black boxes and "
        "cores.\n"
        "With -p a running process is watched, by the agent inside it or from outside: a live "
        "screen\n"
        "on a terminal (? lists its keys), else a table every --interval.",
    .examples = "  fiberscope top\n"
                "  fiberscope top -cum -nodecount 20 p.pb.gz\n"
                "  fiberscope top -focus=parse -lines p.pb.gz\n"
                "  fiberscope top -diff_base old.pb.gz new.pb.gz\n"
                "  fiberscope top -sample_index=inuse_space heap.pb.gz\n"
                "  fiberscope top -p $(pidof server)\n"
                "  fiberscope top -p $(pidof server) -kind block -interval 10s -count 3 | tee log",
    .options = options,
    .option_count = CLI_COUNT(options),
    .defaults = &defaults,
    .settings_size = sizeof defaults,
    .run = run,
};
