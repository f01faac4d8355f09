// SPDX-License-Identifier: MIT
//
// Memory for allocations made before the hooks know the functions behind them: by dlsym itself, and by
// constructors that run before ours. Handed out once and never given back, so it is zeroed.

#include "agent/heap.h"

#include <string.h>

enum { POOL_BYTES = HEAP_BOOT_BYTES, HEAD_BYTES = 16 };

_Alignas(4096) char heap_boot_pool[POOL_BYTES];
static _Atomic uint64_t used;

// So that free, which asks the filter alone, looks closer.
static void mark(const void *p)
{
    atomic_store_explicit(&heap_filter[heap_filter_index(p)], HEAP_FILTER_STUCK,
                          memory_order_relaxed);
}

void *heap_boot_take(uint64_t size, uint64_t align)
{
    if (align < HEAD_BYTES)
        align = HEAD_BYTES;
    if (size > POOL_BYTES || align > POOL_BYTES)
        return NULL;
    uint64_t need = HEAD_BYTES + align + ((size + 15) & ~UINT64_C(15));
    uint64_t at = atomic_fetch_add_explicit(&used, need, memory_order_relaxed);
    if (at + need > POOL_BYTES)
        return NULL;
    uint64_t address = ((uint64_t)heap_boot_pool + at + HEAD_BYTES + align - 1) & ~(align - 1);
    memcpy((char *)address - sizeof size, &size, sizeof size);
    mark((const void *)address);
    return (char *)address;
}

void heap_boot_mark(void)
{
    for (uint32_t i = 0; i < POOL_BYTES; i += 1024)
        mark(heap_boot_pool + i);
}

uint64_t heap_boot_size(const void *p)
{
    uint64_t size;
    memcpy(&size, (const char *)p - sizeof size, sizeof size);
    return size;
}
