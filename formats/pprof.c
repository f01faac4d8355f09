// SPDX-License-Identifier: MIT
//
// Building a profile in memory: tables that grow on the arena, and hash tables beside them that
// find equal strings, functions, locations and samples.
//
// Invariant: a hash table covers the first `indexed` entries of its table with the hash of their
// content at that time; an entry changed behind its back is merely not found any more.

#include "formats/pprof_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct pprof_profile *pprof_new(void)
{
    struct pprof_profile *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->intern = calloc(1, sizeof *p->intern);
    if (!p->intern)
        goto fail;
    const char *empty = pprof_string(p, "");
    if (!empty)
        goto fail;
    p->intern->empty = empty;
    p->drop_frames = p->keep_frames = p->default_sample_type = p->doc_url = empty;
    p->period_type = (struct pprof_value_type){.type = empty, .unit = empty};
    return p;

fail:
    pprof_free(p);
    return NULL;
}

void pprof_free(struct pprof_profile *p)
{
    if (!p)
        return;
    if (p->intern) {
        ptrtab_finish(&p->intern->strings);
        ptrtab_finish(&p->intern->functions);
        ptrtab_finish(&p->intern->locations);
        ptrtab_finish(&p->intern->samples);
        free(p->intern->label_scratch);
        free(p->intern);
    }
    arena_finish(&p->arena);
    free(p);
}

// --- Strings

struct string_key {
    const char *s;
    size_t n;
};

static bool string_equal(const void *item, const void *key)
{
    const struct string_key *k = key;
    const char *s = item;
    return strncmp(s, k->s, k->n) == 0 && s[k->n] == '\0';
}

const char *pprof_stringn(struct pprof_profile *p, const char *s, size_t n)
{
    // A table's strings end at NUL, so what is looked up must too.
    n = strnlen(s, n);
    struct string_key key = {.s = s, .n = n};
    uint64_t hash = ptrtab_hash_bytes(s, n);
    const char *found = ptrtab_find(&p->intern->strings, hash, string_equal, &key);
    if (found)
        return found;
    char *copy = arena_strndup(&p->arena, s, n);
    if (!copy || ptrtab_add(&p->intern->strings, hash, copy))
        return NULL;
    return copy;
}

const char *pprof_string(struct pprof_profile *p, const char *s)
{
    return s ? pprof_stringn(p, s, strlen(s)) : pprof_stringn(p, "", 0);
}

// --- Tables

// Room for one more element; returns the array, moved if need be, or NULL.
static void *reserve(struct pprof_profile *p, void *array, size_t count, size_t *capacity,
                     size_t size_bytes)
{
    if (count < *capacity)
        return array;
    size_t more = *capacity ? 2 * *capacity : 64;
    void *grown = arena_array(&p->arena, more, size_bytes);
    if (!grown)
        return NULL;
    if (count)
        memcpy(grown, array, count * size_bytes);
    *capacity = more;
    return grown;
}

int pprof_add_sample_type(struct pprof_profile *p, const char *type, const char *unit)
{
    if (p->sample_count)
        return -EINVAL;
    // Few and rare: no capacity to keep.
    size_t n = p->sample_type_count;
    struct pprof_value_type *types = arena_array(&p->arena, n + 1, sizeof *types);
    const char *t = pprof_string(p, type);
    const char *u = pprof_string(p, unit);
    if (!types || !t || !u)
        return -ENOMEM;
    if (n)
        memcpy(types, p->sample_types, n * sizeof *types);
    types[n] = (struct pprof_value_type){.type = t, .unit = u};
    p->sample_types = types;
    p->sample_type_count = n + 1;
    return 0;
}

int pprof_add_comment(struct pprof_profile *p, const char *text)
{
    // The capacity is implied: a power of two, grown when the count is one.
    size_t n = p->comment_count;
    const char *s = pprof_string(p, text);
    if (!s)
        return -ENOMEM;
    if ((n & (n - 1)) == 0) {
        const char **grown = arena_array(&p->arena, n ? 2 * n : 1, sizeof *grown);
        if (!grown)
            return -ENOMEM;
        if (n)
            memcpy(grown, p->comments, n * sizeof *grown);
        p->comments = grown;
    }
    p->comments[n] = s;
    p->comment_count = n + 1;
    return 0;
}

struct pprof_mapping *pprof_append_mapping(struct pprof_profile *p)
{
    struct pprof_mapping **table =
        reserve(p, p->mappings, p->mapping_count, &p->mapping_capacity, sizeof *table);
    struct pprof_mapping *m = arena_alloc(&p->arena, sizeof *m);
    if (!table || !m)
        return NULL;
    p->mappings = table;
    table[p->mapping_count++] = m;
    m->id = p->mapping_count;
    m->file = m->build_id = p->intern->empty;
    return m;
}

struct pprof_mapping *pprof_add_mapping(struct pprof_profile *p, uint64_t start, uint64_t limit,
                                        uint64_t offset, const char *file, const char *build_id)
{
    const char *f = pprof_string(p, file);
    const char *b = pprof_string(p, build_id);
    if (!f || !b)
        return NULL;
    struct pprof_mapping *m = pprof_append_mapping(p);
    if (!m)
        return NULL;
    m->start = start;
    m->limit = limit;
    m->offset = offset;
    m->file = f;
    m->build_id = b;
    return m;
}

// --- Functions

struct pprof_function *pprof_append_function(struct pprof_profile *p)
{
    struct pprof_function **table =
        reserve(p, p->functions, p->function_count, &p->function_capacity, sizeof *table);
    struct pprof_function *f = arena_alloc(&p->arena, sizeof *f);
    if (!table || !f)
        return NULL;
    p->functions = table;
    table[p->function_count++] = f;
    f->id = p->function_count;
    f->name = f->system_name = f->filename = p->intern->empty;
    return f;
}

static uint64_t function_hash(const struct pprof_function *f)
{
    uint64_t h = ptrtab_mix(ptrtab_seed(), (uintptr_t)f->name);
    h = ptrtab_mix(h, (uintptr_t)f->system_name);
    h = ptrtab_mix(h, (uintptr_t)f->filename);
    return ptrtab_mix(h, (uint64_t)f->start_line);
}

static bool function_equal(const void *item, const void *key)
{
    const struct pprof_function *a = item, *b = key;
    return a->name == b->name && a->system_name == b->system_name && a->filename == b->filename &&
           a->start_line == b->start_line;
}

static int functions_catch_up(struct pprof_profile *p)
{
    struct pprof_intern *in = p->intern;
    for (; in->functions_indexed < p->function_count; in->functions_indexed++) {
        const struct pprof_function *f = p->functions[in->functions_indexed];
        if (ptrtab_add(&in->functions, function_hash(f), f))
            return -ENOMEM;
    }
    return 0;
}

// Tables hand out const items because they do not own them; ours are on our own arena.
static void *own(const void *item)
{
    return (void *)(uintptr_t)item;
}

struct pprof_function *pprof_intern_function(struct pprof_profile *p, const char *name,
                                             const char *system_name, const char *filename,
                                             int64_t start_line)
{
    struct pprof_function key = {.name = pprof_string(p, name),
                                 .system_name = pprof_string(p, system_name),
                                 .filename = pprof_string(p, filename),
                                 .start_line = start_line};
    if (!key.name || !key.system_name || !key.filename || functions_catch_up(p))
        return NULL;
    const void *found =
        ptrtab_find(&p->intern->functions, function_hash(&key), function_equal, &key);
    if (found)
        return own(found);
    struct pprof_function *f = pprof_append_function(p);
    if (!f)
        return NULL;
    key.id = f->id;
    *f = key;
    return functions_catch_up(p) ? NULL : f;
}

// --- Locations

struct pprof_location *pprof_append_location(struct pprof_profile *p)
{
    struct pprof_location **table =
        reserve(p, p->locations, p->location_count, &p->location_capacity, sizeof *table);
    struct pprof_location *l = arena_alloc(&p->arena, sizeof *l);
    if (!table || !l)
        return NULL;
    p->locations = table;
    table[p->location_count++] = l;
    l->id = p->location_count;
    return l;
}

static uint64_t location_hash(const struct pprof_location *l)
{
    uint64_t h = ptrtab_mix(ptrtab_seed(), (uintptr_t)l->mapping);
    h = ptrtab_mix(h, l->address);
    h = ptrtab_mix(h, l->line_count * UINT64_C(2) + l->is_folded);
    for (uint32_t i = 0; i < l->line_count; i++) {
        h = ptrtab_mix(h, (uintptr_t)l->lines[i].function);
        h = ptrtab_mix(h, (uint64_t)l->lines[i].line);
        h = ptrtab_mix(h, (uint64_t)l->lines[i].column);
    }
    return h;
}

static bool location_equal(const void *item, const void *key)
{
    const struct pprof_location *a = item, *b = key;
    if (a->mapping != b->mapping || a->address != b->address || a->is_folded != b->is_folded ||
        a->line_count != b->line_count)
        return false;
    for (uint32_t i = 0; i < a->line_count; i++)
        if (a->lines[i].function != b->lines[i].function || a->lines[i].line != b->lines[i].line ||
            a->lines[i].column != b->lines[i].column)
            return false;
    return true;
}

static int locations_catch_up(struct pprof_profile *p)
{
    struct pprof_intern *in = p->intern;
    for (; in->locations_indexed < p->location_count; in->locations_indexed++) {
        const struct pprof_location *l = p->locations[in->locations_indexed];
        if (ptrtab_add(&in->locations, location_hash(l), l))
            return -ENOMEM;
    }
    return 0;
}

static int copy_lines(struct pprof_profile *p, struct pprof_location *l,
                      const struct pprof_line *lines, uint32_t line_count)
{
    struct pprof_line *copy = NULL;
    if (line_count) {
        copy = arena_array(&p->arena, line_count, sizeof *copy);
        if (!copy)
            return -ENOMEM;
        memcpy(copy, lines, line_count * sizeof *copy);
    }
    l->lines = copy;
    l->line_count = line_count;
    return 0;
}

struct pprof_location *pprof_intern_location_as(struct pprof_profile *p, struct pprof_mapping *m,
                                                uint64_t address, bool is_folded,
                                                const struct pprof_line *lines, uint32_t line_count)
{
    struct pprof_location key = {
        .mapping = m,
        .address = address,
        .is_folded = is_folded,
        .lines = own(lines),
        .line_count = line_count,
    };
    if (locations_catch_up(p))
        return NULL;
    const void *found =
        ptrtab_find(&p->intern->locations, location_hash(&key), location_equal, &key);
    if (found)
        return own(found);
    struct pprof_location *l = pprof_append_location(p);
    if (!l)
        return NULL;
    l->mapping = m;
    l->address = address;
    l->is_folded = is_folded;
    if (copy_lines(p, l, lines, line_count) || locations_catch_up(p))
        return NULL;
    return l;
}

struct pprof_location *pprof_intern_location(struct pprof_profile *p, struct pprof_mapping *m,
                                             uint64_t address, const struct pprof_line *lines,
                                             uint32_t line_count)
{
    return pprof_intern_location_as(p, m, address, false, lines, line_count);
}

int pprof_set_lines(struct pprof_profile *p, struct pprof_location *l,
                    const struct pprof_line *lines, uint32_t line_count)
{
    if (line_count && !lines)
        return -EINVAL;
    bool indexed = l->id && l->id <= p->intern->locations_indexed;
    if (indexed)
        ptrtab_remove(&p->intern->locations, location_hash(l), l);
    int rc = copy_lines(p, l, lines, line_count);
    if (indexed && ptrtab_add(&p->intern->locations, location_hash(l), l))
        rc = -ENOMEM;
    return rc;
}

// --- Samples

int pprof_push_sample(struct pprof_profile *p, struct pprof_sample *s)
{
    struct pprof_sample **table =
        reserve(p, p->samples, p->sample_count, &p->sample_capacity, sizeof *table);
    if (!table)
        return -ENOMEM;
    p->samples = table;
    table[p->sample_count++] = s;
    return 0;
}

// Copies labels with their strings interned. Those that say nothing are left out, as reading them
// back would. Returns how many are in out, or -1 without memory.
static int64_t intern_labels(struct pprof_profile *p, struct pprof_label *out,
                             const struct pprof_label *labels, uint32_t label_count)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < label_count; i++) {
        struct pprof_label l = labels[i];
        bool is_number = !l.str || l.str[0] == '\0';
        bool has_unit = is_number && l.num_unit && l.num_unit[0];
        if (is_number && !has_unit && l.num == 0)
            continue;
        l.key = pprof_string(p, l.key);
        l.str = pprof_string(p, l.str);
        l.num = is_number ? l.num : 0;
        l.num_unit = pprof_string(p, has_unit ? l.num_unit : NULL);
        if (!l.key || !l.str || !l.num_unit)
            return -1;
        out[n++] = l;
    }
    return n;
}

// One block holds the sample and its arrays: pointers first, so that all are aligned.
static struct pprof_sample *sample_new(struct pprof_profile *p,
                                       struct pprof_location *const *locations,
                                       uint32_t location_count, const int64_t *values,
                                       uint32_t label_count)
{
    size_t locations_bytes = location_count * sizeof(struct pprof_location *);
    size_t values_bytes = p->sample_type_count * sizeof(int64_t);
    char *block = arena_alloc(&p->arena, sizeof(struct pprof_sample) +
                                             label_count * sizeof(struct pprof_label) +
                                             locations_bytes + values_bytes);
    if (!block)
        return NULL;
    struct pprof_sample *s = (struct pprof_sample *)(void *)block;
    s->labels = (struct pprof_label *)(void *)(s + 1);
    s->locations = (struct pprof_location **)(void *)(s->labels + label_count);
    s->values = (int64_t *)(void *)(s->locations + location_count);
    s->location_count = location_count;
    s->label_count = label_count;
    if (location_count)
        memcpy(s->locations, locations, locations_bytes);
    if (values_bytes)
        memcpy(s->values, values, values_bytes);
    return s;
}

struct pprof_sample *pprof_append_sample(struct pprof_profile *p,
                                         struct pprof_location *const *locations,
                                         uint32_t location_count, const int64_t *values,
                                         const struct pprof_label *labels, uint32_t label_count)
{
    struct pprof_sample *s = sample_new(p, locations, location_count, values, label_count);
    int64_t kept = s ? intern_labels(p, s->labels, labels, label_count) : -1;
    if (kept < 0)
        return NULL;
    s->label_count = (uint32_t)kept;
    return pprof_push_sample(p, s) ? NULL : s;
}

struct ranked_label {
    struct pprof_label label;
    uint32_t rank;
};

// String labels by key, then numeric ones by key; equal keys stay in the given order.
static int label_order(const struct pprof_label *a, const struct pprof_label *b)
{
    bool a_is_number = a->str[0] == '\0', b_is_number = b->str[0] == '\0';
    if (a_is_number != b_is_number)
        return a_is_number - b_is_number;
    return a->key == b->key ? 0 : strcmp(a->key, b->key);
}

static int ranked_order(const void *x, const void *y)
{
    const struct ranked_label *a = x, *b = y;
    int c = label_order(&a->label, &b->label);
    return c ? c : (a->rank > b->rank) - (a->rank < b->rank);
}

static int sort_labels(struct pprof_label *labels, uint32_t n)
{
    if (n <= 16) {
        for (uint32_t i = 1; i < n; i++)
            for (uint32_t j = i; j > 0 && label_order(&labels[j - 1], &labels[j]) > 0; j--) {
                struct pprof_label t = labels[j];
                labels[j] = labels[j - 1];
                labels[j - 1] = t;
            }
        return 0;
    }
    struct ranked_label *ranked = calloc(n, sizeof *ranked);
    if (!ranked)
        return -ENOMEM;
    for (uint32_t i = 0; i < n; i++)
        ranked[i] = (struct ranked_label){.label = labels[i], .rank = i};
    qsort(ranked, n, sizeof *ranked, ranked_order);
    for (uint32_t i = 0; i < n; i++)
        labels[i] = ranked[i].label;
    free(ranked);
    return 0;
}

// The labels must be sorted, as those of all samples in the hash table are.
static uint64_t sample_hash(const struct pprof_sample *s)
{
    const struct pprof_label *labels = s->labels;
    uint64_t h = ptrtab_mix(ptrtab_seed(), s->location_count);
    for (uint32_t i = 0; i < s->location_count; i++)
        h = ptrtab_mix(h, (uintptr_t)s->locations[i]);
    for (uint32_t i = 0; i < s->label_count; i++) {
        h = ptrtab_mix(h, (uintptr_t)labels[i].key);
        h = ptrtab_mix(h, (uintptr_t)labels[i].str);
        h = ptrtab_mix(h, (uint64_t)labels[i].num);
        h = ptrtab_mix(h, (uintptr_t)labels[i].num_unit);
    }
    return h;
}

static bool labels_equal(const struct pprof_label *a, const struct pprof_label *b, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (a[i].key != b[i].key || a[i].str != b[i].str || a[i].num != b[i].num ||
            a[i].num_unit != b[i].num_unit)
            return false;
    return true;
}

static bool sample_equal(const void *item, const void *key)
{
    const struct pprof_sample *a = item, *b = key;
    return a->location_count == b->location_count && a->label_count == b->label_count &&
           (a->location_count == 0 ||
            memcmp(a->locations, b->locations, a->location_count * sizeof *a->locations) == 0) &&
           labels_equal(a->labels, b->labels, a->label_count);
}

static int label_scratch(struct pprof_intern *in, uint32_t n)
{
    if (n <= in->label_scratch_capacity)
        return 0;
    struct pprof_label *grown = realloc(in->label_scratch, (size_t)n * sizeof *grown);
    if (!grown)
        return -ENOMEM;
    in->label_scratch = grown;
    in->label_scratch_capacity = n;
    return 0;
}

// Sorts the labels of samples that were appended: their order means nothing.
static int samples_catch_up(struct pprof_profile *p)
{
    struct pprof_intern *in = p->intern;
    for (; in->samples_indexed < p->sample_count; in->samples_indexed++) {
        struct pprof_sample *s = p->samples[in->samples_indexed];
        if (sort_labels(s->labels, s->label_count) || ptrtab_add(&in->samples, sample_hash(s), s))
            return -ENOMEM;
    }
    return 0;
}

int pprof_add_sample(struct pprof_profile *p, struct pprof_location *const *locations,
                     uint32_t location_count, const int64_t *values,
                     const struct pprof_label *labels, uint32_t label_count)
{
    struct pprof_intern *in = p->intern;
    if (!p->sample_type_count || (location_count && !locations) || (label_count && !labels))
        return -EINVAL;
    if (samples_catch_up(p) || label_scratch(in, label_count))
        return -ENOMEM;
    int64_t kept = intern_labels(p, in->label_scratch, labels, label_count);
    if (kept < 0 || sort_labels(in->label_scratch, (uint32_t)kept))
        return -ENOMEM;
    label_count = (uint32_t)kept;
    struct pprof_sample key = {.locations = own(locations),
                               .labels = in->label_scratch,
                               .location_count = location_count,
                               .label_count = label_count};
    uint64_t hash = sample_hash(&key);
    struct pprof_sample *s = own(ptrtab_find(&in->samples, hash, sample_equal, &key));
    if (s) {
        for (size_t i = 0; i < p->sample_type_count; i++)
            if (__builtin_add_overflow(s->values[i], values[i], &s->values[i]))
                s->values[i] = values[i] < 0 ? INT64_MIN : INT64_MAX;
        return 0;
    }
    s = sample_new(p, locations, location_count, values, label_count);
    if (!s)
        return -ENOMEM;
    if (label_count)
        memcpy(s->labels, in->label_scratch, label_count * sizeof *s->labels);
    return pprof_push_sample(p, s) || samples_catch_up(p) ? -ENOMEM : 0;
}

void pprof_reindex(struct pprof_profile *p)
{
    struct pprof_intern *in = p->intern;
    ptrtab_finish(&in->functions);
    ptrtab_finish(&in->locations);
    ptrtab_finish(&in->samples);
    in->functions_indexed = in->locations_indexed = in->samples_indexed = 0;
    for (size_t i = 0; i < p->mapping_count; i++)
        p->mappings[i]->id = i + 1;
    for (size_t i = 0; i < p->function_count; i++)
        p->functions[i]->id = i + 1;
    for (size_t i = 0; i < p->location_count; i++)
        p->locations[i]->id = i + 1;
}
