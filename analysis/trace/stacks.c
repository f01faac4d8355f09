// SPDX-License-Identifier: MIT
//
// See stacks.h.

#include "analysis/trace/stacks.h"

#include <stdlib.h>
#include <string.h>

static const struct trace_stack no_stack;

// Frames are compared field by field: the struct has padding.
static bool same_frames(const struct trace_frame *a, const struct trace_frame *b, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (a[i].pc != b[i].pc || a[i].function != b[i].function || a[i].file != b[i].file ||
            a[i].line != b[i].line)
            return false;
    }
    return true;
}

static bool same_stack(const void *item, const void *key)
{
    const struct trace_stack *a = item, *b = key;
    return a->count == b->count && same_frames(a->frames, b->frames, a->count);
}

static uint32_t fail(struct trace_stacks *s)
{
    s->failed = true;
    return 0;
}

static uint32_t add(struct trace_stacks *s, const struct trace_stack *key)
{
    uint64_t hash = ptrtab_seed();
    for (uint32_t i = 0; i < key->count; i++) {
        const struct trace_frame *f = &key->frames[i];
        hash = ptrtab_mix(ptrtab_mix(hash, f->pc), ((uint64_t)f->function << 32) | f->file);
        hash = ptrtab_mix(hash, f->line);
    }
    const struct trace_stack *found = ptrtab_find(&s->table, hash, same_stack, key);
    if (found)
        return found->number;
    if (s->count == s->capacity) {
        uint32_t capacity = s->capacity ? 2 * s->capacity : 64;
        const struct trace_stack **more =
            realloc(s->stacks, capacity * sizeof(const struct trace_stack *));
        if (!more)
            return fail(s);
        s->stacks = more;
        s->capacity = capacity;
        if (!s->count)
            s->stacks[s->count++] = &no_stack;
    }
    size_t size = sizeof *key + key->count * sizeof key->frames[0];
    struct trace_stack *mine = arena_alloc(&s->arena, size);
    if (!mine)
        return fail(s);
    memcpy(mine, key, size);
    mine->number = s->count;
    if (ptrtab_add(&s->table, hash, mine))
        return fail(s);
    s->stacks[s->count] = mine;
    return s->count++;
}

static void remember(struct trace_stacks *s, uint32_t id, uint32_t number)
{
    if (id >= s->id_capacity) {
        uint32_t capacity = 2 * id + 64;
        uint32_t *by_id = realloc(s->by_id, capacity * sizeof *by_id);
        if (!by_id)
            return; // only slower
        memset(by_id + s->id_capacity, 0, (capacity - s->id_capacity) * sizeof *by_id);
        s->by_id = by_id;
        s->id_capacity = capacity;
    }
    s->by_id[id] = number;
}

uint32_t trace_stacks_of(struct trace_stacks *s, struct trace_names *n,
                         const struct trace_reader *r, uint32_t id)
{
    union {
        struct trace_stack stack;
        char room[sizeof(struct trace_stack) + TRACE_STACK_FRAMES_MAX * sizeof(struct trace_frame)];
    } key;
    if (!id)
        return 0;
    bool stable = !(id & TRACE_ID_TRANSIENT);
    if (stable && id < s->id_capacity && s->by_id[id])
        return s->by_id[id];
    const struct trace_frame *frames;
    uint32_t count = trace_reader_stack(r, id, &frames);
    if (!count)
        return 0;
    key.stack = (struct trace_stack){
        .count = count < TRACE_STACK_FRAMES_MAX ? count : TRACE_STACK_FRAMES_MAX};
    for (uint32_t i = 0; i < key.stack.count; i++)
        key.stack.frames[i] =
            (struct trace_frame){.pc = frames[i].pc,
                                 .function = trace_names_of(n, r, frames[i].function),
                                 .file = trace_names_of(n, r, frames[i].file),
                                 .line = frames[i].line};
    // Go's runtime records a stack that it could not walk as one frame of nothing.
    const struct trace_frame *leaf = &key.stack.frames[0];
    if (count == 1 && !leaf->pc && !leaf->function)
        return 0;
    uint32_t number = add(s, &key.stack);
    if (stable && number)
        remember(s, id, number);
    return number;
}

const struct trace_stack *trace_stacks_get(const struct trace_stacks *s, uint32_t stack)
{
    return stack < s->count ? s->stacks[stack] : &no_stack;
}

void trace_stacks_finish(struct trace_stacks *s)
{
    arena_finish(&s->arena);
    ptrtab_finish(&s->table);
    free(s->stacks);
    free(s->by_id);
    *s = (struct trace_stacks){0};
}
