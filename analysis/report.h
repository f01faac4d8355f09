// SPDX-License-Identifier: MIT
//
// What a profile says, under the options that pprof's users know: filters, granularity, the graph
// of functions with flat and cumulative values, trimmed as asked. Figures equal `go tool pprof`'s.
//
//   flat  of the samples whose leaf the node is
//   cum   of the samples on whose stack the node is, each counted once
//   total sum of the samples' absolute values, before filters unless relative_percentages
//
// A report changes the profile it is made from (filters and granularity take things away).

#ifndef FIBERSCOPE_ANALYSIS_REPORT_H
#define FIBERSCOPE_ANALYSIS_REPORT_H

#include "formats/pprof.h"

struct report_options {
    const char *sample_index; // NULL: the default one
    const char *granularity;  // functions filefunctions files lines addresses
    const char *unit;         // "minimum": chosen by the values
    // Regular expressions; NULL or "": none.
    const char *focus, *ignore, *show, *hide, *show_from, *prune_from;
    const char *tagfocus, *tagignore, *tagshow, *taghide;
    const char *tagroot, *tagleaf; // keys, separated by commas
    bool noinlines, showcolumns, cum_sort, mean, drop_negative, relative_percentages;
    bool all_frames;   // do not apply the profile's drop_frames
    int64_t nodecount; // <= 0: all
    double nodefraction, edgefraction, divide_by;
    void (*warn)(void *arg, const char *text); // a filter that matched nothing; may be NULL
    void *warn_arg;
};

struct report_node;

struct report_edge {
    struct report_node *from, *to; // caller, callee
    int64_t weight;
    bool residual; // there were trimmed nodes between
    bool is_inline;
    bool dropped;
    uint32_t seen; // last sample counted, + 1
};

struct report_node {
    const char *name; // "" if unknown
    const char *file;
    const char *objfile; // only where there is no name
    uint64_t address;    // 0 unless granularity addresses, or without name
    int64_t line, column, start_line;
    int64_t flat, flat_div, cum, cum_div;
    struct report_edge **in, **out; // heaviest first
    size_t in_count, out_count;
    char *label; // the printable name
    bool kept;
    bool listed; // not zero, and so among report.nodes before trimming took the top
    uint32_t seen;
};

struct report {
    struct pprof_profile *profile; // borrowed
    struct report_options options;
    int index;             // of the sample type
    const char *type;      // "cpu", "mean_delay"
    const char *from_unit; // the profile's
    const char *unit;      // the reports'
    int64_t total;
    struct arena arena;
    struct report_node **nodes; // shown ones, in order
    size_t node_count;
    size_t original_count; // before nodecount
    size_t dropped_nodes, dropped_edges;
    // Internal: all nodes, per location the nodes of its lines, edges.
    struct report_node **all;
    size_t all_count;
    struct report_node ***by_location;
    struct report_edge **edges;
    size_t edge_count, edge_capacity;
    uint32_t *edge_table;
    size_t edge_table_size;
};

// Filters and aggregates p and sets r up. 0 or -errno: -EINVAL bad option, -ENOENT no such sample type. p is the caller's and must
// outlive r. r needs report_finish also after an error.
int report_prepare(struct report *r, struct pprof_profile *p, const struct report_options *options,
                   struct fscope_error *err);

// Builds and trims the graph. Once per report.
int report_graph(struct report *r, struct fscope_error *err);
void report_finish(struct report *r);

int64_t report_value(const struct report *r, const struct pprof_sample *s);   // selected value
int64_t report_divisor(const struct report *r, const struct pprof_sample *s); // 0 unless mean
int64_t report_flat(const struct report_node *n);                             // mean applied
int64_t report_cum(const struct report_node *n);

// "(inline)" if all calls of it were inlined, "(partial-inline)" if some were, else "".
const char *report_inline_mark(const struct report_node *n);

// value with divide_by and units applied. Returns buf.
const char *report_label(const struct report *r, char *buf, size_t size, int64_t value);

// Steps of report_prepare, for tests and other users. Each returns 0 or -errno.
int report_filter(struct pprof_profile *p, const struct report_options *o,
                  struct fscope_error *err);
int report_aggregate(struct pprof_profile *p, const struct report_options *o,
                     struct fscope_error *err);
int report_tag_nodes(struct pprof_profile *p, const struct report_options *o,
                     struct fscope_error *err);
int report_drop_frames(struct pprof_profile *p, struct fscope_error *err);

// The unit of a numeric label: the first one that a sample names, else what the key implies.
const char *report_label_unit(const struct pprof_profile *p, const char *key);

#endif
