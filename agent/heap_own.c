// SPDX-License-Identifier: MIT
//
// Names that allocators have of their own: jemalloc's *allocx, tcmalloc's tc_*, mimalloc's mi_*. Not exported:
// a program that asks whether they exist must get the answer it gets without us. So only callers' slots are
// overwritten (hooks_got.c), and a slot is bound only where an allocator has the name.
//
// Some call another of these, or malloc, by name: what an inner hook has counted is not counted again. xallocx
// that reaches the size is a realloc in place, one that does not has changed nothing.

#include "agent/heap.h"
#include "agent/heap_table.h"

#include <string.h>

#define FRAME ((const uint64_t *)__builtin_frame_address(0))

// --- Forms: name, parameters, their names, and what is asked for.

#define ALLOCATES(name, params, args, bytes)                                                       \
    static void *(*behind_##name)params;                                                           \
    static void *own_##name params                                                                 \
    {                                                                                              \
        uint64_t before = agent_tls.alloc_objects;                                                 \
        void *p_ = behind_##name args;                                                             \
        if (p_ && agent_tls.alloc_objects == before)                                               \
            heap_allocated(p_, (bytes), FRAME);                                                    \
        return p_;                                                                                 \
    }

#define ALLOCATES_INTO(name)                                                                       \
    static int (*behind_##name)(void **, size_t, size_t);                                          \
    static int own_##name(void **out, size_t align, size_t size)                                   \
    {                                                                                              \
        uint64_t before = agent_tls.alloc_objects;                                                 \
        int rc = behind_##name(out, align, size);                                                  \
        if (!rc && *out && agent_tls.alloc_objects == before)                                      \
            heap_allocated(*out, size, FRAME);                                                     \
        return rc;                                                                                 \
    }

// Of p. When it fails p stays, unless it was asked to go.
#define MOVES(name, params, args, bytes, is_freed)                                                 \
    static void *(*behind_##name)params;                                                           \
    static void *own_##name params                                                                 \
    {                                                                                              \
        struct heap_taken taken_ = {0};                                                            \
        bool may_know = p && heap_may_know(p);                                                     \
        if (may_know)                                                                              \
            heap_take(p, &taken_);                                                                 \
        uint64_t before = agent_tls.alloc_objects;                                                 \
        void *q = behind_##name args;                                                              \
        if (may_know && !q && !(is_freed))                                                         \
            heap_put_back(p, &taken_);                                                             \
        else if (may_know)                                                                         \
            heap_freed(p, &taken_);                                                                \
        if (q && agent_tls.alloc_objects == before)                                                \
            heap_allocated(q, (bytes), FRAME);                                                     \
        return q;                                                                                  \
    }

#define FREES(name, params, args)                                                                  \
    static void(*behind_##name) params;                                                            \
    static void own_##name params                                                                  \
    {                                                                                              \
        if (heap_boot_owns(p))                                                                     \
            return;                                                                                \
        if (p && heap_may_know(p))                                                                 \
            heap_free_early(p);                                                                    \
        behind_##name args;                                                                        \
    }

#define SIZE                  (size_t size), (size), size
#define COUNT_SIZE            (size_t n, size_t size), (n, size), n *size
#define SIZE_ALIGN            (size_t size, size_t align), (size, align), size
#define ALIGN_SIZE            (size_t align, size_t size), (align, size), size
#define SIZE_NOTHROW          (size_t size, const void *t), (size, t), size
#define ALIGN_NOTHROW         (size_t size, size_t align, const void *t), (size, align, t), size
#define P                     (void *p), (p)
#define P_SIZE                (void *p, size_t size), (p, size)
#define P_ALIGN               (void *p, size_t align), (p, align)
#define P_SIZE_ALIGN          (void *p, size_t size, size_t align), (p, size, align)
#define P_NOTHROW             (void *p, const void *t), (p, t)
#define P_ALIGN_NOTHR         (void *p, size_t align, const void *t), (p, align, t)
#define FORM(form, name, ...) form(name, __VA_ARGS__)

// --- jemalloc.

ALLOCATES(mallocx, (size_t size, int flags), (size, flags), size)
MOVES(rallocx, (void *p, size_t size, int flags), (p, size, flags), size, false)
FREES(dallocx, (void *p, int flags), (p, flags))
FREES(sdallocx, (void *p, size_t size, int flags), (p, size, flags))

static size_t (*behind_xallocx)(void *, size_t, size_t, int);
static size_t own_xallocx(void *p, size_t size, size_t extra, int flags)
{
    struct heap_taken taken = {0};
    bool may_know = heap_may_know(p);
    if (may_know)
        heap_take(p, &taken);
    size_t now = behind_xallocx(p, size, extra, flags);
    if (now < size) {
        if (may_know)
            heap_put_back(p, &taken);
        return now;
    }
    if (may_know)
        heap_freed(p, &taken);
    heap_allocated(p, size, FRAME);
    return now;
}

#define EACH_JEMALLOC(X) X(mallocx) X(rallocx) X(xallocx) X(dallocx) X(sdallocx)

// --- tcmalloc.

FORM(ALLOCATES, tc_malloc, SIZE)
FORM(ALLOCATES, tc_malloc_skip_new_handler, SIZE)
FORM(ALLOCATES, tc_calloc, COUNT_SIZE)
FORM(ALLOCATES, tc_memalign, ALIGN_SIZE)
FORM(ALLOCATES, tc_valloc, SIZE)
FORM(ALLOCATES, tc_pvalloc, SIZE)
ALLOCATES_INTO(tc_posix_memalign)
FORM(ALLOCATES, tc_new, SIZE)
FORM(ALLOCATES, tc_newarray, SIZE)
FORM(ALLOCATES, tc_new_nothrow, SIZE_NOTHROW)
FORM(ALLOCATES, tc_newarray_nothrow, SIZE_NOTHROW)
FORM(ALLOCATES, tc_new_aligned, SIZE_ALIGN)
FORM(ALLOCATES, tc_newarray_aligned, SIZE_ALIGN)
FORM(ALLOCATES, tc_new_aligned_nothrow, ALIGN_NOTHROW)
FORM(ALLOCATES, tc_newarray_aligned_nothrow, ALIGN_NOTHROW)
FORM(MOVES, tc_realloc, P_SIZE, size, !size)
FORM(FREES, tc_free, P)
FORM(FREES, tc_cfree, P)
FORM(FREES, tc_free_sized, P_SIZE)
FORM(FREES, tc_delete, P)
FORM(FREES, tc_deletearray, P)
FORM(FREES, tc_delete_sized, P_SIZE)
FORM(FREES, tc_deletearray_sized, P_SIZE)
FORM(FREES, tc_delete_nothrow, P_NOTHROW)
FORM(FREES, tc_deletearray_nothrow, P_NOTHROW)
FORM(FREES, tc_delete_aligned, P_ALIGN)
FORM(FREES, tc_deletearray_aligned, P_ALIGN)
FORM(FREES, tc_delete_sized_aligned, P_SIZE_ALIGN)
FORM(FREES, tc_deletearray_sized_aligned, P_SIZE_ALIGN)
FORM(FREES, tc_delete_aligned_nothrow, P_ALIGN_NOTHR)
FORM(FREES, tc_deletearray_aligned_nothrow, P_ALIGN_NOTHR)

#define EACH_TCMALLOC(X)                                                                           \
    X(tc_malloc)                                                                                   \
    X(tc_malloc_skip_new_handler)                                                                  \
    X(tc_calloc)                                                                                   \
    X(tc_memalign)                                                                                 \
    X(tc_valloc)                                                                                   \
    X(tc_pvalloc)                                                                                  \
    X(tc_posix_memalign)                                                                           \
    X(tc_new)                                                                                      \
    X(tc_newarray)                                                                                 \
    X(tc_new_nothrow)                                                                              \
    X(tc_newarray_nothrow)                                                                         \
    X(tc_new_aligned)                                                                              \
    X(tc_newarray_aligned)                                                                         \
    X(tc_new_aligned_nothrow)                                                                      \
    X(tc_newarray_aligned_nothrow)                                                                 \
    X(tc_realloc)                                                                                  \
    X(tc_free)                                                                                     \
    X(tc_cfree)                                                                                    \
    X(tc_free_sized)                                                                               \
    X(tc_delete)                                                                                   \
    X(tc_deletearray)                                                                              \
    X(tc_delete_sized)                                                                             \
    X(tc_deletearray_sized)                                                                        \
    X(tc_delete_nothrow)                                                                           \
    X(tc_deletearray_nothrow)                                                                      \
    X(tc_delete_aligned)                                                                           \
    X(tc_deletearray_aligned)                                                                      \
    X(tc_delete_sized_aligned)                                                                     \
    X(tc_deletearray_sized_aligned)                                                                \
    X(tc_delete_aligned_nothrow)                                                                   \
    X(tc_deletearray_aligned_nothrow)

// --- mimalloc.

FORM(ALLOCATES, mi_malloc, SIZE)
FORM(ALLOCATES, mi_malloc_small, SIZE)
FORM(ALLOCATES, mi_zalloc, SIZE)
FORM(ALLOCATES, mi_zalloc_small, SIZE)
FORM(ALLOCATES, mi_calloc, COUNT_SIZE)
FORM(ALLOCATES, mi_mallocn, COUNT_SIZE)
FORM(ALLOCATES, mi_malloc_aligned, SIZE_ALIGN)
FORM(ALLOCATES, mi_zalloc_aligned, SIZE_ALIGN)
FORM(ALLOCATES, mi_memalign, ALIGN_SIZE)
FORM(ALLOCATES, mi_aligned_alloc, ALIGN_SIZE)
FORM(ALLOCATES, mi_valloc, SIZE)
FORM(ALLOCATES, mi_pvalloc, SIZE)
ALLOCATES_INTO(mi_posix_memalign)
FORM(ALLOCATES, mi_new, SIZE)
FORM(ALLOCATES, mi_new_nothrow, SIZE)
FORM(ALLOCATES, mi_new_aligned, SIZE_ALIGN)
FORM(ALLOCATES, mi_new_aligned_nothrow, SIZE_ALIGN)
FORM(ALLOCATES, mi_new_n, COUNT_SIZE)
ALLOCATES(mi_strdup, (const char *s), (s), strlen(s) + 1)
ALLOCATES(mi_strndup, (const char *s, size_t n), (s, n), strnlen(s, n) + 1)
ALLOCATES(mi_heap_malloc, (void *heap_, size_t size), (heap_, size), size)
ALLOCATES(mi_heap_zalloc, (void *heap_, size_t size), (heap_, size), size)
ALLOCATES(mi_heap_calloc, (void *heap_, size_t n, size_t size), (heap_, n, size), n *size)
FORM(MOVES, mi_realloc, P_SIZE, size, false)
FORM(MOVES, mi_rezalloc, P_SIZE, size, false)
FORM(MOVES, mi_reallocf, P_SIZE, size, true)
MOVES(mi_reallocn, (void *p, size_t n, size_t size), (p, n, size), n *size, false)
MOVES(mi_reallocarray, (void *p, size_t n, size_t size), (p, n, size), n *size, false)
MOVES(mi_recalloc, (void *p, size_t n, size_t size), (p, n, size), n *size, false)
FORM(MOVES, mi_realloc_aligned, P_SIZE_ALIGN, size, false)
FORM(FREES, mi_free, P)
FORM(FREES, mi_cfree, P)
FORM(FREES, mi_free_size, P_SIZE)
FORM(FREES, mi_free_aligned, P_ALIGN)
FORM(FREES, mi_free_size_aligned, P_SIZE_ALIGN)

#define EACH_MIMALLOC(X)                                                                           \
    X(mi_malloc)                                                                                   \
    X(mi_malloc_small)                                                                             \
    X(mi_zalloc)                                                                                   \
    X(mi_zalloc_small)                                                                             \
    X(mi_calloc)                                                                                   \
    X(mi_mallocn)                                                                                  \
    X(mi_malloc_aligned)                                                                           \
    X(mi_zalloc_aligned)                                                                           \
    X(mi_memalign)                                                                                 \
    X(mi_aligned_alloc)                                                                            \
    X(mi_valloc)                                                                                   \
    X(mi_pvalloc)                                                                                  \
    X(mi_posix_memalign)                                                                           \
    X(mi_new)                                                                                      \
    X(mi_new_nothrow)                                                                              \
    X(mi_new_aligned)                                                                              \
    X(mi_new_aligned_nothrow)                                                                      \
    X(mi_new_n)                                                                                    \
    X(mi_strdup)                                                                                   \
    X(mi_strndup)                                                                                  \
    X(mi_heap_malloc)                                                                              \
    X(mi_heap_zalloc)                                                                              \
    X(mi_heap_calloc)                                                                              \
    X(mi_realloc)                                                                                  \
    X(mi_rezalloc)                                                                                 \
    X(mi_reallocf)                                                                                 \
    X(mi_reallocn)                                                                                 \
    X(mi_reallocarray)                                                                             \
    X(mi_recalloc)                                                                                 \
    X(mi_realloc_aligned)                                                                          \
    X(mi_free)                                                                                     \
    X(mi_cfree)                                                                                    \
    X(mi_free_size)                                                                                \
    X(mi_free_aligned)                                                                             \
    X(mi_free_size_aligned)

#define AS_HOOK(name) {#name, (hook_fn *)(own_##name), (hook_fn **)(void *)&behind_##name},

static const struct hook table[] = {EACH_JEMALLOC(AS_HOOK) EACH_TCMALLOC(AS_HOOK)
                                        EACH_MIMALLOC(AS_HOOK)};

const struct hook_table heap_own_hooks = {table, sizeof table / sizeof *table};
