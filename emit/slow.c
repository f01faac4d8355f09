// SPDX-License-Identifier: MIT
//
// Conditions of a flight recorder: what lasted too long is counted each time, and asks for a copy once a second.

#include "emit/internal.h"

enum { SECOND = 1000000000 };

_Atomic uint64_t emit_slow_ns[EMIT_SLOW_COUNT];

// Stays at its largest value.
static void count(_Atomic uint16_t *hits)
{
    uint16_t n = atomic_load_explicit(hits, memory_order_relaxed);
    while (n < UINT16_MAX &&
           !atomic_compare_exchange_weak_explicit(hits, &n, (uint16_t)(n + 1), memory_order_relaxed,
                                                  memory_order_relaxed))
        ;
}

void emit_is_slow(enum emit_slow what, uint64_t ns, uint32_t name)
{
    if (!emit_is_on())
        return;
    uint64_t now = emit_now_ns();
    uint64_t next = atomic_load_explicit(&emit.slow_next_ns, memory_order_relaxed);
    count(&emit.trace->hits[what]);
    if (now < next || !atomic_compare_exchange_strong(&emit.slow_next_ns, &next, now + SECOND))
        return;
    atomic_store_explicit(&emit.trace->met_ns, ns, memory_order_relaxed);
    atomic_store_explicit(&emit.trace->met, (uint64_t)name << 8 | (what + 1), memory_order_relaxed);
    // release: pairs with the consumer's acquire of the count, which then sees what for
    atomic_fetch_add_explicit(&emit.trace->snapshots, 1, memory_order_release);
}
