// SPDX-License-Identifier: MIT
//
// fiberscope raw: everything that is in a profile, in the layout of `go tool pprof -raw`.

#include "cli/profile_args.h"
#include "cli/terminal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void print_name(FILE *out, const char *name)
{
    static const struct terminal none;
    terminal_print(out, &none, name, 0);
}

static int by_key(const void *x, const void *y)
{
    const struct pprof_label *a = *(const struct pprof_label *const *)x;
    const struct pprof_label *b = *(const struct pprof_label *const *)y;
    int d = strcmp(a->key, b->key);
    return d ? d : (a > b) - (a < b); // values of one key keep their order
}

// The labels of one sort (text or numbers) on one line: key:[value value].
static void print_labels(FILE *out, const struct pprof_sample *s, bool numeric)
{
    const struct pprof_label **found = calloc(s->label_count + 1, sizeof(struct pprof_label *));
    size_t n = 0;
    for (uint32_t i = 0; found && i < s->label_count; i++) {
        if ((s->labels[i].str[0] == 0) == numeric)
            found[n++] = &s->labels[i];
    }
    if (n) {
        qsort(found, n, sizeof(struct pprof_label *), by_key);
        fprintf(out, "                ");
    }
    for (size_t i = 0; i < n; i++) {
        bool first = !i || strcmp(found[i - 1]->key, found[i]->key) != 0;
        bool last = i + 1 == n || strcmp(found[i + 1]->key, found[i]->key) != 0;
        if (first)
            fputs(i ? " " : "", out);
        else
            fputc(' ', out);
        if (first) {
            print_name(out, found[i]->key);
            fputs(":[", out);
        }
        if (!numeric)
            print_name(out, found[i]->str);
        else if (found[i]->num_unit[0])
            fprintf(out, "%" PRId64 " %s", found[i]->num, found[i]->num_unit);
        else
            fprintf(out, "%" PRId64, found[i]->num);
        if (last)
            fputc(']', out);
    }
    if (n)
        fputc('\n', out);
    free(found);
}

static void print_samples(FILE *out, const struct pprof_profile *p)
{
    fprintf(out, "Samples:\n");
    for (size_t i = 0; i < p->sample_type_count; i++) {
        const struct pprof_value_type *t = &p->sample_types[i];
        bool is_default = p->default_sample_type && !strcmp(p->default_sample_type, t->type);
        fprintf(out, "%s%s/%s%s", i ? " " : "", t->type, t->unit, is_default ? "[dflt]" : "");
    }
    fputc('\n', out);
    for (size_t i = 0; i < p->sample_count; i++) {
        const struct pprof_sample *s = p->samples[i];
        for (size_t j = 0; j < p->sample_type_count; j++)
            fprintf(out, " %10" PRId64, s->values[j]);
        fprintf(out, ": ");
        for (uint32_t j = 0; j < s->location_count; j++)
            fprintf(out, "%" PRIu64 " ", s->locations[j]->id);
        fputc('\n', out);
        print_labels(out, s, false);
        print_labels(out, s, true);
    }
}

static void print_location(FILE *out, const struct pprof_location *l)
{
    fprintf(out, "%6" PRIu64 ": 0x%" PRIx64 " ", l->id, l->address);
    if (l->mapping)
        fprintf(out, "M=%" PRIu64 " ", l->mapping->id);
    if (l->is_folded)
        fprintf(out, "[F] ");
    for (uint32_t i = 0; i < l->line_count; i++) {
        const struct pprof_function *f = l->lines[i].function;
        fputs(i ? "\n             " : "", out);
        print_name(out, f->name);
        fputc(' ', out);
        print_name(out, f->filename);
        fprintf(out, ":%" PRId64 ":%" PRId64 " s=%" PRId64, l->lines[i].line, l->lines[i].column,
                f->start_line);
        if (strcmp(f->name, f->system_name) != 0) {
            fputc('(', out);
            print_name(out, f->system_name);
            fputc(')', out);
        }
    }
    fputc('\n', out);
}

static void print_time(FILE *out, int64_t nanos)
{
    char date[64], zone[32];
    time_t t = (time_t)(nanos / 1000000000);
    int64_t rest = nanos % 1000000000;
    struct tm tm;
    if (!localtime_r(&t, &tm) || !strftime(date, sizeof date, "%Y-%m-%d %H:%M:%S", &tm) ||
        !strftime(zone, sizeof zone, "%z %Z", &tm))
        return;
    char fraction[16] = "";
    if (rest > 0) {
        snprintf(fraction, sizeof fraction, ".%09" PRId64, rest);
        for (size_t n = strlen(fraction); fraction[n - 1] == '0'; n--)
            fraction[n - 1] = 0;
    }
    fprintf(out, "Time: %s%s %s\n", date, fraction, zone);
}

// Go prints the duration with %.4v: the first four characters of its text. We print the text.
static void print_duration(FILE *out, int64_t nanos)
{
    static const struct {
        const char *name;
        double ns;
    } units[] = {{"s", 1e9}, {"ms", 1e6}, {"us", 1e3}, {"ns", 1}};
    size_t i = 0;
    while (i < 3 && (double)llabs(nanos) < units[i].ns)
        i++;
    fprintf(out, "Duration: %.9g%s\n", (double)nanos / units[i].ns, units[i].name);
}

static void print_raw(FILE *out, const struct pprof_profile *p)
{
    for (size_t i = 0; i < p->comment_count; i++)
        fprintf(out, "Comment: %s\n", p->comments[i]);
    if (p->doc_url && p->doc_url[0])
        fprintf(out, "Doc: %s\n", p->doc_url);
    if (p->period_type.type && (p->period_type.type[0] || p->period_type.unit[0]))
        fprintf(out, "PeriodType: %s %s\n", p->period_type.type, p->period_type.unit);
    fprintf(out, "Period: %" PRId64 "\n", p->period);
    if (p->time_nanos)
        print_time(out, p->time_nanos);
    if (p->duration_nanos)
        print_duration(out, p->duration_nanos);
    print_samples(out, p);
    fprintf(out, "Locations\n");
    for (size_t i = 0; i < p->location_count; i++)
        print_location(out, p->locations[i]);
    fprintf(out, "Mappings\n");
    for (size_t i = 0; i < p->mapping_count; i++) {
        const struct pprof_mapping *m = p->mappings[i];
        fprintf(out, "%" PRIu64 ": 0x%" PRIx64 "/0x%" PRIx64 "/0x%" PRIx64 " %s %s %s%s%s%s\n",
                m->id, m->start, m->limit, m->offset, m->file, m->build_id,
                m->has_functions ? "[FN]" : "", m->has_filenames ? "[FL]" : "",
                m->has_line_numbers ? "[LN]" : "", m->has_inline_frames ? "[IN]" : "");
    }
}

static int run(void *settings, int argc, char **argv)
{
    struct profile_args *a = settings;
    struct pprof_profile *p;
    struct profile_output o;
    struct report r;
    a->report.granularity = "raw"; // nothing is thrown together
    int status = profile_prepare(&r, &p, a, argc, argv);
    if (status)
        return status;
    if (!(status = profile_output_open(&o, a->output))) {
        print_raw(o.out, p);
        status = profile_output_close(&o, true);
    }
    report_finish(&r);
    pprof_free(p);
    return status;
}

static const struct profile_args defaults = PROFILE_DEFAULTS;
static const struct cli_option options[] = {PROFILE_FILTER_OPTIONS, PROFILE_DIFF_OPTIONS,
                                            PROFILE_INPUT_OPTIONS};

const struct cli_command cmd_raw = {
    .name = "raw",
    .summary = "print everything that is in a profile as text",
    .operands = "[FILE...]",
    .options = options,
    .option_count = CLI_COUNT(options),
    .defaults = &defaults,
    .settings_size = sizeof defaults,
    .run = run,
};
