// SPDX-License-Identifier: MIT
//
// See usdt.h.

#include "agent/usdt.h"

#include "agent/heap.h"
#include "agent/heap_math.h"

USDT_SEMAPHORES(AGENT_PROBES)

// What a sampled allocation stands for: its size over the probability that one of that size is sampled.
static uint64_t weigh(uint64_t size)
{
    if (heap.is_exact || !size)
        return size;
    double p = 1 - heap_exp_minus((double)size / (double)heap.rate_bytes);
    return (uint64_t)((double)size / p + 0.5);
}

__attribute__((noinline, cold)) void usdt_heap_free_(const void *p, uint64_t size)
{
    USDT4(heap_free, (uintptr_t)p, size, weigh(size), heap.rate_bytes);
}

__attribute__((noinline, cold)) void usdt_heap_alloc_(const void *p, uint64_t size, int inserted,
                                                      uint64_t stale_size)
{
    if (inserted > 0)
        usdt_heap_free(p, stale_size);
    if (USDT_IS_ON(heap_alloc))
        USDT4(heap_alloc, (uintptr_t)p, size, weigh(size), heap.rate_bytes);
    if (inserted < 0)
        usdt_heap_free(p, size);
}
