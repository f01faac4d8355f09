// SPDX-License-Identifier: MIT
//
// The lines above a table: what the profile is, which filters hold, how much is shown. Worded as
// google/pprof words them, so that the two can be compared.

#include "analysis/units.h"
#include "base/file.h"
#include "cli/profile_args.h"
#include "cli/terminal.h"

#include <string.h>
#include <time.h>

static void print_duration(FILE *out, const struct report *r)
{
    char duration[UNITS_LABEL_MAX], total[UNITS_LABEL_MAX], percent[32] = "";
    const char *unit;
    double ns = units_scale(r->total, r->from_unit, "nanoseconds", &unit);
    if (!strcmp(unit, "ns") && ns != 0) {
        percent[0] = '(';
        units_percent(percent + 1, sizeof percent - 2, (int64_t)ns, r->profile->duration_nanos);
        strcat(percent, ")");
    }
    units_label(duration, sizeof duration, r->profile->duration_nanos, "nanoseconds", "auto");
    fprintf(out, "Duration: %s, Total samples = %s %s\n", duration,
            report_label(r, total, sizeof total, r->total), percent);
}

static void print_line(FILE *out, const char *word, const char *text)
{
    struct terminal t = terminal_of(out);
    fputs(word, out);
    terminal_print(out, &t, text, 0);
    fputc('\n', out);
}

void profile_print_head(FILE *out, const struct report *r)
{
    const struct pprof_profile *p = r->profile;
    if (p->mapping_count) {
        if (p->mappings[0]->file[0])
            print_line(out, "File: ", file_base_name(p->mappings[0]->file));
        if (p->mappings[0]->build_id[0])
            print_line(out, "Build ID: ", p->mappings[0]->build_id);
    }
    for (size_t i = 0; i < p->comment_count; i++) {
        if (p->comments[i][0] != '#')
            print_line(out, "", p->comments[i]);
    }
    if (r->type[0])
        print_line(out, "Type: ", r->type);
    if (p->doc_url && p->doc_url[0])
        print_line(out, "Doc: ", p->doc_url);
    if (p->time_nanos) {
        char text[64];
        time_t t = (time_t)(p->time_nanos / 1000000000);
        struct tm tm;
        if (localtime_r(&t, &tm) && strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S %Z", &tm))
            fprintf(out, "Time: %s\n", text);
    }
    if (p->duration_nanos)
        print_duration(out, r);
}

static void print_filters(FILE *out, const struct report_options *o)
{
    const struct {
        const char *name, *value;
    } all[] = {
        {"focus", o->focus},         {"ignore", o->ignore},       {"hide", o->hide},
        {"show", o->show},           {"show_from", o->show_from}, {"tagfocus", o->tagfocus},
        {"tagignore", o->tagignore}, {"tagshow", o->tagshow},     {"taghide", o->taghide},
    };
    bool first = true;
    for (size_t i = 0; i < CLI_COUNT(all); i++) {
        if (!all[i].value || !all[i].value[0])
            continue;
        if (first)
            fprintf(out, "Active filters:\n");
        first = false;
        fprintf(out, "   %s=%s\n", all[i].name, all[i].value);
    }
}

static int64_t shown_total(const struct report *r)
{
    int64_t sum = 0;
    for (size_t i = 0; i < r->node_count; i++)
        sum = (int64_t)((uint64_t)sum + (uint64_t)report_flat(r->nodes[i]));
    return sum;
}

void profile_print_labels(FILE *out, const struct report *r)
{
    char shown[UNITS_LABEL_MAX], total[UNITS_LABEL_MAX], percent[32];
    profile_print_head(out, r);
    print_filters(out, &r->options);
    int64_t sum = shown_total(r);
    const char *share = units_percent(percent, sizeof percent, sum, r->total);
    while (*share == ' ')
        share++;
    fprintf(out, "Showing nodes accounting for %s, %s of %s total\n",
            report_label(r, shown, sizeof shown, sum), share,
            report_label(r, total, sizeof total, r->total));
    if (!r->total)
        return;
    if (r->dropped_nodes) {
        int64_t cut = (int64_t)((double)r->total * r->options.nodefraction);
        fprintf(out, "Dropped %zu node%s (cum <= %s)\n", r->dropped_nodes,
                r->dropped_nodes > 1 ? "s" : "",
                report_label(r, shown, sizeof shown, cut < 0 ? -cut : cut));
    }
    if (r->node_count && r->node_count < r->original_count)
        fprintf(out, "Showing top %zu nodes out of %zu\n", r->node_count, r->original_count);
}

void profile_json_head(struct json *j, const struct report *r)
{
    const struct pprof_profile *p = r->profile;
    json_string(j, "file", p->mapping_count ? p->mappings[0]->file : "");
    json_string(j, "build_id", p->mapping_count ? p->mappings[0]->build_id : "");
    json_string(j, "type", r->type);
    json_string(j, "unit", r->from_unit);
    json_int(j, "total", r->total);
    json_int(j, "shown", shown_total(r));
    json_int(j, "samples", (int64_t)p->sample_count);
    json_int(j, "time_nanos", p->time_nanos);
    json_int(j, "duration_nanos", p->duration_nanos);
    json_string(j, "period_type", p->period_type.type ? p->period_type.type : "");
    json_int(j, "period", p->period);
    json_int(j, "dropped_nodes", (int64_t)r->dropped_nodes);
    json_int(j, "nodes_before_nodecount", (int64_t)r->original_count);
    json_open(j, "comments", '[');
    for (size_t i = 0; i < p->comment_count; i++)
        json_string(j, NULL, p->comments[i]);
    json_close(j, ']');
}
