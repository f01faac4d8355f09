// SPDX-License-Identifier: MIT
//
// See tree_report.h. The layout is that of `go tool pprof -tree`.

#include "cli/tree_report.h"

#include "analysis/regex.h"
#include "analysis/units.h"
#include "cli/terminal.h"

#include <string.h>

enum {
    BAR = 58,        // column of the bar between figures and names
    BAR_NARROW = 43, // where the terminal has no room for that
    NARROW = 110,    // columns
    FIGURES = 42,    // columns of a node's own
    NAME_COLUMNS_MIN = 12,
};

static int bar_of(const struct terminal *t)
{
    return t->columns && t->columns < NARROW ? BAR_NARROW : BAR;
}

static int name_columns(const struct terminal *t, int used)
{
    int room = t->columns - used;
    return !t->columns ? 0 : room > NAME_COLUMNS_MIN ? room : NAME_COLUMNS_MIN;
}

static void print_separator(FILE *out, const struct terminal *t)
{
    static const char dashes[] = "----------------------------------------------------------";
    fprintf(out, "%.*s+-------------\n", bar_of(t), dashes);
}

static void print_edges(FILE *out, const struct report *r, const struct terminal *t,
                        struct report_edge *const *edges, size_t count, bool callers, int64_t cum)
{
    char value[UNITS_LABEL_MAX], percent[32];
    for (size_t i = 0; i < count; i++) {
        const struct report_edge *e = edges[i];
        const char *mark = e->is_inline ? " (inline)" : "";
        fprintf(out, "%*s %s |   ", bar_of(t) - 8, report_label(r, value, sizeof value, e->weight),
                units_percent(percent, sizeof percent, e->weight, cum));
        terminal_print(out, t, callers ? e->from->label : e->to->label,
                       name_columns(t, bar_of(t) + 4 + (int)strlen(mark)));
        fprintf(out, "%s\n", mark);
    }
}

static void print_node(FILE *out, const struct report *r, const struct terminal *t,
                       const struct report_node *n, int64_t sum)
{
    char flat[UNITS_LABEL_MAX], cum[UNITS_LABEL_MAX], p1[32], p2[32], p3[32];
    int64_t f = report_flat(n), c = report_cum(n);
    print_separator(out, t);
    print_edges(out, r, t, n->in, n->in_count, true, c);
    double share = r->total ? (double)f / (double)r->total : 0;
    fprintf(out, "%s%10s %s%s %s %10s %s%*s| ", terminal_heat(t, share),
            report_label(r, flat, sizeof flat, f), units_percent(p1, sizeof p1, f, r->total),
            terminal_reset(t), units_percent(p2, sizeof p2, sum, r->total),
            report_label(r, cum, sizeof cum, c), units_percent(p3, sizeof p3, c, r->total),
            bar_of(t) - FIGURES, "");
    terminal_print(out, t, n->label, name_columns(t, bar_of(t) + 2));
    fputc('\n', out);
    print_edges(out, r, t, n->out, n->out_count, false, c);
}

static size_t print_tree(FILE *out, const struct report *r, struct regex *peek)
{
    struct terminal t = terminal_of(out);
    size_t matched = 0;
    int64_t sum = 0;
    profile_print_labels(out, r);
    print_separator(out, &t);
    fputs(bar_of(&t) == BAR
              ? "      flat  flat%   sum%        cum   cum%   calls calls% + context \t \t \n"
              : "      flat  flat%   sum%        cum   cum%  calls and context\n",
          out);
    for (size_t i = 0; i < r->node_count; i++) {
        if (peek && !regex_match(peek, r->nodes[i]->label))
            continue;
        matched++;
        sum = (int64_t)((uint64_t)sum + (uint64_t)report_flat(r->nodes[i]));
        print_node(out, r, &t, r->nodes[i], sum);
    }
    if (r->node_count)
        print_separator(out, &t);
    return matched;
}

static void json_edges(struct json *j, const char *key, struct report_edge *const *edges,
                       size_t count, bool callers)
{
    json_open(j, key, '[');
    for (size_t i = 0; i < count; i++) {
        json_open(j, NULL, '{');
        json_string(j, "name", callers ? edges[i]->from->label : edges[i]->to->label);
        json_int(j, "weight", edges[i]->weight);
        json_bool(j, "inline", edges[i]->is_inline);
        json_bool(j, "residual", edges[i]->residual);
        json_close(j, '}');
    }
    json_close(j, ']');
}

static size_t print_json(FILE *out, const struct report *r, struct regex *peek)
{
    struct json j = {.out = out};
    size_t matched = 0;
    json_open(&j, NULL, '{');
    profile_json_head(&j, r);
    json_open(&j, "nodes", '[');
    for (size_t i = 0; i < r->node_count; i++) {
        const struct report_node *n = r->nodes[i];
        if (peek && !regex_match(peek, n->label))
            continue;
        matched++;
        json_open(&j, NULL, '{');
        json_string(&j, "name", n->label);
        json_int(&j, "flat", report_flat(n));
        json_int(&j, "cum", report_cum(n));
        json_edges(&j, "callers", n->in, n->in_count, true);
        json_edges(&j, "callees", n->out, n->out_count, false);
        json_close(&j, '}');
    }
    json_close(&j, ']');
    json_close(&j, '}');
    return matched;
}

int tree_report(struct profile_args *a, const char *peek, int argc, char **argv)
{
    struct pprof_profile *p;
    struct profile_output o;
    struct report r;
    struct regex *re = NULL;
    struct fscope_error err = {0};
    if (peek && regex_compile(&re, "peek", peek, &err))
        return cli_usage("%s", err.text);
    int status = profile_prepare(&r, &p, a, argc, argv);
    if (status) {
        regex_free(re);
        return status;
    }
    if (report_graph(&r, &err)) {
        status = cli_fail("%s", err.text);
    } else if (!(status = profile_output_open(&o, a->output))) {
        size_t matched = a->json ? print_json(o.out, &r, re) : print_tree(o.out, &r, re);
        status = profile_output_close(&o, true);
        if (re && !matched && !status)
            status = cli_fail("no function matches \"%s\"", peek);
    }
    report_finish(&r);
    pprof_free(p);
    regex_free(re);
    return status;
}
