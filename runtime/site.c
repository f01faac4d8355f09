// SPDX-License-Identifier: MIT
//
// Places that create fibers, by the pc behind the call: a table that only grows. When it is full, further
// places share its last entry.
//
// Of each place the first fiber and then one in about a thousand is measured: it has a stack without memory when
// it begins, so that the pages found in the end are its own.

#include "runtime/core.h"

enum { SITES = SITES_ALL - 1, MEASURE_EVERY = 1024 };

static struct site sites[SITES_ALL];

const struct site *site_at(uint32_t index)
{
    return &sites[index];
}

uint32_t site_index(const struct site *s)
{
    return (uint32_t)(s - sites);
}

void site_note(struct site *s, uint64_t used)
{
    uint64_t max = atomic_load_explicit(&s->stack_used_max, memory_order_relaxed);
    while (used > max &&
           !atomic_compare_exchange_weak_explicit(&s->stack_used_max, &max, used,
                                                  memory_order_relaxed, memory_order_relaxed))
        ;
}

// Who still has its id afterwards had its stack all the time.
FIB_LOOKS void sites_measure(void)
{
    struct g *g;
    for (uint32_t i = 0; (g = g_at(i)); i++) {
        uint64_t id = atomic_load_explicit(&g->id, memory_order_acquire);
        const struct live *l = g_live(g);
        struct site *s = g->site;
        if (!id || !l || !s || !(g->flags & G_IS_MEASURED))
            continue;
        uint64_t used = stack_used_bytes(l);
        atomic_thread_fence(memory_order_acquire);
        if (atomic_load_explicit(&g->id, memory_order_relaxed) == id && g_live(g) == l)
            site_note(s, used);
    }
}

FIB_PUBLIC int fib_each_site(int (*fn)(void *arg, const struct fib_site *site), void *arg)
{
    sites_measure();
    int rc = 0;
    for (uint32_t i = 0; !rc && i < SITES_ALL; i++) {
        const struct site *s = &sites[i];
        struct fib_site out = {
            .created_at = (const void *)atomic_load_explicit(&s->pc, memory_order_relaxed),
            .stack_used_max_bytes = atomic_load_explicit(&s->stack_used_max, memory_order_relaxed),
            .measured = atomic_load_explicit(&s->measured, memory_order_relaxed),
        };
        if (out.created_at || out.stack_used_max_bytes)
            rc = fn(arg, &out);
    }
    return rc;
}

struct site *site_of(uintptr_t pc, bool *is_measured)
{
    struct site *s = &sites[SITES];
    uint32_t i = (uint32_t)(pc * 0x9E3779B97F4A7C15ULL >> 52);
    for (uint32_t n = 0; n < 64; n++, i = (i + 1) % SITES) {
        uintptr_t has = atomic_load_explicit(&sites[i].pc, memory_order_relaxed);
        if (has != pc &&
            (has || (!atomic_compare_exchange_strong_explicit(
                         &sites[i].pc, &has, pc, memory_order_relaxed, memory_order_relaxed) &&
                     has != pc)))
            continue;
        s = &sites[i];
        break;
    }
    uint32_t left = atomic_load_explicit(&s->countdown, memory_order_relaxed);
    *is_measured = !left;
    atomic_store_explicit(&s->countdown, left ? left - 1 : MEASURE_EVERY, memory_order_relaxed);
    return s;
}
