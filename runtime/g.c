// SPDX-License-Identifier: MIT
//
// Fibers' identities: slabs of struct g, free lists per P, and ids. Slabs are never unmapped, so whoever
// holds an old pointer reads a G, and sees by its id that it is another one.

#include "runtime/core.h"
#include "runtime/os/os.h"

enum {
    SLAB_BYTES = 2 << 20,
    SLAB_GS = SLAB_BYTES / sizeof(struct g),
    SLABS_MAX = 65536,
    BATCH = 64,
    FREE_MAX = 256,
};

static struct {
    struct rt_lock lock;
    struct g_queue free;
    struct g *_Atomic slabs[SLABS_MAX];
    _Atomic uint32_t made; // slots given out, in order
} all;

struct g *g_at(uint32_t index)
{
    if (index >= atomic_load_explicit(&all.made, memory_order_acquire))
        return NULL;
    return atomic_load_explicit(&all.slabs[index / SLAB_GS], memory_order_relaxed) +
           index % SLAB_GS;
}

struct g_table g_table(void)
{
    return (struct g_table){all.slabs, &all.made, SLAB_GS};
}

// Up to n fresh or freed ones. Lock held.
static void refill(struct g_queue *to, uint32_t n)
{
    while (n && all.free.head) {
        queue_append(to, queue_take(&all.free));
        n--;
    }
    for (uint32_t made; n; n--) {
        made = atomic_load_explicit(&all.made, memory_order_relaxed);
        uint32_t slab = made / SLAB_GS;
        if (slab == SLABS_MAX)
            return;
        struct g *s = atomic_load_explicit(&all.slabs[slab], memory_order_relaxed);
        if (!s) {
            s = os_reserve(SLAB_BYTES, SLAB_BYTES);
            if (!s)
                return;
            atomic_store_explicit(&all.slabs[slab], s, memory_order_relaxed);
        }
        queue_append(to, s + made % SLAB_GS);
        // release: pairs with the acquire in g_at; the slab is known
        atomic_store_explicit(&all.made, made + 1, memory_order_release);
    }
}

struct g *g_new(struct p *p)
{
    struct g *g = p ? queue_take(&p->free_gs) : NULL;
    if (g)
        return g;
    struct g_queue mine = {0};
    rt_lock(&all.lock);
    refill(p ? &p->free_gs : &mine, p ? BATCH : 1);
    rt_unlock(&all.lock);
    return queue_take(p ? &p->free_gs : &mine);
}

void g_free(struct p *p, struct g *g)
{
    // Newest first: it is in the cache.
    g->link = p->free_gs.head;
    p->free_gs.head = g;
    if (!p->free_gs.tail)
        p->free_gs.tail = g;
    if (++p->free_gs.count <= FREE_MAX)
        return;
    rt_lock(&all.lock);
    while (p->free_gs.count > FREE_MAX / 2)
        queue_append(&all.free, queue_take(&p->free_gs));
    rt_unlock(&all.lock);
}

// Ids come in batches, so that Ps do not share a line for them. [owner of p; NULL: any plain thread]
uint64_t fib_next_id(struct p *p)
{
    static _Alignas(LINE) _Atomic uint64_t next = 1;
    if (!p)
        return atomic_fetch_add_explicit(&next, 1, memory_order_relaxed);
    if (p->id_next == p->id_end) {
        p->id_next = atomic_fetch_add_explicit(&next, 16, memory_order_relaxed);
        p->id_end = p->id_next + 16;
    }
    return p->id_next++;
}
