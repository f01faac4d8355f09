// SPDX-License-Identifier: MIT
//
// The gate's result as text, GitHub annotations and JSON. See gate_report.h.

#include "analysis/units.h"
#include "cli/gate_report.h"
#include "cli/json.h"
#include "cli/terminal.h"

#include <math.h>
#include <string.h>

const char *gate_report_file(const struct gate_report *r, const char *file)
{
    size_t n = strlen(r->root);
    if (n && !strncmp(file, r->root, n) && file[n] == '/')
        return file + n + 1;
    return file;
}

static const char *per_op_unit(const struct gate_finding *f)
{
    if (!strcmp(f->unit, "bytes"))
        return "B/op";
    if (!strcmp(f->unit, "nanoseconds"))
        return "ns/op";
    return strstr(f->type, "alloc") ? "alloc/op" : "/op";
}

const char *gate_report_growth(char *buf, size_t size, const struct gate_finding *f,
                               const struct gate_offender *o)
{
    char label[UNITS_LABEL_MAX + 8];
    double change = o->now - o->base;
    if (f->rule->per_op)
        snprintf(buf, size, "%+.4g %s", change, per_op_unit(f));
    else if (isnan(o->per_op))
        snprintf(buf, size, "%s%.60s", change >= 0 ? "+" : "",
                 gate_label(label, sizeof label, f, change));
    else
        snprintf(buf, size, "%s%.60s (%+.4g %s)", change >= 0 ? "+" : "",
                 gate_label(label, sizeof label, f, change), o->per_op, per_op_unit(f));
    return buf;
}

static void print_offender(FILE *out, const struct terminal *t, const struct gate_report *r,
                           const struct gate_finding *f, const struct gate_offender *o)
{
    char a[UNITS_LABEL_MAX + 8], b[UNITS_LABEL_MAX + 8], growth[200];
    fputs("    ", out);
    terminal_print(out, t, o->function, 0);
    if (o->file[0]) {
        fputs(" at ", out);
        terminal_print(out, t, gate_report_file(r, o->file), 0);
        if (o->line)
            fprintf(out, ":%lld", (long long)o->line);
    }
    fprintf(out, ": %s -> %s, %s\n", gate_label(a, sizeof a, f, o->base),
            gate_label(b, sizeof b, f, o->now), gate_report_growth(growth, sizeof growth, f, o));
    fputs("        ", out);
    for (uint32_t i = 0; i < o->depth; i++) {
        fputs(i ? " > " : "", out);
        terminal_print(out, t, o->stack[i], 0);
    }
    fputs(o->was[0] ? " (was " : "", out);
    terminal_print(out, t, o->was, 0);
    fputs(o->was[0] ? ")\n" : "\n", out);
}

void gate_text_write(FILE *out, const struct gate_report *r)
{
    struct terminal t = terminal_of(out);
    for (size_t i = 0; i < r->result->count; i++) {
        const struct gate_finding *f = &r->result->findings[i];
        bool bad = f->verdict == GATE_REGRESSION;
        const char *colour = !t.colour    ? ""
                             : bad        ? "\033[31m"
                             : f->verdict ? "\033[33m"
                                          : "\033[32m";
        fprintf(out, "%s%s%s  ", colour, gate_verdict_name(f->verdict), t.colour ? "\033[0m" : "");
        terminal_print(out, &t, f->rule->text, 0);
        fprintf(out, "\n    %s\n", f->text);
        for (size_t k = 0; k < f->offender_count && k < GATE_SHOWN_MAX; k++)
            print_offender(out, &t, r, f, &f->offenders[k]);
        if (f->offender_total > GATE_SHOWN_MAX)
            fprintf(out, "    and %zu more\n", f->offender_total - GATE_SHOWN_MAX);
    }
    for (size_t i = 0; i < r->result->note_count; i++) {
        fputs("note  ", out);
        terminal_print(out, &t, r->result->notes[i], 0);
        fputc('\n', out);
    }
    for (size_t i = 0; i < r->warning_count; i++)
        fprintf(out, "warning  %s\n", r->warnings[i]);
    fprintf(out, "%s\n", gate_verdict_name(r->result->verdict));
}

// GitHub's own escapes: a message ends at a newline, a property also at a colon or comma.
static void write_escaped(FILE *out, const char *s, bool property)
{
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '%' || c == '\r' || c == '\n' || (property && (c == ':' || c == ',')))
            fprintf(out, "%%%02X", c);
        else
            fputc(c, out);
    }
}

static void annotate(FILE *out, const struct gate_report *r, const struct gate_finding *f,
                     const struct gate_offender *o)
{
    char growth[200];
    fputs("::error ", out);
    if (o->file[0]) {
        fputs("file=", out);
        write_escaped(out, gate_report_file(r, o->file), true);
        if (o->line)
            fprintf(out, ",line=%lld", (long long)o->line);
        fputc(',', out);
    }
    fputs("title=", out);
    write_escaped(out, f->type, true);
    fputs(" regression::", out);
    write_escaped(out, o->function, false);
    fprintf(out, "%%3A %s ", f->type);
    write_escaped(out, gate_report_growth(growth, sizeof growth, f, o), false);
    fputs(" (rule%3A ", out);
    write_escaped(out, f->rule->text, false);
    fputs(")%0A", out);
    for (uint32_t i = 0; i < o->depth; i++) {
        fputs(i ? " > " : "", out);
        write_escaped(out, o->stack[i], false);
    }
    fputc('\n', out);
}

void gate_github_write(FILE *out, const struct gate_report *r)
{
    for (size_t i = 0; i < r->result->count; i++) {
        const struct gate_finding *f = &r->result->findings[i];
        for (size_t k = 0; k < f->offender_count && k < GATE_SHOWN_MAX; k++)
            annotate(out, r, f, &f->offenders[k]);
        if (f->verdict == GATE_OK || f->offender_count)
            continue;
        fprintf(out, "::error title=Fiberscope%%3A %s::", gate_verdict_name(f->verdict));
        write_escaped(out, f->rule->text, false);
        fputs("%3A ", out);
        write_escaped(out, f->text, false);
        fputc('\n', out);
    }
    for (size_t i = 0; i < r->warning_count; i++) {
        fputs("::warning title=Fiberscope::", out);
        write_escaped(out, r->warnings[i], false);
        fputc('\n', out);
    }
}

static void json_offender(struct json *j, const struct gate_report *r,
                          const struct gate_offender *o)
{
    static const char *const states[] = {"same", "new", "gone", "renamed", "moved"};
    json_open(j, NULL, '{');
    json_string(j, "function", o->function);
    json_string(j, "file", gate_report_file(r, o->file));
    json_int(j, "line", o->line);
    json_string(j, "state", states[o->state]);
    if (o->was[0])
        json_string(j, "was", o->was);
    json_real(j, "base", o->base);
    json_real(j, "now", o->now);
    if (!isnan(o->per_op))
        json_real(j, "per_op", o->per_op);
    json_open(j, "stack", '[');
    for (uint32_t i = 0; i < o->depth; i++)
        json_string(j, NULL, o->stack[i]);
    json_close(j, ']');
    json_close(j, '}');
}

static void json_finding(struct json *j, const struct gate_report *r, const struct gate_finding *f)
{
    json_open(j, NULL, '{');
    json_string(j, "rule", f->rule->text);
    json_string(j, "source", f->rule->source);
    json_int(j, "line", f->rule->line);
    json_string(j, "verdict", gate_verdict_name(f->verdict));
    json_string(j, "text", f->text);
    json_string(j, "kind", f->kind);
    json_string(j, "type", f->type);
    json_string(j, "unit", f->rule->share ? "percent" : f->unit);
    json_bool(j, "per_op", f->rule->per_op);
    json_real(j, "base", f->base);
    json_real(j, "now", f->now);
    json_int(j, "base_runs", (int64_t)f->base_runs);
    json_int(j, "now_runs", (int64_t)f->now_runs);
    if (f->growth && f->statistical) {
        json_real(j, "p", f->p);
        json_real(j, "alpha", f->alpha);
    }
    json_int(j, "path_count", (int64_t)f->offender_total);
    json_open(j, "paths", '[');
    for (size_t k = 0; k < f->offender_count; k++)
        json_offender(j, r, &f->offenders[k]);
    json_close(j, ']');
    json_close(j, '}');
}

void gate_json_write(FILE *out, const struct gate_report *r)
{
    struct json j = {.out = out};
    json_open(&j, NULL, '{');
    json_string(&j, "verdict", gate_verdict_name(r->result->verdict));
    json_int(&j, "exit_status", r->result->verdict);
    json_real(&j, "confidence", 1 - r->alpha);
    json_real(&j, "ops", r->result->ops);
    json_open(&j, "rules", '[');
    for (size_t i = 0; i < r->result->count; i++)
        json_finding(&j, r, &r->result->findings[i]);
    json_close(&j, ']');
    json_open(&j, "notes", '[');
    for (size_t i = 0; i < r->result->note_count; i++)
        json_string(&j, NULL, r->result->notes[i]);
    json_close(&j, ']');
    json_open(&j, "warnings", '[');
    for (size_t i = 0; i < r->warning_count; i++)
        json_string(&j, NULL, r->warnings[i]);
    json_close(&j, ']');
    json_close(&j, '}');
    fputc('\n', out);
}
