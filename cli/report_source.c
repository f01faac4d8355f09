// SPDX-License-Identifier: MIT
//
// The source of a report's page: by file, the lines that cost something with those around them. See report_page.h.

#include "analysis/units.h"
#include "base/source_file.h"
#include "cli/flame_svg.h"
#include "cli/report_page.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { FILES_MAX = 24, AROUND = 4, LINES_MAX = 1500 };

struct hot_file {
    const char *path;
    struct report_node **lines; // by number
    size_t count;
    int64_t flat;
};

static int by_place(const void *x, const void *y)
{
    const struct report_node *a = *(struct report_node *const *)x,
                             *b = *(struct report_node *const *)y;
    int order = strcmp(a->file, b->file);
    return order ? order : (a->line > b->line) - (a->line < b->line);
}

static int by_flat(const void *x, const void *y)
{
    const struct hot_file *a = x, *b = y;
    if (a->flat != b->flat)
        return a->flat < b->flat ? 1 : -1;
    return strcmp(a->path, b->path);
}

// Sorts the report's nodes by file and line; hot has room for as many. Returns how many files there are.
static size_t group(struct report *r, struct hot_file *hot)
{
    size_t n = 0;
    qsort(r->nodes, r->node_count, sizeof(struct report_node *), by_place);
    for (size_t i = 0; i < r->node_count; i++) {
        const struct report_node *node = r->nodes[i];
        if (!node->file[0] || node->line <= 0)
            continue;
        if (!n || strcmp(hot[n - 1].path, node->file) != 0)
            hot[n++] = (struct hot_file){.path = node->file, .lines = &r->nodes[i]};
        hot[n - 1].count++;
        hot[n - 1].flat += report_flat(node);
    }
    qsort(hot, n, sizeof *hot, by_flat);
    return n;
}

static void write_cost(FILE *out, const struct report *r, int64_t value)
{
    char label[UNITS_LABEL_MAX];
    fputs("<td class=\"v\">", out);
    if (value) // the label ends in the profile's unit
        flame_svg_escape(out, report_label(r, label, sizeof label, value));
    fputs("</td>", out);
}

// All nodes of one line: several functions have a line where it was inlined.
static void write_line(FILE *out, const struct report *r, int64_t line, int64_t flat, int64_t cum,
                       const char *text)
{
    double share = r->total ? 100.0 * (double)flat / (double)r->total : 0;
    fprintf(out, "<tr%s>", share >= 1 ? " class=\"hot\"" : flat || cum ? " class=\"warm\"" : "");
    write_cost(out, r, flat);
    write_cost(out, r, cum);
    fprintf(out, "<td class=\"l\">%" PRId64 "</td><td class=\"s\">", line);
    flame_svg_escape(out, text);
    fputs("</td></tr>\n", out);
}

static void write_lines(FILE *out, const struct report *r, const struct hot_file *f, char **text,
                        uint32_t text_count)
{
    int64_t done = 0, written = 0;
    for (size_t i = 0; i < f->count && written < LINES_MAX;) {
        int64_t line = f->lines[i]->line, flat = 0, cum = 0;
        int64_t first = line - AROUND > done ? line - AROUND : done + 1;
        size_t next = i;
        for (; next < f->count && f->lines[next]->line == line; next++) {
            flat += report_flat(f->lines[next]);
            cum += report_cum(f->lines[next]);
        }
        if (done && first > done + 1)
            fputs("<tr class=\"gap\"><td colspan=\"4\"></td></tr>\n", out);
        for (int64_t at = first; at < line && at <= text_count; at++)
            write_line(out, r, at, 0, 0, text[at - 1]);
        write_line(out, r, line, flat, cum, line <= text_count ? text[line - 1] : "");
        int64_t until = next < f->count && f->lines[next]->line <= line + AROUND
                            ? f->lines[next]->line - 1
                            : line + AROUND;
        for (int64_t at = line + 1; at <= until && at <= text_count; at++)
            write_line(out, r, at, 0, 0, text[at - 1]);
        written += until - first + 1;
        done = until;
        i = next;
    }
    if (written >= LINES_MAX)
        fputs("<tr class=\"gap\"><td colspan=\"4\">more lines are left out</td></tr>\n", out);
}

static int write_file(FILE *out, const struct report *r, const struct report_args *a,
                      const struct hot_file *f, bool is_open)
{
    char label[UNITS_LABEL_MAX], percent[32], missing[600], **text = NULL, *content = NULL;
    uint32_t count = 0;
    int rc = source_read(f->path, a->source_path ? a->source_path : ".", &content, &text, &count,
                         missing, sizeof missing);
    if (rc == -ENOMEM)
        return rc;
    fprintf(out, "<details%s><summary><b>", is_open ? " open" : "");
    flame_svg_escape(out, report_label(r, label, sizeof label, f->flat));
    fprintf(out, "</b> <span class=\"dim\">%s</span> ",
            units_percent(percent, sizeof percent, f->flat, r->total));
    flame_svg_escape(out, f->path);
    fputs("</summary>", out);
    if (rc) {
        fputs("<p class=\"dim\">", out);
        flame_svg_escape(out, missing);
        fputs("</p>", out);
    }
    fputs("<table class=\"code\"><thead><tr><th>flat</th><th>cum</th><th>line</th><th "
          "class=\"s\"></th></tr></thead><tbody>\n",
          out);
    write_lines(out, r, f, text, count);
    fputs("</tbody></table></details>\n", out);
    free(content);
    free(text);
    return 0;
}

int report_source(FILE *out, const struct report_args *a, struct pprof_profile *p,
                  struct fscope_error *err)
{
    struct report r = {0};
    struct report_options o = a->profile.report;
    o.granularity = "lines";
    o.nodecount = 0;
    o.nodefraction = o.edgefraction = 0;
    o.warn = NULL; // said once
    int rc = report_prepare(&r, p, &o, err);
    if (!rc)
        rc = report_graph(&r, err);
    struct hot_file *hot = rc ? NULL : calloc(r.node_count + 1, sizeof *hot);
    if (!rc && !hot)
        rc = error_set(err, -ENOMEM, 0, "out of memory");
    size_t n = hot ? group(&r, hot) : 0;
    if (!rc && !n)
        fputs("<p class=\"dim\">The profile names no source files: its program has no debug "
              "information.</p>\n",
              out);
    for (size_t i = 0; !rc && i < n && i < FILES_MAX && (hot[i].flat > 0 || !i); i++)
        if (write_file(out, &r, a, &hot[i], i < 2))
            rc = error_set(err, -ENOMEM, 0, "out of memory");
    if (n > FILES_MAX)
        fprintf(out, "<p class=\"dim\">%zu files that cost less are left out.</p>\n",
                n - FILES_MAX);
    free(hot);
    report_finish(&r);
    return rc;
}
