// SPDX-License-Identifier: MIT
//
// The page of a profile: flame graph, functions, call tree, source. See report_page.h.

#include "analysis/units.h"
#include "base/file.h"
#include "cli/flame_svg.h"
#include "cli/report_page.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

enum { ROWS_MAX = 2000, SUBTITLE_MAX = 1024 };

static void subtitle(char *buf, size_t size, const struct report *r)
{
    char total[UNITS_LABEL_MAX], duration[UNITS_LABEL_MAX] = "", date[64] = "";
    const struct pprof_profile *p = r->profile;
    time_t t = (time_t)(p->time_nanos / 1000000000);
    struct tm tm;
    if (p->duration_nanos)
        units_label(duration, sizeof duration, p->duration_nanos, "nanoseconds", "auto");
    if (p->time_nanos && localtime_r(&t, &tm))
        strftime(date, sizeof date, "%Y-%m-%d %H:%M", &tm);
    snprintf(buf, size, "%.200s: %s in %zu different stack%s%s%.40s%s%s", r->type,
             report_label(r, total, sizeof total, r->total), p->sample_count,
             cli_s(p->sample_count), *duration ? ", recorded for " : "", duration,
             *date ? ", " : "", date);
}

static void write_share(FILE *out, const struct report *r, int64_t value)
{
    char label[UNITS_LABEL_MAX], percent[32];
    double share = r->total ? 100.0 * (double)value / (double)r->total : 0;
    double bar = share < 0 ? 0 : share > 100 ? 100 : share;
    fprintf(out, "<td class=\"v\" data-v=\"%" PRId64 "\">", value);
    flame_svg_escape(out,
                     report_label(r, label, sizeof label, value)); // ends in the profile's unit
    fprintf(out,
            "</td><td class=\"p\" data-v=\"%" PRId64
            "\"><i style=\"width:%.2f%%\"></i><span>%s</span></td>",
            value, bar, units_percent(percent, sizeof percent, value, r->total));
}

static void write_top(FILE *out, const struct report *r)
{
    size_t shown = r->node_count < ROWS_MAX ? r->node_count : ROWS_MAX;
    fputs("<p class=\"tools\"><input data-filter=\"r-functions\" placeholder=\"filter by name\" "
          "aria-label=\"filter by name\"> <span class=\"dim\">flat: in the function itself; cum: "
          "with what it calls</span></p>\n<table id=\"r-functions\" class=\"sortable\"><thead><tr>"
          "<th class=\"down\" colspan=\"2\" data-col=\"0\">flat</th>"
          "<th colspan=\"2\" data-col=\"2\">cum</th>"
          "<th class=\"n\" data-col=\"4\">function</th></tr></thead><tbody>\n",
          out);
    for (size_t i = 0; i < shown; i++) {
        const struct report_node *n = r->nodes[i];
        const char *mark = report_inline_mark(n);
        fputs("<tr>", out);
        write_share(out, r, report_flat(n));
        write_share(out, r, report_cum(n));
        fputs("<td class=\"n\">", out);
        flame_svg_escape(out, n->label);
        fprintf(out, "%s%s%s</td></tr>\n", *mark ? " <em>" : "", mark, *mark ? "</em>" : "");
    }
    fputs("</tbody></table>\n", out);
    if (r->node_count > shown)
        fprintf(out, "<p class=\"dim\">%zu lighter functions are left out.</p>\n",
                r->node_count - shown);
}

static int write_flame(FILE *out, const struct report *r, const struct report_args *a,
                       struct fscope_error *err)
{
    struct stacks s = {0};
    uint32_t hidden = 0;
    int rc = stacks_build(&s, r, STACKS_POSITIVE, false, err);
    const struct flame_options fo = {.title = r->type, // the page has the program's name

                                     .subtitle = "",
                                     .width = 1200,
                                     .factor = 1 / a->profile.report.divide_by,
                                     .is_embedded = true};
    if (!rc && s.nodes[0].total <= 0)
        fputs("<p class=\"dim\">No samples with a positive value are left: nothing to "
              "draw.</p>\n",
              out);
    else if (!rc && flame_svg_write(out, &s, r, &fo, &hidden))
        rc = error_set(err, -ENOMEM, 0, "out of memory");
    if (hidden)
        fprintf(out,
                "<p class=\"dim\">%" PRIu32 " narrow frames are left out; boxes named "
                "\xe2\x80\xa6 have their sums.</p>\n",
                hidden);
    stacks_finish(&s);
    return rc;
}

static int write_page(FILE *out, struct report *r, const struct report_args *a,
                      struct pprof_profile *whole, const char *first, struct fscope_error *err)
{
    char under[SUBTITLE_MAX];
    const struct pprof_profile *p = r->profile;
    const char *title = a->title ? a->title
                        : p->mapping_count && p->mappings[0]->file[0]
                            ? file_base_name(p->mappings[0]->file)
                            : file_base_name(first);
    subtitle(under, sizeof under, r);
    report_page_open(out, title, under);
    report_page_tab(out, "flame", "Flame graph", true);
    report_page_tab(out, "top", "Top", false);
    report_page_tab(out, "tree", "Call tree", false);
    report_page_tab(out, "source", "Source", false);
    report_page_section(out, "flame", true);
    int rc = write_flame(out, r, a, err);
    report_page_section_end(out);
    if (!rc)
        rc = report_graph(r, err);
    if (rc)
        return rc;
    report_page_section(out, "top", false);
    write_top(out, r);
    report_page_section_end(out);
    report_page_section(out, "tree", false);
    fputs("<p class=\"dim\">A click opens a call; Alt and a click what is heaviest below "
          "it.</p>"
          "<div class=\"calls dim\"><div class=\"row\"><span class=\"v\">total</span>"
          "<span class=\"q\"></span><span class=\"v\">self</span></div></div>"
          "<div id=\"r-calls\" role=\"tree\"><noscript>The call tree needs "
          "scripts.</noscript></div>\n",
          out);
    report_page_section_end(out);
    report_page_section(out, "source", false);
    rc = report_source(out, a, whole, err);
    report_page_section_end(out);
    report_page_close(out);
    return rc;
}

int report_profile(struct report_args *a, int argc, char **argv)
{
    struct pprof_profile *p = NULL, *whole = NULL;
    struct profile_output o;
    struct report r = {0};
    struct fscope_error err = {0};
    int status = profile_load(&p, &a->profile, argc, argv);
    if (status)
        return status;
    int rc = pprof_merge(&whole, &p, 1, &err); // a report takes its profile apart
    if (!rc && !(status = profile_report(&r, p, &a->profile))) {
        if (!(status = profile_output_open(&o, a->profile.output))) {
            rc = write_page(o.out, &r, a, whole, argc ? argv[0] : "profile", &err);
            status = profile_output_close(&o, !rc);
        }
        report_finish(&r);
    }
    if (rc)
        status = cli_fail("%s", err.text);
    pprof_free(whole);
    pprof_free(p);
    return status;
}
