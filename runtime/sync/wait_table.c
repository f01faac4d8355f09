// SPDX-License-Identifier: MIT

#include "runtime/sync/wait_table.h"

enum { BUCKET_BITS = 10, BUCKETS = 1 << BUCKET_BITS };

static struct wait_bucket table[BUCKETS];

struct wait_bucket *wait_lock(const void *address)
{
    // Fibonacci hashing: the high bits of the product depend on all bits of the address.
    uint64_t hash = (uint64_t)(uintptr_t)address * UINT64_C(0x9e3779b97f4a7c15);
    struct wait_bucket *b = &table[hash >> (64 - BUCKET_BITS)];
    rt_lock(&b->lock);
    return b;
}

void wait_init(struct waiter *w, const void *address, bool is_choice)
{
    *w = (struct waiter){.s = {.g = this_g(), .object = (void *)(uintptr_t)address}};
    w->s.is_choice = is_choice;
    if (is_choice) // relaxed: published by the bucket's lock
        atomic_store_explicit(&w->s.g->live->is_chosen, 0, memory_order_relaxed);
}

static struct waiter *next_of(const struct waiter *w)
{
    return (struct waiter *)(void *)w->s.next; // s is its first member
}

static struct waiter *first_of(const struct wait_bucket *b, const void *address)
{
    struct waiter *w = b->chain;
    while (w && w->s.object != address)
        w = w->chain;
    return w;
}

// `w` takes the place of `old` in the chain; old NULL: a new one at the front; w NULL: it is taken out.
static void chain_put(struct wait_bucket *b, struct waiter *old, struct waiter *w)
{
    struct waiter *next = old ? old->chain : b->chain;
    struct waiter *before = old ? old->chain_to : NULL;
    if (w) {
        w->chain = next;
        w->chain_to = before;
    }
    struct waiter *target = w ? w : next;
    if (before)
        before->chain = target;
    else
        b->chain = target;
    if (next)
        next->chain_to = w ? w : before;
}

void wait_append(struct wait_bucket *b, struct waiter *w)
{
    struct waiter *first = first_of(b, w->s.object);
    w->s.next = NULL;
    w->is_in = true;
    if (!first) {
        w->s.prev = NULL;
        w->last = w;
        chain_put(b, NULL, w);
        return;
    }
    w->s.prev = &first->last->s;
    first->last->s.next = &w->s;
    first->last = w;
}

void wait_prepend(struct wait_bucket *b, struct waiter *w)
{
    struct waiter *first = first_of(b, w->s.object);
    if (!first) {
        wait_append(b, w);
        return;
    }
    w->is_in = true;
    w->s.prev = NULL;
    w->s.next = &first->s;
    first->s.prev = &w->s;
    w->last = first->last;
    chain_put(b, first, w);
}

bool wait_remove(struct wait_bucket *b, struct waiter *w)
{
    if (!w->is_in)
        return false;
    w->is_in = false;
    struct waiter *next = next_of(w);
    if (!w->s.prev) {
        if (next) {
            next->s.prev = NULL;
            next->last = w->last;
        }
        chain_put(b, w, next);
        return true;
    }
    w->s.prev->next = w->s.next;
    if (next)
        next->s.prev = w->s.prev;
    else
        first_of(b, w->s.object)->last = (struct waiter *)(void *)w->s.prev;
    return true;
}

bool wait_is_empty(const struct wait_bucket *b, const void *address)
{
    return !first_of(b, address);
}

struct waiter *wait_take(struct wait_bucket *b, const void *address)
{
    for (;;) {
        struct waiter *w = first_of(b, address);
        if (!w)
            return NULL;
        wait_remove(b, w);
        if (!w->s.is_choice || g_choose(w->s.g))
            return w;
    }
}

bool wait_park(struct wait_bucket *b, struct waiter *w, enum wait_reason reason, const void *object,
               uint64_t *owner, int64_t timeout_ns)
{
    // One with a limit waits for nobody for ever: no deadlock is made of it. g_park clears it.
    w->s.g->live->wait_owner = w->s.is_choice ? NULL : (_Atomic uint64_t *)owner;
    w->s.g->live->last_m = this_m(); // for outsiders: whose pthread mutexes it may hold
    bool is_woken = true;
    if (w->s.is_choice)
        is_woken = g_park_for(reason, object, unlock_after, &b->lock, timeout_ns);
    else
        g_park(reason, object, unlock_after, &b->lock);
    if (is_woken)
        return true;
    rt_lock(&b->lock);
    wait_remove(b, w);
    return false;
}

static bool token_try(uint32_t *tokens)
{
    _Atomic uint32_t *at = (_Atomic uint32_t *)tokens;
    uint32_t n = atomic_load_explicit(at, memory_order_relaxed);
    // acquire: pairs with the release in token_give
    while (n && !atomic_compare_exchange_weak_explicit(at, &n, n - 1, memory_order_acquire,
                                                       memory_order_relaxed))
        ;
    return n;
}

void token_wait(uint32_t *tokens, enum wait_reason reason, const void *object, uint64_t *owner)
{
    if (token_try(tokens))
        return;
    struct wait_bucket *b = wait_lock(tokens);
    if (token_try(tokens)) { // tokens are added with the lock held, and only when nobody waits
        wait_unlock(b);
        return;
    }
    struct waiter w;
    wait_init(&w, tokens, false);
    wait_append(b, &w);
    wait_park(b, &w, reason, object, owner, -1);
}

void token_give(uint32_t *tokens, bool is_last)
{
    struct wait_bucket *b = wait_lock(tokens);
    struct waiter *w = wait_take(b, tokens);
    struct g *g = w ? w->s.g : NULL;
    if (!g)
        atomic_fetch_add_explicit((_Atomic uint32_t *)tokens, 1, memory_order_release);
    wait_unlock(b);
    if (!g)
        return;
    if (is_last)
        g_ready_last(g);
    else
        g_ready(g);
}
