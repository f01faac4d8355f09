// SPDX-License-Identifier: MIT

#include "formats/trace/state.h"
#include "formats/ptrtab.h"

#include <errno.h>
#include <string.h>

enum { CHUNK_ITEMS = 1024 };

// What a short-lived Goroutine costs: the plain case of it inline, the rest out of the way.
#define HOT  static inline __attribute__((always_inline))
#define COLD static __attribute__((noinline, cold))

void state_init(struct trace_state *s, uint64_t bytes_max)
{
    *s = (struct trace_state){.bytes_max = bytes_max, .seed = ptrtab_seed()};
    s->go_slab.item_bytes = sizeof(struct state_go);
    s->proc_slab.item_bytes = sizeof(struct state_proc);
    s->thread_slab.item_bytes = sizeof(struct state_thread);
    s->task_slab.item_bytes = sizeof(struct state_task);
    s->nobody = (struct state_thread){
        .id = TRACE_NONE,
        .proc_id = TRACE_NONE,
        .go_id = TRACE_NONE,
        .slot = TRACE_NO_SLOT,
        .proc_slot = TRACE_NO_SLOT,
        .go_slot = TRACE_NO_SLOT,
    };
    s->no_go = (struct state_go){.id = TRACE_NONE, .slot = TRACE_NO_SLOT};
    for (uint32_t i = 0; i < STATE_RECENT; i++)
        s->recent[i] = &s->no_go;
}

// Counts memory. -EFBIG if that is too much.
static int charge(struct trace_state *s, uint64_t bytes)
{
    if (bytes > s->bytes_max - s->bytes_used)
        return -EFBIG;
    s->bytes_used += bytes;
    return 0;
}

static void *slab_item(const struct state_slab *b, uint32_t slot)
{
    return (char *)b->chunks[slot / CHUNK_ITEMS] + (slot % CHUNK_ITEMS) * b->item_bytes;
}

static void ranges_finish(struct state_ranges *r)
{
    for (uint32_t i = 0; i < r->count; i++)
        free(r->items[i].reason.copy);
    free(r->items);
}

static void slab_finish(struct state_slab *b)
{
    for (uint32_t i = 0; i < b->chunk_count; i++)
        free(b->chunks[i]);
    free(b->chunks);
    free(b->spare);
}

void state_finish(struct trace_state *s)
{
    for (uint32_t slot = 0; slot < s->go_slab.used; slot++) {
        struct state_go *g = slab_item(&s->go_slab, slot);
        for (uint32_t i = 0; i < g->region_count; i++)
            free(g->regions[i].type.copy);
        free(g->regions);
        ranges_finish(&g->ranges);
    }
    for (uint32_t slot = 0; slot < s->proc_slab.used; slot++)
        ranges_finish(&((struct state_proc *)slab_item(&s->proc_slab, slot))->ranges);
    for (uint32_t slot = 0; slot < s->task_slab.used; slot++)
        free(((struct state_task *)slab_item(&s->task_slab, slot))->type.copy);
    slab_finish(&s->task_slab);
    slab_finish(&s->go_slab);
    slab_finish(&s->proc_slab);
    slab_finish(&s->thread_slab);
    free(s->gos.slots);
    free(s->procs.slots);
    free(s->threads.slots);
    free(s->tasks.slots);
}

COLD int slab_grow(struct trace_state *s, struct state_slab *b)
{
    if (b->chunk_count == b->chunk_capacity) {
        uint32_t capacity = b->chunk_capacity ? 2 * b->chunk_capacity : 16;
        void **chunks = realloc(b->chunks, capacity * sizeof *chunks);
        if (!chunks)
            return -ENOMEM;
        b->chunks = chunks;
        b->chunk_capacity = capacity;
    }
    // A first chunk of all 1024 would be much for the few Procs there are; it is not touched.
    int rc = charge(s, CHUNK_ITEMS * b->item_bytes);
    if (rc)
        return rc;
    void *chunk = calloc(CHUNK_ITEMS, b->item_bytes);
    if (!chunk)
        return -ENOMEM;
    b->chunks[b->chunk_count++] = chunk;
    return 0;
}

HOT int slab_take(struct trace_state *s, struct state_slab *b, void **item, uint32_t *slot)
{
    if (b->spare_count) {
        *slot = b->spare[--b->spare_count];
    } else {
        if (b->used == b->chunk_count * CHUNK_ITEMS) {
            int rc = b->used >= TRACE_NO_SLOT - CHUNK_ITEMS ? -EFBIG : slab_grow(s, b);
            if (rc)
                return rc;
        }
        *slot = b->used++;
    }
    *item = slab_item(b, *slot);
    return 0;
}

COLD int spare_grow(struct trace_state *s, struct state_slab *b)
{
    uint32_t capacity = b->spare_capacity ? 2 * b->spare_capacity : CHUNK_ITEMS;
    int rc = charge(s, (capacity - b->spare_capacity) * sizeof *b->spare);
    if (rc)
        return rc;
    uint32_t *spare = realloc(b->spare, capacity * sizeof *spare);
    if (!spare)
        return -ENOMEM;
    b->spare = spare;
    b->spare_capacity = capacity;
    return 0;
}

// Room in spare for every slot given out, so that giving one back cannot fail.
HOT int slab_reserve(struct trace_state *s, struct state_slab *b)
{
    return b->used < b->spare_capacity ? 0 : spare_grow(s, b);
}

COLD int map_grow(struct trace_state *s, struct state_map *m)
{
    size_t old = m->slots ? m->mask + 1 : 0, size = old ? 2 * old : 64;
    int rc = charge(s, (size - old) * sizeof *m->slots);
    if (rc)
        return rc;
    struct state_map_slot *slots = calloc(size, sizeof *slots), *was = m->slots;
    if (!slots)
        return -ENOMEM;
    m->slots = slots;
    m->mask = size - 1;
    m->shift = 64 - (unsigned)__builtin_ctzll(size);
    for (size_t i = 0; i < old; i++) {
        if (!was[i].item)
            continue;
        size_t at = state_map_home(m, was[i].id, s->seed);
        while (slots[at].item)
            at = (at + 1) & m->mask;
        slots[at] = was[i];
    }
    free(was);
    return 0;
}

HOT int map_reserve(struct trace_state *s, struct state_map *m)
{
    return m->slots && 2 * (m->count + 1) <= m->mask + 1 ? 0 : map_grow(s, m);
}

HOT void map_put(const struct trace_state *s, struct state_map *m, uint64_t id, void *item)
{
    size_t at = state_map_home(m, id, s->seed);
    while (m->slots[at].item)
        at = (at + 1) & m->mask;
    m->slots[at] = (struct state_map_slot){id, item};
    m->count++;
}

// Takes an id out and moves what had to go further than its home back, so that no hole is left.
HOT void map_remove(const struct trace_state *s, struct state_map *m, uint64_t id)
{
    size_t at = state_map_home(m, id, s->seed);
    while (m->slots[at].id != id || !m->slots[at].item)
        at = (at + 1) & m->mask;
    for (size_t next = (at + 1) & m->mask; m->slots[next].item; next = (next + 1) & m->mask) {
        size_t home = state_map_home(m, m->slots[next].id, s->seed);
        if (((next - home) & m->mask) < ((next - at) & m->mask))
            continue;
        m->slots[at] = m->slots[next];
        at = next;
    }
    m->slots[at].item = NULL;
    m->count--;
}

int state_add_go(struct trace_state *s, uint64_t id, uint8_t status, struct state_go **out)
{
    void *item;
    uint32_t slot;
    int rc = map_reserve(s, &s->gos);
    if (!rc)
        rc = slab_reserve(s, &s->go_slab);
    if (!rc)
        rc = slab_take(s, &s->go_slab, &item, &slot);
    if (rc)
        return rc;
    struct state_go *g = item;
    g->id = (int64_t)id;
    g->slot = slot;
    g->status = status;
    g->seq = (struct state_seq){0, 0};
    map_put(s, &s->gos, id, g);
    s->recent[id % STATE_RECENT] = g;
    *out = g;
    return 0;
}

void state_remove_go(struct trace_state *s, struct state_go *g)
{
    map_remove(s, &s->gos, (uint64_t)g->id);
    g->status = 0;
    for (uint32_t i = 0; i < g->region_count; i++)
        state_release(s, &g->regions[i].type);
    for (uint32_t i = 0; i < g->ranges.count; i++)
        state_release(s, &g->ranges.items[i].reason);
    g->region_count = g->ranges.count = 0; // their memory stays with the slot
    s->go_slab.spare[s->go_slab.spare_count++] = g->slot;
}

int state_add_proc(struct trace_state *s, uint64_t id, uint8_t status, struct state_proc **out)
{
    void *item;
    uint32_t slot;
    int rc = map_reserve(s, &s->procs);
    if (!rc)
        rc = slab_take(s, &s->proc_slab, &item, &slot);
    if (rc)
        return rc;
    struct state_proc *p = item;
    p->id = (int64_t)id;
    p->slot = slot;
    p->status = status;
    map_put(s, &s->procs, id, p);
    *out = p;
    return 0;
}

int state_add_thread(struct trace_state *s, int64_t id, struct state_thread **out)
{
    void *item;
    uint32_t slot;
    int rc = map_reserve(s, &s->threads);
    if (!rc)
        rc = slab_take(s, &s->thread_slab, &item, &slot);
    if (rc)
        return rc;
    struct state_thread *t = item;
    *t = s->nobody;
    t->id = id;
    t->slot = slot;
    t->has = STATE_HAS_THREAD;
    map_put(s, &s->threads, (uint64_t)id, t);
    *out = t;
    return 0;
}

int state_add_task(struct trace_state *s, uint64_t id, struct state_task **out)
{
    void *item;
    uint32_t slot;
    int rc = map_reserve(s, &s->tasks);
    if (!rc)
        rc = slab_reserve(s, &s->task_slab);
    if (!rc)
        rc = slab_take(s, &s->task_slab, &item, &slot);
    if (rc)
        return rc;
    struct state_task *t = item;
    *t = (struct state_task){.id = id, .slot = slot};
    map_put(s, &s->tasks, id, t);
    *out = t;
    return 0;
}

void state_remove_task(struct trace_state *s, struct state_task *t)
{
    map_remove(s, &s->tasks, t->id);
    state_release(s, &t->type);
    s->task_slab.spare[s->task_slab.spare_count++] = t->slot;
}

int state_hold(struct trace_state *s, struct held_text *h, const char *bytes, uint32_t n)
{
    int rc = charge(s, n);
    if (rc)
        return rc;
    h->copy = malloc(n ? n : 1);
    if (!h->copy)
        return -ENOMEM;
    memcpy(h->copy, bytes, n);
    h->size_bytes = n;
    return 0;
}

void state_release(struct trace_state *s, struct held_text *h)
{
    if (!h->copy)
        return;
    s->bytes_used -= h->size_bytes;
    free(h->copy);
    h->copy = NULL;
}

// Doubles an array of count items when it is full. NULL with *rc: it stays as it is.
static void *grown(struct trace_state *s, void *items, uint32_t count, uint32_t *capacity,
                   size_t item_bytes, int *rc)
{
    if (count < *capacity)
        return items;
    uint32_t more = *capacity ? 2 * *capacity : 4;
    *rc = more < *capacity ? -EFBIG : charge(s, (more - *capacity) * item_bytes);
    if (*rc)
        return NULL;
    void *p = realloc(items, more * item_bytes);
    if (!p) {
        *rc = -ENOMEM;
        return NULL;
    }
    *capacity = more;
    return p;
}

struct state_region *state_push_region(struct trace_state *s, struct state_go *g, int *rc)
{
    struct state_region *items =
        grown(s, g->regions, g->region_count, &g->region_capacity, sizeof *items, rc);
    if (!items)
        return NULL;
    g->regions = items;
    items += g->region_count++;
    *items = (struct state_region){0};
    return items;
}

struct state_range *state_push_range(struct trace_state *s, struct state_ranges *r, int *rc)
{
    struct state_range *items = grown(s, r->items, r->count, &r->capacity, sizeof *items, rc);
    if (!items)
        return NULL;
    r->items = items;
    items += r->count++;
    *items = (struct state_range){0};
    return items;
}
