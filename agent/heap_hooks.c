// SPDX-License-Identifier: MIT
//
// The C side of the malloc family. What is counted is the size that was asked for, at the function
// that the program called: glibc's own (strdup, getline, reallocarray) reach malloc and realloc
// through the dynamic linker and are seen there, once.
//
// Every hook that allocates calls the function behind it first and counts after, with nothing held; but
// for malloc where there is nothing to do but to count. What is hot leaves by tail calls and has no
// frame (-momit-leaf-frame-pointer).

#include "agent/heap.h"
#include "agent/heap_table.h"

#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

struct heap_real heap_real;
struct heap_range heap_allocator;

// The functions behind the hooks are not known: within dlsym, or before any constructor of ours.
__attribute__((noinline, cold)) static bool is_too_early(void)
{
    if (!heap_real.malloc)
        hooks_resolve(); // returns at once if it is what called us
    return !heap_real.malloc;
}

__attribute__((noinline, cold)) static void *early_memory(uint64_t size, uint64_t align)
{
    void *p = heap_boot_take(size, align);
    if (!p)
        errno = ENOMEM;
    return p;
}

#define TOO_EARLY() (__builtin_expect(!heap_real.malloc, 0) && is_too_early())
#define FRAME       ((const uint64_t *)__builtin_frame_address(0))

// Its frame is malloc's, which is left by a tail call.
__attribute__((noinline)) static void *malloc_slow(size_t size)
{
    if (TOO_EARLY())
        return early_memory(size, 0);
    void *p = heap_real.malloc(size);
    if (p)
        heap_allocated(p, size, FRAME);
    return p;
}

HEAP_EXPORT void *malloc(size_t size)
{
    struct agent_tls *t = &agent_tls;
    if (__builtin_expect(size >= t->heap_countdown, 0))
        return malloc_slow(size);
    t->heap_countdown -= size;
    t->alloc_objects++;
    t->alloc_bytes += size;
    return heap_real.malloc(size); // known: the countdown is above 0
}

__attribute__((noinline)) static void free_known(void *p)
{
    if (heap_boot_owns(p))
        return;
    if (p && heap.is_exact && !TOO_EARLY()) {
        heap_exact_free(p, heap_real.free);
        return;
    }
    heap_free_slow(p);
    if (!TOO_EARLY())
        heap_real.free(p);
}

HEAP_EXPORT void free(void *p)
{
    if (heap_may_know(p))
        free_known(p);
    else if (!TOO_EARLY())
        heap_real.free(p);
}

HEAP_EXPORT void *calloc(size_t n, size_t size)
{
    size_t bytes;
    if (TOO_EARLY())
        return early_memory(__builtin_mul_overflow(n, size, &bytes) ? UINT64_MAX : bytes, 0);
    void *p = heap_real.calloc(n, size);
    if (p)
        heap_allocated(p, n * size, FRAME);
    return p;
}

__attribute__((noinline, cold)) static void *move_early(void *p, size_t size)
{
    void *q = TOO_EARLY() ? early_memory(size, 0) : heap_real.malloc(size);
    size_t old = heap_boot_size(p);
    if (q)
        memcpy(q, p, old < size ? old : size);
    return q;
}

// One of a program's reallocations whose old block may be in the table. Apart, so that the others stay
// short; frame is the hook's.
__attribute__((noinline)) static void *realloc_known(void *p, size_t size, const uint64_t *frame)
{
    struct heap_taken taken;
    heap_take(p, &taken);
    void *q = heap_real.realloc(p, size);
    if (!q && size) {
        heap_put_back(p, &taken);
        return NULL;
    }
    heap_freed(p, &taken);
    if (q)
        heap_allocated(q, size, frame);
    return q;
}

HEAP_EXPORT void *realloc(void *p, size_t size)
{
    void *q;
    if (__builtin_expect(p && heap_boot_owns(p), 0)) {
        q = move_early(p, size);
    } else if (TOO_EARLY()) {
        return p ? NULL : early_memory(size, 0);
    } else if (p && heap_may_know(p)) {
        q = realloc_known(p, size, FRAME);
        __asm__ volatile("" : "+r"(q)); // no tail call: our frame is named in there
        return q;
    } else {
        q = heap_real.realloc(p, size);
    }
    if (q)
        heap_allocated(q, size, FRAME);
    return q;
}

HEAP_EXPORT void *memalign(size_t align, size_t size)
{
    if (TOO_EARLY() || !heap_real.memalign)
        return early_memory(size, align);
    void *p = heap_real.memalign(align, size);
    if (p)
        heap_allocated(p, size, FRAME);
    return p;
}

HEAP_EXPORT void *aligned_alloc(size_t align, size_t size)
{
    if (TOO_EARLY() || !heap_real.aligned_alloc)
        return early_memory(size, align);
    void *p = heap_real.aligned_alloc(align, size);
    if (p)
        heap_allocated(p, size, FRAME);
    return p;
}

HEAP_EXPORT int posix_memalign(void **out, size_t align, size_t size)
{
    if (TOO_EARLY() || !heap_real.posix_memalign) {
        *out = heap_boot_take(size, align);
        return *out ? 0 : ENOMEM;
    }
    int rc = heap_real.posix_memalign(out, align, size);
    if (!rc && *out)
        heap_allocated(*out, size, FRAME);
    return rc;
}

HEAP_EXPORT void *valloc(size_t size)
{
    if (TOO_EARLY() || !heap_real.valloc)
        return early_memory(size, 4096);
    void *p = heap_real.valloc(size);
    if (p)
        heap_allocated(p, size, FRAME);
    return p;
}

HEAP_EXPORT void *pvalloc(size_t size)
{
    if (TOO_EARLY() || !heap_real.pvalloc)
        return early_memory((size + 4095) & ~(size_t)4095, 4096);
    void *p = heap_real.pvalloc(size);
    if (p)
        heap_allocated(p, size, FRAME);
    return p;
}

// An allocator's own does not come by our realloc; libc's does.
__attribute__((noinline)) static void *own_reallocarray(void *p, size_t n, size_t size)
{
    struct heap_taken taken = {0};
    bool may_know = p && heap_may_know(p);
    if (may_know)
        heap_take(p, &taken);
    uint64_t before = agent_tls.alloc_objects; // it may come by realloc after all
    void *q = heap_real.reallocarray(p, n, size);
    if (may_know && !q && n && size)
        heap_put_back(p, &taken);
    else if (may_know)
        heap_freed(p, &taken);
    if (q && agent_tls.alloc_objects == before)
        heap_allocated(q, n * size, FRAME);
    return q;
}

HEAP_EXPORT void *reallocarray(void *p, size_t n, size_t size)
{
    size_t bytes;
    if (heap_real.own.reallocarray)
        return own_reallocarray(p, n, size); // tail calls: the frame above is the caller's
    if (heap_real.reallocarray && !heap_boot_owns(p))
        return heap_real.reallocarray(p, n, size);
    if (__builtin_mul_overflow(n, size, &bytes)) {
        errno = ENOMEM;
        return NULL;
    }
    return realloc(p, bytes);
}

// Of old programs and of C23. Where nothing is behind them they are free by another name.
HEAP_EXPORT void cfree(void *p);
HEAP_EXPORT void free_sized(void *p, size_t size);
HEAP_EXPORT void free_aligned_sized(void *p, size_t align, size_t size);

HEAP_EXPORT void cfree(void *p)
{
    free(p);
}

HEAP_EXPORT void free_sized(void *p, size_t size)
{
    if (heap_may_know(p))
        heap_free_slow(p);
    if (__builtin_expect(heap_boot_owns(p), 0) || TOO_EARLY())
        return;
    if (heap_real.free_sized)
        heap_real.free_sized(p, size);
    else
        heap_real.free(p);
}

HEAP_EXPORT void free_aligned_sized(void *p, size_t align, size_t size)
{
    if (heap_may_know(p))
        heap_free_slow(p);
    if (__builtin_expect(heap_boot_owns(p), 0) || TOO_EARLY())
        return;
    if (heap_real.free_aligned_sized)
        heap_real.free_aligned_sized(p, align, size);
    else
        heap_real.free(p);
}

static hook_fn *cfree_behind;

// Names of our own: where we were dlopened, `malloc` in this library is the program's.
HEAP_OURS(malloc);
HEAP_OURS(free);
HEAP_OURS(calloc);
HEAP_OURS(realloc);
HEAP_OURS(memalign);
HEAP_OURS(aligned_alloc);
HEAP_OURS(posix_memalign);
HEAP_OURS(valloc);
HEAP_OURS(pvalloc);
HEAP_OURS(reallocarray);
HEAP_OURS(cfree);
HEAP_OURS(free_sized);
HEAP_OURS(free_aligned_sized);

static const struct hook table[] = {
    // What dlsym may need comes first.
    HEAP_HOOK(calloc, heap_real.calloc),
    HEAP_HOOK(free, heap_real.free),
    HEAP_HOOK(realloc, heap_real.realloc),
    HEAP_HOOK(malloc, heap_real.malloc), // the last of these: it says that all four are there
    HEAP_HOOK(memalign, heap_real.memalign),
    HEAP_HOOK(aligned_alloc, heap_real.aligned_alloc),
    HEAP_HOOK(posix_memalign, heap_real.posix_memalign),
    HEAP_HOOK(valloc, heap_real.valloc),
    HEAP_HOOK(pvalloc, heap_real.pvalloc),
    HEAP_HOOK(reallocarray, heap_real.reallocarray),
    HEAP_HOOK(cfree, cfree_behind),
    HEAP_HOOK(free_sized, heap_real.free_sized),
    HEAP_HOOK(free_aligned_sized, heap_real.free_aligned_sized),
};

const struct hook_table heap_hooks = {table, sizeof table / sizeof *table};

struct heap_range heap_library_of(const void *address)
{
    struct dl_find_object found;
    if (!address || _dl_find_object((void *)(uintptr_t)address, &found))
        return (struct heap_range){0, 0};
    return (struct heap_range){(uint64_t)found.dlfo_map_start, (uint64_t)found.dlfo_map_end};
}

bool heap_is_own(const void *function)
{
    struct heap_range libc =
        heap_library_of((const void *)dlsym(RTLD_DEFAULT, "gnu_get_libc_version"));
    heap_allocator = heap_library_of((const void *)(uintptr_t)heap_real.malloc);
    uint64_t at = (uint64_t)function;
    return at >= heap_allocator.start && at < heap_allocator.end &&
           heap_allocator.start != libc.start;
}

void heap_resolved(void)
{
    heap_real.own.reallocarray = heap_is_own((const void *)(uintptr_t)heap_real.reallocarray);
    heap_new_resolved();
    heap_mmap_resolved();
}
