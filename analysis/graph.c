// SPDX-License-Identifier: MIT
//
// The graph: nodes by what granularity leaves of a frame, edges between callers and callees.
//
// Invariant: nodes are made once; counting fills them anew from the samples. Trimming marks nodes
// as not kept and counts again, because a trimmed graph's edges (residual ones bridge what was
// trimmed) cannot be computed from the full one. So google/pprof does.

#include "analysis/graph.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint64_t mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * 0x9e3779b97f4a7c15u;
    return h ^ (h >> 29);
}

static uint64_t node_hash(const struct report_node *n)
{
    uint64_t h = mix((uintptr_t)n->name, (uintptr_t)n->file);
    h = mix(mix(h, (uintptr_t)n->objfile), n->address);
    h = mix(mix(h, (uint64_t)n->line), (uint64_t)n->column);
    return mix(h, (uint64_t)n->start_line);
}

static bool same_node(const struct report_node *a, const struct report_node *b)
{
    return a->name == b->name && a->file == b->file && a->objfile == b->objfile &&
           a->address == b->address && a->line == b->line && a->column == b->column &&
           a->start_line == b->start_line;
}

// What a line of a location is at the granularity that report_aggregate left. Strings are interned,
// so that equal ones are one pointer.
static struct report_node describe(struct report *r, const struct pprof_location *l,
                                   const struct pprof_line *line)
{
    const char *empty = pprof_string(r->profile, "");
    const char *objfile = l->mapping ? l->mapping->file : empty;
    struct report_node n = {.name = empty, .file = empty, .objfile = empty, .address = l->address};
    if (!line) {
        n.objfile = objfile;
        return n;
    }
    n.name = line->function->name;
    n.file = line->function->filename;
    n.line = line->line;
    n.column = line->column;
    if (!n.name[0]) {
        n.objfile = objfile;
        n.start_line = line->function->start_line;
    }
    return n;
}

struct node_table {
    struct report_node **slots;
    size_t size; // power of two
    size_t capacity;
};

static struct report_node *intern_node(struct report *r, struct node_table *t,
                                       const struct report_node *want)
{
    size_t at = node_hash(want) & (t->size - 1);
    while (t->slots[at] && !same_node(t->slots[at], want))
        at = (at + 1) & (t->size - 1);
    if (t->slots[at])
        return t->slots[at];
    struct report_node *n = arena_alloc(&r->arena, sizeof *n);
    if (!n)
        return NULL;
    *n = *want;
    n->kept = true;
    n->label = graph_node_label(&r->arena, n);
    if (!n->label)
        return NULL;
    t->slots[at] = n;
    r->all[r->all_count++] = n;
    return n;
}

int graph_nodes(struct report *r)
{
    struct pprof_profile *p = r->profile;
    size_t lines = 0;
    int rc = -ENOMEM;
    for (size_t i = 0; i < p->location_count; i++)
        lines += p->locations[i]->line_count ? p->locations[i]->line_count : 1;
    struct node_table t = {.size = 64};
    while (t.size < 2 * lines)
        t.size *= 2;
    t.slots = calloc(t.size, sizeof(struct report_node *));
    r->all = arena_array(&r->arena, lines + 1, sizeof(struct report_node *));
    r->by_location = arena_array(&r->arena, p->location_count + 1, sizeof(struct report_node **));
    if (!t.slots || !r->all || !r->by_location)
        goto done;
    for (size_t i = 0; i < p->location_count; i++) {
        const struct pprof_location *l = p->locations[i];
        uint32_t n = l->line_count ? l->line_count : 1;
        struct report_node **nodes = arena_array(&r->arena, n, sizeof(struct report_node *));
        if (!nodes)
            goto done;
        for (uint32_t j = 0; j < n; j++) {
            struct report_node want = describe(r, l, l->line_count ? &l->lines[j] : NULL);
            nodes[j] = intern_node(r, &t, &want);
            if (!nodes[j])
                goto done;
        }
        r->by_location[i] = nodes;
    }
    rc = 0;
done:
    free(t.slots);
    return rc;
}

// One after the other: nodes lie at equal distances, so from ^ to is the same for most edges of a long chain.
static uint64_t hash_edge(const struct report_node *from, const struct report_node *to)
{
    return mix(mix(0, (uintptr_t)from), (uintptr_t)to);
}

static int grow_edges(struct report *r)
{
    size_t capacity = r->edge_capacity ? 2 * r->edge_capacity : 1024;
    struct report_edge **edges = realloc(r->edges, capacity * sizeof(struct report_edge *));
    uint32_t *table = edges ? calloc(2 * capacity, sizeof *table) : NULL;
    if (edges)
        r->edges = edges;
    if (!table || capacity > UINT32_MAX / 4) {
        free(table);
        return -ENOMEM;
    }
    free(r->edge_table);
    r->edge_table = table;
    r->edge_capacity = capacity;
    r->edge_table_size = 2 * capacity;
    for (size_t i = 0; i < r->edge_count; i++) {
        uint64_t h = hash_edge(edges[i]->from, edges[i]->to);
        size_t at = h & (r->edge_table_size - 1);
        while (table[at])
            at = (at + 1) & (r->edge_table_size - 1);
        table[at] = (uint32_t)i + 1;
    }
    return 0;
}

static struct report_edge *find_edge(struct report *r, struct report_node *from,
                                     struct report_node *to)
{
    if (r->edge_count == r->edge_capacity && grow_edges(r))
        return NULL;
    size_t at = hash_edge(from, to) & (r->edge_table_size - 1);
    for (; r->edge_table[at]; at = (at + 1) & (r->edge_table_size - 1)) {
        struct report_edge *e = r->edges[r->edge_table[at] - 1];
        if (e->from == from && e->to == to)
            return e;
    }
    struct report_edge *e = arena_alloc(&r->arena, sizeof *e);
    if (!e)
        return NULL;
    e->from = from;
    e->to = to;
    e->is_inline = true; // until a call that was not inlined shows
    r->edges[r->edge_count++] = e;
    r->edge_table[at] = (uint32_t)r->edge_count;
    return e;
}

static int count_sample(struct report *r, const struct pprof_sample *s, uint32_t stamp)
{
    int64_t w = report_value(r, s), dw = report_divisor(r, s);
    struct report_node *parent = NULL;
    bool residual = false;
    if (!w && !dw)
        return 0;
    for (uint32_t i = s->location_count; i > 0; i--) {
        const struct pprof_location *l = s->locations[i - 1];
        struct report_node **nodes = r->by_location[l->id - 1];
        uint32_t n = l->line_count ? l->line_count : 1;
        for (uint32_t j = n; j > 0; j--) {
            struct report_node *node = nodes[j - 1];
            if (!node->kept) {
                residual = true;
                continue;
            }
            if (node->seen != stamp) { // once per sample, however often it recurs
                node->seen = stamp;
                node->cum = graph_add(node->cum, w);
                node->cum_div = graph_add(node->cum_div, dw);
            }
            if (parent && parent != node) {
                struct report_edge *e = find_edge(r, parent, node);
                if (!e)
                    return -ENOMEM;
                if (e->seen != stamp) {
                    e->seen = stamp;
                    e->weight = graph_add(e->weight, w);
                    e->residual |= residual;
                    e->is_inline &= j != n;
                }
            }
            parent = node;
            residual = false;
        }
    }
    if (parent && !residual) {
        parent->flat = graph_add(parent->flat, w);
        parent->flat_div = graph_add(parent->flat_div, dw);
    }
    return 0;
}

int graph_count(struct report *r)
{
    for (size_t i = 0; i < r->all_count; i++) {
        struct report_node *n = r->all[i];
        n->flat = n->flat_div = n->cum = n->cum_div = 0;
        n->seen = 0;
    }
    r->edge_count = 0;
    memset(r->edge_table, 0, r->edge_table_size * sizeof *r->edge_table);
    for (size_t i = 0; i < r->profile->sample_count; i++) {
        int rc = count_sample(r, r->profile->samples[i], (uint32_t)i + 1);
        if (rc)
            return rc;
    }
    size_t n = 0;
    for (size_t i = 0; i < r->all_count; i++) {
        struct report_node *node = r->all[i];
        bool negative = node->flat < 0 || (!node->flat && node->cum < 0);
        node->listed = (node->cum || node->flat) && !(r->options.drop_negative && negative);
        if (node->listed)
            r->nodes[n++] = node;
    }
    r->node_count = n;
    return 0;
}

int graph_start(struct report *r)
{
    int rc = graph_nodes(r);
    if (!rc)
        rc = grow_edges(r);
    r->nodes = rc ? NULL : arena_array(&r->arena, r->all_count + 1, sizeof(struct report_node *));
    return rc ? rc : r->nodes ? 0 : -ENOMEM;
}
