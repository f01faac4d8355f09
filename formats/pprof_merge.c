// SPDX-License-Identifier: MIT
//
// Merging profiles as google/pprof's profile.Merge and CompatibilizeSampleTypes define it.
//
// A location is moved to the merged mapping's addresses; two are equal when the moved addresses and
// lines are. So the same code at different load addresses becomes one, which is the point.

#include "formats/pprof_internal.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct mapped {
    struct pprof_mapping *mapping;
    uint64_t moved_by; // added to an address, wrapping
};

struct merger {
    struct pprof_profile *out;
    struct ptrtab mappings; // of out, by what makes two equal
    // What each thing of the profile being read has become; zero: not yet.
    struct mapped *mapped;
    struct pprof_function **functions;
    struct pprof_location **locations;
    size_t *types;  // [out->sample_type_count]: index in the profile being read
    double *ratios; // [out->sample_type_count]: its unit in ours
    struct pprof_line *lines;
    size_t line_capacity;
    struct pprof_location **stack;
    size_t stack_capacity;
    int64_t *values;
};

// --- Units

struct unit {
    const char *name, *shorter;
    double size;
};

// Families end with a NULL name. 1024 for bytes, as google/pprof has it.
static const struct unit units[] = {
    {"nanosecond", "ns", 1},
    {"microsecond", "us", 1e3},
    {"millisecond", "ms", 1e6},
    {"second", "s", 1e9},
    {"hour", "hr", 3600e9},
    {0},
    {"byte", "b", 1},
    {"kilobyte", "kb", 0x1p10},
    {"megabyte", "mb", 0x1p20},
    {"gigabyte", "gb", 0x1p30},
    {"terabyte", "tb", 0x1p40},
    {"petabyte", "pb", 0x1p50},
    {0},
};

enum { UNIT_COUNT = sizeof units / sizeof units[0] };

// Index in units, UNIT_COUNT if it is not there. A plural is the same unit.
static size_t find_unit(const char *name)
{
    size_t n = strlen(name);
    if (n > 2 && (name[n - 1] == 's' || name[n - 1] == 'S'))
        n--;
    for (size_t i = 0; i < UNIT_COUNT; i++)
        if (units[i].name &&
            ((strlen(units[i].name) == n && strncasecmp(units[i].name, name, n) == 0) ||
             strcasecmp(units[i].shorter, name) == 0))
            return i;
    return UNIT_COUNT;
}

double pprof_unit_ratio(const char *from, const char *to)
{
    if (strcmp(from, to) == 0)
        return 1;
    size_t a = find_unit(from), b = find_unit(to);
    if (a == UNIT_COUNT || b == UNIT_COUNT)
        return 0;
    for (size_t i = a < b ? a : b; i < (a < b ? b : a); i++)
        if (!units[i].name)
            return 0;
    return units[a].size / units[b].size;
}

static int64_t scaled(int64_t v, double ratio)
{
    if (ratio == 1)
        return v;
    double d = round((double)v * ratio);
    // 2^63 is exact in a double, and what lies beyond does not convert.
    return d >= 0x1p63 ? INT64_MAX : d <= -0x1p63 ? INT64_MIN : (int64_t)d;
}

// --- Mappings

// Load addresses differ between runs and the end may be rounded, so: size in pages, offset,
// identity.
static uint64_t pages(const struct pprof_mapping *m)
{
    return (m->limit - m->start + 0xfff) & ~UINT64_C(0xfff);
}

static const char *identity(const struct pprof_mapping *m)
{
    return m->build_id[0] ? m->build_id : m->file;
}

static uint64_t mapping_hash(const struct pprof_mapping *m)
{
    const char *s = identity(m);
    return ptrtab_mix(ptrtab_mix(ptrtab_hash_bytes(s, strlen(s)), pages(m)), m->offset);
}

static bool mapping_equal(const void *item, const void *key)
{
    const struct pprof_mapping *a = item, *b = key;
    return pages(a) == pages(b) && a->offset == b->offset && strcmp(identity(a), identity(b)) == 0;
}

static struct mapped *merge_mapping(struct merger *m, const struct pprof_mapping *src)
{
    struct mapped *to = &m->mapped[src->id - 1];
    if (to->mapping)
        return to;
    uint64_t hash = mapping_hash(src);
    const struct pprof_mapping *found = ptrtab_find(&m->mappings, hash, mapping_equal, src);
    if (found) {
        to->mapping = m->out->mappings[found->id - 1];
        to->moved_by = found->start - src->start;
        return to;
    }
    struct pprof_mapping *n =
        pprof_add_mapping(m->out, src->start, src->limit, src->offset, src->file, src->build_id);
    if (!n || ptrtab_add(&m->mappings, hash, n))
        return NULL;
    n->has_functions = src->has_functions;
    n->has_filenames = src->has_filenames;
    n->has_line_numbers = src->has_line_numbers;
    n->has_inline_frames = src->has_inline_frames;
    to->mapping = n;
    return to;
}

// --- Functions, locations, samples

static struct pprof_function *merge_function(struct merger *m, const struct pprof_function *src)
{
    struct pprof_function **to = &m->functions[src->id - 1];
    if (!*to)
        *to = pprof_intern_function(m->out, src->name, src->system_name, src->filename,
                                    src->start_line);
    return *to;
}

// Room for n elements in a scratch array. 0 or -ENOMEM.
static int scratch(void **array, size_t *capacity, size_t n, size_t size_bytes)
{
    if (n <= *capacity)
        return 0;
    void *grown = realloc(*array, n * size_bytes);
    if (!grown)
        return -ENOMEM;
    *array = grown;
    *capacity = n;
    return 0;
}

static struct pprof_location *merge_location(struct merger *m, const struct pprof_location *src)
{
    struct pprof_location **to = &m->locations[src->id - 1];
    if (*to)
        return *to;
    struct mapped *mapped = src->mapping ? merge_mapping(m, src->mapping) : NULL;
    if (src->mapping && !mapped)
        return NULL;
    void *lines = m->lines;
    int rc = scratch(&lines, &m->line_capacity, src->line_count, sizeof *m->lines);
    m->lines = lines;
    if (rc)
        return NULL;
    for (uint32_t i = 0; i < src->line_count; i++) {
        m->lines[i] = src->lines[i];
        m->lines[i].function = merge_function(m, src->lines[i].function);
        if (!m->lines[i].function)
            return NULL;
    }
    uint64_t address = src->address + (mapped ? mapped->moved_by : 0);
    *to = pprof_intern_location_as(m->out, mapped ? mapped->mapping : NULL, address, src->is_folded,
                                   m->lines, src->line_count);
    return *to;
}

static int merge_sample(struct merger *m, const struct pprof_sample *src)
{
    bool zero = true;
    for (size_t i = 0; i < m->out->sample_type_count; i++) {
        m->values[i] = scaled(src->values[m->types[i]], m->ratios[i]);
        zero = zero && m->values[i] == 0;
    }
    if (zero)
        return 0;
    void *stack = m->stack;
    int rc = scratch(&stack, &m->stack_capacity, src->location_count, sizeof *m->stack);
    m->stack = stack;
    if (rc)
        return rc;
    for (uint32_t i = 0; i < src->location_count; i++) {
        m->stack[i] = merge_location(m, src->locations[i]);
        if (!m->stack[i])
            return -ENOMEM;
    }
    return pprof_add_sample(m->out, m->stack, src->location_count, m->values, src->labels,
                            src->label_count);
}

static size_t find_type(const struct pprof_profile *p, const char *type)
{
    size_t i = 0;
    while (i < p->sample_type_count && strcmp(p->sample_types[i].type, type) != 0)
        i++;
    return i;
}

static int merge_one(struct merger *m, const struct pprof_profile *src)
{
    int rc = -ENOMEM;
    m->mapped = calloc(src->mapping_count + 1, sizeof *m->mapped);
    m->functions = calloc(src->function_count + 1, sizeof *m->functions);
    m->locations = calloc(src->location_count + 1, sizeof *m->locations);
    if (!m->mapped || !m->functions || !m->locations)
        goto done;
    for (size_t i = 0; i < m->out->sample_type_count; i++) {
        m->types[i] = find_type(src, m->out->sample_types[i].type);
        m->ratios[i] =
            pprof_unit_ratio(src->sample_types[m->types[i]].unit, m->out->sample_types[i].unit);
    }
    // The first mapping is the main binary, by convention, and stays first.
    if (m->out->mapping_count == 0 && src->mapping_count && !merge_mapping(m, src->mappings[0]))
        goto done;
    rc = 0;
    for (size_t i = 0; !rc && i < src->sample_count; i++)
        rc = merge_sample(m, src->samples[i]);

done:
    free(m->mapped);
    free(m->functions);
    free(m->locations);
    return rc;
}

// --- Headers

static bool same_pointer(const void *item, const void *key)
{
    return item == key;
}

// Adds the comments that are not there yet. seen has those that are: strings interned in out.
static int unite_comments(struct pprof_profile *out, const struct pprof_profile *in,
                          struct ptrtab *seen)
{
    for (size_t i = 0; i < in->comment_count; i++) {
        const char *s = pprof_string(out, in->comments[i]);
        uint64_t hash = ptrtab_mix(0, (uintptr_t)s);
        if (s && ptrtab_find(seen, hash, same_pointer, s))
            continue;
        if (!s || ptrtab_add(seen, hash, s) || pprof_add_comment(out, s))
            return -ENOMEM;
    }
    return 0;
}

// The default that a profile has once its sample types are those of out, as in Go: one whose types
// had to be changed gets the first if its own is gone, or if it had none.
static const char *default_type_in(const struct pprof_profile *in, const struct pprof_profile *out)
{
    bool changed = in->sample_type_count != out->sample_type_count;
    for (size_t i = 0; !changed && i < out->sample_type_count; i++)
        changed = strcmp(in->sample_types[i].type, out->sample_types[i].type) != 0;
    bool gone = find_type(out, in->default_sample_type) == out->sample_type_count;
    return changed && gone ? out->sample_types[0].type : in->default_sample_type;
}

static bool measures(const struct pprof_profile *p, const char *type)
{
    for (size_t i = 0; i < p->sample_type_count; i++) {
        if (!strcmp(p->sample_types[i].type, type))
            return true;
    }
    return false;
}

// Names the first profile that does not measure what the first one does; there is one.
static int nothing_in_common(struct pprof_profile *const *in, size_t n, struct fscope_error *err)
{
    const char *first = in[0]->sample_type_count ? in[0]->sample_types[0].type : "nothing";
    size_t j = 1;
    while (j + 1 < n && measures(in[j], first))
        j++;
    const char *other = n > j && in[j]->sample_type_count ? in[j]->sample_types[0].type : "nothing";
    return error_set(err, -EINVAL, 0,
                     "the %zu profiles have no sample type in common: the first measures %s, "
                     "number %zu %s; report on them one by one",
                     n, first, j + 1, other);
}

// The sample types of the first that all others have too, in its order, each in the smallest of
// its units, which loses nothing.
static int merge_types(struct pprof_profile *out, struct pprof_profile *const *in, size_t n,
                       struct fscope_error *err)
{
    const struct pprof_profile *first = in[0];
    for (size_t i = 0; i < first->sample_type_count; i++) {
        struct pprof_value_type t = first->sample_types[i];
        size_t have = 1;
        for (size_t j = 1; j < n; j++) {
            size_t k = find_type(in[j], t.type);
            if (k == in[j]->sample_type_count)
                continue;
            const char *unit = in[j]->sample_types[k].unit;
            double ratio = pprof_unit_ratio(unit, t.unit);
            if (ratio == 0)
                return error_set(err, -EINVAL, 0, "profile %zu measures %s in %s, the first in %s",
                                 j + 1, t.type, unit, t.unit);
            t.unit = ratio < 1 ? unit : t.unit;
            have++;
        }
        if (have == n && pprof_add_sample_type(out, t.type, t.unit))
            return error_set(err, -ENOMEM, 0, "out of memory");
    }
    return out->sample_type_count ? 0 : nothing_in_common(in, n, err);
}

// What all periods are of, in the smallest of the units.
static int merge_period_type(struct pprof_value_type *type, struct pprof_profile *const *in,
                             size_t n, struct fscope_error *err)
{
    *type = in[0]->period_type;
    for (size_t i = 1; i < n; i++) {
        struct pprof_value_type t = in[i]->period_type;
        double ratio = strcmp(t.type, type->type) == 0 ? pprof_unit_ratio(t.unit, type->unit) : 0;
        if (ratio == 0)
            return error_set(err, -EINVAL, 0,
                             "profile %zu has period type %s/%s, the first %s/%s; they cannot be "
                             "merged",
                             i + 1, t.type, t.unit, type->type, type->unit);
        type->unit = ratio < 1 ? t.unit : type->unit;
    }
    return 0;
}

static int merge_headers(struct pprof_profile *out, struct pprof_profile *const *in, size_t n,
                         struct fscope_error *err)
{
    const struct pprof_profile *first = in[0];
    struct pprof_value_type period_type;
    int rc = merge_period_type(&period_type, in, n, err);
    if (!rc)
        rc = merge_types(out, in, n, err);
    if (rc)
        return rc;
    const char *default_type = "", *doc_url = "";
    struct ptrtab seen = {0};
    for (size_t i = 0; i < n; i++) {
        if (out->time_nanos == 0 || in[i]->time_nanos < out->time_nanos)
            out->time_nanos = in[i]->time_nanos;
        out->duration_nanos =
            (int64_t)((uint64_t)out->duration_nanos + (uint64_t)in[i]->duration_nanos);
        int64_t period =
            scaled(in[i]->period, pprof_unit_ratio(in[i]->period_type.unit, period_type.unit));
        if (out->period == 0 || out->period < period)
            out->period = period;
        default_type = default_type[0] ? default_type : default_type_in(in[i], out);
        doc_url = doc_url[0] ? doc_url : in[i]->doc_url;
        rc = rc ? rc : unite_comments(out, in[i], &seen);
    }
    ptrtab_finish(&seen);
    const char **strings[] = {&out->drop_frames, &out->keep_frames,      &out->default_sample_type,
                              &out->doc_url,     &out->period_type.type, &out->period_type.unit};
    const char *texts[] = {first->drop_frames, first->keep_frames, default_type, doc_url,
                           period_type.type,   period_type.unit};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        const char *s = pprof_string(out, texts[i]);
        if (s)
            *strings[i] = s;
        else
            rc = -ENOMEM;
    }
    return rc ? error_set(err, rc, 0, "out of memory") : 0;
}

static int merge_all(struct pprof_profile **out, struct pprof_profile *const *in, size_t n,
                     struct fscope_error *err)
{
    struct merger m = {.out = pprof_new()};
    if (!m.out)
        return error_set(err, -ENOMEM, 0, "out of memory");
    int rc = merge_headers(m.out, in, n, err);
    if (rc)
        goto done;
    rc = -ENOMEM;
    m.types = calloc(m.out->sample_type_count, sizeof *m.types);
    m.values = calloc(m.out->sample_type_count, sizeof *m.values);
    m.ratios = calloc(m.out->sample_type_count, sizeof *m.ratios);
    if (!m.types || !m.values || !m.ratios)
        goto done;
    rc = 0;
    for (size_t i = 0; !rc && i < n; i++)
        rc = merge_one(&m, in[i]);
    if (rc)
        error_set(err, rc, 0, "merging profiles: %s", strerror(-rc));

done:
    free(m.types);
    free(m.values);
    free(m.ratios);
    free(m.lines);
    free(m.stack);
    ptrtab_finish(&m.mappings);
    if (rc)
        pprof_free(m.out);
    else
        *out = m.out;
    return rc;
}

static bool has_zero_sample(const struct pprof_profile *p)
{
    for (size_t i = 0; i < p->sample_count; i++) {
        size_t j = 0;
        while (j < p->sample_type_count && p->samples[i]->values[j] == 0)
            j++;
        if (j == p->sample_type_count)
            return true;
    }
    return false;
}

int pprof_merge(struct pprof_profile **out, struct pprof_profile *const *profiles, size_t n,
                struct fscope_error *err)
{
    *out = NULL;
    if (n == 0)
        return error_set(err, -EINVAL, 0, "no profiles to merge");
    for (size_t i = 0; i < n; i++) {
        int rc = pprof_check(profiles[i], err);
        if (rc) {
            error_prefix(err, "profile %zu", i + 1);
            return rc;
        }
    }
    struct pprof_profile *merged;
    int rc = merge_all(&merged, profiles, n, err);
    if (rc)
        return rc;
    if (!has_zero_sample(merged)) {
        *out = merged;
        return 0;
    }
    // Samples that cancelled out (a difference) leave locations nobody refers to: once more.
    rc = merge_all(out, &merged, 1, err);
    pprof_free(merged);
    return rc;
}

void pprof_scale(struct pprof_profile *p, const double *ratios)
{
    for (size_t i = 0; i < p->sample_count; i++)
        for (size_t j = 0; j < p->sample_type_count; j++)
            p->samples[i]->values[j] = scaled(p->samples[i]->values[j], ratios[j]);
}
