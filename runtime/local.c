// SPDX-License-Identifier: MIT
//
// Fiber-local values, and what else is done when a fiber ends. The first few values lie in struct live, the others in a
// table made when one of them is first set.

#include "runtime/core.h"
#include "runtime/sync/owner.h"

#include <errno.h>
#include <stdlib.h>

enum {
    KEYS = 64,
    ROUNDS = 4
}; // rounds of destructors that set values anew: as PTHREAD_DESTRUCTOR_ITERATIONS

static struct {
    _Atomic uint32_t count;
    void (*_Atomic destructors[KEYS])(void *value);
    _Atomic bool is_made[KEYS];
} keys;

FIB_PUBLIC int fib_key_create(fib_key *key, void (*destructor)(void *value))
{
    uint32_t n = atomic_load_explicit(&keys.count, memory_order_relaxed);
    do {
        if (n == KEYS)
            return -EAGAIN;
    } while (!atomic_compare_exchange_weak_explicit(&keys.count, &n, n + 1, memory_order_relaxed,
                                                    memory_order_relaxed));
    atomic_store_explicit(&keys.destructors[n], destructor, memory_order_relaxed);
    // release: whoever sees the key as made sees its destructor
    atomic_store_explicit(&keys.is_made[n], true, memory_order_release);
    *key = n;
    return 0;
}

// Where the value is; NULL: nowhere yet.
static void **slot_of(struct live *live, fib_key key)
{
    if (key < LOCALS_INLINE)
        return &live->locals[key];
    return live->locals_more ? &live->locals_more[key - LOCALS_INLINE] : NULL;
}

FIB_PUBLIC void *fib_local_get(fib_key key)
{
    if (key >= KEYS)
        return NULL;
    void **slot = slot_of(this_g()->live, key);
    return slot ? *slot : NULL;
}

FIB_PUBLIC int fib_local_set(fib_key key, void *value)
{
    if (key >= KEYS || !atomic_load_explicit(&keys.is_made[key], memory_order_acquire))
        return -EINVAL;
    struct live *live = this_g()->live;
    void **slot = slot_of(live, key);
    if (!slot) {
        if (!value)
            return 0;
        void **more = calloc(KEYS - LOCALS_INLINE, sizeof *more);
        if (!more)
            return -ENOMEM;
        live->locals_more = more;
        slot = slot_of(live, key);
    }
    *slot = value;
    return 0;
}

// One round over all values; true: some destructor ran.
static bool destroy_values(struct live *live)
{
    bool has_run = false;
    uint32_t count = atomic_load_explicit(&keys.count, memory_order_relaxed);
    for (uint32_t key = 0; key < count; key++) {
        void **slot = slot_of(live, key);
        void *value = slot ? *slot : NULL;
        if (!value)
            continue;
        *slot = NULL;
        void (*destructor)(void *) =
            atomic_load_explicit(&keys.destructors[key], memory_order_relaxed);
        if (!destructor)
            continue;
        destructor(value);
        has_run = true;
    }
    return has_run;
}

void locals_end(struct g *g)
{
    struct live *live = g->live;
    while (live->exit_hooks) {
        struct exit_hook *h = live->exit_hooks;
        live->exit_hooks = h->next;
        h->fn(h->arg);
    }
    for (int i = 0; i < ROUNDS && destroy_values(live); i++)
        ;
    free(live->locals_more);
    live->locals_more = NULL;
    for (int i = 0; i < LOCALS_INLINE; i++)
        live->locals[i] = NULL;
}
