// SPDX-License-Identifier: MIT
//
// Memory for allocations made before the hooks know the functions behind them: by dlsym itself, and by
// constructors that run before ours. Handed out once and never given back, so it is zeroed.

#include "agent/heap.h"

#include <string.h>

enum { POOL_BYTES = 128 << 10, HEAD_BYTES = 16 };

static _Alignas(4096) char pool[POOL_BYTES];
static _Atomic uint64_t used;

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
    uint64_t address = ((uint64_t)pool + at + HEAD_BYTES + align - 1) & ~(align - 1);
    memcpy((char *)address - sizeof size, &size, sizeof size);
    return (char *)address;
}

bool heap_boot_owns(const void *p)
{
    return (uint64_t)p - (uint64_t)pool < POOL_BYTES;
}

uint64_t heap_boot_size(const void *p)
{
    uint64_t size;
    memcpy(&size, (const char *)p - sizeof size, sizeof size);
    return size;
}
