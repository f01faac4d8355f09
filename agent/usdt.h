// SPDX-License-Identifier: MIT
//
// The agent's USDT sites (docs/usdt.md): each fires where, and only where, the segment counts the same. The stack there
// is the recorded one below frames of this library.

#ifndef FIBERSCOPE_AGENT_USDT_H
#define FIBERSCOPE_AGENT_USDT_H

#include "emit/usdt.h"

#define AGENT_PROBES(X)                                                                            \
    X(heap_alloc)                                                                                  \
    X(heap_free)                                                                                   \
    X(thread_block)                                                                                \
    X(thread_mutex)

AGENT_PROBES(USDT_DECLARE)

// p, of size bytes, was taken into the table of live allocations, with live_insert's result: 1: in the place of one of
// stale_size that counts as freed before; below 0: not taken, so it counts as freed at once.
void usdt_heap_alloc_(const void *p, uint64_t size, int inserted, uint64_t stale_size);
void usdt_heap_free_(const void *p, uint64_t size);

static inline void usdt_heap_alloc(const void *p, uint64_t size, int inserted, uint64_t stale_size)
{
    if (USDT_IS_ON(heap_alloc) || (inserted && USDT_IS_ON(heap_free)))
        usdt_heap_alloc_(p, size, inserted, stale_size);
}

static inline void usdt_heap_free(const void *p, uint64_t size)
{
    if (USDT_IS_ON(heap_free))
        usdt_heap_free_(p, size);
}

#endif
