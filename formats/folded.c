// SPDX-License-Identifier: MIT
//
// Stacks are united as sequences of frame names, each name made once per location and interned, so
// that comparing stacks is comparing pointers and no line of text is kept.

#include "formats/folded.h"

#include "base/file.h"
#include "formats/pprof_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BUFFER_BYTES = 64 * 1024 };

struct frames {
    const char **names; // root first
    size_t count;
};

struct stack {
    struct frames frames;
    int64_t value;
};

struct folder {
    struct pprof_profile *own;  // its arena and strings are ours
    struct frames *by_location; // [location_count]; names NULL: not made yet
    struct ptrtab table;        // of struct stack
    struct stack **stacks;      // in order of first use
    size_t stack_count;
    const char **names; // of the sample that is being read
    size_t name_capacity;
};

// --- Names

static const char *frame_name(struct folder *f, const char *text)
{
    size_t n = strlen(text);
    char *copy = malloc(n + 1);
    if (!copy)
        return NULL;
    for (size_t i = 0; i < n; i++)
        copy[i] = text[i] == ';' ? ':' : (unsigned char)text[i] < ' ' ? ' ' : text[i];
    const char *name = pprof_stringn(f->own, copy, n);
    free(copy);
    return name;
}

static const char *unknown_name(struct folder *f, const struct pprof_location *l)
{
    char text[320];
    const struct pprof_mapping *m = l->mapping;
    if (m && m->file[0]) {
        const char *slash = strrchr(m->file, '/');
        snprintf(text, sizeof text, "%.256s+0x%" PRIx64, slash ? slash + 1 : m->file,
                 l->address - m->start + m->offset);
    } else {
        snprintf(text, sizeof text, "0x%" PRIx64, l->address);
    }
    return frame_name(f, text);
}

// The names of a location, root first: the reverse of its lines.
static const struct frames *location_frames(struct folder *f, const struct pprof_location *l)
{
    struct frames *to = &f->by_location[l->id - 1];
    if (to->names)
        return to;
    size_t n = l->line_count ? l->line_count : 1;
    const char **names = arena_array(&f->own->arena, n, sizeof *names);
    if (!names)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        const struct pprof_function *fn = l->line_count ? l->lines[n - 1 - i].function : NULL;
        names[i] = fn && fn->name[0] ? frame_name(f, fn->name) : unknown_name(f, l);
        if (!names[i])
            return NULL;
    }
    *to = (struct frames){.names = names, .count = n};
    return to;
}

// --- Stacks

static bool stack_equal(const void *item, const void *key)
{
    const struct frames *a = &((const struct stack *)item)->frames, *b = key;
    return a->count == b->count && memcmp(a->names, b->names, a->count * sizeof *a->names) == 0;
}

static int add_name(struct folder *f, size_t index, const char *name)
{
    if (index == f->name_capacity) {
        size_t more = f->name_capacity ? 2 * f->name_capacity : 256;
        const char **grown = realloc(f->names, more * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        f->names = grown;
        f->name_capacity = more;
    }
    f->names[index] = name;
    return 0;
}

static int add_stack(struct folder *f, struct frames key, int64_t value)
{
    uint64_t hash = ptrtab_hash_bytes(key.names, key.count * sizeof *key.names);
    const struct stack *found = ptrtab_find(&f->table, hash, stack_equal, &key);
    if (found) {
        struct stack *s = (struct stack *)(uintptr_t)found;
        if (__builtin_add_overflow(s->value, value, &s->value))
            s->value = value < 0 ? INT64_MIN : INT64_MAX;
        return 0;
    }
    struct stack *s = arena_alloc(&f->own->arena, sizeof *s);
    const char **names = arena_array(&f->own->arena, key.count, sizeof *names);
    if (!s || !names)
        return -ENOMEM;
    memcpy(names, key.names, key.count * sizeof *names);
    *s = (struct stack){.frames = {.names = names, .count = key.count}, .value = value};
    f->stacks[f->stack_count++] = s;
    return ptrtab_add(&f->table, hash, s);
}

static int fold_sample(struct folder *f, const struct pprof_sample *s, int64_t value)
{
    size_t n = 0;
    int rc = 0;
    for (uint32_t i = s->location_count; i > 0 && !rc; i--) {
        const struct frames *part = location_frames(f, s->locations[i - 1]);
        if (!part)
            return -ENOMEM;
        for (size_t j = 0; j < part->count && !rc; j++)
            rc = add_name(f, n++, part->names[j]);
    }
    if (n == 0)
        rc = add_name(f, n++, "[no stack]");
    return rc ? rc : add_stack(f, (struct frames){.names = f->names, .count = n}, value);
}

static int by_names(const void *x, const void *y)
{
    const struct frames *a = &(*(struct stack *const *)x)->frames;
    const struct frames *b = &(*(struct stack *const *)y)->frames;
    for (size_t i = 0; i < a->count && i < b->count; i++)
        if (a->names[i] != b->names[i]) {
            int c = strcmp(a->names[i], b->names[i]);
            if (c)
                return c;
        }
    return (a->count > b->count) - (a->count < b->count);
}

// --- Text

struct sink {
    int fd;
    int rc;
    size_t used;
    char bytes[BUFFER_BYTES];
};

static void put(struct sink *out, const char *s, size_t n)
{
    while (n && !out->rc) {
        if (out->used == BUFFER_BYTES) {
            out->rc = file_write_all(out->fd, out->bytes, out->used);
            out->used = 0;
        }
        size_t part = BUFFER_BYTES - out->used < n ? BUFFER_BYTES - out->used : n;
        memcpy(out->bytes + out->used, s, part);
        out->used += part;
        s += part;
        n -= part;
    }
}

static int put_stacks(const struct folder *f, int fd)
{
    struct sink *out = calloc(1, sizeof *out);
    if (!out)
        return -ENOMEM;
    out->fd = fd;
    for (size_t i = 0; i < f->stack_count && !out->rc; i++) {
        const struct stack *s = f->stacks[i];
        char number[32];
        if (s->value == 0)
            continue;
        for (size_t j = 0; j < s->frames.count; j++) {
            if (j)
                put(out, ";", 1);
            put(out, s->frames.names[j], strlen(s->frames.names[j]));
        }
        int n = snprintf(number, sizeof number, " %" PRId64 "\n", s->value);
        put(out, number, (size_t)n);
    }
    if (!out->rc)
        out->rc = file_write_all(fd, out->bytes, out->used);
    int rc = out->rc;
    free(out);
    return rc;
}

int folded_write_fd(const struct pprof_profile *p, size_t value_index, int fd,
                    struct fscope_error *err)
{
    int rc = pprof_check(p, err);
    if (rc)
        return rc;
    if (value_index >= p->sample_type_count)
        return error_set(err, -EINVAL, 0, "no sample type %zu; the profile has %zu", value_index,
                         p->sample_type_count);
    struct folder f = {.own = pprof_new()};
    f.by_location = calloc(p->location_count + 1, sizeof *f.by_location);
    f.stacks = calloc(p->sample_count + 1, sizeof(struct stack *));
    rc = f.own && f.by_location && f.stacks ? 0 : -ENOMEM;
    for (size_t i = 0; i < p->sample_count && !rc; i++)
        rc = fold_sample(&f, p->samples[i], p->samples[i]->values[value_index]);
    if (!rc) {
        qsort(f.stacks, f.stack_count, sizeof(struct stack *), by_names);
        rc = put_stacks(&f, fd);
    }
    free(f.names);
    free(f.stacks);
    free(f.by_location);
    ptrtab_finish(&f.table);
    pprof_free(f.own);
    return rc ? error_set(err, rc, 0, "cannot write folded stacks: %s", strerror(-rc)) : 0;
}
