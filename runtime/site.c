// SPDX-License-Identifier: MIT
//
// Places that create fibers, by the pc behind the call: a table that only grows. When it is full, further
// places share its last entry.

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
