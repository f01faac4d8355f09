// SPDX-License-Identifier: MIT
//
// fiberscope leaks: what is in use, and what grew, by call path over snapshots of the heap.

#include "analysis/growth.h"
#include "analysis/units.h"
#include "cli/profile_args.h"
#include "cli/terminal.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct leaks_args {
    struct profile_args profile; // first: its rows' offsets count from here
    const char *by;              // "site", "path"; NULL: by the number of snapshots
    bool all;
};

struct snapshot {
    struct pprof_profile *profile;
    const char *path;
    size_t given; // its place on the command line
};

// What a report is printed with.
struct leaks {
    const struct growth *g;
    const struct snapshot *snapshots;
    const struct leaks_args *args;
    size_t shown; // the first so many series
    double per_s; // seconds in the unit of the rates
    const char *per;
};

enum { ROWS_DEFAULT = 20, TREND_SNAPSHOTS = 5 };

static int by_time(const void *x, const void *y)
{
    const struct snapshot *a = x, *b = y;
    int64_t s = growth_time_ns(a->profile), t = growth_time_ns(b->profile);
    if (s != t)
        return s < t ? -1 : 1;
    return (a->given > b->given) - (a->given < b->given);
}

// Oldest first where all have a time; else in the order given.
static void put_in_order(struct snapshot *all, size_t n)
{
    bool timed = true, moved = false;
    for (size_t i = 0; i < n; i++)
        timed &= growth_time_ns(all[i].profile) > 0;
    if (timed)
        qsort(all, n, sizeof *all, by_time);
    for (size_t i = 0; i < n; i++)
        moved |= all[i].given != i;
    if (moved)
        cli_note("the snapshots are taken in the order of their times, %s first", all[0].path);
    for (size_t i = 1; i < n; i++)
        timed &= growth_time_ns(all[i].profile) > growth_time_ns(all[i - 1].profile);
    if (!timed && n > 1)
        cli_note(
            "the snapshots have no times of their own: taken in the order given, as if at equal "
            "distances");
}

static const char *main_file(const struct pprof_profile *p)
{
    const char *file = p->mapping_count ? p->mappings[0]->file : "";
    const char *slash = strrchr(file, '/');
    return slash && slash[1] ? slash + 1 : file;
}

static void warn_of_other_programs(const struct snapshot *all, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        const char *first = main_file(all[0].profile), *other = main_file(all[i].profile);
        if (strcmp(first, other) != 0) {
            cli_note("%s is of %s, %s of %s: growth between two programs says little", all[0].path,
                     first[0] ? first : "an unknown program", all[i].path,
                     other[0] ? other : "an unknown program");
            return;
        }
    }
}

// Values of a sampled profile are estimates.
static bool is_estimate(const struct leaks *l)
{
    for (size_t i = 0; i < l->g->snapshot_count; i++)
        if (l->snapshots[i].profile->period > 1)
            return true;
    return false;
}

static const char *signed_label(char *buf, size_t size, int64_t v, const char *unit)
{
    buf[0] = '+';
    units_label(buf + (v > 0), size - 1, v, unit, "auto");
    return buf;
}

// "inner <- caller <- .." of the frames that stand one per line.
static void print_path(FILE *out, const struct terminal *t, const char *path, int used)
{
    size_t lines = 0, n = 0;
    for (const char *c = path; *c; c++)
        lines += *c == '\n';
    char *text = malloc(strlen(path) + 5 * lines + 1);
    for (const char *c = path; text && *c; c++) {
        if (*c != '\n') {
            text[n++] = *c;
            continue;
        }
        memcpy(text + n, " \xe2\x86\x90 ", 5);
        n += 5;
    }
    if (text)
        text[n] = 0;
    int room = t->columns - used;
    terminal_print(out, t, text ? text : path, !t->columns ? 0 : room > 20 ? room : 20);
    fputc('\n', out);
    free(text);
}

static void print_rate(FILE *out, const struct leaks *l)
{
    char rate[UNITS_LABEL_MAX];
    if (!is_estimate(l))
        return;
    units_label(rate, sizeof rate, l->snapshots[0].profile->period, "bytes", "auto");
    fprintf(out,
            "Estimates, from samples of one allocation per %s: small figures may be far off, and "
            "what is\nsmall may be missing; --heap=exact counts all.\n",
            rate);
}

static void print_head(FILE *out, const struct leaks *l)
{
    const char *about = is_estimate(l) ? "~" : "";
    char first[UNITS_LABEL_MAX], last[UNITS_LABEL_MAX], grown[UNITS_LABEL_MAX];
    const struct growth *g = l->g;
    size_t n = g->snapshot_count;
    if (main_file(l->snapshots[0].profile)[0])
        fprintf(out, "File: %s\n", main_file(l->snapshots[0].profile));
    units_label(last, sizeof last, g->total.bytes[n - 1], g->unit, "auto");
    if (n == 1) {
        fprintf(out, "In use: %s%s", about, last);
        if (g->has_objects)
            fprintf(out, " in %s%lld object%s", about, (long long)g->total.objects[0],
                    g->total.objects[0] == 1 ? "" : "s");
        fputc('\n', out);
        print_rate(out, l);
        return;
    }
    units_label(first, sizeof first, g->total.bytes[0], g->unit, "auto");
    signed_label(grown, sizeof grown, growth_of(g, g->total.bytes), g->unit);
    fprintf(out, "In use: %s%s \xe2\x86\x92 %s%s (%s) in %zu snapshots", about, first, about, last,
            grown, n);
    if (g->timed) {
        units_label(grown, sizeof grown, (int64_t)(g->times_s[n - 1] * 1e9), "nanoseconds", "auto");
        fprintf(out, " over %s", grown);
    }
    fputc('\n', out);
    print_rate(out, l);
}

static void print_single(FILE *out, const struct leaks *l, const struct terminal *t)
{
    char bytes[UNITS_LABEL_MAX], percent[32];
    const struct growth *g = l->g;
    fprintf(out, "%10s %7s %10s  %s\n", "in use", "of all", "objects", "allocated by");
    for (size_t i = 0; i < l->shown; i++) {
        const struct growth_series *s = g->series[i];
        fprintf(out, "%10s %7s %10lld  ",
                units_label(bytes, sizeof bytes, s->bytes[0], g->unit, "auto"),
                units_percent(percent, sizeof percent, s->bytes[0], g->total.bytes[0]),
                (long long)s->objects[0]);
        print_path(out, t, s->path, 31);
    }
}

static void print_growth(FILE *out, const struct leaks *l, const struct terminal *t)
{
    char rate[UNITS_LABEL_MAX + 8], grown[UNITS_LABEL_MAX], use[UNITS_LABEL_MAX];
    const struct growth *g = l->g;
    size_t n = g->snapshot_count;
    fprintf(out, "%13s %10s %9s %10s", "rate", "growth", "objects", "in use");
    fprintf(out, n > 2 ? "   tau      p  %s\n" : "  %s\n", "allocated by");
    for (size_t i = 0; i < l->shown; i++) {
        const struct growth_series *s = g->series[i];
        double per_unit = s->bytes_slope * l->per_s; // beyond 2^63 it is nobody's memory
        signed_label(rate, sizeof rate - 8, fabs(per_unit) < 0x1p63 ? (int64_t)per_unit : INT64_MAX,
                     g->unit);
        strcat(rate, l->per);
        fprintf(out, "%13s %10s %+9lld %10s", rate,
                signed_label(grown, sizeof grown, growth_of(g, s->bytes), g->unit),
                (long long)growth_of(g, s->objects),
                units_label(use, sizeof use, s->bytes[n - 1], g->unit, "auto"));
        if (n > 2)
            fprintf(out, " %5.2f %6.2g", s->tau, s->p);
        fputs("  ", out);
        print_path(out, t, s->path, n > 2 ? 60 : 47);
    }
}

// The command that shows the lines of the worst path, with its innermost frame as the focus.
static void print_next(FILE *out, const struct leaks *l)
{
    const struct growth *g = l->g;
    if (!l->shown)
        return;
    const char *path = g->series[0]->path;
    size_t length = strcspn(path, "\n"), at = 0;
    char *focus = malloc(2 * length + 3);
    if (!focus)
        return;
    focus[at++] = '^';
    for (size_t i = 0; i < length; i++) {
        if (strchr("\\.+*?()|[]{}^$", path[i]))
            focus[at++] = '\\';
        focus[at++] = path[i];
    }
    strcpy(focus + at, "$");
    fputs("\nNext: fiberscope tree -lines -inuse_space", out);
    if (!strcmp(l->args->profile.report.granularity, "functions") && path[0] != '<' &&
        path[0] != '[') {
        fputs(" -focus ", out);
        cli_print_word(out, focus);
    }
    if (g->snapshot_count > 1) {
        fputs(" -base ", out);
        cli_print_word(out, l->snapshots[0].path);
    }
    fputc(' ', out);
    cli_print_word(out, l->snapshots[g->snapshot_count - 1].path);
    fputc('\n', out);
    free(focus);
}

static void print_left_out(FILE *out, size_t n)
{
    if (n == 1)
        fputs("1 path that did not grow is left out (--all shows it).\n", out);
    else
        fprintf(out, "%zu paths that did not grow are left out (--all shows them).\n", n);
}

static void print_rest(FILE *out, const struct leaks *l, size_t wanted)
{
    const struct growth *g = l->g;
    if (!g->series_count)
        fputs("Nothing is in use.\n", out);
    else if (!wanted)
        fprintf(out, "Nothing grew: %zu path%s stayed or shrank (--all shows %s).\n",
                g->series_count, g->series_count == 1 ? "" : "s",
                g->series_count == 1 ? "it" : "them");
    if (l->shown < wanted)
        fprintf(out, "%zu more row%s (--nodecount=0 shows all).\n", wanted - l->shown,
                wanted - l->shown == 1 ? "" : "s");
    if (wanted && wanted < g->series_count && g->snapshot_count > 1)
        print_left_out(out, g->series_count - wanted);
    if (g->snapshot_count > 2 && g->snapshot_count < TREND_SNAPSHOTS)
        fprintf(out,
                "With %zu snapshots no p can be below 0.05; %d or more tell a trend from "
                "chance.\n",
                g->snapshot_count, TREND_SNAPSHOTS);
}

static void print_table(FILE *out, const struct leaks *l, size_t wanted)
{
    struct terminal t = terminal_of(out);
    print_head(out, l);
    if (l->shown && l->g->snapshot_count == 1)
        print_single(out, l, &t);
    else if (l->shown)
        print_growth(out, l, &t);
    print_rest(out, l, wanted);
    print_next(out, l);
}

static void json_series(struct json *j, const struct growth *g, const struct growth_series *s)
{
    size_t n = g->snapshot_count;
    json_open(j, "bytes", '[');
    for (size_t i = 0; i < n; i++)
        json_int(j, NULL, s->bytes[i]);
    json_close(j, ']');
    json_open(j, "objects", '[');
    for (size_t i = 0; i < n; i++)
        json_int(j, NULL, s->objects[i]);
    json_close(j, ']');
    if (n < 2)
        return;
    json_int(j, "growth_bytes", growth_of(g, s->bytes));
    json_int(j, "growth_objects", growth_of(g, s->objects));
    json_real(j, g->timed ? "bytes_per_second" : "bytes_per_snapshot", s->bytes_slope);
    json_real(j, g->timed ? "objects_per_second" : "objects_per_snapshot", s->objects_slope);
    if (n > 2) {
        json_real(j, "tau", s->tau);
        json_real(j, "p", s->p);
    }
}

static void print_json(FILE *out, const struct leaks *l)
{
    struct json j = {.out = out};
    const struct growth *g = l->g;
    json_open(&j, NULL, '{');
    json_string(&j, "file", main_file(l->snapshots[0].profile));
    json_string(&j, "unit", g->unit);
    json_bool(&j, "estimates", is_estimate(l));
    json_open(&j, "snapshots", '[');
    for (size_t i = 0; i < g->snapshot_count; i++) {
        json_open(&j, NULL, '{');
        json_string(&j, "file", l->snapshots[i].path);
        json_int(&j, "time_nanos", growth_time_ns(l->snapshots[i].profile));
        json_close(&j, '}');
    }
    json_close(&j, ']');
    json_open(&j, "total", '{');
    json_series(&j, g, &g->total);
    json_close(&j, '}');
    json_int(&j, "paths_in_all", (int64_t)g->series_count);
    json_open(&j, "paths", '[');
    for (size_t i = 0; i < l->shown; i++) {
        json_open(&j, NULL, '{');
        json_open(&j, "frames", '[');
        for (const char *f = g->series[i]->path, *end; f; f = *end ? end + 1 : NULL) {
            end = f + strcspn(f, "\n");
            char *one = strndup(f, (size_t)(end - f));
            json_string(&j, NULL, one ? one : "");
            free(one);
        }
        json_close(&j, ']');
        json_series(&j, g, g->series[i]);
        json_close(&j, '}');
    }
    json_close(&j, ']');
    json_close(&j, '}');
}

static void choose_rate(struct leaks *l)
{
    double span = l->g->times_s[l->g->snapshot_count - 1];
    l->per_s = !l->g->timed ? 1 : span < 120 ? 1 : span < 7200 ? 60 : 3600;
    l->per = !l->g->timed ? "/step" : span < 120 ? "/s" : span < 7200 ? "/min" : "/h";
}

static int report(struct leaks_args *a, const struct snapshot *all, const struct growth *g)
{
    struct leaks l = {.g = g, .snapshots = all, .args = a};
    struct profile_output o;
    size_t wanted = 0;
    int64_t rows = a->profile.report.nodecount < 0 ? ROWS_DEFAULT : a->profile.report.nodecount;
    while (wanted < g->series_count &&
           (a->all || g->series[wanted]->bytes_slope > 0 ||
            (g->series[wanted]->bytes_slope == 0 && g->series[wanted]->objects_slope > 0)))
        wanted++;
    l.shown = rows && (uint64_t)rows < wanted && !a->profile.json ? (size_t)rows : wanted;
    if (a->profile.json && a->profile.report.nodecount > 0 && (uint64_t)rows < wanted)
        l.shown = (size_t)rows;
    choose_rate(&l);
    int status = profile_output_open(&o, a->profile.output);
    if (status)
        return status;
    if (a->profile.json)
        print_json(o.out, &l);
    else
        print_table(o.out, &l, wanted);
    return profile_output_close(&o, true);
}

static void warn(void *arg, const char *text)
{
    (void)arg;
    cli_note("%s", text);
}

static int measure(struct leaks_args *a, struct snapshot *all, size_t n)
{
    struct growth g;
    struct fscope_error err = {0};
    size_t failed;
    put_in_order(all, n);
    warn_of_other_programs(all, n);
    struct pprof_profile **profiles = calloc(n, sizeof(struct pprof_profile *));
    if (!profiles)
        return cli_fail("out of memory");
    for (size_t i = 0; i < n; i++)
        profiles[i] = all[i].profile;
    a->profile.report.warn = warn;
    bool by_site = a->by ? !strcmp(a->by, "site") : n == 1;
    int status, rc = growth_measure(&g, profiles, n, &a->profile.report, by_site, &failed, &err);
    if (!rc)
        status = report(a, all, &g);
    else if (rc == -ENOENT)
        status = cli_fail("%s: not a profile of memory in use: %s; take heap snapshots, with the "
                          "sample type inuse_space",
                          all[failed].path, err.text);
    else
        status = rc == -EINVAL || rc == -E2BIG ? cli_usage("%s: %s", all[failed].path, err.text)
                                               : cli_fail("%s", err.text);
    growth_finish(&g);
    free(profiles);
    return status;
}

static int run(void *settings, int argc, char **argv)
{
    struct leaks_args *a = settings;
    int status = CLI_OK;
    if (!argc)
        return cli_usage("which snapshots: leaks A [B C...], heap profiles of one process");
    struct snapshot *all = calloc((size_t)argc, sizeof *all);
    if (!all)
        return cli_fail("out of memory");
    for (int i = 0; i < argc && !status; i++) {
        all[i] = (struct snapshot){.path = argv[i], .given = (size_t)i};
        status = profile_read(&all[i].profile, &a->profile, argv[i]);
    }
    if (!status)
        status = measure(a, all, (size_t)argc);
    for (int i = 0; i < argc; i++)
        pprof_free(all[i].profile);
    free(all);
    return status;
}

#define LEAKS "Table"
static const struct leaks_args defaults = {.profile = PROFILE_DEFAULTS};
static const struct cli_option options[] = {
    CLI_CHOICE(
        struct leaks_args, by, "by", 0, "WORD", LEAKS,
        "one row per call path or per site, the innermost frame (default: path; site for one "
        "snapshot)",
        "path site"),
    CLI_INT(PA, report.nodecount, "nodecount", 'n', "N", LEAKS,
            "at most N rows, 0 for all (default 20; all in JSON)"),
    CLI_FLAG(struct leaks_args, all, "all", 'a', LEAKS, "also what stayed or shrank"),
    PROFILE_FILTER_OPTIONS,
    PROFILE_GRANULARITY_OPTIONS,
    PROFILE_INPUT_OPTIONS,
    PROFILE_JSON_OPTION,
};

const struct cli_command cmd_leaks = {
    .name = "leaks",
    .summary = "show what is in use and what grows, by call path, over heap snapshots",
    .operands = "A [B C...]",
    .details = "One snapshot: what is in use by site; of an exact profile at exit these are the "
               "leaks. Two:\n"
               "what grew between them. Three or more: the rate is the Theil-Sen slope over the "
               "snapshots'\n"
               "times, tau and p are Kendall's (p: how often chance alone gives such a trend).",
    .examples = "  fiberscope leaks heap.1.pb.gz heap.2.pb.gz heap.3.pb.gz\n"
                "  fiberscope leaks -by=site -lines -focus=cache before.pb.gz after.pb.gz",
    .options = options,
    .option_count = CLI_COUNT(options),
    .defaults = &defaults,
    .settings_size = sizeof defaults,
    .run = run,
};
