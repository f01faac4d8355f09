// SPDX-License-Identifier: MIT
//
// See stacks.h.

#include "analysis/stacks.h"

#include "analysis/graph.h"
#include "analysis/units.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct frame {
    const char *name, *module, *file;
    bool is_inline, is_kernel;
};

static uint64_t hash(uint32_t parent, const struct frame *f)
{
    uint64_t h = (uintptr_t)f->name * 0x9e3779b97f4a7c15u + parent;
    h ^= h >> 31;
    h = (h + (uintptr_t)f->module + f->is_inline) * 0xff51afd7ed558ccdu;
    return h ^ (h >> 33);
}

static int grow(struct stacks *s)
{
    uint32_t capacity = s->capacity ? 2 * s->capacity : 4096;
    if (capacity < s->capacity)
        return -ENOMEM;
    struct stacks_node *nodes = realloc(s->nodes, capacity * sizeof *nodes);
    if (!nodes)
        return -ENOMEM;
    s->nodes = nodes;
    uint32_t *table = calloc(2 * (size_t)capacity, sizeof *table);
    if (!table)
        return -ENOMEM;
    free(s->table);
    s->table = table;
    s->table_size = 2 * (size_t)capacity;
    s->capacity = capacity;
    for (uint32_t i = 1; i < s->count; i++) {
        const struct stacks_node *n = &nodes[i];
        struct frame f = {n->name, n->module, n->file, n->is_inline, n->is_kernel};
        size_t at = hash(n->parent, &f) & (s->table_size - 1);
        while (table[at])
            at = (at + 1) & (s->table_size - 1);
        table[at] = i;
    }
    return 0;
}

// The child of parent for this frame; 0 when memory is exhausted.
static uint32_t child(struct stacks *s, uint32_t parent, const struct frame *f)
{
    if (s->count == s->capacity && grow(s))
        return 0;
    size_t at = hash(parent, f) & (s->table_size - 1);
    for (; s->table[at]; at = (at + 1) & (s->table_size - 1)) {
        const struct stacks_node *n = &s->nodes[s->table[at]];
        if (n->parent == parent && n->name == f->name && n->module == f->module &&
            n->is_inline == f->is_inline)
            return s->table[at];
    }
    uint32_t id = s->count++;
    uint32_t depth = s->nodes[parent].depth + 1;
    s->nodes[id] = (struct stacks_node){.name = f->name,
                                        .module = f->module,
                                        .file = f->file,
                                        .parent = parent,
                                        .depth = depth,
                                        .is_inline = f->is_inline,
                                        .is_kernel = f->is_kernel};
    s->table[at] = id;
    if (depth > s->depth)
        s->depth = depth;
    return id;
}

static bool is_kernel(const struct pprof_location *l)
{
    const struct pprof_mapping *m = l->mapping;
    return m && (!strncmp(m->file, "[kernel", 7) || !strncmp(m->file, "[guest.kernel", 13) ||
                 strstr(m->file, "vmlinux") || m->start >= 0xffff800000000000u);
}

// Frames leaf first, as a flat array.
struct frames {
    struct frame *items;
    size_t count, capacity;
    struct frame **by_location; // what each location's lines are, in the arena of the names
};

static int add_frames(struct frames *fs, const struct frame *f, size_t n)
{
    if (fs->count + n > fs->capacity) {
        size_t capacity = 2 * (fs->count + n) + 256;
        struct frame *items = realloc(fs->items, capacity * sizeof *items);
        if (!items)
            return -ENOMEM;
        fs->items = items;
        fs->capacity = capacity;
    }
    memcpy(fs->items + fs->count, f, n * sizeof *f);
    fs->count += n;
    return 0;
}

static uint32_t lines_of(const struct pprof_location *l)
{
    return l->line_count ? l->line_count : 1;
}

// Once for each location: stacks name the same ones over and over.
static int name_frames(struct frames *fs, struct report *r)
{
    const struct pprof_profile *p = r->profile;
    const char *empty = pprof_string(r->profile, "");
    fs->by_location = arena_array(&r->arena, p->location_count + 1, sizeof(struct frame *));
    if (!fs->by_location || !empty)
        return -ENOMEM;
    for (size_t i = 0; i < p->location_count; i++) {
        const struct pprof_location *l = p->locations[i];
        uint32_t n = lines_of(l);
        struct frame *frames = arena_array(&r->arena, n, sizeof *frames);
        if (!frames)
            return -ENOMEM;
        for (uint32_t j = 0; j < n; j++) {
            const struct report_node *node = r->by_location[i][j];
            frames[j] = (struct frame){.name = pprof_string(r->profile, node->label),
                                       .module = l->mapping ? l->mapping->file : empty,
                                       .file = node->file,
                                       .is_inline = j + 1 < n,
                                       .is_kernel = is_kernel(l)};
            if (!frames[j].name)
                return -ENOMEM;
        }
        fs->by_location[i] = frames;
    }
    return 0;
}

static int frames_of(struct frames *fs, const struct pprof_sample *sample)
{
    fs->count = 0;
    for (uint32_t i = 0; i < sample->location_count; i++) {
        const struct pprof_location *l = sample->locations[i];
        if (add_frames(fs, fs->by_location[l->id - 1], lines_of(l)))
            return -ENOMEM;
    }
    return 0;
}

// Which part of each stack goes into the tree, in which direction.
struct way {
    const char *around; // interned; NULL: all of it
    bool inverted;      // towards the callers
};

// Where the last stack went: most have their first frames in common with it, which need no search.
struct trail {
    struct step {
        struct frame frame;
        uint32_t node;
    } * steps; // [count]
    size_t count, capacity;
};

static int reserve_trail(struct trail *t, size_t count)
{
    if (count <= t->capacity)
        return 0;
    struct step *steps = realloc(t->steps, 2 * count * sizeof *steps);
    if (!steps)
        return -ENOMEM;
    t->steps = steps;
    t->capacity = 2 * count;
    return 0;
}

static bool same_frame(const struct frame *a, const struct frame *b)
{
    return a->name == b->name && a->module == b->module && a->is_inline == b->is_inline;
}

// The node for frames in this order, from the root.
static int follow(struct stacks *s, struct trail *t, const struct frame *frames, size_t count,
                  bool backwards, uint32_t *node)
{
    uint32_t at = 0;
    size_t i = 0;
    if (reserve_trail(t, count))
        return -ENOMEM;
    for (; i < count && i < t->count; i++) {
        if (!same_frame(&t->steps[i].frame, &frames[backwards ? count - 1 - i : i]))
            break;
        at = t->steps[i].node;
    }
    for (; i < count; i++) {
        const struct frame *f = &frames[backwards ? count - 1 - i : i];
        at = child(s, at, f);
        if (!at)
            return -ENOMEM;
        t->steps[i] = (struct step){*f, at};
    }
    t->count = count;
    *node = at;
    return 0;
}

static int add_sample(struct stacks *s, const struct frames *fs, int64_t value, const struct way *w,
                      struct trail *trail)
{
    uint32_t at = 0;
    size_t first = 0, count = fs->count, mid = fs->count;
    if (w->around) {
        while (mid && fs->items[mid - 1].name != w->around)
            mid--;
        if (!mid--)
            return 0;
        s->nodes[0].module = fs->items[mid].module;
        s->nodes[0].file = fs->items[mid].file;
        first = w->inverted ? mid + 1 : 0;
        count = w->inverted ? fs->count - first : mid;
    }
    if (count && follow(s, trail, fs->items + first, count, !w->inverted, &at))
        return -ENOMEM;
    if (s->values != STACKS_COMPARED)
        s->nodes[at].self += value;
    else if (value > 0)
        s->nodes[at].now.self += value;
    else
        s->nodes[at].base.self += graph_abs(value);
    return 0;
}

// A parent stands before its children, so backwards each node is whole when its parent takes it.
static void sum_up(struct stacks *s)
{
    for (uint32_t i = s->count; i-- > 0;) {
        struct stacks_node *n = &s->nodes[i], *parent = &s->nodes[n->parent];
        if (s->values == STACKS_COMPARED)
            n->self = n->now.self > n->base.self ? n->now.self : n->base.self;
        n->total += n->self;
        n->now.total += n->now.self;
        n->base.total += n->base.self;
        if (i) {
            parent->total += n->total;
            parent->now.total += n->now.total;
            parent->base.total += n->base.total;
        }
    }
}

static int by_name(const void *x, const void *y, void *nodes)
{
    const struct stacks_node *sorting = nodes;
    const struct stacks_node *a = &sorting[*(const uint32_t *)x];
    const struct stacks_node *b = &sorting[*(const uint32_t *)y];
    if (a->parent != b->parent)
        return a->parent < b->parent ? -1 : 1;
    int d = strcmp(a->name, b->name);
    if (!d)
        d = strcmp(a->module, b->module);
    return d ? d : (int)a->is_inline - (int)b->is_inline;
}

static int link_children(struct stacks *s)
{
    uint32_t *order = calloc(s->count, sizeof *order);
    if (!order)
        return -ENOMEM;
    for (uint32_t i = 0; i < s->count; i++)
        order[i] = i;
    qsort_r(order + 1, s->count - 1, sizeof *order, by_name, s->nodes);
    for (uint32_t i = s->count - 1; i > 0; i--) {
        struct stacks_node *n = &s->nodes[order[i]], *parent = &s->nodes[n->parent];
        n->next = parent->first_child;
        parent->first_child = order[i];
        parent->child_count++;
    }
    free(order);
    return 0;
}

static int add_samples(struct stacks *s, const struct report *r, struct report *names,
                       const struct way *w)
{
    struct frames fs = {0};
    struct trail trail = {0};
    int64_t sum = 0; // of absolute values: no total can exceed it
    int rc = name_frames(&fs, names);
    for (size_t i = 0; !rc && i < r->profile->sample_count; i++) {
        const struct pprof_sample *sample = r->profile->samples[i];
        int64_t value = report_value(r, sample), more;
        bool left_out = value < 0 && s->values == STACKS_POSITIVE;
        s->negative += left_out;
        if (!value || left_out || __builtin_add_overflow(sum, graph_abs(value), &more))
            continue;
        sum = more;
        rc = frames_of(&fs, sample);
        if (!rc)
            rc = add_sample(s, &fs, value, w, &trail);
    }
    free(fs.items);
    free(trail.steps);
    return rc;
}

static int build(struct stacks *s, const struct report *r, enum stacks_values values,
                 const struct way *w, struct fscope_error *err)
{
    memset(s, 0, sizeof *s);
    s->values = values;
    // The nodes of the locations name the frames; counting is done here.
    struct report names = *r;
    memset(&names.arena, 0, sizeof names.arena);
    names.all_count = 0; // r may have its graph already
    int rc = graph_nodes(&names);
    if (!rc)
        rc = grow(s);
    if (!rc) {
        const char *name = w->around ? w->around : "";
        s->nodes[0] = (struct stacks_node){.name = name, .module = "", .file = ""};
        s->count = 1;
        rc = add_samples(s, r, &names, w);
    }
    if (!rc) {
        sum_up(s);
        rc = link_children(s);
    }
    arena_finish(&names.arena);
    return rc ? error_set(err, rc, 0, "out of memory") : 0;
}

int stacks_build(struct stacks *s, const struct report *r, enum stacks_values values, bool inverted,
                 struct fscope_error *err)
{
    return build(s, r, values, &(struct way){.inverted = inverted}, err);
}

int stacks_around(struct stacks *s, const struct report *r, enum stacks_values values,
                  const char *label, bool callers, struct fscope_error *err)
{
    struct way w = {.around = pprof_string(r->profile, label), .inverted = callers};
    memset(s, 0, sizeof *s);
    return w.around ? build(s, r, values, &w, err) : error_set(err, -ENOMEM, 0, "out of memory");
}

unsigned stacks_step(const struct stacks_node *n)
{
    static const double ends[] = {1 / 2.0, 1 / 1.25, 1 / 1.05};
    double base = (double)n->base.total, now = (double)n->now.total;
    if (n->base.total == n->now.total)
        return STACKS_SAME;
    if (!n->now.total)
        return STACKS_GONE;
    if (!n->base.total)
        return STACKS_NEW;
    for (unsigned i = 0; i < 3; i++) {
        if (now <= base * ends[i])
            return STACKS_GONE + 1 + i;
        if (base <= now * ends[i])
            return STACKS_NEW - 1 - i;
    }
    return STACKS_SAME;
}

int64_t stacks_gone(const struct stacks_node *n)
{
    return n->now.total ? n->self - n->now.self : 0; // else all of it is
}

void stacks_difference(char *buf, size_t size, const struct report *r, const struct stacks *s)
{
    char base[UNITS_LABEL_MAX], now[UNITS_LABEL_MAX], delta[UNITS_LABEL_MAX], percent[32] = "";
    double factor = 1 / r->options.divide_by;
    int64_t b = s->nodes[0].base.total, n = s->nodes[0].now.total;
    units_label(base, sizeof base, (int64_t)((double)b * factor), r->from_unit, "auto");
    units_label(now, sizeof now, (int64_t)((double)n * factor), r->from_unit, "auto");
    units_label(delta, sizeof delta, (int64_t)((double)(n - b) * factor), r->from_unit, "auto");
    if (b)
        snprintf(percent, sizeof percent, ", %+.1f%%", 100.0 * (double)(n - b) / (double)b);
    snprintf(buf, size, "%s: base %s \xe2\x86\x92 %s (%s%s%s). Width: what either has", r->type,
             base, now, n > b ? "+" : "", delta, percent);
}

void stacks_finish(struct stacks *s)
{
    free(s->nodes);
    free(s->table);
    memset(s, 0, sizeof *s);
}
