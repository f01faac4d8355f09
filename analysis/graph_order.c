// SPDX-License-Identifier: MIT
//
// Names of nodes, and the orders in which nodes and edges are shown.
//
// Invariant: every order is total, so that a report is the same each time.

#include "analysis/graph.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

char *graph_node_label(struct arena *a, const struct report_node *n)
{
    char address[24] = "", number[64] = "";
    const char *gap = "", *gap2 = "";
    if (n->address) {
        snprintf(address, sizeof address, "%016" PRIx64, n->address);
        gap = " ";
    }
    if (n->line)
        snprintf(number, sizeof number, n->column ? ":%" PRId64 ":%" PRId64 : ":%" PRId64, n->line,
                 n->column);
    const char *file = n->file, *open = "", *close = "";
    if (!n->line && !file[0] && !n->name[0]) {
        open = n->objfile[0] ? "[" : "";
        close = n->objfile[0] ? "]" : "";
        file = n->objfile[0] ? base_name(n->objfile) : "<unknown>";
    }
    if (n->name[0] && (n->line || file[0]))
        gap2 = " ";
    size_t size = strlen(address) + strlen(n->name) + strlen(file) + strlen(number) + 8;
    char *out = arena_alloc(a, size);
    if (out)
        snprintf(out, size, "%s%s%s%s%s%s%s%s", address, gap, n->name, gap2, open, file, close,
                 number);
    return out;
}

static int heavier(int64_t a, int64_t b)
{
    a = graph_abs(a);
    b = graph_abs(b);
    return (a < b) - (a > b);
}

static int compare_label(const struct report_node *a, const struct report_node *b)
{
    if (a->address && b->address && a->address != b->address)
        return a->address < b->address ? -1 : 1;
    return strcmp(a->label, b->label);
}

// For nodes whose labels are equal: by what the label does not show.
static int compare_rest(const struct report_node *a, const struct report_node *b)
{
    int d = strcmp(a->objfile, b->objfile);
    if (!d)
        d = (a->start_line > b->start_line) - (a->start_line < b->start_line);
    return d ? d : (a > b) - (a < b);
}

static int by_flat(const void *x, const void *y)
{
    const struct report_node *a = *(struct report_node *const *)x;
    const struct report_node *b = *(struct report_node *const *)y;
    int d = heavier(a->flat, b->flat);
    if (!d)
        d = compare_label(a, b);
    if (!d)
        d = heavier(a->cum, b->cum);
    return d ? d : compare_rest(a, b);
}

static int by_cum(const void *x, const void *y)
{
    const struct report_node *a = *(struct report_node *const *)x;
    const struct report_node *b = *(struct report_node *const *)y;
    int d = heavier(a->cum, b->cum);
    if (!d)
        d = compare_label(a, b);
    if (!d)
        d = heavier(a->flat, b->flat);
    return d ? d : compare_rest(a, b);
}

void graph_sort_nodes(struct report *r)
{
    qsort(r->nodes, r->node_count, sizeof(struct report_node *),
          r->options.cum_sort ? by_cum : by_flat);
}

static int by_weight(const void *x, const void *y)
{
    const struct report_edge *a = *(struct report_edge *const *)x;
    const struct report_edge *b = *(struct report_edge *const *)y;
    int d = heavier(a->weight, b->weight);
    if (!d)
        d = strcmp(a->from->label, b->from->label);
    if (!d)
        d = strcmp(a->to->label, b->to->label);
    if (!d)
        d = compare_rest(a->from, b->from);
    return d ? d : compare_rest(a->to, b->to);
}

int graph_link_edges(struct report *r, int64_t cutoff)
{
    qsort(r->edges, r->edge_count, sizeof(struct report_edge *), by_weight);
    for (size_t i = 0; i < r->all_count; i++)
        r->all[i]->in_count = r->all[i]->out_count = 0;
    r->dropped_edges = 0;
    for (size_t i = 0; i < r->edge_count; i++) {
        struct report_edge *e = r->edges[i];
        // An edge to what cancelled out stays, however light, as in google/pprof: it says where
        // what a node lost went.
        e->dropped = e->to->listed && graph_abs(e->weight) < cutoff;
        r->dropped_edges += e->dropped;
        e->from->out_count += !e->dropped;
        e->to->in_count += !e->dropped;
    }
    for (size_t i = 0; i < r->all_count; i++) {
        struct report_node *n = r->all[i];
        n->in = arena_array(&r->arena, n->in_count + 1, sizeof(struct report_edge *));
        n->out = arena_array(&r->arena, n->out_count + 1, sizeof(struct report_edge *));
        if (!n->in || !n->out)
            return -ENOMEM;
        n->in_count = n->out_count = 0;
    }
    for (size_t i = 0; i < r->edge_count; i++) {
        struct report_edge *e = r->edges[i];
        if (e->dropped)
            continue;
        e->from->out[e->from->out_count++] = e;
        e->to->in[e->to->in_count++] = e;
    }
    return 0;
}
