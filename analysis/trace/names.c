// SPDX-License-Identifier: MIT
//
// See names.h.

#include "analysis/trace/names.h"

#include <stdlib.h>
#include <string.h>

struct entry {
    const char *text;
    size_t size_bytes;
    uint32_t name;
};

static bool same_text(const void *item, const void *key)
{
    const struct entry *a = item, *b = key;
    return a->size_bytes == b->size_bytes && !memcmp(a->text, b->text, a->size_bytes);
}

static bool reserve(struct trace_names *n)
{
    if (n->count < n->capacity)
        return true;
    uint32_t capacity = n->capacity ? 2 * n->capacity : 64;
    const char **texts = realloc(n->texts, capacity * sizeof(const char *));
    if (!texts)
        return false;
    n->texts = texts;
    n->capacity = capacity;
    if (!n->count)
        n->texts[n->count++] = "";
    return true;
}

static uint32_t fail(struct trace_names *n)
{
    n->failed = true;
    return 0;
}

uint32_t trace_names_add(struct trace_names *n, const char *bytes, size_t size_bytes)
{
    if (!size_bytes)
        return 0;
    struct entry key = {bytes, size_bytes, 0};
    uint64_t hash = ptrtab_mix(ptrtab_seed(), ptrtab_hash_bytes(bytes, size_bytes));
    const struct entry *found = ptrtab_find(&n->table, hash, same_text, &key);
    if (found)
        return found->name;
    struct entry *e = arena_alloc(&n->arena, sizeof *e);
    char *bare = arena_strndup(&n->arena, bytes, size_bytes);
    char *shown = bare;
    if (!e || !bare || !reserve(n))
        return fail(n);
    if (memchr(bytes, 0, size_bytes)) {
        shown = arena_strndup(&n->arena, bytes, size_bytes);
        for (size_t i = 0; shown && i < size_bytes; i++)
            shown[i] = shown[i] ? shown[i] : '?';
    }
    *e = (struct entry){bare, size_bytes, n->count};
    if (!shown || ptrtab_add(&n->table, hash, e))
        return fail(n);
    n->texts[n->count] = shown;
    return n->count++;
}

uint32_t trace_names_of(struct trace_names *n, const struct trace_reader *r, uint32_t id)
{
    if (!id)
        return 0;
    if (!(id & TRACE_ID_TRANSIENT) && id < n->id_capacity && n->by_id[id])
        return n->by_id[id];
    struct trace_text t = trace_reader_string(r, id);
    uint32_t name = trace_names_add(n, t.bytes, t.size_bytes);
    if (id & TRACE_ID_TRANSIENT)
        return name;
    if (id >= n->id_capacity) {
        uint32_t capacity = 2 * id + 64;
        uint32_t *by_id = realloc(n->by_id, capacity * sizeof *by_id);
        if (!by_id)
            return name; // only slower
        memset(by_id + n->id_capacity, 0, (capacity - n->id_capacity) * sizeof *by_id);
        n->by_id = by_id;
        n->id_capacity = capacity;
    }
    n->by_id[id] = name;
    return name;
}

uint32_t trace_names_find(const struct trace_names *n, const struct trace_reader *r, uint32_t id)
{
    if (!(id & TRACE_ID_TRANSIENT) && id < n->id_capacity && n->by_id[id])
        return n->by_id[id];
    struct trace_text t = trace_reader_string(r, id);
    struct entry key = {t.bytes, t.size_bytes, 0};
    if (!t.size_bytes)
        return 0;
    uint64_t hash = ptrtab_mix(ptrtab_seed(), ptrtab_hash_bytes(t.bytes, t.size_bytes));
    const struct entry *found = ptrtab_find(&n->table, hash, same_text, &key);
    return found ? found->name : 0;
}

uint32_t trace_names_root(struct trace_names *n, const struct trace_reader *r, uint32_t stack)
{
    const struct trace_frame *frames;
    uint32_t count = trace_reader_stack(r, stack, &frames);
    return count ? trace_names_of(n, r, frames[count - 1].function) : 0;
}

void trace_names_next_reader(struct trace_names *n)
{
    if (n->id_capacity)
        memset(n->by_id, 0, n->id_capacity * sizeof *n->by_id);
}

const char *trace_names_text(const struct trace_names *n, uint32_t name)
{
    return name < n->count ? n->texts[name] : "";
}

void trace_names_finish(struct trace_names *n)
{
    arena_finish(&n->arena);
    ptrtab_finish(&n->table);
    free(n->texts);
    free(n->by_id);
    *n = (struct trace_names){0};
}

bool trace_name_is_system(const char *name)
{
    return !strncmp(name, "runtime.", 8) && strcmp(name, "runtime.main") != 0;
}
