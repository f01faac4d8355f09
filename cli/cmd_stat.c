// SPDX-License-Identifier: MIT
//
// fiberscope stat: what runs of a command cost, and how much that varies.
//
// The timed runs are the command alone: nothing is preloaded and nobody watches. Allocations are
// counted in runs of their own afterwards, since counting takes time.

#include "cli/commands.h"
#include "cli/gate_inputs.h"
#include "cli/profile_args.h"

#include "analysis/statistics.h"
#include "analysis/units.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

enum { RUNS_MAX = 100000 };

struct settings {
    uint64_t runs, alloc_runs, warmup;
    const char *output;
    bool json, no_allocs, quiet;
};

static const struct settings defaults = {.runs = 1, .alloc_runs = 1};

static const struct cli_option options[] = {
    CLI_UINT(struct settings, runs, "repeat", 'r', "N", NULL,
             "run the command N times (default 1)"),
    CLI_UINT(struct settings, warmup, "warmup", 'w', "N", NULL,
             "run it N times before, without measuring"),
    CLI_UINT(struct settings, alloc_runs, "alloc-runs", 0, "N", NULL,
             "count allocations in N further runs (default 1)"),
    CLI_FLAG(struct settings, no_allocs, "no-allocs", 0, NULL,
             "no further run that counts allocations"),
    CLI_FLAG(struct settings, json, "json", 'j', "Output",
             "JSON, all runs included; on standard output, and the command's goes to stderr"),
    CLI_STRING(struct settings, output, "output", 'o', "FILE", "Output",
               "write the table (or JSON) to FILE instead of stderr"),
    CLI_FLAG(struct settings, quiet, "quiet", 'q', "Output", "no progress"),
};

// What is measured, in the order of the table.
enum {
    TIME,
    USER,
    SYSTEM,
    RSS,
    MINOR,
    MAJOR,
    VOLUNTARY,
    INVOLUNTARY,
    ALLOCS,
    ALLOC_SPACE,
    METRICS
};
static const struct {
    const char *name, *key, *unit;
} metrics[METRICS] = {
    {"time", "time", "nanoseconds"},
    {"user CPU", "user", "nanoseconds"},
    {"system CPU", "system", "nanoseconds"},
    {"max RSS", "max_rss", "bytes"},
    {"page faults", "minor_faults", "count"},
    {"  with I/O", "major_faults", "count"},
    {"context switches", "voluntary_switches", "count"},
    {"  forced", "involuntary_switches", "count"},
    {"allocations", "allocations", "count"},
    {"allocated", "allocated_space", "bytes"},
};

struct measured {
    double *values[METRICS];
    size_t count[METRICS];
    size_t failed;
    int status;       // of the first run that failed, else 0
    bool interrupted; // by the user: no more runs
    double rss_floor; // our own: a child's maximum is never below it
};

static double seconds_ns(struct timeval t)
{
    return (double)t.tv_sec * 1e9 + (double)t.tv_usec * 1e3;
}

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void note(struct measured *m, int metric, double value)
{
    m->values[metric][m->count[metric]++] = value;
}

// Starts the command as the shell would: the signals that we ignore while it runs are its own.
static int start(pid_t *pid, char *const *argv, bool move_stdout)
{
    posix_spawnattr_t attr;
    posix_spawn_file_actions_t actions;
    sigset_t defaulted;
    sigemptyset(&defaulted);
    sigaddset(&defaulted, SIGINT);
    sigaddset(&defaulted, SIGQUIT);
    int rc = posix_spawnattr_init(&attr);
    if (rc)
        return rc;
    rc = posix_spawn_file_actions_init(&actions);
    if (!rc) {
        posix_spawnattr_setsigdefault(&attr, &defaulted);
        posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF);
        if (move_stdout)
            rc = posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
        rc = rc ? rc : posix_spawnp(pid, argv[0], &actions, &attr, argv, environ);
        posix_spawn_file_actions_destroy(&actions);
    }
    posix_spawnattr_destroy(&attr);
    return rc;
}

// One run; its figures are noted where measure says. 0 or an exit status after a message.
static int run_once(struct measured *m, char *const *argv, bool move_stdout, bool measure)
{
    struct rusage used;
    int status;
    pid_t pid;
    double begin = now_ns();
    int rc = start(&pid, argv, move_stdout);
    if (rc) {
        cli_fail("%.200s: %s", argv[0], strerror(rc));
        return rc == ENOENT ? 127 : 126;
    }
    while (wait4(pid, &status, 0, &used) < 0) {
        if (errno != EINTR)
            return cli_fail("waiting for %.100s: %s", argv[0], strerror(errno));
    }
    double end = now_ns();
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    m->failed += code != 0;
    m->status = m->status ? m->status : code;
    m->interrupted |=
        WIFSIGNALED(status) && (WTERMSIG(status) == SIGINT || WTERMSIG(status) == SIGQUIT);
    if (!measure || m->interrupted)
        return 0;
    note(m, TIME, end - begin);
    note(m, USER, seconds_ns(used.ru_utime));
    note(m, SYSTEM, seconds_ns(used.ru_stime));
    note(m, RSS, (double)used.ru_maxrss * 1024);
    note(m, MINOR, (double)used.ru_minflt);
    note(m, MAJOR, (double)used.ru_majflt);
    note(m, VOLUNTARY, (double)used.ru_nvcsw);
    note(m, INVOLUNTARY, (double)used.ru_nivcsw);
    return 0;
}

static void show_progress(const struct settings *s, const char *what, uint64_t run, uint64_t runs)
{
    if (!s->quiet && runs > 1 && isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[K%s %llu of %llu", what, (unsigned long long)run,
                (unsigned long long)runs);
}

static void end_progress(const struct settings *s)
{
    if (!s->quiet && isatty(STDERR_FILENO))
        fputs("\r\033[K", stderr);
}

static double sum_of(const struct pprof_profile *p, const char *type)
{
    double sum = 0;
    for (size_t t = 0; t < p->sample_type_count; t++) {
        for (size_t i = 0; i < p->sample_count && !strcmp(p->sample_types[t].type, type); i++)
            sum += (double)p->samples[i]->values[t];
    }
    return sum;
}

// Allocations of further runs, under `record --heap=exact`. What cannot be counted is said once and
// left out of the table.
static void count_allocations(const struct settings *s, struct measured *m, char *const *argv)
{
    struct fscope_error err = {0};
    struct gate_inputs in = {0};
    struct gate_recording r = {
        .runs = s->alloc_runs, .command = argv, .allow_failure = true, .quiet = s->quiet};
    if (s->no_allocs || !s->alloc_runs || m->interrupted || !gate_can_record("heap"))
        return;
    if (gate_recording_kind(&r, "heap=exact", &err) || gate_record(&in, false, &r, &err))
        cli_note("allocations were not counted: %s", err.text);
    for (size_t k = 0; !err.code && k < in.input.kind_count; k++) {
        const struct gate_side *side = &in.input.kinds[k].now;
        bool is_heap = !strcmp(in.input.kinds[k].name, "heap");
        for (size_t i = 0; is_heap && i < side->count && i < s->alloc_runs; i++) {
            note(m, ALLOCS, sum_of(side->runs[i], "alloc_objects"));
            note(m, ALLOC_SPACE, sum_of(side->runs[i], "alloc_space"));
        }
    }
    gate_inputs_finish(&in);
}

static void print_row(FILE *out, const struct measured *m, int metric)
{
    char text[4][UNITS_LABEL_MAX + 2];
    struct statistics_spread d = statistics_spread(m->values[metric], m->count[metric]);
    const double shown[] = {d.median, d.min, d.max, d.mad};
    for (int i = 0; i < 4; i++) {
        // A quarter of a million faults is a number, not "250000count".
        const char *unit = metrics[metric].unit;
        if (!strcmp(unit, "count"))
            snprintf(text[i], sizeof text[i], "%.15g", shown[i]);
        else
            units_label(text[i], sizeof text[i], (int64_t)shown[i], unit, "auto");
    }
    fprintf(out, "  %-18s %12s", metrics[metric].name, text[0]);
    if (m->count[metric] > 1)
        fprintf(out, " %12s %12s %12s", text[1], text[2], text[3]);
    if (metric == RSS && d.median <= m->rss_floor)
        fputs("  (at most)", out);
    fputc('\n', out);
}

static void print_table(FILE *out, const struct measured *m, char **argv)
{
    fprintf(out, "%zu run%s of %s", m->count[TIME], m->count[TIME] == 1 ? "" : "s", argv[0]);
    if (m->failed)
        fprintf(out, ", %zu with an exit status other than 0", m->failed);
    fprintf(out, "\n  %-18s %12s", "", m->count[TIME] > 1 ? "median" : "");
    if (m->count[TIME] > 1)
        fprintf(out, " %12s %12s %12s", "min", "max", "mad");
    fputc('\n', out);
    for (int i = 0; i < METRICS; i++) {
        if (m->count[i])
            print_row(out, m, i);
    }
}

static void print_json(FILE *out, const struct measured *m, char **argv)
{
    struct json j = {.out = out};
    json_open(&j, NULL, '{');
    json_open(&j, "command", '[');
    for (char **a = argv; *a; a++)
        json_string(&j, NULL, *a);
    json_close(&j, ']');
    json_int(&j, "runs", (int64_t)m->count[TIME]);
    json_int(&j, "failed", (int64_t)m->failed);
    json_int(&j, "exit_status", m->status);
    for (int i = 0; i < METRICS; i++) {
        if (!m->count[i])
            continue;
        json_open(&j, metrics[i].key, '{');
        json_string(&j, "unit", metrics[i].unit);
        json_open(&j, "values", '[');
        for (size_t k = 0; k < m->count[i]; k++)
            json_real(&j, NULL, m->values[i][k]);
        json_close(&j, ']');
        struct statistics_spread d = statistics_spread(m->values[i], m->count[i]);
        json_real(&j, "median", d.median);
        json_real(&j, "min", d.min);
        json_real(&j, "max", d.max);
        json_real(&j, "mean", d.mean);
        json_real(&j, "stdev", d.stdev);
        json_real(&j, "mad", d.mad);
        if (i == RSS)
            json_bool(&j, "at_most", d.median <= m->rss_floor);
        json_close(&j, '}');
    }
    json_close(&j, '}');
    fputc('\n', out);
}

static int write_report(const struct settings *s, const struct measured *m, char **argv)
{
    struct profile_output o = {.out = s->json ? stdout : stderr};
    if (s->output) {
        int status = profile_output_open(&o, s->output);
        if (status)
            return status;
    }
    if (s->json)
        print_json(o.out, m, argv);
    else
        print_table(o.out, m, argv);
    return s->output ? profile_output_close(&o, true) : CLI_OK;
}

static int measure(const struct settings *s, struct measured *m, char **argv)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN}, old_int, old_quit;
    bool move_stdout = s->json && !s->output;
    int status = 0;
    // Ctrl-C reaches the command as well; what was measured until then is still reported.
    sigaction(SIGINT, &ignore, &old_int);
    sigaction(SIGQUIT, &ignore, &old_quit);
    for (uint64_t i = 0; i < s->warmup && !status && !m->interrupted; i++) {
        show_progress(s, "warming up", i + 1, s->warmup);
        status = run_once(m, argv, move_stdout, false);
    }
    for (uint64_t i = 0; i < s->runs && !status && !m->interrupted; i++) {
        show_progress(s, "run", i + 1, s->runs);
        status = run_once(m, argv, move_stdout, true);
    }
    end_progress(s);
    if (!status)
        count_allocations(s, m, argv);
    sigaction(SIGINT, &old_int, NULL);
    sigaction(SIGQUIT, &old_quit, NULL);
    return status;
}

static int run(void *settings, int argc, char **argv)
{
    const struct settings *s = settings;
    struct measured m = {0};
    struct rusage self;
    int status = CLI_OK;
    if (!argc)
        return cli_usage("what to run is missing: a command with its arguments");
    if (s->runs < 1 || s->runs > RUNS_MAX || s->alloc_runs > GATE_RUNS_MAX || s->warmup > RUNS_MAX)
        return cli_usage("-r: from 1 to %d runs; --alloc-runs: at most %d", RUNS_MAX,
                         GATE_RUNS_MAX);
    for (int i = 0; i < METRICS && !status; i++) {
        m.values[i] = calloc(s->runs + s->alloc_runs + 1, sizeof(double));
        status = m.values[i] ? CLI_OK : cli_fail("out of memory");
    }
    if (!status) {
        fflush(stdout);
        getrusage(RUSAGE_SELF, &self);
        m.rss_floor = (double)self.ru_maxrss * 1024;
        status = measure(s, &m, argv);
    }
    if (!status && m.count[TIME])
        status = write_report(s, &m, argv);
    for (int i = 0; i < METRICS; i++)
        free(m.values[i]);
    return status ? status : m.status;
}

const struct cli_command cmd_stat = {
    .name = "stat",
    .summary = "measure runs of a command: time, CPU, memory, faults, allocations",
    .operands = "COMMAND [ARGUMENT...]",
    .details = "Runs COMMAND once, or N times with -r, and prints the median, the extremes and the "
               "median\n"
               "absolute deviation. Allocations are counted in a further run. If a run ends with a "
               "status\n"
               "other than 0, so does this.",
    .examples = "  fiberscope stat -r 10 ./bench\n"
                "  fiberscope stat --json -o cost.json make",
    .flags = CLI_STOP_AT_OPERAND,
    .options = options,
    .option_count = CLI_COUNT(options),
    .defaults = &defaults,
    .settings_size = sizeof defaults,
    .run = run,
};
