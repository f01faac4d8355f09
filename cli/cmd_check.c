// SPDX-License-Identifier: MIT
//
// fiberscope check: whether a new build allocates, waits or runs more than its baseline.
//
// Exit statuses: 0 ok, 1 regression, 2 cannot tell. Whatever goes wrong is a 2: a gate that could
// not look must not let anything pass, and must not blame the change either.

#include "cli/commands.h"
#include "cli/gate_inputs.h"
#include "cli/gate_report.h"
#include "cli/profile_args.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RULES_FILE      ".fiberscope-rules"
#define BASELINE_FOLDER ".fiberscope/baseline"

enum { FORMATS_MAX = 8 };

struct settings {
    struct cli_list baseline, rules, rule_files, formats;
    const char *output, *svg, *root;
    double confidence;
    uint64_t runs;
    int64_t ops;
    bool allow_failure, quiet;
};

static const struct settings defaults = {.confidence = 95};

static const struct cli_option options[] = {
    CLI_LIST(struct settings, baseline, "baseline", 'b', "BASE", NULL,
             "a profile or a folder of profiles, one per run; several add up; by default the "
             "folder " BASELINE_FOLDER),
    CLI_LIST(struct settings, rules, "rule", 'r', "RULE", "Rules",
             "what may not grow or what must hold: `alloc_objects > +2% in func matching X`"),
    CLI_LIST(struct settings, rule_files, "rules", 0, "FILE", "Rules",
             "a file of rules, one per line (default: " RULES_FILE " if it exists)"),
    CLI_REAL(struct settings, confidence, "confidence", 0, "PERCENT", "Rules",
             "of what is sampled or timed: how sure a regression must be (default 95)"),
    CLI_INT(struct settings, ops, "ops", 0, "N", "Rules",
            "operations that a run performs, for growth per operation (default: what the profiles "
            "say)"),
    CLI_UINT(struct settings, runs, "runs", 'n', "N", "Running a command",
             "how often to run it (default: as many runs as the baseline has)"),
    CLI_FLAG(struct settings, allow_failure, "allow-failure", 0, "Running a command",
             "judge it also if it exits with a status other than 0"),
    CLI_LIST(struct settings, formats, "format", 'f', "FORMAT[=FILE]", "Output",
             "text (default), markdown, github or json; several may be given, each with its file"),
    CLI_STRING(struct settings, output, "output", 'o', "FILE", "Output",
               "where the format without a file of its own goes"),
    CLI_STRING(struct settings, svg, "svg", 0, "FILE", "Output",
               "write the picture of what grew to FILE, which the Markdown then refers to"),
    CLI_STRING(struct settings, root, "root", 0, "FOLDER", "Output",
               "taken off the names of source files (default: the current folder)"),
    CLI_FLAG(struct settings, quiet, "quiet", 'q', "Output", "no progress, no warnings on stderr"),
};

static int cannot_tell(const struct fscope_error *err)
{
    cli_fail("%s", err->text);
    return GATE_CANNOT_TELL;
}

static int load_rules(const struct settings *s, const struct gate_input *in,
                      struct gate_rules *rules, struct fscope_error *err)
{
    int rc = 0;
    for (size_t i = 0; i < s->rule_files.count && !rc; i++)
        rc = gate_rules_add_file(rules, s->rule_files.items[i], err);
    for (size_t i = 0; i < s->rules.count && !rc; i++) {
        char source[32];
        snprintf(source, sizeof source, "--rule %zu", i + 1);
        rc = gate_rules_add(rules, source, s->rules.items[i], strlen(s->rules.items[i]), err);
    }
    if (!rc && !s->rule_files.count && !s->rules.count && !access(RULES_FILE, F_OK))
        rc = gate_rules_add_file(rules, RULES_FILE, err);
    if (!rc && !rules->count)
        rc = gate_default_rules(rules, in, err);
    if (!rc && !rules->count)
        rc = error_set(err, -EINVAL, 0,
                       "there is no default rule for these profiles; give one with "
                       "--rule");
    return rc;
}

static int load_baseline(const struct settings *s, struct gate_inputs *in, struct fscope_error *err)
{
    int rc = 0;
    for (size_t i = 0; i < s->baseline.count && !rc; i++)
        rc = gate_inputs_add(in, true, s->baseline.items[i], err);
    if (!s->baseline.count && gate_inputs_add(in, true, BASELINE_FOLDER, err)) {
        char why[200];
        snprintf(why, sizeof why, "%.190s", err->text);
        rc = error_set(err, -ENOENT, 0,
                       "no --baseline given, and %s; `fiberscope baseline update` "
                       "makes one",
                       why);
    }
    return rc;
}

static int load_new(const struct settings *s, struct gate_inputs *in, const struct gate_operands *o,
                    struct fscope_error *err)
{
    int rc = 0;
    for (int i = 0; i < o->file_count && !rc; i++)
        rc = gate_inputs_add(in, false, o->files[i], err);
    if (!o->command || rc)
        return rc;
    struct gate_recording r = {.runs = s->runs,
                               .command = o->command,
                               .allow_failure = s->allow_failure,
                               .quiet = s->quiet};
    rc = gate_recording_like(&r, &in->input, err);
    return rc ? rc : gate_record(in, false, &r, err);
}

static void add_warning(void *arg, const char *text)
{
    struct gate_report *r = arg;
    if (r->warning_count < GATE_WARNINGS_MAX)
        snprintf(r->warnings[r->warning_count++], GATE_WARNING_BYTES, "%s", text);
}

static const struct pprof_profile *first_of(const struct gate_input *in, bool base)
{
    for (size_t i = 0; i < in->kind_count; i++) {
        const struct gate_side *side = base ? &in->kinds[i].base : &in->kinds[i].now;
        if (side->count)
            return side->runs[0];
    }
    return NULL;
}

static void add_kind_doubts(struct gate_report *r, const struct gate_kind *k)
{
    char text[200] = "";
    if (!k->base.count || !k->now.count)
        snprintf(text, sizeof text, "only the %s has a %s profile",
                 k->base.count ? "baseline" : "new side", k->name);
    else if (k->base.runs[0]->period != k->now.runs[0]->period)
        snprintf(text, sizeof text,
                 "the %s profiles were sampled at different rates (periods %lld and "
                 "%lld %s)",
                 k->name, (long long)k->base.runs[0]->period, (long long)k->now.runs[0]->period,
                 k->now.runs[0]->period_type.unit);
    if (text[0])
        add_warning(r, text);
}

static void add_doubts(struct gate_report *r, const struct gate_input *in, bool recorded)
{
    struct gate_facts base, now;
    bool timing = false;
    const struct pprof_profile *b = first_of(in, true), *n = first_of(in, false);
    bool has_base = b && gate_facts_from_profile(&base, b);
    bool has_now = n && gate_facts_from_profile(&now, n) && now.cpu[0];
    for (size_t i = 0; i < r->result->count; i++)
        timing |= r->result->findings[i].statistical;
    if (recorded)
        gate_facts_read(&now, "");
    if (has_now || recorded)
        gate_facts_doubts(has_base && base.cpu[0] ? &base : NULL, &now, timing, add_warning, r);
    for (size_t i = 0; i < in->kind_count; i++)
        add_kind_doubts(r, &in->kinds[i]);
}

struct sink {
    const char *format, *file; // file NULL: standard output
};

// "markdown=gate.md" into its halves; --output is for the one without a file. 0 or a usage error.
static int plan_output(const struct settings *s, struct sink *sinks, size_t *count)
{
    static const char *const words[] = {"text", "markdown", "github", "json"};
    static char names[FORMATS_MAX][16];
    size_t without = 0;
    for (size_t i = 0; i < s->formats.count; i++) {
        const char *f = s->formats.items[i];
        size_t n = strcspn(f, "=");
        if (i == FORMATS_MAX)
            return cli_usage("--format: at most %d", FORMATS_MAX);
        snprintf(names[i], sizeof names[i], "%.*s", n < 15 ? (int)n : 15, f);
        sinks[i] = (struct sink){.format = NULL, .file = f[n] && f[n + 1] ? f + n + 1 : NULL};
        for (size_t k = 0; k < CLI_COUNT(words); k++)
            sinks[i].format = strcmp(names[i], words[k]) ? sinks[i].format : words[k];
        const char *near = cli_nearest(names[i], words, CLI_COUNT(words));
        if (!sinks[i].format)
            return cli_usage("--format: \"%.40s\" is not text, markdown, github or json%s%s%s", f,
                             near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
        if (!sinks[i].file) {
            sinks[i].file = s->output;
            without++;
        }
    }
    *count = s->formats.count;
    if (!*count) {
        sinks[(*count)++] = (struct sink){.format = "text", .file = s->output};
        without++;
    }
    if (s->output && without != 1)
        return cli_usage("--output is for one format without a file of its own, and there %s %zu",
                         without == 1 ? "is" : "are", without);
    return 0;
}

static int write_report(const struct gate_report *r, const struct sink *sink)
{
    struct profile_output o;
    int status = profile_output_open(&o, sink->file);
    if (status)
        return status;
    if (!strcmp(sink->format, "json"))
        gate_json_write(o.out, r);
    else if (!strcmp(sink->format, "github"))
        gate_github_write(o.out, r);
    else if (!strcmp(sink->format, "markdown"))
        gate_markdown_write(o.out, r);
    else
        gate_text_write(o.out, r);
    return profile_output_close(&o, true);
}

static int write_svg(struct gate_report *r, const char *file)
{
    struct profile_output o;
    int status = profile_output_open(&o, file);
    if (status)
        return status;
    bool any = gate_svg_write(o.out, r);
    r->svg_file = any ? file : NULL;
    return profile_output_close(&o, any);
}

// Writes all that was asked for. 0, or GATE_CANNOT_TELL where something could not be written.
static int write_all(const struct settings *s, struct gate_report *r, const struct sink *sinks,
                     size_t count)
{
    int status = s->svg ? write_svg(r, s->svg) : 0;
    bool said = false;
    for (size_t i = 0; i < count; i++) {
        int one = write_report(r, &sinks[i]);
        status = status ? status : one;
        said |= !strcmp(sinks[i].format, "text");
    }
    for (size_t i = 0; i < r->warning_count && !said && !s->quiet; i++)
        cli_note("%s", r->warnings[i]);
    if (fflush(stdout))
        status = cli_fail("standard output: %s", strerror(errno));
    return status ? GATE_CANNOT_TELL : 0;
}

static int judge(const struct settings *s, const struct gate_inputs *in, bool recorded,
                 const struct sink *sinks, size_t sink_count)
{
    struct fscope_error err = {0};
    struct gate_rules rules = {0};
    struct gate_result result = {0};
    char *folder = getcwd(NULL, 0);
    struct gate_report report = {.result = &result,
                                 .alpha = in->input.alpha,
                                 .root = s->root  ? s->root
                                         : folder ? folder
                                                  : ""};
    int status = GATE_OK;
    if (load_rules(s, &in->input, &rules, &err) || gate_judge(&result, &in->input, &rules, &err)) {
        status = cannot_tell(&err);
    } else {
        add_doubts(&report, &in->input, recorded);
        status = write_all(s, &report, sinks, sink_count);
        status = status ? status : (int)result.verdict;
    }
    gate_finish(&result);
    gate_rules_finish(&rules);
    free(folder);
    return status;
}

static int run(void *settings, int argc, char **argv)
{
    const struct settings *s = settings;
    struct fscope_error err = {0};
    struct gate_inputs in = {0};
    struct sink sinks[FORMATS_MAX];
    size_t sink_count = 0;
    struct gate_operands o;
    if (gate_operands_read(&o, 0, argc, argv, s->runs, s->ops,
                           "the new side is missing: profiles, a folder of them, or -- COMMAND"))
        return CLI_USAGE;
    if (!(s->confidence >= 50 && s->confidence < 100))
        return cli_usage("--confidence %g: from 50 to below 100 percent", s->confidence);
    if (plan_output(s, sinks, &sink_count))
        return CLI_USAGE;
    in.input.alpha = 1 - s->confidence / 100;
    in.input.ops = s->ops;
    int status = GATE_OK;
    if (load_baseline(s, &in, &err) || load_new(s, &in, &o, &err))
        status = cannot_tell(&err);
    else
        status = judge(s, &in, o.command != NULL, sinks, sink_count);
    gate_inputs_finish(&in);
    return status;
}

const struct cli_command cmd_check = {
    .name = "check",
    .summary = "compare with a baseline and fail on a regression (for CI)",
    .operands = "NEW... | -- COMMAND [ARGUMENT...]",
    .details =
        "Compares profiles, or a recording of COMMAND, with the baseline by rules. Exit status 0:\n"
        "all rules hold; 1: a regression; 2: cannot tell (a file is missing, kinds do not match,\n"
        "too few runs). Without rules, a call path with more than one added allocation fails.",
    .examples = "  fiberscope baseline update -- ./bench\n"
                "  fiberscope check -- ./bench\n"
                "  fiberscope check --baseline base.heap.pb.gz new.heap.pb.gz \\\n"
                "      --rule 'alloc_objects == 0 in func matching ^parse_' \\\n"
                "      --format=markdown=gate.md --format=github",
    .flags = CLI_KEEP_DASHES,
    .options = options,
    .option_count = CLI_COUNT(options),
    .defaults = &defaults,
    .settings_size = sizeof defaults,
    .run = run,
};
