// SPDX-License-Identifier: MIT
//
// fiberscope trace: reports on execution traces, ours and Go's. The table of reports is here, each
// is a function in cmd_trace_*.c.

#include "cli/commands.h"
#include "cli/trace_report.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { // options that only some reports take
    HAS_ROWS = 1,
    HAS_NAME = 2,
    HAS_SORT = 4,
    HAS_FIBERS = 8,
    HAS_KIND = 16,
    HAS_LONGER = 32,
    NEEDS_OUTPUT = 64,
    NEEDS_OPERAND = 128, // before the file
    NO_JSON = 256,
    NO_RANGE = 512,
    HAS_REGION = 1024, // and --task
    HAS_SLOW = 2048,
    HAS_FORMAT = 4096,
    HAS_PPROF = 8192,
    HAS_SECOND = 16384, // another file may follow
};

#define ROWS_DEFAULT   INT64_MIN // each report has its own
#define MEMORY_DEFAULT UINT64_MAX

static const struct trace_report {
    const char *name;
    int (*run)(const struct trace_args *a);
    unsigned flags;
} reports[] = {
    {"summary", trace_report_summary, HAS_ROWS | HAS_LONGER},
    {"fibers", trace_report_fibers, HAS_ROWS | HAS_NAME | HAS_SORT},
    {"fiber", trace_report_fiber, HAS_ROWS | NEEDS_OPERAND},
    {"procs", trace_report_procs, HAS_ROWS},
    {"util", trace_report_util, HAS_ROWS},
    {"wakes", trace_report_wakes, HAS_ROWS | HAS_NAME},
    {"latency", trace_report_latency, HAS_ROWS | HAS_NAME},
    {"lints", trace_report_lints, HAS_ROWS | HAS_LONGER},
    {"sched", trace_report_sched, HAS_ROWS | HAS_PPROF},
    {"sync", trace_report_sync, HAS_ROWS | HAS_PPROF},
    {"syscall", trace_report_syscall, HAS_ROWS | HAS_PPROF},
    {"net", trace_report_net, HAS_ROWS | HAS_PPROF},
    {"tasks", trace_report_tasks, HAS_ROWS | HAS_NAME},
    {"regions", trace_report_regions, HAS_ROWS | HAS_NAME},
    {"critical", trace_report_critical, HAS_ROWS | HAS_REGION | HAS_FIBERS},
    {"explain", trace_report_explain, HAS_ROWS | HAS_REGION | HAS_SLOW | HAS_SECOND},
    {"lost", trace_report_lost, HAS_ROWS | HAS_SECOND},
    {"events", trace_report_events, HAS_FIBERS | HAS_KIND | HAS_ROWS},
    {"validate", trace_report_validate, NO_RANGE},
    {"cut", trace_report_cut, HAS_FIBERS | NEEDS_OUTPUT | NO_JSON},
    {"export", trace_report_export, HAS_FORMAT | HAS_PPROF | NEEDS_OUTPUT | NO_JSON},
};

static const struct trace_report *find_report(const char *name)
{
    for (size_t i = 0; i < CLI_COUNT(reports); i++) {
        if (!strcmp(reports[i].name, name))
            return &reports[i];
    }
    return NULL;
}

static const char *nearest_report(const char *name)
{
    const char *names[CLI_COUNT(reports)];
    for (size_t i = 0; i < CLI_COUNT(reports); i++)
        names[i] = reports[i].name;
    return cli_nearest(name, names, CLI_COUNT(reports));
}

static int report_comes_first(const char *report, const char *path)
{
    char *word = NULL;
    size_t size;
    FILE *f = open_memstream(&word, &size);
    if (f) {
        cli_print_word(f, path);
        fclose(f);
    }
    int status =
        cli_usage("the report comes first: fiberscope trace %s %s", report, word ? word : path);
    free(word);
    return status;
}

// argv[0] is no report and there are more words.
static int unknown_report(int argc, char **argv)
{
    const char *name = argv[0];
    if (find_report(argv[argc - 1]))
        return report_comes_first(argv[argc - 1], name);
    if (!access(name, F_OK))
        return cli_usage("\"%.200s\" is no report but a file: one trace FILE, not more", name);
    const char *near = nearest_report(name);
    if (near)
        return cli_usage("there is no report \"%.60s\"; did you mean \"%s\"?", name, near);
    return cli_usage("there is no report \"%.60s\"", name);
}

// "critical, explain": the reports with any of the flags (if without: those that lack it).
static const char *reports_with(char *buf, size_t size, unsigned flags, bool without)
{
    size_t n = 0;
    *buf = 0;
    for (size_t i = 0; i < CLI_COUNT(reports) && n < size; i++)
        if (!(reports[i].flags & flags) == without)
            n += (size_t)snprintf(buf + n, size - n, "%s%s", n ? ", " : "", reports[i].name);
    return buf;
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n > m && !strcmp(s + n - m, end);
}

static int check_options(const struct trace_report *r, const struct trace_args *a)
{
    const struct {
        const char *name;
        unsigned flags;
        bool given;
        bool without; // the flag forbids it
    } rules[] = {
        {"rows", HAS_ROWS, a->rows != ROWS_DEFAULT, false},
        {"name", HAS_NAME, a->name != NULL, false},
        {"sort", HAS_SORT, a->sort != NULL, false},
        {"fiber", HAS_FIBERS, a->fibers.count > 0, false},
        {"kind", HAS_KIND, a->kind != NULL, false},
        {"longer", HAS_LONGER, a->longer_ns >= 0, false},
        {"region", HAS_REGION, a->region != NULL, false},
        {"task", HAS_REGION, a->task != NULL, false},
        {"slow", HAS_SLOW, a->slow != NULL, false},
        {"format", HAS_FORMAT, a->format != NULL, false},
        {"json", NO_JSON, a->json, true},
        {"from", NO_RANGE, a->from_ns >= 0, true},
        {"to", NO_RANGE, a->to_ns >= 0, true},
    };
    char those[256];
    int64_t number;
    for (size_t i = 0; i < CLI_COUNT(rules); i++) {
        if (rules[i].given && !(r->flags & rules[i].flags) != rules[i].without)
            return cli_usage("the report %s has no option --%s; these have: %s", r->name,
                             rules[i].name,
                             reports_with(those, sizeof those, rules[i].flags, rules[i].without));
    }
    for (size_t i = 0; i < a->fibers.count; i++) {
        if (trace_number(a->fibers.items[i], "a fiber's number", &number))
            return CLI_USAGE;
    }
    if (a->rows < 0 && a->rows != ROWS_DEFAULT)
        return cli_usage("--rows: \"%" PRId64
                         "\" is not a number of rows: from 1, or 0 for all of them",
                         a->rows);
    if (a->to_ns >= 0 && a->to_ns <= (a->from_ns > 0 ? a->from_ns : 0))
        return cli_usage(a->from_ns >= 0 ? "--to must be later than --from"
                                         : "--to 0 leaves nothing: it must be later than 0, when "
                                           "the trace begins");
    if ((r->flags & NEEDS_OUTPUT) && !a->output)
        return cli_usage("%s: -o FILE is needed (- is standard output)", r->name);
    if (a->output && a->json && ends_with(a->output, ".pb.gz"))
        return cli_usage("-o %s is a profile, --json is not: choose one", a->output);
    if (a->output && !(r->flags & HAS_PPROF) && ends_with(a->output, ".pb.gz"))
        return cli_usage("the report %s cannot be a profile; these can: %s", r->name,
                         reports_with(those, sizeof those, HAS_PPROF, false));
    return CLI_OK;
}

static int run(void *settings, int argc, char **argv)
{
    struct trace_args *a = settings;
    if (!argc)
        return cli_usage("a trace FILE is needed");
    if (!strcmp(argv[0], "help") && access(argv[0], F_OK)) {
        cli_print_help(stdout, &cmd_trace);
        return CLI_OK;
    }
    if (argc == 1 && find_report(argv[0]) && access(argv[0], F_OK))
        return cli_usage("%s: a trace FILE is needed", argv[0]);
    if (argc == 1 && access(argv[0], F_OK) && strcmp(argv[0], "-") != 0 && nearest_report(argv[0]))
        return cli_usage(
            "there is no file \"%.200s\"; if you mean the report \"%s\": fiberscope trace "
            "%s FILE",
            argv[0], nearest_report(argv[0]), nearest_report(argv[0]));
    const struct trace_report *r = argc > 1 ? find_report(argv[0]) : &reports[0];
    if (!r)
        return unknown_report(argc, argv);
    int first = argc > 1; // the report's own operands
    int wanted = first + (r->flags & NEEDS_OPERAND ? 2 : 1);
    if (argc < wanted)
        return cli_usage("%s: a number and a trace FILE are needed", r->name);
    if (argc > wanted + (r->flags & HAS_SECOND ? 1 : 0))
        return cli_usage("%s: one trace FILE, not more", r->name);
    a->operand = r->flags & NEEDS_OPERAND ? argv[first] : NULL;
    a->path = argv[wanted - 1];
    a->second = argc > wanted ? argv[wanted] : NULL;
    if (a->rows > INT32_MAX)
        a->rows = 0; // no table is longer
    if (!a->memory_bytes)
        return cli_usage("--memory: 0 is no size that anything fits into");
    if (a->memory_bytes == MEMORY_DEFAULT)
        a->memory_bytes = 0;
    int status = check_options(r, a);
    return status ? status : r->run(a);
}

#define TA struct trace_args
static const struct trace_args defaults = {.from_ns = -1,
                                           .to_ns = -1,
                                           .rows = ROWS_DEFAULT,
                                           .longer_ns = -1,
                                           .memory_bytes = MEMORY_DEFAULT};
static const struct cli_option options[] = {
    CLI_DURATION(TA, from_ns, "from", 0, "TIME", NULL,
                 "only what happens from TIME on, counted from the beginning of the trace"),
    CLI_DURATION(TA, to_ns, "to", 0, "TIME", NULL, "only what happens until TIME"),
    CLI_LIST(TA, fibers, "fiber", 0, "N", NULL,
             "events, cut: only this fiber, may be given several times; critical: to its end"),
    CLI_STRING(
        TA, name, "name", 0, "TEXT", NULL,
        "only fibers, threads, tasks or regions with TEXT in their name; fibers: one row for "
        "each"),
    CLI_STRING(TA, region, "region", 0, "NAME", NULL,
               "explain, critical: the regions of this name"),
    CLI_STRING(TA, task, "task", 0, "NAME", NULL,
               "explain, critical: the tasks of this name; critical: or number"),
    CLI_STRING(TA, slow, "slow", 0, "LIMIT", NULL,
               "explain: slow is what is beyond this percentile or time (default p99)"),
    CLI_STRING(TA, kind, "kind", 0, "WORD", NULL,
               "events: only this kind, as StateTransition or Log"),
    CLI_CHOICE(TA, sort, "sort", 0, "WORD", NULL,
               "fibers: order by total, running, runnable, blocked or syscall (default running)",
               "total running runnable blocked syscall"),
    CLI_CHOICE(TA, format, "format", 0, "WORD", NULL,
               "export: json (Chrome, Perfetto, the default), perfetto (protobuf), folded (stacks "
               "with all the fibers' time), pprof (the same as a profile)",
               "json perfetto folded pprof"),
    CLI_DURATION(TA, longer_ns, "longer", 0, "TIME", NULL,
                 "lints, summary: runs and waits are remarkable from TIME on (default 1s for runs, "
                 "100ms for waiting to run)"),
    CLI_INT(TA, rows, "rows", 'n', "N", NULL,
            "at most N rows a table (0: all); util: the curve in N rows"),
    CLI_FLAG(TA, salvage, "salvage", 0, NULL,
             "of a damaged trace, read the whole generations before the damage"),
    CLI_SIZE(
        TA, memory_bytes, "memory", 0, "SIZE", NULL,
        "what lives in the trace at one time may take so much memory, and so may what a report "
        "sums up (default 4 GiB and 1 GiB)"),
    CLI_FLAG(TA, json, "json", 'j', NULL, "JSON instead of a table"),
    CLI_STRING(TA, output, "output", 'o', "FILE", NULL,
               "write to FILE, replaced as a whole; sched, sync, syscall, net: a FILE whose name "
               "ends in .pb.gz becomes a profile for pprof"),
};

const struct cli_command cmd_trace = {
    .name = "trace",
    .summary = "say what an execution trace shows",
    .operands = "[REPORT] FILE",
    .details =
        "FILE is an execution trace in Go's format, of a Go program or of one with fibers.\n"
        "Reports:\n"
        "  summary      where the time goes, who wakes whom, what to look at next (the default)\n"
        "  fibers       fibers by start function; with --name one by one\n"
        "  fiber N      one fiber: its times, its longest waits with their stacks\n"
        "  procs        what the processors did\n"
        "  util         how busy the processors were, over time and at the worst\n"
        "  wakes        who wakes whom, and how long the woken waited\n"
        "  latency      how long those that could run waited until they ran: percentiles; of a\n"
        "               kernel trace as FILE the run-queue latency of threads\n"
        "  lints        fibers that hog, spin, starve, are stuck or wait for ever\n"
        "  sched        where fibers wait for a processor\n"
        "  sync         where they wait on channels, locks, conditions and select\n"
        "  syscall      where they are in system calls\n"
        "  net          where they wait for the network\n"
        "  tasks        user tasks, how long they take, the slowest\n"
        "  regions      user regions, how long they take, the slowest\n"
        "  critical     what the end of a task, region or range had to wait for, step by step\n"
        "  explain      why the slow ones of a region or task are slow: the gap, divided; with a\n"
        "               kernel trace, as for lost, running time too\n"
        "  lost         time lost to the kernel: off the CPU, page faults, system calls; beside "
        "FILE\n"
        "               a kernel trace (record --kernel), or as a second FILE\n"
        "  events       the events, one a line\n"
        "  validate     whether the trace keeps the format's rules; exit status 1 if not\n"
        "  cut          a valid smaller trace: a time range, a set of fibers\n"
        "  export       for other viewers: Perfetto, Chrome, flame graphs",
    .examples = "  fiberscope trace app.trace\n"
                "  fiberscope trace fibers --name worker app.trace\n"
                "  fiberscope trace sync -o sync.pb.gz app.trace\n"
                "  fiberscope trace explain --region request --slow=p99 app.trace\n"
                "  fiberscope trace critical --task request app.trace\n"
                "  fiberscope trace cut --from 1s --to 1.5s -o part.trace app.trace",
    .options = options,
    .option_count = CLI_COUNT(options),
    .defaults = &defaults,
    .settings_size = sizeof defaults,
    .run = run,
};
