// SPDX-License-Identifier: MIT
//
// The invariants of a profile, and what a user means by a sample type's name.

#include "formats/pprof_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int broken(struct fscope_error *err, const char *what, uint64_t id, const char *why)
{
    return error_set(err, -EINVAL, 0, "%s %" PRIu64 ": %s", what, id, why);
}

// Ids are table positions, so membership is one comparison.
static bool has_mapping(const struct pprof_profile *p, const struct pprof_mapping *m)
{
    return m->id >= 1 && m->id <= p->mapping_count && p->mappings[m->id - 1] == m;
}

static bool has_function(const struct pprof_profile *p, const struct pprof_function *f)
{
    return f && f->id >= 1 && f->id <= p->function_count && p->functions[f->id - 1] == f;
}

static bool has_location(const struct pprof_profile *p, const struct pprof_location *l)
{
    return l && l->id >= 1 && l->id <= p->location_count && p->locations[l->id - 1] == l;
}

static int check_header(const struct pprof_profile *p, struct fscope_error *err)
{
    if (!p->drop_frames || !p->keep_frames || !p->default_sample_type || !p->doc_url ||
        !p->period_type.type || !p->period_type.unit)
        return error_set(err, -EINVAL, 0, "profile: a string is NULL");
    for (size_t i = 0; i < p->sample_type_count; i++)
        if (!p->sample_types[i].type || !p->sample_types[i].unit)
            return broken(err, "sample type", i, "a string is NULL");
    for (size_t i = 0; i < p->comment_count; i++)
        if (!p->comments[i])
            return broken(err, "comment", i, "is NULL");
    return 0;
}

static int check_tables(const struct pprof_profile *p, struct fscope_error *err)
{
    for (size_t i = 0; i < p->mapping_count; i++) {
        const struct pprof_mapping *m = p->mappings[i];
        if (!m || m->id != i + 1)
            return broken(err, "mapping", i + 1, "has an id that is not its place in the table");
        if (!m->file || !m->build_id)
            return broken(err, "mapping", m->id, "a string is NULL");
    }
    for (size_t i = 0; i < p->function_count; i++) {
        const struct pprof_function *f = p->functions[i];
        if (!f || f->id != i + 1)
            return broken(err, "function", i + 1, "has an id that is not its place in the table");
        if (!f->name || !f->system_name || !f->filename)
            return broken(err, "function", f->id, "a string is NULL");
    }
    for (size_t i = 0; i < p->location_count; i++) {
        const struct pprof_location *l = p->locations[i];
        if (!l || l->id != i + 1)
            return broken(err, "location", i + 1, "has an id that is not its place in the table");
        if (l->mapping && !has_mapping(p, l->mapping))
            return broken(err, "location", l->id, "its mapping is not in the table");
        for (uint32_t j = 0; j < l->line_count; j++)
            if (!has_function(p, l->lines[j].function))
                return broken(err, "location", l->id, "a line's function is not in the table");
    }
    return 0;
}

static int check_sample(const struct pprof_profile *p, size_t index, struct fscope_error *err)
{
    const struct pprof_sample *s = p->samples[index];
    if (!s || !s->values)
        return broken(err, "sample", index, "has no values");
    for (uint32_t i = 0; i < s->location_count; i++)
        if (!has_location(p, s->locations[i]))
            return broken(err, "sample", index, "a location is not in the table");
    for (uint32_t i = 0; i < s->label_count; i++)
        if (!s->labels[i].key || !s->labels[i].str || !s->labels[i].num_unit)
            return broken(err, "sample", index, "a label's string is NULL");
    return 0;
}

int pprof_check(const struct pprof_profile *p, struct fscope_error *err)
{
    int rc = check_header(p, err);
    if (!rc)
        rc = check_tables(p, err);
    if (!rc && p->sample_count && !p->sample_type_count)
        rc = error_set(err, -EINVAL, 0, "profile: has samples but no sample types");
    for (size_t i = 0; !rc && i < p->sample_count; i++)
        rc = check_sample(p, i, err);
    return rc;
}

static int no_such_type(const struct pprof_profile *p, const char *name, struct fscope_error *err)
{
    char list[256] = "";
    size_t used = 0;
    for (size_t i = 0; i < p->sample_type_count && used < sizeof list; i++) {
        int n = snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "",
                         p->sample_types[i].type);
        used += n > 0 ? (size_t)n : 0;
    }
    return error_set(err, -ENOENT, 0, "no sample type '%s'; this profile has: %s", name, list);
}

int pprof_sample_index(const struct pprof_profile *p, const char *name, struct fscope_error *err)
{
    size_t n = p->sample_type_count;
    if (n == 0)
        return error_set(err, -ENOENT, 0, "the profile has no sample types");
    if (!name || !name[0]) {
        for (size_t i = 0; p->default_sample_type[0] && i < n; i++)
            if (strcmp(p->sample_types[i].type, p->default_sample_type) == 0)
                return (int)i;
        return (int)n - 1;
    }
    char *end;
    errno = 0;
    long number = strtol(name, &end, 10);
    if (*end == '\0' && !errno)
        return number >= 0 && (size_t)number < n ? (int)number : no_such_type(p, name, err);
    // Old profiles say "space" for what is called inuse_space now.
    const char *bare = strncmp(name, "inuse_", 6) == 0 ? name + 6 : name;
    for (size_t i = 0; i < n; i++)
        if (strcmp(p->sample_types[i].type, name) == 0 ||
            strcmp(p->sample_types[i].type, bare) == 0)
            return (int)i;
    return no_such_type(p, name, err);
}
