// SPDX-License-Identifier: MIT
//
// Collecting the call paths of both sides. See paths.h; matching is in paths_match.c.

#include "analysis/paths_internal.h"
#include "analysis/statistics.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_BYTES = 4096 };

static bool equal_text(const void *item, const void *key)
{
    return !strcmp(item, key);
}

static const char *intern(struct paths *p, const char *text)
{
    uint64_t hash = ptrtab_hash_bytes(text, strlen(text));
    const char *found = ptrtab_find(&p->keys, hash, equal_text, text);
    if (found)
        return found;
    char *copy = arena_strdup(&p->arena, text);
    return copy && !ptrtab_add(&p->keys, hash, copy) ? copy : NULL;
}

// The key of each name is worked out once; names are interned per profile, so a pointer stands for
// its text.
struct name {
    const char *name, *key;
    bool is_part; // the compiler split it off its function
};

static bool equal_name(const void *item, const void *key)
{
    return ((const struct name *)item)->name == key;
}

static const struct name *name_of(struct paths *p, const char *text)
{
    char buf[NAME_BYTES];
    uint64_t hash = ptrtab_mix(17, (uintptr_t)text);
    const struct name *found = ptrtab_find(&p->names, hash, equal_name, text);
    if (found)
        return found;
    struct name *n = arena_alloc(&p->arena, sizeof *n);
    if (!n)
        return NULL;
    n->name = text;
    n->is_part = strstr(text, ".part") || strstr(text, ".cold");
    n->key = intern(p, paths_normalise(buf, sizeof buf, text));
    return n->key && !ptrtab_add(&p->names, hash, n) ? n : NULL;
}

// Code without a symbol is named by its file: offsets differ from build to build.
static const char *module_key(struct paths *p, const struct pprof_location *l)
{
    char buf[300];
    const char *file = l->mapping ? l->mapping->file : "";
    const char *slash = strrchr(file, '/');
    snprintf(buf, sizeof buf, "[%.250s]", slash ? slash + 1 : *file ? file : "unknown");
    return intern(p, buf);
}

struct stack {
    const char *keys[PATHS_DEPTH_MAX]; // leaf first
    struct paths_frame frames[PATHS_DEPTH_MAX];
    bool is_part[PATHS_DEPTH_MAX];
    uint32_t depth;
};

static void push(struct stack *s, const char *key, bool is_part, struct paths_frame f)
{
    if (s->depth == PATHS_DEPTH_MAX)
        return;
    // A part below its own function is that function; a run of unnamed code is one frame.
    if (s->depth && s->keys[s->depth - 1] == key &&
        (s->is_part[s->depth - 1] || is_part || key[0] == '[')) {
        s->is_part[s->depth - 1] &= is_part;
        return;
    }
    s->keys[s->depth] = key;
    s->is_part[s->depth] = is_part;
    s->frames[s->depth++] = f;
}

static int expand(struct paths *p, const struct pprof_sample *sample, struct stack *s)
{
    s->depth = 0;
    for (uint32_t i = 0; i < sample->location_count; i++) {
        const struct pprof_location *l = sample->locations[i];
        if (!l->line_count) {
            const char *key = module_key(p, l);
            if (!key)
                return -ENOMEM;
            push(s, key, false, (struct paths_frame){.name = key, .file = ""});
        }
        for (uint32_t j = 0; j < l->line_count; j++) {
            const struct pprof_function *f = l->lines[j].function;
            const struct name *n = name_of(p, f->name[0] ? f->name : f->system_name);
            if (!n)
                return -ENOMEM;
            push(s, n->key, n->is_part,
                 (struct paths_frame){
                     .name = n->name, .file = f->filename, .line = l->lines[j].line});
        }
    }
    return 0;
}

static bool equal_keys(const void *item, const void *key)
{
    const struct paths_path *a = item;
    const struct stack *b = key;
    if (a->depth != b->depth)
        return false;
    for (uint32_t i = 0; i < a->depth; i++) {
        if (a->keys[i] != b->keys[a->depth - 1 - i])
            return false;
    }
    return true;
}

static int add_to_table(struct paths *p, struct paths_path *path)
{
    if (p->path_count == p->path_capacity) {
        size_t more = p->path_capacity ? 2 * p->path_capacity : 64;
        struct paths_path **grown = realloc(p->paths, more * sizeof(struct paths_path *));
        if (!grown)
            return -ENOMEM;
        p->paths = grown;
        p->path_capacity = more;
    }
    path->parent = (uint32_t)p->path_count;
    p->paths[p->path_count++] = path;
    return 0;
}

static struct paths_path *path_of(struct paths *p, const struct stack *s)
{
    uint64_t hash = s->depth;
    for (uint32_t i = 0; i < s->depth; i++)
        hash = ptrtab_mix(hash, (uintptr_t)s->keys[i]);
    const struct paths_path *found = ptrtab_find(&p->by_keys, hash, equal_keys, s);
    if (found)
        return p->paths[found->parent];
    struct paths_path *path = arena_alloc(&p->arena, sizeof *path);
    if (!path)
        return NULL;
    path->depth = s->depth;
    path->keys = arena_array(&p->arena, s->depth + 1, sizeof(char *));
    path->frames = arena_array(&p->arena, s->depth + 1, sizeof *path->frames);
    path->values = arena_array(&p->arena, p->runs, sizeof *path->values);
    if (!path->keys || !path->frames || !path->values)
        return NULL;
    for (uint32_t i = 0; i < s->depth; i++) {
        path->keys[i] = s->keys[s->depth - 1 - i];
        path->frames[i] = s->frames[s->depth - 1 - i];
    }
    if (add_to_table(p, path) || ptrtab_add(&p->by_keys, hash, path))
        return NULL;
    return path;
}

static void add_value(struct paths *p, struct paths_path *path, size_t run, int64_t value,
                      const struct stack *s)
{
    bool is_new = run >= p->base_runs;
    int64_t size = value < 0 ? -(value + 1) : value;
    if (__builtin_add_overflow(path->values[run], value, &path->values[run]))
        path->values[run] = value < 0 ? INT64_MIN : INT64_MAX;
    if (is_new < path->frames_are_new || (is_new == path->frames_are_new && size <= path->heaviest))
        return;
    path->frames_are_new = is_new;
    path->heaviest = size;
    for (uint32_t i = 0; i < s->depth; i++)
        path->frames[i] = s->frames[s->depth - 1 - i];
}

static int collect_run(struct paths *p, const struct paths_input *in, size_t run, struct stack *s,
                       struct fscope_error *err)
{
    const struct pprof_profile *profile =
        run < p->base_runs ? in->base[run] : in->now[run - p->base_runs];
    size_t index = 0;
    while (index < profile->sample_type_count &&
           strcmp(profile->sample_types[index].type, in->type) != 0)
        index++;
    if (index == profile->sample_type_count)
        return error_set(err, -ENOENT, 0, "run %zu of the %s has no %s", run + 1,
                         run < p->base_runs ? "baseline" : "new profiles", in->type);
    for (size_t i = 0; i < profile->sample_count; i++) {
        const struct pprof_sample *sample = profile->samples[i];
        int64_t value = sample->values[index];
        if (!value || (in->keep && !in->keep(in->arg, sample)))
            continue;
        struct paths_path *path = expand(p, sample, s) ? NULL : path_of(p, s);
        if (!path)
            return error_set(err, -ENOMEM, 0, "out of memory");
        add_value(p, path, run, value, s);
    }
    return 0;
}

double paths_median(const int64_t *values, size_t n, double *scratch)
{
    for (size_t i = 0; i < n; i++)
        scratch[i] = (double)values[i];
    return statistics_spread(scratch, n).median;
}

int paths_build(struct paths *p, const struct paths_input *in, struct fscope_error *err)
{
    int rc = 0;
    *p = (struct paths){.base_runs = in->base_count, .runs = in->base_count + in->now_count};
    struct stack *s = malloc(sizeof *s);
    double *scratch = calloc(p->runs + 1, sizeof *scratch);
    if (!s || !scratch)
        rc = error_set(err, -ENOMEM, 0, "out of memory");
    for (size_t run = 0; run < p->runs && !rc; run++)
        rc = collect_run(p, in, run, s, err);
    for (size_t i = 0; i < p->path_count && !rc; i++) {
        struct paths_path *path = p->paths[i];
        path->base = paths_median(path->values, p->base_runs, scratch);
        path->now = paths_median(path->values + p->base_runs, p->runs - p->base_runs, scratch);
    }
    if (!rc && paths_match(p))
        rc = error_set(err, -ENOMEM, 0, "out of memory");
    free(scratch);
    free(s);
    return rc;
}

void paths_finish(struct paths *p)
{
    ptrtab_finish(&p->by_keys);
    ptrtab_finish(&p->names);
    ptrtab_finish(&p->keys);
    free(p->paths);
    arena_finish(&p->arena);
    *p = (struct paths){0};
}
