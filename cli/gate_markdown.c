// SPDX-License-Identifier: MIT
//
// The gate's result for a pull request: a table of rules, the regressing paths, and bars of what
// grew. See gate_report.h.
//
// The picture has no blank line and no line that begins with four spaces, so that Markdown leaves
// it alone as one block of HTML.

#include "analysis/units.h"
#include "cli/flame_svg.h"
#include "cli/gate_report.h"

#include <ctype.h>
#include <math.h>
#include <string.h>

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_' || (unsigned char)c >= 0x80;
}

// Text in a table cell: nothing of it may end the cell or become markup. An underscore inside of a
// word is none in GitHub's dialect, and stays readable in the source.
static void cell(FILE *out, const char *s)
{
    for (const char *begin = s; *s; s++) {
        bool inside = *s == '_' && s > begin && is_word(s[-1]) && is_word(s[1]);
        if (strchr("|`*_[]<\\&~", *s) && !inside)
            fprintf(out, "&#%d;", *s);
        else
            fputc((unsigned char)*s < ' ' ? ' ' : *s, out);
    }
}

static void code(FILE *out, const char *s)
{
    fputs("<code>", out);
    cell(out, s);
    fputs("</code>", out);
}

static void write_offender(FILE *out, const struct gate_report *r, const struct gate_finding *f,
                           const struct gate_offender *o)
{
    char label[UNITS_LABEL_MAX + 8], growth[200];
    fputs("| ", out);
    code(out, o->function);
    if (o->was[0]) {
        fputs(" (was ", out);
        code(out, o->was);
        fputc(')', out);
    }
    fputs(o->state == PATHS_NEW ? " (new path)" : "", out);
    fputs(" | ", out);
    cell(out, o->file[0] ? gate_report_file(r, o->file) : "-");
    if (o->line)
        fprintf(out, ":%lld", (long long)o->line);
    fprintf(out, " | %s", gate_label(label, sizeof label, f, o->base));
    fprintf(out, " | %s", gate_label(label, sizeof label, f, o->now));
    fprintf(out, " | **%s** | ", gate_report_growth(growth, sizeof growth, f, o));
    for (uint32_t i = 0; i < o->depth; i++) {
        fputs(i ? " → " : "", out);
        code(out, o->stack[i]);
    }
    fputs(" |\n", out);
}

static void write_paths(FILE *out, const struct gate_report *r, const struct gate_finding *f)
{
    fputs("\n**Rule** ", out);
    code(out, f->rule->text);
    fprintf(out, ": %s of **%s**\n\n", f->growth ? "growth" : "what there is", f->type);
    fputs("| function | where | before | now | growth | call path |\n"
          "|---|---|---:|---:|---:|---|\n",
          out);
    for (size_t i = 0; i < f->offender_count && i < GATE_SHOWN_MAX; i++)
        write_offender(out, r, f, &f->offenders[i]);
    if (f->offender_total > GATE_SHOWN_MAX)
        fprintf(out, "\nand %zu more\n", f->offender_total - GATE_SHOWN_MAX);
}

static void write_picture(FILE *out, const struct gate_report *r)
{
    fputc('\n', out);
    if (r->svg_file) {
        fputs("![What grew](", out);
        for (const char *s = r->svg_file; *s; s++)
            fprintf(out, strchr(" ()<>\n", *s) ? "%%%02X" : "%c", (unsigned char)*s);
        fputs(")\n", out);
    } else {
        gate_svg_write(out, r);
    }
}

void gate_markdown_write(FILE *out, const struct gate_report *r)
{
    static const char *const marks[] = {"✅ ok", "❌ regression", "❔ cannot tell"};
    const struct gate_result *res = r->result;
    bool any = false;
    fprintf(out, "### Fiberscope: %s\n\n| | rule | result |\n|---|---|---|\n", marks[res->verdict]);
    for (size_t i = 0; i < res->count; i++) {
        const struct gate_finding *f = &res->findings[i];
        fprintf(out, "| %s | ", marks[f->verdict]);
        code(out, f->rule->text);
        fputs(" | ", out);
        cell(out, f->text);
        fputs(" |\n", out);
    }
    for (size_t i = 0; i < res->count; i++) {
        if (!res->findings[i].offender_count)
            continue;
        write_paths(out, r, &res->findings[i]);
        any = true;
    }
    if (any)
        write_picture(out, r);
    for (size_t i = 0; i < res->note_count; i++) {
        fputs(i ? "- " : "\nNot counted as growth:\n\n- ", out);
        cell(out, res->notes[i]);
        fputc('\n', out);
    }
    for (size_t i = 0; i < r->warning_count; i++) {
        fputs(i ? "- ⚠️ " : "\nTo be taken with care:\n\n- ⚠️ ", out);
        cell(out, r->warnings[i]);
        fputc('\n', out);
    }
}

enum { WIDTH = 760, ROW = 40, TOP = 44, FOOT = 14, NAME_CHARS = 54, BAR_LEFT = 16, BAR_MAX = 500 };

// At most so many characters, cut in the middle: both ends of a C++ name tell.
static void cut_name(char *out, size_t size, const char *name, size_t chars)
{
    size_t n = strlen(name);
    if (n <= chars)
        snprintf(out, size, "%s", name);
    else
        snprintf(out, size, "%.*s...%s", (int)(chars / 2), name, name + n - (chars / 2 - 3));
}

static const struct gate_finding *first_with_offenders(const struct gate_report *r)
{
    for (size_t i = 0; i < r->result->count; i++) {
        if (r->result->findings[i].offender_count)
            return &r->result->findings[i];
    }
    return NULL;
}

static void write_bar(FILE *out, const struct gate_report *r, const struct gate_finding *f,
                      const struct gate_offender *o, size_t row, double scale)
{
    char name[160], where[160], growth[200];
    int y = TOP + (int)row * ROW;
    double base = o->base > 0 ? o->base * scale : 0;
    double grown = (o->now > o->base ? o->now - o->base : 0) * scale;
    const char *file = gate_report_file(r, o->file), *slash = strrchr(file, '/');
    cut_name(name, sizeof name, o->function, NAME_CHARS);
    cut_name(where, sizeof where, slash ? slash + 1 : file, 26);
    fprintf(out, "<text x=\"%d\" y=\"%d\" class=\"n\">", BAR_LEFT, y + 12);
    flame_svg_escape(out, name);
    fputs("<tspan class=\"f\"> ", out);
    flame_svg_escape(out, where);
    if (o->line)
        fprintf(out, ":%lld", (long long)o->line);
    fputs("</tspan></text>\n", out);
    if (base >= 1)
        fprintf(out, "<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"14\" class=\"b\"/>\n",
                BAR_LEFT, y + 18, base);
    fprintf(out, "<rect x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"14\" class=\"g\"/>\n",
            BAR_LEFT + base, y + 18, grown > 1 ? grown : 1);
    fprintf(out, "<text x=\"%.1f\" y=\"%d\" class=\"v\">",
            BAR_LEFT + base + (grown > 1 ? grown : 1) + 8, y + 29);
    flame_svg_escape(out, gate_report_growth(growth, sizeof growth, f, o));
    fputs("</text>\n", out);
}

bool gate_svg_write(FILE *out, const struct gate_report *r)
{
    const struct gate_finding *f = first_with_offenders(r);
    if (!f)
        return false;
    size_t rows = f->offender_count < GATE_SHOWN_MAX ? f->offender_count : GATE_SHOWN_MAX;
    double largest = 0;
    for (size_t i = 0; i < rows; i++)
        largest = fmax(largest, fmax(f->offenders[i].now, f->offenders[i].base));
    int height = TOP + (int)rows * ROW + FOOT;
    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d "
            "%d\" role=\"img\" aria-label=\"What grew\">\n",
            WIDTH, height, WIDTH, height);
    fputs("<style>text{font:13px ui-monospace,SFMono-Regular,Menlo,DejaVu Sans Mono,monospace;"
          "fill:#1f2328}.t{font-weight:600}.f{fill:#59636e}.v{font-weight:600;fill:#b3261e}"
          ".b{fill:#b6bfc9}.g{fill:#d1382f}.p{fill:#fff;stroke:#d1d9e0}"
          "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.f{fill:#9198a1}.v{fill:#ff8a80}"
          ".b{fill:#5a636d}.g{fill:#e5534b}.p{fill:#0d1117;stroke:#3d444d}}</style>\n",
          out);
    fprintf(out, "<rect x=\"0.5\" y=\"0.5\" width=\"%d\" height=\"%d\" rx=\"6\" class=\"p\"/>\n",
            WIDTH - 1, height - 1);
    fprintf(out, "<text x=\"%d\" y=\"26\" class=\"t\">", BAR_LEFT);
    flame_svg_escape(out, f->type);
    fputs("<tspan class=\"f\"> by call path: baseline, and what was added</tspan></text>\n", out);
    for (size_t i = 0; i < rows; i++)
        write_bar(out, r, f, &f->offenders[i], i, largest > 0 ? BAR_MAX / largest : 0);
    fputs("</svg>\n", out);
    return true;
}
