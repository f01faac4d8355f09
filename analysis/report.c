// SPDX-License-Identifier: MIT
//
// From a profile and options to the trimmed graph, in google/pprof's order of steps: label frames,
// total, filters, granularity, counting, dropping light nodes, counting again, taking the top.

#include "analysis/graph.h"
#include "analysis/units.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void outermost_only(struct pprof_profile *p)
{
    for (size_t i = 0; i < p->location_count; i++) {
        struct pprof_location *l = p->locations[i];
        if (l->line_count > 1) { // the function that holds the code comes last
            l->lines += l->line_count - 1;
            l->line_count = 1;
        }
    }
}

// "/a/./b//../c" to "/a/c", as Go's filepath.Clean: equal files get one name.
static const char *clean_path(struct pprof_profile *p, const char *path)
{
    if (!path[0] || (!strstr(path, "//") && !strstr(path, "./") && path[strlen(path) - 1] != '/' &&
                     path[strlen(path) - 1] != '.'))
        return path;
    char *out = malloc(strlen(path) + 2);
    if (!out)
        return NULL;
    bool rooted = path[0] == '/';
    size_t n = 0, floor = 0; // nothing below floor may be taken back by ".."
    if (rooted)
        out[n++] = '/';
    floor = n;
    for (const char *c = path; *c;) {
        size_t length = strcspn(c, "/");
        if (length == 2 && c[0] == '.' && c[1] == '.') {
            if (n > floor) {
                while (n > floor && out[n - 1] != '/')
                    n--;
                if (n > floor)
                    n--; // the slash
            } else if (!rooted) {
                n += (size_t)sprintf(out + n, n ? "/.." : "..");
                floor = n;
            }
        } else if (length && !(length == 1 && c[0] == '.')) {
            if (n > rooted)
                out[n++] = '/';
            memcpy(out + n, c, length);
            n += length;
        }
        c += length + (c[length] == '/');
    }
    if (!n)
        out[n++] = '.';
    const char *interned = pprof_stringn(p, out, n);
    free(out);
    return interned;
}

int report_aggregate(struct pprof_profile *p, const struct report_options *o,
                     struct fscope_error *err)
{
    const char *g = o->granularity && *o->granularity ? o->granularity : "functions";
    bool addresses = !strcmp(g, "addresses"), lines = addresses || !strcmp(g, "lines");
    bool files = !strcmp(g, "files"), filefunctions = !strcmp(g, "filefunctions");
    bool functions = !strcmp(g, "functions");
    if (!strcmp(g, "raw")) // for `raw`: everything as it stands
        return 0;
    if (!lines && !files && !filefunctions && !functions)
        return error_set(err, -EINVAL, 0,
                         "granularity \"%.40s\" is none of functions, filefunctions, files, lines, "
                         "addresses",
                         g);
    const char *empty = pprof_string(p, "");
    for (size_t i = 0; i < p->function_count; i++) {
        struct pprof_function *f = p->functions[i];
        if (files)
            f->name = f->system_name = empty;
        f->filename = functions ? empty : clean_path(p, f->filename);
        if (!f->filename)
            return error_set(err, -ENOMEM, 0, "out of memory");
    }
    if (o->noinlines)
        outermost_only(p);
    bool columns = o->showcolumns || (addresses && !o->noinlines);
    for (size_t i = 0; i < p->location_count; i++) {
        struct pprof_location *l = p->locations[i];
        for (uint32_t j = 0; j < l->line_count; j++) {
            if (!lines)
                l->lines[j].line = 0;
            if (!lines || !columns)
                l->lines[j].column = 0;
        }
        if (!addresses)
            l->address = 0;
    }
    return 0;
}

int64_t report_value(const struct report *r, const struct pprof_sample *s)
{
    return s->values[r->index];
}

int64_t report_divisor(const struct report *r, const struct pprof_sample *s)
{
    return r->options.mean ? s->values[0] : 0;
}

int64_t report_flat(const struct report_node *n)
{
    return n->flat_div ? n->flat / n->flat_div : n->flat;
}

int64_t report_cum(const struct report_node *n)
{
    return n->cum_div ? n->cum / n->cum_div : n->cum;
}

const char *report_inline_mark(const struct report_node *n)
{
    size_t inlined = 0;
    for (size_t i = 0; i < n->in_count; i++)
        inlined += n->in[i]->is_inline;
    if (!inlined)
        return "";
    return inlined < n->in_count ? "(partial-inline)" : "(inline)";
}

const char *report_label(const struct report *r, char *buf, size_t size, int64_t value)
{
    double ratio = 1 / r->options.divide_by;
    if (ratio > 0 && ratio != 1)
        value = (int64_t)((double)value * ratio);
    return units_label(buf, size, value, r->from_unit, r->unit);
}

static bool is_base(const struct pprof_sample *s)
{
    for (uint32_t i = 0; i < s->label_count; i++) {
        if (!strcmp(s->labels[i].key, PPROF_BASE_LABEL) && !strcmp(s->labels[i].str, "true"))
            return true;
    }
    return false;
}

// Samples of a base profile (diff) alone make up the total where there are any.
static void compute_total(struct report *r)
{
    int64_t total = 0, base_total = 0, div = 0, base_div = 0;
    for (size_t i = 0; i < r->profile->sample_count; i++) {
        const struct pprof_sample *s = r->profile->samples[i];
        int64_t v = graph_abs(report_value(r, s)), d = report_divisor(r, s);
        bool base = is_base(s);
        total = graph_add(total, v);
        div = graph_add(div, d);
        base_total = graph_add(base_total, base ? v : 0);
        base_div = graph_add(base_div, base ? d : 0);
    }
    if (base_total) {
        total = base_total;
        div = base_div;
    }
    r->total = total;
    if (div)
        r->total /= div;
}

int report_prepare(struct report *r, struct pprof_profile *p, const struct report_options *options,
                   struct fscope_error *err)
{
    memset(r, 0, sizeof *r);
    r->profile = p;
    r->options = *options;
    if (!r->options.unit)
        r->options.unit = "minimum";
    if (r->options.divide_by == 0)
        return error_set(err, -EINVAL, 0, "divide_by must not be zero");
    r->unit = r->options.unit;
    if (!p->sample_type_count)
        return error_set(err, -EINVAL, 0, "the profile has no sample types");
    r->index = pprof_sample_index(p, options->sample_index, err);
    if (r->index < 0)
        return r->index;
    r->from_unit = p->sample_types[r->index].unit;
    r->type = p->sample_types[r->index].type;
    if (options->mean) {
        size_t size = strlen(r->type) + 6;
        char *type = arena_alloc(&r->arena, size);
        if (!type)
            return error_set(err, -ENOMEM, 0, "out of memory");
        snprintf(type, size, "mean_%s", r->type);
        r->type = type;
    }
    int rc = options->all_frames ? 0 : report_drop_frames(p, err);
    if (!rc)
        rc = report_tag_nodes(p, &r->options, err);
    if (!rc && options->relative_percentages)
        rc = report_filter(p, options, err);
    if (rc)
        return rc;
    compute_total(r);
    if (!options->relative_percentages)
        rc = report_filter(p, options, err);
    return rc ? rc : report_aggregate(p, options, err);
}

// The unit in which the smallest value still reads, unless it is far below the total's.
static void choose_unit(struct report *r)
{
    int64_t low = 0, high = r->total;
    const char *low_unit, *high_unit, *unit;
    if (strcmp(r->options.unit, "minimum") != 0 || !r->node_count)
        return;
    for (size_t i = 0; i < r->node_count; i++) {
        int64_t v = graph_abs(report_flat(r->nodes[i]));
        if (!v)
            v = graph_abs(report_cum(r->nodes[i]));
        if (v && (!low || v < low))
            low = v;
    }
    if (!low)
        low = high;
    double ratio = 1 / r->options.divide_by;
    if (ratio > 0 && ratio != 1) {
        low = (int64_t)((double)low * ratio);
        high = (int64_t)((double)high * ratio);
    }
    units_scale(low, r->from_unit, "minimum", &low_unit);
    units_scale(high, r->from_unit, "minimum", &high_unit);
    unit = low_unit;
    if (strcmp(low_unit, high_unit) != 0 && low < high / 100 + (high % 100 != 0)) {
        int64_t up = low > INT64_MAX / 100 ? INT64_MAX : low * 100;
        units_scale(up, r->from_unit, "minimum", &unit);
    }
    r->unit = unit[0] ? unit : r->from_unit;
}

static int keep_only(struct report *r, int64_t cutoff, size_t count)
{
    for (size_t i = 0; i < r->all_count; i++)
        r->all[i]->kept = false;
    for (size_t i = 0; i < count; i++)
        r->nodes[i]->kept = graph_abs(r->nodes[i]->cum) >= cutoff;
    return graph_count(r);
}

static int trim(struct report *r, int64_t cutoff)
{
    size_t enough = 0;
    for (size_t i = 0; i < r->node_count; i++)
        enough += graph_abs(r->nodes[i]->cum) >= cutoff;
    if (cutoff > 0 && enough != r->node_count) {
        r->dropped_nodes = r->node_count - enough;
        int rc = keep_only(r, cutoff, r->node_count);
        if (rc)
            return rc;
    }
    r->original_count = r->node_count;
    graph_sort_nodes(r);
    if (r->options.nodecount > 0 && (uint64_t)r->options.nodecount < r->node_count) {
        int rc = keep_only(r, 0, (size_t)r->options.nodecount);
        if (rc)
            return rc;
        graph_sort_nodes(r);
    }
    return 0;
}

int report_graph(struct report *r, struct fscope_error *err)
{
    int64_t sum = 0;
    int rc = graph_start(r);
    if (!rc)
        rc = graph_count(r);
    if (rc)
        return error_set(err, rc, 0, "out of memory");
    for (size_t i = 0; i < r->node_count; i++)
        sum = graph_add(sum, r->nodes[i]->flat);
    int64_t node_cut = graph_abs((int64_t)((double)sum * r->options.nodefraction));
    int64_t edge_cut = graph_abs((int64_t)((double)sum * r->options.edgefraction));
    rc = trim(r, node_cut);
    if (!rc)
        rc = graph_link_edges(r, edge_cut);
    if (rc)
        return error_set(err, rc, 0, "out of memory");
    choose_unit(r);
    return 0;
}

void report_finish(struct report *r)
{
    free(r->edges);
    free(r->edge_table);
    arena_finish(&r->arena);
    memset(r, 0, sizeof *r);
}
