// SPDX-License-Identifier: MIT

#include "base/arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_BYTES = 256 * 1024 };

struct arena_chunk {
    struct arena_chunk *next;
    size_t size;
    size_t used;
    alignas(max_align_t) char bytes[];
};

static struct arena_chunk *chunk_new(size_t size)
{
    struct arena_chunk *c = calloc(1, sizeof *c + size);
    if (c)
        c->size = size;
    return c;
}

void arena_finish(struct arena *a)
{
    while (a->chunks) {
        struct arena_chunk *next = a->chunks->next;
        free(a->chunks);
        a->chunks = next;
    }
    a->used_bytes = 0;
}

void arena_reset(struct arena *a)
{
    struct arena_chunk *keep = a->chunks;
    size_t size = 0;
    for (const struct arena_chunk *c = keep; c; c = c->next)
        size += c->size;
    if (keep &&
        keep->next) { // one that all of it fits into: what is made anew is mostly as large as before
        arena_finish(a);
        keep = a->chunks = chunk_new(size);
    }
    if (keep) {
        memset(keep->bytes, 0, keep->used);
        keep->used = 0;
    }
    a->used_bytes = 0;
}

static struct arena_chunk *chunk_add(struct arena *a, size_t need)
{
    size_t size = need > CHUNK_BYTES / 4 ? need : CHUNK_BYTES;
    struct arena_chunk *c = chunk_new(size);
    if (!c)
        return NULL;
    // An oversized piece goes behind the current chunk, whose rest is still useful.
    if (a->chunks && size == need && size != CHUNK_BYTES) {
        c->next = a->chunks->next;
        a->chunks->next = c;
    } else {
        c->next = a->chunks;
        a->chunks = c;
    }
    return c;
}

void *arena_alloc(struct arena *a, size_t size_bytes)
{
    const size_t align = alignof(max_align_t);
    if (size_bytes > SIZE_MAX / 2)
        return NULL;
    size_t need = (size_bytes + align - 1) & ~(align - 1);
    if (need == 0)
        need = align;
    if (a->limit_bytes && (need > a->limit_bytes || a->used_bytes > a->limit_bytes - need))
        return NULL;
    struct arena_chunk *c = a->chunks;
    if (!c || c->size - c->used < need)
        c = chunk_add(a, need);
    if (!c)
        return NULL;
    void *p = c->bytes + c->used;
    c->used += need;
    a->used_bytes += need;
    return p;
}

void *arena_array(struct arena *a, size_t count, size_t size_bytes)
{
    if (size_bytes && count > SIZE_MAX / 2 / size_bytes)
        return NULL;
    return arena_alloc(a, count * size_bytes);
}

char *arena_strndup(struct arena *a, const char *s, size_t n)
{
    if (n > SIZE_MAX / 2 - 1)
        return NULL;
    char *p = arena_alloc(a, n + 1);
    if (p)
        memcpy(p, s, n);
    return p;
}

char *arena_strdup(struct arena *a, const char *s)
{
    return arena_strndup(a, s, strlen(s));
}
