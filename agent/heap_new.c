// SPDX-License-Identifier: MIT
//
// operator new and delete. libstdc++'s call malloc and free through the dynamic linker and are counted
// there, so their hooks only pass on, by a tail call, and leave no frame. tcmalloc's, jemalloc's and
// mimalloc's do not: where operator new is of the library that malloc is of, it is counted here.
//
// Some of them do call a C function of their own library by name (jemalloc's aligned new). What such
// an inner hook has counted is not counted again.
//
// A program that loads its first C++ library by dlopen has no operator new behind ours that dlsym
// could find: it is in a scope of its own. Then ours are malloc and free, as libstdc++'s are too.
// What is thrown when memory runs out is asked of the caller's own scope.

#include "agent/heap.h"
#include "agent/heap_table.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#define FRAME ((const uint64_t *)__builtin_frame_address(0))

typedef void *new_fn(size_t);
typedef void *new_nothrow_fn(size_t, const void *);
typedef void *new_aligned_fn(size_t, size_t);
typedef void *new_aligned_nothrow_fn(size_t, size_t, const void *);

// The function of this name that the library around caller would have without us.
__attribute__((noinline, cold)) static void *in_scope_of(const void *caller, const char *name)
{
    Dl_info info;
    void *function = NULL;
    if (!dladdr(caller, &info) || !info.dli_fname)
        return NULL;
    void *handle = dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
    if (handle) {
        function = dlsym(handle, name);
        dlclose(handle);
    }
    return function;
}

__attribute__((noinline, cold)) static void out_of_memory(const void *caller)
{
    void (*throw_bad_alloc)(void);
    void *found = in_scope_of(caller, "_ZSt17__throw_bad_allocv");
    memcpy(&throw_bad_alloc, &found, sizeof found);
    if (throw_bad_alloc)
        throw_bad_alloc();
    abort();
}

static void *aligned(size_t size, size_t align)
{
    void *p;
    if (align < sizeof(void *))
        align = sizeof(void *);
    return posix_memalign(&p, align, size) ? NULL : p;
}

// --- new. FORM(mangled name, what is behind it, its parameters, their names, without it, throws)

#define NEW_FORM(name, type, params, args, plain, throws)                                          \
    static type *behind_##name;                                                                    \
    static bool is_own_##name;                                                                     \
    __attribute__((noinline)) static void *counted_##name params                                   \
    {                                                                                              \
        uint64_t before = agent_tls.alloc_objects;                                                 \
        void *p = behind_##name args;                                                              \
        if (p && agent_tls.alloc_objects == before)                                                \
            heap_allocated(p, size, FRAME);                                                        \
        return p;                                                                                  \
    }                                                                                              \
    __attribute__((noinline, cold)) static void *alone_##name params                               \
    {                                                                                              \
        void *p = plain;                                                                           \
        if (!p && (throws))                                                                        \
            out_of_memory(__builtin_return_address(0));                                            \
        return p;                                                                                  \
    }                                                                                              \
    HEAP_EXPORT void *name params;                                                                 \
    HEAP_EXPORT void *name params                                                                  \
    {                                                                                              \
        if (__builtin_expect(!behind_##name, 0))                                                   \
            return alone_##name args;                                                              \
        if (__builtin_expect(is_own_##name, 0))                                                    \
            return counted_##name args;                                                            \
        return behind_##name args;                                                                 \
    }                                                                                              \
    HEAP_OURS(name)

NEW_FORM(_Znwm, new_fn, (size_t size), (size), malloc(size ? size : 1), true);
NEW_FORM(_Znam, new_fn, (size_t size), (size), malloc(size ? size : 1), true);
NEW_FORM(_ZnwmRKSt9nothrow_t, new_nothrow_fn, (size_t size, const void *n), (size, n),
         ((void)n, malloc(size ? size : 1)), false);
NEW_FORM(_ZnamRKSt9nothrow_t, new_nothrow_fn, (size_t size, const void *n), (size, n),
         ((void)n, malloc(size ? size : 1)), false);
NEW_FORM(_ZnwmSt11align_val_t, new_aligned_fn, (size_t size, size_t align), (size, align),
         aligned(size, align), true);
NEW_FORM(_ZnamSt11align_val_t, new_aligned_fn, (size_t size, size_t align), (size, align),
         aligned(size, align), true);
NEW_FORM(_ZnwmSt11align_val_tRKSt9nothrow_t, new_aligned_nothrow_fn,
         (size_t size, size_t align, const void *n), (size, align, n),
         ((void)n, aligned(size, align)), false);
NEW_FORM(_ZnamSt11align_val_tRKSt9nothrow_t, new_aligned_nothrow_fn,
         (size_t size, size_t align, const void *n), (size, align, n),
         ((void)n, aligned(size, align)), false);

// --- delete.

#define DELETE_FORM(name, params, args)                                                            \
    static void(*behind_##name) params;                                                            \
    static bool is_own_##name;                                                                     \
    HEAP_EXPORT void name params;                                                                  \
    HEAP_EXPORT void name params                                                                   \
    {                                                                                              \
        if (__builtin_expect(!behind_##name || heap_boot_owns(p), 0)) {                            \
            free(p);                                                                               \
            return;                                                                                \
        }                                                                                          \
        if (is_own_##name && heap_may_know(p))                                                     \
            heap_free_early(p);                                                                    \
        behind_##name args;                                                                        \
    }                                                                                              \
    HEAP_OURS(name)

DELETE_FORM(_ZdlPv, (void *p), (p));
DELETE_FORM(_ZdaPv, (void *p), (p));
DELETE_FORM(_ZdlPvm, (void *p, size_t size), (p, size));
DELETE_FORM(_ZdaPvm, (void *p, size_t size), (p, size));
DELETE_FORM(_ZdlPvRKSt9nothrow_t, (void *p, const void *n), (p, n));
DELETE_FORM(_ZdaPvRKSt9nothrow_t, (void *p, const void *n), (p, n));
DELETE_FORM(_ZdlPvSt11align_val_t, (void *p, size_t align), (p, align));
DELETE_FORM(_ZdaPvSt11align_val_t, (void *p, size_t align), (p, align));
DELETE_FORM(_ZdlPvmSt11align_val_t, (void *p, size_t size, size_t align), (p, size, align));
DELETE_FORM(_ZdaPvmSt11align_val_t, (void *p, size_t size, size_t align), (p, size, align));
DELETE_FORM(_ZdlPvSt11align_val_tRKSt9nothrow_t, (void *p, size_t align, const void *n),
            (p, align, n));
DELETE_FORM(_ZdaPvSt11align_val_tRKSt9nothrow_t, (void *p, size_t align, const void *n),
            (p, align, n));

#define EACH_FORM(X)                                                                               \
    X(_Znwm)                                                                                       \
    X(_Znam)                                                                                       \
    X(_ZnwmRKSt9nothrow_t)                                                                         \
    X(_ZnamRKSt9nothrow_t)                                                                         \
    X(_ZnwmSt11align_val_t)                                                                        \
    X(_ZnamSt11align_val_t)                                                                        \
    X(_ZnwmSt11align_val_tRKSt9nothrow_t)                                                          \
    X(_ZnamSt11align_val_tRKSt9nothrow_t)                                                          \
    X(_ZdlPv)                                                                                      \
    X(_ZdaPv)                                                                                      \
    X(_ZdlPvm)                                                                                     \
    X(_ZdaPvm)                                                                                     \
    X(_ZdlPvRKSt9nothrow_t)                                                                        \
    X(_ZdaPvRKSt9nothrow_t)                                                                        \
    X(_ZdlPvSt11align_val_t)                                                                       \
    X(_ZdaPvSt11align_val_t)                                                                       \
    X(_ZdlPvmSt11align_val_t)                                                                      \
    X(_ZdaPvmSt11align_val_t)                                                                      \
    X(_ZdlPvSt11align_val_tRKSt9nothrow_t)                                                         \
    X(_ZdaPvSt11align_val_tRKSt9nothrow_t)

#define AS_HOOK(name) HEAP_HOOK(name, behind_##name),
#define LOOK_AT(name) is_own_##name = heap_is_own((const void *)(uintptr_t)behind_##name);

static const struct hook table[] = {EACH_FORM(AS_HOOK)};

const struct hook_table heap_new_hooks = {table, sizeof table / sizeof *table};

void heap_new_resolved(void)
{
    EACH_FORM(LOOK_AT)
}
