// SPDX-License-Identifier: MIT
//
// fiberscope baseline: keeps what `fiberscope check` compares with.

#include "cli/commands.h"
#include "cli/gate_inputs.h"
#include "cli/gate_store.h"

#include "analysis/statistics.h"
#include "analysis/units.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct settings {
    const char *folder;
    struct cli_list kinds;
    uint64_t runs;
    int64_t ops;
    bool allow_failure, quiet;
};

static const struct settings defaults = {.folder = ".fiberscope/baseline"};

static const struct cli_option options[] = {
    CLI_STRING(struct settings, folder, "dir", 'd', "FOLDER", NULL,
               "where the baseline is kept (default .fiberscope/baseline)"),
    CLI_LIST(struct settings, kinds, "kind", 'k', "KIND", "update",
             "what to record of a command: heap=exact (default), heap, cpu, wall, block, mutex; "
             "without it, the kinds that the old baseline has"),
    CLI_UINT(struct settings, runs, "runs", 'n', "N", "update",
             "how often to run the command (default 1; sampled and timed kinds need 3 or more)"),
    CLI_INT(struct settings, ops, "ops", 0, "N", "update",
            "operations that a run performs; kept in the baseline"),
    CLI_FLAG(struct settings, allow_failure, "allow-failure", 0, "update",
             "keep the profile also if the command exits with a status other than 0"),
    CLI_FLAG(struct settings, quiet, "quiet", 'q', NULL, "say nothing but errors"),
};

// The median over the runs of a sample type's total.
static double total_of(const struct gate_side *side, const char *type)
{
    double sums[GATE_RUNS_MAX];
    size_t n = 0;
    for (size_t r = 0; r < side->count && n < GATE_RUNS_MAX; r++) {
        const struct pprof_profile *p = side->runs[r];
        for (size_t t = 0; t < p->sample_type_count; t++) {
            if (strcmp(p->sample_types[t].type, type) != 0)
                continue;
            sums[n] = 0;
            for (size_t i = 0; i < p->sample_count; i++)
                sums[n] += (double)p->samples[i]->values[t];
            n++;
            break;
        }
    }
    return statistics_spread(sums, n).median;
}

static void print_value(const char *name, const struct gate_side *side,
                        const struct pprof_value_type *t)
{
    char label[UNITS_LABEL_MAX];
    printf("  %-18s %s\n", name,
           units_label(label, sizeof label, (int64_t)total_of(side, t->type), t->unit, "auto"));
}

static void print_change(const struct gate_kind *k, const struct pprof_value_type *t)
{
    char a[UNITS_LABEL_MAX], b[UNITS_LABEL_MAX], c[UNITS_LABEL_MAX];
    double base = total_of(&k->base, t->type), now = total_of(&k->now, t->type);
    units_label(a, sizeof a, (int64_t)base, t->unit, "auto");
    units_label(b, sizeof b, (int64_t)now, t->unit, "auto");
    units_label(c, sizeof c, (int64_t)(now - base), t->unit, "auto");
    if (base == now)
        printf("  %-18s %s, unchanged\n", t->type, b);
    else
        printf("  %-18s %s -> %s (%s%s)\n", t->type, a, b, now > base ? "+" : "", c);
}

// How many paths came and went, by the first sample type.
static int print_paths(const struct gate_kind *k, struct fscope_error *err)
{
    struct paths p;
    struct paths_input in = {.base = k->base.runs,
                             .base_count = k->base.count,
                             .now = k->now.runs,
                             .now_count = k->now.count,
                             .type = k->now.runs[0]->sample_types[0].type};
    size_t states[5] = {0};
    int rc = paths_build(&p, &in, err);
    for (size_t i = 0; i < p.group_count && !rc; i++)
        states[p.groups[i].state]++;
    if (!rc)
        printf("  %-18s %zu new, %zu gone, %zu renamed or moved, %zu as before\n", "call paths",
               states[PATHS_NEW], states[PATHS_GONE], states[PATHS_RENAMED] + states[PATHS_MOVED],
               states[PATHS_SAME]);
    paths_finish(&p);
    return rc;
}

static int print_changes(const struct gate_inputs *in, struct fscope_error *err)
{
    int rc = 0;
    for (size_t i = 0; i < in->input.kind_count && !rc; i++) {
        const struct gate_kind *k = &in->input.kinds[i];
        const char *what = !k->now.count ? "dropped" : !k->base.count ? "new" : "updated";
        printf("%s: %s, %zu run%s\n", k->name, what, k->now.count, k->now.count == 1 ? "" : "s");
        for (size_t t = 0; k->now.count && t < k->now.runs[0]->sample_type_count; t++) {
            const struct pprof_value_type *type = &k->now.runs[0]->sample_types[t];
            if (k->base.count)
                print_change(k, type);
            else
                print_value(type->type, &k->now, type);
        }
        if (k->now.count && k->base.count && k->now.runs[0]->sample_type_count)
            rc = print_paths(k, err);
    }
    return rc;
}

static int record(const struct settings *s, struct gate_inputs *in, char *const *command,
                  struct fscope_error *err)
{
    struct gate_recording r = {
        .runs = s->runs, .command = command, .allow_failure = s->allow_failure, .quiet = s->quiet};
    int rc = 0;
    for (size_t i = 0; i < s->kinds.count && !rc; i++)
        rc = gate_recording_kind(&r, s->kinds.items[i], err);
    if (!rc && !s->kinds.count)
        rc = in->input.kind_count ? gate_recording_like(&r, &in->input, err)
                                  : gate_recording_kind(&r, "heap=exact", err);
    r.runs = r.runs ? r.runs : 1;
    return rc ? rc : gate_record(in, false, &r, err);
}

static int note_ops(const struct settings *s, struct gate_inputs *in, struct fscope_error *err)
{
    char text[40];
    snprintf(text, sizeof text, "ops=%lld", (long long)s->ops);
    for (size_t k = 0; s->ops > 0 && k < in->input.kind_count; k++) {
        struct gate_side *side = &in->input.kinds[k].now;
        for (size_t i = 0; i < side->count; i++) {
            if (pprof_add_comment(side->runs[i], text))
                return error_set(err, -ENOMEM, 0, "out of memory");
        }
    }
    return 0;
}

static bool is_empty(const struct gate_side *side)
{
    for (size_t r = 0; r < side->count; r++)
        for (size_t i = 0; i < side->runs[r]->sample_count; i++)
            for (size_t t = 0; t < side->runs[r]->sample_type_count; t++)
                if (side->runs[r]->samples[i]->values[t])
                    return false;
    return true;
}

// A sampled heap in which nothing was sampled is no baseline: what grows below the rate would pass.
static int check_content(const struct gate_inputs *in, struct fscope_error *err)
{
    for (size_t k = 0; k < in->input.kind_count; k++) {
        const struct gate_kind *kind = &in->input.kinds[k];
        char rate[UNITS_LABEL_MAX];
        if (!kind->now.count || !is_empty(&kind->now))
            continue;
        if (!strcmp(kind->name, "heap") && kind->now.runs[0]->period > 1) {
            units_label(rate, sizeof rate, kind->now.runs[0]->period, "bytes", "auto");
            return error_set(err, -ENODATA, 0,
                             "nothing was sampled: one allocation per %s is, and the program makes "
                             "too few; take --kind heap=exact, or a smaller --kind heap=BYTES",
                             rate);
        }
        if (strcmp(kind->name, "block") != 0 && strcmp(kind->name, "mutex") != 0)
            cli_note("the %s profiles are empty: any sample will be growth", kind->name);
    }
    return 0;
}

static int update(const struct settings *s, const struct gate_operands *o)
{
    struct fscope_error err = {0};
    struct gate_inputs in = {0};
    struct gate_facts facts;
    int rc = 0;
    gate_facts_read(&facts, "");
    if (!access(s->folder, F_OK) && gate_inputs_add(&in, true, s->folder, &err)) {
        cli_note("%s; what was there is not compared", err.text);
        gate_inputs_finish(&in);
    }
    for (int i = 0; i < o->file_count && !rc; i++)
        rc = gate_inputs_add(&in, false, o->files[i], &err);
    if (o->command && !rc)
        rc = record(s, &in, o->command, &err);
    if (!rc)
        rc = check_content(&in, &err);
    if (!rc)
        rc = note_ops(s, &in, &err);
    if (!rc)
        rc = gate_store_write(s->folder, &in, &facts, &err);
    if (!rc && !s->quiet) {
        rc = print_changes(&in, &err);
        printf("%s\n", s->folder);
    }
    gate_inputs_finish(&in);
    return rc ? cli_fail("%s", err.text) : CLI_OK;
}

static int show(const struct settings *s)
{
    struct fscope_error err = {0};
    struct gate_inputs in = {0};
    int rc = gate_inputs_add(&in, true, s->folder, &err);
    for (size_t i = 0; i < in.input.kind_count && !rc; i++) {
        const struct gate_kind *k = &in.input.kinds[i];
        const struct pprof_profile *p = k->base.runs[0];
        time_t when = (time_t)(p->time_nanos / 1000000000);
        struct tm tm;
        char date[32] = "";
        if (p->time_nanos && localtime_r(&when, &tm))
            strftime(date, sizeof date, ", %Y-%m-%d %H:%M", &tm);
        printf("%s%s: %zu run%s%s\n", k->name,
               strcmp(k->name, "heap") ? ""
               : gate_is_exact(k)      ? " (exact)"
                                       : " (sampled)",
               k->base.count, k->base.count == 1 ? "" : "s", date);
        for (size_t t = 0; t < p->sample_type_count; t++)
            print_value(p->sample_types[t].type, &k->base, &p->sample_types[t]);
        for (size_t c = 0; c < p->comment_count; c++)
            printf("  %s\n", p->comments[c]);
    }
    gate_inputs_finish(&in);
    return rc ? cli_fail("%s; `fiberscope baseline update` makes a baseline", err.text) : CLI_OK;
}

static int run(void *settings, int argc, char **argv)
{
    static const char *const words[] = {"update", "show"};
    const struct settings *s = settings;
    if (!argc || !strcmp(argv[0], "--"))
        return cli_usage("update or show?");
    struct gate_operands o;
    if (!s->folder[0])
        return cli_usage("--dir: an empty name");
    if (!strcmp(argv[0], "show"))
        return argc == 1 ? show(s) : cli_usage("show takes no operands");
    if (strcmp(argv[0], "update") != 0) {
        const char *near = cli_nearest(argv[0], words, CLI_COUNT(words));
        return cli_usage("\"%.40s\" is neither update nor show%s%s%s", argv[0],
                         near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
    }
    if (gate_operands_read(&o, 1, argc, argv, s->runs, s->ops,
                           "what the baseline is made of is missing: profiles or -- COMMAND"))
        return CLI_USAGE;
    return update(s, &o);
}

const struct cli_command cmd_baseline = {
    .name = "baseline",
    .summary = "keep and show what `check` compares with",
    .operands = "update FILE... | update -- COMMAND [ARGUMENT...] | show",
    .details =
        "update records COMMAND (or takes the profiles) and replaces the stored baseline whole,\n"
        "saying what changed. The profiles are small and without addresses: fit for a repository.",
    .examples = "  fiberscope baseline update -- ./bench\n"
                "  fiberscope baseline update --kind cpu --runs 5 -- ./bench\n"
                "  fiberscope baseline show",
    .flags = CLI_KEEP_DASHES,
    .options = options,
    .option_count = CLI_COUNT(options),
    .defaults = &defaults,
    .settings_size = sizeof defaults,
    .run = run,
};
