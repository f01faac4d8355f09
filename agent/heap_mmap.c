// SPDX-License-Identifier: MIT
//
// mmap=1: mappings that the program makes itself count as allocations of the size it asked for. Mappings of
// the allocator and of ours do not: what the allocator maps it hands out, and that is counted there.
// libc's own (malloc's, thread stacks) do not come by the dynamic linker.
//
// A munmap may take any part of what one or several mmaps made; so it is known where each begins and ends.
// What it leaves of one counts as a realloc would: the old one freed, each rest allocated by the caller of
// munmap. The same where MAP_FIXED or MREMAP_FIXED replaces a part. mremap is realloc itself.
//
// What always holds
//   - A mapping is in `regions` before its address can be given back, and out of it before it is.
//   - An entry's start is written last when it is made, and first when it goes; nobody waits.

#include "agent/heap.h"
#include "agent/heap_table.h"

#include "agent/arch/x86_64.h"

#include <errno.h>
#include <stdarg.h>
#include <sys/mman.h>

enum { REGIONS = 8192, PAGE = 4096 };

#define FRAME  ((const uint64_t *)__builtin_frame_address(0))
#define CALLER ((uint64_t)__builtin_return_address(0))
#define MADE   UINT64_C(1) // a start: being made, or going

struct region {
    _Atomic uint64_t start, end; // start 0: free
};

static struct region regions[REGIONS];
static _Atomic uint32_t regions_used;
static struct heap_range ours[2];

static struct {
    void *(*mmap)(void *, size_t, int, int, int, off_t);
    int (*munmap)(void *, size_t);
    void *(*mremap)(void *, size_t, size_t, int, ...);
} real;
static hook_fn *mmap64_behind;

// --- Regions.

static bool region_add(uint64_t start, uint64_t end)
{
    for (uint32_t i = 0; i < REGIONS; i++) {
        uint64_t none = 0;
        if (atomic_load_explicit(&regions[i].start, memory_order_relaxed) ||
            !atomic_compare_exchange_strong_explicit(&regions[i].start, &none, MADE,
                                                     memory_order_acquire, memory_order_relaxed))
            continue;
        atomic_store_explicit(&regions[i].end, end, memory_order_relaxed);
        // release: pairs with the acquires of readers
        atomic_store_explicit(&regions[i].start, start, memory_order_release);
        uint32_t used = atomic_load_explicit(&regions_used, memory_order_relaxed);
        while (used <= i &&
               !atomic_compare_exchange_weak_explicit(&regions_used, &used, i + 1,
                                                      memory_order_release, memory_order_relaxed))
            ;
        return true;
    }
    atomic_fetch_add_explicit(&agent.space->seg.header->losses.untracked, 1, memory_order_relaxed);
    return false;
}

// Takes one that overlaps [from, to), and begins at from if is_exact, out of the table.
static bool region_take(uint64_t from, uint64_t to, bool is_exact, uint64_t *start, uint64_t *end)
{
    uint32_t used = atomic_load_explicit(&regions_used, memory_order_acquire);
    for (uint32_t i = 0; i < used; i++) {
        struct region *r = &regions[i];
        *start = atomic_load_explicit(&r->start, memory_order_acquire);
        *end = atomic_load_explicit(&r->end, memory_order_relaxed);
        if (*start <= MADE || *start >= to || *end <= from || (is_exact && *start != from))
            continue;
        if (!atomic_compare_exchange_strong_explicit(&r->start, start, MADE, memory_order_acquire,
                                                     memory_order_relaxed))
            continue;
        atomic_store_explicit(&r->start, 0, memory_order_release);
        return true;
    }
    return false;
}

// --- What the hooks tell.

static bool is_counted(uint64_t caller)
{
    if (!agent.env.mmaps || !agent_live() ||
        (caller >= heap_allocator.start && caller < heap_allocator.end))
        return false;
    for (int i = 0; i < 2; i++)
        if (caller >= ours[i].start && caller < ours[i].end)
            return false;
    return true;
}

static void mapped(uint64_t start, uint64_t bytes, const uint64_t *frame)
{
    if (region_add(start, start + bytes))
        heap_allocated((void *)start, bytes, frame);
}

// Of a region that is taken out: what is left outside of [from, to).
static void keep_rest(uint64_t start, uint64_t end, uint64_t from, uint64_t to,
                      const uint64_t *frame)
{
    if (start < from)
        mapped(start, from - start, frame);
    if (end > to)
        mapped(to, end - to, frame);
}

static void unmapped(uint64_t from, uint64_t bytes, const uint64_t *frame)
{
    uint64_t start, end, to = from + ((bytes + PAGE - 1) & ~(uint64_t)(PAGE - 1));
    if (from % PAGE || to <= from)
        return;
    while (region_take(from, to, false, &start, &end)) {
        if (heap_may_know((void *)start))
            heap_free_slow((void *)start);
        keep_rest(start, end, from, to, frame);
    }
}

// --- The hooks. Before those behind are known it is the kernel.

static void *answer(long result)
{
    if (result < 0 && result > -PAGE) {
        errno = (int)-result;
        return MAP_FAILED;
    }
    return (void *)result;
}

static void *call_mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset)
{
    if (real.mmap)
        return real.mmap(at, n, prot, flags, fd, offset);
    return answer(sys6(SYS_mmap, SYS_ARG(at), n, (uint64_t)prot, (uint64_t)flags, (uint64_t)fd,
                       (uint64_t)offset));
}

HEAP_EXPORT void *mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset)
{
    if (__builtin_expect(!is_counted(CALLER), 1))
        return call_mmap(at, n, prot, flags, fd, offset);
    if (flags & MAP_FIXED && (flags & MAP_FIXED_NOREPLACE) != MAP_FIXED_NOREPLACE)
        unmapped((uint64_t)at, n, FRAME);
    void *p = call_mmap(at, n, prot, flags, fd, offset);
    if (p != MAP_FAILED)
        mapped((uint64_t)p, n, FRAME);
    return p;
}

// The same: off_t has 64 bits.
extern HEAP_EXPORT __typeof__(mmap) mmap64 __attribute__((alias("mmap")));

HEAP_EXPORT int munmap(void *at, size_t n)
{
    if (__builtin_expect(is_counted(CALLER), 0))
        unmapped((uint64_t)at, n, FRAME);
    if (real.munmap)
        return real.munmap(at, n);
    return answer(sys2(SYS_munmap, at, n)) == MAP_FAILED ? -1 : 0;
}

static void *call_mremap(void *old, size_t old_bytes, size_t bytes, int flags, void *to)
{
    if (real.mremap)
        return real.mremap(old, old_bytes, bytes, flags, to);
    return answer(sys5(SYS_mremap, old, old_bytes, bytes, flags, to));
}

// The old mapping, if it is known and goes, is put back where the kernel refuses.
__attribute__((noinline)) static void *counted_mremap(void *old, size_t old_bytes, size_t bytes,
                                                      int flags, void *to, const uint64_t *frame)
{
    struct heap_taken taken = {0};
    uint64_t from = (uint64_t)old, start, end;
    uint64_t until = from + ((old_bytes + PAGE - 1) & ~(uint64_t)(PAGE - 1));
    bool goes = old_bytes && !(flags & MREMAP_DONTUNMAP);
    bool is_known = goes && region_take(from, until, true, &start, &end);
    if (flags & MREMAP_FIXED)
        unmapped((uint64_t)to, bytes, frame);
    if (is_known && heap_may_know(old))
        heap_take(old, &taken);
    void *p = call_mremap(old, old_bytes, bytes, flags, to);
    if (p == MAP_FAILED) {
        if (is_known && region_add(start, end))
            heap_put_back(old, &taken);
        return p;
    }
    if (is_known) {
        heap_freed(old, &taken);
        keep_rest(start, end, from, until, frame);
    } else if (goes) { // a part of one, or of several
        unmapped(from, old_bytes, frame);
    }
    mapped((uint64_t)p, bytes, frame);
    return p;
}

HEAP_EXPORT void *mremap(void *old, size_t old_bytes, size_t bytes, int flags, ...)
{
    void *to = NULL;
    if (flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) {
        va_list rest;
        va_start(rest, flags);
        to = va_arg(rest, void *);
        va_end(rest);
    }
    if (__builtin_expect(!is_counted(CALLER), 1))
        return call_mremap(old, old_bytes, bytes, flags, to);
    void *p = counted_mremap(old, old_bytes, bytes, flags, to, FRAME);
    __asm__ volatile("" : "+r"(p)); // no tail call: our frame is named in there
    return p;
}

static const struct hook table[] = {
    HOOK(mmap, real.mmap),
    HOOK(mmap64, mmap64_behind),
    HOOK(munmap, real.munmap),
    HOOK(mremap, real.mremap),
};

const struct hook_table heap_mmap_hooks = {table, sizeof table / sizeof *table};

void heap_mmap_resolved(void)
{
    ours[0] = heap_library_of(&agent);
    ours[1] = heap_library_of((const void *)(uintptr_t)&seg_create);
}
