// SPDX-License-Identifier: MIT
//
// Pools of things that are costly to make. Each has a few places, one for each P; a fiber uses the place of its P, and when
// there is nothing, the others'. A place is one item that is exchanged atomically, and behind it a stack of
// chunks under a lock. Ageing makes what is there the victims, and destroys the victims before; they are still
// given out, last.

#include "runtime/core.h"
#include "runtime/sync/owner.h"
#include "runtime/sync/wait_table.h"

#include <stdlib.h>
#include <string.h>

enum { CHUNK_ITEMS = 30, PLACES_MIN = 4 };

struct chunk {
    struct chunk *next;
    uint64_t count;
    void *items[CHUNK_ITEMS];
};

struct place {
    _Alignas(LINE) void *_Atomic item;
    struct rt_lock lock; // of what follows
    void *_Atomic victim_item;
    struct chunk *_Atomic items, *_Atomic victims; // read without the lock for a first look
    struct chunk *spare;
};

struct fib_pool {
    void *(*make)(void *arg);
    void (*destroy)(void *arg, void *item);
    void *arg;
    struct fib_pool *next, *prev; // guarded by pools.lock
    uint64_t round;               // the last ageing of all that was here; pools.lock
    bool is_ageing, is_leaving;   // a round works on it; fib_pool_free waits for that; pools.lock
    uint32_t left;                // token for fib_pool_free
    uint32_t place_count;
    struct place places[];
};

static struct {
    struct rt_lock lock;
    struct fib_pool *first;
    uint64_t round;
    bool is_running; // a fiber does the round
} pools;

FIB_PUBLIC struct fib_pool *fib_pool_new(void *(*make)(void *arg),
                                         void (*destroy)(void *arg, void *item), void *arg)
{
    uint32_t count = fib_procs(0);
    if (count < PLACES_MIN)
        count = PLACES_MIN;
    size_t size = sizeof(struct fib_pool) + count * sizeof(struct place);
    struct fib_pool *p = aligned_alloc(LINE, size);
    if (!p)
        return NULL;
    *p = (struct fib_pool){.make = make, .destroy = destroy, .arg = arg, .place_count = count};
    for (uint32_t i = 0; i < count; i++)
        memset(&p->places[i], 0, sizeof p->places[i]);
    rt_lock(&pools.lock);
    p->round = pools.round;
    p->next = pools.first;
    if (p->next)
        p->next->prev = p;
    pools.first = p;
    rt_unlock(&pools.lock);
    return p;
}

// Only a hint: the fiber may be elsewhere by the time it uses it.
static uint32_t place_here(const struct fib_pool *p)
{
    struct m *m = this_m();
    struct p *proc = m ? atomic_load_explicit(&m->p, memory_order_relaxed) : NULL;
    return (proc ? proc->id : (uint32_t)(owner_self() >> 4)) % p->place_count;
}

static void *item_take(void *_Atomic *at)
{
    // A look first: an exchange would take the line from its owner. acquire: sees the item's contents
    if (!atomic_load_explicit(at, memory_order_relaxed))
        return NULL;
    return atomic_exchange_explicit(at, NULL, memory_order_acquire);
}

static bool item_put(void *_Atomic *at, void *item)
{
    void *none = NULL;
    return !atomic_load_explicit(at, memory_order_relaxed) &&
           atomic_compare_exchange_strong_explicit(at, &none, item, memory_order_release,
                                                   memory_order_relaxed);
}

static void *chunks_take(struct place *place, struct chunk *_Atomic *chunks)
{
    if (!atomic_load_explicit(chunks, memory_order_relaxed))
        return NULL;
    void *item = NULL;
    struct chunk *empty = NULL;
    rt_lock(&place->lock);
    struct chunk *c = atomic_load_explicit(chunks, memory_order_relaxed);
    if (c) {
        item = c->items[--c->count];
        if (!c->count) {
            atomic_store_explicit(chunks, c->next, memory_order_relaxed);
            empty = place->spare;
            place->spare = c;
        }
    }
    rt_unlock(&place->lock);
    free(empty);
    return item;
}

// False: no memory for another chunk.
static bool chunks_put(struct place *place, void *item)
{
    struct chunk *new = NULL;
    for (;;) {
        rt_lock(&place->lock);
        struct chunk *c = atomic_load_explicit(&place->items, memory_order_relaxed);
        if (!c || c->count == CHUNK_ITEMS) {
            struct chunk *add = new;
            new = NULL;
            if (!add) {
                add = place->spare;
                place->spare = NULL;
            }
            if (add) {
                add->next = c;
                add->count = 0;
                atomic_store_explicit(&place->items, add, memory_order_relaxed);
            }
            c = add;
        }
        if (c)
            c->items[c->count++] = item;
        rt_unlock(&place->lock);
        if (c) {
            free(new);
            return true;
        }
        new = malloc(sizeof *new);
        if (!new)
            return false;
    }
}

FIB_PUBLIC void *fib_pool_get(struct fib_pool *p)
{
    seed_point();
    uint32_t here = place_here(p);
    for (uint32_t i = 0; i < p->place_count; i++) {
        struct place *place = &p->places[(here + i) % p->place_count];
        void *item = item_take(&place->item);
        if (!item)
            item = chunks_take(place, &place->items);
        if (item)
            return item;
    }
    for (uint32_t i = 0; i < p->place_count; i++) {
        struct place *place = &p->places[(here + i) % p->place_count];
        void *item = item_take(&place->victim_item);
        if (!item)
            item = chunks_take(place, &place->victims);
        if (item)
            return item;
    }
    return p->make ? p->make(p->arg) : NULL;
}

FIB_PUBLIC void fib_pool_put(struct fib_pool *p, void *item)
{
    seed_point();
    if (!item)
        return;
    struct place *place = &p->places[place_here(p)];
    if (!item_put(&place->item, item) && !chunks_put(place, item) && p->destroy)
        p->destroy(p->arg, item);
}

static void destroy_all(struct fib_pool *p, struct chunk *c, void *item)
{
    if (item && p->destroy)
        p->destroy(p->arg, item);
    while (c) {
        struct chunk *next = c->next;
        for (uint64_t i = 0; i < c->count && p->destroy; i++)
            p->destroy(p->arg, c->items[i]);
        free(c);
        c = next;
    }
}

FIB_PUBLIC void fib_pool_age(struct fib_pool *p)
{
    for (uint32_t i = 0; i < p->place_count; i++) {
        struct place *place = &p->places[i];
        rt_lock(&place->lock);
        struct chunk *old = atomic_load_explicit(&place->victims, memory_order_relaxed);
        struct chunk *now = atomic_load_explicit(&place->items, memory_order_relaxed);
        atomic_store_explicit(&place->victims, now, memory_order_relaxed);
        atomic_store_explicit(&place->items, NULL, memory_order_relaxed);
        void *item = item_take(&place->item);
        // acq_rel: the old one's contents; the new one's for who takes it
        item = atomic_exchange_explicit(&place->victim_item, item, memory_order_acq_rel);
        struct chunk *spare = place->spare;
        place->spare = NULL;
        rt_unlock(&place->lock);
        free(spare);
        destroy_all(p, old, item);
    }
}

FIB_PUBLIC void fib_pool_free(struct fib_pool *p)
{
    if (!p)
        return;
    rt_lock(&pools.lock);
    if (p->prev)
        p->prev->next = p->next;
    else
        pools.first = p->next;
    if (p->next)
        p->next->prev = p->prev;
    p->is_leaving = p->is_ageing;
    bool must_wait = p->is_leaving;
    rt_unlock(&pools.lock);
    if (must_wait)
        token_wait(&p->left, WAIT_SEMAPHORE, p, NULL);
    fib_pool_age(p);
    fib_pool_age(p);
    free(p);
}

// --- All pools, now and then.

static bool has_items(const struct fib_pool *p)
{
    for (uint32_t i = 0; i < p->place_count; i++) {
        const struct place *place = &p->places[i];
        if (atomic_load_explicit(&place->item, memory_order_relaxed) ||
            atomic_load_explicit(&place->items, memory_order_relaxed) ||
            atomic_load_explicit(&place->victim_item, memory_order_relaxed) ||
            atomic_load_explicit(&place->victims, memory_order_relaxed))
            return true;
    }
    return false;
}

// The next one that this round has not been at, marked; NULL: no more, the round is over.
static struct fib_pool *next_to_age(void)
{
    rt_lock(&pools.lock);
    struct fib_pool *p = pools.first;
    while (p && p->round == pools.round)
        p = p->next;
    if (p) {
        p->round = pools.round;
        p->is_ageing = true;
    } else {
        pools.is_running = false;
    }
    rt_unlock(&pools.lock);
    return p;
}

static void age_round(void *arg)
{
    (void)arg;
    struct fib_pool *p;
    while ((p = next_to_age())) {
        if (has_items(p))
            fib_pool_age(p);
        rt_lock(&pools.lock);
        p->is_ageing = false;
        bool is_awaited = p->is_leaving;
        rt_unlock(&pools.lock);
        if (is_awaited)
            token_give(&p->left, false);
    }
}

// destroy is the user's and runs in a fiber, never here.
void pool_age_all(void)
{
    rt_lock(&pools.lock);
    bool is_needed = false;
    if (!pools.is_running)
        for (struct fib_pool *p = pools.first; p && !is_needed; p = p->next)
            is_needed = has_items(p);
    if (is_needed) {
        pools.is_running = true;
        pools.round++;
    }
    rt_unlock(&pools.lock);
    if (!is_needed)
        return;
    struct fib_go_options options = {.size = sizeof options, .name = "pool ageing"};
    if (fib_go_with(NULL, &options, age_round, NULL)) {
        rt_lock(&pools.lock);
        pools.is_running = false; // next time
        rt_unlock(&pools.lock);
    }
}
