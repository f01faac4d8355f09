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

// --- Forms: name, parameters, their names, and what is asked for. The lists below define each function and
// its hook.

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

#define ALLOCATES_INTO(name, ...)                                                                  \
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

#define SIZE                    (size_t size), (size), size
#define COUNT_SIZE              (size_t n, size_t size), (n, size), n *size
#define SIZE_ALIGN              (size_t size, size_t align), (size, align), size
#define ALIGN_SIZE              (size_t align, size_t size), (align, size), size
#define SIZE_NOTHROW            (size_t size, const void *t), (size, t), size
#define ALIGN_NOTHROW           (size_t size, size_t align, const void *t), (size, align, t), size
#define P                       (void *p), (p)
#define P_SIZE                  (void *p, size_t size), (p, size)
#define P_ALIGN                 (void *p, size_t align), (p, align)
#define P_SIZE_ALIGN            (void *p, size_t size, size_t align), (p, size, align)
#define P_NOTHROW               (void *p, const void *t), (p, t)
#define P_ALIGN_NOTHR           (void *p, size_t align, const void *t), (p, align, t)
#define DEFINE(form, name, ...) form(name, __VA_ARGS__)

// --- jemalloc.

#define EACH_JEMALLOC(X)                                                                           \
    X(ALLOCATES, mallocx, (size_t size, int flags), (size, flags), size)                           \
    X(MOVES, rallocx, (void *p, size_t size, int flags), (p, size, flags), size, false)            \
    X(FREES, dallocx, (void *p, int flags), (p, flags))                                            \
    X(FREES, sdallocx, (void *p, size_t size, int flags), (p, size, flags))

EACH_JEMALLOC(DEFINE)

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

// --- tcmalloc.

#define EACH_TCMALLOC(X)                                                                           \
    X(ALLOCATES, tc_malloc, SIZE)                                                                  \
    X(ALLOCATES, tc_malloc_skip_new_handler, SIZE)                                                 \
    X(ALLOCATES, tc_calloc, COUNT_SIZE)                                                            \
    X(ALLOCATES, tc_memalign, ALIGN_SIZE)                                                          \
    X(ALLOCATES, tc_valloc, SIZE)                                                                  \
    X(ALLOCATES, tc_pvalloc, SIZE)                                                                 \
    X(ALLOCATES_INTO, tc_posix_memalign, )                                                         \
    X(ALLOCATES, tc_new, SIZE)                                                                     \
    X(ALLOCATES, tc_newarray, SIZE)                                                                \
    X(ALLOCATES, tc_new_nothrow, SIZE_NOTHROW)                                                     \
    X(ALLOCATES, tc_newarray_nothrow, SIZE_NOTHROW)                                                \
    X(ALLOCATES, tc_new_aligned, SIZE_ALIGN)                                                       \
    X(ALLOCATES, tc_newarray_aligned, SIZE_ALIGN)                                                  \
    X(ALLOCATES, tc_new_aligned_nothrow, ALIGN_NOTHROW)                                            \
    X(ALLOCATES, tc_newarray_aligned_nothrow, ALIGN_NOTHROW)                                       \
    X(MOVES, tc_realloc, P_SIZE, size, !size)                                                      \
    X(FREES, tc_free, P)                                                                           \
    X(FREES, tc_cfree, P)                                                                          \
    X(FREES, tc_free_sized, P_SIZE)                                                                \
    X(FREES, tc_delete, P)                                                                         \
    X(FREES, tc_deletearray, P)                                                                    \
    X(FREES, tc_delete_sized, P_SIZE)                                                              \
    X(FREES, tc_deletearray_sized, P_SIZE)                                                         \
    X(FREES, tc_delete_nothrow, P_NOTHROW)                                                         \
    X(FREES, tc_deletearray_nothrow, P_NOTHROW)                                                    \
    X(FREES, tc_delete_aligned, P_ALIGN)                                                           \
    X(FREES, tc_deletearray_aligned, P_ALIGN)                                                      \
    X(FREES, tc_delete_sized_aligned, P_SIZE_ALIGN)                                                \
    X(FREES, tc_deletearray_sized_aligned, P_SIZE_ALIGN)                                           \
    X(FREES, tc_delete_aligned_nothrow, P_ALIGN_NOTHR)                                             \
    X(FREES, tc_deletearray_aligned_nothrow, P_ALIGN_NOTHR)

EACH_TCMALLOC(DEFINE)

// --- mimalloc.

#define EACH_MIMALLOC(X)                                                                           \
    X(ALLOCATES, mi_malloc, SIZE)                                                                  \
    X(ALLOCATES, mi_malloc_small, SIZE)                                                            \
    X(ALLOCATES, mi_zalloc, SIZE)                                                                  \
    X(ALLOCATES, mi_zalloc_small, SIZE)                                                            \
    X(ALLOCATES, mi_calloc, COUNT_SIZE)                                                            \
    X(ALLOCATES, mi_mallocn, COUNT_SIZE)                                                           \
    X(ALLOCATES, mi_malloc_aligned, SIZE_ALIGN)                                                    \
    X(ALLOCATES, mi_zalloc_aligned, SIZE_ALIGN)                                                    \
    X(ALLOCATES, mi_memalign, ALIGN_SIZE)                                                          \
    X(ALLOCATES, mi_aligned_alloc, ALIGN_SIZE)                                                     \
    X(ALLOCATES, mi_valloc, SIZE)                                                                  \
    X(ALLOCATES, mi_pvalloc, SIZE)                                                                 \
    X(ALLOCATES_INTO, mi_posix_memalign, )                                                         \
    X(ALLOCATES, mi_new, SIZE)                                                                     \
    X(ALLOCATES, mi_new_nothrow, SIZE)                                                             \
    X(ALLOCATES, mi_new_aligned, SIZE_ALIGN)                                                       \
    X(ALLOCATES, mi_new_aligned_nothrow, SIZE_ALIGN)                                               \
    X(ALLOCATES, mi_new_n, COUNT_SIZE)                                                             \
    X(ALLOCATES, mi_strdup, (const char *s), (s), strlen(s) + 1)                                   \
    X(ALLOCATES, mi_strndup, (const char *s, size_t n), (s, n), strnlen(s, n) + 1)                 \
    X(ALLOCATES, mi_heap_malloc, (void *heap_, size_t size), (heap_, size), size)                  \
    X(ALLOCATES, mi_heap_zalloc, (void *heap_, size_t size), (heap_, size), size)                  \
    X(ALLOCATES, mi_heap_calloc, (void *heap_, size_t n, size_t size), (heap_, n, size), n *size)  \
    X(MOVES, mi_realloc, P_SIZE, size, false)                                                      \
    X(MOVES, mi_rezalloc, P_SIZE, size, false)                                                     \
    X(MOVES, mi_reallocf, P_SIZE, size, true)                                                      \
    X(MOVES, mi_reallocn, (void *p, size_t n, size_t size), (p, n, size), n *size, false)          \
    X(MOVES, mi_reallocarray, (void *p, size_t n, size_t size), (p, n, size), n *size, false)      \
    X(MOVES, mi_recalloc, (void *p, size_t n, size_t size), (p, n, size), n *size, false)          \
    X(MOVES, mi_realloc_aligned, P_SIZE_ALIGN, size, false)                                        \
    X(FREES, mi_free, P)                                                                           \
    X(FREES, mi_cfree, P)                                                                          \
    X(FREES, mi_free_size, P_SIZE)                                                                 \
    X(FREES, mi_free_aligned, P_ALIGN)                                                             \
    X(FREES, mi_free_size_aligned, P_SIZE_ALIGN)

EACH_MIMALLOC(DEFINE)

#define HOOK_OF(name)            {#name, (hook_fn *)(own_##name), (hook_fn **)(void *)&behind_##name},
#define AS_HOOK(form, name, ...) HOOK_OF(name)

static const struct hook table[] = {EACH_JEMALLOC(AS_HOOK) HOOK_OF(xallocx) EACH_TCMALLOC(AS_HOOK)
                                        EACH_MIMALLOC(AS_HOOK)};

const struct hook_table heap_own_hooks = {table, sizeof table / sizeof *table};
