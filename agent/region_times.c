// SPDX-License-Identifier: MIT
//
// See region_times.h.

#include "agent/region_times.h"

#include "agent/agent.h"
#include "segment/table.h"

#include <string.h>

_Atomic uint32_t region_times_on;

void region_times_update(void)
{
    const struct seg_control *c = &agent.space->seg.header->control;
    bool on = atomic_load_explicit(&c->region_times, memory_order_relaxed) != 0;
    atomic_store_explicit(&region_times_on, on, memory_order_relaxed);
}

// The string's id; 0: there are too many names.
static uint32_t id_of(struct region_names *names, const char *name)
{
    struct seg *seg = &agent.space->seg;
    uint32_t size = (uint32_t)strnlen(name, REGION_NAME_BYTES);
    uint64_t hash = seg_hash(name, size, 0) | 1;
    for (uint32_t i = 0; i < REGION_NAMES; i++) {
        uint32_t at = (uint32_t)(hash >> 32) + i;
        _Atomic uint64_t *place = &names->places[at % REGION_NAMES].hash;
        _Atomic uint32_t *id = &names->places[at % REGION_NAMES].id;
        uint64_t there = atomic_load_explicit(place, memory_order_relaxed);
        if (!there && atomic_compare_exchange_strong_explicit(
                          place, &there, hash, memory_order_relaxed, memory_order_relaxed))
            there = hash;
        if (there != hash)
            continue;
        uint32_t known = atomic_load_explicit(id, memory_order_relaxed);
        if (!known) { // interning twice gives the same
            known = seg_string(seg, name, size);
            atomic_store_explicit(id, known, memory_order_relaxed);
        }
        return known;
    }
    return 0;
}

void region_times_add(const char *name, uint64_t ns, bool has_error)
{
    if (!agent_live())
        return;
    uint64_t bucket = ns ? 63 - (uint64_t)__builtin_clzll(ns) : 0;
    uint32_t id = name ? id_of(&agent.space->region_names, name) : 0;
    seg_state_add(&agent.space->seg, SEG_KIND_REGION, 0, 0, id | bucket << 32,
                  (uint64_t[4]){1, ns, has_error, 0});
}
